//! Entries in quarantine.

use crate::store::{error::StoreError, handle::Store};
use brock_core::{base::vector::Stamp, proto};

impl Store {
    /// Quarantined entries above `after`, and whether there are more.
    pub async fn quarantine_page(
        &self,
        after: Option<Stamp>,
        limit: usize,
    ) -> Result<(Vec<(Stamp, proto::QuarantinedEntry)>, bool), StoreError> {
        self.blocking(move |shared| {
            let mut entries = shared.database.view().quarantine(after, limit + 1)?;
            let more = entries.len() > limit;
            entries.truncate(limit);
            Ok((entries, more))
        })
        .await
    }

    /// One quarantined entry.
    pub async fn quarantined_entry(
        &self,
        stamp: Stamp,
    ) -> Result<Option<proto::QuarantinedEntry>, StoreError> {
        self.blocking(move |shared| shared.database.view().quarantined(stamp)).await
    }
}
