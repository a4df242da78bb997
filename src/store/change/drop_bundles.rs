//! Removing bundles that prove nothing any more.

use std::{collections::BTreeMap, sync::Arc};

use tokio::time::{Instant, sleep};

use super::Change;
use crate::store::{
    commit::Commit,
    error::StoreError,
    handle::{Shared, Store},
    marks::{Marks, Unneeded},
    view::View,
};
use brock_core::{
    base::{
        id::{KeyHash, Origin},
        limits,
        vector::{Clock, Stamp},
    },
    domain::{bundle::Hash, leaves::BundleId, quarantined},
};

/// A search for bundles that nothing needs, which has looked at all records.
struct Search {
    marks: Arc<Marks>,
    /// As they were when the search began: what is below them is in no log.
    floors: BTreeMap<Origin, Clock>,
}

/// What of one look is not needed, and where the next look begins.
struct Found<T, At> {
    unneeded: Vec<T>,
    next: Option<At>,
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
        let floors = {
            let published = self.shared.published();
            let frozen = published.forks.keys().map(|origin| (*origin, Clock(u64::MAX)));
            let listed = published.floors.iter().chain(published.folds.iter());
            listed.map(|(origin, _)| (origin, published.floor(&origin))).chain(frozen).collect()
        };
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
        let search = Arc::new(Search { marks, floors });
        let mut dropped = 0;
        let (mut of_logs, mut kept) = (None, None);
        loop {
            let Some(_seized) = self.seize_bundles().await else { return Ok(dropped) };
            let this = Arc::clone(&search);
            let found = self.blocking(move |shared| this.of_logs(&shared.database.view(), of_logs)).await?;
            dropped += found.unneeded.len() as u64;
            of_logs = found.next;
            let marks = Arc::clone(&search.marks);
            self.change(DropBundles(Unneeded { marks, of_logs: found.unneeded, kept: Vec::new() })).await?;
            if of_logs.is_none() {
                break;
            }
        }
        loop {
            let Some(_seized) = self.seize_bundles().await else { return Ok(dropped) };
            let this = Arc::clone(&search);
            let found = self.blocking(move |shared| this.kept(&shared.database.view(), kept)).await?;
            dropped += found.unneeded.len() as u64;
            kept = found.next;
            let marks = Arc::clone(&search.marks);
            self.change(DropBundles(Unneeded { marks, of_logs: Vec::new(), kept: found.unneeded })).await?;
            if kept.is_none() {
                return Ok(dropped);
            }
        }
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

impl Search {
    fn of_logs(
        &self,
        view: &View<'_>,
        after: Option<Stamp>,
    ) -> Result<Found<(Stamp, Hash), Stamp>, StoreError> {
        let mut found = Found { unneeded: Vec::new(), next: None };
        for (looked_at, bundle) in view.all_bundles(after).enumerate() {
            let (stamp, tip) = bundle?;
            let is_in_log = self.floors.get(&stamp.origin).is_none_or(|floor| stamp.clock > *floor);
            if !is_in_log && !self.marks.has(&tip.root) {
                found.unneeded.push((stamp, tip.root));
            }
            if looked_at + 1 == limits::BUNDLE_LOOKS {
                found.next = Some(stamp);
                break;
            }
        }
        Ok(found)
    }

    fn kept(
        &self,
        view: &View<'_>,
        after: Option<BundleId>,
    ) -> Result<Found<BundleId, BundleId>, StoreError> {
        let mut found = Found { unneeded: Vec::new(), next: None };
        for (looked_at, id) in view.kept_bundles(after).enumerate() {
            let id = id?;
            if !self.marks.has(&id.root) {
                found.unneeded.push(id);
            }
            if looked_at + 1 == limits::BUNDLE_LOOKS {
                found.next = Some(id);
                break;
            }
        }
        Ok(found)
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
