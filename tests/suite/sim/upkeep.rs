//! What nodes and operators do on the side: compaction, sweeping, repair, retirement, clocks.

use std::collections::BTreeMap;

use super::{
    node::{self, Resync, Running, states, verifier},
    world::World,
};
use brock::{
    membership::{members::MemberView, peer::RemoteError},
    replication::{
        comparison::{Comparison, Look},
        confirmation::{Confirmation, Step},
        remote::{Remote, digest_to_proto},
        repair::{self, Repaired, TheirSummary},
    },
    store::{Fill, Store},
    transfer::proof::Verifier,
};
use brock_core::{
    base::{
        id::{KeyHash, NodeId},
        limits,
        trust::TrustMode,
        vector::Clock,
    },
    domain::record::RecordState,
};
use rand::Rng;

const YEAR_SECONDS: i64 = 365 * 86_400;

impl World {
    pub async fn compact_somewhere(&mut self) {
        if let Some(node) = self.any_running() {
            self.compact(node).await;
        }
    }

    /// Returns whether anything went.
    ///
    /// Claim: no log entry goes that a member is not known to have.
    pub async fn compact(&mut self, node: usize) -> bool {
        let trusted = self.trusts_its_clock(node);
        let Some(running) = self.running(node) else { return false };
        let (compactor, store) = (running.compactor.clone(), running.store.clone());
        let views = running.members.views(running.wall_clock.now());
        let before = (store.floors(), store.folds(), store.collected());
        let outcome = compactor.compact(trusted).await.expect("the store compacts");
        let mut risen = store.floors().above(&before.0);
        risen.join(&store.folds().above(&before.1));
        let has = |view: &MemberView, origin, clock| {
            view.applied.as_ref().is_some_and(|applied| applied.get(&origin) >= clock)
        };
        for view in views.iter().filter(|view| !view.retired) {
            let lacks = risen.iter().find(|(origin, clock)| !has(view, *origin, *clock));
            assert!(lacks.is_none(), "{node} compacted {lacks:?}, which {:?} may lack", view.node_id);
        }
        self.touched.insert(node);
        self.note(format!(
            "{node} compacts: {outcome:?}, collected: {:?}",
            store.collected().above(&before.2)
        ));
        self.tally.add("compactions", 1);
        self.tally.add("log entries compacted", outcome.entries_removed);
        self.tally.add("origins folded", outcome.origins_folded);
        self.tally.add("tombstones collected", outcome.tombstones_collected);
        self.tally.add("payloads removed", outcome.payloads_removed);
        if self.random.random_bool(0.2) {
            self.drop_bundles(node).await;
        }
        outcome.entries_removed + outcome.origins_folded + outcome.tombstones_collected > 0
    }

    /// A resync that is under way holds the bundles.
    async fn drop_bundles(&mut self, node: usize) {
        let is_held = |resync: &Resync| resync.feed.is_some();
        let is_free = |running: &&Running| !running.resync.as_ref().is_some_and(is_held);
        let Some(running) = self.running(node).filter(is_free) else { return };
        let dropped = running.store.clone().drop_bundles().await.expect("the store drops bundles");
        self.tally.add("bundles dropped", dropped);
    }

    pub async fn mark_somewhere(&mut self) {
        if let Some(node) = self.any_running() {
            self.mark(node).await;
        }
    }

    pub async fn mark(&mut self, node: usize) {
        let trusted = self.trusts_its_clock(node);
        if let Some(running) = self.running(node) {
            running.compactor.mark(trusted).await.expect("the store keeps a note");
        }
    }

    pub async fn remember_somewhere(&mut self) {
        let Some(node) = self.any_running() else { return };
        let Some(running) = self.running(node) else { return };
        let (known, forget) = running.members.to_remember(running.wall_clock.now());
        running.store.remember(known, forget).await.expect("the store remembers");
        self.nodes[node].disk.remembered_retired = self.nodes[node].disk.retired.clone();
    }

    pub async fn sweep_somewhere(&mut self) {
        let Some(node) = self.any_running() else { return };
        if !self.trusts_its_clock(node) {
            self.tally.add("sweeps held back by a clock in doubt", 1);
            return;
        }
        let Some(running) = self.running(node) else { return };
        let swept = running.store.sweep(running.wall_clock.now()).await.expect("the store sweeps");
        self.touched.insert(node);
        self.note(format!("{node} sweeps {swept}"));
        self.tally.add("payloads swept", swept as u64);
        assert!(swept < limits::SWEEP_BATCH, "more than there is");
    }

    /// A node compares its records with another's: by itself, which mends only what differs although
    /// both have applied the same, or because an operator said so.
    pub async fn repair_somewhere(&mut self) {
        let (node, other) = self.any_pair();
        let is_removing = self.running(node).is_some_and(|running| running.is_removing());
        if !self.are_connected(node, other) || is_removing {
            return;
        }
        let is_told_to = self.random.random_bool(0.4);
        self.repair(node, other, is_told_to).await;
    }

    /// Returns whether records were repaired, and whether fills were confirmed.
    pub async fn repair(&mut self, node: usize, other: usize, is_told_to: bool) -> (bool, bool) {
        let (Some(store), Some(remote)) = (self.store(node), self.shown(other)) else {
            return (false, false);
        };
        let doubting = self.running(node).map(|running| running.verifier.clone());
        let Some(doubting) = doubting else { return (false, false) };
        let verifier = match self.is_strict() {
            true => doubting,
            false => verifier(&store, TrustMode::Centralized),
        };
        let mut confirmed = Vec::new();
        let repaired = match is_told_to {
            true => repair::repair((&store, &verifier), &remote, None).await,
            false => {
                let compared = compare((&store, &verifier), (&self.nodes[other].id, &remote)).await;
                compared.map(|(repaired, fills)| {
                    confirmed = fills;
                    repaired
                })
            }
        };
        self.note_answers(node, &remote, other, repaired.as_ref().ok().map(|repaired| repaired.unproven));
        let repaired = match repaired {
            Err(_) if self.is_liar(other) => {
                self.tally.add("answers refused", 1);
                Repaired::default()
            }
            repaired => repaired.expect("both can be read"),
        };
        self.touched.insert(node);
        self.note(format!("{node} repairs from {other}: {repaired:?}"));
        self.tally.add("repairs", 1);
        self.tally.add("records repaired", repaired.repaired);
        self.tally.add("records left alone by a repair", repaired.ambiguous);
        self.check_confirmed(node, other, &confirmed).await;
        (repaired.repaired > 0, !confirmed.is_empty())
    }

    /// Claim: where donors lie, no honest member confirms a fill of an honest node while that lacks anything of what
    /// the donor claimed to have and the member has; nor the last one while anything of it is missing at all.
    async fn check_confirmed(&mut self, node: usize, by: usize, confirmed: &[Confirmed]) {
        for Confirmed { fills, states, is_last } in confirmed {
            self.tally.add("fills confirmed", fills.len() as u64);
            for fill in fills {
                self.note(format!("{by} confirms to {node} what {} has filled", fill.donor));
            }
            let is_claimed = self.is_strict() && !self.is_liar(node) && !self.is_liar(by);
            let Some(member) = self.store(by).filter(|_| is_claimed) else { continue };
            let theirs = node::states(&member).await;
            let history = &self.history;
            let acknowledged =
                history.acknowledged().iter().copied().filter(|stamp| !history.is_lost(*stamp));
            for stamp in acknowledged {
                let counts = *is_last || history.is_in(stamp, &theirs);
                let claimed = fills.iter().find(|fill| counts && fill.applied.has(stamp));
                let is_there = claimed.is_none() || history.is_in(stamp, states);
                assert!(is_there, "{by} confirms {claimed:?} to {node}, which lacks {stamp:?}");
            }
        }
    }

    /// Whether two nodes have applied the same and hold something else.
    pub fn differ(&self, node: usize, other: usize) -> bool {
        let (Some(store), Some(remote)) = (self.store(node), self.store(other)) else { return false };
        let theirs = remote.summary();
        let comparison = store.summary().compare(&theirs.applied(), &digest_to_proto(&theirs));
        comparison == brock::store::Comparison::Different
    }

    /// An operator says at one node that another never returns.
    pub async fn retire_somebody(&mut self) {
        let (node, other) = self.any_pair();
        let name = self.nodes[other].id.to_string();
        let Some(running) = self.running(node) else { return };
        let applied = running.store.applied();
        let Ok(state) = running.members.retire(&name, &applied) else { return };
        running.store.remember(vec![state], Vec::new()).await.expect("the store remembers");
        self.note(format!("{node} retires {other}"));
        let disk = &mut self.nodes[node].disk;
        let missed = disk.retired.entry(other).or_insert(applied).clone();
        disk.remembered_retired.insert(other, missed);
        self.tally.add("retirements", 1);
    }

    /// A clock jumps by years.
    pub fn jump(&mut self) {
        let node = self.any_node();
        let years: i64 = self.random.random_range(1..10);
        let sign = if self.random.random_bool(0.7) { 1 } else { -1 };
        self.nodes[node].clock_offset = sign * years * YEAR_SECONDS;
        self.nodes[node].set_time(self.now);
        self.note(format!("the clock of {node} jumps by {} years", sign * years));
        self.tally.add("clock jumps", 1);
    }

    pub fn set_a_clock(&mut self) {
        let node = self.any_node();
        self.set_clock(node);
    }

    pub fn set_clock(&mut self, node: usize) {
        self.nodes[node].clock_offset = 0;
        self.nodes[node].set_time(self.now);
    }

    /// A peer knows more of a node's present life than there is: it goes on under another name.
    pub async fn spread_a_rumour(&mut self) {
        let Some(node) = self.any_running() else { return };
        let Some(running) = self.running_mut(node) else { return };
        if std::mem::replace(&mut running.has_heard_a_rumour, true) {
            return;
        }
        let store = running.store.clone();
        let before = store.origin();
        let claimed = Clock(store.clock(&before).0 + 3);
        let claim = [(before, claimed)].into_iter().collect();
        store.check_rollback(&claim, "a rumour").await.expect("the store mints");
        assert!(store.origin() != before, "{node} goes on under a name that somebody knows more of");
        self.touched.insert(node);
        self.note(format!("{node} goes on as {}", store.origin()));
        self.tally.add("incarnations minted while running", 1);
    }
}

/// Fills that were confirmed, and what was here then.
pub struct Confirmed {
    fills: Vec<Fill>,
    pub states: BTreeMap<KeyHash, RecordState>,
    /// Whether no other fill is left.
    is_last: bool,
}

/// As often as it takes to come to every bucket, and to confirm what fills that is possible. Returns these too.
pub async fn compare(
    here: (&Store, &Verifier),
    (node_id, remote): (&NodeId, &impl Remote),
) -> Result<(Repaired, Vec<Confirmed>), RemoteError> {
    let (mut comparison, mut confirmation) = (Comparison::default(), Confirmation::default());
    let (mut all, mut confirmed) = (Repaired::default(), Vec::new());
    for _ in 0..5 * limits::COMPARE_LOOKS {
        let mut is_suspicious = false;
        // A lie of the member's ends the confirmation, not the comparison.
        match confirmation.step(here.0, (node_id, remote)).await.unwrap_or(Step::Idle) {
            Step::Idle => {}
            Step::UnderWay => is_suspicious = true,
            Step::Suspects(buckets) => {
                comparison.suspect(buckets);
                is_suspicious = true;
            }
            Step::Confirms(parts) => {
                let whole = parts.iter().filter(|part| part.left.is_empty());
                let fills = whole.map(|part| part.fill.clone()).collect();
                here.0.confirm_fills(parts).await.expect("the store takes writes");
                let left = here.0.unconfirmed_fills();
                let (states, is_last) = (states(here.0).await, left.is_empty());
                confirmed.push(Confirmed { fills, states, is_last });
            }
        }
        match comparison.look(here, remote, None).await? {
            Look::Equal if is_suspicious => {}
            Look::Equal => break,
            Look::Suspicious => {}
            Look::Settled(settled) => {
                all.differing += settled.differing;
                all.repaired += settled.repaired;
                all.ambiguous += settled.ambiguous;
                all.unproven += settled.unproven;
            }
        }
    }
    Ok((all, confirmed))
}

/// What peers see of it.
pub async fn applied_from_outside(store: &impl Remote) -> brock_core::base::vector::Vector {
    TheirSummary::of(store).await.expect("the store answers").applied
}
