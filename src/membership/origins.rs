//! Which origins that are unknown here this node begins to list because of a peer.
//!
//! Every origin costs every node memory and every vector room, and nothing proves that it exists. So each donor has
//! budgets, which refill slowly: one for incarnations of itself, one for those of nodes that this node knows, as
//! members or by an origin that it lists, one for those of other nodes. A donor that invents origins fills its own
//! budgets and nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::members::Members;
use crate::{
    runtime::alarms::{Alarms, Source},
    store::Store,
};
use brock_core::base::{
    id::{NodeId, Origin},
    limits, metrics as names,
    vector::Clock,
};

/// The peer that supplies an origin.
#[derive(Debug, Clone)]
pub struct Supplier {
    /// Its node id.
    pub node_id: NodeId,
    /// Who its budgets are counted for: what its certificate proves.
    pub holder: String,
}

/// Whose origins a donor supplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Own,
    OfKnown,
    OfStranger,
}

impl Kind {
    /// How many at once, and after how long one more.
    fn budget(self) -> (u32, Duration) {
        let (at_once, refill) = match self {
            Self::Own => (limits::OWN_ORIGINS_BUDGET, limits::OWN_ORIGINS_REFILL),
            Self::OfKnown => (limits::KNOWN_ORIGINS_BUDGET, limits::KNOWN_ORIGINS_REFILL),
            Self::OfStranger => (limits::STRANGE_ORIGINS_BUDGET, limits::STRANGE_ORIGINS_REFILL),
        };
        (u32::try_from(at_once).unwrap_or(u32::MAX), refill)
    }

    /// How many incarnations of that node may be listed before, and how many origins in all. Others cannot use up
    /// what a node needs for its own next incarnation.
    fn room(self) -> (usize, usize) {
        match self {
            Self::Own => (limits::ORIGINS_PER_NODE, limits::ORIGINS_MAX),
            Self::OfKnown | Self::OfStranger => (limits::ORIGINS_PER_NODE / 2, limits::RELAYED_ORIGINS_MAX),
        }
    }
}

#[derive(Debug)]
struct Budget {
    left: u32,
    refilled: Instant,
}

impl Budget {
    fn refill(&mut self, kind: Kind, now: Instant) {
        let (at_once, every) = kind.budget();
        let due = now.saturating_duration_since(self.refilled).as_secs() / every.as_secs().max(1);
        let due = u32::try_from(due).unwrap_or(u32::MAX);
        self.left = self.left.saturating_add(due).min(at_once);
        self.refilled += every.saturating_mul(due);
    }
}

/// The budgets of all donors. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Origins {
    budgets: Arc<Mutex<BTreeMap<(String, Kind), Budget>>>,
    /// When an alarm last named a donor.
    reported: Arc<Mutex<BTreeMap<String, Instant>>>,
}

impl Origins {
    /// Those of `fresh` that this node does not take from a donor now; if it `lists` the others, they are charged to
    /// the donor.
    ///
    /// IMPORTANT: the only place where it is decided whether this node begins to list an origin because of a peer.
    /// Contract: an origin that is listed here is taken. A donor cannot use up what another one needs: what it
    /// supplies is bounded by its own budgets, by half of the incarnations that a node may have, and in all by
    /// less than the room that is kept for what nodes supply of themselves.
    pub fn declined(
        &self,
        store: &Store,
        members: &Members,
        donor: &Supplier,
        fresh: impl IntoIterator<Item = Origin>,
        lists: bool,
        alarms: &Alarms,
    ) -> BTreeSet<Origin> {
        let mut declined = BTreeSet::new();
        let mut pending: BTreeMap<NodeId, usize> = BTreeMap::new();
        let mut taken: BTreeMap<Kind, usize> = BTreeMap::new();
        for origin in fresh {
            if store.clock(&origin) > Clock::default() {
                continue;
            }
            let node_id = origin.node_id();
            let (listed, incarnations) = store.listing(&node_id);
            let is_member = node_id == *members.own_id() || members.remembers(&node_id).is_some();
            let is_own = node_id == donor.node_id;
            let waiting = pending.entry(node_id).or_default();
            let kind = match (is_own, is_member || incarnations + *waiting > 0) {
                (true, _) => Kind::Own,
                (false, true) => Kind::OfKnown,
                (false, false) => Kind::OfStranger,
            };
            let (of_node, in_all) = kind.room();
            let has_room =
                incarnations + *waiting < of_node && listed + taken.values().sum::<usize>() < in_all;
            let of_kind = taken.entry(kind).or_default();
            let spent = if lists { 0 } else { *of_kind };
            if has_room && self.has_left(&donor.holder, kind, spent, lists, Instant::now()) {
                *waiting += 1;
                *of_kind += 1;
            } else {
                declined.insert(origin);
            }
        }
        self.report(donor, declined.len(), alarms);
        declined
    }

    /// Counts what was declined, and raises an alarm if that is the donor's first for an hour.
    fn report(&self, donor: &Supplier, declined: usize, alarms: &Alarms) {
        if declined == 0 {
            return;
        }
        metrics::counter!(names::ORIGINS_DECLINED).increment(declined as u64);
        let now = Instant::now();
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        reported.retain(|_, at| now.saturating_duration_since(*at) < limits::ORIGINS_REPORT_INTERVAL);
        if reported.len() >= limits::ORIGIN_BUDGETS || reported.contains_key(&donor.holder) {
            return;
        }
        reported.insert(donor.holder.clone(), now);
        drop(reported);
        let text = format!(
            "{} supplies more new origins than one node should: {declined} of them are not taken now, and more may \
             follow. If it is not this node that has just joined a cluster with a long history, that node was taken \
             over: revoke its certificate",
            donor.holder
        );
        alarms.raise_of(Source::Peer(donor.holder.clone()), "origins", text);
    }

    /// Whether the budget has one more than `spent` left; takes that one if it is `charged`.
    fn has_left(&self, holder: &str, kind: Kind, spent: usize, charged: bool, now: Instant) -> bool {
        let mut budgets = self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        if budgets.len() >= limits::ORIGIN_BUDGETS {
            // One that is full is as good as none.
            budgets.retain(|(_, kind), budget| {
                budget.refill(*kind, now);
                budget.left < kind.budget().0
            });
        }
        let is_full = budgets.len() >= limits::ORIGIN_BUDGETS;
        let key = (holder.to_owned(), kind);
        if is_full && !budgets.contains_key(&key) {
            return false;
        }
        let budget = budgets.entry(key).or_insert(Budget { left: kind.budget().0, refilled: now });
        budget.refill(kind, now);
        let has_left = budget.left as usize > spent;
        budget.left = budget.left.saturating_sub(u32::from(charged && has_left));
        has_left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_its_holders_own_and_refills_slowly() {
        let (origins, began) = (Origins::default(), Instant::now());
        let charge = |holder: &str, now| origins.has_left(holder, Kind::OfStranger, 0, true, now);
        let (at_once, refill) = Kind::OfStranger.budget();
        assert_eq!((0..at_once + 50).filter(|_| charge("a", began)).count(), at_once as usize);
        assert!(charge("b", began) && origins.has_left("a", Kind::Own, 0, true, began));
        assert!(!origins.has_left("c", Kind::OfStranger, at_once as usize, false, began));
        let later = began + refill * 2 + Duration::from_secs(1);
        assert_eq!((0..9).filter(|_| charge("a", later)).count(), 2);
        assert_eq!((0..9).filter(|_| charge("a", began + refill * 3)).count(), 1, "no time is lost");
    }
}
