//! Noticing that the storage was rolled back: a peer has operations of this node that it lacks.

use std::{
    sync::{PoisonError, atomic::Ordering},
    time::Instant,
};

use super::{error::StoreError, handle::Store, writer::Order};
use brock_core::base::{
    limits,
    vector::{Clock, Vector},
};

impl Store {
    /// A peer has operations of this node's present origin up to `theirs`. If that is more than this
    /// node has, the storage was rolled back: the node continues under a new incarnation at once, so
    /// that no clock is used twice, and replicates what it lost from the peer. At most once per
    /// [`limits::ROLLBACK_MINT_INTERVAL`], so that a lying peer cannot cause incarnations without end.
    pub async fn rolled_back(&self, theirs: Clock) -> Result<(), StoreError> {
        let origin = self.origin();
        let ours = self.clock(&origin);
        if theirs <= ours {
            return Ok(());
        }
        {
            let mut last = self.shared.last_rollback.lock().unwrap_or_else(PoisonError::into_inner);
            if last.is_some_and(|at| at.elapsed() < limits::ROLLBACK_MINT_INTERVAL) {
                return Err(StoreError::RolledBack { origin, theirs, ours });
            }
            *last = Some(Instant::now());
        }
        let fresh = self.ask(|to| Order::NewIncarnation("rolled_back", to)).await?;
        self.shared.alarms.raise(format!(
            "a peer has operations of {origin} up to {theirs}, but this storage ends at {ours}: it was rolled back \
             or has lost data. This node continues as {fresh}; it gets what is missing from the peers"
        ));
        Ok(())
    }

    /// A peer has applied this. If it has more of this node's own operations than this node, the
    /// storage was rolled back. If they are of the present incarnation, the node continues under a new
    /// one at once; operations of earlier ones are only reported, and come back from the peers.
    pub async fn check_rollback(&self, theirs: &Vector) -> Result<(), StoreError> {
        let own = self.origin();
        let missing = {
            let published = self.shared.published();
            let earlier = theirs.iter().filter(|(origin, _)| origin.is_of(self.node_id()) && *origin != own);
            earlier
                .map(|(origin, clock)| clock.0.saturating_sub(published.clock(&origin).0))
                .fold(0, u64::saturating_add)
        };
        if missing > 0 && !self.shared.reported_rollback.swap(true, Ordering::Relaxed) {
            self.shared.alarms.raise(format!(
                "peers have {missing} operations that this node made in earlier lives and that its storage lacks: it was \
                 rolled back to an old copy, or has lost data. They come back from the peers by themselves"
            ));
        }
        self.rolled_back(theirs.get(&own)).await
    }
}
