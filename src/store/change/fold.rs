//! Folding a finished origin away.

use super::Change;
use crate::store::{commit::Commit, error::StoreError, handle::Store};
use brock_core::base::{id::Origin, vector::Clock};

impl Store {
    /// Takes a finished origin out of the vector. Returns whether that could be done: its whole log
    /// must be compacted, and it must not be this node's own present origin.
    pub async fn fold(&self, origin: Origin) -> Result<bool, StoreError> {
        self.change(Fold(origin)).await
    }
}

struct Fold(Origin);

impl Change for Fold {
    type Outcome = bool;

    /// Contract: the origin's last clock is remembered apart, so what it wrote stays applied.
    fn build(self, commit: &mut Commit<'_>) -> Result<bool, StoreError> {
        let origin = self.0;
        let last = commit.before.vector.get(&origin);
        let is_whole = last > Clock::default() && commit.floor(&origin) == last;
        let is_kept = origin == commit.own.origin || commit.is_frozen(&origin);
        if is_kept || !is_whole || commit.raised.vector.lists(&origin) {
            return Ok(false);
        }
        let tip = commit.tip(&origin);
        commit.fold_away(origin, last, tip);
        commit.tally.folded += 1;
        Ok(true)
    }
}
