//! Fills that another member has confirmed.

use super::Change;
use crate::store::{commit::Commit, error::StoreError, fills::Fill, handle::Store};

impl Store {
    /// Forgets these fills: another member has shown that nothing was left out. The caller keeps adoptions away.
    pub async fn confirm_fills(&self, fills: Vec<Fill>) -> Result<(), StoreError> {
        self.change(Confirm(fills)).await
    }
}

struct Confirm(Vec<Fill>);

impl Change for Confirm {
    type Outcome = ();

    /// Contract: a note that has changed since, because its donor has filled this node again, stays.
    fn build(self, commit: &mut Commit<'_>) -> Result<(), StoreError> {
        let (confirmed, left): (Vec<_>, Vec<_>) =
            commit.fills().iter().cloned().partition(|fill| self.0.contains(fill));
        for fill in confirmed {
            commit.batch.delete_meta(&fill.name());
        }
        commit.raised.fills = Some(left);
        Ok(())
    }
}
