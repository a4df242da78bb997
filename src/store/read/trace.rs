//! Everything that this node knows of one key hash.

use crate::store::{
    error::StoreError,
    handle::{Shared, Store},
    schema,
};
use brock_core::{
    base::{
        id::KeyHash,
        limits,
        vector::{Stamp, Vector},
    },
    domain::{
        codec::QUARANTINED_STATE,
        operation::Operation,
        record::{RecordState, UnixSeconds},
    },
};

/// An operation on one record, as this node's log has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedOperation {
    /// Its place in the log.
    pub stamp: Stamp,
    /// When it was applied here, in milliseconds; 0 = unknown.
    pub applied_unix_ms: u64,
    /// What it does; `None` = it is quarantined.
    pub operation: Option<Operation>,
    /// When the operator signed it, if one did: an unpublish and a delete state no other time.
    pub ordered_at: Option<UnixSeconds>,
}

/// All that this node knows of one key hash.
#[derive(Debug, Clone)]
pub struct Traced {
    /// Its state; `None` = nothing is known.
    pub state: Option<RecordState>,
    /// What the log has, by origin and clock.
    pub operations: Vec<LoggedOperation>,
    /// Whether a payload of it is deleted but may still be in some file.
    pub removal_pending: bool,
    /// What is applied here.
    pub applied: Vector,
}

impl Store {
    /// Everything that this node knows of one key hash. Reads the keys of the whole log.
    pub async fn trace(&self, key_hash: KeyHash) -> Result<Traced, StoreError> {
        self.blocking(move |shared| trace(shared, key_hash)).await
    }
}

fn trace(shared: &Shared, key_hash: KeyHash) -> Result<Traced, StoreError> {
    let applied = shared.published().applied();
    let view = shared.database.view();
    let mut operations = Vec::new();
    for entry in view.whole_log() {
        let entry = entry?;
        let stamp = entry.key.stamp;
        if entry.key.key_hash == key_hash && applied.has(stamp) && operations.len() < limits::TRACE_OPERATIONS
        {
            let decoded = match entry.key.state {
                QUARANTINED_STATE => None,
                _ => Operation::decode_with(&entry.operation).ok(),
            };
            let (operation, order) = decoded.unzip();
            let ordered_at = order.flatten().map(|order| order.at());
            let applied_unix_ms = entry.applied_unix_ms;
            operations.push(LoggedOperation { stamp, applied_unix_ms, operation, ordered_at });
        }
    }
    Ok(Traced {
        state: view.state(&key_hash)?,
        operations,
        removal_pending: view.mark(schema::REMOVAL, &key_hash)?.is_some(),
        applied,
    })
}
