//! What is durable and may be served: raised by the writer alone, after its fsync.

use std::collections::BTreeMap;

use super::{
    database::{Database, Totals},
    error::StoreError,
};
use brock_core::{
    base::{
        id::Origin,
        vector::{Clock, Vector},
    },
    domain::digest::{Bucket, SetDigest},
};

/// The state of the store besides its records and log, kept in memory as it is on disk. The parts
/// belong together: the digest is of the records at exactly this vector.
#[derive(Debug, Clone, Default)]
pub(super) struct Visible {
    /// Origin → highest clock applied.
    pub vector: Vector,
    /// Finished origins that `vector` does not list any more.
    pub folds: Vector,
    /// How far the log is compacted.
    pub floors: Vector,
    /// Tombstones up to here may have been collected; empty = none ever was.
    pub collected: Vector,
    /// Of the record set.
    pub digest: SetDigest,
    /// Totals.
    pub counters: Totals,
}

/// What one commit changes in [`Visible`].
#[derive(Debug, Default)]
pub(super) struct Raised {
    pub vector: Vector,
    pub floors: Vector,
    pub folds: Vector,
    pub collected: Vector,
    pub buckets: BTreeMap<u8, Bucket>,
}

impl Visible {
    /// As it is on disk.
    pub(super) fn load(database: &Database) -> Result<Self, StoreError> {
        Ok(Self {
            vector: database.vector()?,
            folds: database.folds()?,
            floors: database.floors()?,
            collected: database.collected()?,
            digest: database.digest()?,
            counters: database.totals()?,
        })
    }

    /// The highest clock of `origin` that is applied, folded or not.
    pub(super) fn clock(&self, origin: &Origin) -> Clock {
        self.vector.get(origin).max(self.folds.get(origin))
    }

    /// At or below this clock nothing of the origin is left in the log.
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
    pub(super) fn raise(&mut self, raised: &Raised, counters: Totals) {
        self.vector.join(&raised.vector);
        self.floors.join(&raised.floors);
        self.collected.join(&raised.collected);
        for (origin, clock) in raised.folds.iter() {
            self.folds.raise(origin, clock);
            if self.vector.get(&origin) <= clock {
                self.vector.remove(&origin);
                self.floors.remove(&origin);
            }
        }
        for (bucket, digest) in &raised.buckets {
            self.digest.set(*bucket, *digest);
        }
        self.counters = counters;
    }
}
