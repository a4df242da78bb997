//! Births: each incarnation of a node states the key by which it signs its operations.
//!
//! The key is made in memory when the incarnation begins, and is never stored: a stolen disk cannot write
//! history, and a finished incarnation cannot be continued. The birth is signed with the node's certificate,
//! which names the node id of the origin; so a thief with a node's certificate can be born as that node only.

use bytes::Bytes;

use super::{
    bundle::{self, Hash, OriginKey},
    codec::{self, CodecError},
    record::UnixSeconds,
};
use crate::{
    base::{
        id::{ClusterId, Origin, sha256},
        limits,
        vector::{Clock, Stamp},
    },
    proto,
};

const BIRTH: &[u8] = b"brock/birth/1";

/// What an incarnation states of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Birth {
    /// The incarnation.
    pub origin: Origin,
    /// The key of its bundles.
    pub key: OriginKey,
    /// When it began, by its own clock.
    pub born_at: UnixSeconds,
    /// Where the incarnation before it on the same storage ended; `None` = it is the first there.
    pub previous: Option<Previous>,
}

/// The end of an incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Previous {
    /// The last operation.
    pub last: Stamp,
    /// The hash of its log up to there.
    pub chain: Hash,
}

/// How good the signature of a birth is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Its certificate was valid when the origin was born, as the signer says.
    Past,
    /// Its certificate is valid now, or an operator has vouched for it.
    Present,
}

/// A birth as it is stored and sent: with the signature of a certificate, and its chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedBirth {
    /// What it states.
    pub birth: Birth,
    /// The scheme of the signature, as in TLS.
    pub scheme: u16,
    /// Over [`Birth::content`], in a context that no other statement has.
    pub signature: Bytes,
    /// The certificates in DER, the signer's own first.
    pub certificates: Vec<Bytes>,
    /// When an operator vouched for it; the signature is that of an order then. `None`: the node has signed it.
    pub vouched_at_unix_ms: Option<i64>,
}

/// Why a signed birth is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unbelieved {
    /// No CA that is known here has certified its signer.
    #[error(
        "its CA is not known here: if that was the cluster's CA, keep it as ca-history.pem in the certificates directory"
    )]
    UnknownCa,
    /// A revocation list has its certificate.
    #[error("its certificate is revoked")]
    Revoked,
    /// Its certificate is of another cluster, so it was signed for that one.
    #[error(
        "its certificate is of the trust domain {0}, and this node's own of another one (docs/guides/troubleshooting.md, A \
         certificate of another trust domain)"
    )]
    OtherDomain(String),
    /// Something else is wrong with it.
    #[error("{0}")]
    Other(String),
}

impl Birth {
    /// What the certificate's key signs.
    pub fn content(&self, cluster: &ClusterId) -> Vec<u8> {
        let Self { origin, key, born_at, previous } = self;
        let mut bytes = BIRTH.to_vec();
        bytes.extend_from_slice(&cluster.0);
        bytes.extend_from_slice(origin.as_bytes());
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(&born_at.to_be_bytes());
        match previous {
            None => bytes.push(0),
            Some(Previous { last, chain }) => {
                bytes.push(1);
                bytes.extend_from_slice(&codec::stamp_key(*last));
                bytes.extend_from_slice(chain);
            }
        }
        bytes
    }

    /// What an operator vouches for.
    pub fn statement(&self, cluster: &ClusterId) -> Hash {
        sha256(&self.content(cluster))
    }

    /// The hash that the chain of its bundles begins with.
    pub fn chain(&self, cluster: &ClusterId) -> Hash {
        bundle::chain_of_birth(&self.statement(cluster))
    }
}

impl SignedBirth {
    /// To the wire and the store.
    pub fn to_proto(&self) -> proto::Birth {
        let Birth { origin, key, born_at, previous } = &self.birth;
        proto::Birth {
            origin: Bytes::copy_from_slice(origin.as_bytes()),
            key: Bytes::copy_from_slice(key),
            born_at_unix: *born_at,
            previous: previous.map(|previous| codec::stamp_to_proto(previous.last)),
            previous_chain: previous
                .map_or_else(Bytes::new, |previous| Bytes::copy_from_slice(&previous.chain)),
            scheme: self.scheme.into(),
            signature: self.signature.clone(),
            certificates: self.certificates.clone(),
            vouched_at_unix_ms: self.vouched_at_unix_ms.unwrap_or_default(),
        }
    }

    /// From the wire or the store. Does not verify the signature.
    pub fn from_proto(birth: proto::Birth) -> Result<Self, CodecError> {
        let malformed = CodecError::Malformed("birth");
        let bytes: usize = birth.certificates.iter().map(Bytes::len).sum();
        if birth.certificates.is_empty()
            || birth.certificates.len() > limits::CHAIN_CERTIFICATES_MAX
            || bytes > limits::CHAIN_MAX_BYTES
            || birth.signature.len() > limits::SIGNATURE_MAX_BYTES
        {
            return Err(malformed);
        }
        let previous = match birth.previous {
            None => None,
            Some(last) => Some(Previous {
                last: codec::stamp_from_proto(&last).map_err(|_| malformed.clone())?,
                chain: birth.previous_chain.as_ref().try_into().map_err(|_| malformed.clone())?,
            }),
        };
        let origin = Origin::try_from(birth.origin.as_ref()).map_err(|_| malformed.clone())?;
        let is_own = |previous: &Previous| {
            previous.last.origin.is_of(&origin.node_id()) && previous.last.clock > Clock::default()
        };
        if previous.as_ref().is_some_and(|previous| !is_own(previous)) {
            return Err(malformed);
        }
        Ok(Self {
            birth: Birth {
                origin,
                key: birth.key.as_ref().try_into().map_err(|_| malformed.clone())?,
                born_at: birth.born_at_unix,
                previous,
            },
            scheme: u16::try_from(birth.scheme).map_err(|_| malformed)?,
            signature: birth.signature,
            certificates: birth.certificates,
            vouched_at_unix_ms: Some(birth.vouched_at_unix_ms).filter(|at| *at != 0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::Incarnation;

    fn origin(id: &str, incarnation: u32) -> Origin {
        Origin::new(&id.parse().unwrap(), Incarnation(incarnation))
    }

    fn signed(previous: Option<Previous>) -> SignedBirth {
        SignedBirth {
            birth: Birth { origin: origin("a", 2), key: [3; 32], born_at: 4, previous },
            scheme: 0x0807,
            signature: Bytes::from_static(&[5; 64]),
            certificates: vec![Bytes::from_static(b"leaf"), Bytes::from_static(b"intermediate")],
            vouched_at_unix_ms: None,
        }
    }

    fn previous(id: &str) -> Previous {
        Previous { last: Stamp { origin: origin(id, 1), clock: Clock(9) }, chain: [6; 32] }
    }

    #[test]
    fn the_signed_bytes_are_pinned_and_differ_with_every_field() {
        let cluster = ClusterId([7; 32]);
        let birth = signed(Some(previous("a"))).birth;
        let (present, before) = (origin("a", 2), origin("a", 1));
        let expected = [
            b"brock/birth/1".as_slice(),
            &[7; 32],
            present.as_bytes(),
            &[3; 32],
            &4i64.to_be_bytes(),
            &[1],
            before.as_bytes(),
            &9u64.to_be_bytes(),
            &[6; 32],
        ];
        assert_eq!(birth.content(&cluster), expected.concat());
        let first = Birth { previous: None, ..birth };
        assert_ne!(first.chain(&cluster), birth.chain(&cluster));
        assert_ne!(birth.chain(&cluster), birth.chain(&ClusterId([8; 32])));
    }

    #[test]
    fn a_birth_round_trips_and_a_malformed_one_is_refused() {
        let vouched = SignedBirth { vouched_at_unix_ms: Some(7), ..signed(None) };
        for birth in [signed(None), signed(Some(previous("a"))), vouched] {
            assert_eq!(SignedBirth::from_proto(birth.to_proto()), Ok(birth));
        }
        let refused = |change: fn(&mut proto::Birth)| {
            let mut birth = signed(Some(previous("a"))).to_proto();
            change(&mut birth);
            assert!(SignedBirth::from_proto(birth.clone()).is_err(), "{birth:?}");
        };
        refused(|birth| birth.key = Bytes::from_static(&[1; 31]));
        refused(|birth| birth.origin = Bytes::from_static(b"a"));
        refused(|birth| birth.previous_chain = Bytes::new());
        refused(|birth| birth.previous = Some(codec::stamp_to_proto(previous("b").last)));
        refused(|birth| birth.scheme = 1 << 16);
        refused(|birth| birth.certificates.clear());
        refused(|birth| birth.certificates = vec![Bytes::new(); limits::CHAIN_CERTIFICATES_MAX + 1]);
        refused(|birth| birth.certificates = vec![vec![0; limits::CHAIN_MAX_BYTES + 1].into()]);
        refused(|birth| birth.signature = vec![0; limits::SIGNATURE_MAX_BYTES + 1].into());
    }
}
