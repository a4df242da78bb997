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
use crate::{
    domain::{
        codec::{self, CodecError},
        record::UnixSeconds,
    },
    ground::{
        clock::{Stamp, Vector},
        id::{Incarnation, NodeId, Origin},
        limits, metrics as names,
        planted::{self, Bug},
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
#[path = "members_tests.rs"]
mod tests;
