//! Building one group commit: every change of a batch sees the ones before it.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use rocksdb::WriteBatch;

use super::{
    database::{Database, Logged, Totals, UNLOGGED},
    error::StoreError,
    request::{CreateOutcome, NewOperation, NewRecord, OperationOutcome},
    schema,
    visible::{Raised, Visible},
};
use crate::runtime::planted::{self, Bug};
use brock_core::{
    base::{
        id::{KeyHash, Origin, sha256},
        limits, metrics as names,
        vector::{Clock, Stamp},
    },
    domain::{
        codec::{LogKey, QUARANTINED_STATE},
        digest::{Bucket, SetDigest},
        operation::Operation,
        record::{RecordState, UnixSeconds},
        segment::{Segment, SegmentEntry},
    },
    proto,
};

/// A group commit in the making. Dropping it changes nothing.
pub(super) struct Commit<'a> {
    pub(super) database: &'a Database,
    pub(super) batch: WriteBatch,
    pub(super) records: HashMap<KeyHash, Touched>,
    /// What becomes visible with it.
    pub raised: Raised,
    pub counters: Totals,
    pub tally: Tally,
    before: &'a Visible,
    pub(super) now_unix_ms: u64,
    /// What must be added to buckets whose records are not what was written.
    pub(super) mended: Vec<(u8, Bucket)>,
    /// Whether records change in a way that what the log gains does not tell.
    pub(super) is_unlogged: bool,
}

/// What a commit did, for the metrics: counted only once it is durable.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub operations: u64,
    pub creates: u64,
    pub expiring_creates: u64,
    pub invalidates: u64,
    pub unpublishes: u64,
    pub deletes: u64,
    pub duplicates_equal: u64,
    pub duplicates_unequal: u64,
    pub conflicts: u64,
    pub quarantined: u64,
    pub expired: u64,
    pub compacted: u64,
    pub collected: u64,
    pub folded: u64,
}

pub(super) struct Touched {
    stored: Option<RecordState>,
    pub(super) now: Option<RecordState>,
    pub(super) changed: bool,
}

impl<'a> Commit<'a> {
    /// Begins a commit on top of what is visible, which is what the database holds.
    pub(super) fn new(database: &'a Database, before: &'a Visible, now_unix_ms: u64) -> Self {
        Self {
            database,
            batch: WriteBatch::default(),
            records: HashMap::new(),
            raised: Raised::default(),
            counters: before.counters,
            tally: Tally::default(),
            before,
            now_unix_ms,
            mended: Vec::new(),
            is_unlogged: false,
        }
    }

    /// The highest clock of `origin` that is applied, this commit included.
    pub(super) fn applied(&self, origin: &Origin) -> Clock {
        self.before.clock(origin).max(self.raised.vector.get(origin))
    }

    /// How far the log of `origin` is compacted, this commit included.
    pub(super) fn floor(&self, origin: &Origin) -> Clock {
        self.before.floor(origin).max(self.raised.floors.get(origin))
    }

    pub(super) fn before(&self) -> &Visible {
        self.before
    }

    /// Reads the states of these key hashes at once.
    pub(super) fn load(&mut self, key_hashes: Vec<KeyHash>) -> Result<(), StoreError> {
        let states = self.database.states(&key_hashes);
        for (key_hash, state) in key_hashes.into_iter().zip(states) {
            let state = state?;
            self.records.entry(key_hash).or_insert_with(|| Touched {
                now: state.clone(),
                stored: state,
                changed: false,
            });
        }
        Ok(())
    }

    pub(super) fn state(&self, key_hash: &KeyHash) -> Option<&RecordState> {
        self.records.get(key_hash).and_then(|touched| touched.now.as_ref())
    }

    /// Returns whether the state changed.
    pub(super) fn merge(&mut self, key_hash: KeyHash, with: RecordState) -> bool {
        // `load` has put every key hash of the group there.
        let Some(touched) = self.records.get_mut(&key_hash) else { return false };
        let before = touched.now.clone();
        let with_bug = planted::is(Bug::OverwriteInsteadOfJoin);
        let joined = if with_bug { with } else { touched.now.take().unwrap_or_default().join(with) };
        let changed = before.as_ref() != Some(&joined);
        touched.now = Some(joined);
        touched.changed |= changed;
        changed
    }

    /// A create by a client of this node: record, log entry, clock and indexes, or a refusal that
    /// changes nothing and does not advance the clock.
    pub(super) fn create(&mut self, origin: Origin, clock: &mut Clock, record: NewRecord) -> CreateOutcome {
        let digest = sha256(&record.payload);
        if let Some(state) = self.state(&record.key_hash)
            && (state.is_created() || state.deletion.is_some())
        {
            let values_equal = state.creation.as_ref().is_some_and(|creation| creation.digest == digest);
            *(if values_equal {
                &mut self.tally.duplicates_equal
            } else {
                &mut self.tally.duplicates_unequal
            }) += 1;
            return CreateOutcome::Exists;
        }
        let NewRecord { key_hash, created_at, expires_at, public, payload } = record;
        let operation = Operation::Create { created_at, expires_at, public, digest };
        let stamp = self.originate(origin, clock, key_hash, &operation, Some(payload));
        self.tally.creates += 1;
        self.tally.expiring_creates += u64::from(expires_at.is_some());
        CreateOutcome::Created(stamp)
    }

    /// An invalidate, unpublish or delete by a client of this node.
    ///
    /// Contract: the operation is logged and joined in one batch, or changes nothing and does not
    /// advance the clock: because it is in effect already (the answer then names the operation that
    /// did it), because the record is deleted, or because nobody created it as far as is known here
    /// and that was not expected.
    pub(super) fn operate(
        &mut self,
        origin: Origin,
        clock: &mut Clock,
        operation: NewOperation,
    ) -> OperationOutcome {
        let NewOperation { key_hash, operation, ahead } = operation;
        let nothing = RecordState::default();
        let state = self.state(&key_hash).unwrap_or(&nothing);
        if let Some(deletion) = state.deletion {
            return match operation {
                Operation::Delete => OperationOutcome::Already(deletion),
                _ => OperationOutcome::Deleted,
            };
        }
        if !state.is_created() && !ahead {
            return OperationOutcome::Unknown;
        }
        let (in_effect, count) = match &operation {
            Operation::Invalidate { .. } => {
                let stamp = state.invalidation.as_ref().and_then(|invalidation| invalidation.stamp);
                (stamp, &mut self.tally.invalidates)
            }
            Operation::Unpublish if state.unpublished => {
                let created = state.creation.as_ref().map(|creation| creation.stamp);
                (state.unpublication.or(created), &mut self.tally.unpublishes)
            }
            Operation::Unpublish => (None, &mut self.tally.unpublishes),
            Operation::Delete | Operation::Create { .. } => (None, &mut self.tally.deletes),
        };
        if let Some(stamp) = in_effect {
            return OperationOutcome::Already(stamp);
        }
        *count += 1;
        OperationOutcome::Done(self.originate(origin, clock, key_hash, &operation, None))
    }

    /// An operation of this node: the next clock, the log entry, the joined state.
    fn originate(
        &mut self,
        origin: Origin,
        clock: &mut Clock,
        key_hash: KeyHash,
        operation: &Operation,
        payload: Option<Bytes>,
    ) -> Stamp {
        if !planted::is(Bug::ReuseClock) || clock.0 % 3 != 2 {
            *clock = clock.next();
        }
        let stamp = Stamp { origin, clock: *clock };
        self.log(stamp, key_hash, operation.resulting_state().into(), operation.encode());
        self.merge(key_hash, operation.state(stamp, payload));
        self.raised.vector.raise(origin, stamp.clock);
        stamp
    }

    pub(super) fn log(&mut self, stamp: Stamp, key_hash: KeyHash, state: i32, operation: Bytes) {
        let key = LogKey { stamp, key_hash, state };
        let entry = Logged { key, applied_unix_ms: self.now_unix_ms, operation };
        self.database.put_log(&mut self.batch, &entry);
        self.counters.log_entries += 1;
        self.counters.log_bytes += entry.bytes();
        self.tally.operations += 1;
    }

    /// Operations of another origin, from a peer. Idempotent: what is applied is skipped.
    ///
    /// Contract: log entries, record states and the origin's clock become durable together; an
    /// entry that cannot be applied is set aside and never blocks the ones after it. Returns what was
    /// applied of the origin before.
    pub(super) fn apply(&mut self, segment: Segment, now: UnixSeconds) -> Result<Clock, StoreError> {
        let applied = self.applied(&segment.origin);
        if segment.after > applied && !planted::is(Bug::AcceptGap) {
            return Err(StoreError::Gap { origin: segment.origin, after: segment.after, applied });
        }
        let fresh = |entry: &SegmentEntry| entry.clock() > applied;
        let aside =
            segment.entries.iter().filter(|e| fresh(e) && matches!(e, SegmentEntry::Quarantined(..))).count();
        self.check_quarantine(aside)?;
        if segment.covered_through > applied {
            self.take_back(segment.origin, applied, segment.covered_through)?;
        }
        for entry in segment.entries {
            let stamp = Stamp { origin: segment.origin, clock: entry.clock() };
            if stamp.clock <= applied {
                continue;
            }
            match entry {
                SegmentEntry::Applicable(entry, payload) => {
                    let state = entry.operation.resulting_state().into();
                    self.log(stamp, entry.key_hash, state, entry.encoded);
                    let skipped = planted::is(Bug::SkipDelete) && entry.operation == Operation::Delete;
                    if !skipped {
                        let change = entry.operation.state(stamp, payload);
                        self.merge(entry.key_hash, change);
                    }
                }
                SegmentEntry::Quarantined(entry, reason) => {
                    self.set_aside(stamp, entry, reason.to_string(), now);
                }
            }
        }
        // A repetition must not lower what is on disk.
        let rises = segment.covered_through > applied || planted::is(Bug::LowerClock);
        if rises && !planted::is(Bug::SkipVectorUpdate) {
            self.raised.vector.raise(segment.origin, segment.covered_through);
        }
        Ok(applied)
    }

    pub(super) fn check_quarantine(&self, more: usize) -> Result<(), StoreError> {
        if self.counters.quarantined + more as u64 > limits::QUARANTINE_MAX {
            return Err(StoreError::QuarantineFull);
        }
        Ok(())
    }

    pub(super) fn set_aside(&mut self, stamp: Stamp, entry: proto::Entry, reason: String, now: UnixSeconds) {
        // In the log too, so that it is relayed in its place: another node may understand it.
        let key_hash = KeyHash::try_from(entry.key_hash.as_ref()).unwrap_or(KeyHash([0; 32]));
        self.log(stamp, key_hash, QUARANTINED_STATE, Bytes::new());
        let quarantined = proto::QuarantinedEntry { entry: Some(entry), reason, at_unix: now };
        self.database.put_quarantined(&mut self.batch, stamp, &quarantined);
        self.counters.quarantined += 1;
        self.tally.quarantined += 1;
    }

    /// Removes the payloads of what expired at or before `expired_before`. Returns how many index
    /// entries it dealt with.
    pub(super) fn sweep(&mut self, expired_before: UnixSeconds, limit: usize) -> Result<usize, StoreError> {
        let due = self.database.due(expired_before, limit)?;
        self.load(due.iter().map(|(_, key_hash)| *key_hash).collect())?;
        for (at, key_hash) in &due {
            let Some(touched) = self.records.get_mut(key_hash) else { continue };
            match &touched.now {
                Some(state) if state.is_expired(expired_before) && state.due_at().is_some() => {
                    touched.now = Some(state.without_payload());
                    touched.changed = true;
                    self.tally.expired += 1;
                }
                // The record has moved on: only the index entry is stale.
                _ => self.database.delete_expiry(&mut self.batch, *at, key_hash),
            }
        }
        Ok(due.len())
    }

    /// The finished batch; `None` if there is nothing to write.
    pub(super) fn finish(&mut self) -> Option<WriteBatch> {
        let counters_before = self.before.counters;
        let mut buckets: BTreeMap<u8, Bucket> = BTreeMap::new();
        for (key_hash, touched) in self.records.iter().filter(|(_, touched)| touched.changed) {
            let Touched { stored, now, .. } = touched;
            let (stored, now) = (stored.as_ref(), now.as_ref());
            let bucket = SetDigest::bucket_of(key_hash);
            let overlooked =
                planted::is(Bug::DigestIgnoresDeletes) && now.is_some_and(|now| now.deletion.is_some());
            if !overlooked {
                buckets
                    .entry(bucket)
                    .or_insert_with(|| self.before.digest.get(bucket))
                    .replace(key_hash, stored, now);
            }
            let had = stored.is_some_and(RecordState::has_payload);
            let has = now.is_some_and(RecordState::has_payload);
            if had && !has {
                // Its bytes are still in some file until compaction has rewritten that.
                let at = self.now_unix_ms.to_be_bytes();
                let is_marked = self.database.is_in(schema::REMOVAL, key_hash).unwrap_or(false);
                self.database.mark(&mut self.batch, schema::REMOVAL, key_hash, &at);
                self.counters.removals += u64::from(!is_marked);
            }
            self.database.put_state(&mut self.batch, key_hash, stored, now);
        }
        for (bucket, delta) in std::mem::take(&mut self.mended) {
            let digest = buckets.entry(bucket).or_insert_with(|| self.before.digest.get(bucket));
            *digest = digest.plus(delta);
        }
        for (bucket, digest) in &buckets {
            let change = digest.counts.minus(self.before.digest.get(*bucket).counts);
            self.counters.add(change);
            self.database.put_bucket(&mut self.batch, *bucket, *digest);
        }
        if self.is_unlogged {
            self.database.put_meta(&mut self.batch, UNLOGGED, &rand::random::<[u8; 8]>());
        }
        self.raised.buckets = buckets;
        for (origin, clock) in self.raised.vector.iter() {
            self.database.put_clock(&mut self.batch, origin, clock);
        }
        if self.batch.is_empty() {
            return None;
        }
        if self.counters != counters_before {
            self.database.put_totals(&mut self.batch, self.counters);
        }
        let conflicts = self.counters.conflicts.saturating_sub(counters_before.conflicts);
        self.tally.conflicts = conflicts;
        Some(std::mem::take(&mut self.batch))
    }
}

impl Tally {
    /// Records the counts, once the commit is durable.
    pub(super) fn record(&self) {
        let count = |name, value| {
            if value > 0 {
                metrics::counter!(name).increment(value);
            }
        };
        let labelled = |name: &'static str, label: &'static str, flag: &'static str, value| {
            if value > 0 {
                metrics::counter!(name, label => flag).increment(value);
            }
        };
        metrics::histogram!(names::COMMIT_OPERATIONS).record(self.operations as f64);
        labelled(names::CREATES, "expiring", "true", self.expiring_creates);
        labelled(names::CREATES, "expiring", "false", self.creates - self.expiring_creates);
        labelled(names::OPERATIONS, "kind", "invalidate", self.invalidates);
        labelled(names::OPERATIONS, "kind", "unpublish", self.unpublishes);
        labelled(names::OPERATIONS, "kind", "delete", self.deletes);
        labelled(names::DUPLICATE_KEYS, "values_equal", "true", self.duplicates_equal);
        labelled(names::DUPLICATE_KEYS, "values_equal", "false", self.duplicates_unequal);
        count(names::CONFLICTS, self.conflicts);
        count(names::QUARANTINED, self.quarantined);
        count(names::EXPIRED, self.expired);
        count(names::COMPACTED, self.compacted);
        count(names::COLLECTED, self.collected);
        count(names::FOLDED, self.folded);
    }
}
