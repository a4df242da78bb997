//! Another try to apply a quarantined entry.

use super::Change;
use crate::store::{commit::Commit, error::StoreError, handle::Store, view::Logged};
use brock_core::{
    base::vector::Stamp,
    domain::{
        codec::{LogKey, QUARANTINED_STATE},
        operation::{EntryError, check_entry},
        quarantined,
    },
};

impl Store {
    /// Tries again to apply a quarantined entry. `None` = there is no such entry; the inner error
    /// says why it still cannot be applied.
    pub async fn retry_quarantined(
        &self,
        stamp: Stamp,
    ) -> Result<Option<Result<(), EntryError>>, StoreError> {
        self.change(RetryQuarantined(stamp)).await
    }
}

struct RetryQuarantined(Stamp);

impl Change for RetryQuarantined {
    type Outcome = Option<Result<(), EntryError>>;

    /// Contract: the entry is applied in its place and leaves the quarantine in one batch, or nothing
    /// changes.
    fn build(self, commit: &mut Commit<'_>) -> Result<Self::Outcome, StoreError> {
        let stamp = self.0;
        let Some(kept) = commit.view().quarantined(stamp)? else { return Ok(None) };
        let Some(as_it_came) = &kept.entry else { return Ok(None) };
        let (entry, payload) = match check_entry(as_it_came) {
            Ok(checked) => checked,
            Err(reason) => return Ok(Some(Err(reason))),
        };
        commit.load(&[entry.key_hash])?;
        let key = LogKey { stamp, key_hash: entry.key_hash, state: QUARANTINED_STATE };
        if commit.view().has_log(key)? {
            commit.unlog(&Logged { key, applied_unix_ms: 0, operation: entry.encoded.clone() });
            let state = entry.operation.resulting_state().into();
            commit.log(stamp, entry.key_hash, state, entry.encoded.clone());
        }
        commit.is_unlogged |= commit.merge(entry.key_hash, entry.operation.state(stamp, payload));
        if let Some(evidence) = quarantined::evidence_of(&kept) {
            commit.prove(&entry.key_hash, stamp, evidence);
        }
        commit.leave_quarantine(stamp, &kept);
        Ok(Some(Ok(())))
    }
}
