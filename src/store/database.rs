//! A thin, typed layer on RocksDB: what is read and written, in the domain's words.

use std::{
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use prost::Message;
use rocksdb::{
    BottommostLevelCompaction, ColumnFamily, CompactOptions, DB, Direction, Env, ErrorKind, IteratorMode,
    ReadOptions, ReadTier, WriteBatch, WriteOptions,
};

use super::{error::StoreError, schema};
use brock_core::{
    base::{
        id::{KeyHash, Origin},
        limits,
        vector::{Clock, Stamp, Vector},
    },
    domain::{
        codec::{self, CodecError, LogKey},
        digest::{Bucket, Counts, SetDigest},
        record::{RecordState, UnixSeconds},
    },
    proto,
};

pub(super) const TOTALS: &[u8] = b"counters";
pub(super) const COLLECTED: &[u8] = b"collected";
pub(super) const UNLOGGED: &[u8] = b"unlogged";

/// Totals that are kept in the same batch as what they count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Records that are not deleted.
    pub records: u64,
    /// Entries in quarantine.
    pub quarantined: u64,
    /// Payloads that lost against another one of the same key hash.
    pub conflicts: u64,
    /// Deleted records that are remembered.
    pub tombstones: u64,
    /// Entries in the replication log.
    pub log_entries: u64,
    /// Bytes of their keys and values.
    pub log_bytes: u64,
    /// Payloads that are gone but may still be in some file.
    pub removals: u64,
}

impl Totals {
    /// Adds what changed in a bucket.
    pub(super) fn add(&mut self, change: Counts) {
        self.records = self.records.wrapping_add(change.records);
        self.tombstones = self.tombstones.wrapping_add(change.tombstones);
        self.conflicts = self.conflicts.wrapping_add(change.conflicts);
    }

    pub(super) fn fields(self) -> [u64; 7] {
        let Self { records, quarantined, conflicts, tombstones, log_entries, log_bytes, removals } = self;
        [records, quarantined, conflicts, tombstones, log_entries, log_bytes, removals]
    }
}

/// One entry of the replication log, as it is stored.
#[derive(Debug, Clone)]
pub(super) struct Logged {
    pub key: LogKey,
    /// When it was applied here, in milliseconds; 0 = not known.
    pub applied_unix_ms: u64,
    /// As its origin wrote it.
    pub operation: Bytes,
}

impl Logged {
    /// The bytes of its key and value.
    pub(super) fn bytes(&self) -> u64 {
        (LogKey::BYTES + codec::LOG_VALUE_HEAD_BYTES + self.operation.len()) as u64
    }
}

/// How a write failed.
#[derive(Debug)]
pub(super) enum WriteFailure {
    /// It may succeed when tried again.
    Passing(String),
    /// The disk is full.
    NoSpace,
    /// It must not be tried again: what is on disk is not known.
    Fatal(String),
}

pub(super) struct Database {
    db: DB,
    /// RocksDB cannot sync a write-ahead log that is no file.
    is_in_ram: bool,
    cached_only: ReadOptions,
    write: WriteOptions,
    /// Held while there is a snapshot: what it sees stays in the files that are rewritten meanwhile.
    snapshots: Mutex<()>,
}

impl Database {
    pub(super) fn open(path: &Path, sizes: schema::Sizes, env: Option<&Env>) -> Result<Self, rocksdb::Error> {
        let db = schema::open(path, sizes, env)?;
        let mut cached_only = ReadOptions::default();
        cached_only.set_read_tier(ReadTier::BlockCache);
        let mut write = WriteOptions::default();
        write.set_sync(true);
        Ok(Self { db, is_in_ram: env.is_some(), cached_only, write, snapshots: Mutex::new(()) })
    }

    pub(super) fn family(&self, name: &'static str) -> &ColumnFamily {
        // Every family is created by `schema::open`, so its absence is a defect of this program.
        #[expect(clippy::expect_used, reason = "the families are opened by name just before")]
        self.db.cf_handle(name).expect("every column family is open")
    }

    pub(super) fn meta(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let value = self.db.get_cf(self.family(schema::META), key).map_err(read_error)?;
        value.map(|value| Ok(codec::unversioned("meta value", &value)?.to_vec())).transpose()
    }

    pub(super) fn totals(&self) -> Result<Totals, StoreError> {
        self.meta(TOTALS)?.map_or(Ok(Totals::default()), |value| decode_totals(&value))
    }

    /// What is applied, by origin.
    pub(super) fn vector(&self) -> Result<Vector, StoreError> {
        self.clocks(schema::CLOCK_VALUE)
    }

    /// How far the log is compacted, by origin.
    pub(super) fn floors(&self) -> Result<Vector, StoreError> {
        self.clocks(schema::FLOOR)
    }

    /// Finished origins that are not listed in vectors any more.
    pub(super) fn folds(&self) -> Result<Vector, StoreError> {
        self.clocks(schema::FOLDED)
    }

    /// Tombstones up to here may have been collected; empty = none ever was.
    pub(super) fn collected(&self) -> Result<Vector, StoreError> {
        self.meta(COLLECTED)?.map_or(Ok(Vector::default()), |value| decode_collected(&value))
    }

    fn clocks(&self, family: &'static str) -> Result<Vector, StoreError> {
        let mut vector = Vector::default();
        for item in self.db.iterator_cf(self.family(family), IteratorMode::Start) {
            let (key, value) = item.map_err(read_error)?;
            let origin = Origin::try_from(key.as_ref()).map_err(|_| CodecError::Malformed("origin"))?;
            vector.raise(origin, codec::decode_clock(&value)?);
        }
        Ok(vector)
    }

    /// `Ok(None)`: answering would need the disk.
    pub(super) fn cached_state(&self, key_hash: &KeyHash) -> Result<Option<Option<RecordState>>, StoreError> {
        match self.db.get_cf_opt(self.family(schema::RECORD), key_hash.0, &self.cached_only) {
            Ok(value) => value.map(decode_record).transpose().map(Some),
            Err(error) if error.kind() == ErrorKind::Incomplete => Ok(None),
            Err(error) => Err(read_error(error)),
        }
    }

    pub(super) fn state(&self, key_hash: &KeyHash) -> Result<Option<RecordState>, StoreError> {
        let value = self.db.get_cf(self.family(schema::RECORD), key_hash.0).map_err(read_error)?;
        value.map(decode_record).transpose()
    }

    pub(super) fn states(&self, key_hashes: &[KeyHash]) -> Vec<Result<Option<RecordState>, StoreError>> {
        let keys = key_hashes.iter().map(|key_hash| &key_hash.0);
        let values = self.db.batched_multi_get_cf(self.family(schema::RECORD), keys, false);
        let decode = |value: Result<Option<rocksdb::DBPinnableSlice<'_>>, rocksdb::Error>| match value {
            Ok(value) => value.map(|value| decode_record(value.to_vec())).transpose(),
            Err(error) => Err(read_error(error)),
        };
        values.into_iter().map(decode).collect()
    }

    /// Everything as it is at this moment, for as long as it is held.
    pub(super) fn snapshot(&self) -> rocksdb::SnapshotWithThreadMode<'_, DB> {
        self.db.snapshot()
    }

    /// Log entries of one origin with `after < clock ≤ through`, in clock order, until `visit` says stop.
    pub(super) fn scan_log(
        &self,
        origin: Origin,
        after: Clock,
        through: Clock,
        visit: impl FnMut(Logged) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        let mut options = ReadOptions::default();
        let (from, to) = (Stamp { origin, clock: after.next() }, Stamp { origin, clock: through.next() });
        options.set_iterate_lower_bound(codec::stamp_key(from));
        options.set_iterate_upper_bound(codec::stamp_key(to));
        self.scan_log_range(options, visit)
    }

    /// The whole log, in order of origin and clock.
    pub(super) fn scan_whole_log(
        &self,
        visit: impl FnMut(Logged) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        self.scan_log_range(ReadOptions::default(), visit)
    }

    fn scan_log_range(
        &self,
        mut options: ReadOptions,
        mut visit: impl FnMut(Logged) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        options.set_readahead_size(256 * 1024);
        let family = self.family(schema::REPLICATION_LOG);
        for item in self.db.iterator_cf_opt(family, options, IteratorMode::Start) {
            let (key, value) = item.map_err(read_error)?;
            let (applied_unix_ms, operation) = codec::decode_log_value(Bytes::from(value.into_vec()))?;
            if !visit(Logged { key: LogKey::decode(&key)?, applied_unix_ms, operation })? {
                break;
            }
        }
        Ok(())
    }

    /// Whether the log has this entry.
    pub(super) fn has_log(&self, key: LogKey) -> Result<bool, StoreError> {
        let found = self.db.get_pinned_cf(self.family(schema::REPLICATION_LOG), key.encode());
        Ok(found.map_err(read_error)?.is_some())
    }

    /// Records whose key hash is above `after` and at most `through`, in key order, with the size of
    /// each on disk, until `visit` says stop.
    pub(super) fn scan_records(
        &self,
        after: Option<&KeyHash>,
        through: Option<&KeyHash>,
        mut visit: impl FnMut(KeyHash, RecordState, usize) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        let mut options = ReadOptions::default();
        options.set_readahead_size(256 * 1024);
        // The next key in byte order has one zero byte more.
        let next = |key_hash: &KeyHash| [key_hash.0.as_slice(), &[0]].concat();
        if let Some(after) = after {
            options.set_iterate_lower_bound(next(after));
        }
        if let Some(through) = through {
            options.set_iterate_upper_bound(next(through));
        }
        for item in self.db.iterator_cf_opt(self.family(schema::RECORD), options, IteratorMode::Start) {
            let (key, value) = item.map_err(read_error)?;
            let key_hash =
                KeyHash::try_from(key.as_ref()).map_err(|_| CodecError::Malformed("record key"))?;
            let size = key.len() + value.len();
            if !visit(key_hash, decode_record(value.into_vec())?, size)? {
                break;
            }
        }
        Ok(())
    }

    /// The digests of the record set.
    pub(super) fn digest(&self) -> Result<SetDigest, StoreError> {
        let mut digest = SetDigest::default();
        for item in self.db.iterator_cf(self.family(schema::DIGEST), IteratorMode::Start) {
            let (key, value) = item.map_err(read_error)?;
            let &[bucket] = key.as_ref() else { return Err(CodecError::Malformed("bucket").into()) };
            digest.set(bucket, codec::decode_bucket(&value)?);
        }
        Ok(digest)
    }

    /// A bucket as it was written, and as its records make it, both at one moment.
    pub(super) fn compare_bucket(&self, bucket: u8) -> Result<(Bucket, Bucket), StoreError> {
        let _one = self.without_snapshots();
        let snapshot = self.db.snapshot();
        let written = snapshot.get_cf(self.family(schema::DIGEST), [bucket]).map_err(read_error)?;
        let written = written.map(|value| codec::decode_bucket(&value)).transpose()?.unwrap_or_default();
        let mut options = ReadOptions::default();
        options.set_readahead_size(256 * 1024);
        // A pass over everything must not push out what is used.
        options.fill_cache(false);
        options.set_iterate_lower_bound([bucket]);
        if let Some(next) = bucket.checked_add(1) {
            options.set_iterate_upper_bound([next]);
        }
        let mut found = Bucket::default();
        for item in snapshot.iterator_cf_opt(self.family(schema::RECORD), options, IteratorMode::Start) {
            let (key, value) = item.map_err(read_error)?;
            let key_hash =
                KeyHash::try_from(key.as_ref()).map_err(|_| CodecError::Malformed("record key"))?;
            found.replace(&key_hash, None, Some(&decode_record(value.into_vec())?));
        }
        Ok((written, found))
    }

    /// Waits until there is no snapshot, and keeps others from being made.
    pub(super) fn without_snapshots(&self) -> MutexGuard<'_, ()> {
        self.snapshots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is remembered of the members.
    pub(super) fn members(&self) -> Result<Vec<proto::MemberState>, StoreError> {
        let mut members = Vec::new();
        for item in self.db.iterator_cf(self.family(schema::MEMBER), IteratorMode::Start) {
            let (_, value) = item.map_err(read_error)?;
            let body = codec::unversioned("member", &value)?;
            members.push(proto::MemberState::decode(body).map_err(|_| CodecError::Malformed("member"))?);
        }
        Ok(members)
    }

    /// Up to `limit` key hashes above `after` in one of the families that are keyed by them, with
    /// their values.
    pub(super) fn keyed(
        &self,
        family: &'static str,
        after: Option<&KeyHash>,
        limit: usize,
    ) -> Result<Vec<(KeyHash, Vec<u8>)>, StoreError> {
        let mut options = ReadOptions::default();
        if let Some(after) = after {
            options.set_iterate_lower_bound([after.0.as_slice(), &[0]].concat());
        }
        let mut found = Vec::new();
        for item in self.db.iterator_cf_opt(self.family(family), options, IteratorMode::Start).take(limit) {
            let (key, value) = item.map_err(read_error)?;
            let key_hash = KeyHash::try_from(key.as_ref()).map_err(|_| CodecError::Malformed("key hash"))?;
            found.push((key_hash, value.into_vec()));
        }
        Ok(found)
    }

    /// The value of a key hash in one of those families.
    pub(super) fn marked(
        &self,
        family: &'static str,
        key_hash: &KeyHash,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        self.db.get_cf(self.family(family), key_hash.0).map_err(read_error)
    }

    /// Whether the key hash is in one of those families.
    pub(super) fn is_in(&self, family: &'static str, key_hash: &KeyHash) -> Result<bool, StoreError> {
        Ok(self.db.get_pinned_cf(self.family(family), key_hash.0).map_err(read_error)?.is_some())
    }

    /// Up to `limit` quarantined entries above `after`.
    pub(super) fn quarantine(
        &self,
        after: Option<Stamp>,
        limit: usize,
    ) -> Result<Vec<(Stamp, proto::QuarantinedEntry)>, StoreError> {
        let mut options = ReadOptions::default();
        if let Some(Stamp { origin, clock }) = after {
            options.set_iterate_lower_bound(codec::stamp_key(Stamp { origin, clock: clock.next() }));
        }
        let mut found = Vec::new();
        let family = self.family(schema::QUARANTINE);
        for item in self.db.iterator_cf_opt(family, options, IteratorMode::Start).take(limit) {
            let (key, value) = item.map_err(read_error)?;
            let stamp = codec::decode_stamp_key(&key)?;
            let body = Bytes::copy_from_slice(codec::unversioned("quarantined entry", &value)?);
            let entry = proto::QuarantinedEntry::decode(body)
                .map_err(|_| CodecError::Malformed("quarantined entry"))?;
            found.push((stamp, entry));
        }
        Ok(found)
    }

    pub(super) fn quarantined(&self, stamp: Stamp) -> Result<Option<proto::QuarantinedEntry>, StoreError> {
        let value =
            self.db.get_cf(self.family(schema::QUARANTINE), codec::stamp_key(stamp)).map_err(read_error)?;
        let Some(value) = value else { return Ok(None) };
        let body = Bytes::copy_from_slice(codec::unversioned("quarantined entry", &value)?);
        Ok(Some(
            proto::QuarantinedEntry::decode(body).map_err(|_| CodecError::Malformed("quarantined entry"))?,
        ))
    }

    /// Up to `limit` entries of the expiry index that are due at `now`, earliest first.
    pub(super) fn due(
        &self,
        now: UnixSeconds,
        limit: usize,
    ) -> Result<Vec<(UnixSeconds, KeyHash)>, StoreError> {
        let mut due = Vec::new();
        for item in
            self.db.iterator_cf(self.family(schema::EXPIRY), IteratorMode::From(&[], Direction::Forward))
        {
            let (key, _) = item.map_err(read_error)?;
            let (at, key_hash) = codec::decode_expiry_key(&key)?;
            if at > now || due.len() == limit {
                break;
            }
            due.push((at, key_hash));
        }
        Ok(due)
    }

    /// Writes the whole batch or nothing, and returns after it is on disk.
    pub(super) fn write(&self, batch: &WriteBatch) -> Result<(), WriteFailure> {
        // RocksDB takes the batch away; the caller keeps it, for another try.
        self.db.write_opt(WriteBatch::from_data(batch.data()), &self.write).map_err(|error| {
            let message = error.to_string();
            match error.kind() {
                ErrorKind::Busy | ErrorKind::TryAgain | ErrorKind::TimedOut | ErrorKind::Incomplete => {
                    WriteFailure::Passing(message)
                }
                ErrorKind::IOError if message.to_ascii_lowercase().contains("no space") => {
                    WriteFailure::NoSpace
                }
                _ => WriteFailure::Fatal(message),
            }
        })
    }

    pub(super) fn flush(&self) -> Result<(), String> {
        self.db.flush_wal(!self.is_in_ram).map_err(|error| error.to_string())?;
        schema::FAMILIES
            .iter()
            .try_for_each(|name| self.db.flush_cf(self.family(name)).map_err(|error| error.to_string()))
    }

    /// Rewrites the files that may hold older values of these records, so that only the present
    /// ones are left. What is in memory or in the write-ahead log only must be flushed before.
    pub(super) fn rewrite_records(&self, key_hashes: &[KeyHash]) {
        let mut options = CompactOptions::default();
        options.set_exclusive_manual_compaction(false);
        options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        let family = self.family(schema::RECORD);
        if key_hashes.len() > limits::REMOVALS_ONE_BY_ONE {
            self.db.compact_range_cf_opt(family, None::<&[u8]>, None::<&[u8]>, &options);
            return;
        }
        for key_hash in key_hashes {
            self.db.compact_range_cf_opt(family, Some(key_hash.0), Some(key_hash.0), &options);
        }
    }

    /// Gives the space of the log's deleted entries back.
    pub(super) fn rewrite_log(&self) {
        let mut options = CompactOptions::default();
        options.set_exclusive_manual_compaction(false);
        let family = self.family(schema::REPLICATION_LOG);
        self.db.compact_range_cf_opt(family, None::<&[u8]>, None::<&[u8]>, &options);
    }

    pub(super) fn property(&self, name: &rocksdb::properties::PropName) -> u64 {
        let families = [schema::RECORD, schema::REPLICATION_LOG, schema::EXPIRY];
        families.into_iter().map(|family| self.figure(family, name)).sum()
    }

    /// A number that the engine tells of one family; 0 if it does not.
    pub(super) fn figure(&self, family: &'static str, name: &rocksdb::properties::PropName) -> u64 {
        self.db.property_int_value_cf(self.family(family), name).ok().flatten().unwrap_or(0)
    }

    /// What the engine tells of one family.
    pub(super) fn text(&self, family: &'static str, name: &rocksdb::properties::PropName) -> Option<String> {
        self.db.property_value_cf(self.family(family), name).ok().flatten()
    }

    pub(super) fn cache_bytes(&self) -> u64 {
        self.figure(schema::RECORD, rocksdb::properties::BLOCK_CACHE_USAGE)
    }
}

pub(super) fn decode_collected(value: &[u8]) -> Result<Vector, StoreError> {
    let vector = proto::Vector::decode(value).map_err(|_| CodecError::Malformed("collected vector"))?;
    Ok(codec::vector_from_proto(&vector)?)
}

pub(super) fn decode_totals(value: &[u8]) -> Result<Totals, StoreError> {
    let mut numbers =
        value.chunks_exact(8).map(|bytes| u64::from_be_bytes(bytes.try_into().unwrap_or_default()));
    let mut next = || numbers.next().ok_or(CodecError::Malformed("counters"));
    Ok(Totals {
        records: next()?,
        quarantined: next()?,
        conflicts: next()?,
        tombstones: next()?,
        log_entries: next()?,
        log_bytes: next()?,
        removals: next()?,
    })
}

fn decode_record(value: Vec<u8>) -> Result<RecordState, StoreError> {
    Ok(codec::decode_state(value.into())?)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(super) fn read_error(error: rocksdb::Error) -> StoreError {
    StoreError::Read(error.to_string())
}
