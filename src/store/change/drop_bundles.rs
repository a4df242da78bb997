//! Removing bundles that prove nothing any more.

use std::sync::Arc;

use tokio::time::{Instant, sleep};

use super::Change;
use crate::store::{
    commit::Commit,
    error::StoreError,
    handle::{Shared, Store},
    marks::{Marks, Unneeded},
};
use brock_core::{
    base::{id::KeyHash, limits, vector::Stamp},
    domain::{leaves::BundleId, quarantined},
};

/// Where the next look for bundles that nothing needs begins: above that one, or with the first.
#[derive(Clone, Copy)]
enum At {
    OfLogs(Option<Stamp>),
    Kept(Option<BundleId>),
}

impl Store {
    /// Removes the bundles that are in no log here, and that neither a record nor an entry in quarantine names any
    /// more. Looks at everything, in steps; while a resync is under way, it removes nothing. Returns how many it has
    /// removed.
    pub async fn drop_bundles(&self) -> Result<u64, StoreError> {
        let _alone = self.shared.needed.searching.lock().await;
        let marks = Arc::new(Marks::default());
        let _searching = self.shared.needed.search(&marks);
        self.search(marks).await
    }

    async fn search(&self, marks: Arc<Marks>) -> Result<u64, StoreError> {
        // Every later commit marks what its records name. What earlier ones have written shows from then on.
        self.change(Pass).await?;
        let mut after = None;
        loop {
            let (marks, began) = (Arc::clone(&marks), Instant::now());
            after = self.blocking(move |shared| mark(shared, &marks, after)).await?;
            if after.is_none() {
                break;
            }
            // A fifth of the time at most, so that it does not slow other work.
            sleep(began.elapsed().saturating_mul(4)).await;
        }
        let (mut at, mut dropped) = (Some(At::OfLogs(None)), 0);
        while let Some(from) = at {
            let Some(_seized) = self.seize_bundles().await else { break };
            let marks = Arc::clone(&marks);
            let (unneeded, next) = self.blocking(move |shared| look(shared, marks, from)).await?;
            dropped += (unneeded.of_logs.len() + unneeded.kept.len()) as u64;
            self.change(DropBundles(unneeded)).await?;
            at = next;
        }
        Ok(dropped)
    }
}

/// Marks what the next records name, and the quarantine at the end. Returns the last record; `None`: there are no more.
fn mark(shared: &Shared, marks: &Marks, after: Option<KeyHash>) -> Result<Option<KeyHash>, StoreError> {
    let view = shared.database.view();
    for (looked_at, record) in view.records(after.as_ref(), None).enumerate() {
        let (key_hash, state, _) = record?;
        marks.add(&state);
        if looked_at + 1 == limits::BUNDLE_LOOKS {
            return Ok(Some(key_hash));
        }
    }
    let mut last = None;
    loop {
        let kept = view.quarantine(last, limits::LEDGER_PAGE_ITEMS)?;
        let evidence = kept.iter().filter_map(|(_, entry)| quarantined::evidence_of(entry));
        evidence.for_each(|evidence| marks.add_root(&evidence.root));
        last = kept.last().map(|(stamp, _)| *stamp);
        if last.is_none() {
            return Ok(None);
        }
    }
}

/// What of the next bundles nothing needs, and where to go on; `None`: these were the last.
fn look(shared: &Shared, marks: Arc<Marks>, at: At) -> Result<(Unneeded, Option<At>), StoreError> {
    let view = shared.database.view();
    let (mut of_logs, mut kept) = (Vec::new(), Vec::new());
    let (mut next, mut looked_at) = (None, 0);
    match at {
        At::OfLogs(after) => {
            for bundle in view.all_bundles(after).take(limits::BUNDLE_LOOKS) {
                let (stamp, tip) = bundle?;
                // One that the disk has damaged proves nothing, and what a peer has sent in its place is kept apart.
                let root = tip.map(|tip| tip.root);
                if !shared.is_in_log(stamp) && root.is_none_or(|root| !marks.has(&root)) {
                    of_logs.push((stamp, root));
                }
                (next, looked_at) = (Some(At::OfLogs(Some(stamp))), looked_at + 1);
            }
            if looked_at < limits::BUNDLE_LOOKS {
                next = Some(At::Kept(None));
            }
        }
        At::Kept(after) => {
            for id in view.kept_bundles(after).take(limits::BUNDLE_LOOKS) {
                let id = id?;
                if !marks.has(&id.root) {
                    kept.push(id);
                }
                (next, looked_at) = (Some(At::Kept(Some(id))), looked_at + 1);
            }
            next = next.filter(|_| looked_at == limits::BUNDLE_LOOKS);
        }
    }
    Ok((Unneeded { marks, of_logs, kept }, next))
}

impl Shared {
    /// Whether the bundle that ends there is in a log: not if it is at or below the floor, or its origin is frozen.
    fn is_in_log(&self, stamp: Stamp) -> bool {
        let published = self.published();
        !published.forks.contains_key(&stamp.origin) && stamp.clock > published.floor(&stamp.origin)
    }
}

/// Changes nothing: when it has passed, all commits that began before it are durable.
struct Pass;

impl Change for Pass {
    type Outcome = ();

    fn build(self, _: &mut Commit<'_>) -> Result<(), StoreError> {
        Ok(())
    }
}

struct DropBundles(Unneeded);

impl Change for DropBundles {
    type Outcome = ();

    /// Contract: no record and no entry in quarantine names these, in no commit until now, and none that names one is
    /// on its way: nothing held the bundles when they were found. What this commit and those before it have marked
    /// stays, so it does not matter which of the changes of a group comes first.
    fn build(self, commit: &mut Commit<'_>) -> Result<(), StoreError> {
        commit.unneeded.push(self.0);
        Ok(())
    }
}
