//! What origins have signed and this node lacks, and the peers that keep it back.
//!
//! A head is the origin's own word that its log goes so far. When nothing of that log comes for
//! [`limits::HEAD_PATIENCE`], although a peer that is up claims to have more of it, that peer keeps it back: an honest
//! one sends what it has. A quiet origin has signed nothing that is missing.

use std::collections::HashSet;

use crate::{
    membership::{peer::PeerKey, roster::Roster},
    runtime::alarms::{Alarms, Source},
    store::{Health, Lacking, Store},
};
use brock_core::base::{id::Origin, limits};

/// Operations that an origin has signed and this node lacks.
#[derive(Debug, Clone)]
pub struct Withheld {
    /// What is lacking.
    pub lacking: Lacking,
    /// The peers that claim to have more of it than this node; none: no peer that is up does.
    pub by: Vec<PeerKey>,
}

impl Withheld {
    /// How many operations.
    pub fn operations(&self) -> u64 {
        self.lacking.head.clock().0.saturating_sub(self.lacking.applied.0)
    }
}

/// What has been lacking for [`limits::HEAD_PATIENCE`]. Peers are named only while this node takes what they send.
pub fn overdue(store: &Store, roster: &Roster, is_filled: bool) -> Vec<Withheld> {
    let takes = !is_filled && matches!(&*store.health().borrow(), Health::Well);
    let is_overdue = |lacking: &Lacking| lacking.since.elapsed() >= limits::HEAD_PATIENCE;
    let lacking = store.lacking().into_iter().filter(is_overdue);
    let peers = |lacking: &Lacking| match takes {
        true => roster.withholding(&lacking.head.origin, lacking.applied),
        false => Vec::new(),
    };
    lacking.map(|lacking| Withheld { by: peers(&lacking), lacking }).collect()
}

/// Raises an alarm for each log that this peer keeps back, unless it is in `named`, and adds it there.
pub(super) fn report(all: Vec<Withheld>, key: &PeerKey, named: &mut HashSet<Origin>, alarms: &Alarms) {
    for withheld in all.iter().filter(|withheld| withheld.by.contains(key)) {
        let origin = withheld.lacking.head.origin;
        if !named.insert(origin) {
            continue;
        }
        let text = format!(
            "the peer at {key} keeps back {} operations that {origin} has signed: it claims to have them, and has sent \
             none for {} s. If it goes on, find out who controls that node, and let this one pull from others too: \
             docs/explanation/security.md, Completeness",
            withheld.operations(),
            withheld.lacking.since.elapsed().as_secs(),
        );
        alarms.raise_of(Source::Peer(key.to_string()), "withheld", text);
    }
}
