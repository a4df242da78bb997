//! Reads of the database, as it is now or as it was at one moment.
//!
//! The raw reads come first: every stored value passes through them, in a snapshot as well as in the
//! live database. The typed reads above them decode; `signed`: those of what is signed.

mod signed;

use std::{
    collections::{BTreeMap, HashMap},
    sync::MutexGuard,
};

use bytes::Bytes;
use prost::Message;
use rocksdb::{
    DB, DBPinnableSlice, ErrorKind, IteratorMode, PrefixRange, ReadOptions, SnapshotWithThreadMode,
};

use super::{
    database::Database,
    error::StoreError,
    held::{Amount, Held},
    losers::{self, Seen},
    published::{Published, Totals},
    schema,
};
use brock_core::{
    base::{
        id::{KeyHash, Origin},
        vector::{Clock, Stamp, Vector},
    },
    domain::{
        birth::SignedBirth,
        bundle::Tip,
        codec::{self, CodecError, LogKey},
        digest::{Bucket, SetDigest},
        record::{RecordState, UnixSeconds},
    },
    proto,
};

/// Meta value: the totals.
pub(super) const TOTALS: &[u8] = b"counters";
/// Meta value: the vector of collected tombstones.
pub(super) const COLLECTED: &[u8] = b"collected";
/// Meta value: see [`Dumped::unlogged`](super::Dumped::unlogged).
pub(super) const UNLOGGED: &[u8] = b"unlogged";

/// How far a long scan reads ahead.
const READAHEAD_BYTES: usize = 256 * 1024;
/// The same in a snapshot, which is read from one end to the other.
const SNAPSHOT_READAHEAD_BYTES: usize = 1024 * 1024;

/// One entry of the replication log, as it is stored.
#[derive(Debug, Clone)]
pub(super) struct Logged {
    pub key: LogKey,
    /// When it was applied here, in milliseconds; 0 = unknown.
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

/// The database as it is now, or as it was when the snapshot was taken.
pub(super) struct View<'a> {
    database: &'a Database,
    snapshot: Option<SnapshotWithThreadMode<'a, DB>>,
    /// Dropped after the snapshot.
    _no_rewrite: Option<MutexGuard<'a, ()>>,
}

impl Database {
    /// The database as it is now.
    pub(super) fn view(&self) -> View<'_> {
        View { database: self, snapshot: None, _no_rewrite: None }
    }

    /// The database as it is at this moment, for as long as the view is held. There is one snapshot
    /// at a time, and no file is rewritten to remove payloads meanwhile.
    pub(super) fn snapshot(&self) -> View<'_> {
        let no_rewrite = self.without_snapshots();
        View { database: self, snapshot: Some(self.db.snapshot()), _no_rewrite: Some(no_rewrite) }
    }
}

/// The raw reads. IMPORTANT: no stored value is read in any other place.
impl View<'_> {
    fn value(&self, family: &'static str, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let family = self.database.family(family);
        self.database.db.get_cf_opt(family, key, &self.options()).map_err(read_error)
    }

    /// `Ok(None)`: an answer would need the disk. Of the live database.
    fn cached_value(&self, family: &'static str, key: &[u8]) -> Result<Option<Option<Vec<u8>>>, StoreError> {
        let family = self.database.family(family);
        match self.database.db.get_cf_opt(family, key, &self.database.cached_only) {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.kind() == ErrorKind::Incomplete => Ok(None),
            Err(error) => Err(read_error(error)),
        }
    }

    /// Several values at once, in the order of their keys.
    fn values<'k>(
        &self,
        family: &'static str,
        keys: impl Iterator<Item = &'k [u8; 32]>,
    ) -> impl Iterator<Item = Result<Option<Vec<u8>>, StoreError>> {
        let family = self.database.family(family);
        let values = self.database.db.batched_multi_get_cf_opt(family, keys, false, &self.options());
        let copied = |value: Option<DBPinnableSlice<'_>>| value.map(|value| value.to_vec());
        values.into_iter().map(move |value| value.map(copied).map_err(read_error))
    }

    /// The keys and values of a family between the bounds in `options`, in the order of the keys.
    fn scan(
        &self,
        family: &'static str,
        options: ReadOptions,
    ) -> impl Iterator<Item = Result<(Box<[u8]>, Vec<u8>), StoreError>> {
        let items =
            self.database.db.iterator_cf_opt(self.database.family(family), options, IteratorMode::Start);
        items.map(|item| item.map(|(key, value)| (key, value.into_vec())).map_err(read_error))
    }

    fn options(&self) -> ReadOptions {
        let mut options = ReadOptions::default();
        if let Some(snapshot) = &self.snapshot {
            options.set_snapshot(snapshot);
        }
        options
    }

    /// For scans that may read a lot.
    fn long_scan(&self) -> ReadOptions {
        let mut options = self.options();
        options.set_readahead_size(READAHEAD_BYTES);
        if self.snapshot.is_some() {
            // A pass over everything must not evict what is in use from the cache.
            options.fill_cache(false);
            options.set_readahead_size(SNAPSHOT_READAHEAD_BYTES);
        }
        options
    }
}

/// Vectors, digests, totals, and small values.
impl View<'_> {
    /// A small value under a name.
    pub(super) fn meta(&self, name: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let value = self.value(schema::META, name)?;
        value.map(|value| Ok(codec::unversioned("meta value", &value)?.to_vec())).transpose()
    }

    /// The small values whose names begin like this, which does not end in 0xff.
    pub(super) fn notes(&self, prefix: &[u8]) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut options = self.options();
        options.set_iterate_range(PrefixRange(prefix));
        let value = |item: Result<(Box<[u8]>, Vec<u8>), StoreError>| {
            Ok(codec::unversioned("meta value", &item?.1)?.to_vec())
        };
        self.scan(schema::META, options).map(value).collect()
    }

    /// What the store keeps in memory.
    pub(super) fn published(&self) -> Result<Published, StoreError> {
        let (vector, tips) = self.heads()?;
        let mut births = BTreeMap::new();
        for birth in self.births(None) {
            let SignedBirth { birth, .. } = SignedBirth::from_proto(birth?)?;
            births.insert(birth.origin, birth);
        }
        let (held, digest) = (self.held()?, self.digest()?);
        let (quarantine_bytes, unproven) = (held.total().bytes, digest.counts().unproven);
        Ok(Published {
            vector,
            tips,
            forks: self.forks()?,
            births,
            fills: self.fills()?,
            folds: self.folds()?,
            floors: self.floors()?,
            collected: self.collected()?,
            digest,
            totals: Totals { quarantine_bytes, unproven, ..self.totals()? },
            held,
        })
    }

    /// Whose entries take how much of the quarantine.
    fn held(&self) -> Result<Held, StoreError> {
        let mut held = Held::default();
        for item in self.scan(schema::QUARANTINE, self.options()) {
            let (key, value) = item?;
            held.add(codec::decode_stamp_key(&key)?.origin.node_id(), Amount::one(value.len()));
        }
        Ok(held)
    }

    fn totals(&self) -> Result<Totals, StoreError> {
        let stored = self.meta(TOTALS)?.map_or(Ok(Totals::default()), |value| Totals::decode(&value))?;
        Ok(Totals { acknowledged: self.acknowledged()?, ..stored })
    }

    /// How many losers operators have acknowledged: one read for each record whose mark says so.
    fn acknowledged(&self) -> Result<u64, StoreError> {
        let mut acknowledged = 0;
        for item in self.scan(schema::CONFLICT, self.options()) {
            let (key, mark) = item?;
            let Some(seen) = Seen::decode(&mark)? else { continue };
            let key_hash = KeyHash::try_from(key.as_ref()).map_err(|_| CodecError::Malformed("key hash"))?;
            let state = self.state(&key_hash)?;
            acknowledged += Seen::count(Some(seen), losers::of(state.as_ref()));
        }
        Ok(acknowledged)
    }

    /// What is applied, by origin.
    pub(super) fn vector(&self) -> Result<Vector, StoreError> {
        Ok(self.heads()?.0)
    }

    /// What is applied, by origin, and the last bundles up to there, as far as they are known.
    pub(super) fn heads(&self) -> Result<(Vector, HashMap<Origin, Tip>), StoreError> {
        let (mut vector, mut tips) = (Vector::default(), HashMap::new());
        for item in self.scan(schema::CLOCK_VALUE, self.options()) {
            let (key, value) = item?;
            let origin = Origin::try_from(key.as_ref()).map_err(|_| CodecError::Malformed("origin"))?;
            let (clock, tip) = codec::decode_head(&value)?;
            vector.raise(origin, clock);
            tips.extend(tip.map(|tip| (origin, tip)));
        }
        Ok((vector, tips))
    }

    /// How far the log is compacted, by origin.
    fn floors(&self) -> Result<Vector, StoreError> {
        self.clocks(schema::FLOOR, codec::decode_clock)
    }

    /// Finished origins that vectors do not list any more.
    pub(super) fn folds(&self) -> Result<Vector, StoreError> {
        self.clocks(schema::FOLDED, |value| Ok(codec::decode_head(value)?.0))
    }

    /// Tombstones up to here may have been collected; empty = none ever was.
    fn collected(&self) -> Result<Vector, StoreError> {
        let Some(value) = self.meta(COLLECTED)? else { return Ok(Vector::default()) };
        let vector = proto::Vector::decode(value.as_slice());
        Ok(codec::vector_from_proto(&vector.map_err(|_| CodecError::Malformed("collected vector"))?)?)
    }

    fn clocks(
        &self,
        family: &'static str,
        clock: impl Fn(&[u8]) -> Result<Clock, CodecError>,
    ) -> Result<Vector, StoreError> {
        let mut vector = Vector::default();
        for item in self.scan(family, self.options()) {
            let (key, value) = item?;
            let origin = Origin::try_from(key.as_ref()).map_err(|_| CodecError::Malformed("origin"))?;
            vector.raise(origin, clock(&value)?);
        }
        Ok(vector)
    }

    /// The digests of the record set.
    fn digest(&self) -> Result<SetDigest, StoreError> {
        let mut digest = SetDigest::default();
        for item in self.scan(schema::DIGEST, self.options()) {
            let (key, value) = item?;
            let &[bucket] = key.as_ref() else { return Err(CodecError::Malformed("bucket").into()) };
            digest.set(bucket, codec::decode_bucket(&value)?);
        }
        Ok(digest)
    }

    /// The digest of one bucket.
    pub(super) fn bucket(&self, bucket: u8) -> Result<Bucket, StoreError> {
        let value = self.value(schema::DIGEST, &[bucket])?;
        Ok(value.map(|value| codec::decode_bucket(&value)).transpose()?.unwrap_or_default())
    }

    /// What is remembered of the members.
    pub(super) fn members(&self) -> Result<Vec<proto::MemberState>, StoreError> {
        let decode = |item: Result<(Box<[u8]>, Vec<u8>), StoreError>| {
            let (_, value) = item?;
            let body = codec::unversioned("member", &value)?;
            Ok(proto::MemberState::decode(body).map_err(|_| CodecError::Malformed("member"))?)
        };
        self.scan(schema::MEMBER, self.options()).map(decode).collect()
    }
}

/// Records and the families that are keyed by their key hashes.
impl View<'_> {
    /// The state of a key hash, if that needs no disk; `Ok(None)` = it does. Of the live database.
    pub(super) fn cached_state(&self, key_hash: &KeyHash) -> Result<Option<Option<RecordState>>, StoreError> {
        let Some(value) = self.cached_value(schema::RECORD, &key_hash.0)? else { return Ok(None) };
        value.map(decode_record).transpose().map(Some)
    }

    pub(super) fn state(&self, key_hash: &KeyHash) -> Result<Option<RecordState>, StoreError> {
        self.value(schema::RECORD, &key_hash.0)?.map(decode_record).transpose()
    }

    /// The states of several key hashes, in their order.
    pub(super) fn states(
        &self,
        key_hashes: &[KeyHash],
    ) -> impl Iterator<Item = Result<Option<RecordState>, StoreError>> {
        let values = self.values(schema::RECORD, key_hashes.iter().map(|key_hash| &key_hash.0));
        values.map(|value| value?.map(decode_record).transpose())
    }

    /// Records whose key hash is above `after` and at most `through`, in key order, with the size of
    /// each on disk.
    pub(super) fn records(
        &self,
        after: Option<&KeyHash>,
        through: Option<&KeyHash>,
    ) -> impl Iterator<Item = Result<(KeyHash, RecordState, usize), StoreError>> {
        let mut options = self.long_scan();
        if let Some(after) = after {
            options.set_iterate_lower_bound(just_above(after));
        }
        if let Some(through) = through {
            options.set_iterate_upper_bound(just_above(through));
        }
        self.scan(schema::RECORD, options).map(|item| {
            let (key, value) = item?;
            let key_hash =
                KeyHash::try_from(key.as_ref()).map_err(|_| CodecError::Malformed("record key"))?;
            let size = key.len() + value.len();
            Ok((key_hash, decode_record(value)?, size))
        })
    }

    /// Up to `limit` key hashes above `after` in a family that is keyed by them, with their values.
    pub(super) fn marks(
        &self,
        family: &'static str,
        after: Option<&KeyHash>,
        limit: usize,
    ) -> Result<Vec<(KeyHash, Vec<u8>)>, StoreError> {
        let mut options = self.options();
        if let Some(after) = after {
            options.set_iterate_lower_bound(just_above(after));
        }
        let decode = |item: Result<(Box<[u8]>, Vec<u8>), StoreError>| {
            let (key, value) = item?;
            let key_hash = KeyHash::try_from(key.as_ref()).map_err(|_| CodecError::Malformed("key hash"))?;
            Ok((key_hash, value))
        };
        self.scan(family, options).take(limit).map(decode).collect()
    }

    /// The value of a key hash in one of those families.
    pub(super) fn mark(
        &self,
        family: &'static str,
        key_hash: &KeyHash,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        self.value(family, &key_hash.0)
    }

    /// What an operator had seen of a key hash when its losers were last acknowledged.
    pub(super) fn seen(&self, key_hash: &KeyHash) -> Result<Option<Seen>, StoreError> {
        let mark = self.mark(schema::CONFLICT, key_hash)?;
        mark.map_or(Ok(None), |mark| Ok(Seen::decode(&mark)?))
    }

    /// Up to `limit` entries of the expiry index that are due at `now`, earliest first.
    pub(super) fn due(
        &self,
        now: UnixSeconds,
        limit: usize,
    ) -> Result<Vec<(UnixSeconds, KeyHash)>, StoreError> {
        let mut due = Vec::new();
        for item in self.scan(schema::EXPIRY, self.options()).take(limit) {
            let (at, key_hash) = codec::decode_expiry_key(&item?.0)?;
            if at > now {
                break;
            }
            due.push((at, key_hash));
        }
        Ok(due)
    }
}

/// The log and the quarantine.
impl View<'_> {
    /// Log entries of one origin with `after < clock ≤ through`, in clock order.
    pub(super) fn log(
        &self,
        origin: Origin,
        after: Clock,
        through: Clock,
    ) -> impl Iterator<Item = Result<Logged, StoreError>> {
        let mut options = self.long_scan();
        options.set_iterate_lower_bound(codec::stamp_key(Stamp { origin, clock: after.next() }));
        options.set_iterate_upper_bound(codec::stamp_key(Stamp { origin, clock: through.next() }));
        self.scan(schema::REPLICATION_LOG, options).map(decode_logged)
    }

    /// The whole log, in order of origin and clock.
    pub(super) fn whole_log(&self) -> impl Iterator<Item = Result<Logged, StoreError>> {
        self.scan(schema::REPLICATION_LOG, self.long_scan()).map(decode_logged)
    }

    /// Whether the log has this entry.
    pub(super) fn has_log(&self, key: LogKey) -> Result<bool, StoreError> {
        Ok(self.value(schema::REPLICATION_LOG, &key.encode())?.is_some())
    }

    /// Up to `limit` quarantined entries above `after`.
    pub(super) fn quarantine(
        &self,
        after: Option<Stamp>,
        limit: usize,
    ) -> Result<Vec<(Stamp, proto::QuarantinedEntry)>, StoreError> {
        let mut options = self.options();
        if let Some(Stamp { origin, clock }) = after {
            options.set_iterate_lower_bound(codec::stamp_key(Stamp { origin, clock: clock.next() }));
        }
        let decode = |item: Result<(Box<[u8]>, Vec<u8>), StoreError>| {
            let (key, value) = item?;
            Ok((codec::decode_stamp_key(&key)?, decode_quarantined(&value)?))
        };
        self.scan(schema::QUARANTINE, options).take(limit).map(decode).collect()
    }

    pub(super) fn quarantined(&self, stamp: Stamp) -> Result<Option<proto::QuarantinedEntry>, StoreError> {
        let value = self.value(schema::QUARANTINE, &codec::stamp_key(stamp))?;
        value.map(|value| decode_quarantined(&value)).transpose()
    }
}

/// The next key in byte order: it has one zero byte more.
fn just_above(key_hash: &KeyHash) -> Vec<u8> {
    [key_hash.0.as_slice(), &[0]].concat()
}

fn decode_record(value: Vec<u8>) -> Result<RecordState, StoreError> {
    Ok(codec::decode_state(value.into())?)
}

fn decode_logged(item: Result<(Box<[u8]>, Vec<u8>), StoreError>) -> Result<Logged, StoreError> {
    let (key, value) = item?;
    let (applied_unix_ms, operation) = codec::decode_log_value(value.into())?;
    Ok(Logged { key: LogKey::decode(&key)?, applied_unix_ms, operation })
}

fn decode_quarantined(value: &[u8]) -> Result<proto::QuarantinedEntry, StoreError> {
    let body = Bytes::copy_from_slice(codec::unversioned("quarantined entry", value)?);
    let entry = proto::QuarantinedEntry::decode(body);
    Ok(entry.map_err(|_| CodecError::Malformed("quarantined entry"))?)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(super) fn read_error(error: rocksdb::Error) -> StoreError {
    StoreError::Read(error.to_string())
}
