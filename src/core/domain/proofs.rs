//! Which of the operations that a state consists of are proven.
//!
//! An origin that signs two operations under one stamp (a fork) must not swap the proof of the one for that of the
//! other. So evidence proves a *part* of a state only if the operation in it says that part.

use super::{
    evidence::Evidence,
    operation::Operation,
    record::{PayloadDigest, UnixSeconds},
};
use crate::base::{
    planted::{self, Bug},
    vector::Stamp,
};

/// Evidence of operations, by their stamps: in order, and each once. A state has one to three, too few for a tree.
pub type EvidenceList = Vec<(Stamp, Evidence)>;

/// One thing that an operation has contributed to a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    /// The record was created then, with a payload of that digest.
    Creation(UnixSeconds, &'a PayloadDigest),
    /// Its expiry.
    Expiry(UnixSeconds),
    /// It was created unpublished.
    CreatedUnpublished,
    /// It was unpublished.
    Unpublication,
    /// It was invalidated then, for that reason.
    Invalidation(UnixSeconds, &'a str),
    /// It was deleted.
    Deletion,
}

impl Part<'_> {
    /// Whether the operation that has contributed it takes something away.
    pub fn destroys(&self) -> bool {
        matches!(self, Self::Invalidation(..) | Self::Unpublication | Self::Deletion)
    }

    fn is_said_by(&self, operation: &Operation) -> bool {
        match (self, operation) {
            (Part::Creation(at, of), Operation::Create { created_at, digest, .. }) => {
                at == created_at && *of == digest
            }
            (Part::Expiry(at), Operation::Create { expires_at, .. }) => Some(*at) == *expires_at,
            (Part::CreatedUnpublished, Operation::Create { public, .. }) => !public,
            (Part::Invalidation(when, why), Operation::Invalidate { at, reason }) => {
                when == at && why == reason
            }
            (Part::Unpublication, Operation::Unpublish) | (Part::Deletion, Operation::Delete) => true,
            _ => false,
        }
    }
}

/// What a part lacks to be proven, the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lack {
    /// It is proven.
    Nothing,
    /// It destroys, and no operator has signed it.
    Order,
    /// The signature of its origin.
    Evidence,
}

/// The evidence of one state or of two. Evidence of an operation that does not decode proves nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Proofs<'a>([&'a [(Stamp, Evidence)]; 2]);

impl<'a> Proofs<'a> {
    /// Of one.
    pub fn of(evidence: &'a EvidenceList) -> Self {
        Self([evidence, &[]])
    }

    /// Of two.
    pub fn of_both(one: &'a EvidenceList, other: &'a EvidenceList) -> Self {
        Self([one, other])
    }

    /// The best evidence of that part of a state under that stamp: with an order if it needs one, then the least. A
    /// state keeps one for each of its parts, so the origin cannot make it grow.
    pub fn proof(&self, stamp: Stamp, part: Part<'_>) -> Option<&'a Evidence> {
        let says = |operation: &Operation| part.is_said_by(operation) || planted::is(Bug::ProveByStamp);
        let its = self.operations().filter(|(of, operation, _)| *of == stamp && says(operation));
        its.map(|(_, _, evidence)| evidence).min_by_key(|evidence| (evidence.lacks_order(), *evidence))
    }

    /// Whether there is evidence of that part.
    pub fn prove(&self, stamp: Stamp, part: Part<'_>) -> bool {
        self.proof(stamp, part).is_some()
    }

    /// Whether there is evidence of anything under that stamp.
    pub fn name(&self, stamp: &Stamp) -> bool {
        self.operations().any(|(of, ..)| of == *stamp)
    }

    /// What that part lacks. Nothing has verified the order.
    pub fn lack(&self, stamp: Stamp, part: Part<'_>) -> Lack {
        match self.proof(stamp, part) {
            None => Lack::Evidence,
            Some(evidence) if evidence.lacks_order() => Lack::Order,
            Some(_) => Lack::Nothing,
        }
    }

    /// All operations.
    pub fn operations(&self) -> impl Iterator<Item = (Stamp, &'a Operation, &'a Evidence)> + use<'a> {
        let [one, other] = self.0;
        let said = |(stamp, evidence): &'a (Stamp, Evidence)| Some((*stamp, evidence.says()?, evidence));
        one.iter().chain(other).filter_map(said)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        base::{
            id::{Incarnation, Origin},
            vector::Clock,
        },
        domain::order::OrderProof,
    };

    #[test]
    fn what_destroys_lacks_an_order_until_an_operator_has_signed_it() {
        let stamp = Stamp { origin: Origin::new(&"a".parse().unwrap(), Incarnation(1)), clock: Clock(1) };
        let order = OrderProof {
            at_unix_ms: 9000,
            certificate: [1; 32],
            scheme: 7,
            signature: Bytes::from_static(b"s"),
        };
        let create = Operation::Create { created_at: 1, expires_at: None, public: true, digest: [1; 32] };
        let created = Part::Creation(1, &[1; 32]);
        for (operation, part, expected) in [
            (Operation::Delete.encode_with(Some(&order)), Part::Deletion, Lack::Nothing),
            (Operation::Delete.encode(), Part::Deletion, Lack::Order),
            (Operation::Delete.encode(), Part::Unpublication, Lack::Evidence),
            (create.encode(), created, Lack::Nothing),
            (Bytes::from_static(b"\xff"), created, Lack::Evidence),
        ] {
            let evidence = Evidence::new(operation, (stamp.clock, 1), [1; 32]);
            let evidence = EvidenceList::from([(stamp, evidence)]);
            assert_eq!(Proofs::of(&evidence).lack(stamp, part), expected, "{part:?}");
        }
    }
}
