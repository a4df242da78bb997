//! Removing the payloads of expired records.

use super::{Change, Weight};
use crate::store::{commit::Commit, error::StoreError, handle::Store};
use brock_core::{
    base::{id::KeyHash, limits},
    domain::record::UnixSeconds,
};

impl Store {
    /// Removes the payloads of some of the records that, with the margin, were expired at `now`.
    /// Returns how many index entries were dealt with: 0 = nothing left to do.
    pub async fn sweep(&self, now: UnixSeconds) -> Result<usize, StoreError> {
        let expired_before = now.saturating_sub(self.shared.expiry_margin_seconds);
        self.change(Sweep { expired_before }).await
    }
}

struct Sweep {
    expired_before: UnixSeconds,
}

impl Change for Sweep {
    type Outcome = usize;

    fn weight(&self) -> Weight {
        Weight { operations: limits::SWEEP_BATCH, bytes: 0 }
    }

    /// Contract: only payloads of records that expired at or before `expired_before` go. The rest of
    /// their states stays, so that later operations join to the same outcome on every node.
    fn build(self, commit: &mut Commit<'_>) -> Result<usize, StoreError> {
        let due = commit.view().due(self.expired_before, limits::SWEEP_BATCH)?;
        let key_hashes: Vec<KeyHash> = due.iter().map(|(_, key_hash)| *key_hash).collect();
        commit.load(&key_hashes)?;
        for (at, key_hash) in &due {
            match commit.state(key_hash) {
                Some(state) if state.is_expired(self.expired_before) && state.due_at().is_some() => {
                    let swept = state.without_payload();
                    commit.replace(key_hash, Some(swept));
                    commit.tally.expired += 1;
                }
                // The record has moved on: only the index entry is stale.
                _ => commit.batch.delete_expiry(*at, key_hash),
            }
        }
        Ok(due.len())
    }
}
