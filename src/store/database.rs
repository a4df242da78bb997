//! A thin, typed layer on RocksDB: what is read and written, in the domain's words.

use std::path::Path;

use bytes::Bytes;
use prost::Message;
use rocksdb::{
    ColumnFamily, DB, Direction, Env, ErrorKind, IteratorMode, ReadOptions, ReadTier, WriteBatch,
    WriteOptions,
};

use super::{error::StoreError, schema};
use crate::{
    domain::{
        codec::{self, CodecError, LogKey},
        record::{RecordState, UnixSeconds},
    },
    ground::{
        clock::{Clock, Stamp, Vector},
        id::{KeyHash, Origin},
    },
    proto,
};

const COUNTERS: &[u8] = b"counters";

/// Totals that are kept in the same batch as what they count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counters {
    /// Records that are not deleted.
    pub records: u64,
    /// Entries in quarantine.
    pub quarantined: u64,
    /// Creates that lost against another payload, or replaced one.
    pub conflicts: u64,
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
    cached_only: ReadOptions,
    write: WriteOptions,
}

impl Database {
    pub(super) fn open(path: &Path, cache_bytes: usize, env: Option<&Env>) -> Result<Self, rocksdb::Error> {
        let db = schema::open(path, cache_bytes, env)?;
        let mut cached_only = ReadOptions::default();
        cached_only.set_read_tier(ReadTier::BlockCache);
        let mut write = WriteOptions::default();
        write.set_sync(true);
        Ok(Self { db, cached_only, write })
    }

    fn family(&self, name: &'static str) -> &ColumnFamily {
        // Every family is created by `schema::open`, so its absence is a defect of this program.
        #[expect(clippy::expect_used, reason = "the families are opened by name just before")]
        self.db.cf_handle(name).expect("every column family is open")
    }

    pub(super) fn meta(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let value = self.db.get_cf(self.family(schema::META), key).map_err(read_error)?;
        value.map(|value| Ok(codec::unversioned("meta value", &value)?.to_vec())).transpose()
    }

    pub(super) fn counters(&self) -> Result<Counters, StoreError> {
        let Some(value) = self.meta(COUNTERS)? else { return Ok(Counters::default()) };
        let mut numbers =
            value.chunks_exact(8).map(|bytes| u64::from_be_bytes(bytes.try_into().unwrap_or_default()));
        let mut next = || numbers.next().ok_or(CodecError::Malformed("counters"));
        Ok(Counters { records: next()?, quarantined: next()?, conflicts: next()? })
    }

    pub(super) fn vector(&self) -> Result<Vector, StoreError> {
        let mut vector = Vector::default();
        for item in self.db.iterator_cf(self.family(schema::CLOCK_VALUE), IteratorMode::Start) {
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

    /// Log entries of one origin with `after < clock ≤ through`, in clock order, until `visit` says stop.
    pub(super) fn scan_log(
        &self,
        origin: Origin,
        after: Clock,
        through: Clock,
        mut visit: impl FnMut(LogKey, Bytes) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        let mut options = ReadOptions::default();
        let (from, to) = (Stamp { origin, clock: after.next() }, Stamp { origin, clock: through.next() });
        options.set_iterate_lower_bound(codec::stamp_key(from));
        options.set_iterate_upper_bound(codec::stamp_key(to));
        options.set_readahead_size(256 * 1024);
        let family = self.family(schema::REPLICATION_LOG);
        for item in self.db.iterator_cf_opt(family, options, IteratorMode::Start) {
            let (key, value) = item.map_err(read_error)?;
            codec::unversioned("log entry", &value)?;
            if !visit(LogKey::decode(&key)?, Bytes::from(value.into_vec()).slice(1..))? {
                break;
            }
        }
        Ok(())
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
        self.db.flush_wal(true).map_err(|error| error.to_string())?;
        let families = [
            schema::META,
            schema::CLOCK_VALUE,
            schema::REPLICATION_LOG,
            schema::RECORD,
            schema::EXPIRY,
            schema::QUARANTINE,
        ];
        families
            .iter()
            .try_for_each(|name| self.db.flush_cf(self.family(name)).map_err(|error| error.to_string()))
    }

    pub(super) fn property(&self, name: &rocksdb::properties::PropName) -> u64 {
        let of =
            |family| self.db.property_int_value_cf(self.family(family), name).ok().flatten().unwrap_or(0);
        [schema::RECORD, schema::REPLICATION_LOG, schema::EXPIRY].into_iter().map(of).sum()
    }

    pub(super) fn cache_bytes(&self) -> u64 {
        let family = self.family(schema::RECORD);
        self.db
            .property_int_value_cf(family, rocksdb::properties::BLOCK_CACHE_USAGE)
            .ok()
            .flatten()
            .unwrap_or(0)
    }

    // ---- what goes into a batch ----------------------------------------------------------

    pub(super) fn put_meta(&self, batch: &mut WriteBatch, key: &[u8], value: &[u8]) {
        batch.put_cf(self.family(schema::META), key, codec::versioned(value));
    }

    pub(super) fn put_counters(&self, batch: &mut WriteBatch, counters: Counters) {
        let numbers = [counters.records, counters.quarantined, counters.conflicts];
        self.put_meta(batch, COUNTERS, &numbers.map(u64::to_be_bytes).concat());
    }

    pub(super) fn put_clock(&self, batch: &mut WriteBatch, origin: Origin, clock: Clock) {
        batch.put_cf(self.family(schema::CLOCK_VALUE), origin.as_bytes(), codec::encode_clock(clock));
    }

    pub(super) fn put_log(&self, batch: &mut WriteBatch, key: LogKey, operation: &[u8]) {
        batch.put_cf(self.family(schema::REPLICATION_LOG), key.encode(), codec::versioned(operation));
    }

    pub(super) fn put_quarantined(
        &self,
        batch: &mut WriteBatch,
        stamp: Stamp,
        entry: &proto::QuarantinedEntry,
    ) {
        let value = codec::versioned(&entry.encode_to_vec());
        batch.put_cf(self.family(schema::QUARANTINE), codec::stamp_key(stamp), value);
    }

    /// Replaces a record's state, its place in the expiry index included.
    pub(super) fn put_state(
        &self,
        batch: &mut WriteBatch,
        key_hash: &KeyHash,
        before: Option<&RecordState>,
        after: &RecordState,
    ) {
        batch.put_cf(self.family(schema::RECORD), key_hash.0, codec::encode_state(after));
        let (old, new) = (before.and_then(RecordState::due_at), after.due_at());
        if old != new {
            if let Some(at) = old {
                self.delete_expiry(batch, at, key_hash);
            }
            if let Some(at) = new {
                batch.put_cf(
                    self.family(schema::EXPIRY),
                    codec::expiry_key(at, key_hash),
                    [codec::VALUE_VERSION],
                );
            }
        }
    }

    pub(super) fn delete_expiry(&self, batch: &mut WriteBatch, at: UnixSeconds, key_hash: &KeyHash) {
        batch.delete_cf(self.family(schema::EXPIRY), codec::expiry_key(at, key_hash));
    }
}

fn decode_record(value: Vec<u8>) -> Result<RecordState, StoreError> {
    Ok(codec::decode_state(value.into())?)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn read_error(error: rocksdb::Error) -> StoreError {
    StoreError::Read(error.to_string())
}
