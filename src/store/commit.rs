//! Building one group commit: every change of a batch sees the ones before it.

use std::collections::HashMap;

use bytes::Bytes;
use rocksdb::WriteBatch;

use super::{
    database::{Counters, Database},
    error::StoreError,
    handle::{CreateOutcome, NewRecord},
};
use crate::{
    domain::{
        codec::{LogKey, QUARANTINED_STATE},
        operation::Operation,
        record::{RecordState, UnixSeconds},
        segment::{Segment, SegmentEntry},
    },
    ground::{
        clock::{Clock, Stamp, Vector},
        id::{KeyHash, Origin, sha256},
        limits, metrics as names,
    },
    proto,
};

/// A group commit in the making. Dropping it changes nothing.
pub(super) struct Commit<'a> {
    database: &'a Database,
    batch: WriteBatch,
    records: HashMap<KeyHash, Touched>,
    /// Origins that this commit raises, to where.
    pub raised: Vector,
    pub counters: Counters,
    pub tally: Tally,
}

/// What a commit did, for the metrics: counted only once it is durable.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub operations: u64,
    pub creates: u64,
    pub expiring_creates: u64,
    pub duplicates_equal: u64,
    pub duplicates_unequal: u64,
    pub conflicts: u64,
    pub quarantined: u64,
    pub expired: u64,
}

struct Touched {
    stored: Option<RecordState>,
    now: Option<RecordState>,
    changed: bool,
}

impl<'a> Commit<'a> {
    /// Begins a commit on top of what the database holds.
    pub(super) fn new(database: &'a Database, counters: Counters) -> Self {
        Self {
            database,
            batch: WriteBatch::default(),
            records: HashMap::new(),
            raised: Vector::default(),
            counters,
            tally: Tally::default(),
        }
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

    fn state(&self, key_hash: &KeyHash) -> Option<&RecordState> {
        self.records.get(key_hash).and_then(|touched| touched.now.as_ref())
    }

    fn merge(&mut self, key_hash: KeyHash, with: RecordState) {
        // `load` has put every key hash of the group there.
        if let Some(touched) = self.records.get_mut(&key_hash) {
            let joined = touched.now.take().unwrap_or_default().join(with);
            touched.now = Some(joined);
            touched.changed = true;
        }
    }

    /// A create by a client of this node: record, log entry, clock and indexes, or a refusal that
    /// changes nothing and does not advance the clock.
    pub(super) fn create(&mut self, origin: Origin, clock: &mut Clock, record: NewRecord) -> CreateOutcome {
        let digest = sha256(&record.payload);
        // An expiry without a creation is what remains of an expired record.
        if let Some(state) = self.state(&record.key_hash)
            && (state.creation.is_some() || state.deletion.is_some() || state.expires_at.is_some())
        {
            let values_equal = state.creation.as_ref().is_some_and(|creation| creation.digest == digest);
            *(if values_equal {
                &mut self.tally.duplicates_equal
            } else {
                &mut self.tally.duplicates_unequal
            }) += 1;
            return CreateOutcome::Exists;
        }
        *clock = clock.next();
        let stamp = Stamp { origin, clock: *clock };
        let NewRecord { key_hash, created_at, expires_at, public, payload } = record;
        let operation = Operation::Create { created_at, expires_at, public, digest };
        self.log(stamp, key_hash, &operation, &operation.encode());
        self.merge(key_hash, operation.state(stamp, Some(payload)));
        self.raised.raise(origin, stamp.clock);
        self.tally.creates += 1;
        self.tally.expiring_creates += u64::from(expires_at.is_some());
        CreateOutcome::Created(stamp)
    }

    fn log(&mut self, stamp: Stamp, key_hash: KeyHash, operation: &Operation, encoded: &[u8]) {
        let state = operation.resulting_state().into();
        self.database.put_log(&mut self.batch, LogKey { stamp, key_hash, state }, encoded);
        self.tally.operations += 1;
    }

    /// Operations of another origin, from a peer. Idempotent: what is applied is skipped.
    ///
    /// Contract: log entries, record states and the origin's clock become durable together; an
    /// entry that cannot be applied is set aside and never blocks the ones after it.
    pub(super) fn apply(
        &mut self,
        applied: Clock,
        segment: Segment,
        now: UnixSeconds,
        expired_before: UnixSeconds,
    ) -> Result<(), StoreError> {
        let applied = applied.max(self.raised.get(&segment.origin));
        if segment.after > applied {
            return Err(StoreError::Gap { origin: segment.origin, after: segment.after, applied });
        }
        let fresh = |entry: &SegmentEntry| entry.clock() > applied;
        let aside =
            segment.entries.iter().filter(|e| fresh(e) && matches!(e, SegmentEntry::Quarantined(..))).count();
        if self.counters.quarantined + aside as u64 > limits::QUARANTINE_MAX {
            return Err(StoreError::QuarantineFull);
        }
        for entry in segment.entries {
            let stamp = Stamp { origin: segment.origin, clock: entry.clock() };
            if stamp.clock <= applied {
                continue;
            }
            match entry {
                SegmentEntry::Applicable(entry, payload) => {
                    self.log(stamp, entry.key_hash, &entry.operation, &entry.encoded);
                    self.apply_operation(stamp, entry.key_hash, &entry.operation, payload, expired_before);
                }
                SegmentEntry::Quarantined(entry, reason) => {
                    self.set_aside(stamp, entry, reason.to_string(), now);
                }
            }
        }
        self.raised.raise(segment.origin, segment.covered_through);
        Ok(())
    }

    fn apply_operation(
        &mut self,
        stamp: Stamp,
        key_hash: KeyHash,
        operation: &Operation,
        payload: Option<Bytes>,
        expired_before: UnixSeconds,
    ) {
        let change = operation.state(stamp, payload);
        if self.state(&key_hash).is_some_and(|known| known.conflicts_with(&change)) {
            self.counters.conflicts += 1;
            self.tally.conflicts += 1;
        }
        self.merge(key_hash, change);
        if let Some(touched) = self.records.get_mut(&key_hash)
            && let Some(state) = touched.now.as_mut().filter(|state| state.is_expired(expired_before))
        {
            // It would only be swept again.
            *state = state.remnant();
        }
    }

    fn set_aside(&mut self, stamp: Stamp, entry: proto::Entry, reason: String, now: UnixSeconds) {
        // In the log too, so that it is relayed in its place: another node may understand it.
        let key_hash = KeyHash::try_from(entry.key_hash.as_ref()).unwrap_or(KeyHash([0; 32]));
        self.database.put_log(&mut self.batch, LogKey { stamp, key_hash, state: QUARANTINED_STATE }, &[]);
        let quarantined = proto::QuarantinedEntry { entry: Some(entry), reason, at_unix: now };
        self.database.put_quarantined(&mut self.batch, stamp, &quarantined);
        self.counters.quarantined += 1;
        self.tally.quarantined += 1;
        self.tally.operations += 1;
    }

    /// Removes what expired at or before `expired_before`. Returns how many index entries it dealt with.
    pub(super) fn sweep(&mut self, expired_before: UnixSeconds, limit: usize) -> Result<usize, StoreError> {
        let due = self.database.due(expired_before, limit)?;
        self.load(due.iter().map(|(_, key_hash)| *key_hash).collect())?;
        for (at, key_hash) in &due {
            let Some(touched) = self.records.get_mut(key_hash) else { continue };
            match &touched.now {
                Some(state) if state.is_expired(expired_before) && state.due_at().is_some() => {
                    touched.now = Some(state.remnant());
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
        let counters_before = self.counters;
        for (key_hash, touched) in self.records.iter().filter(|(_, touched)| touched.changed) {
            let Some(now) = &touched.now else { continue };
            let was_counted = touched.stored.as_ref().is_some_and(|stored| stored.creation.is_some());
            match (was_counted, now.creation.is_some()) {
                (false, true) => self.counters.records += 1,
                (true, false) => self.counters.records = self.counters.records.saturating_sub(1),
                _ => {}
            }
            self.database.put_state(&mut self.batch, key_hash, touched.stored.as_ref(), now);
        }
        for (origin, clock) in self.raised.iter() {
            self.database.put_clock(&mut self.batch, origin, clock);
        }
        if self.batch.is_empty() {
            return None;
        }
        if self.counters != counters_before || self.tally.conflicts + self.tally.quarantined > 0 {
            self.database.put_counters(&mut self.batch, self.counters);
        }
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
        labelled(names::DUPLICATE_KEYS, "values_equal", "true", self.duplicates_equal);
        labelled(names::DUPLICATE_KEYS, "values_equal", "false", self.duplicates_unequal);
        count(names::CONFLICTS, self.conflicts);
        count(names::QUARANTINED, self.quarantined);
        count(names::EXPIRED, self.expired);
    }
}
