//! What operators and peers look at: digests, pages of records, ledgers, the trace of one record.

use super::{
    database::Totals,
    error::StoreError,
    handle::{Shared, Store},
    schema,
};
use brock_core::{
    base::{
        id::KeyHash,
        limits,
        vector::{Stamp, Vector},
    },
    domain::{
        codec::{self, QUARANTINED_STATE},
        digest::{SetDigest, of_record},
        operation::Operation,
        record::{Creation, RecordState},
    },
    proto,
};

/// What is applied here, and the digests of the records at exactly that point.
#[derive(Debug, Clone)]
pub struct Summary {
    /// What is applied; folded origins are not listed.
    pub vector: Vector,
    /// The folded origins.
    pub folds: Vector,
    /// Tombstones of what was created up to here may have been collected.
    pub collected: Vector,
    /// Of the records.
    pub digest: SetDigest,
    /// Totals.
    pub totals: Totals,
}

impl Summary {
    /// What is applied, folded origins included.
    pub fn applied(&self) -> Vector {
        let mut applied = self.vector.clone();
        applied.join(&self.folds);
        applied
    }
}

/// A page of records in key order.
#[derive(Debug, Clone)]
pub struct RecordPage {
    /// The records.
    pub states: Vec<(KeyHash, RecordState)>,
    /// The page holds everything up to here.
    pub through: KeyHash,
    /// Whether records lie beyond.
    pub more: bool,
}

/// One record in a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BucketItem {
    /// What it is found by.
    pub key_hash: KeyHash,
    /// The first bytes of its digest.
    pub digest: [u8; limits::ITEM_DIGEST_BYTES],
    /// Whether it is a tombstone.
    pub deleted: bool,
}

/// An operation on one record, as this node's log has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedOperation {
    /// Which one.
    pub stamp: Stamp,
    /// When it was applied here, in milliseconds; 0 = not known.
    pub applied_unix_ms: u64,
    /// What it does; `None` = it is quarantined.
    pub operation: Option<Operation>,
}

/// All that this node knows of one key hash.
#[derive(Debug, Clone)]
pub struct Traced {
    /// Its state; `None` = nothing is known.
    pub state: Option<RecordState>,
    /// What the log has, by origin and clock.
    pub operations: Vec<LoggedOperation>,
    /// Whether a payload of it is gone but may still be in some file.
    pub removal_pending: bool,
    /// What is applied here.
    pub applied: Vector,
}

/// One record that was created with different payloads.
#[derive(Debug, Clone)]
pub struct Conflict {
    /// What it is found by.
    pub key_hash: KeyHash,
    /// Whose payload stands.
    pub winner: Creation,
    /// The others, best first.
    pub losers: Vec<Creation>,
}

impl Store {
    /// Digests and vector, as they belong together.
    pub fn summary(&self) -> Summary {
        let visible = self.shared.visible();
        Summary {
            vector: visible.vector.clone(),
            folds: visible.folds.clone(),
            collected: visible.collected.clone(),
            digest: visible.digest.clone(),
            totals: visible.counters,
        }
    }

    /// Records above `after` in key order: as many as a message holds.
    pub async fn record_page(&self, after: Option<KeyHash>) -> Result<RecordPage, StoreError> {
        self.blocking(move |shared| {
            let mut page = RecordPage { states: Vec::new(), through: KeyHash([0xff; 32]), more: false };
            let mut bytes = 0;
            shared.database.scan_records(after.as_ref(), None, |key_hash, state, size| {
                if page.states.len() >= limits::PAGE_RECORDS
                    || (bytes > 0 && bytes + size > limits::BATCH_MAX_BYTES)
                {
                    page.more = true;
                    return Ok(false);
                }
                bytes += size;
                page.states.push((key_hash, state));
                Ok(true)
            })?;
            if page.more
                && let Some((last, _)) = page.states.last()
            {
                page.through = *last;
            }
            Ok(page)
        })
        .await
    }

    /// The records of one bucket above `after`, in key order, and whether there are more.
    pub async fn bucket(
        &self,
        bucket: u8,
        after: Option<KeyHash>,
    ) -> Result<(Vec<BucketItem>, bool), StoreError> {
        self.blocking(move |shared| {
            let (mut first, mut last) = ([0; 32], [0xff; 32]);
            (first[0], last[0]) = (bucket, bucket);
            let mut items = Vec::new();
            let (mut bytes, mut more) = (0, false);
            // Everything below the bucket's first key hash lies before it; that one itself belongs to it.
            let below = (bucket > 0).then(|| {
                let mut below = [0xff; 32];
                below[0] = bucket - 1;
                KeyHash(below)
            });
            let after = after.filter(|after| after.0 >= first).or(below);
            shared.database.scan_records(after.as_ref(), Some(&KeyHash(last)), |key_hash, state, size| {
                if items.len() == limits::BUCKET_PAGE_ITEMS || bytes >= limits::BUCKET_PAGE_BYTES {
                    more = true;
                    return Ok(false);
                }
                bytes += size;
                items.push(item(key_hash, &state));
                Ok(true)
            })?;
            Ok((items, more))
        })
        .await
    }

    /// The digest of each of these records, as [`Store::bucket`] gives it; those that are not here
    /// are left out.
    pub async fn items(&self, key_hashes: Vec<KeyHash>) -> Result<Vec<BucketItem>, StoreError> {
        let states = self.get_many(key_hashes.clone()).await?;
        let items = key_hashes.into_iter().zip(states);
        Ok(items.filter_map(|(key_hash, state)| state.map(|state| item(key_hash, &state))).collect())
    }

    /// Records that were created with different payloads, above `after`, and whether there are more.
    pub async fn conflict_page(
        &self,
        after: Option<KeyHash>,
        limit: usize,
    ) -> Result<(Vec<Conflict>, bool), StoreError> {
        self.blocking(move |shared| {
            let marked = shared.database.keyed(schema::CONFLICT, after.as_ref(), limit + 1)?;
            let more = marked.len() > limit;
            let key_hashes: Vec<KeyHash> =
                marked.into_iter().take(limit).map(|(key_hash, _)| key_hash).collect();
            let mut conflicts = Vec::new();
            for (key_hash, state) in key_hashes.iter().zip(shared.database.states(&key_hashes)) {
                let Some(RecordState { creation: Some(winner), losers, .. }) = state? else { continue };
                conflicts.push(Conflict { key_hash: *key_hash, winner, losers });
            }
            Ok((conflicts, more))
        })
        .await
    }

    /// Quarantined entries above `after`, and whether there are more.
    pub async fn quarantine_page(
        &self,
        after: Option<Stamp>,
        limit: usize,
    ) -> Result<(Vec<(Stamp, proto::QuarantinedEntry)>, bool), StoreError> {
        self.blocking(move |shared| {
            let mut entries = shared.database.quarantine(after, limit + 1)?;
            let more = entries.len() > limit;
            entries.truncate(limit);
            Ok((entries, more))
        })
        .await
    }

    /// One quarantined entry.
    pub async fn quarantined_entry(
        &self,
        stamp: Stamp,
    ) -> Result<Option<proto::QuarantinedEntry>, StoreError> {
        self.blocking(move |shared| shared.database.quarantined(stamp)).await
    }

    /// Everything that this node knows of one key hash. Reads the keys of the whole log.
    pub async fn trace(&self, key_hash: KeyHash) -> Result<Traced, StoreError> {
        self.blocking(move |shared| trace(shared, key_hash)).await
    }
}

fn item(key_hash: KeyHash, state: &RecordState) -> BucketItem {
    let whole = of_record(&key_hash, state);
    let mut digest = [0; limits::ITEM_DIGEST_BYTES];
    digest.copy_from_slice(&whole[..limits::ITEM_DIGEST_BYTES]);
    BucketItem { key_hash, digest, deleted: state.deletion.is_some() }
}

fn trace(shared: &Shared, key_hash: KeyHash) -> Result<Traced, StoreError> {
    let applied = shared.visible().applied();
    let mut operations = Vec::new();
    shared.database.scan_whole_log(|entry| {
        let stamp = entry.key.stamp;
        if entry.key.key_hash == key_hash && applied.has(stamp) && operations.len() < limits::TRACE_OPERATIONS
        {
            let operation = match entry.key.state {
                QUARANTINED_STATE => None,
                _ => Operation::decode(&entry.operation).ok(),
            };
            operations.push(LoggedOperation { stamp, applied_unix_ms: entry.applied_unix_ms, operation });
        }
        Ok(true)
    })?;
    Ok(Traced {
        state: shared.database.state(&key_hash)?,
        operations,
        removal_pending: shared.database.is_in(schema::REMOVAL, &key_hash)?,
        applied,
    })
}

impl Store {
    /// What was remembered of the members when the node last ran.
    pub async fn members(&self) -> Result<Vec<proto::MemberState>, StoreError> {
        self.blocking(|shared| shared.database.members()).await
    }

    /// A small thing that was kept under a name.
    pub async fn note(&self, name: &'static [u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.blocking(move |shared| shared.database.meta(name)).await
    }

    /// Tombstones above `after` whose deletes lie at or below `stable`: up to `limit` of them, and
    /// where to go on; `None` = that was all.
    pub async fn tombstones(
        &self,
        after: Option<KeyHash>,
        stable: Vector,
        limit: usize,
    ) -> Result<(Vec<KeyHash>, Option<KeyHash>), StoreError> {
        self.blocking(move |shared| {
            let mut found = Vec::new();
            let mut next = None;
            shared.database.scan_records(after.as_ref(), None, |key_hash, state, _| {
                if state.was_created && state.deletion.is_some_and(|stamp| stable.has(stamp)) {
                    found.push(key_hash);
                }
                if found.len() == limit {
                    next = Some(key_hash);
                }
                Ok(found.len() < limit)
            })?;
            Ok((found, next))
        })
        .await
    }
}

/// The first bytes of a record's digest on the wire.
pub fn item_from_proto(item: &proto::list_bucket_response::Item) -> Option<BucketItem> {
    Some(BucketItem {
        key_hash: KeyHash::try_from(item.key_hash.as_ref()).ok()?,
        digest: item.digest.as_ref().try_into().ok()?,
        deleted: item.deleted,
    })
}

/// To the wire.
pub fn keyed_state(key_hash: KeyHash, state: &RecordState) -> proto::KeyedState {
    proto::KeyedState {
        key_hash: bytes::Bytes::copy_from_slice(&key_hash.0),
        state: Some(codec::state_to_proto(state)),
    }
}
