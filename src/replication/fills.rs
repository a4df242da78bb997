//! Whether this node could be filled from its peers, or their records are not proven here.
//!
//! A donor whose records hold something that nothing proves is not adopted, so a node that only such donors could
//! fill lacks records, revocations among them: it is not ready. One donor whose log goes on, or whose records have
//! filled this node, is enough to be ready: a single peer that lies keeps no node from its work.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;

use crate::{
    membership::peer::PeerKey,
    runtime::alarms::{Alarms, Source},
    transfer::join::Unproven,
};
use brock_core::base::{id::NodeId, limits};

#[derive(Debug, Default)]
struct Donors {
    unproven: BTreeSet<NodeId>,
    sound: BTreeSet<NodeId>,
}

/// How the attempts with each donor ended. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Fills {
    donors: Arc<Mutex<Donors>>,
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
    pub fn is_sound(&self, donor: &NodeId) {
        self.note(donor, |donors| {
            donors.unproven.remove(donor);
            &mut donors.sound
        });
    }

    /// The donor's log was not enough, and its records hold operations that nothing proves here.
    pub fn is_unproven(&self, donor: &NodeId, key: &PeerKey, unproven: Unproven) {
        self.note(donor, |donors| {
            donors.sound.remove(donor);
            &mut donors.unproven
        });
        let text = format!(
            "this node could not be filled from the peer at {key}: {unproven}. Those records are left out here, and \
             while no other peer has them proven, this node is not ready. Their signers' certificates were revoked, \
             their CA is not trusted here, or they were never signed: docs/guides/troubleshooting.md, Records are not \
             proven"
        );
        self.alarms.raise_of(Source::Peer(key.to_string()), "unproven", text);
    }

    fn note(&self, donor: &NodeId, list: impl FnOnce(&mut Donors) -> &mut BTreeSet<NodeId>) {
        let mut donors = self.donors.lock().unwrap_or_else(PoisonError::into_inner);
        let list = list(&mut donors);
        if list.len() < limits::MEMBERS_MAX {
            list.insert(donor.clone());
        }
        let is_incomplete = donors.sound.is_empty() && !donors.unproven.is_empty();
        self.incomplete
            .send_if_modified(|incomplete| std::mem::replace(incomplete, is_incomplete) != is_incomplete);
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
        fills.is_unproven(&a, &"a:1".into(), Unproven::default());
        assert!(is_incomplete());
        fills.is_sound(&b);
        assert!(!is_incomplete());
        fills.is_unproven(&b, &"b:1".into(), Unproven::default());
        assert!(is_incomplete());
        fills.is_sound(&a);
        assert!(!is_incomplete());
    }
}
