//! Nodes that come back without what they have logged before.
//!
//! A birth states where the log before it ended, and nodes have no more of that than was durable there. An incarnation
//! that states less has lost its disk, was set back, or is that of a thief, who has the certificate and not the disk.

use super::puller::Puller;
use crate::{runtime::alarms, store::Store};
use brock_core::{
    base::{id::Origin, vector::Clock},
    domain::birth::Birth,
};

impl Puller {
    /// Raises an alarm if a birth that was not known here leaves out what is applied here of that node's last
    /// incarnation before it; not if an operator has closed that log.
    pub(super) fn note_birth(&self, birth: &Birth) {
        let Some((last, applied)) = left_out(&self.store, birth) else { return };
        if self.orders.closed(&last).is_some() {
            return;
        }
        let node_id = birth.origin.node_id();
        let stated = match birth.previous {
            Some(previous) => {
                format!("its log before ended at {} of {}", previous.last.clock, previous.last.origin)
            }
            None => "it has logged nothing before".to_owned(),
        };
        let text = format!(
            "{node_id} came back as {} and states that {stated}, but this node has {last} up to {applied}. If its disk was \
             neither emptied nor set back, its certificate is in other hands: docs/guides/troubleshooting.md, A node came \
             back without its log",
            birth.origin
        );
        self.alarms.raise_of(alarms::Source::Here, &format!("reborn {node_id}"), text);
    }
}

/// What a birth leaves out of the log before it, as far as that is here: its origin, and what is applied of it.
fn left_out(store: &Store, birth: &Birth) -> Option<(Origin, Clock)> {
    let is_before = |known: &Birth| known.origin != birth.origin && known.born_at < birth.born_at;
    let births = store.births_of_node(&birth.origin.node_id());
    let wrote =
        births.iter().filter(|known| is_before(known) && store.clock(&known.origin) > Clock::default());
    let last = wrote.max_by_key(|known| known.born_at)?;
    let applied = store.clock(&last.origin);
    let is_left_out = match birth.previous.map(|previous| previous.last) {
        None => true,
        Some(end) if end.origin == last.origin => end.clock < applied,
        // One that this node does not know may have come between.
        Some(end) => births.iter().any(|known| known.origin == end.origin && known.born_at < last.born_at),
    };
    is_left_out.then_some((last.origin, applied))
}
