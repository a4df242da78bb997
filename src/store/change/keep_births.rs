//! Births of origins whose operations come by another way than batches of their log.

use super::Change;
use crate::store::{commit::Commit, error::StoreError, handle::Store};
use brock_core::domain::birth::SignedBirth;

impl Store {
    /// Keeps births. The caller has verified them. Durable when it returns. Idempotent.
    pub async fn keep_births(&self, births: Vec<SignedBirth>) -> Result<(), StoreError> {
        self.change(KeepBirths(births)).await
    }
}

struct KeepBirths(Vec<SignedBirth>);

impl Change for KeepBirths {
    type Outcome = ();

    /// Contract: an origin that has a birth keeps it.
    fn build(self, commit: &mut Commit<'_>) -> Result<(), StoreError> {
        self.0.into_iter().for_each(|birth| commit.take_birth(Some(birth)));
        Ok(())
    }
}
