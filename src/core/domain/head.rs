//! Heads: an origin states, with a time, how far its log goes.
//!
//! The tip is a bundle, signed like all others. What is added is the time at which the origin has stated that its log
//! ends there. A head is passed on by nodes that do not have the log up to there, so it shows what a node lacks when
//! a peer keeps that back; and a head of another history is the half of a [`Fork`](super::fork::Fork), like any other
//! tip.

use bytes::Bytes;

use super::{
    bundle::{self, OriginKey, Signature, Tip},
    codec,
};
use crate::{
    base::{
        id::{ClusterId, Origin},
        vector::{Clock, Stamp},
    },
    proto,
};

const HEAD: &[u8] = b"brock/head/1";

/// What an origin states of its log at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Whose log.
    pub origin: Origin,
    /// The last bundle of the log.
    pub tip: Tip,
    /// When, by the origin's clock, in milliseconds since the Unix epoch.
    pub at_unix_ms: u64,
    /// The origin's signature.
    pub signature: Signature,
}

/// The bytes that an origin signs: the clock and the hash of its log, and the time.
pub fn content(cluster: &ClusterId, origin: &Origin, tip: &Tip, at_unix_ms: u64) -> Vec<u8> {
    let end = codec::stamp_key(Stamp { origin: *origin, clock: tip.bundle.last() });
    [HEAD, &cluster.0, &end, &tip.chain(), &at_unix_ms.to_be_bytes()].concat()
}

impl Head {
    /// The clock up to which the log goes.
    pub fn clock(&self) -> Clock {
        self.tip.bundle.last()
    }

    /// Whether the origin with this key has signed the time, and the tip.
    pub fn is_genuine(&self, cluster: &ClusterId, key: &OriginKey) -> bool {
        let content = content(cluster, &self.origin, &self.tip, self.at_unix_ms);
        bundle::is_signed(key, &content, &self.signature) && self.tip.is_genuine(cluster, &self.origin, key)
    }

    /// To the wire.
    pub fn to_proto(&self) -> proto::Head {
        proto::Head {
            origin: Bytes::copy_from_slice(self.origin.as_bytes()),
            tip: Some(self.tip.to_proto()),
            at_unix_ms: self.at_unix_ms,
            signature: Bytes::copy_from_slice(&self.signature),
        }
    }

    /// From the wire; `None` = malformed. Does not verify the signatures.
    pub fn from_proto(head: &proto::Head) -> Option<Self> {
        Some(Self {
            origin: Origin::try_from(head.origin.as_ref()).ok()?,
            tip: Tip::from_proto(head.tip.as_ref()?)?,
            at_unix_ms: head.at_unix_ms,
            signature: head.signature.as_ref().try_into().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};

    use super::*;
    use crate::{
        base::id::Incarnation,
        domain::bundle::{self, Bundle},
    };

    #[test]
    fn the_signed_bytes_are_pinned_and_every_field_is_signed() {
        let key = Ed25519KeyPair::generate().unwrap();
        let public = OriginKey::try_from(key.public_key().as_ref()).unwrap();
        let sign = |content: &[u8]| key.sign(content).as_ref().try_into().unwrap();
        let (cluster, origin) = (ClusterId([7; 32]), Origin::new(&"a".parse().unwrap(), Incarnation(2)));
        let signature = sign(&bundle::content(&cluster, &origin, (Clock(257), 2), &[8; 32], &[9; 32]));
        let tip =
            Tip { bundle: Bundle { first: Clock(257), count: 2, before: [8; 32], signature }, root: [9; 32] };
        let signed = content(&cluster, &origin, &tip, 1234);
        let expected = [
            b"brock/head/1".as_slice(),
            &[7; 32],
            origin.as_bytes(),
            &258u64.to_be_bytes(),
            &tip.chain(),
            &1234u64.to_be_bytes(),
        ];
        assert_eq!(signed, expected.concat());
        let genuine = Head { origin, tip, at_unix_ms: 1234, signature: sign(&signed) };
        assert!(genuine.is_genuine(&cluster, &public));
        assert_eq!(Head::from_proto(&genuine.to_proto()), Some(genuine));
        assert!(!genuine.is_genuine(&ClusterId([8; 32]), &public));
        let forged = Tip { bundle: Bundle { signature: [0; 64], ..tip.bundle }, ..tip };
        for altered in [
            Head { origin: Origin::new(&"a".parse().unwrap(), Incarnation(3)), ..genuine },
            Head { tip: Tip { root: [1; 32], ..tip }, ..genuine },
            Head { tip: forged, signature: sign(&content(&cluster, &origin, &forged, 1234)), ..genuine },
            Head { at_unix_ms: 1235, ..genuine },
            Head { signature: [0; 64], ..genuine },
        ] {
            assert!(!altered.is_genuine(&cluster, &public), "{altered:?}");
        }
        assert!(Head::from_proto(&proto::Head::default()).is_none());
    }
}
