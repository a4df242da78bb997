//! Logging again what is not proven, in the name of this node's origin, which signs.

use super::{Change, Weight};
use crate::store::{commit::Commit, error::StoreError, handle::Store};
use brock_core::{
    base::id::KeyHash,
    domain::{operation::Operation, order::OrderProof, record::Creation, relog},
};

/// Records of which something is not proven.
#[derive(Debug, Clone)]
pub struct Relog {
    /// What they are found by, and the orders of an operator for what of them destroys. The caller has verified each
    /// for its record.
    pub records: Vec<(KeyHash, Vec<(Operation, OrderProof)>)>,
    /// About how many bytes they have.
    pub bytes: usize,
}

/// What was logged again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Relogged {
    /// Records that are proven now.
    pub records: u64,
    /// Operations that were logged for that.
    pub operations: u64,
    /// All that destroys of the records that lack an operator's order, and of which nothing was logged.
    pub waiting: Vec<(KeyHash, Operation)>,
}

impl Store {
    /// Logs again what of these records is not proven. Durable when it returns. Idempotent.
    pub async fn relog(&self, relog: Relog) -> Result<Relogged, StoreError> {
        self.change(relog).await
    }
}

impl Change for Relog {
    type Outcome = Relogged;

    fn weight(&self) -> Weight {
        Weight { operations: self.records.len(), bytes: self.bytes }
    }

    fn key_hashes(&self, needed: &mut Vec<KeyHash>) {
        needed.extend(self.records.iter().map(|(key_hash, _)| *key_hash));
    }

    /// Contract: a record is logged again as a whole, or nothing of it is: without an order for everything in it that
    /// destroys, nodes that ask for orders would show it without its revocation. What a reader sees does not change.
    fn build(self, commit: &mut Commit<'_>) -> Result<Relogged, StoreError> {
        let mut relogged = Relogged::default();
        for (key_hash, orders) in self.records {
            let Some(state) = commit.state(&key_hash) else { continue };
            let operations = relog::operations(state);
            let order_of = |operation: &Operation| {
                let ordered = orders.iter().find(|(ordered, _)| ordered == operation);
                ordered.map(|(_, proof)| proof)
            };
            let lacks = |operation: &Operation| operation.destroys() && order_of(operation).is_none();
            if operations.iter().any(lacks) {
                let destructions = operations.into_iter().filter(Operation::destroys);
                relogged.waiting.extend(destructions.map(|operation| (key_hash, operation)));
                continue;
            }
            let winner = state.creation.clone();
            relogged.records += u64::from(!operations.is_empty());
            relogged.operations += operations.len() as u64;
            for operation in &operations {
                let payload = winner.as_ref().filter(|winner| is_of(operation, winner));
                let payload = payload.and_then(|winner| winner.payload.clone());
                commit.originate(key_hash, operation, order_of(operation), payload);
            }
        }
        Ok(relogged)
    }
}

fn is_of(operation: &Operation, creation: &Creation) -> bool {
    matches!(operation, Operation::Create { digest, .. } if *digest == creation.digest)
}
