//! The last bundle of a log that is here on a donor's word.

use super::Change;
use crate::store::{commit::Commit, error::StoreError, handle::Store};
use brock_core::{
    base::{id::Origin, vector::Clock},
    domain::bundle::Tip,
};

impl Store {
    /// Keeps the last bundle of a log of which that is not known. The caller has verified it. Durable when it returns.
    /// Idempotent.
    pub async fn keep_tip(&self, origin: Origin, tip: Tip) -> Result<(), StoreError> {
        self.change(KeepTip { origin, tip }).await
    }
}

struct KeepTip {
    origin: Origin,
    tip: Tip,
}

impl Change for KeepTip {
    type Outcome = ();

    /// Contract: nothing is raised, and nothing that is known is replaced. If the log here ends in another bundle, the
    /// tip is not its.
    fn build(self, commit: &mut Commit<'_>) -> Result<(), StoreError> {
        let Self { origin, tip } = self;
        let last = tip.bundle.last();
        let is_wanted = commit.before.vector.get(&origin) == last && commit.applied(&origin) == last;
        if !is_wanted || commit.tip(&origin).is_some() || commit.is_frozen(&origin) {
            return Ok(());
        }
        let stored = commit.view().bundles(origin, Clock(last.0.saturating_sub(1))).next().transpose()?;
        // What begins above was copied and is not adopted.
        if stored.is_none_or(|stored| stored == tip || stored.bundle.first > last) {
            commit.raise(origin, last, Some(tip));
        }
        Ok(())
    }
}
