//! Removing the payloads of deleted records from every file of the database.

use super::{Change, Weight};
use crate::store::{commit::Commit, error::StoreError, handle::Store, schema};
use brock_core::base::{id::KeyHash, limits};

impl Store {
    /// Removes the payloads of deleted records from every file of the database. Returns how many
    /// are gone now.
    pub async fn remove_payloads(&self) -> Result<usize, StoreError> {
        let marks = self
            .blocking(|shared| {
                let marks = shared.database.view().marks(schema::REMOVAL, None, limits::REMOVALS_AT_ONCE)?;
                if !marks.is_empty() {
                    let _no_snapshot = shared.database.without_snapshots();
                    // First out of memory and out of the write-ahead log, then out of older files.
                    shared.database.flush().map_err(StoreError::Read)?;
                    let key_hashes: Vec<KeyHash> = marks.iter().map(|(key_hash, _)| *key_hash).collect();
                    shared.database.rewrite_records(&key_hashes);
                }
                Ok(marks)
            })
            .await?;
        if marks.is_empty() {
            return Ok(0);
        }
        self.change(Removed(marks)).await
    }
}

/// Key hashes whose payloads were removed from the files, and the marks that they had before.
struct Removed(Vec<(KeyHash, Vec<u8>)>);

impl Change for Removed {
    type Outcome = usize;

    fn weight(&self) -> Weight {
        Weight { operations: self.0.len(), bytes: 0 }
    }

    /// Contract: compaction has rewritten every file that could hold these payloads. A payload that
    /// came back and was deleted again meanwhile has another mark, which stays.
    fn build(self, commit: &mut Commit<'_>) -> Result<usize, StoreError> {
        let mut removed = 0;
        for (key_hash, mark) in &self.0 {
            if commit.view().mark(schema::REMOVAL, key_hash)?.as_ref() == Some(mark) {
                commit.batch.unmark(schema::REMOVAL, key_hash);
                removed += 1;
            }
        }
        commit.totals.removals = commit.totals.removals.saturating_sub(removed as u64);
        Ok(removed)
    }
}
