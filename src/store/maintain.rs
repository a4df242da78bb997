//! Changes that are not operations: joining what a resync or a repair brought, compaction,
//! collection, folding, the quarantine.

use std::collections::HashMap;

use bytes::Bytes;

use super::{commit::Commit, database::Logged, error::StoreError, schema};
use crate::runtime::planted::{self, Bug};
use brock_core::{
    base::{
        id::{KeyHash, Origin},
        vector::{Clock, Stamp, Vector},
    },
    domain::{
        codec::{LogKey, QUARANTINED_STATE},
        digest::Bucket,
        operation::{EntryError, check_entry},
        record::{RecordState, UnixSeconds},
        segment::{Segment, SegmentEntry},
    },
    proto,
};

/// States of records from elsewhere, to be joined.
#[derive(Debug, Clone)]
pub struct Page {
    /// What came.
    pub states: Vec<(KeyHash, RecordState)>,
    /// Set if it is all that a donor has in a stretch of key hashes: what it lacks may go.
    pub complete: Option<Stretch>,
}

/// A stretch of key hashes of which a donor sent everything.
#[derive(Debug, Clone)]
pub struct Stretch {
    /// Above this key hash; `None` = from the first.
    pub after: Option<KeyHash>,
    /// Up to this one.
    pub through: KeyHash,
    /// The donor may have collected tombstones up to here: what was created up to here and is not in
    /// the page was deleted.
    pub collected: Vector,
}

/// What a page changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Joined {
    /// Records whose state changed.
    pub changed: usize,
    /// Records that were dropped, because the donor had deleted them and forgotten.
    pub dropped: usize,
}

/// What a donor had applied, once everything of it is here.
#[derive(Debug, Clone, Default)]
pub struct Adoption {
    /// Its vector when its pages began.
    pub vector: Vector,
    /// Its floors when they ended.
    pub floors: Vector,
    /// Its folded origins.
    pub folds: Vector,
    /// Tombstones up to here may be missing among its records.
    pub collected: Vector,
}

/// A stretch of one origin's log that may go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cut {
    /// Up to and including this clock.
    pub through: Clock,
    /// How many entries it has.
    pub entries: u64,
    /// And how many bytes.
    pub bytes: u64,
}

impl Commit<'_> {
    /// Joins the states of a page, and drops what its donor had deleted and forgotten.
    ///
    /// Contract: joining is always safe, but for what this node itself has deleted and forgotten:
    /// that is taken out of what came. Dropping is safe, because the donor had collected tombstones
    /// up to `collected` only, and had kept everything else that it knew of.
    pub(super) fn join_page(&mut self, page: Page) -> Result<Joined, StoreError> {
        let mut joined = Joined::default();
        if let Some(stretch) = &page.complete
            && !planted::is(Bug::KeepUnlisted)
        {
            joined.dropped = self.drop_forgotten(stretch, &page.states)?;
        }
        let mut forgotten = self.before().collected.clone();
        forgotten.join(&self.raised.collected);
        if planted::is(Bug::TakeForgotten) {
            forgotten = Vector::default();
        }
        for (key_hash, state) in page.states {
            let left = state.without_forgotten(&forgotten, self.state(&key_hash));
            if left != RecordState::default() {
                joined.changed += usize::from(self.merge(key_hash, left));
            }
        }
        self.is_unlogged |= joined.changed + joined.dropped > 0;
        Ok(joined)
    }

    fn drop_forgotten(
        &mut self,
        stretch: &Stretch,
        states: &[(KeyHash, RecordState)],
    ) -> Result<usize, StoreError> {
        if stretch.collected.is_empty() {
            return Ok(0);
        }
        let mut forgotten = stretch.collected.clone();
        if planted::is(Bug::DropUncovered) {
            forgotten.join(&self.before().applied());
        }
        let kept: HashMap<KeyHash, &RecordState> = states.iter().map(|(key, state)| (*key, state)).collect();
        let mut shrunk = Vec::new();
        self.database.scan_records(
            stretch.after.as_ref(),
            Some(&stretch.through),
            |key_hash, state, _| {
                let left = state.clone().without_forgotten(&forgotten, kept.get(&key_hash).copied());
                if left != state {
                    shrunk.push(key_hash);
                }
                Ok(true)
            },
        )?;
        self.load(shrunk.clone())?;
        let mut dropped = 0;
        for key_hash in shrunk {
            let Some(touched) = self.records.get_mut(&key_hash) else { continue };
            // As this commit has it by now: an operation in the same group must not be undone.
            let Some(now) = touched.now.take() else { continue };
            let left = now.clone().without_forgotten(&forgotten, kept.get(&key_hash).copied());
            dropped += usize::from(left != now);
            touched.changed |= left != now;
            touched.now = Some(left).filter(|left| *left != RecordState::default());
        }
        Ok(dropped)
    }

    fn forget(&mut self, key_hash: &KeyHash) -> bool {
        let Some(touched) = self.records.get_mut(key_hash) else { return false };
        let known = touched.now.take().is_some();
        touched.changed |= known;
        known
    }

    /// Keeps log entries that lie above what is applied here, for when the donor's vector is
    /// adopted. Nothing of them is visible until then. Idempotent.
    pub(super) fn import_log(&mut self, segment: Segment, now: UnixSeconds) -> Result<(), StoreError> {
        let applied = self.applied(&segment.origin);
        let aside = segment.entries.iter().filter(|entry| matches!(entry, SegmentEntry::Quarantined(..)));
        self.check_quarantine(aside.count())?;
        for entry in segment.entries {
            let stamp = Stamp { origin: segment.origin, clock: entry.clock() };
            if stamp.clock <= applied {
                continue;
            }
            match entry {
                SegmentEntry::Applicable(entry, _) => {
                    let state = entry.operation.resulting_state().into();
                    if !self.database.has_log(LogKey { stamp, key_hash: entry.key_hash, state })? {
                        self.log(stamp, entry.key_hash, state, entry.encoded);
                    }
                }
                SegmentEntry::Quarantined(entry, reason) => {
                    if self.database.quarantined(stamp)?.is_none() {
                        self.set_aside(stamp, entry, reason.to_string(), now);
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes out what a resync that broke off has left in the log above what is applied here: it is
    /// about to be logged as what it is.
    pub(super) fn take_back(
        &mut self,
        origin: Origin,
        applied: Clock,
        through: Clock,
    ) -> Result<(), StoreError> {
        let mut left = Vec::new();
        self.database.scan_log(origin, applied, through, |entry| {
            let is_aside = entry.key.state == QUARANTINED_STATE;
            let kept = is_aside && self.database.quarantined(entry.key.stamp)?.is_some();
            left.push((entry, kept));
            Ok(true)
        })?;
        for (entry, kept) in left {
            self.database.delete_log_entry(&mut self.batch, entry.key);
            self.counters.log_entries = self.counters.log_entries.saturating_sub(1);
            self.counters.log_bytes = self.counters.log_bytes.saturating_sub(entry.bytes());
            if kept {
                self.leave_quarantine(entry.key.stamp);
            }
        }
        Ok(())
    }

    /// Takes over a donor's vector, floors and folds, once all its records and log entries are
    /// durable here.
    ///
    /// Contract: everything up to the new vector is reflected in the records, and the log holds
    /// every entry between the floors and the vector, or the floor is raised above the hole.
    pub(super) fn adopt(&mut self, adoption: &Adoption, cuts: &[(Origin, Cut)]) {
        if planted::is(Bug::AdoptNothing) {
            return;
        }
        for (origin, clock) in adoption.vector.iter() {
            let applied = self.applied(&origin);
            if clock <= applied {
                continue;
            }
            let floor = adoption.floors.get(&origin);
            if floor > applied {
                self.raise_floor(origin, floor.min(clock));
            }
            self.raised.vector.raise(origin, clock);
        }
        for (origin, cut) in cuts {
            self.delete_cut(*origin, *cut);
        }
        if !adoption.collected.is_empty() {
            // What the donor has forgotten is missing here as well now: nobody who learns from this
            // node may take it for something that never was. Only as far as this node has applied:
            // beyond, it has yet to hear of creates that nobody deleted.
            let mut applied = self.before().applied();
            applied.join(&self.raised.vector);
            applied.join(&adoption.folds);
            self.forgotten(&adoption.collected.meet(&applied));
        }
        for (origin, clock) in adoption.folds.iter() {
            if clock > self.applied(&origin) {
                self.fold_away(origin, clock);
            }
        }
    }

    fn raise_floor(&mut self, origin: Origin, clock: Clock) {
        if clock > self.floor(&origin) {
            self.raised.floors.raise(origin, clock);
            self.database.put_floor(&mut self.batch, origin, clock);
        }
    }

    fn delete_cut(&mut self, origin: Origin, cut: Cut) {
        self.database.delete_log(&mut self.batch, origin, cut.through);
        self.counters.log_entries = self.counters.log_entries.saturating_sub(cut.entries);
        self.counters.log_bytes = self.counters.log_bytes.saturating_sub(cut.bytes);
    }

    /// Removes a stretch of one origin's log and raises its floor, in one batch: whoever finds the
    /// entries gone finds the floor raised.
    pub(super) fn compact(&mut self, origin: Origin, cut: Cut) {
        if cut.through <= self.floor(&origin) || cut.through > self.applied(&origin) {
            return;
        }
        self.delete_cut(origin, cut);
        self.raise_floor(origin, cut.through);
        self.tally.compacted += cut.entries;
    }

    /// Takes an origin that will never write again, and whose whole log is compacted away, out of
    /// the vector. Its last clock is remembered apart.
    pub(super) fn fold(&mut self, own: Origin, origin: Origin) -> bool {
        let last = self.before().vector.get(&origin);
        let is_whole = last > Clock::default() && self.floor(&origin) == last;
        if origin == own || !is_whole || self.raised.vector.lists(&origin) {
            return false;
        }
        self.fold_away(origin, last);
        self.tally.folded += 1;
        true
    }

    fn fold_away(&mut self, origin: Origin, clock: Clock) {
        self.database.put_fold(&mut self.batch, origin, clock);
        self.database.delete_log(&mut self.batch, origin, clock);
        self.raised.folds.raise(origin, clock);
        self.raised.vector.remove(&origin);
    }

    /// Tombstones up to here may be missing from now on.
    fn forgotten(&mut self, collected: &Vector) {
        self.raised.collected.join(collected);
        let mut all = self.before().collected.clone();
        all.join(&self.raised.collected);
        self.database.put_collected(&mut self.batch, &all);
    }

    /// Forgets tombstones whose deletes lie at or below `stable`; those that are not such are left.
    pub(super) fn collect(&mut self, key_hashes: &[KeyHash], stable: &Vector) -> usize {
        let mut collected = 0;
        for key_hash in key_hashes {
            // One whose create was never seen here waits for it.
            let state = self.state(key_hash).filter(|state| state.was_created);
            let deletion = state.and_then(|state| state.deletion);
            if deletion.is_some_and(|stamp| stable.has(stamp)) && self.forget(key_hash) {
                collected += 1;
            }
        }
        if collected > 0 {
            self.forgotten(&self.before().applied());
        }
        self.tally.collected += collected as u64;
        collected
    }

    /// Compaction has rewritten every file that could hold these payloads. One that came back and
    /// went again meanwhile has another mark by now, and stays.
    pub(super) fn removed(&mut self, marks: &[(KeyHash, Vec<u8>)]) -> Result<usize, StoreError> {
        let mut removed = 0;
        for (key_hash, mark) in marks {
            if self.database.marked(schema::REMOVAL, key_hash)?.as_ref() == Some(mark) {
                self.database.unmark(&mut self.batch, schema::REMOVAL, key_hash);
                removed += 1;
            }
        }
        self.counters.removals = self.counters.removals.saturating_sub(removed as u64);
        Ok(removed)
    }

    /// Replaces what is remembered of the members.
    pub(super) fn remember(&mut self, members: &[proto::MemberState], forget: &[proto::MemberState]) {
        for member in forget {
            self.database.delete_member(&mut self.batch, member);
        }
        for member in members {
            self.database.put_member(&mut self.batch, member);
        }
    }

    /// Makes a bucket true again whose records are not what was written.
    pub(super) fn mend(&mut self, bucket: u8, delta: Bucket) {
        self.mended.push((bucket, delta));
        self.is_unlogged = true;
    }

    /// Keeps a small thing under a name.
    pub(super) fn note(&mut self, name: &[u8], value: &[u8]) {
        self.database.put_meta(&mut self.batch, name, value);
    }

    /// Applies a quarantined entry in its place, or changes nothing. The outer error is the store's,
    /// the inner one why the entry still cannot be applied; `None` = there is no such entry.
    pub(super) fn retry_quarantined(
        &mut self,
        stamp: Stamp,
    ) -> Result<Option<Result<(), EntryError>>, StoreError> {
        let Some(kept) = self.database.quarantined(stamp)?.and_then(|kept| kept.entry) else {
            return Ok(None);
        };
        let (entry, payload) = match check_entry(&kept) {
            Ok(checked) => checked,
            Err(reason) => return Ok(Some(Err(reason))),
        };
        self.load(vec![entry.key_hash])?;
        let aside = LogKey { stamp, key_hash: entry.key_hash, state: QUARANTINED_STATE };
        if self.database.has_log(aside)? {
            self.database.delete_log_entry(&mut self.batch, aside);
            let value = Logged { key: aside, applied_unix_ms: 0, operation: Bytes::new() };
            self.counters.log_entries = self.counters.log_entries.saturating_sub(1);
            self.counters.log_bytes = self.counters.log_bytes.saturating_sub(value.bytes());
            let state = entry.operation.resulting_state().into();
            self.log(stamp, entry.key_hash, state, entry.encoded.clone());
        }
        self.is_unlogged |= self.merge(entry.key_hash, entry.operation.state(stamp, payload));
        self.leave_quarantine(stamp);
        Ok(Some(Ok(())))
    }

    /// Gives a quarantined entry up. Returns whether there was one.
    pub(super) fn drop_quarantined(&mut self, stamp: Stamp) -> Result<bool, StoreError> {
        let Some(kept) = self.database.quarantined(stamp)? else { return Ok(false) };
        if let Some(entry) = kept.entry {
            let key_hash = KeyHash::try_from(entry.key_hash.as_ref()).unwrap_or(KeyHash([0; 32]));
            let key = LogKey { stamp, key_hash, state: QUARANTINED_STATE };
            if self.database.has_log(key)? {
                // It goes on being relayed as its origin wrote it: another node may understand it.
                self.counters.log_bytes += entry.operation.len() as u64;
                let applied_unix_ms = self.now_unix_ms;
                let relayed = Logged { key, applied_unix_ms, operation: entry.operation };
                self.database.put_log(&mut self.batch, &relayed);
            }
        }
        self.leave_quarantine(stamp);
        Ok(true)
    }

    fn leave_quarantine(&mut self, stamp: Stamp) {
        self.database.delete_quarantined(&mut self.batch, stamp);
        self.counters.quarantined = self.counters.quarantined.saturating_sub(1);
    }
}
