//! What origins state of their logs, and those that have signed two.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use crate::store::{error::StoreError, handle::Store};
use brock_core::{
    base::{
        id::{NodeId, Origin},
        limits,
        vector::{Clock, Vector},
    },
    domain::{
        birth::Birth,
        bundle::{OriginKey, Tip},
        fork::Fork,
    },
};

impl Store {
    /// Whether the origin has signed two histories. It is in no vector any more, and nothing of its log is taken.
    pub fn is_frozen(&self, origin: &Origin) -> bool {
        self.shared.published().forks.contains_key(origin)
    }

    /// What is left of a vector without the frozen origins, of which no node has anything to apply any more.
    pub fn without_frozen(&self, mut vector: Vector) -> Vector {
        self.shared.published().forks.keys().for_each(|frozen| vector.remove(frozen));
        vector
    }

    /// The keys with which an origin signs: of one that has two births, and is frozen for that, both. What either has
    /// signed stays.
    pub fn keys_of(&self, origin: &Origin) -> BTreeSet<OriginKey> {
        let published = self.shared.published();
        let born = published.births.get(origin).map(|birth| birth.key);
        let forked = published.forks.get(origin).into_iter().flat_map(|fork| fork.keys());
        born.into_iter().chain(forked).collect()
    }

    /// The proofs for the frozen origins.
    pub fn forks(&self) -> Vec<Arc<Fork>> {
        self.shared.published().forks.values().cloned().collect()
    }

    /// Whether a further origin may be frozen, which costs a place for ever. One that is listed here has its place, and
    /// must be frozen wherever it is listed: otherwise the vectors of two nodes are never equal again.
    pub fn may_freeze(&self, origin: &Origin) -> bool {
        let published = self.shared.published();
        let has_room = || {
            published.frozen_of(&origin.node_id()) < limits::FORKS_PER_NODE
                && published.forks.len() < limits::FORKS_MAX
        };
        published.lists(origin) || has_room()
    }

    /// How many origins have a place here, folded and frozen ones included, and how many incarnations of a node that
    /// are not folded.
    pub fn listing(&self, node_id: &NodeId) -> (usize, usize) {
        let published = self.shared.published();
        let all = published.vector.len() + published.folds.len() + published.forks.len();
        (all, published.vector.incarnations(node_id) + published.frozen_of(node_id))
    }

    /// The last bundle of a log, if it is known here.
    pub fn tip(&self, origin: &Origin) -> Option<Tip> {
        self.shared.published().tips.get(origin).copied()
    }

    /// What is applied, folded origins apart, and the last bundles of these logs, as far as they are known.
    pub fn vector_with_tips(&self) -> (Vector, HashMap<Origin, Tip>) {
        let published = self.shared.published();
        (published.vector.clone(), published.tips.clone())
    }

    /// The births of a node's incarnations, as far as they are known here.
    pub fn births_of_node(&self, node_id: &NodeId) -> Vec<Birth> {
        let published = self.shared.published();
        published.births.range(Origin::all_of(node_id)).map(|(_, birth)| *birth).collect()
    }

    /// Where an origin's log has ended, as a later incarnation of its node states in its birth.
    pub fn stated_end(&self, origin: &Origin) -> Option<Clock> {
        let births = self.births_of_node(&origin.node_id()).into_iter();
        let ends = births.filter_map(|birth| birth.previous.map(|previous| previous.last));
        ends.filter(|last| last.origin == *origin).map(|last| last.clock).max()
    }

    /// Whether this may be the last bundle of a log of which that is not known here.
    pub fn wants_tip(&self, origin: &Origin, tip: &Tip) -> bool {
        let published = self.shared.published();
        published.vector.get(origin) == tip.bundle.last()
            && published.births.contains_key(origin)
            && !published.tips.contains_key(origin)
    }

    /// The last bundles that are known here of the logs in `vector`, which end where this node's vector says; at most
    /// [`limits::TIPS_MAX`].
    pub fn tips(&self, vector: &Vector) -> Vec<(Origin, Tip)> {
        let published = self.shared.published();
        let known = vector.iter().filter_map(|(origin, _)| Some((origin, *published.tips.get(&origin)?)));
        known.take(limits::TIPS_MAX).collect()
    }

    /// The bundle here that contradicts what a peer shows of the log of an origin; `None`: none does, as far as the
    /// log here reaches. Nothing was verified.
    pub async fn contradiction(&self, origin: Origin, theirs: Tip) -> Result<Option<Tip>, StoreError> {
        let Some(ours) = self.tip(&origin) else { return Ok(None) };
        if ours.contradicts(&theirs) {
            return Ok(Some(ours));
        }
        let last = theirs.bundle.last();
        if last >= ours.bundle.first {
            return Ok(None);
        }
        self.blocking(move |shared| {
            let next = shared.database.view().bundles(origin, last).next().transpose()?;
            Ok(next.filter(|ours| ours.contradicts(&theirs)))
        })
        .await
    }
}
