//! The changes that the store can make: one file for each.
//!
//! A file holds the whole of a change: what is asked for, what is answered, its weight, the key hashes
//! whose states it needs, how it is built into a commit (with its contract), and the method of
//! [`Store`] that submits it. A new change is a new file and its line here.
//!
//! By clients of this node:
//!
//! - `create`: new records; `operate`: an invalidate, unpublish or delete.
//! - `relog`: what is not proven, once more, in the name of this node.
//!
//! From peers:
//!
//! - `apply`: a segment of a peer's log.
//! - `join`: states that came by another way; `import_log`: the log of a snapshot; `adopt`: the vector
//!   of a snapshot, once all of it is here; `confirm`: that its donor has left nothing out.
//! - `keep_births`: births of origins; `keep_tip`: the last bundle of a log that a snapshot has brought.
//! - `keep_chains`: operators' certificates, which come before their orders.
//! - `retry_quarantined`, `drop_quarantined`: an operator's decision on an entry in quarantine.
//!
//! That keep the store small and true:
//!
//! - `sweep`: payloads of expired records; `remove_payloads`: what deletes have left in files.
//! - `compact`: the log; `fold`: a finished origin; `collect`: tombstones.
//! - `freeze`: an origin that has signed two histories.
//! - `drop_bundles`: bundles that prove nothing any more.
//! - `repair_digest`: a bucket's digest that does not match its records.
//!
//! Small values:
//!
//! - `note`: under a name; `remember`: members; `acknowledge`: conflicts that an operator has dealt with;
//!   `acknowledge_fork`: frozen origins.

mod acknowledge;
mod acknowledge_fork;
mod adopt;
mod apply;
mod collect;
mod compact;
mod confirm;
mod create;
mod drop_bundles;
mod drop_quarantined;
mod fold;
mod freeze;
mod import_log;
mod join;
mod keep_births;
mod keep_chains;
mod keep_tip;
mod note;
mod operate;
mod relog;
mod remember;
mod remove_payloads;
mod repair_digest;
mod retry_quarantined;
mod sweep;

pub use adopt::Adoption;
pub use compact::Compacted;
pub use create::{CreateOutcome, NewRecord};
pub use join::{Joined, Page, Stretch};
pub use operate::{NewOperation, OperationOutcome};
pub use relog::{Relog, Relogged};
pub use repair_digest::Scrubbed;

use tokio::sync::oneshot;

use super::{commit::Commit, error::StoreError, handle::Store, writer::Order};
use brock_core::base::id::KeyHash;

/// A change to the store.
pub(super) trait Change: Send + 'static {
    /// What the caller gets once the change is durable.
    type Outcome: Send + 'static;

    /// How much of a group and of the queue it takes.
    fn weight(&self) -> Weight {
        Weight { operations: 1, bytes: 0 }
    }

    /// Adds the key hashes whose states it needs. The writer reads those of a whole group at once. A
    /// change that finds its key hashes in the database loads their states itself.
    fn key_hashes(&self, _needed: &mut Vec<KeyHash>) {}

    /// Adds the change to a commit, or fails and adds nothing.
    fn build(self, commit: &mut Commit<'_>) -> Result<Self::Outcome, StoreError>;
}

/// How much of a group and of the queue a change takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Weight {
    pub operations: usize,
    /// Of payloads.
    pub bytes: usize,
}

/// Where an answer goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// A change of any kind with its caller, as the writer knows it.
pub(super) trait Queued: Send {
    /// See [`Change::weight`].
    fn weight(&self) -> Weight;
    /// See [`Change::key_hashes`].
    fn key_hashes(&self, needed: &mut Vec<KeyHash>);
    /// See [`Change::build`]. Its outcome waits here for the group's fsync.
    fn build(&mut self, commit: &mut Commit<'_>);
    /// Answers the caller: with the outcome, or with the failure of the group.
    fn answer(self: Box<Self>, failure: Option<&StoreError>);
}

struct Pending<C: Change> {
    /// `None` once it is built.
    change: Option<C>,
    outcome: Option<Result<C::Outcome, StoreError>>,
    to: Reply<C::Outcome>,
}

impl<C: Change> Queued for Pending<C> {
    fn weight(&self) -> Weight {
        self.change.as_ref().map_or(Weight { operations: 0, bytes: 0 }, Change::weight)
    }

    fn key_hashes(&self, needed: &mut Vec<KeyHash>) {
        if let Some(change) = &self.change {
            change.key_hashes(needed);
        }
    }

    fn build(&mut self, commit: &mut Commit<'_>) {
        if let Some(change) = self.change.take() {
            self.outcome = Some(change.build(commit));
        }
    }

    fn answer(self: Box<Self>, failure: Option<&StoreError>) {
        let outcome = match failure {
            Some(failure) => Some(Err(failure.clone())),
            None => self.outcome,
        };
        if let Some(outcome) = outcome {
            // A caller that has gone away needs no answer.
            drop(self.to.send(outcome));
        }
    }
}

impl Store {
    /// Submits a change to the writer. Returns after it is durable.
    async fn change<C: Change>(&self, change: C) -> Result<C::Outcome, StoreError> {
        self.ask(|to| Order::Change(Box::new(Pending { change: Some(change), outcome: None, to }))).await
    }
}
