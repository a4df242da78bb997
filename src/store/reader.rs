//! Reads: records for clients, the log for peers.
//!
//! RocksDB blocks, so reads that may need the disk leave the async runtime here, and nowhere else.

use bytes::Bytes;
use prost::Message;
use tokio::task::spawn_blocking;

use super::{
    database::Logged,
    error::StoreError,
    handle::{Shared, StorageUse, Store},
};
use crate::runtime::planted::{self, Bug};
use brock_core::{
    base::{
        id::{KeyHash, Origin},
        limits,
        vector::{Clock, Stamp},
    },
    domain::{
        codec::{LogKey, QUARANTINED_STATE},
        operation::Operation,
        record::RecordState,
    },
    proto,
};

/// A stretch of one origin's log, ready to be sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Changes {
    /// The batch.
    pub batch: proto::Batch,
    /// Its size, roughly.
    pub bytes: usize,
}

impl Store {
    /// What [`Store::get`] would answer, if that needs no disk. Most reads are answered from
    /// memory, and those need not leave their thread.
    pub fn get_cached(&self, key_hash: &KeyHash) -> Result<Option<Option<RecordState>>, StoreError> {
        self.shared.database.cached_state(key_hash)
    }

    /// The state of a key hash; `None` if nothing is known of it.
    pub async fn get(&self, key_hash: KeyHash) -> Result<Option<RecordState>, StoreError> {
        if let Some(state) = self.get_cached(&key_hash)? {
            return Ok(state);
        }
        self.blocking(move |shared| shared.database.state(&key_hash)).await
    }

    /// The states of several key hashes, in order.
    pub async fn get_many(&self, key_hashes: Vec<KeyHash>) -> Result<Vec<Option<RecordState>>, StoreError> {
        self.blocking(move |shared| shared.database.states(&key_hashes).into_iter().collect()).await
    }

    /// What this node has of `origin` above `after`, at most `limit` entries and about
    /// [`limits::BATCH_MAX_BYTES`]; `None` if there is nothing, an error if it is compacted away.
    /// Only what is durable and visible.
    pub async fn changes_since(
        &self,
        origin: Origin,
        after: Clock,
        limit: usize,
    ) -> Result<Option<Changes>, StoreError> {
        let through = self.clock(&origin);
        if through <= after {
            return Ok(None);
        }
        self.blocking(move |shared| changes(shared, (origin, after, through), limit, true).map(Some)).await
    }

    /// What the log still holds of `origin` above `after` and up to `through`, without payloads,
    /// wherever its floor is; `None` if that is nothing.
    pub async fn retained_log(
        &self,
        origin: Origin,
        after: Clock,
        through: Clock,
    ) -> Result<Option<Changes>, StoreError> {
        let through = through.min(self.clock(&origin));
        self.blocking(move |shared| {
            loop {
                let floor = shared.floor(&origin);
                let after = after.max(floor);
                if through <= after {
                    return Ok(None);
                }
                match changes(shared, (origin, after, through), limits::BATCH_ENTRIES_MAX, false) {
                    // Compacted while it was read: what is left begins higher.
                    Err(StoreError::BelowFloor { .. }) => {}
                    other => return other.map(Some),
                }
            }
        })
        .await
    }

    /// Bytes used on disk and in memory.
    pub async fn storage_use(&self) -> Result<StorageUse, StoreError> {
        use rocksdb::properties::{CUR_SIZE_ALL_MEM_TABLES, TOTAL_SST_FILES_SIZE};
        self.blocking(|shared| {
            Ok(StorageUse {
                sst_bytes: shared.database.property(TOTAL_SST_FILES_SIZE),
                memtable_bytes: shared.database.property(CUR_SIZE_ALL_MEM_TABLES),
                block_cache_bytes: shared.database.cache_bytes(),
                disk: shared.disk(),
            })
        })
        .await
    }

    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Shared) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = std::sync::Arc::clone(&self.shared);
        match spawn_blocking(move || read(&shared)).await {
            Ok(result) => result,
            Err(_) => Err(StoreError::Read("the runtime is shutting down".to_owned())),
        }
    }
}

fn changes(
    shared: &Shared,
    (origin, after, through): (Origin, Clock, Clock),
    limit: usize,
    with_payloads: bool,
) -> Result<Changes, StoreError> {
    let limit = limit.clamp(1, limits::BATCH_ENTRIES_MAX);
    let mut scanned = Vec::new();
    let mut bytes = 0;
    // The log itself is small; payloads are looked up below, a bounded number at a time.
    shared.database.scan_log(origin, after, through, |entry| {
        bytes += LogKey::BYTES + entry.operation.len();
        scanned.push(entry);
        Ok(scanned.len() < limit && bytes < limits::BATCH_MAX_BYTES)
    })?;
    // IMPORTANT: looked at after the scan. The floor rises before the entries go, so entries that
    // the scan did not find because they had gone show here.
    let floor = shared.floor(&origin);
    if floor > after && !planted::is(Bug::IgnoreFloor) {
        return Err(StoreError::BelowFloor { origin, floor });
    }
    let exhausted = scanned.len() < limit && bytes < limits::BATCH_MAX_BYTES;
    let total = scanned.len();
    // Of an earlier life some entries may have come back from peers: when those were committed is not
    // known here.
    let committed_here = with_payloads && origin == shared.origin();
    let aged = |mut changes: Changes| {
        if committed_here {
            let now = shared.wall_clock.now_ms();
            let entries = scanned.iter().take(changes.batch.entries.len());
            changes.batch.ages_ms = entries.map(|entry| now.saturating_sub(entry.applied_unix_ms)).collect();
        }
        changes
    };
    let mut batch = proto::Batch {
        origin: Bytes::copy_from_slice(origin.as_bytes()),
        after: after.0,
        covered_through: after.0,
        entries: Vec::with_capacity(total),
        ages_ms: Vec::new(),
    };
    let mut bytes = 0;
    for chunk in scanned.chunks(PAYLOADS_AT_ONCE) {
        let key_hashes: Vec<KeyHash> = chunk.iter().map(|scanned| scanned.key.key_hash).collect();
        let states = match with_payloads {
            true => shared.database.states(&key_hashes).into_iter().collect::<Result<_, _>>()?,
            false => vec![None; chunk.len()],
        };
        for (scanned, state) in chunk.iter().zip(states) {
            let entry = entry(shared, scanned, state)?;
            let entry_bytes = 8 + entry.encoded_len();
            // IMPORTANT: a quarantined entry may be as large as the message that it came in, so it
            // must not be added on top of anything: the next node would not take the message.
            if bytes > 0 && bytes + entry_bytes > limits::BATCH_MAX_BYTES {
                return Ok(aged(Changes { batch, bytes }));
            }
            bytes += entry_bytes;
            batch.covered_through = entry.clock;
            batch.entries.push(entry);
        }
    }
    if exhausted {
        // Nothing more up to what is visible: the gap at the end, if any, is covered too.
        batch.covered_through = through.0;
    }
    Ok(aged(Changes { batch, bytes }))
}

/// Payloads that are read from the database together.
const PAYLOADS_AT_ONCE: usize = 64;

fn entry(shared: &Shared, scanned: &Logged, state: Option<RecordState>) -> Result<proto::Entry, StoreError> {
    let Stamp { clock, .. } = scanned.key.stamp;
    if scanned.key.state == QUARANTINED_STATE
        && let Some(kept) = shared.database.quarantined(scanned.key.stamp)?.and_then(|kept| kept.entry)
    {
        return Ok(kept);
    }
    let payload = match Operation::decode(&scanned.operation) {
        Ok(Operation::Create { digest, .. }) => state
            .and_then(|state| state.creation)
            .filter(|creation| creation.digest == digest)
            .and_then(|creation| creation.payload),
        _ => None,
    };
    Ok(proto::Entry {
        clock: clock.0,
        key_hash: Bytes::copy_from_slice(&scanned.key.key_hash.0),
        operation: scanned.operation.clone(),
        payload,
    })
}
