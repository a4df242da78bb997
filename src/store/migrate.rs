//! Bringing a database of an older format up to date.

use rocksdb::WriteBatch;

use super::{
    database::{Database, Totals, WriteFailure},
    error::StoreError,
};
use brock_core::domain::digest::SetDigest;

impl Database {
    /// From format 1, which had no digests, no floors and fewer totals. One scan of everything, then
    /// one batch; the format version follows with the new incarnation. Broken off, it begins anew.
    pub(super) fn migrate(&self) -> Result<(), StoreError> {
        tracing::info!("bringing the storage from format 1 up to date: every record is read once");
        let mut digest = SetDigest::default();
        let mut totals =
            Totals { quarantined: self.quarantine(None, usize::MAX)?.len() as u64, ..Totals::default() };
        self.scan_records(None, None, |key_hash, state, _| {
            let bucket = SetDigest::bucket_of(&key_hash);
            let mut changed = digest.get(bucket);
            changed.replace(&key_hash, None, Some(&state));
            digest.set(bucket, changed);
            Ok(true)
        })?;
        self.scan_whole_log(|entry| {
            totals.log_entries += 1;
            totals.log_bytes += entry.bytes();
            Ok(true)
        })?;
        totals.add(digest.counts());
        let mut batch = WriteBatch::default();
        for bucket in 0..=u8::MAX {
            self.put_bucket(&mut batch, bucket, digest.get(bucket));
        }
        self.put_totals(&mut batch, totals);
        self.write(&batch).map_err(|failure| match failure {
            WriteFailure::NoSpace => StoreError::DiskFull { free: 0 },
            WriteFailure::Passing(reason) | WriteFailure::Fatal(reason) => StoreError::Stopped(reason),
        })
    }
}
