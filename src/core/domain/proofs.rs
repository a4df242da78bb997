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

/// Evidence with its operations decoded.
#[derive(Debug, Default)]
pub struct Proofs(Vec<(Stamp, Operation, Evidence)>);

impl Proofs {
    /// Evidence of an operation that does not decode proves nothing.
    pub fn of(evidence: EvidenceSet) -> Self {
        let decoded = |(stamp, evidence): (Stamp, Evidence)| {
            let operation = Operation::decode(&evidence.operation).ok()?;
            Some((stamp, operation, evidence))
        };
        Self(evidence.into_iter().filter_map(decoded).collect())
    }

    /// The least evidence of that part of a state under that stamp. A state keeps one for each of its parts, so the
    /// origin cannot make it grow.
    pub fn proof(&self, stamp: Stamp, part: Part<'_>) -> Option<&Evidence> {
        let is_of = |(of, operation, _): &&(Stamp, Operation, Evidence)| {
            *of == stamp && (part.is_said_by(operation) || planted::is(Bug::ProveByStamp))
        };
        self.0.iter().filter(is_of).map(|(_, _, evidence)| evidence).min()
    }

    /// Whether there is evidence of that part.
    pub fn prove(&self, stamp: Stamp, part: Part<'_>) -> bool {
        self.proof(stamp, part).is_some()
    }

    /// All operations.
    pub fn operations(&self) -> impl Iterator<Item = (Stamp, &Operation, &Evidence)> {
        self.0.iter().map(|(stamp, operation, evidence)| (*stamp, operation, evidence))
    }

    /// Both.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }
}
