//! Fills that another member has confirmed.

use super::Change;
use crate::store::{
    commit::Commit,
    error::StoreError,
    fills::{Confirmed, Fill},
    handle::Store,
};

impl Store {
    /// Forgets fills, or the part of them, that another member has confirmed. Durable when it returns.
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
        let mut waiting = Vec::new();
        for fill in commit.fills().to_vec() {
            let confirmed = self.0.iter().find(|confirmed| confirmed.fill == fill);
            let left = confirmed.map_or(&fill.applied, |confirmed| &confirmed.left);
            let left = Fill { applied: left.clone(), ..fill.clone() };
            match left.applied.is_empty() {
                true => commit.batch.delete_meta(&left.name()),
                false => {
                    if left != fill {
                        commit.batch.put_meta(&left.name(), &left.encode());
                    }
                    waiting.push(left);
                }
            }
        }
        commit.raised.fills = Some(waiting);
        Ok(())
    }
}
