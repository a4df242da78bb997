//! Whether this node could be filled from its peers, or their records are not proven here.
//!
//! A donor whose records hold something that nothing proves is not adopted, so a node that only such donors could
//! fill lacks records, revocations among them: it is not ready. One donor whose log goes on, or whose records have
//! filled this node, is enough to be ready: a single peer that lies keeps no node from its work.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;

use crate::{
    membership::peer::PeerKey,
    runtime::alarms::{Alarms, Source},
    transfer::join::Unproven,
};
use brock_core::base::{id::NodeId, limits};

/// How the attempts with each donor ended. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Fills {
    /// Whether the donor's log goes on, or its records have filled this node; otherwise they are not proven.
    donors: Arc<Mutex<BTreeMap<NodeId, bool>>>,
    incomplete: watch::Sender<bool>,
    alarms: Alarms,
}

impl Fills {
    /// No attempt yet.
    pub fn new(alarms: Alarms) -> Self {
        Self { donors: Arc::default(), incomplete: watch::Sender::new(false), alarms }
    }

    /// Whether this node lacks what only donors have whose records are not proven here. Changes with it.
    pub fn incomplete(&self) -> watch::Receiver<bool> {
        self.incomplete.subscribe()
    }

    /// The donor's log goes on from where this node is, or its records have filled this node.
    pub fn note_sound(&self, donor: &NodeId) {
        self.note(|donors| insert(donors, donor, true));
    }

    /// Forgets the donors that are no members any more: what they held does not keep this node from being ready.
    pub fn retain(&self, is_member: impl Fn(&NodeId) -> bool) {
        self.note(|donors| donors.retain(|donor, _| is_member(donor)));
    }

    /// The donor's log was not enough, and its records hold operations that nothing proves here.
    pub fn note_unproven(&self, donor: &NodeId, key: &PeerKey, unproven: Unproven) {
        self.note(|donors| insert(donors, donor, false));
        let text = format!(
            "this node could not be filled from the peer at {key}: {unproven}. Those records are left out here, and \
             while no other peer has them proven, this node is not ready. Their signers' certificates were revoked, \
             their CA is not trusted here, or they were never signed: docs/guides/troubleshooting.md, Records are not \
             proven"
        );
        self.alarms.raise_of(Source::Peer(key.to_string()), "unproven", text);
    }

    fn note(&self, change: impl FnOnce(&mut BTreeMap<NodeId, bool>)) {
        let mut donors = self.donors.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut donors);
        let is_incomplete = !donors.is_empty() && donors.values().all(|is_sound| !is_sound);
        self.incomplete
            .send_if_modified(|incomplete| std::mem::replace(incomplete, is_incomplete) != is_incomplete);
    }
}

fn insert(donors: &mut BTreeMap<NodeId, bool>, donor: &NodeId, is_sound: bool) {
    if donors.len() < limits::MEMBERS_MAX || donors.contains_key(donor) {
        donors.insert(donor.clone(), is_sound);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use brock_core::base::time::WallClock;

    #[test]
    fn one_sound_donor_is_enough_whatever_the_others_claim() {
        let fills = Fills::new(Alarms::new(WallClock::system()));
        let (a, b): (NodeId, NodeId) = ("a".parse().unwrap(), "b".parse().unwrap());
        let is_incomplete = || *fills.incomplete().borrow();
        assert!(!is_incomplete());
        fills.note_unproven(&a, &"a:1".into(), Unproven::default());
        assert!(is_incomplete());
        fills.note_sound(&b);
        assert!(!is_incomplete());
        fills.note_unproven(&b, &"b:1".into(), Unproven::default());
        assert!(is_incomplete());
        fills.note_sound(&a);
        assert!(!is_incomplete());
        fills.retain(|donor| *donor == b);
        assert!(is_incomplete());
        // The operator has retired the one that could not fill this node.
        fills.retain(|donor| *donor == a);
        assert!(!is_incomplete());
    }
}
