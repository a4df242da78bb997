//! Collecting tombstones.

use super::{Change, Weight};
use crate::store::{commit::Commit, error::StoreError, handle::Store};
use brock_core::base::{id::KeyHash, vector::Vector};

impl Store {
    /// Forgets those of the tombstones whose deletes lie at or below `stable`. Returns how many.
    pub async fn collect(&self, key_hashes: Vec<KeyHash>, stable: Vector) -> Result<usize, StoreError> {
        self.change(Collect { key_hashes, stable }).await
    }
}

struct Collect {
    key_hashes: Vec<KeyHash>,
    stable: Vector,
}

impl Change for Collect {
    type Outcome = usize;

    fn weight(&self) -> Weight {
        Weight { operations: self.key_hashes.len(), bytes: 0 }
    }

    fn key_hashes(&self, needed: &mut Vec<KeyHash>) {
        needed.extend(&self.key_hashes);
    }

    /// Contract: only tombstones whose deletes are stable go, and the vector of what is collected
    /// rises in the same batch, so a record that comes back from elsewhere is recognised.
    fn build(self, commit: &mut Commit<'_>) -> Result<usize, StoreError> {
        let mut collected = 0;
        for key_hash in &self.key_hashes {
            // A tombstone whose create was never seen here waits for it.
            let state = commit.state(key_hash).filter(|state| state.was_created);
            let deletion = state.and_then(|state| state.deletion);
            if deletion.is_some_and(|stamp| self.stable.has(stamp)) && commit.replace(key_hash, None) {
                collected += 1;
            }
        }
        if collected > 0 {
            commit.raise_collected(&commit.before.applied());
        }
        commit.tally.collected += collected as u64;
        Ok(collected)
    }
}
