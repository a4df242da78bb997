//! Everything that the store holds, or everything since some point, exactly as it was at one moment:
//! what a backup is made of.

use std::sync::PoisonError;

use bytes::Bytes;
use prost::Message;
use rocksdb::{IteratorMode, ReadOptions, SnapshotWithThreadMode};

use super::{
    database::{COLLECTED, Database, TOTALS, Totals, UNLOGGED, decode_collected, decode_totals, read_error},
    error::StoreError,
    handle::Store,
    inspect::keyed_state,
    schema,
};
use brock_core::{
    base::{
        id::{KeyHash, Origin},
        limits,
        vector::{Clock, Stamp, Vector},
    },
    domain::{
        codec::{self, CodecError, LogKey, QUARANTINED_STATE},
        digest::SetDigest,
        operation::Operation,
        record::RecordState,
    },
    proto,
};

/// One piece of a dump.
#[derive(Debug, Clone)]
pub enum DumpFrame {
    /// First: what the store held at the moment of the dump.
    Begin(Box<Dumped>),
    /// A page of records, in key order.
    Records(proto::RecordPage),
    /// A stretch of one origin's log, without payloads in a full dump.
    Log(proto::Batch),
}

/// What the store held at the moment of the dump.
#[derive(Debug, Clone)]
pub struct Dumped {
    /// What was applied; folded origins are not listed.
    pub vector: Vector,
    /// The folded origins.
    pub folds: Vector,
    /// How far the log was compacted.
    pub floors: Vector,
    /// Tombstones up to here may be missing.
    pub collected: Vector,
    /// Digest of the records.
    pub digest: SetDigest,
    /// Totals.
    pub totals: Totals,
    /// Another one whenever records have changed otherwise than by what the log gained: by a repair,
    /// a resync, a retry from quarantine. Then the log alone does not lead here from an earlier dump.
    pub unlogged: Vec<u8>,
}

impl Dumped {
    /// What was applied, folded origins included.
    pub fn applied(&self) -> Vector {
        let mut applied = self.vector.clone();
        applied.join(&self.folds);
        applied
    }

    /// Whether the log holds everything that was done since.
    fn check_reach(&self, since: &Since) -> Result<(), StoreError> {
        if self.unlogged != since.unlogged {
            return Err(StoreError::NotInLog);
        }
        let since = &since.applied;
        let gone = self.folds.iter().find(|(origin, clock)| since.get(origin) < *clock);
        let below = self.floors.iter().find(|(origin, floor)| since.get(origin) < *floor);
        match gone.or(below) {
            Some((origin, floor)) => Err(StoreError::BelowFloor { origin, floor }),
            None => Ok(()),
        }
    }
}

/// Where an earlier dump ended.
#[derive(Debug, Clone)]
pub struct Since {
    /// [`Dumped::applied`]
    pub applied: Vector,
    /// [`Dumped::unlogged`]
    pub unlogged: Vec<u8>,
}

type Snapshot<'a> = SnapshotWithThreadMode<'a, rocksdb::DB>;

impl Store {
    /// [`Dumped::unlogged`], as it is now.
    pub async fn unlogged(&self) -> Result<Vec<u8>, StoreError> {
        Ok(self.note(UNLOGGED).await?.unwrap_or_default())
    }

    /// What lies above this in the log is still to be backed up; `None` = nobody waits for it.
    pub fn keep_for_backup(&self, backed_up: Option<Vector>) {
        *self.shared.kept_for_backup.lock().unwrap_or_else(PoisonError::into_inner) = backed_up;
    }

    /// Of what may go from the log, what need not stay for the next backup. Where a lot waits, nobody
    /// goes on waiting.
    pub fn without_kept_for_backup(&self, stable: Vector) -> Vector {
        let kept = self.shared.kept_for_backup.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some(backed_up) if self.totals().log_bytes < limits::BACKUP_LOG_KEPT_BYTES => {
                stable.meet(backed_up)
            }
            _ => stable,
        }
    }

    /// Hands everything over, frame by frame, until `sink` says stop; with `since`, only what was
    /// done after that. Fails with [`StoreError::BelowFloor`] or [`StoreError::NotInLog`] where the log
    /// does not tell all of that. Blocks, also while files are being rewritten: for a thread of its own.
    pub fn dump(
        &self,
        since: Option<&Since>,
        mut sink: impl FnMut(DumpFrame) -> bool,
    ) -> Result<Option<Dumped>, StoreError> {
        let database = &self.shared.database;
        // Held to the end: what was deleted stays in the files that are rewritten while the snapshot
        // still sees it, and would then be taken for removed.
        let _one = database.without_snapshots();
        let snapshot = database.snapshot();
        let dumped = Dumped {
            vector: database.clocks_at(&snapshot, schema::CLOCK_VALUE)?,
            folds: database.clocks_at(&snapshot, schema::FOLDED)?,
            floors: database.clocks_at(&snapshot, schema::FLOOR)?,
            collected: database.collected_at(&snapshot)?,
            digest: database.digest_at(&snapshot)?,
            totals: database.totals_at(&snapshot)?,
            unlogged: database.meta_at(&snapshot, UNLOGGED)?.unwrap_or_default(),
        };
        if let Some(since) = since {
            dumped.check_reach(since)?;
        }
        let go_on = sink(DumpFrame::Begin(Box::new(dumped.clone())))
            && match since {
                None => database.dump_all(&snapshot, &dumped, &mut sink)?,
                Some(since) => database.dump_since(&snapshot, &dumped, &since.applied, &mut sink)?,
            };
        Ok(go_on.then_some(dumped))
    }
}

impl Database {
    fn clocks_at(&self, snapshot: &Snapshot<'_>, family: &'static str) -> Result<Vector, StoreError> {
        let mut vector = Vector::default();
        for item in snapshot.iterator_cf(self.family(family), IteratorMode::Start) {
            let (key, value) = item.map_err(read_error)?;
            let origin = Origin::try_from(key.as_ref()).map_err(|_| CodecError::Malformed("origin"))?;
            vector.raise(origin, codec::decode_clock(&value)?);
        }
        Ok(vector)
    }

    fn digest_at(&self, snapshot: &Snapshot<'_>) -> Result<SetDigest, StoreError> {
        let mut digest = SetDigest::default();
        for item in snapshot.iterator_cf(self.family(schema::DIGEST), IteratorMode::Start) {
            let (key, value) = item.map_err(read_error)?;
            let &[bucket] = key.as_ref() else { return Err(CodecError::Malformed("bucket").into()) };
            digest.set(bucket, codec::decode_bucket(&value)?);
        }
        Ok(digest)
    }

    fn collected_at(&self, snapshot: &Snapshot<'_>) -> Result<Vector, StoreError> {
        self.meta_at(snapshot, COLLECTED)?.map_or(Ok(Vector::default()), |value| decode_collected(&value))
    }

    fn totals_at(&self, snapshot: &Snapshot<'_>) -> Result<Totals, StoreError> {
        self.meta_at(snapshot, TOTALS)?.map_or(Ok(Totals::default()), |value| decode_totals(&value))
    }

    fn meta_at(&self, snapshot: &Snapshot<'_>, name: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let value = snapshot.get_cf(self.family(schema::META), name).map_err(read_error)?;
        let Some(value) = value else { return Ok(None) };
        Ok(Some(codec::unversioned("meta value", &value)?.to_vec()))
    }

    fn quarantined_at(
        &self,
        snapshot: &Snapshot<'_>,
        stamp: Stamp,
    ) -> Result<Option<proto::Entry>, StoreError> {
        let value = snapshot.get_cf(self.family(schema::QUARANTINE), codec::stamp_key(stamp));
        let Some(value) = value.map_err(read_error)? else { return Ok(None) };
        let body = codec::unversioned("quarantined entry", &value)?;
        let kept = proto::QuarantinedEntry::decode(body);
        Ok(kept.map_err(|_| CodecError::Malformed("quarantined entry"))?.entry)
    }

    fn dump_all(
        &self,
        snapshot: &Snapshot<'_>,
        dumped: &Dumped,
        sink: &mut impl FnMut(DumpFrame) -> bool,
    ) -> Result<bool, StoreError> {
        let (mut records, mut bytes) = (Vec::new(), 0);
        let collected = (!dumped.collected.is_empty()).then(|| codec::vector_to_proto(&dumped.collected));
        let page = |records: &mut Vec<proto::KeyedState>, through: KeyHash| {
            let through = Bytes::copy_from_slice(&through.0);
            proto::RecordPage { records: std::mem::take(records), through, collected: collected.clone() }
        };
        let family = self.family(schema::RECORD);
        let mut digest = SetDigest::default();
        for item in snapshot.iterator_cf_opt(family, once_through(), IteratorMode::Start) {
            let (key, value) = item.map_err(read_error)?;
            let key_hash =
                KeyHash::try_from(key.as_ref()).map_err(|_| CodecError::Malformed("record key"))?;
            bytes += key.len() + value.len();
            let state = codec::decode_state(value.into_vec().into())?;
            let mut bucket = digest.get(SetDigest::bucket_of(&key_hash));
            bucket.replace(&key_hash, None, Some(&state));
            digest.set(SetDigest::bucket_of(&key_hash), bucket);
            records.push(keyed_state(key_hash, &state));
            if records.len() >= limits::PAGE_RECORDS || bytes >= limits::BATCH_MAX_BYTES {
                bytes = 0;
                if !sink(DumpFrame::Records(page(&mut records, key_hash))) {
                    return Ok(false);
                }
            }
        }
        if digest != dumped.digest {
            // What was written would be refused when it is restored. The scrubber mends it.
            return Err(CodecError::Malformed("set of records: it is not what was written").into());
        }
        if !sink(DumpFrame::Records(page(&mut records, KeyHash([0xff; 32])))) {
            return Ok(false);
        }
        for (origin, through) in dumped.vector.iter() {
            let after = dumped.floors.get(&origin);
            if !self.dump_log(snapshot, (origin, after, through), false, sink)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn dump_since(
        &self,
        snapshot: &Snapshot<'_>,
        dumped: &Dumped,
        since: &Vector,
        sink: &mut impl FnMut(DumpFrame) -> bool,
    ) -> Result<bool, StoreError> {
        for (origin, through) in dumped.vector.iter() {
            if !self.dump_log(snapshot, (origin, since.get(&origin), through), true, sink)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn dump_log(
        &self,
        snapshot: &Snapshot<'_>,
        (origin, after, through): (Origin, Clock, Clock),
        with_payloads: bool,
        sink: &mut impl FnMut(DumpFrame) -> bool,
    ) -> Result<bool, StoreError> {
        let mut options = once_through();
        options.set_iterate_lower_bound(codec::stamp_key(Stamp { origin, clock: after.next() }));
        options.set_iterate_upper_bound(codec::stamp_key(Stamp { origin, clock: through.next() }));
        let begin = |after: u64| proto::Batch {
            origin: Bytes::copy_from_slice(origin.as_bytes()),
            after,
            covered_through: after,
            entries: Vec::new(),
            ages_ms: Vec::new(),
        };
        let (mut batch, mut bytes) = (begin(after.0), 0);
        let family = self.family(schema::REPLICATION_LOG);
        for item in snapshot.iterator_cf_opt(family, options, IteratorMode::Start) {
            let (key, value) = item.map_err(read_error)?;
            let entry = self.dump_entry(snapshot, LogKey::decode(&key)?, value.into_vec(), with_payloads)?;
            let size = entry.operation.len() + entry.payload.as_ref().map_or(0, Bytes::len) + LogKey::BYTES;
            if !batch.entries.is_empty()
                && (bytes + size > limits::BATCH_MAX_BYTES
                    || batch.entries.len() >= limits::BATCH_ENTRIES_MAX)
            {
                let next = begin(batch.covered_through);
                if !sink(DumpFrame::Log(std::mem::replace(&mut batch, next))) {
                    return Ok(false);
                }
                bytes = 0;
            }
            bytes += size;
            batch.covered_through = entry.clock;
            batch.entries.push(entry);
        }
        if batch.after < through.0 {
            batch.covered_through = through.0;
            return Ok(sink(DumpFrame::Log(batch)));
        }
        Ok(true)
    }

    fn dump_entry(
        &self,
        snapshot: &Snapshot<'_>,
        key: LogKey,
        value: Vec<u8>,
        with_payload: bool,
    ) -> Result<proto::Entry, StoreError> {
        let (_, operation) = codec::decode_log_value(value.into())?;
        if key.state == QUARANTINED_STATE
            && let Some(kept) = self.quarantined_at(snapshot, key.stamp)?
        {
            return Ok(kept);
        }
        let payload = match Operation::decode(&operation) {
            Ok(Operation::Create { digest, .. }) if with_payload => {
                let state =
                    snapshot.get_cf(self.family(schema::RECORD), key.key_hash.0).map_err(read_error)?;
                let state = state.map(|value| codec::decode_state(value.into())).transpose()?;
                state
                    .and_then(|state: RecordState| state.creation)
                    .filter(|creation| creation.digest == digest)
                    .and_then(|creation| creation.payload)
            }
            _ => None,
        };
        Ok(proto::Entry {
            clock: key.stamp.clock.0,
            key_hash: Bytes::copy_from_slice(&key.key_hash.0),
            operation,
            payload,
        })
    }
}

/// A pass over everything must not push out of the cache what is used.
fn once_through() -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_readahead_size(1024 * 1024);
    options.fill_cache(false);
    options
}
