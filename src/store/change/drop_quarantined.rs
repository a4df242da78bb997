//! Discarding a quarantined entry.

use super::Change;
use crate::store::{commit::Commit, error::StoreError, handle::Store, view::Logged};
use brock_core::{
    base::{id::KeyHash, vector::Stamp},
    domain::codec::{LogKey, QUARANTINED_STATE},
};

impl Store {
    /// Discards a quarantined entry. Returns whether there was one.
    pub async fn drop_quarantined(&self, stamp: Stamp) -> Result<bool, StoreError> {
        self.change(DropQuarantined(stamp)).await
    }
}

struct DropQuarantined(Stamp);

impl Change for DropQuarantined {
    type Outcome = bool;

    /// Contract: the entry leaves the quarantine and stays in the log as its origin wrote it, so it
    /// is still relayed: another node may understand it.
    fn build(self, commit: &mut Commit<'_>) -> Result<bool, StoreError> {
        let stamp = self.0;
        let Some(kept) = commit.view().quarantined(stamp)? else { return Ok(false) };
        if let Some(entry) = kept.entry {
            let key_hash = KeyHash::try_from(entry.key_hash.as_ref()).unwrap_or(KeyHash([0; 32]));
            let key = LogKey { stamp, key_hash, state: QUARANTINED_STATE };
            if commit.view().has_log(key)? {
                commit.totals.log_bytes += entry.operation.len() as u64;
                let applied_unix_ms = commit.now_unix_ms;
                commit.batch.put_log(&Logged { key, applied_unix_ms, operation: entry.operation });
            }
        }
        commit.leave_quarantine(stamp);
        Ok(true)
    }
}
