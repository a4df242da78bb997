//! What is durable and may be served. Only the writer raises it, after its fsync.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use super::{
    fills::Fill,
    held::{Amount, Held},
};
use brock_core::{
    base::{
        id::{NodeId, Origin},
        vector::{Clock, Vector},
    },
    domain::{
        birth::Birth,
        bundle::Tip,
        codec::CodecError,
        digest::{Bucket, Counts, SetDigest},
        fork::Fork,
    },
};

/// Totals that are kept in the same batch as what they count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Records that are not deleted.
    pub records: u64,
    /// Entries in quarantine.
    pub quarantined: u64,
    /// Their bytes. Counted from the entries when the store is opened, not stored.
    pub quarantine_bytes: u64,
    /// Payloads that lost against another one of the same key hash.
    pub conflicts: u64,
    /// Those of them that an operator has acknowledged. Counted from the marks when the store is opened, not stored.
    pub acknowledged: u64,
    /// Records and tombstones that consist of an operation without evidence. Counted from the buckets when the store is
    /// opened, not stored.
    pub unproven: u64,
    /// Deleted records that are remembered.
    pub tombstones: u64,
    /// Entries in the replication log.
    pub log_entries: u64,
    /// Bytes of their keys and values.
    pub log_bytes: u64,
    /// Payloads that are deleted but may still be in some file.
    pub removals: u64,
}

impl Totals {
    /// Adds what changed in a bucket.
    pub(super) fn add(&mut self, change: Counts) {
        self.records = self.records.wrapping_add(change.records);
        self.tombstones = self.tombstones.wrapping_add(change.tombstones);
        self.conflicts = self.conflicts.wrapping_add(change.conflicts);
        self.unproven = self.unproven.wrapping_add(change.unproven);
    }

    pub(super) fn encode(self) -> Vec<u8> {
        let Self {
            records,
            quarantined,
            quarantine_bytes: _,
            conflicts,
            unproven: _,
            acknowledged: _,
            tombstones,
            log_entries,
            log_bytes,
            removals,
        } = self;
        [records, quarantined, conflicts, tombstones, log_entries, log_bytes, removals]
            .map(u64::to_be_bytes)
            .concat()
    }

    pub(super) fn decode(value: &[u8]) -> Result<Self, CodecError> {
        let mut numbers =
            value.chunks_exact(8).map(|bytes| u64::from_be_bytes(bytes.try_into().unwrap_or_default()));
        let mut next = || numbers.next().ok_or(CodecError::Malformed("counters"));
        Ok(Self {
            records: next()?,
            quarantined: next()?,
            conflicts: next()?,
            tombstones: next()?,
            log_entries: next()?,
            log_bytes: next()?,
            removals: next()?,
            unproven: 0,
            acknowledged: 0,
            quarantine_bytes: 0,
        })
    }
}

/// The state of the store besides its records and log, kept in memory as it is on disk. The parts
/// belong together: the digest is of the records at exactly this vector.
#[derive(Debug, Clone, Default)]
pub(super) struct Published {
    /// Origin → highest clock applied.
    pub vector: Vector,
    /// Finished origins that `vector` does not list any more.
    pub folds: Vector,
    /// How far the log is compacted.
    pub floors: Vector,
    /// Tombstones up to here may have been collected; empty = none ever was.
    pub collected: Vector,
    /// The last bundle of each log up to `vector`, as far as it is known: of origins that sign.
    pub tips: HashMap<Origin, Tip>,
    /// Origins that have signed two histories. They are in no vector any more, and nothing of their logs is taken.
    pub forks: BTreeMap<Origin, Arc<Fork>>,
    /// The origins that sign.
    pub births: BTreeMap<Origin, Birth>,
    /// The fills that wait for confirmation.
    pub fills: Vec<Fill>,
    /// Of the record set.
    pub digest: SetDigest,
    /// Totals.
    pub totals: Totals,
    /// Whose entries take how much of the quarantine.
    pub held: Held,
}

/// What one commit changes in [`Published`].
#[derive(Debug, Default)]
pub(super) struct Raised {
    pub vector: Vector,
    pub floors: Vector,
    pub folds: Vector,
    pub collected: Vector,
    /// Of origins that `vector` raises: the last bundle up to there. One that is missing is unknown.
    pub tips: HashMap<Origin, Tip>,
    /// Of these nothing is applied any more but what is raised again.
    pub retracted: BTreeSet<Origin>,
    pub forks: BTreeMap<Origin, Arc<Fork>>,
    pub births: BTreeMap<Origin, Birth>,
    /// Those that wait from now on, if that changes.
    pub fills: Option<Vec<Fill>>,
    /// The bundles of this node's own operations.
    pub own_bundles: Vec<Tip>,
    pub buckets: BTreeMap<u8, Bucket>,
    /// What the entries of these nodes take of the quarantine from now on.
    pub held: BTreeMap<NodeId, Amount>,
}

impl Published {
    /// Whether an origin has its place here: in the vector, or folded.
    pub(super) fn lists(&self, origin: &Origin) -> bool {
        self.vector.lists(origin) || self.folds.lists(origin)
    }

    /// How many incarnations of a node are frozen.
    pub(super) fn frozen_of(&self, node_id: &NodeId) -> usize {
        self.forks.range(Origin::all_of(node_id)).count()
    }

    /// The highest clock of `origin` that is applied, folded or not.
    pub(super) fn clock(&self, origin: &Origin) -> Clock {
        self.vector.get(origin).max(self.folds.get(origin))
    }

    /// The log has no entries of the origin at or below this clock.
    pub(super) fn floor(&self, origin: &Origin) -> Clock {
        self.floors.get(origin).max(self.folds.get(origin))
    }

    /// The vector with the folded origins in it.
    pub(super) fn applied(&self) -> Vector {
        let mut applied = self.vector.clone();
        applied.join(&self.folds);
        applied
    }

    /// After the commit is durable.
    pub(super) fn raise(&mut self, raised: &Raised, totals: Totals) {
        for origin in &raised.retracted {
            self.unlist(origin);
            self.collected.remove(origin);
        }
        self.vector.join(&raised.vector);
        for (origin, _) in raised.vector.iter() {
            match raised.tips.get(&origin) {
                Some(tip) => self.tips.insert(origin, *tip),
                None => self.tips.remove(&origin),
            };
        }
        self.births.extend(&raised.births);
        self.floors.join(&raised.floors);
        self.collected.join(&raised.collected);
        for (origin, clock) in raised.folds.iter() {
            self.folds.raise(origin, clock);
            if self.vector.get(&origin) <= clock {
                self.vector.remove(&origin);
                self.floors.remove(&origin);
                self.tips.remove(&origin);
            }
        }
        for (origin, fork) in &raised.forks {
            self.forks.insert(*origin, Arc::clone(fork));
            self.unlist(origin);
        }
        for (bucket, digest) in &raised.buckets {
            self.digest.set(*bucket, *digest);
        }
        if let Some(fills) = &raised.fills {
            self.fills.clone_from(fills);
        }
        self.held.replace(&raised.held);
        self.totals = totals;
    }

    fn unlist(&mut self, origin: &Origin) {
        self.vector.remove(origin);
        self.floors.remove(origin);
        self.folds.remove(origin);
        self.tips.remove(origin);
    }
}
