//! Freezing an origin that has signed two histories.

use std::sync::Arc;

use super::Change;
use crate::{
    runtime::alarms::Source,
    store::{
        commit::{Commit, Cut},
        error::StoreError,
        handle::Store,
        writer::Order,
    },
};
use brock_core::{
    base::{id::Origin, limits, metrics as names, vector::Clock},
    domain::fork::Fork,
};

impl Store {
    /// Freezes the origin of a fork, whose signatures the caller has verified. Returns whether it was not frozen
    /// before. If it is this node's own, the node goes on as another incarnation. Durable when it returns.
    pub async fn freeze(&self, fork: Fork) -> Result<bool, StoreError> {
        let (origin, fork) = (fork.origin(), Arc::new(fork));
        for _ in 0..limits::FREEZE_ATTEMPTS {
            if self.is_frozen(&origin) {
                return Ok(false);
            }
            if origin == self.origin() {
                self.ask(|to| Order::NewIncarnation("forked", to)).await?;
            }
            match self.change(Freeze(Arc::clone(&fork))).await? {
                Frozen::Known => return Ok(false),
                Frozen::Busy => {}
                Frozen::Full => {
                    self.alarm(
                        &origin,
                        "has",
                        "More origins than are kept have done so, so it is not frozen here",
                    );
                    return Ok(false);
                }
                Frozen::Done => {
                    metrics::counter!(names::ORIGINS_FORKED).increment(1);
                    self.alarm(&origin, fork.kind(), "Its log is not followed any further");
                    return Ok(true);
                }
            }
        }
        Err(StoreError::QueueFull)
    }

    fn alarm(&self, origin: &Origin, kind: &str, consequence: &str) {
        self.shared.alarms.raise_of(
            Source::Here,
            "fork",
            format!(
                "{origin} has signed {kind}: its machine was copied while it ran or set back in time, or its key is in \
                 other hands. {consequence}; what it wrote stays, of both. If no machine was copied or set back, revoke the \
                 certificate of {}: docs/guides/troubleshooting.md, A node has signed two histories",
                origin.node_id()
            ),
        );
    }
}

struct Freeze(Arc<Fork>);

enum Frozen {
    Done,
    /// It was frozen before.
    Known,
    /// The group has more of that log: to be tried again.
    Busy,
    /// There are too many.
    Full,
}

impl Change for Freeze {
    type Outcome = Frozen;

    /// Contract: the origin leaves the vectors, and its log goes, in one batch with the proof, for ever. Records keep
    /// what it did, on either side of the fork: the comparison of records brings both to all nodes, whose vectors are
    /// equal again only without the origin.
    fn build(self, commit: &mut Commit<'_>) -> Result<Frozen, StoreError> {
        let origin = self.0.origin();
        if commit.is_frozen(&origin) {
            return Ok(Frozen::Known);
        }
        if commit.before.forks.len() + commit.raised.forks.len() >= limits::FORKS_MAX {
            return Ok(Frozen::Full);
        }
        if origin == commit.own.origin || commit.raised.vector.lists(&origin) || commit.logs(&origin) {
            return Ok(Frozen::Busy);
        }
        // Seldom, and of what is not compacted only: the writer may scan.
        let mut cut = Cut { through: Clock(u64::MAX - 1), ..Cut::default() };
        for entry in commit.view().log(origin, Clock::default(), cut.through) {
            cut.entries += 1;
            cut.bytes += entry?.bytes();
        }
        commit.delete_cut(origin, cut);
        // An incremental backup would show the log that led here, and not this.
        commit.is_unlogged = true;
        commit.batch.put_fork(&self.0);
        commit.raised.forks.insert(origin, self.0);
        Ok(Frozen::Done)
    }
}
