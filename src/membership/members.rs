//! The members: the other nodes whose acknowledgements this node waits for.
//!
//! A member is in `node.join`, was met under a name in it, or has pulled from this node within the
//! retention window, and is not retired. The vector that it announces when it pulls is its
//! acknowledgement. Receipts and the stable vector (what every member has applied) follow from the
//! acknowledgements, and from the stable vector what may be compacted.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{Mutex as AsyncMutex, MutexGuard as AsyncMutexGuard, watch};

use super::{
    duplicates::Duplicates, member::Member, origins::Origins, peer::PeerKey, receipt::Signed,
    revocations::Revocations,
};
use crate::runtime::planted::{self, Bug};
use brock_core::{
    base::{
        id::{Incarnation, NodeId, Origin},
        limits,
        vector::Vector,
    },
    domain::{codec::CodecError, record::UnixSeconds},
    proto,
};

/// One member, as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberView {
    /// `None`: a peer that has not answered yet.
    pub node_id: Option<NodeId>,
    /// Its row in the roster, now or before; `None`: it only pulls from here.
    pub address: Option<PeerKey>,
    /// Whether an operator has retired it.
    pub retired: bool,
    /// When it was last heard; `None` = never.
    pub last_seen: Option<UnixSeconds>,
    /// What it has applied, as far as is known.
    pub applied: Option<Vector>,
    /// Whether it is pulling from this node now.
    pub connected: bool,
}

/// Whether the log is enough for a puller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// The puller is a member.
    Member,
    /// The puller is retired, and has missed operations since.
    Retired,
}

/// No member has that name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no member has that node id or address: `node-admin members` lists them")]
pub struct NoSuchMember;

/// All members of a node. Cheap to clone.
#[derive(Clone)]
pub struct Members {
    own: NodeId,
    retention: Duration,
    /// By node id; by address until the node id is known.
    table: Arc<Mutex<BTreeMap<String, Member>>>,
    /// Held while the members are written to the store, so that an earlier state cannot overwrite a later.
    writing: Arc<AsyncMutex<()>>,
    changed: watch::Sender<u64>,
    revocations: Revocations,
    duplicates: Duplicates,
    origins: Origins,
    /// Names that gave way in a full table, until the store forgets them.
    displaced: Arc<Mutex<Vec<proto::MemberState>>>,
}

impl Members {
    /// The addresses of `node.join`, and the members that the store remembers. `discovers`: `node.join` has
    /// names, so that a member that was met under such an address stays one until an operator retires it.
    pub fn new(
        own: NodeId,
        (join, discovers): (&[PeerKey], bool),
        mut remembered: Vec<proto::MemberState>,
        retention: Duration,
    ) -> Result<Self, CodecError> {
        let mut table: BTreeMap<String, Member> = BTreeMap::new();
        // Members with a node id first: the address of one of them is not another member.
        remembered.sort_by_key(|state| state.node_id.is_empty());
        for state in remembered {
            let member = Member::from_proto(state, join, discovers)?;
            let is_new = member.address.as_ref().is_some_and(|address| !has_address(&table, address));
            if member.node_id.is_some() || is_new {
                table.insert(member.name(), member);
            }
        }
        for address in join {
            if !has_address(&table, address) {
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
            duplicates: Duplicates::default(),
            origins: Origins::default(),
            displaced: Arc::default(),
        })
    }

    /// This node's id.
    pub fn own_id(&self) -> &NodeId {
        &self.own
    }

    /// Adds the peer of a new row of the roster: a member that is waited for before it has a node id.
    pub fn expect(&self, address: &PeerKey) {
        let mut table = self.lock();
        if has_address(&table, address) || table.len() >= limits::MEMBERS_MAX {
            return;
        }
        let member = Member { address: Some(address.clone()), is_passing: true, ..Member::default() };
        table.insert(address.to_string(), member);
        drop(table);
        self.notify();
    }

    /// Removes the peer of a row that is gone or ignored. A node that has answered there stays a member.
    pub fn withdraw(&self, address: &PeerKey) {
        let mut table = self.lock();
        // One that was retired by its address stays retired, whichever node it turns out to be.
        let is_unknown = |member: &Member| member.node_id.is_none() && member.retired.is_none();
        if table.get(address.as_str()).is_some_and(is_unknown) {
            table.remove(address.as_str());
        }
        drop(table);
        self.notify();
    }

    /// Held from reading the members that must be remembered until they are durable.
    pub async fn writing(&self) -> AsyncMutexGuard<'_, ()> {
        self.writing.lock().await
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Member>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn notify(&self) {
        self.changed.send_modify(|changes| *changes += 1);
    }

    /// Enters a node that calls or answers for the first time. `introducer`: its certificate states no node id, and
    /// this is what is known of the caller instead. Returns whether the node is in the table.
    ///
    /// Contract: an introducer enters at most [`limits::NAMES_PER_CERTIFICATE`] names. In a full table, such a name
    /// without an address gives way, the one that was not seen for longest first, and nothing else does.
    pub fn introduce(&self, node_id: &NodeId, introducer: Option<&str>) -> bool {
        let mut table = self.lock();
        if table.contains_key(node_id.as_str()) {
            return true;
        }
        let names = table.values().filter(|member| member.introduced_by.as_deref() == introducer).count();
        if introducer.is_some() && names >= limits::NAMES_PER_CERTIFICATE {
            return false;
        }
        if table.len() >= limits::MEMBERS_MAX {
            let mut displaced = self.displaced.lock().unwrap_or_else(PoisonError::into_inner);
            let gives_way = |member: &&Member| {
                member.introduced_by.is_some() && member.address.is_none() && member.retired.is_none()
            };
            let oldest =
                table.values().filter(gives_way).min_by_key(|member| (member.feeds, member.last_seen));
            let Some(name) = oldest.map(Member::name).filter(|_| displaced.len() < limits::MEMBERS_MAX)
            else {
                return false;
            };
            displaced.extend(table.remove(&name).map(|member| member.to_proto(0)));
        }
        let introduced_by = introducer.map(ToOwned::to_owned);
        let member = Member { node_id: Some(node_id.clone()), introduced_by, ..Member::default() };
        table.insert(node_id.to_string(), member);
        true
    }

    /// A node begins to pull and says what it has applied, folded origins included. A retired node is a
    /// member again if that covers what this node had applied when it was retired.
    pub fn hello(
        &self,
        node_id: &NodeId,
        incarnation: Incarnation,
        applied: &Vector,
        now: UnixSeconds,
    ) -> Admission {
        let mut table = self.lock();
        if !table.contains_key(node_id.as_str()) && table.len() >= limits::MEMBERS_MAX {
            // The bound holds: this puller is served, and not waited for.
            return Admission::Member;
        }
        let member = table.entry(node_id.to_string()).or_default();
        member.node_id = Some(node_id.clone());
        member.incarnation = Some(incarnation);
        member.last_seen = Some(now);
        // It may have lost what it signed.
        member.signed.take_if(|signed| !applied.has(signed.acknowledgement.applied));
        if let Some(missed) = &member.retired {
            if !applied.covers(missed) && !planted::is(Bug::ForgiveRetired) {
                // A resync fills it. What it has is waited for again, or it would never catch up.
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

    /// These origins are frozen: no retired member has missed anything of them.
    pub fn leave_out(&self, frozen: impl IntoIterator<Item = Origin>) {
        let mut table = self.lock();
        for origin in frozen {
            table
                .values_mut()
                .filter_map(|member| member.retired.as_mut())
                .for_each(|missed| missed.remove(&origin));
        }
    }

    /// A stream by which a node pulls from this one has begun or ended.
    pub fn follows(&self, node_id: &NodeId, begins: bool) {
        if let Some(member) = self.lock().get_mut(node_id.as_str()) {
            member.feeds = if begins { member.feeds + 1 } else { member.feeds.saturating_sub(1) };
        }
    }

    /// A node that pulls from this one has made this durable.
    pub fn acknowledge(&self, node_id: &NodeId, applied: &Vector, now: UnixSeconds) {
        if let Some(member) = self.lock().get_mut(node_id.as_str()) {
            member.last_seen = Some(now);
            member.pulled.get_or_insert_default().join(applied);
        }
        if !applied.is_empty() {
            self.notify();
        }
    }

    /// The same node has signed how far it has applied this node's own log. IMPORTANT: verified before. An older
    /// acknowledgement does not replace a newer one of the same log.
    pub fn keep_signed(&self, node_id: &NodeId, signed: Signed) {
        if let Some(member) = self.lock().get_mut(node_id.as_str()) {
            let applied = signed.acknowledgement.applied;
            let is_newer = |kept: &Arc<Signed>| {
                let before = kept.acknowledgement.applied;
                before.origin == applied.origin && before.clock > applied.clock
            };
            if !member.signed.as_ref().is_some_and(is_newer) {
                member.signed = Some(Arc::new(signed));
            }
        }
    }

    /// The donor at an address of the roster said what it has applied: all of it if `fresh`, otherwise what
    /// changed. Links the address to its node id.
    pub fn heard(
        &self,
        address: &PeerKey,
        (node_id, incarnation): (&NodeId, Incarnation),
        applied: &Vector,
        fresh: bool,
        now: UnixSeconds,
    ) {
        let mut table = self.lock();
        let retired = take_address(&mut table, address, node_id);
        let member = table.entry(node_id.to_string()).or_default();
        member.node_id = Some(node_id.clone());
        member.address = Some(address.clone());
        member.is_passing = false;
        member.retired = member.retired.take().or(retired);
        member.incarnation = Some(incarnation);
        member.last_seen = Some(now);
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
        let lately = member.last_seen.is_some_and(|seen| now.saturating_sub(seen) <= retention);
        member.retired.is_none() && (member.address.is_some() || member.feeds > 0 || lately)
    }

    /// Changes when what is known of a member does.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The revocations made here that some member has not applied yet.
    pub fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    /// Removes the revocations that every member has applied by now, and records how long they took.
    pub fn settle_revocations(&self, now: UnixSeconds) {
        let table = self.lock();
        let current = || table.values().filter(|member| self.is_current(member, now));
        self.revocations.settle(|origin| current().map(|member| member.clock(origin)).min());
    }

    /// The members' names.
    pub fn names(&self, now: UnixSeconds) -> Vec<String> {
        let table = self.lock();
        table.values().filter(|member| self.is_current(member, now)).map(Member::name).collect()
    }

    /// How many members there are.
    pub fn count(&self, now: UnixSeconds) -> usize {
        self.lock().values().filter(|member| self.is_current(member, now)).count()
    }

    /// The part of `applied` that every member has applied. A member of which nothing is known counts as
    /// having applied nothing.
    pub fn stable(&self, applied: &Vector, now: UnixSeconds) -> Vector {
        self.watched(now)
            .iter()
            .fold(applied.clone(), |stable, member| stable.meet(&member.applied().unwrap_or_default()))
    }

    /// The members, and the retired nodes that are being filled.
    fn watched(&self, now: UnixSeconds) -> Vec<Member> {
        let is_watched = |member: &&Member| self.is_current(member, now) || member.is_returning(now);
        self.lock().values().filter(is_watched).cloned().collect()
    }

    /// The names of the members, and of the retired nodes that are being filled.
    pub fn watched_names(&self, now: UnixSeconds) -> Vec<String> {
        self.watched(now).iter().map(Member::name).collect()
    }

    /// What any of those has applied.
    pub fn known(&self, now: UnixSeconds) -> Vector {
        let mut known = Vector::default();
        for applied in self.watched(now).iter().filter_map(Member::applied) {
            known.join(&applied);
        }
        known
    }

    /// What decides which origins this node begins to list.
    pub fn origins(&self) -> &Origins {
        &self.origins
    }

    /// Node ids under which several processes run.
    pub fn duplicates(&self) -> &Duplicates {
        &self.duplicates
    }

    /// Whether the origin's node has another incarnation by now, so that the origin gets no further
    /// operations.
    pub fn is_finished(&self, origin: &Origin, own: &Origin) -> bool {
        if self.duplicates.includes(&origin.node_id()) {
            return false;
        }
        if origin.is_of(&self.own) {
            return origin != own;
        }
        let table = self.lock();
        let current = table.get(origin.node_id().as_str()).and_then(|member| member.incarnation);
        current.is_some_and(|incarnation| incarnation != origin.incarnation())
    }

    /// The origins that nodes write to now, as far as they have said.
    pub fn present(&self) -> Vec<Origin> {
        let present = |member: &Member| Some(Origin::new(member.node_id.as_ref()?, member.incarnation?));
        self.lock().values().filter_map(present).collect()
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

    /// How many members were met at an address that is not among these: they cannot be asked.
    pub(super) fn elsewhere(&self, addresses: &[PeerKey]) -> usize {
        let is_elsewhere = |member: &&Member| {
            let address = member.address.as_ref().filter(|_| member.node_id.is_some());
            member.retired.is_none() && address.is_some_and(|address| !addresses.contains(address))
        };
        self.lock().values().filter(is_elsewhere).count()
    }

    /// The address of the member with that node id, or the node id of the one at that address.
    pub fn alias(&self, name: &str, now: UnixSeconds) -> Option<String> {
        let views = self.views(now);
        let by_id = |view: &&MemberView| view.node_id.as_ref().is_some_and(|id| id.as_str() == name);
        if let Some(view) = views.iter().find(by_id) {
            return view.address.as_ref().map(ToString::to_string);
        }
        let by_address = |view: &&MemberView| view.address.as_ref().is_some_and(|key| key.as_str() == name);
        views.iter().find(by_address)?.node_id.as_ref().map(ToString::to_string)
    }

    /// Stops waiting for a member until it has what this node has applied now. `name` is a node id, or the
    /// address of a peer that never answered. Returns the state to remember.
    pub fn retire(&self, name: &str, applied: &Vector) -> Result<proto::MemberState, NoSuchMember> {
        let mut table = self.lock();
        let member = table.get_mut(name).ok_or(NoSuchMember)?;
        member.retired.get_or_insert_with(|| applied.clone());
        let state = member.to_proto(limits::UNKNOWN_ORIGINS_KEPT);
        drop(table);
        self.notify();
        Ok(state)
    }

    /// The states to remember, and those to forget, of nodes that are no longer members.
    pub fn to_remember(&self, now: UnixSeconds) -> (Vec<proto::MemberState>, Vec<proto::MemberState>) {
        let mut table = self.lock();
        let gone: Vec<String> = table
            .iter()
            .filter(|(_, member)| member.retired.is_none() && !self.is_current(member, now))
            .map(|(name, _)| name.clone())
            .collect();
        let gone = gone.iter().filter_map(|name| table.remove(name)).map(|member| member.to_proto(0));
        let mut forget: Vec<_> = gone.collect();
        let displaced = std::mem::take(&mut *self.displaced.lock().unwrap_or_else(PoisonError::into_inner));
        // One that is back under its name is remembered.
        forget.extend(displaced.into_iter().filter(|state| !table.contains_key(&state.node_id)));
        let lasts = |member: &&Member| !member.is_passing || member.retired.is_some();
        let share = limits::REMEMBERED_ORIGINS / table.len().max(1);
        (table.values().filter(lasts).map(|member| member.to_proto(share)).collect(), forget)
    }
}

fn has_address(table: &BTreeMap<String, Member>, address: &PeerKey) -> bool {
    table.values().any(|member| member.address.as_ref() == Some(address))
}

/// Takes an address from its former member, which is one without a node id, or a node that was replaced.
/// Returns the retirement of one without a node id.
fn take_address(table: &mut BTreeMap<String, Member>, address: &PeerKey, node_id: &NodeId) -> Option<Vector> {
    let is_former = |(name, member): &(&String, &Member)| {
        member.address.as_ref() == Some(address) && name.as_str() != node_id.as_str()
    };
    let former: Vec<String> = table.iter().filter(is_former).map(|(name, _)| name.clone()).collect();
    let mut retired = None;
    for name in former {
        let is_nameless = table.get(&name).is_some_and(|member| member.node_id.is_none());
        if is_nameless {
            retired = table.remove(&name).and_then(|member| member.retired);
        } else if let Some(member) = table.get_mut(&name) {
            member.address = None;
        }
    }
    retired
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::membership::duplicates::Place;
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
        let join: Vec<PeerKey> = join.iter().map(|address| (*address).into()).collect();
        Members::new(id("me"), (&join, false), Vec::new(), HOUR).unwrap()
    }

    #[test]
    fn what_every_member_has_is_stable_and_an_unknown_member_has_nothing() {
        let members = members(&["b:1", "c:1"]);
        let own = vector(&[("me", 9), ("b", 4)]);
        members.hello(&id("b"), Incarnation(1), &vector(&[("me", 5), ("b", 4)]), 10);
        members.heard(&"b:1".into(), (&id("b"), Incarnation(1)), &vector(&[("me", 4), ("b", 4)]), true, 10);
        assert!(members.stable(&own, 10).is_empty(), "nothing is known of c:1 yet");
        members.hello(&id("c"), Incarnation(1), &vector(&[("me", 7)]), 10);
        members.heard(&"c:1".into(), (&id("c"), Incarnation(1)), &vector(&[("me", 7), ("b", 1)]), true, 10);
        assert_eq!(members.stable(&own, 10), vector(&[("me", 5), ("b", 1)]));
        members.acknowledge(&id("b"), &vector(&[("me", 8)]), 11);
        assert_eq!(members.stable(&own, 11), vector(&[("me", 7), ("b", 1)]));
        assert_eq!(members.views(11).len(), 2, "an address and its node are one member");
    }

    #[test]
    fn a_node_alone_waits_for_no_member() {
        let own = vector(&[("me", 9)]);
        assert_eq!(members(&[]).stable(&own, 0), own);
    }

    #[test]
    fn a_puller_counts_for_the_retention_window_and_a_joined_peer_for_ever() {
        let members = members(&["b:1"]);
        members.heard(&"b:1".into(), (&id("b"), Incarnation(1)), &vector(&[("me", 1)]), true, 0);
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
        members.heard(&"b:1".into(), (&id("b"), Incarnation(1)), &vector(&[("me", 5)]), true, 0);
        assert_eq!(members.retire("unknown", &own), Err(NoSuchMember));
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

        let again = Members::new(id("me"), (&["b:1".into()], false), vec![state], HOUR).unwrap();
        assert_eq!(again.hello(&id("b"), Incarnation(1), &vector(&[("me", 8)]), 1), Admission::Retired);
        assert_eq!(again.hello(&id("b"), Incarnation(1), &vector(&[("me", 9)]), 1), Admission::Member);
        assert_eq!(again.count(1), 1);
    }

    #[test]
    fn a_retired_member_has_missed_nothing_of_an_origin_that_is_frozen_since() {
        let members = members(&["b:1"]);
        members.hello(&id("b"), Incarnation(1), &vector(&[]), 0);
        members.retire("b", &vector(&[("me", 9), ("twice", 4)])).unwrap();
        let without = vector(&[("me", 9)]);
        assert_eq!(members.hello(&id("b"), Incarnation(1), &without, 1), Admission::Retired);
        members.leave_out(vector(&[("twice", 4)]).iter().map(|(origin, _)| origin));
        assert_eq!(members.hello(&id("b"), Incarnation(1), &without, 2), Admission::Member);
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
        // Two nodes of that id: each may write on, whichever said hello last.
        for incarnation in [1, 2, 1] {
            members.duplicates().saw(&origin("b", incarnation), Instant::now(), Place::Here);
        }
        assert!(!members.is_finished(&origin("b", 1), &origin("me", 1)));
    }

    #[test]
    fn an_address_that_was_retired_is_still_retired_when_it_turns_out_to_be_a_node() {
        let members = members(&["b:1"]);
        let own = vector(&[("me", 9)]);
        members.retire("b:1", &own).unwrap();
        members.heard(&"b:1".into(), (&id("b"), Incarnation(1)), &vector(&[]), true, 1);
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
        let members = Members::new(id("me"), (&["b:1".into()], false), remembered, HOUR).unwrap();
        assert_eq!(members.count(0), 1);
    }

    #[test]
    fn nothing_is_stable_while_it_is_not_known_who_is_to_be_met() {
        let members = members(&[]);
        let own = vector(&[("me", 9)]);
        members.expect(&"dns+brock:1".into());
        assert!(members.stable(&own, 0).is_empty());
        assert_eq!(members.to_remember(0), (vec![], vec![]), "the next start asks again");
        members.expect(&"10.0.0.2:1".into());
        members.withdraw(&"dns+brock:1".into());
        assert_eq!(members.names(0), ["10.0.0.2:1"]);
        members.heard(&"10.0.0.2:1".into(), (&id("b"), Incarnation(1)), &own, true, 0);
        assert_eq!(members.stable(&own, 0), own);
        members.withdraw(&"10.0.0.2:1".into());
        assert_eq!(members.names(1_000_000), ["b"], "who was met stays until an operator says otherwise");
    }

    #[test]
    fn who_was_met_under_a_name_in_dns_is_a_member_after_a_restart_too() {
        let members = members(&[]);
        members.expect(&"10.0.0.2:1".into());
        members.heard(&"10.0.0.2:1".into(), (&id("b"), Incarnation(1)), &vector(&[]), true, 0);
        members.expect(&"10.0.0.3:1".into());
        members.expect(&"10.0.0.4:1".into());
        members.retire("10.0.0.4:1", &vector(&[])).unwrap();
        let (remembered, _) = members.to_remember(0);
        let again = |discovers| Members::new(id("me"), (&[], discovers), remembered.clone(), HOUR).unwrap();
        assert_eq!(again(true).names(1_000_000), ["b"], "and not an address that never answered");
        assert!(again(false).names(1_000_000).is_empty(), "DNS is not asked any more");
        let again = again(true);
        again.expect(&"10.0.0.4:1".into());
        assert_eq!(again.names(0), ["b"], "it is still retired");
    }
}
