//! Whether this node could be filled from its peers, or their records are not proven here.
//!
//! A donor whose records hold something that nothing proves is not adopted, and the log of an origin whose birth is not
//! believed is not taken; so a node that only such donors could fill lacks records, revocations among them: it is not
//! ready. One donor whose log goes on, all of it, or whose records have filled this node, is enough to be ready: a single
//! peer that lies keeps no node from its work.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;

use crate::{
    membership::peer::PeerKey,
    runtime::alarms::{Alarms, Source},
    transfer::join::Unproven,
};
use brock_core::base::{
    id::{NodeId, Origin},
    limits,
};

#[derive(Debug, Default)]
struct Donors {
    unproven: BTreeSet<NodeId>,
    sound: BTreeSet<NodeId>,
    /// Origins that are unknown here, because the log that these donors have of them is not believed.
    refused: BTreeMap<NodeId, BTreeSet<Origin>>,
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

    /// The donor's log goes on from where this node is, or its records have filled this node. `is_known`: whether this
    /// node has something of an origin by now.
    pub fn note_sound(&self, donor: &NodeId, is_known: impl Fn(&Origin) -> bool) {
        self.note(donor, |donors| {
            donors.unproven.remove(donor);
            if let Some(refused) = donors.refused.get_mut(donor) {
                refused.retain(|origin| !is_known(origin));
            }
            donors.refused.retain(|_, refused| !refused.is_empty());
            &mut donors.sound
        });
    }

    /// The donor has the log of an origin of which this node has nothing, and takes nothing for this reason.
    pub fn note_refused(&self, donor: &NodeId, key: &PeerKey, origin: Origin, reason: &str) {
        let mut is_new = false;
        self.change(|donors| {
            let is_listed = donors.refused.contains_key(donor);
            if is_listed || donors.refused.len() < limits::MEMBERS_MAX {
                let refused = donors.refused.entry(donor.clone()).or_default();
                is_new = refused.len() < limits::REFUSED_ORIGINS_MAX && refused.insert(origin);
            }
        });
        if is_new {
            let text = format!(
                "this node takes nothing of a log that the peer at {key} has, and while no other peer has everything \
                 proven, it is not ready: {reason}"
            );
            self.alarms.raise_of(Source::Peer(key.to_string()), "refused", text);
        }
    }

    /// The donor's log was not enough, and its records hold operations that nothing proves here.
    pub fn note_unproven(&self, donor: &NodeId, key: &PeerKey, unproven: Unproven) {
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
        self.change(|donors| {
            let list = list(donors);
            if list.len() < limits::MEMBERS_MAX {
                list.insert(donor.clone());
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut Donors)) {
        let mut donors = self.donors.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut donors);
        let Donors { unproven, sound, refused } = &*donors;
        let lacks_something = !unproven.is_empty() || !refused.is_empty();
        let is_incomplete = lacks_something && sound.iter().all(|donor| refused.contains_key(donor));
        self.incomplete
            .send_if_modified(|incomplete| std::mem::replace(incomplete, is_incomplete) != is_incomplete);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use brock_core::base::{id::Incarnation, time::WallClock};

    #[test]
    fn one_sound_donor_is_enough_whatever_the_others_claim() {
        let fills = Fills::new(Alarms::new(WallClock::system()));
        let (a, b): (NodeId, NodeId) = ("a".parse().unwrap(), "b".parse().unwrap());
        let is_incomplete = || *fills.incomplete().borrow();
        let nothing = |_: &Origin| false;
        assert!(!is_incomplete());
        fills.note_unproven(&a, &"a:1".into(), Unproven::default());
        assert!(is_incomplete());
        fills.note_sound(&b, nothing);
        assert!(!is_incomplete());
        fills.note_unproven(&b, &"b:1".into(), Unproven::default());
        assert!(is_incomplete());
        fills.note_sound(&a, nothing);
        assert!(!is_incomplete());
        // The log of a goes on, but for one that this node lacks.
        let origin = Origin::new(&a, Incarnation(1));
        fills.note_refused(&a, &"a:1".into(), origin, "unborn");
        fills.note_sound(&a, nothing);
        assert!(is_incomplete());
        fills.note_sound(&a, |known| *known == origin);
        assert!(!is_incomplete());
    }
}
