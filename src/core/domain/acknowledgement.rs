//! Acknowledgements: a member signs how far it has applied the log of the node that it pulls from.
//!
//! The hash of the log up to there says which history that is, so an acknowledgement covers every operation up to its
//! clock, each byte of it. The member signs with the key of its present incarnation; its birth proves whose that is.

use bytes::Bytes;

use super::{
    bundle::{self, Hash, OriginKey, Signature},
    codec::{self, CodecError},
};
use crate::{
    base::{
        id::{ClusterId, Origin},
        vector::{Clock, Stamp},
    },
    proto,
};

const ACKNOWLEDGEMENT: &[u8] = b"brock/acknowledgement/1";

/// What a member signs of another node's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acknowledgement {
    /// The incarnation of the member, whose key has signed.
    pub member: Origin,
    /// The log, and the last operation of it that the member has applied, durably.
    pub applied: Stamp,
    /// The hash of the log up to there.
    pub chain: Hash,
    /// The member's signature.
    pub signature: Signature,
}

/// The bytes that a member signs.
pub fn content(cluster: &ClusterId, member: &Origin, applied: Stamp, chain: &Hash) -> Vec<u8> {
    [ACKNOWLEDGEMENT, &cluster.0, member.as_bytes(), &codec::stamp_key(applied), chain].concat()
}

impl Acknowledgement {
    /// Whether the member with this key has signed it.
    pub fn is_genuine(&self, cluster: &ClusterId, key: &OriginKey) -> bool {
        let content = content(cluster, &self.member, self.applied, &self.chain);
        bundle::is_signed(key, &content, &self.signature)
    }

    /// To the wire.
    pub fn to_proto(&self) -> proto::Acknowledgement {
        let Self { member, applied: Stamp { origin, clock }, chain, signature } = self;
        proto::Acknowledgement {
            member: Bytes::copy_from_slice(member.as_bytes()),
            origin: Bytes::copy_from_slice(origin.as_bytes()),
            clock: clock.0,
            chain: Bytes::copy_from_slice(chain),
            signature: Bytes::copy_from_slice(signature),
        }
    }

    /// From the wire. Does not verify the signature.
    pub fn from_proto(acknowledgement: &proto::Acknowledgement) -> Result<Self, CodecError> {
        let proto::Acknowledgement { member, origin, clock, chain, signature } = acknowledgement;
        let malformed = || CodecError::Malformed("acknowledgement");
        let origin_of = |bytes: &Bytes| Origin::try_from(bytes.as_ref()).map_err(|_| malformed());
        Ok(Self {
            member: origin_of(member)?,
            applied: Stamp { origin: origin_of(origin)?, clock: Clock(*clock) },
            chain: chain.as_ref().try_into().map_err(|_| malformed())?,
            signature: signature.as_ref().try_into().map_err(|_| malformed())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};

    use super::*;
    use crate::base::id::Incarnation;

    fn origin(id: &str, incarnation: u32) -> Origin {
        Origin::new(&id.parse().unwrap(), Incarnation(incarnation))
    }

    #[test]
    fn the_signed_bytes_are_pinned_and_every_field_is_signed() {
        let key = Ed25519KeyPair::generate().unwrap();
        let public = OriginKey::try_from(key.public_key().as_ref()).unwrap();
        let cluster = ClusterId([7; 32]);
        let (member, applied) = (origin("b", 1), Stamp { origin: origin("a", 2), clock: Clock(258) });
        let signed = content(&cluster, &member, applied, &[9; 32]);
        let expected = [
            b"brock/acknowledgement/1".as_slice(),
            &[7; 32],
            member.as_bytes(),
            applied.origin.as_bytes(),
            &258u64.to_be_bytes(),
            &[9; 32],
        ];
        assert_eq!(signed, expected.concat());
        let signature = key.sign(&signed).as_ref().try_into().unwrap();
        let genuine = Acknowledgement { member, applied, chain: [9; 32], signature };
        assert!(genuine.is_genuine(&cluster, &public));
        assert_eq!(Acknowledgement::from_proto(&genuine.to_proto()), Ok(genuine));
        assert!(!genuine.is_genuine(&ClusterId([8; 32]), &public));
        for altered in [
            Acknowledgement { member: origin("b", 2), ..genuine },
            Acknowledgement { applied: Stamp { clock: Clock(259), ..applied }, ..genuine },
            Acknowledgement { applied: Stamp { origin: origin("c", 2), ..applied }, ..genuine },
            Acknowledgement { chain: [8; 32], ..genuine },
            Acknowledgement { signature: [0; 64], ..genuine },
        ] {
            assert!(!altered.is_genuine(&cluster, &public), "{altered:?}");
        }
        let short = proto::Acknowledgement { chain: Bytes::from_static(&[1; 31]), ..genuine.to_proto() };
        assert!(Acknowledgement::from_proto(&short).is_err());
        assert!(Acknowledgement::from_proto(&proto::Acknowledgement::default()).is_err());
    }
}
