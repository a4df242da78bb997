//! Small values: notes and members.

use crate::store::{error::StoreError, handle::Store};
use brock_core::proto;

impl Store {
    /// A small value that was kept under a name.
    pub async fn note(&self, name: &'static [u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.blocking(move |shared| shared.database.view().meta(name)).await
    }

    /// What was remembered of the members when the node last ran.
    pub async fn members(&self) -> Result<Vec<proto::MemberState>, StoreError> {
        self.blocking(|shared| shared.database.view().members()).await
    }
}
