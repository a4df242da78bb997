//! An invalidate, unpublish or delete by a client of this node.

use super::Change;
use crate::store::{commit::Commit, error::StoreError, handle::Store};
use brock_core::{
    base::{id::KeyHash, vector::Stamp},
    domain::{operation::Operation, order::OrderProof, record::RecordState},
};

/// An invalidate, unpublish or delete to make.
#[derive(Debug, Clone)]
pub struct NewOperation {
    /// The record.
    pub key_hash: KeyHash,
    /// What to do to it.
    pub operation: Operation,
    /// Whether to do it also if this node knows of no create.
    pub ahead: bool,
}

/// The outcome of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperationOutcome {
    /// It is durable, and this is its place in the log.
    Done(Stamp),
    /// This earlier operation had the same effect. Nothing changed.
    Already(Stamp),
    /// The record is deleted, and can only be deleted again. Nothing changed.
    Deleted,
    /// This node does not know the key hash. Nothing changed.
    Unknown,
}

impl Store {
    /// Invalidates, unpublishes or deletes a record. Durable when it returns.
    pub async fn operate(&self, operation: NewOperation) -> Result<OperationOutcome, StoreError> {
        self.operate_with(operation, None).await
    }

    /// The same, with an operator's signature, whose chain is kept already.
    pub async fn operate_with(
        &self,
        operation: NewOperation,
        order: Option<OrderProof>,
    ) -> Result<OperationOutcome, StoreError> {
        self.change(Operate(operation, order)).await
    }
}

struct Operate(NewOperation, Option<OrderProof>);

impl Change for Operate {
    type Outcome = OperationOutcome;

    fn key_hashes(&self, needed: &mut Vec<KeyHash>) {
        needed.push(self.0.key_hash);
    }

    /// Contract: the operation is logged and joined in one batch, or changes nothing and does not
    /// advance the clock: because it is in effect already (the outcome names the operation that did
    /// it), because the record is deleted, or because this node knows of no create and the caller
    /// does not act ahead of one.
    fn build(self, commit: &mut Commit<'_>) -> Result<OperationOutcome, StoreError> {
        let Self(NewOperation { key_hash, operation, ahead }, order) = self;
        let nothing = RecordState::default();
        let state = commit.state(&key_hash).unwrap_or(&nothing);
        if let Some(deletion) = state.deletion {
            return Ok(match operation {
                Operation::Delete => OperationOutcome::Already(deletion),
                _ => OperationOutcome::Deleted,
            });
        }
        if !state.is_created() && !ahead {
            return Ok(OperationOutcome::Unknown);
        }
        let in_effect = match &operation {
            Operation::Invalidate { .. } => {
                state.invalidation.as_ref().map(|invalidation| invalidation.stamp)
            }
            Operation::Unpublish if state.unpublished => {
                state.unpublication.or(state.creation.as_ref().map(|creation| creation.stamp))
            }
            Operation::Unpublish | Operation::Delete | Operation::Create { .. } => None,
        };
        if let Some(stamp) = in_effect {
            return Ok(OperationOutcome::Already(stamp));
        }
        let tally = &mut commit.tally;
        *match &operation {
            Operation::Invalidate { .. } => &mut tally.invalidates,
            Operation::Unpublish => &mut tally.unpublishes,
            Operation::Delete | Operation::Create { .. } => &mut tally.deletes,
        } += 1;
        Ok(OperationOutcome::Done(commit.originate(key_hash, &operation, order.as_ref(), None)))
    }
}
