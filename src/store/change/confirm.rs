//! Fills that another member has confirmed.

use super::Change;
use crate::store::{commit::Commit, error::StoreError, fills::Confirmed, handle::Store};

impl Store {
    /// Forgets what another member has confirmed of fills. Durable when it returns. The caller keeps adoptions away.
    pub async fn confirm_fills(
        &self,
        confirmed: impl IntoIterator<Item = impl Into<Confirmed>>,
    ) -> Result<(), StoreError> {
        self.change(Confirm(confirmed.into_iter().map(Into::into).collect())).await
    }
}

struct Confirm(Vec<Confirmed>);

impl Change for Confirm {
    type Outcome = ();

    /// Contract: a note that has changed since, because its donor has filled this node again, stays.
    fn build(self, commit: &mut Commit<'_>) -> Result<(), StoreError> {
        let mut waiting = commit.fills().to_vec();
        for Confirmed { fill, left } in self.0 {
            let Some(at) = waiting.iter().position(|waits| *waits == fill) else { continue };
            if left.is_empty() {
                commit.batch.delete_meta(&fill.name());
                waiting.remove(at);
            } else {
                waiting[at].applied = left;
                commit.batch.put_meta(&fill.name(), &waiting[at].encode());
            }
        }
        commit.raised.fills = Some(waiting);
        Ok(())
    }
}
