//! What keeps the store small and whole: joining, compaction, collection, folding, the quarantine.

use super::{
    error::StoreError,
    handle::Store,
    maintain::{Adoption, Cut, Joined, Page},
    schema,
    writer::Change,
};
use brock_core::{
    base::{
        id::{KeyHash, Origin},
        limits,
        vector::{Clock, Stamp, Vector},
    },
    domain::{operation::EntryError, segment::Segment},
    proto,
};

/// What a compaction removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Log entries.
    pub entries: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
}

impl Store {
    /// Joins states that came by another way than the log. Durable when it returns. Idempotent.
    pub async fn join(&self, page: Page) -> Result<Joined, StoreError> {
        self.change(|to| Change::Join(page, to)).await
    }

    /// Keeps a stretch of a donor's log for when its vector is adopted. Idempotent.
    pub async fn import_log(&self, segment: Segment) -> Result<(), StoreError> {
        self.change(|to| Change::ImportLog(segment, to)).await
    }

    /// Takes over what a donor had applied, after everything of it was joined and imported. Fails if
    /// the donor knows more of this node's own present incarnation than there is.
    pub async fn adopt(&self, adoption: Adoption) -> Result<(), StoreError> {
        // What goes of the log: all up to the floors that this raises, and all of what it folds away.
        let clocks = adoption.vector.iter();
        let mut gone: Vector =
            clocks.map(|(origin, clock)| (origin, adoption.floors.get(&origin).min(clock))).collect();
        gone.join(&adoption.folds);
        let applied = self.applied();
        let cuts = self
            .blocking(move |shared| {
                let mut cuts = Vec::new();
                for (origin, floor) in gone.iter().filter(|(origin, floor)| *floor > applied.get(origin)) {
                    let mut cut = Cut { through: floor, ..Cut::default() };
                    shared.database.scan_log(origin, Clock::default(), floor, |entry| {
                        cut.entries += 1;
                        cut.bytes += entry.bytes();
                        Ok(true)
                    })?;
                    cuts.push((origin, cut));
                }
                Ok(cuts)
            })
            .await?;
        self.change(|to| Change::Adopt(Box::new(adoption), cuts, to)).await
    }

    /// Removes log entries at or below `stable`, origin by origin, a bounded number in each commit.
    pub async fn compact(&self, stable: &Vector) -> Result<Compacted, StoreError> {
        let mut removed = Compacted::default();
        for (origin, through) in stable.iter() {
            let through = through.min(self.clock(&origin));
            loop {
                // A folded origin that turned out to have more is listed again, and compacted from there.
                let floor = self.shared.floor(&origin);
                if floor >= through {
                    break;
                }
                let cut = self.blocking(move |shared| measure(shared, origin, floor, through)).await?;
                self.change(|to| Change::Compact(origin, cut, to)).await?;
                removed.entries += cut.entries;
                removed.bytes += cut.bytes;
            }
        }
        Ok(removed)
    }

    /// Gives the space of compacted log entries back to the file system, where that is worth it.
    pub async fn rewrite_log(&self) -> Result<(), StoreError> {
        self.blocking(|shared| {
            shared.database.rewrite_log();
            Ok(())
        })
        .await
    }

    /// Takes a finished origin out of the vector. Returns whether that could be done: everything of
    /// it must be compacted, and it must not be this node's own present one.
    pub async fn fold(&self, origin: Origin) -> Result<bool, StoreError> {
        self.change(|to| Change::Fold(origin, to)).await
    }

    /// Forgets tombstones whose deletes lie at or below `stable`. Returns how many.
    pub async fn collect(&self, key_hashes: Vec<KeyHash>, stable: Vector) -> Result<usize, StoreError> {
        self.change(|to| Change::Collect(key_hashes, stable, to)).await
    }

    /// Removes the payloads of deleted records from every file of the database. Returns how many
    /// are gone now.
    pub async fn remove_payloads(&self) -> Result<usize, StoreError> {
        let marks = self
            .blocking(|shared| {
                let marks = shared.database.keyed(schema::REMOVAL, None, limits::REMOVALS_AT_ONCE)?;
                if !marks.is_empty() {
                    let _no_snapshot = shared.database.without_snapshots();
                    // First out of memory and out of the write-ahead log, then out of older files.
                    shared.database.flush().map_err(StoreError::Read)?;
                    let key_hashes: Vec<KeyHash> = marks.iter().map(|(key_hash, _)| *key_hash).collect();
                    shared.database.rewrite_records(&key_hashes);
                }
                Ok(marks)
            })
            .await?;
        if marks.is_empty() {
            return Ok(0);
        }
        self.change(|to| Change::Removed(marks, to)).await
    }

    /// Compares a bucket's digest with the records that are really there. Where something other than
    /// this store has changed them (bit rot, an operator), makes the digest true again, so that the
    /// peers see the difference; returns whether that was so.
    pub async fn scrub(&self, bucket: u8) -> Result<bool, StoreError> {
        let (written, found) = self.blocking(move |shared| shared.database.compare_bucket(bucket)).await?;
        if written == found {
            return Ok(false);
        }
        // What was written meanwhile changed both alike, so the difference still stands.
        self.change(|to| Change::Mend(bucket, found.minus(written), to)).await?;
        Ok(true)
    }

    /// Keeps what is known of members, and forgets others.
    pub async fn remember(
        &self,
        members: Vec<proto::MemberState>,
        forget: Vec<proto::MemberState>,
    ) -> Result<(), StoreError> {
        self.change(|to| Change::Remember(members, forget, to)).await
    }

    /// Keeps a small thing under a name.
    pub async fn keep_note(&self, name: &'static [u8], value: Vec<u8>) -> Result<(), StoreError> {
        self.change(|to| Change::Note(name, value, to)).await
    }

    /// Tries to apply a quarantined entry again. `None` = there is none; the inner error says why it
    /// still cannot be applied.
    pub async fn retry_quarantined(
        &self,
        stamp: Stamp,
    ) -> Result<Option<Result<(), EntryError>>, StoreError> {
        self.change(|to| Change::RetryQuarantined(stamp, to)).await
    }

    /// Gives a quarantined entry up. Returns whether there was one.
    pub async fn drop_quarantined(&self, stamp: Stamp) -> Result<bool, StoreError> {
        self.change(|to| Change::DropQuarantined(stamp, to)).await
    }
}

/// The next stretch to cut.
fn measure(
    shared: &super::handle::Shared,
    origin: Origin,
    floor: Clock,
    through: Clock,
) -> Result<Cut, StoreError> {
    let mut cut = Cut::default();
    shared.database.scan_log(origin, floor, through, |entry| {
        cut.entries += 1;
        cut.bytes += entry.bytes();
        cut.through = entry.key.stamp.clock;
        Ok(cut.entries < limits::COMPACT_BATCH)
    })?;
    if cut.entries < limits::COMPACT_BATCH {
        // Nothing more up to there: a gap at the end goes too.
        cut.through = through;
    }
    Ok(cut)
}
