//! RocksDB itself: opening, writing, flushing, rewriting files, figures. Reads are in `view`, and
//! what a write holds is in `batch`.

use std::{
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rocksdb::{
    BottommostLevelCompaction, ColumnFamily, CompactOptions, DB, Env, ErrorKind, ReadOptions, ReadTier,
    WriteBatch, WriteOptions,
};

use super::{error::StoreError, schema};
use brock_core::base::{id::KeyHash, limits};

/// How a write failed.
#[derive(Debug)]
pub(super) enum WriteFailure {
    /// Another try may succeed.
    Passing(String),
    /// The disk is full.
    NoSpace,
    /// It must not be tried again: what is on disk is unknown.
    Fatal(String),
}

impl From<WriteFailure> for StoreError {
    /// For a write that is tried only once.
    fn from(failure: WriteFailure) -> Self {
        match failure {
            WriteFailure::NoSpace => Self::NoSpace,
            WriteFailure::Passing(reason) | WriteFailure::Fatal(reason) => Self::Stopped(reason),
        }
    }
}

pub(super) struct Database {
    pub(super) db: DB,
    /// RocksDB cannot sync a write-ahead log that is not a file.
    is_in_ram: bool,
    /// Reads with these find only what is in memory.
    pub(super) cached_only: ReadOptions,
    write: WriteOptions,
    /// Held while there is a snapshot: values that it sees stay in the files that are rewritten
    /// meanwhile.
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

    /// Waits until there is no snapshot, and prevents new ones while the guard is held.
    pub(super) fn without_snapshots(&self) -> MutexGuard<'_, ()> {
        self.snapshots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes everything or nothing, and returns after it is on disk.
    pub(super) fn write(&self, writes: &WriteBatch) -> Result<(), WriteFailure> {
        // RocksDB consumes what it writes; the caller keeps it for another try.
        self.db.write_opt(WriteBatch::from_data(writes.data()), &self.write).map_err(|error| {
            let message = error.to_string();
            match error.kind() {
                ErrorKind::Busy | ErrorKind::TryAgain | ErrorKind::TimedOut | ErrorKind::Incomplete => {
                    WriteFailure::Passing(message)
                }
                ErrorKind::IOError if is_no_space(&message) => WriteFailure::NoSpace,
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
    /// values are left. The caller flushes memory and the write-ahead log before.
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

    /// Gives the space of the log's deleted entries back to the file system.
    pub(super) fn rewrite_log(&self) {
        let mut options = CompactOptions::default();
        options.set_exclusive_manual_compaction(false);
        let family = self.family(schema::REPLICATION_LOG);
        self.db.compact_range_cf_opt(family, None::<&[u8]>, None::<&[u8]>, &options);
    }

    /// A figure of the large families, summed.
    pub(super) fn property(&self, name: &rocksdb::properties::PropName) -> u64 {
        let families = [schema::RECORD, schema::REPLICATION_LOG, schema::EXPIRY];
        families.into_iter().map(|family| self.figure(family, name)).sum()
    }

    /// A number that RocksDB reports of one family; 0 if it reports none.
    pub(super) fn figure(&self, family: &'static str, name: &rocksdb::properties::PropName) -> u64 {
        self.db.property_int_value_cf(self.family(family), name).ok().flatten().unwrap_or(0)
    }

    /// A text that RocksDB reports of one family.
    pub(super) fn text(&self, family: &'static str, name: &rocksdb::properties::PropName) -> Option<String> {
        self.db.property_value_cf(self.family(family), name).ok().flatten()
    }

    pub(super) fn cache_bytes(&self) -> u64 {
        self.figure(schema::RECORD, rocksdb::properties::BLOCK_CACHE_USAGE)
    }
}

/// Whether a write failed for want of space, of the file system (ENOSPC, which RocksDB has words for) or of a quota
/// (EDQUOT, for which it adds those of the C library at the end).
fn is_no_space(message: &str) -> bool {
    message.starts_with("IO error: No space left on device")
        || message.starts_with("IO error: ") && message.ends_with(": Disk quota exceeded")
}

/// Whether a database did not open because another process, or this one, has it open. RocksDB has no code for
/// that: its messages begin with these words, and what follows (a path, a reason) is looked at no further.
pub(super) fn is_locked(error: &rocksdb::Error) -> bool {
    let message = error.as_ref();
    let io = message.strip_prefix("IO error: ").filter(|_| error.kind() == ErrorKind::IOError);
    io.is_some_and(|io| {
        // ENOLCK, EACCES on the file and the like are no lock of another process.
        let is_held = io.ends_with(": Resource temporarily unavailable");
        io.starts_with("lock hold by current process") || io.starts_with("While lock file: ") && is_held
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_that_is_used_up_is_a_lack_of_space() {
        let quota = std::io::Error::from_raw_os_error(rustix::io::Errno::DQUOT.raw_os_error()).to_string();
        let words = quota.trim_end_matches(" (os error 122)");
        // As RocksDB 11 composes them: env/io_posix.cc, `IOError`.
        assert!(is_no_space(&format!("IO error: While appending to file: /d/db/000009.log: {words}")));
        assert!(is_no_space("IO error: No space left on device: While appending to file: /d/db/000009.log"));
        // What a path says is no reason.
        assert!(!is_no_space(
            "IO error: While open a file: /d/x: Disk quota exceeded/db/1.log: Permission denied"
        ));
        assert!(!is_no_space("Corruption: while reading: Disk quota exceeded"));
    }
}
