//! What must hold at every moment, whatever has failed: looked at after every step.

use std::collections::{BTreeMap, BTreeSet};

use super::{node::states, world::World};
use brock_core::{
    base::{
        id::{KeyHash, Origin},
        vector::Vector,
    },
    domain::record::RecordState,
};

/// For how many steps a store is believed that nothing has changed.
const TRUSTED_STEPS: u64 = 4;

/// Of which lives of another's disk a node was told: what it believes of the others may be wrong.
#[derive(Debug, Clone, Default)]
pub struct Told {
    ever: BTreeSet<u32>,
    /// By its present pulls, and by its heads.
    present: [BTreeSet<u32>; 2],
}

impl Told {
    /// A hello replaces all that its pulls have said.
    pub fn says_hello(&mut self, life: u32) {
        self.present[0].clear();
        self.acknowledges(life);
    }

    pub fn acknowledges(&mut self, life: u32) {
        self.ever.insert(life);
        self.present[0].insert(life);
    }

    pub fn says_heads(&mut self, life: u32, fresh: bool) {
        if fresh {
            self.present[1].clear();
        }
        self.ever.insert(life);
        self.present[1].insert(life);
    }

    /// Who starts knows what was written down at some time.
    pub fn starts(&mut self) {
        self.present = [self.ever.clone(), self.ever.clone()];
    }

    fn is_only_of(&self, life: u32) -> bool {
        self.present.iter().flatten().all(|told| *told == life)
    }
}

impl World {
    pub async fn look_at_what_changed(&mut self) {
        let touched = std::mem::take(&mut self.touched);
        for node in &touched {
            self.look(*node).await;
        }
        for node in touched {
            self.check_what_members_have(node);
        }
    }

    pub async fn look(&mut self, node: usize) {
        let Some(store) = self.store(node) else { return };
        // Reading everything is most of what a run costs: mostly a store is believed that nothing
        // has changed, but not always.
        let summary = store.summary();
        self.nodes[node].disk.frozen = store.forks().iter().map(|fork| fork.origin()).collect();
        let account = Some((summary.applied(), summary.digest));
        if self.nodes[node].disk.account == account && !self.steps.is_multiple_of(TRUSTED_STEPS) {
            return;
        }
        let (applied, now) = (store.applied(), states(&store).await);
        let before = std::mem::take(&mut self.nodes[node].disk.states);
        let mut had = store.without_frozen(self.nodes[node].disk.applied.clone());
        // A liar may have claimed a log whose birth it hid. When that comes, what is not proven is retracted.
        let fell = had.above(&applied);
        let is_retracted = |origin: &Origin| {
            self.is_strict() && !self.nodes[node].disk.born.contains(origin) && store.born(origin).is_some()
        };
        let retracted: Vec<Origin> = fell.iter().map(|(origin, _)| origin).filter(is_retracted).collect();
        self.tally.add("claims retracted", retracted.len() as u64);
        retracted.iter().for_each(|origin| had.remove(origin));
        self.nodes[node].disk.retracted.extend(retracted);
        assert!(applied.covers(&had), "{node} has applied less than before");
        let listed = applied.iter().map(|(origin, _)| origin);
        self.nodes[node].disk.born = listed.filter(|origin| store.born(origin).is_some()).collect();
        for (key, state) in &now {
            self.check_not_resurrected(node, key, state, &applied);
            if self.is_strict() && !self.is_liar(node) && before.get(key) != Some(state) {
                self.check_was_done(key, state, &format!("at {node}"));
            }
        }
        self.check_nothing_vanished(node, &before, &now);
        let is_gone = |key: &KeyHash| !now.contains_key(key);
        let dropped = before.iter().filter(|(key, state)| state.creation.is_some() && is_gone(key)).count();
        self.tally.add("records dropped by a resync", dropped as u64);
        let disk = &mut self.nodes[node].disk;
        disk.deleted.extend(now.iter().filter(|(_, state)| state.deletion.is_some()).map(|(key, _)| *key));
        disk.account = account;
        disk.applied = applied;
        disk.states = now;
    }

    /// Claim: what a disk has shown as deleted it never shows again, nor does any that has applied
    /// the delete.
    fn check_not_resurrected(&self, node: usize, key: &KeyHash, state: &RecordState, applied: &Vector) {
        if state.creation.is_none() {
            return;
        }
        let disk = &self.nodes[node].disk;
        assert!(
            !disk.deleted.contains(key),
            "{node} shows {key:?} again, which it showed as deleted: {state:?}"
        );
        if self.is_strict() {
            // A donor may have left a tombstone out; comparing records brings it.
            return;
        }
        let delete = self.history.deletes(key).find(|stamp| applied.has(*stamp));
        assert!(delete.is_none(), "{node} shows {key:?} and has applied its delete {delete:?}: {state:?}");
    }

    /// Claim: states only rise. A record goes only where tombstones are collected, and only if
    /// it was deleted.
    fn check_nothing_vanished(
        &self,
        node: usize,
        before: &BTreeMap<KeyHash, RecordState>,
        now: &BTreeMap<KeyHash, RecordState>,
    ) {
        for (key, before) in before {
            let was_deleted = self.profile.collects() && self.history.deletes(key).next().is_some();
            let now = now.get(key).cloned().unwrap_or_default();
            let (before, now) = (before.without_payload(), now.without_payload());
            let risen = before.clone().join(now.clone()) == now;
            assert!(
                risen || was_deleted,
                "{node} has lost what it knew of {key:?}: {before:?} became {now:?}"
            );
        }
    }

    /// Claim: who is said to have applied something has applied it, unless it has lost its disk since.
    fn check_what_members_have(&self, node: usize) {
        let Some(running) = self.running(node) else { return };
        for view in running.members.views(running.wall_clock.now()) {
            let is_it = |other: &usize| Some(&self.nodes[*other].id) == view.node_id.as_ref();
            let Some(other) = self.honest().into_iter().find(is_it) else { continue };
            let disk = &self.nodes[other].disk;
            let is_of_this_life = self.told[node][other].is_only_of(disk.life);
            // Of what has two histories, nothing counts any more.
            let mut said = view.applied.unwrap_or_default();
            disk.frozen.iter().chain(&disk.retracted).for_each(|origin| said.remove(origin));
            let lacks = said.above(&disk.applied);
            assert!(
                !is_of_this_life || lacks.is_empty(),
                "{node} believes that {other} has applied {lacks:?}, and it has not"
            );
        }
    }
}
