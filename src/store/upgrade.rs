//! Bringing a database of an older format up to date.

use super::{batch::Batch, database::Database, error::StoreError, published::Totals};
use brock_core::domain::digest::SetDigest;

/// From format 1, which had no digests, no floors and fewer totals. One scan of everything, then one
/// batch; the format version follows with the new incarnation. An interrupted upgrade restarts.
pub(super) fn from_format_1(database: &Database) -> Result<(), StoreError> {
    tracing::info!("upgrading the storage from format 1: every record is read once");
    let view = database.view();
    let mut digest = SetDigest::default();
    let mut totals =
        Totals { quarantined: view.quarantine(None, usize::MAX)?.len() as u64, ..Totals::default() };
    for record in view.records(None, None) {
        let (key_hash, state, _) = record?;
        let bucket = SetDigest::bucket_of(&key_hash);
        let mut changed = digest.get(bucket);
        changed.replace(&key_hash, None, Some(&state));
        digest.set(bucket, changed);
    }
    for entry in view.whole_log() {
        totals.log_entries += 1;
        totals.log_bytes += entry?.bytes();
    }
    totals.add(digest.counts());
    let mut batch = Batch::new(database);
    for bucket in 0..=u8::MAX {
        batch.put_bucket(bucket, digest.get(bucket));
    }
    batch.put_totals(totals);
    Ok(database.write(&batch.into_writes())?)
}
