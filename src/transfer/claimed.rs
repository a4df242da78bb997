//! What a donor claims to have applied, and how much of it is adopted.

use std::collections::BTreeSet;

use super::proof::Verifier;
use crate::{
    runtime::planted::{self, Bug},
    store::Adoption,
};
use brock_core::base::{
    id::{NodeId, Origin},
    vector::{Clock, Stamp, Vector},
};

/// Which of these origins a node does not take from a donor, and whether it lists the others now.
pub type Declines = Box<dyn Fn(Vec<Origin>, bool) -> BTreeSet<Origin> + Send + Sync>;

/// What the header of a snapshot says.
pub(super) struct Header {
    pub(super) incarnation: u32,
    /// In the donor's words, by which both know the snapshot when it continues.
    pub(super) said: Vector,
    /// What this node takes of it.
    pub(super) vector: Vector,
    pub(super) folds: Vector,
    pub(super) records: u64,
    /// On whose word alone all of it is.
    pub(super) donors: Vec<NodeId>,
}

impl Header {
    /// What the donor has applied, folded origins included.
    pub(super) fn covered(&self) -> Vector {
        let mut covered = self.vector.clone();
        covered.join(&self.folds);
        covered
    }

    /// Leaves out the origins that are declined, and returns them.
    pub(super) fn leave_out(&mut self, declines: &Declines, lists: bool) -> BTreeSet<Origin> {
        let origins = self.vector.iter().chain(self.folds.iter()).map(|(origin, _)| origin);
        let declined = declines(origins.collect(), lists);
        for origin in &declined {
            self.vector.remove(origin);
            self.folds.remove(origin);
        }
        declined
    }

    pub(super) fn adoption(&self) -> Adoption {
        Adoption {
            vector: self.vector.clone(),
            folds: self.folds.clone(),
            donors: self.donors.clone(),
            ..Adoption::default()
        }
    }
}

impl Verifier {
    /// Leaves out the logs that do not go as far as the donor claims, as far as this node can tell. Returns these.
    /// `present`: origins that nodes write to now.
    ///
    /// Contract: a clock that an origin has not reached is adopted of no origin whose birth is known here, and, if only
    /// what is proven is believed, of none that a node writes to now: this node would skip what that origin does next,
    /// and acknowledge it.
    pub(super) fn leave_unsigned(&self, adoption: &mut Adoption, present: &[Origin]) -> Vec<Stamp> {
        if planted::is(Bug::AdoptUnsigned) {
            return Vec::new();
        }
        let applied = self.store().applied();
        // Of a log that goes on behind its fold, the end counts.
        let folds = adoption.folds.iter().filter(|(origin, clock)| *clock > adoption.vector.get(origin));
        let claimed = adoption.vector.iter().chain(folds);
        let claimed: Vec<(Origin, Clock)> =
            claimed.filter(|(origin, clock)| *clock > applied.get(origin)).collect();
        let is_unborn = |origin: &Origin| self.store().born(origin).is_none();
        adoption.unborn = claimed.iter().map(|(origin, _)| *origin).filter(is_unborn).collect();
        let is_signed = |(origin, clock): &&(Origin, Clock)| {
            adoption.tips.get(origin).is_some_and(|tip| tip.bundle.last() == *clock)
                || self.is_over(origin, *clock, present)
        };
        let unsigned: Vec<Stamp> = claimed
            .iter()
            .filter(|claim| !is_signed(claim))
            .map(|(origin, clock)| Stamp { origin: *origin, clock: *clock })
            .collect();
        for Stamp { origin, .. } in &unsigned {
            adoption.vector.remove(origin);
            adoption.folds.remove(origin);
        }
        unsigned
    }

    /// Whether a log may go as far as a donor says without a signature there: a birth states that it ended there, or
    /// its origin is not known to sign, and, if only what is proven is believed, none that a node writes to now.
    fn is_over(&self, origin: &Origin, clock: Clock, present: &[Origin]) -> bool {
        match self.store().born(origin) {
            Some(_) => self.store().stated_end(origin) == Some(clock),
            None => !self.is_strict() || !present.contains(origin),
        }
    }
}
