//! Which bundles records name, as far as a search for the others has come.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwapOption;
use tokio::sync::{Mutex, OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use super::{commit::Commit, handle::Store};
use crate::runtime::planted::{self, Bug};
use brock_core::{
    base::{id::KeyHash, limits, vector::Stamp},
    domain::{bundle::Hash, leaves::BundleId, record::RecordState},
};

/// What is known of which bundles are needed.
#[derive(Default)]
pub(super) struct Needed {
    /// Held while those that nothing needs are searched for.
    pub searching: Mutex<()>,
    /// What that has found so far to be in use; every commit adds to it.
    pub marks: ArcSwapOption<Marks>,
    /// Records that lack one that they name, as far as they were found: the disk has lost or damaged it.
    pub lacking: std::sync::Mutex<BTreeSet<KeyHash>>,
    /// See [`Store::hold_bundles`].
    holding: Arc<RwLock<()>>,
}

/// The bundles that are in use, by a part of their roots: of two with the same part, both count as in use.
pub(super) struct Marks(Box<[AtomicU64]>);

impl Default for Marks {
    fn default() -> Self {
        Self((0..limits::BUNDLE_MARKS / 64).map(|_| AtomicU64::new(0)).collect())
    }
}

/// A search that is under way, until this is dropped.
pub(super) struct Searching<'a>(&'a Needed);

impl Needed {
    /// Has every later commit mark what its records name.
    pub(super) fn search(&self, marks: &Arc<Marks>) -> Searching<'_> {
        self.marks.store(Some(Arc::clone(marks)));
        Searching(self)
    }
}

impl Drop for Searching<'_> {
    fn drop(&mut self) {
        self.0.marks.store(None);
    }
}

impl Marks {
    /// Those that a record names.
    pub(super) fn add(&self, state: &RecordState) {
        state.evidence.iter().for_each(|(_, evidence)| self.add_root(&evidence.root));
    }

    pub(super) fn add_root(&self, root: &Hash) {
        let (word, bit) = place(root);
        if let Some(word) = self.0.get(word) {
            word.fetch_or(bit, Ordering::Relaxed);
        }
    }

    pub(super) fn has(&self, root: &Hash) -> bool {
        let (word, bit) = place(root);
        !planted::is(Bug::DropNamedBundles)
            && self.0.get(word).is_some_and(|word| word.load(Ordering::Relaxed) & bit != 0)
    }
}

fn place(root: &Hash) -> (usize, u64) {
    let (part, _) = root.split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
    let bit = u64::from_be_bytes(*part) % limits::BUNDLE_MARKS as u64;
    (usize::try_from(bit / 64).unwrap_or(0), 1 << (bit % 64))
}

/// Bundles that a search has found to be named by nothing.
pub(super) struct Unneeded {
    /// The marks of the search.
    pub marks: Arc<Marks>,
    /// Of logs, below the floors, with their roots; `None`: it does not decode.
    pub of_logs: Vec<(Stamp, Option<Hash>)>,
    pub kept: Vec<BundleId>,
}

impl Commit<'_> {
    /// Removes bundles that nothing names by now, this commit included.
    ///
    /// Contract: those of logs are still below the floors: of an origin that was retracted meanwhile, the log has come
    /// again.
    pub(super) fn remove_unneeded(&mut self) {
        for Unneeded { marks, of_logs, kept } in std::mem::take(&mut self.unneeded) {
            // Of a search that was given up, later commits have marked nothing.
            if !self.marks.as_ref().is_some_and(|present| Arc::ptr_eq(present, &marks)) {
                continue;
            }
            for (stamp, root) in of_logs {
                let is_in_log = !self.is_frozen(&stamp.origin) && stamp.clock > self.floor(&stamp.origin);
                if !is_in_log && root.is_none_or(|root| !marks.has(&root)) {
                    self.batch.delete_bundle(stamp);
                }
            }
            let unnamed = kept.iter().filter(|id| !marks.has(&id.root));
            unnamed.for_each(|id| self.batch.delete_kept_bundle(id));
        }
    }
}

/// No bundle is removed while this is held: records that name one are on their way.
#[derive(Debug)]
pub struct HeldBundles(#[expect(dead_code, reason = "it is held")] OwnedRwLockReadGuard<()>);

impl Store {
    /// Keeps all bundles in the store, until that is dropped: from before one is relied on or kept, until the records
    /// that name it are joined.
    pub async fn hold_bundles(&self) -> HeldBundles {
        HeldBundles(Arc::clone(&self.shared.needed.holding).read_owned().await)
    }

    /// While nothing holds them; `None`: something does for long.
    pub(super) async fn seize_bundles(&self) -> Option<OwnedRwLockWriteGuard<()>> {
        let seizing = Arc::clone(&self.shared.needed.holding).write_owned();
        tokio::time::timeout(limits::BUNDLES_SEIZE_TIMEOUT, seizing).await.ok()
    }
}
