//! A small value under a name.

use super::Change;
use crate::store::{commit::Commit, error::StoreError, handle::Store};

impl Store {
    /// Keeps a small value under a name.
    pub async fn keep_note(&self, name: &'static [u8], value: Vec<u8>) -> Result<(), StoreError> {
        self.change(Note { name, value }).await
    }
}

struct Note {
    name: &'static [u8],
    value: Vec<u8>,
}

impl Change for Note {
    type Outcome = ();

    fn build(self, commit: &mut Commit<'_>) -> Result<(), StoreError> {
        commit.batch.put_meta(self.name, &self.value);
        Ok(())
    }
}
