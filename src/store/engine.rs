//! Figures of the storage engine itself: whether it keeps up with what is written.

use rocksdb::properties::{
    ACTUAL_DELAYED_WRITE_RATE, BACKGROUND_ERRORS, ESTIMATE_LIVE_DATA_SIZE, ESTIMATE_PENDING_COMPACTION_BYTES,
    IS_WRITE_STOPPED, NUM_IMMUTABLE_MEM_TABLE, NUM_RUNNING_COMPACTIONS, NUM_RUNNING_FLUSHES, NUM_SNAPSHOTS,
    num_files_at_level,
};

use super::{boot, database::Database, error::StoreError, handle::Store, schema};

/// How the storage engine stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Engine {
    /// Compactions of files that run.
    pub compactions_running: u64,
    /// Flushes from memory to files that run.
    pub flushes_running: u64,
    /// Whether it takes no writes until it has caught up.
    pub is_stopped: bool,
    /// Bytes per second that it slows writes down to; 0 = it does not.
    pub delayed_bytes_per_second: u64,
    /// Snapshots that are held.
    pub snapshots: u64,
    /// Background errors since the start.
    pub background_errors: u64,
    /// Bytes of the write-ahead log; `None` = in RAM, or it cannot be told.
    pub wal_bytes: Option<u64>,
    /// By column family.
    pub families: Vec<Family>,
}

/// How one column family stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// Files of level 0, each of which a read may have to look into.
    pub level0_files: u64,
    /// Full tables in memory that are not in files yet.
    pub immutable_memtables: u64,
    /// Bytes that must be rewritten until it is in shape.
    pub compaction_pending_bytes: u64,
    /// Bytes of present values, roughly.
    pub live_bytes: u64,
}

impl Store {
    /// How the storage engine stands now.
    pub async fn engine(&self) -> Result<Engine, StoreError> {
        self.blocking(|shared| {
            let mut engine = shared.database.engine();
            engine.wal_bytes = shared.directory.as_deref().and_then(boot::wal_bytes);
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
