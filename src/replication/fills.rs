//! Whether this node could be filled from its peers, or their records are not proven here.
//!
//! A donor whose records hold something that nothing proves is not adopted, and the log of an origin whose birth is not
//! believed is not taken; so a node that only such donors could fill lacks records, revocations among them: it is not
//! ready. One donor whose log goes on, all of it, or whose records have filled this node, is enough to be ready: a
//! single peer that lies keeps no node from its work.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;

use crate::{
    membership::peer::PeerKey,
    runtime::alarms::{Alarms, Source},
    transfer::join::JoinError,
};
use brock_core::base::{
    id::{NodeId, Origin},
    limits,
};

#[derive(Debug, Default)]
struct Donors {
    /// Whether the donor's log goes on, or its records have filled this node; otherwise they are not proven.
    sound: BTreeMap<NodeId, bool>,
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
        self.change(|donors| {
            donors.insert(donor, true);
            if let Some(refused) = donors.refused.get_mut(donor) {
                refused.retain(|origin| !is_known(origin));
            }
            donors.refused.retain(|_, refused| !refused.is_empty());
        });
    }

    /// Forgets the donors that are no members any more: what they held does not keep this node from being ready.
    pub fn retain(&self, is_member: impl Fn(&NodeId) -> bool) {
        self.change(|donors| {
            donors.sound.retain(|donor, _| is_member(donor));
            donors.refused.retain(|donor, _| is_member(donor));
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

    /// The donor's log was not enough, and this node does not believe what it holds besides.
    pub fn note_unfilled(&self, donor: &NodeId, key: &PeerKey, error: &JoinError) {
        self.change(|donors| donors.insert(donor, false));
        let what = match error {
            JoinError::Unproven(unproven) => format!("{unproven}. Those records are left out here"),
            error => format!("{error}. Nothing more is taken from it"),
        };
        let text = format!(
            "this node could not be filled from the peer at {key}: {what}, and while no other peer has everything \
             proven, this node is not ready. The signers' certificates were revoked, their CA is not trusted here, or \
             it was never signed: docs/guides/troubleshooting.md, Records are not proven"
        );
        self.alarms.raise_of(Source::Peer(key.to_string()), "unproven", text);
    }

    fn change(&self, change: impl FnOnce(&mut Donors)) {
        let mut donors = self.donors.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut donors);
        let is_incomplete = donors.lack_something();
        self.incomplete
            .send_if_modified(|incomplete| std::mem::replace(incomplete, is_incomplete) != is_incomplete);
    }
}

impl Donors {
    fn insert(&mut self, donor: &NodeId, is_sound: bool) {
        if self.sound.len() < limits::MEMBERS_MAX || self.sound.contains_key(donor) {
            self.sound.insert(donor.clone(), is_sound);
        }
    }

    /// Whether there is something that no donor has all of, proven.
    fn lack_something(&self) -> bool {
        let is_lacking = !self.refused.is_empty() || self.sound.values().any(|is_sound| !is_sound);
        let is_whole = |(donor, is_sound): (&NodeId, &bool)| *is_sound && !self.refused.contains_key(donor);
        is_lacking && !self.sound.iter().any(is_whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::join::Unproven;
    use brock_core::base::{id::Incarnation, time::WallClock};

    #[test]
    fn one_sound_donor_is_enough_whatever_the_others_claim() {
        let fills = Fills::new(Alarms::new(WallClock::system()));
        let (a, b): (NodeId, NodeId) = ("a".parse().unwrap(), "b".parse().unwrap());
        let is_incomplete = || *fills.incomplete().borrow();
        let nothing = |_: &Origin| false;
        let unproven = || JoinError::Unproven(Unproven::default());
        assert!(!is_incomplete());
        fills.note_unfilled(&a, &"a:1".into(), &unproven());
        assert!(is_incomplete());
        fills.note_sound(&b, nothing);
        assert!(!is_incomplete());
        fills.note_unfilled(&b, &"b:1".into(), &unproven());
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
        fills.retain(|donor| *donor == b);
        assert!(is_incomplete());
        // The operator has retired the one that could not fill this node.
        fills.retain(|donor| *donor == a);
        assert!(!is_incomplete());
    }
}
