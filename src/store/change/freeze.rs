//! Freezing an origin that has signed two histories.

use std::sync::Arc;

use super::{Change, adopt::count};
use crate::{
    runtime::{
        alarms::Source,
        planted::{self, Bug},
    },
    store::{commit::Commit, error::StoreError, handle::Store, listing::Cut},
};
use brock_core::{
    base::{id::Origin, metrics as names, vector::Clock},
    domain::fork::Fork,
};

impl Store {
    /// Freezes the origin of a fork, whose signatures the caller has verified. If it is this node's own, the node goes
    /// on as another incarnation. Durable when it returns. Idempotent.
    pub async fn freeze(&self, fork: Fork) -> Result<(), StoreError> {
        let (origin, fork) = (fork.origin(), Arc::new(fork));
        if origin == self.origin() {
            self.go_on("forked").await?;
        }
        if planted::is(Bug::FreezeNothing) || !self.change(Freeze(Arc::clone(&fork))).await? {
            return Ok(());
        }
        metrics::counter!(names::ORIGINS_FORKED).increment(1);
        self.alarm(&origin, fork.kind());
        self.remove_frozen_log(origin).await
    }

    /// Removes what is left of the logs of frozen origins: of one that was being removed when the process ended.
    pub async fn remove_frozen_logs(&self) -> Result<(), StoreError> {
        for fork in self.forks() {
            self.remove_frozen_log(fork.origin()).await?;
        }
        Ok(())
    }

    /// Nothing is added to that log any more, so it is measured outside of the writer: by one caller at a time, or it
    /// would count as removed twice.
    async fn remove_frozen_log(&self, origin: Origin) -> Result<(), StoreError> {
        let _alone = self.shared.removing.lock().await;
        let through = Clock(u64::MAX - 1);
        let cut = self.blocking(move |shared| count(&shared.database.view(), origin, through)).await?;
        if cut.entries > 0 { self.change(RemoveLog { origin, cut }).await } else { Ok(()) }
    }

    fn alarm(&self, origin: &Origin, kind: &str) {
        self.shared.alarms.raise_of(
            Source::Here,
            "fork",
            format!(
                "{origin} has signed {kind}: its machine was copied while it ran or set back in time, or its key is in \
                 other hands. Its log is not followed any further; what it wrote stays, of both. If no machine was \
                 copied or set back, revoke the certificate of {}: docs/guides/troubleshooting.md, A node has signed two histories",
                origin.node_id()
            ),
        );
    }
}

struct Freeze(Arc<Fork>);

impl Change for Freeze {
    /// Whether it was not frozen before.
    type Outcome = bool;

    /// Contract: the origin leaves the vectors, floors and folds in one batch with the proof, for ever. Records keep
    /// what it did, on either side of the fork: the comparison of records brings both to all nodes, whose vectors are
    /// equal again only without the origin. Nothing is added to its log from then on.
    fn build(self, commit: &mut Commit<'_>) -> Result<bool, StoreError> {
        let origin = self.0.origin();
        if commit.is_frozen(&origin) || origin == commit.own.origin {
            return Ok(false);
        }
        commit.freeze(self.0);
        Ok(true)
    }
}

struct RemoveLog {
    origin: Origin,
    cut: Cut,
}

impl Change for RemoveLog {
    type Outcome = ();

    /// Contract: removes the log of a frozen origin, all of which `cut` has counted.
    fn build(self, commit: &mut Commit<'_>) -> Result<(), StoreError> {
        commit.delete_cut(self.origin, self.cut);
        Ok(())
    }
}
