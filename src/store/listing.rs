//! How far the log of an origin is kept, and whether it is listed at all: floors, folds, frozen and retracted origins,
//! collected tombstones.

use std::sync::Arc;

use super::commit::Commit;
use brock_core::{
    base::{
        id::Origin,
        vector::{Clock, Vector},
    },
    domain::{bundle::Tip, fork::Fork},
};

/// A stretch of one origin's log that may be removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cut {
    /// Up to and including this clock.
    pub through: Clock,
    /// How many entries it has.
    pub entries: u64,
    /// How many bytes these have.
    pub bytes: u64,
}

impl Commit<'_> {
    pub(super) fn raise_floor(&mut self, origin: Origin, clock: Clock) {
        if clock > self.floor(&origin) {
            self.raised.floors.raise(origin, clock);
            self.batch.put_floor(origin, clock);
        }
    }

    pub(super) fn delete_cut(&mut self, origin: Origin, cut: Cut) {
        self.batch.delete_log(origin, cut.through);
        self.totals.log_entries = self.totals.log_entries.saturating_sub(cut.entries);
        self.totals.log_bytes = self.totals.log_bytes.saturating_sub(cut.bytes);
    }

    /// `tip`: the last bundle, if it is known.
    pub(super) fn fold_away(&mut self, origin: Origin, clock: Clock, tip: Option<Tip>) {
        self.batch.put_fold(origin, clock, tip.as_ref());
        self.batch.delete_log(origin, clock);
        self.raised.folds.raise(origin, clock);
        self.raised.vector.remove(&origin);
    }

    /// Takes an origin out of everything but its records.
    pub(super) fn freeze(&mut self, fork: Arc<Fork>) {
        let origin = fork.origin();
        self.batch.put_fork(&fork);
        self.unlist(origin);
        self.raised.forks.insert(origin, fork);
    }

    /// Takes back that something of an origin is applied: it was only a donor's word. What there is of it comes again.
    pub(super) fn retract(&mut self, origin: Origin) {
        self.batch.delete_head(origin);
        self.unlist(origin);
        self.raised.retracted.insert(origin);
        // What it has created is not forgotten: it was not here.
        if self.collected().lists(&origin) {
            self.raised.collected.remove(&origin);
            let mut all = self.before.collected.clone();
            all.join(&self.raised.collected);
            all.remove(&origin);
            self.batch.put_collected(&all);
        }
    }

    fn unlist(&mut self, origin: Origin) {
        for raised in [&mut self.raised.vector, &mut self.raised.floors, &mut self.raised.folds] {
            raised.remove(&origin);
        }
        // An incremental backup would show the log that led here, and not this.
        self.is_unlogged = true;
    }

    /// What this node has deleted and forgotten, this commit included.
    pub(super) fn collected(&self) -> Vector {
        let mut collected = self.before.collected.clone();
        collected.join(&self.raised.collected);
        collected
    }

    /// Tombstones up to here may be missing from now on.
    pub(super) fn raise_collected(&mut self, collected: &Vector) {
        self.raised.collected.join(collected);
        let all = self.collected();
        self.batch.put_collected(&all);
    }
}
