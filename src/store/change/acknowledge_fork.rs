//! An operator's note that what has frozen an origin is dealt with.

use std::collections::BTreeSet;

use super::Change;
use crate::store::{commit::Commit, error::StoreError, handle::Store};
use brock_core::{base::id::Origin, domain::codec::CodecError};

/// The names of the notes begin so.
const PREFIX: &[u8] = b"fork/";

impl Store {
    /// Notes here that an operator has dealt with what has frozen an origin. Returns whether it is frozen here;
    /// otherwise nothing is noted. Durable when it returns.
    pub async fn acknowledge_fork(&self, origin: Origin) -> Result<bool, StoreError> {
        self.change(AcknowledgeFork(origin)).await
    }

    /// The frozen origins that an operator has dealt with.
    pub async fn acknowledged_forks(&self) -> Result<BTreeSet<Origin>, StoreError> {
        let notes = self.blocking(|shared| shared.database.view().notes(PREFIX)).await?;
        let origin = |note: &Vec<u8>| Origin::try_from(note.as_slice());
        let origins = notes.iter().map(origin).collect::<Result<_, _>>();
        origins.map_err(|_| CodecError::Malformed("acknowledged fork").into())
    }
}

struct AcknowledgeFork(Origin);

impl Change for AcknowledgeFork {
    type Outcome = bool;

    /// Contract: one note for each frozen origin, beside the proof, of which nothing changes: there are as many as
    /// proofs at most.
    fn build(self, commit: &mut Commit<'_>) -> Result<bool, StoreError> {
        let origin = self.0.as_bytes();
        let is_frozen = commit.is_frozen(&self.0);
        if is_frozen {
            commit.batch.put_meta(&[PREFIX, origin.as_slice()].concat(), origin);
        }
        Ok(is_frozen)
    }
}
