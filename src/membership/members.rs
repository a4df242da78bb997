//! The members: the other nodes whose acknowledgement is waited for.
//!
//! A member is in `node.join` or was met under a name in it, or has pulled from this node within the retention window, and is not
//! retired. What it announces when it pulls is its acknowledgement: from that come receipts, the
//! stable vector (what every member has applied), and so what may be compacted.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Mutex as AsyncMutex, MutexGuard as AsyncMutexGuard, watch},
    time::Instant,
};

use super::{
    member::{Member, is_returning},
    revocations::Revocations,
};
use crate::runtime::planted::{self, Bug};
use brock_core::{
    base::{
        id::{Incarnation, NodeId, Origin},
        limits, metrics as names,
        vector::{Stamp, Vector},
    },
    domain::{
        codec::{self, CodecError},
        record::UnixSeconds,
    },
    proto,
};

/// One member, as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberView {
    /// `None`: an address of `node.join` that never answered.
    pub node_id: Option<NodeId>,
    /// `None`: not in `node.join`.
    pub address: Option<String>,
    /// Whether it is retired.
    pub retired: bool,
    /// When something was last heard from it; 0 = never.
    pub last_seen: UnixSeconds,
    /// What it has applied, as far as is known.
    pub applied: Option<Vector>,
    /// Whether it follows this node now.
    pub connected: bool,
}

/// Whether a puller may be fed from the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It is a member.
    Member,
    /// It was retired, and has missed what happened since.
    Retired,
}

/// No member has that name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no member has that node id or address: `node-admin members` lists them")]
pub struct NoSuchMember;

/// How many other members must hold an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acks {
    /// This many.
    Nodes(usize),
    /// Every current one.
    All,
}

/// Who holds an operation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Receipt {
    /// Names, and how long it took until this node knew.
    pub holders: Vec<(String, Duration)>,
    /// Names of those that were waited for in vain.
    pub missing: Vec<String>,
}

/// All members of a node. Cheap to clone.
#[derive(Clone)]
pub struct Members {
    own: NodeId,
    retention: Duration,
    table: Arc<Mutex<BTreeMap<String, Member>>>,
    /// Held while what is known is written down: a later state must not be overtaken by an earlier.
    writing: Arc<AsyncMutex<()>>,
    changed: watch::Sender<u64>,
    revocations: Revocations,
}

impl Members {
    /// The addresses of `node.join`, and what was remembered. `discovers`: DNS lists further members,
    /// so that one that was met under such an address stays a member until an operator retires it.
    pub fn new(
        own: NodeId,
        (join, discovers): (&[String], bool),
        remembered: Vec<proto::MemberState>,
        retention: Duration,
    ) -> Result<Self, CodecError> {
        let mut table: BTreeMap<String, Member> = BTreeMap::new();
        let mut remembered = remembered;
        // Named ones first: an address that has a name by now is not another member.
        remembered.sort_by_key(|state| state.node_id.is_empty());
        for state in remembered {
            let vector =
                |vector: Option<proto::Vector>| vector.as_ref().map(codec::vector_from_proto).transpose();
            let node_id: Option<NodeId> = state.node_id.parse().ok();
            let stays = |address: &String| {
                join.contains(address)
                    || (discovers && (node_id.is_some() || state.retired) && !address.is_empty())
            };
            let member = Member {
                address: Some(state.address).filter(stays),
                node_id,
                last_seen: state.last_seen_unix,
                // Not worth failing the start for: its next hello says it again.
                pulled: vector(state.applied).unwrap_or_default(),
                retired: match state.retired {
                    true => Some(vector(state.retired_at)?.unwrap_or_default()),
                    false => None,
                },
                ..Member::default()
            };
            let is_named =
                |address: &String| table.values().any(|other| other.address.as_ref() == Some(address));
            if member.node_id.is_some() || member.address.as_ref().is_some_and(|address| !is_named(address)) {
                table.insert(member.name(), member);
            }
        }
        for address in join {
            if !table.values().any(|member| member.address.as_ref() == Some(address)) {
                let member = Member { address: Some(address.clone()), ..Member::default() };
                table.insert(member.name(), member);
            }
        }
        Ok(Self {
            own,
            retention,
            table: Arc::new(Mutex::new(table)),
            writing: Arc::default(),
            changed: watch::Sender::new(0),
            revocations: Revocations::default(),
        })
    }

    /// Somebody is to be met at an address: a member that is waited for, although it has no name yet.
    pub fn expect(&self, address: &str) {
        let mut table = self.lock();
        let is_known = table.values().any(|member| member.address.as_deref() == Some(address));
        if is_known || table.len() >= limits::MEMBERS_MAX {
            return;
        }
        let member = Member { address: Some(address.to_owned()), is_passing: true, ..Member::default() };
        table.insert(address.to_owned(), member);
        drop(table);
        self.notify();
    }

    /// Nobody is to be met at an address any more. Whoever has answered there stays a member.
    pub fn withdraw(&self, address: &str) {
        let mut table = self.lock();
        // Retired by its address: it stays so, whoever it turns out to be.
        if table.get(address).is_some_and(|member| member.node_id.is_none() && member.retired.is_none()) {
            table.remove(address);
        }
        drop(table);
        self.notify();
    }

    /// Held from looking at what must be remembered until that is durable.
    pub async fn writing(&self) -> AsyncMutexGuard<'_, ()> {
        self.writing.lock().await
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Member>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn notify(&self) {
        self.changed.send_modify(|changes| *changes += 1);
    }

    /// A node begins to pull and says what it has applied, folded origins included. A retired one
    /// is a member again if that is everything that this node had when it was retired.
    pub fn hello(
        &self,
        node_id: &NodeId,
        incarnation: Incarnation,
        applied: &Vector,
        now: UnixSeconds,
    ) -> Admission {
        let mut table = self.lock();
        if !table.contains_key(node_id.as_str()) && table.len() >= limits::MEMBERS_MAX {
            // A bound is a bound: it is fed, and not waited for.
            return Admission::Member;
        }
        let member = table.entry(node_id.to_string()).or_default();
        member.node_id = Some(node_id.clone());
        member.incarnation = Some(incarnation);
        member.last_seen = now;
        if let Some(missed) = &member.retired {
            if !applied.covers(missed) && !planted::is(Bug::ForgiveRetired) {
                // It is being filled: what it has is waited for again, or it would never catch up.
                (member.pulled, member.returned_at) = (Some(applied.clone()), Some(now));
                return Admission::Retired;
            }
            tracing::info!(%node_id, "a retired node has caught up: it is a member again");
            member.retired = None;
        }
        match &mut member.pulled {
            Some(pulled) if planted::is(Bug::HelloJoins) => pulled.join(applied),
            pulled => *pulled = Some(applied.clone()),
        }
        drop(table);
        self.notify();
        Admission::Member
    }

    /// The stream of that node has begun (+1) or ended (-1).
    pub fn follows(&self, node_id: &NodeId, begins: bool) {
        if let Some(member) = self.lock().get_mut(node_id.as_str()) {
            member.feeds = if begins { member.feeds + 1 } else { member.feeds.saturating_sub(1) };
        }
    }

    /// A node that pulls has made this durable.
    pub fn acknowledge(&self, node_id: &NodeId, applied: &Vector, now: UnixSeconds) {
        if let Some(member) = self.lock().get_mut(node_id.as_str()) {
            member.last_seen = now;
            member.pulled.get_or_insert_default().join(applied);
        }
        if !applied.is_empty() {
            self.notify();
        }
    }

    /// The donor at an address of `node.join` said what it has applied; `fresh` if that is all of it
    /// and not only what changed.
    pub fn heard(
        &self,
        address: &str,
        (node_id, incarnation): (&NodeId, Incarnation),
        applied: &Vector,
        fresh: bool,
        now: UnixSeconds,
    ) {
        let mut table = self.lock();
        // The address moves from whoever had it before: a nameless entry, or a node that was replaced.
        let former: Vec<String> = table
            .iter()
            .filter(|(name, member)| {
                member.address.as_deref() == Some(address) && name.as_str() != node_id.as_str()
            })
            .map(|(name, _)| name.clone())
            .collect();
        let mut retired = None;
        for name in former {
            let nameless = table.get(&name).is_some_and(|member| member.node_id.is_none());
            if nameless {
                retired = table.remove(&name).and_then(|member| member.retired);
            } else if let Some(member) = table.get_mut(&name) {
                member.address = None;
            }
        }
        let member = table.entry(node_id.to_string()).or_default();
        member.node_id = Some(node_id.clone());
        member.address = Some(address.to_owned());
        member.is_passing = false;
        member.retired = member.retired.take().or(retired);
        member.incarnation = Some(incarnation);
        member.last_seen = now;
        match &mut member.heads {
            Some(heads) if !fresh => heads.join(applied),
            heads => *heads = Some(applied.clone()),
        }
        drop(table);
        self.notify();
    }

    /// Whether a node is remembered, and then whether it is retired.
    pub fn remembers(&self, node_id: &NodeId) -> Option<bool> {
        self.lock().get(node_id.as_str()).map(|member| member.retired.is_some())
    }

    fn is_current(&self, member: &Member, now: UnixSeconds) -> bool {
        let retention = i64::try_from(self.retention.as_secs()).unwrap_or(i64::MAX);
        let lately = member.feeds > 0 || now.saturating_sub(member.last_seen) <= retention;
        member.retired.is_none() && (member.address.is_some() || lately)
    }

    fn current(&self, now: UnixSeconds) -> Vec<Member> {
        self.lock().values().filter(|member| self.is_current(member, now)).cloned().collect()
    }

    /// Changes when what is known of a member does.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The revocations that are waited for.
    pub fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    /// Times the revocations that every member has by now.
    pub fn settle_revocations(&self, now: UnixSeconds) {
        let table = self.lock();
        let current = || table.values().filter(|member| self.is_current(member, now));
        self.revocations.settle(|origin| current().map(|member| member.clock(origin)).min());
    }

    /// Who the members are.
    pub fn names(&self, now: UnixSeconds) -> Vec<String> {
        self.current(now).iter().map(Member::name).collect()
    }

    /// How many members there are.
    pub fn count(&self, now: UnixSeconds) -> usize {
        self.lock().values().filter(|member| self.is_current(member, now)).count()
    }

    /// What every member has applied, of what this node has. A member of which nothing is known has
    /// applied nothing.
    pub fn stable(&self, applied: &Vector, now: UnixSeconds) -> Vector {
        self.watched(now)
            .iter()
            .fold(applied.clone(), |stable, member| stable.meet(&member.applied().unwrap_or_default()))
    }

    /// The members, and the retired nodes that are coming back.
    fn watched(&self, now: UnixSeconds) -> Vec<Member> {
        let is_watched = |member: &&Member| self.is_current(member, now) || is_returning(member, now);
        self.lock().values().filter(is_watched).cloned().collect()
    }

    /// Who they are.
    pub fn watched_names(&self, now: UnixSeconds) -> Vec<String> {
        self.watched(now).iter().map(Member::name).collect()
    }

    /// What any of them has applied.
    pub fn known(&self, now: UnixSeconds) -> Vector {
        let mut known = Vector::default();
        for applied in self.watched(now).iter().filter_map(Member::applied) {
            known.join(&applied);
        }
        known
    }

    /// Whether the origin's node goes on under another incarnation: nobody will ever add to it.
    pub fn is_finished(&self, origin: &Origin, own: &Origin) -> bool {
        if origin.is_of(&self.own) {
            return origin != own;
        }
        let table = self.lock();
        let now = table.get(origin.node_id().as_str()).and_then(|member| member.incarnation);
        now.is_some_and(|incarnation| incarnation != origin.incarnation())
    }

    /// Every member and every retired node, by name.
    pub fn views(&self, now: UnixSeconds) -> Vec<MemberView> {
        let view = |member: &Member| MemberView {
            node_id: member.node_id.clone(),
            address: member.address.clone(),
            retired: member.retired.is_some(),
            last_seen: member.last_seen,
            applied: member.applied(),
            connected: member.feeds > 0,
        };
        let table = self.lock();
        let listed = table.values().filter(|member| member.retired.is_some() || self.is_current(member, now));
        listed.map(view).collect()
    }

    /// Waits for a member no longer, until it has what this node has applied now. `name` is a node id,
    /// or the address of one that never answered. Returns what must be remembered.
    pub fn retire(&self, name: &str, applied: &Vector) -> Result<proto::MemberState, NoSuchMember> {
        let mut table = self.lock();
        let member = table.get_mut(name).ok_or(NoSuchMember)?;
        member.retired.get_or_insert_with(|| applied.clone());
        let state = member.to_proto();
        drop(table);
        self.notify();
        Ok(state)
    }

    /// What must be remembered, and what may be forgotten: nodes that are no members any more.
    pub fn to_remember(&self, now: UnixSeconds) -> (Vec<proto::MemberState>, Vec<proto::MemberState>) {
        let mut table = self.lock();
        let gone: Vec<String> = table
            .iter()
            .filter(|(_, member)| member.retired.is_none() && !self.is_current(member, now))
            .map(|(name, _)| name.clone())
            .collect();
        let forget =
            gone.iter().filter_map(|name| table.remove(name)).map(|member| member.to_proto()).collect();
        let lasts = |member: &&Member| !member.is_passing || member.retired.is_some();
        (table.values().filter(lasts).map(Member::to_proto).collect(), forget)
    }

    /// Waits until enough members hold an operation, or until the deadline.
    pub async fn receipt(
        &self,
        stamp: Stamp,
        acks: Acks,
        began: Instant,
        deadline: Instant,
        now: UnixSeconds,
    ) -> Receipt {
        let mut changed = self.changed.subscribe();
        let mut waited_for = self.names(now);
        let mut holders: Vec<(String, Duration)> = Vec::new();
        loop {
            changed.mark_unchanged();
            {
                let table = self.lock();
                // An address that answers while it is waited for turns out to be a node, perhaps one
                // that is waited for already because it pulls.
                for name in &mut waited_for {
                    let named = table.values().find(|member| member.address.as_ref() == Some(name));
                    if let Some(member) = named {
                        *name = member.name();
                    }
                }
                // Or to be this node itself, or a second address of one.
                waited_for.retain(|name| table.contains_key(name));
                waited_for.sort_unstable();
                waited_for.dedup();
                let holds = |name: &String| table.get(name).is_some_and(|member| member.has(stamp));
                for name in &waited_for {
                    if holders.iter().all(|(holder, _)| holder != name) && holds(name) {
                        holders.push((name.clone(), began.elapsed()));
                    }
                }
            }
            let needed = match acks {
                Acks::Nodes(nodes) => nodes,
                Acks::All => waited_for.len(),
            };
            let complete = holders.len() >= needed;
            if complete || tokio::time::timeout_at(deadline, changed.changed()).await.is_err() {
                let outcome = if complete { "complete" } else { "timed_out" };
                metrics::counter!(names::RECEIPTS, "outcome" => outcome).increment(1);
                let lacks = |name: &String| holders.iter().all(|(holder, _)| holder != name);
                let missing = match complete {
                    true => Vec::new(),
                    false => waited_for.into_iter().filter(lacks).collect(),
                };
                return Receipt { holders, missing };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use brock_core::base::vector::Clock;

    const HOUR: Duration = Duration::from_secs(3600);

    fn id(name: &str) -> NodeId {
        name.parse().unwrap()
    }

    fn origin(name: &str, incarnation: u32) -> Origin {
        Origin::new(&id(name), Incarnation(incarnation))
    }

    fn vector(clocks: &[(&str, u64)]) -> Vector {
        clocks.iter().map(|(name, clock)| (origin(name, 1), Clock(*clock))).collect()
    }

    fn members(join: &[&str]) -> Members {
        let join: Vec<String> = join.iter().map(ToString::to_string).collect();
        Members::new(id("me"), (&join, false), Vec::new(), HOUR).unwrap()
    }

    #[test]
    fn what_every_member_has_is_stable_and_an_unknown_member_has_nothing() {
        let members = members(&["b:1", "c:1"]);
        let own = vector(&[("me", 9), ("b", 4)]);
        members.hello(&id("b"), Incarnation(1), &vector(&[("me", 5), ("b", 4)]), 10);
        members.heard("b:1", (&id("b"), Incarnation(1)), &vector(&[("me", 4), ("b", 4)]), true, 10);
        assert!(members.stable(&own, 10).is_empty(), "nothing is known of c:1 yet");
        members.hello(&id("c"), Incarnation(1), &vector(&[("me", 7)]), 10);
        members.heard("c:1", (&id("c"), Incarnation(1)), &vector(&[("me", 7), ("b", 1)]), true, 10);
        assert_eq!(members.stable(&own, 10), vector(&[("me", 5), ("b", 1)]));
        members.acknowledge(&id("b"), &vector(&[("me", 8)]), 11);
        assert_eq!(members.stable(&own, 11), vector(&[("me", 7), ("b", 1)]));
        assert_eq!(members.views(11).len(), 2, "an address and its node are one member");
    }

    #[test]
    fn a_node_alone_waits_for_nobody() {
        let own = vector(&[("me", 9)]);
        assert_eq!(members(&[]).stable(&own, 0), own);
    }

    #[test]
    fn a_puller_counts_for_the_retention_window_and_a_joined_peer_for_ever() {
        let members = members(&["b:1"]);
        members.heard("b:1", (&id("b"), Incarnation(1)), &vector(&[("me", 1)]), true, 0);
        members.hello(&id("c"), Incarnation(1), &vector(&[]), 0);
        assert_eq!(members.count(3600), 2);
        assert_eq!(members.count(3601), 1);
        let (remember, forget) = members.to_remember(3601);
        assert_eq!((remember.len(), forget.len()), (1, 1));
        assert_eq!(forget[0].node_id, "c");
        members.hello(&id("c"), Incarnation(1), &vector(&[]), 0);
        members.follows(&id("c"), true);
        assert_eq!(members.count(1_000_000), 2, "who is connected is not gone");
    }

    #[test]
    fn a_hello_replaces_what_was_known_because_a_node_may_have_lost_data() {
        let members = members(&[]);
        members.hello(&id("b"), Incarnation(1), &vector(&[("me", 5)]), 0);
        members.hello(&id("b"), Incarnation(2), &vector(&[("me", 2)]), 0);
        assert_eq!(members.stable(&vector(&[("me", 9)]), 0), vector(&[("me", 2)]));
    }

    #[test]
    fn a_retired_member_is_not_waited_for_until_it_has_what_it_missed() {
        let members = members(&["b:1", "never:1"]);
        let own = vector(&[("me", 9)]);
        members.hello(&id("b"), Incarnation(1), &vector(&[("me", 5)]), 0);
        members.heard("b:1", (&id("b"), Incarnation(1)), &vector(&[("me", 5)]), true, 0);
        assert_eq!(members.retire("nobody", &own), Err(NoSuchMember));
        assert!(members.retire("never:1", &own).unwrap().retired);
        let state = members.retire("b", &own).unwrap();
        assert_eq!(members.stable(&own, 0), own);
        assert_eq!(members.hello(&id("b"), Incarnation(1), &vector(&[("me", 8)]), 1), Admission::Retired);
        assert_eq!(members.count(1), 0);
        assert_eq!(
            members.stable(&own, 1),
            vector(&[("me", 8)]),
            "it is being filled: it must not be outrun"
        );
        assert_eq!(members.stable(&own, 602), own, "it has given up");

        let again = Members::new(id("me"), (&["b:1".to_owned()], false), vec![state], HOUR).unwrap();
        assert_eq!(again.hello(&id("b"), Incarnation(1), &vector(&[("me", 8)]), 1), Admission::Retired);
        assert_eq!(again.hello(&id("b"), Incarnation(1), &vector(&[("me", 9)]), 1), Admission::Member);
        assert_eq!(again.count(1), 1);
    }

    #[test]
    fn an_incarnation_is_finished_once_its_node_has_another() {
        let members = members(&[]);
        assert!(!members.is_finished(&origin("b", 1), &origin("me", 1)), "nothing was heard of b");
        members.hello(&id("b"), Incarnation(2), &vector(&[]), 0);
        assert!(members.is_finished(&origin("b", 1), &origin("me", 1)));
        assert!(!members.is_finished(&origin("b", 2), &origin("me", 1)));
        assert!(members.is_finished(&origin("me", 7), &origin("me", 1)));
        assert!(!members.is_finished(&origin("me", 1), &origin("me", 1)));
    }

    #[tokio::test]
    async fn a_receipt_names_who_holds_it_and_who_does_not() {
        let members = members(&["c:1"]);
        let stamp = Stamp { origin: origin("me", 1), clock: Clock(3) };
        members.hello(&id("b"), Incarnation(1), &vector(&[("me", 2)]), 0);
        let began = Instant::now();
        let wait = |acks, patience| members.receipt(stamp, acks, began, began + patience, 0);
        let acknowledged = async {
            tokio::time::sleep(Duration::from_millis(7)).await;
            members.acknowledge(&id("b"), &vector(&[("me", 3)]), 0);
        };
        let (receipt, ()) = tokio::join!(wait(Acks::Nodes(1), HOUR), acknowledged);
        assert!(
            matches!(receipt.holders.as_slice(), [(name, after)] if name == "b" && after.as_millis() >= 7)
        );
        assert!(receipt.missing.is_empty());

        let receipt = wait(Acks::All, Duration::from_millis(20)).await;
        assert_eq!((receipt.holders.len(), receipt.missing), (1, vec!["c:1".to_owned()]));
        assert!(began.elapsed() >= Duration::from_millis(20));
        let receipt = wait(Acks::Nodes(0), HOUR).await;
        assert!(receipt.missing.is_empty());
    }

    #[test]
    fn an_address_that_was_retired_is_still_retired_when_it_turns_out_to_be_a_node() {
        let members = members(&["b:1"]);
        let own = vector(&[("me", 9)]);
        members.retire("b:1", &own).unwrap();
        members.heard("b:1", (&id("b"), Incarnation(1)), &vector(&[]), true, 1);
        assert_eq!(members.hello(&id("b"), Incarnation(1), &vector(&[]), 1), Admission::Retired);
        assert_eq!(members.hello(&id("b"), Incarnation(1), &own, 2), Admission::Member);
    }

    #[test]
    fn a_member_that_was_remembered_under_its_address_too_is_one_member() {
        let state = |node_id: &str| proto::MemberState {
            node_id: node_id.to_owned(),
            address: "b:1".to_owned(),
            ..proto::MemberState::default()
        };
        let remembered = vec![state(""), state("b")];
        let members = Members::new(id("me"), (&["b:1".to_owned()], false), remembered, HOUR).unwrap();
        assert_eq!(members.count(0), 1);
    }

    #[test]
    fn nothing_is_stable_while_it_is_not_known_who_is_to_be_met() {
        let members = members(&[]);
        let own = vector(&[("me", 9)]);
        members.expect("dns+brock:1");
        assert!(members.stable(&own, 0).is_empty());
        assert_eq!(members.to_remember(0), (vec![], vec![]), "the next start asks anew");
        members.expect("10.0.0.2:1");
        members.withdraw("dns+brock:1");
        assert_eq!(members.names(0), ["10.0.0.2:1"]);
        members.heard("10.0.0.2:1", (&id("b"), Incarnation(1)), &own, true, 0);
        assert_eq!(members.stable(&own, 0), own);
        members.withdraw("10.0.0.2:1");
        assert_eq!(members.names(1_000_000), ["b"], "who was met stays until an operator says otherwise");
    }

    #[test]
    fn who_was_met_under_a_name_in_dns_is_a_member_after_a_restart_too() {
        let members = members(&[]);
        members.expect("10.0.0.2:1");
        members.heard("10.0.0.2:1", (&id("b"), Incarnation(1)), &vector(&[]), true, 0);
        members.expect("10.0.0.3:1");
        members.expect("10.0.0.4:1");
        members.retire("10.0.0.4:1", &vector(&[])).unwrap();
        let (remembered, _) = members.to_remember(0);
        let again = |discovers| Members::new(id("me"), (&[], discovers), remembered.clone(), HOUR).unwrap();
        assert_eq!(again(true).names(1_000_000), ["b"], "and not an address that nobody ever answered at");
        assert!(again(false).names(1_000_000).is_empty(), "DNS is not asked any more");
        let again = again(true);
        again.expect("10.0.0.4:1");
        assert_eq!(again.names(0), ["b"], "it is still retired");
    }

    #[tokio::test]
    async fn an_address_that_turns_out_to_be_nobody_is_not_waited_for() {
        let members = members(&["me:1"]);
        let stamp = Stamp { origin: origin("me", 1), clock: Clock(3) };
        let began = Instant::now();
        let withdrawn = async { members.withdraw("me:1") };
        let (receipt, ()) =
            tokio::join!(members.receipt(stamp, Acks::All, began, began + HOUR, 0), withdrawn);
        assert_eq!(receipt, Receipt::default());
    }
}
