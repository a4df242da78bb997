//! Joining states that came by another way than the log: a resync, a repair.

use std::collections::HashMap;

use super::{Change, Weight};
use crate::{
    runtime::planted::{self, Bug},
    store::{commit::Commit, error::StoreError, handle::Store},
};
use brock_core::{
    base::{
        id::{KeyHash, Origin},
        vector::Vector,
    },
    domain::{leaves::Leaves, record::RecordState},
};

/// States of records from elsewhere, to be joined.
#[derive(Debug, Clone)]
pub struct Page {
    /// The states.
    pub states: Vec<(KeyHash, RecordState)>,
    /// The bundles that their evidence names, unless they are here already. IMPORTANT: verified before.
    pub bundles: Vec<(Origin, Leaves)>,
    /// Set if these are all that a donor has in a stretch of key hashes: records that it lacks may
    /// have to be dropped.
    pub complete: Option<Stretch>,
}

/// A stretch of key hashes of which a donor sent everything.
#[derive(Debug, Clone)]
pub struct Stretch {
    /// Above this key hash; `None` = from the first.
    pub after: Option<KeyHash>,
    /// Up to this key hash.
    pub through: KeyHash,
    /// The donor may have collected tombstones up to here: a record that was created up to here and
    /// is not in the page was deleted.
    pub collected: Vector,
    /// How many records may be dropped. More than that are dropped by no page: it fails, and changes nothing.
    pub may_drop: u64,
}

/// What a page changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Joined {
    /// Records whose state changed.
    pub changed: usize,
    /// Records that were dropped, because the donor had deleted and forgotten them.
    pub dropped: usize,
}

impl Store {
    /// Joins states that came by another way than the log. Durable when it returns. Idempotent.
    pub async fn join(&self, page: Page) -> Result<Joined, StoreError> {
        self.change(page).await
    }
}

impl Change for Page {
    type Outcome = Joined;

    fn weight(&self) -> Weight {
        let payloads: usize = self.states.iter().map(|(_, state)| state.payload_bytes()).sum();
        let bundles: usize = self.bundles.iter().map(|(_, leaves)| leaves.bytes()).sum();
        Weight { operations: self.states.len(), bytes: payloads + bundles }
    }

    fn key_hashes(&self, needed: &mut Vec<KeyHash>) {
        needed.extend(self.states.iter().map(|(key_hash, _)| *key_hash));
    }

    /// Contract: a bundle is here before a record names it, or in the same batch. Joining is always safe, except for
    /// what this node itself has deleted and forgotten: that is taken out of the states. Dropping is safe if the
    /// donor tells the truth, because it had collected tombstones up to `collected` only, and had kept everything
    /// else that it knew of. If it lies, the bound limits what it destroys.
    fn build(self, commit: &mut Commit<'_>) -> Result<Joined, StoreError> {
        let mut joined = Joined::default();
        if let Some(stretch) = &self.complete
            && !planted::is(Bug::KeepUnlisted)
        {
            joined.dropped = drop_forgotten(commit, stretch, &self.states)?;
        }
        let mut forgotten = commit.collected();
        if planted::is(Bug::TakeForgotten) {
            forgotten = Vector::default();
        }
        // A backup had their records before.
        commit.is_unlogged |= self.states.is_empty() && !self.bundles.is_empty();
        for (origin, leaves) in &self.bundles {
            commit.batch.keep_bundle(*origin, leaves);
            if let Some(marks) = &commit.marks {
                marks.add_root(&leaves.tip().root);
            }
        }
        for (key_hash, state) in self.states {
            let left = state.without_forgotten(&forgotten, commit.state(&key_hash));
            if left != RecordState::default() {
                joined.changed += usize::from(commit.merge(key_hash, left));
            }
        }
        commit.is_unlogged |= joined.changed + joined.dropped > 0;
        Ok(joined)
    }
}

fn drop_forgotten(
    commit: &mut Commit<'_>,
    stretch: &Stretch,
    states: &[(KeyHash, RecordState)],
) -> Result<usize, StoreError> {
    if stretch.collected.is_empty() {
        return Ok(0);
    }
    let mut forgotten = stretch.collected.clone();
    if planted::is(Bug::DropUncovered) {
        forgotten.join(&commit.before.applied());
    }
    let kept: HashMap<KeyHash, &RecordState> = states.iter().map(|(key, state)| (*key, state)).collect();
    let what_is_left = |key_hash: &KeyHash, state: &RecordState| {
        state.clone().without_forgotten(&forgotten, kept.get(key_hash).copied())
    };
    let mut shrunk = Vec::new();
    for record in commit.view().records(stretch.after.as_ref(), Some(&stretch.through)) {
        let (key_hash, state, _) = record?;
        if what_is_left(&key_hash, &state) != state {
            shrunk.push(key_hash);
        }
    }
    if shrunk.len() as u64 > stretch.may_drop {
        return Err(StoreError::TooManyDrops { may: stretch.may_drop });
    }
    commit.load(&shrunk)?;
    let mut dropped = 0;
    for key_hash in shrunk {
        // As this commit has it by now: an operation in the same group must not be undone.
        let Some(now) = commit.state(&key_hash) else { continue };
        let left = Some(what_is_left(&key_hash, now)).filter(|left| *left != RecordState::default());
        dropped += usize::from(commit.replace(&key_hash, left));
    }
    Ok(dropped)
}
