//! An operator's note that conflicts are dealt with.

use super::Change;
use crate::store::{commit::Commit, error::StoreError, handle::Store};
use brock_core::base::id::KeyHash;

impl Store {
    /// Notes here that an operator has dealt with the conflicts of these keys, until another payload of the same
    /// key loses. Returns how many of the keys have a conflict.
    pub async fn acknowledge(&self, key_hashes: Vec<KeyHash>) -> Result<usize, StoreError> {
        self.change(Acknowledge(key_hashes)).await
    }
}

struct Acknowledge(Vec<KeyHash>);

impl Change for Acknowledge {
    type Outcome = usize;

    fn key_hashes(&self, needed: &mut Vec<KeyHash>) {
        needed.extend(&self.0);
    }

    /// Contract: the note is of the losers that there are by now, as if the changes before it in this group were
    /// a commit of their own: what is answered holds until another payload loses. It lies beside the record, and
    /// changes neither the record nor the log.
    fn build(self, commit: &mut Commit<'_>) -> Result<usize, StoreError> {
        let mut conflicts = self.0;
        conflicts.sort_unstable();
        conflicts.dedup();
        conflicts.retain(|key_hash| commit.acknowledge(key_hash));
        Ok(conflicts.len())
    }
}
