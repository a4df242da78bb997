//! New records by clients of this node.

use bytes::Bytes;

use super::{Change, Weight};
use crate::store::{commit::Commit, error::StoreError, handle::Store};
use brock_core::{
    base::{
        id::{KeyHash, sha256},
        vector::Stamp,
    },
    domain::{operation::Operation, record::UnixSeconds},
};

/// A record to create.
#[derive(Clone)]
pub struct NewRecord {
    /// What it is found by.
    pub key_hash: KeyHash,
    /// When it was created.
    pub created_at: UnixSeconds,
    /// When it expires; `None` = never.
    pub expires_at: Option<UnixSeconds>,
    /// Whether it may be used without authentication.
    pub public: bool,
    /// The encoded payload.
    pub payload: Bytes,
}

/// The outcome of one create.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreateOutcome {
    /// It is durable, and this is its place in the log.
    Created(Stamp),
    /// This node knows the key hash already, perhaps as expired. Nothing changed.
    Exists,
    /// This node knows that the record was deleted. Nothing changed.
    WasDeleted,
}

impl Store {
    /// Creates records. Durable when it returns; each record has its own outcome, in order.
    pub async fn create(&self, records: Vec<NewRecord>) -> Result<Vec<CreateOutcome>, StoreError> {
        self.change(Create(records)).await
    }
}

struct Create(Vec<NewRecord>);

impl Change for Create {
    type Outcome = Vec<CreateOutcome>;

    fn weight(&self) -> Weight {
        let bytes = self.0.iter().map(|record| record.payload.len()).sum();
        Weight { operations: self.0.len(), bytes }
    }

    fn key_hashes(&self, needed: &mut Vec<KeyHash>) {
        needed.extend(self.0.iter().map(|record| record.key_hash));
    }

    fn build(self, commit: &mut Commit<'_>) -> Result<Self::Outcome, StoreError> {
        Ok(self.0.into_iter().map(|record| create(commit, record)).collect())
    }
}

/// Contract: record, log entry, clock and indexes become durable together, or the create is refused,
/// changes nothing and does not advance the clock.
fn create(commit: &mut Commit<'_>, record: NewRecord) -> CreateOutcome {
    let digest = sha256(&record.payload);
    if let Some(state) = commit.state(&record.key_hash)
        && (state.is_created() || state.deletion.is_some())
    {
        let refused =
            if state.deletion.is_some() { CreateOutcome::WasDeleted } else { CreateOutcome::Exists };
        let values_equal = state.creation.as_ref().is_some_and(|creation| creation.digest == digest);
        let tally = &mut commit.tally;
        *(if values_equal { &mut tally.duplicates_equal } else { &mut tally.duplicates_unequal }) += 1;
        return refused;
    }
    let NewRecord { key_hash, created_at, expires_at, public, payload } = record;
    let operation = Operation::Create { created_at, expires_at, public, digest };
    let stamp = commit.originate(key_hash, &operation, None, Some(payload));
    commit.tally.creates += 1;
    commit.tally.expiring_creates += u64::from(expires_at.is_some());
    CreateOutcome::Created(stamp)
}
