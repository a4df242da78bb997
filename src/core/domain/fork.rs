//! Proof that an origin has signed two histories.
//!
//! An honest origin writes one log. Two of its signed statements that cannot both be true show that its key was used
//! twice: the machine was copied while it ran, or set back, or the node was taken over. The proof stands by itself, so
//! a node passes it on, and every node that verifies it comes to the same conclusion.

use bytes::Bytes;
use prost::Message as _;

use super::{
    birth::SignedBirth,
    bundle::{OriginKey, Tip},
    codec::{self, CodecError},
};
use crate::{
    base::id::{ClusterId, Origin},
    proto,
};

/// The proof. Its signatures may not be verified yet; that its statements contradict each other is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fork {
    birth: SignedBirth,
    contradiction: Contradiction,
}

/// What cannot be true beside the birth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contradiction {
    /// Two bundles that no log has both.
    Bundles(Tip, Tip),
    /// Another birth of the origin.
    Birth(SignedBirth),
}

impl Fork {
    /// `None`: nothing is contradicted.
    pub fn new(birth: SignedBirth, contradiction: Contradiction) -> Option<Self> {
        let contradicts = match &contradiction {
            Contradiction::Bundles(one, other) => one.contradicts(other),
            Contradiction::Birth(other) => {
                other.birth.origin == birth.birth.origin && other.birth != birth.birth
            }
        };
        contradicts.then_some(Self { birth, contradiction })
    }

    /// The same beside the birth that is known here, if it is about that one: what else a peer says of it is not
    /// verified. `None`: nothing is contradicted then.
    pub fn beside(self, known: SignedBirth) -> Option<Self> {
        let is_about = match &self.contradiction {
            Contradiction::Bundles(..) => self.birth.birth.key == known.birth.key,
            Contradiction::Birth(_) => self.birth.birth == known.birth,
        };
        match self.contradiction {
            Contradiction::Birth(other) if other.birth == known.birth => {
                Self::new(known, Contradiction::Birth(self.birth))
            }
            contradiction if is_about => Self::new(known, contradiction),
            contradiction => Some(Self { birth: self.birth, contradiction }),
        }
    }

    /// The origin.
    pub fn origin(&self) -> Origin {
        self.birth.birth.origin
    }

    /// The birth that states the key of the bundles.
    pub fn birth(&self) -> &SignedBirth {
        &self.birth
    }

    /// The keys that sign as the origin.
    pub fn keys(&self) -> impl Iterator<Item = OriginKey> {
        let other = match &self.contradiction {
            Contradiction::Bundles(..) => None,
            Contradiction::Birth(other) => Some(other.birth.key),
        };
        [self.birth.birth.key].into_iter().chain(other)
    }

    /// What is proven, for an operator.
    pub fn kind(&self) -> &'static str {
        match self.contradiction {
            Contradiction::Bundles(..) => "two histories",
            Contradiction::Birth(_) => "two births",
        }
    }

    /// Whether the signatures are genuine, given that the birth is. `verify` verifies the other birth, if there is one.
    pub fn is_genuine(&self, cluster: &ClusterId, verify: impl FnOnce(&SignedBirth) -> bool) -> bool {
        let (origin, key) = (self.origin(), self.birth.birth.key);
        match &self.contradiction {
            Contradiction::Bundles(one, other) => {
                [one, other].iter().all(|tip| tip.is_genuine(cluster, &origin, &key))
            }
            Contradiction::Birth(other) => verify(other),
        }
    }

    /// To the wire.
    pub fn to_proto(&self) -> proto::Fork {
        let birth = Some(self.birth.to_proto());
        match &self.contradiction {
            Contradiction::Bundles(one, other) => proto::Fork {
                birth,
                one: Some(one.to_proto()),
                other: Some(other.to_proto()),
                other_birth: None,
            },
            Contradiction::Birth(other) => {
                proto::Fork { birth, one: None, other: None, other_birth: Some(other.to_proto()) }
            }
        }
    }

    /// From the wire. Does not verify the signatures.
    pub fn from_proto(fork: proto::Fork) -> Result<Self, CodecError> {
        let malformed = || CodecError::Malformed("fork");
        let birth = SignedBirth::from_proto(fork.birth.ok_or_else(malformed)?)?;
        let tip = |tip: Option<proto::Tip>| tip.as_ref().and_then(Tip::from_proto).ok_or_else(malformed);
        let contradiction = match fork.other_birth {
            Some(other) => Contradiction::Birth(SignedBirth::from_proto(other)?),
            None => Contradiction::Bundles(tip(fork.one)?, tip(fork.other)?),
        };
        Self::new(birth, contradiction).ok_or_else(malformed)
    }

    /// To the store.
    pub fn encode(&self) -> Vec<u8> {
        codec::versioned(&self.to_proto().encode_to_vec())
    }

    /// From the store.
    pub fn decode(value: &[u8]) -> Result<Self, CodecError> {
        let body = Bytes::copy_from_slice(codec::unversioned("fork", value)?);
        Self::from_proto(proto::Fork::decode(body).map_err(|_| CodecError::Malformed("fork"))?)
    }
}
