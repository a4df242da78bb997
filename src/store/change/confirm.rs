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
        let noted = commit.view().fills()?;
        for fill in self.0.iter().filter(|fill| noted.contains(fill)) {
            commit.batch.delete_meta(&fill.name());
        }
        Ok(())
    }
}
