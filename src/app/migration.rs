//! Logging again what is not proven, so that a cluster whose operations were not signed can become one that believes
//! only what is.

use super::{error::RequestError, operations::Operations};
use crate::store::Relog;
use brock_core::{
    base::{id::KeyHash, limits},
    domain::{
        operation::Operation,
        order::{OrderProof, SignedOrder, Subject},
    },
};

/// One step through the records, in the order of their key hashes.
#[derive(Debug, Clone, Default)]
pub struct MigrationStep {
    /// Above this key hash; `None` = from the first.
    pub after: Option<KeyHash>,
    /// An operator's orders for what of the step's records destroys.
    pub orders: Vec<(KeyHash, Operation, SignedOrder)>,
}

/// What a step did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Migrated {
    /// Records that are proven now.
    pub records: u64,
    /// Operations that were logged again for that.
    pub operations: u64,
    /// What waits for an order. The step is to be repeated with them.
    pub waiting: Vec<(KeyHash, Operation)>,
    /// Where the next step begins; `None` = there is none.
    pub next: Option<KeyHash>,
    /// Records here that are not proven.
    pub unproven: u64,
}

impl Operations {
    /// Logs again, under this node's own origin, what of a bounded number of records is not proven. Durable when it
    /// returns. Idempotent: what is proven is left alone.
    ///
    /// Contract: what destroys is logged with an operator's valid order only, whatever this node believes: nodes that
    /// ask for orders would take nothing more of its log. Without one, nothing of that record is logged.
    pub async fn migrate(&self, step: MigrationStep) -> Result<Migrated, RequestError> {
        let MigrationStep { after, orders } = step;
        if self.store.born(&self.store.origin()).is_none() {
            return Err(RequestError::DoesNotSign);
        }
        let mut accepted: Vec<(KeyHash, Operation, OrderProof)> = Vec::with_capacity(orders.len());
        for (key_hash, operation, order) in orders {
            let subject = Subject::ordered(&operation, &key_hash, &order.proof);
            let subject = subject.ok_or_else(|| RequestError::field("orders", "a create needs no order"))?;
            // Such an operation is malformed to every node.
            if matches!(&operation, Operation::Invalidate { at, .. } if *at > order.proof.at()) {
                let problem =
                    "an order precedes what it orders: check the clocks of the node and of the operator";
                return Err(RequestError::field("orders", problem));
            }
            self.orders.accept(subject, &order).await?;
            accepted.push((key_hash, operation, order.proof));
        }
        self.leave_ended_log(&accepted).await?;
        let found = self.store.unproven(after).await?;
        let records = found.key_hashes.into_iter().map(|key_hash| {
            let ordered = accepted.iter().filter(|(of, ..)| *of == key_hash);
            (key_hash, ordered.map(|(_, operation, proof)| (operation.clone(), proof.clone())).collect())
        });
        let relogged = self.store.relog(Relog { records: records.collect(), bytes: found.bytes }).await?;
        let mut waiting = relogged.waiting;
        // The rest is asked for once these are ordered. A record waits for all of its orders at once.
        if let Some((cut, _)) = waiting.get(limits::MIGRATION_ORDERS_MAX).cloned() {
            waiting.truncate(limits::MIGRATION_ORDERS_MAX);
            waiting.retain(|(key_hash, _)| *key_hash != cut);
        }
        Ok(Migrated {
            records: relogged.records,
            operations: relogged.operations,
            waiting,
            next: found.next,
            unproven: self.store.totals().unproven,
        })
    }

    /// Goes on as another incarnation if this one has logged what is about to be logged again with an order: nodes that
    /// ask for orders take nothing of its log behind that.
    async fn leave_ended_log(
        &self,
        ordered: &[(KeyHash, Operation, OrderProof)],
    ) -> Result<(), RequestError> {
        let own = self.store.origin();
        for (key_hash, ..) in ordered {
            let state = self.store.get(*key_hash).await?.unwrap_or_default();
            if state.unproven().iter().any(|(stamp, part)| stamp.origin == own && part.destroys()) {
                self.store.go_on("migrated").await?;
                break;
            }
        }
        Ok(())
    }
}
