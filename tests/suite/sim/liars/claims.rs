//! What must hold of honest nodes, whatever liars send.

use std::collections::{BTreeMap, BTreeSet};

use super::pages::has_true_payload;
use crate::sim::{
    check::{check_digest, check_totals, ledger},
    clients::comparable,
    history::proven,
    node::states,
    world::World,
};
use brock::{store::Store, transfer::bundles::Bundles};
use brock_core::{
    base::{
        id::KeyHash,
        vector::{Clock, Stamp},
    },
    domain::record::RecordState,
};

impl World {
    /// Claim: a state consists of what its origins did, and of no destruction that no operator has ordered.
    pub fn check_was_done(&self, key: &KeyHash, state: &RecordState, place: &str) {
        let most = self.history.state(key, |stamp| !self.history.is_unordered(stamp)).without_payload();
        let bare = proven(state.without_payload());
        let is_less = most.clone().join(bare) == most;
        assert!(is_less, "{place}: {state:?} of {key:?} is more than what was done: {most:?}");
        assert!(has_true_payload(state), "{place}: {state:?} of {key:?} has another payload");
    }

    /// What must hold once everything is healed, although the liars go on.
    pub async fn check_honest(&mut self) {
        let honest: Vec<(usize, Store)> =
            self.honest().into_iter().filter_map(|node| Some((node, self.store(node)?))).collect();
        let reference = honest[0].1.clone();
        let (signed, digests) =
            (self.really_signed(&reference.applied()), reference.summary().digest.roots());
        let expected = states(&reference).await;
        let expected_ledger = ledger(&reference, &expected).await;
        for (node, store) in &honest {
            let applied = store.applied();
            let really = self.really_signed(&applied);
            assert!(really == signed, "{node} has applied {really:?}, another one {signed:?}");
            let states = states(store).await;
            check_digest(store, &states);
            self.check_logs(store, &applied).await;
            check_totals(store, &states).await;
            self.check_histories(*node).await;
            self.check_frozen((*node, store), &reference);
            self.check_fills(&honest, (*node, store)).await;
            let roots = store.summary().digest.roots();
            assert!(roots == digests, "{node} has another digest than other honest nodes");
            assert!(store.quarantined() == 0, "{node} has set something aside that its origin did not write");
            assert!(
                ledger(store, &states).await == expected_ledger,
                "{node} has another ledger of conflicts"
            );
            self.check_states(*node, &states, &expected);
        }
        self.check_named();
        self.tally.add("conflicts", expected_ledger.len() as u64);
    }

    /// Claim: honest nodes have frozen the same, and of what goes on they have one history. What a signed head shows to
    /// be missing at one of them is at none.
    fn check_frozen(&mut self, (node, store): (usize, &Store), reference: &Store) {
        let frozen =
            |store: &Store| -> BTreeSet<_> { store.forks().iter().map(|fork| fork.origin()).collect() };
        let (mine, theirs) = (frozen(store), frozen(reference));
        assert!(mine == theirs, "{node} has frozen {mine:?}, another honest node {theirs:?}");
        for (origin, tip) in store.tips(&store.vector()) {
            let other = reference.tips(&[(origin, Clock(1))].into_iter().collect());
            let differs = other.first().is_some_and(|(_, other)| {
                other.bundle.last() == tip.bundle.last() && other.chain() != tip.chain()
            });
            assert!(!differs, "{node} goes on with a history of {origin} that another honest node has not");
        }
        let _ = store.approached_heads();
        for lacking in store.lacking() {
            let head = lacking.head;
            let has = reference.clock(&head.origin) >= head.clock();
            assert!(!has, "{node} lacks of {} what another honest node has: {lacking:?}", head.origin);
        }
        for head in store.newest_heads(usize::MAX) {
            let lacks = store.clock(&head.origin) < head.clock() && !store.is_frozen(&head.origin);
            let says_so = store.lacking().iter().any(|lacking| lacking.head == head);
            assert!(lacks == says_so, "{node} knows {head:?}, lacks it: {lacks}, and says so: {says_so}");
        }
        self.tally.add("origins frozen", mine.len() as u64);
        self.tally.add("operations that only a head shows", store.lacking().len() as u64);
    }

    /// Claim: a fill that an honest node could confirm is confirmed in the end.
    async fn check_fills(&self, honest: &[(usize, Store)], (node, store): (usize, &Store)) {
        for fill in store.unconfirmed_fills() {
            for (other, member) in honest.iter().filter(|(other, _)| *other != node) {
                let theirs = member.unconfirmed_fills();
                let depends = theirs.iter().any(|theirs| theirs.donor == fill.donor);
                let could = *member.node_id() != fill.donor
                    && !depends
                    && member.applied().covers(&store.without_frozen(fill.applied.clone()));
                assert!(!could, "{other} could confirm {fill:?} of {node}");
            }
        }
    }

    /// Claim: every record is at every honest node what it is at the others, proven, and has in it everything that an
    /// honest node has acknowledged.
    fn check_states(
        &self,
        node: usize,
        states: &BTreeMap<KeyHash, RecordState>,
        expected: &BTreeMap<KeyHash, RecordState>,
    ) {
        let now = i64::try_from(self.now).expect("a time in this era");
        let nothing = RecordState::default();
        let acknowledged: BTreeSet<Stamp> = self.history.acknowledged().iter().copied().collect();
        let must_be = |stamp: Stamp| acknowledged.contains(&stamp) && !self.history.is_lost(stamp);
        let verifier = self.running(node).map(|running| running.verifier.clone());
        for key in self.history.keys() {
            let state = states.get(&key).unwrap_or(&nothing);
            let reference = expected.get(&key).unwrap_or(&nothing);
            // A payload that a liar has left out is asked for when it is read.
            let [one, other] = [state, reference].map(|state| self.but_faces(comparable(state, now)));
            assert!(one.without_payload() == other.without_payload(), "{node} has another {key:?}: {one:?}");
            self.check_was_done(&key, state, &format!("{node} in the end"));
            // Whether its create was seen before is not known of a tombstone that came alone.
            let least = self.history.state(&key, must_be).without_payload();
            let bare = proven(state.without_payload());
            let joined = RecordState { was_created: state.was_created, ..least.clone().join(bare.clone()) };
            let has_all = joined == bare;
            assert!(has_all, "{node} lacks something of {key:?}: {state:?} has not {least:?}");
            let Some(verifier) = &verifier else { continue };
            let believed = verifier.believe(&key, state.clone(), &Bundles::default(), &[]);
            let unproven = believed.unproven;
            assert!(unproven.is_empty(), "{node} holds {key:?}, and nothing proves {unproven:?}");
            let proven = RecordState { was_created: state.was_created, ..believed.state };
            assert!(proven == *state, "{node} holds {state:?}, and {proven:?} is proven");
        }
        let unknown = states.keys().find(|key| self.history.keys().all(|known| known != **key));
        assert!(unknown.is_none(), "{node} holds {unknown:?}, which no node has written");
    }

    /// What both histories of an origin say, each proves.
    fn but_faces(&self, mut state: RecordState) -> RecordState {
        state.evidence.retain(|(stamp, _)| !self.history.is_two_faced(&stamp.origin));
        state
    }

    /// Claim: who got a message that showed a lie has named its sender.
    fn check_named(&self) {
        for (node, liar) in &self.liars.owed {
            let refused = self.liars.refused.get(&(*node, *liar)).copied().unwrap_or_default();
            assert!(refused > 0, "{node} does not say that {liar} lies");
        }
    }
}
