//! Figures of the storage engine: the room that it uses, and whether it keeps up with the writes.

use rocksdb::properties::{
    ACTUAL_DELAYED_WRITE_RATE, BACKGROUND_ERRORS, CUR_SIZE_ALL_MEM_TABLES, ESTIMATE_LIVE_DATA_SIZE,
    ESTIMATE_PENDING_COMPACTION_BYTES, IS_WRITE_STOPPED, NUM_IMMUTABLE_MEM_TABLE, NUM_RUNNING_COMPACTIONS,
    NUM_RUNNING_FLUSHES, NUM_SNAPSHOTS, TOTAL_SST_FILES_SIZE, num_files_at_level,
};

use crate::store::{
    database::Database,
    error::StoreError,
    handle::{Health, Shared, Store},
    open, schema,
};
use brock_core::base::limits;

/// The room that the store uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StorageUse {
    /// Bytes in files.
    pub sst_bytes: u64,
    /// Bytes in memory that are not yet in files.
    pub memtable_bytes: u64,
    /// Bytes of cached blocks.
    pub block_cache_bytes: u64,
    /// The file system of the storage; `None` = unknown, or the store is in RAM.
    pub disk: Option<DiskSpace>,
    /// Whether the store is in RAM.
    pub in_ram: bool,
}

/// The room of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskSpace {
    /// Bytes that this process may still use.
    pub free_bytes: u64,
    /// Its size.
    pub total_bytes: u64,
    /// Files that this process may still create; `None`: the file system does not count them.
    pub free_inodes: Option<u64>,
}

impl DiskSpace {
    /// What it is short of, if a write failed for want of space; `None`: of nothing that it counts.
    pub(in crate::store) fn shortage(&self) -> Option<StoreError> {
        if self.free_bytes < limits::DISK_RESERVE_BYTES {
            return Some(StoreError::DiskFull { free: self.free_bytes });
        }
        let free = self.free_inodes.filter(|free| *free < limits::INODES_RESERVE)?;
        Some(StoreError::NoInodes { free })
    }
}

/// The state of the storage engine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Engine {
    /// Running compactions of files.
    pub compactions_running: u64,
    /// Running flushes from memory to files.
    pub flushes_running: u64,
    /// Whether it refuses writes until it has caught up.
    pub is_stopped: bool,
    /// Bytes per second that it slows writes down to; 0 = it does not.
    pub delayed_bytes_per_second: u64,
    /// Open snapshots.
    pub snapshots: u64,
    /// Background errors since the start.
    pub background_errors: u64,
    /// Bytes of the write-ahead log; `None` = in RAM, or unknown.
    pub wal_bytes: Option<u64>,
    /// By column family.
    pub families: Vec<Family>,
}

/// The state of one column family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// Files of level 0; a read may have to look into each of them.
    pub level0_files: u64,
    /// Full memtables that are not in files yet.
    pub immutable_memtables: u64,
    /// Bytes that compaction must rewrite until it has caught up.
    pub compaction_pending_bytes: u64,
    /// Bytes of present values, estimated.
    pub live_bytes: u64,
}

impl Shared {
    /// The room where the data lies; `None` = unknown.
    pub(in crate::store) fn disk(&self) -> Option<DiskSpace> {
        let stat = rustix::fs::statvfs(self.directory.as_ref()?).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Some(DiskSpace {
            free_bytes: bytes(stat.f_bavail),
            total_bytes: bytes(stat.f_blocks),
            free_inodes: (stat.f_files > 0).then_some(stat.f_favail),
        })
    }
}

impl Store {
    /// Bytes used on disk and in memory.
    pub async fn storage_use(&self) -> Result<StorageUse, StoreError> {
        self.blocking(|shared| {
            Ok(StorageUse {
                sst_bytes: shared.database.property(TOTAL_SST_FILES_SIZE),
                memtable_bytes: shared.database.property(CUR_SIZE_ALL_MEM_TABLES),
                block_cache_bytes: shared.database.cache_bytes(),
                // The path of a directory that is gone leads to another file system, or to none.
                disk: shared.disk().filter(|_| !matches!(&*shared.health.borrow(), Health::Lost(_))),
                in_ram: shared.directory.is_none(),
            })
        })
        .await
    }

    /// The state of the storage engine now.
    pub async fn engine(&self) -> Result<Engine, StoreError> {
        self.blocking(|shared| {
            let mut engine = shared.database.engine();
            engine.wal_bytes = shared.directory.as_deref().and_then(open::wal_bytes);
            Ok(engine)
        })
        .await
    }
}

impl Database {
    fn engine(&self) -> Engine {
        // The same for every family.
        let whole = |name| self.figure(schema::RECORD, name);
        Engine {
            compactions_running: whole(NUM_RUNNING_COMPACTIONS),
            flushes_running: whole(NUM_RUNNING_FLUSHES),
            is_stopped: whole(IS_WRITE_STOPPED) > 0,
            delayed_bytes_per_second: whole(ACTUAL_DELAYED_WRITE_RATE),
            snapshots: whole(NUM_SNAPSHOTS),
            background_errors: whole(BACKGROUND_ERRORS),
            wal_bytes: None,
            families: schema::FAMILIES.into_iter().map(|name| self.family_figures(name)).collect(),
        }
    }

    fn family_figures(&self, name: &'static str) -> Family {
        Family {
            name,
            level0_files: self
                .text(name, &num_files_at_level(0))
                .and_then(|text| text.parse().ok())
                .unwrap_or(0),
            immutable_memtables: self.figure(name, NUM_IMMUTABLE_MEM_TABLE),
            compaction_pending_bytes: self.figure(name, ESTIMATE_PENDING_COMPACTION_BYTES),
            live_bytes: self.figure(name, ESTIMATE_LIVE_DATA_SIZE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_short_of_bytes_or_of_inodes() {
        let of =
            |free_bytes, free_inodes| DiskSpace { free_bytes, total_bytes: u64::MAX, free_inodes }.shortage();
        let (enough, few) = (limits::DISK_RESERVE_BYTES, limits::INODES_RESERVE - 1);
        assert_eq!(of(enough, None), None);
        assert_eq!(of(enough, Some(limits::INODES_RESERVE)), None);
        assert_eq!(of(enough, Some(few)), Some(StoreError::NoInodes { free: few }));
        assert_eq!(of(enough - 1, Some(0)), Some(StoreError::DiskFull { free: enough - 1 }));
    }
}
