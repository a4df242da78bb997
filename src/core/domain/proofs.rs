//! Which of the operations that a state consists of are proven.
//!
//! An origin that signs two operations under one stamp (a fork) must not swap the proof of the one for that of the
//! other. So evidence proves a *part* of a state only if the operation in it says that part.

use std::collections::BTreeSet;

use super::{
    bundle::Evidence,
    operation::Operation,
    record::{PayloadDigest, UnixSeconds},
};
use crate::base::{
    planted::{self, Bug},
    vector::Stamp,
};

/// Evidence of operations, by their stamps.
pub type EvidenceSet = BTreeSet<(Stamp, Evidence)>;

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

/// Evidence with its operations decoded, and whether they lack an order.
#[derive(Debug, Default)]
pub struct Proofs(Vec<Proof>);

#[derive(Debug)]
struct Proof {
    stamp: Stamp,
    operation: Operation,
    lacks_order: bool,
    evidence: Evidence,
}

impl Proofs {
    /// Evidence of an operation that does not decode proves nothing.
    pub fn of(evidence: EvidenceSet) -> Self {
        let decoded = |(stamp, evidence): (Stamp, Evidence)| {
            let (operation, order) = Operation::decode_with(&evidence.operation).ok()?;
            let lacks_order = operation.destroys() && order.is_none();
            Some(Proof { stamp, operation, lacks_order, evidence })
        };
        Self(evidence.into_iter().filter_map(decoded).collect())
    }

    /// The best evidence of that part of a state under that stamp: with an order if it needs one, then the least. A
    /// state keeps one for each of its parts, so the origin cannot make it grow.
    pub fn proof(&self, stamp: Stamp, part: Part<'_>) -> Option<&Evidence> {
        self.best(stamp, part).map(|proof| &proof.evidence)
    }

    fn best(&self, stamp: Stamp, part: Part<'_>) -> Option<&Proof> {
        let says = |proof: &&Proof| part.is_said_by(&proof.operation) || planted::is(Bug::ProveByStamp);
        let its = self.0.iter().filter(|proof| proof.stamp == stamp).filter(says);
        its.min_by_key(|proof| (proof.lacks_order, &proof.evidence))
    }

    /// Whether there is evidence of that part.
    pub fn prove(&self, stamp: Stamp, part: Part<'_>) -> bool {
        self.best(stamp, part).is_some()
    }

    /// What that part lacks. Nothing has verified the order.
    pub fn lack(&self, stamp: Stamp, part: Part<'_>) -> Lack {
        match self.best(stamp, part) {
            None => Lack::Evidence,
            Some(proof) if proof.lacks_order => Lack::Order,
            Some(_) => Lack::Nothing,
        }
    }

    /// All operations.
    pub fn operations(&self) -> impl Iterator<Item = (Stamp, &Operation, &Evidence)> {
        self.0.iter().map(|proof| (proof.stamp, &proof.operation, &proof.evidence))
    }

    /// Both.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }
}
