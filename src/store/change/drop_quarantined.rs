//! Discarding a quarantined entry.

use super::Change;
use crate::store::{commit::Commit, error::StoreError, handle::Store};
use brock_core::base::vector::Stamp;

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
        match commit.view().quarantined(stamp)? {
            Some(kept) => commit.leave_quarantine(stamp, &kept),
            None => return Ok(false),
        }
        Ok(true)
    }
}
