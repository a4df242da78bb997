//! The one table of peers: the addresses in `node.join`, and those that DNS lists under the names in it.
//!
//! A row has the peer's address and channel, the names that list it, and its report. The members stand
//! beside the table: durable, and linked to a row by its key until they have a node id, and from then on
//! by both. Code that dials, asks or waits for peers looks here at the moment when it needs them, so a
//! changed row takes effect without a restart.
//!
//! An address that turns out to be this node itself, or a second address of a peer that is up, is
//! *ignored*: it is dialled now and then, and otherwise treated as if it were not listed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

use super::{
    contacts::Contacts,
    members::Members,
    peer::{Peer, PeerKey},
    status::{PeerReport, PeerStatus},
};
use brock_core::{
    base::{
        id::{Incarnation, NodeId},
        limits, metrics as names,
        vector::{Stamp, Vector},
    },
    domain::record::UnixSeconds,
};
use brock_net::{address::Address, dial::Dialler};

/// How an answer of DNS changed the roster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ListingChange {
    /// New peers.
    pub added: usize,
    /// Peers that are no longer dialled.
    pub dropped: usize,
    /// Listed addresses that are not dialled, because there are [`limits::PEERS_MAX`] peers already.
    pub left_out: usize,
}

/// Why this node does not pull from a peer that answers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The peer claims this node's id, and is another process.
    #[error(
        "the peer has this node's own id, {0}: two nodes run under one id. Give every node its own node.id and storage"
    )]
    OwnId(NodeId),
    /// Two addresses answer with one id, as two processes.
    #[error(
        "another process answers at {other} as node {node_id} too: two nodes run under one id. Give every node its own \
         node.id, certificate and storage"
    )]
    Twin {
        /// The id that both have.
        node_id: NodeId,
        /// The address that answered first.
        other: PeerKey,
    },
    /// An operator lists two addresses that answer as the same node.
    #[error("node {node_id} already answers at {other}: list one of the two addresses only")]
    Duplicate {
        /// The id that both have.
        node_id: NodeId,
        /// The address that answered first.
        other: PeerKey,
    },
    /// DNS lists an address of a peer that is up under another address.
    #[error("this is a second address of a peer that is up")]
    Alias,
}

/// All peers of a node. Cheap to clone.
#[derive(Clone)]
pub struct Roster(Arc<Inner>);

struct Inner {
    dialler: Dialler,
    members: Members,
    /// IMPORTANT: locked before the members' table, never while that is locked.
    rows: Mutex<Rows>,
    /// The addresses to dial, the ignored ones included.
    dialled: watch::Sender<Arc<Vec<Address>>>,
    /// Counts how often a peer that was down has answered a ping again.
    returns: watch::Sender<u64>,
}

pub(super) type Rows = BTreeMap<PeerKey, Row>;

/// What the roster holds of one peer.
pub(super) struct Row {
    /// `None`: a name in `node.join` that DNS has not answered for yet.
    route: Option<Route>,
    /// `None`: the address is ignored.
    pub(super) status: Option<PeerStatus>,
}

/// How a peer is reached.
struct Route {
    address: Address,
    peer: Peer,
    /// `node.join` has the address itself: it stays.
    is_fixed: bool,
    /// The names under which DNS lists it, and how many answers in a row have not.
    listed: BTreeMap<String, u32>,
}

impl Row {
    fn is_discovered(&self) -> bool {
        self.route.as_ref().is_some_and(|route| !route.is_fixed)
    }

    fn is_up(&self) -> bool {
        self.status.as_ref().is_some_and(|status| status.report().up)
    }

    /// The peer, if it can be asked.
    pub(super) fn peer(&self) -> Option<&Peer> {
        self.status.as_ref().and(self.route.as_ref()).map(|route| &route.peer)
    }
}

impl Roster {
    /// The addresses of `node.join`, and the names in it. Each name counts as one member until DNS has
    /// answered: no operation may become stable while the members are unknown.
    pub fn new(
        fixed: &[Address],
        names: impl IntoIterator<Item = String>,
        dialler: Dialler,
        members: Members,
        now: UnixSeconds,
    ) -> Self {
        let inner = Inner {
            dialler,
            members,
            rows: Mutex::default(),
            dialled: watch::Sender::new(Arc::default()),
            returns: watch::Sender::new(0),
        };
        let roster = Self(Arc::new(inner));
        let mut rows = roster.lock();
        for address in fixed {
            roster.enter(&mut rows, address, None, now);
        }
        for name in names {
            let key = PeerKey::from(name.as_str());
            roster.0.members.expect(&key);
            rows.insert(key.clone(), Row { route: None, status: Some(PeerStatus::new(key, now)) });
        }
        roster.publish(&rows);
        drop(rows);
        roster
    }

    /// The members that stand beside the table.
    pub fn members(&self) -> &Members {
        &self.0.members
    }

    /// How peers are dialled.
    pub fn dialler(&self) -> &Dialler {
        &self.0.dialler
    }

    /// The addresses to dial, and every change of them.
    pub fn watch(&self) -> watch::Receiver<Arc<Vec<Address>>> {
        self.0.dialled.subscribe()
    }

    /// The peers that can be asked now.
    pub fn peers(&self) -> Vec<Peer> {
        self.lock().values().filter_map(Row::peer).cloned().collect()
    }

    /// The peer under this key, if this node pulls from it.
    pub fn peer_that_is_up(&self, key: &PeerKey) -> Option<Peer> {
        self.lock().get(key).filter(|row| row.is_up()).and_then(Row::peer).cloned()
    }

    /// The node that has answered there; `None` = none has yet.
    pub fn node_id_at(&self, key: &PeerKey) -> Option<NodeId> {
        self.lock().get(key)?.status.as_ref()?.report().node_id.clone()
    }

    /// Whether this node pulls from the node of an origin itself, and that has it up to this clock.
    pub fn supplies(&self, Stamp { origin, clock }: Stamp) -> bool {
        let supplies = |report: &PeerReport| {
            let is_it = report.up && report.node_id.as_ref().is_some_and(|node_id| origin.is_of(node_id));
            is_it && report.heads.as_ref().is_some_and(|heads| heads.get(&origin) >= clock)
        };
        self.lock().values().filter_map(|row| row.status.as_ref()).any(|status| supplies(status.report()))
    }

    /// Names that DNS has not answered for yet: each may stand for peers that cannot be asked.
    pub fn unresolved(&self) -> Vec<PeerKey> {
        let rows = self.lock();
        rows.iter().filter(|(_, row)| row.route.is_none()).map(|(key, _)| key.clone()).collect()
    }

    /// How many may know what none of `asked` knows, and cannot be asked: each name that DNS has not answered for,
    /// and each member that was met at an address that DNS no longer lists.
    pub fn unasked(&self, asked: &[Peer]) -> usize {
        let asked: Vec<PeerKey> = asked.iter().map(|peer| peer.key.clone()).collect();
        self.unresolved().len() + self.0.members.elsewhere(&asked)
    }

    /// All other nodes: those that can be asked, with their names, and those that cannot.
    pub fn contacts(&self, now: UnixSeconds) -> Contacts {
        Contacts::new(self.peers(), self.unresolved(), &self.0.members.views(now))
    }

    /// Every peer's report, by key.
    pub fn reports(&self) -> Vec<PeerReport> {
        self.lock().values().filter_map(|row| row.status.as_ref()).map(|s| s.report().clone()).collect()
    }

    /// Sets the gauges of all peers, against what is applied here.
    pub fn record_gauges(&self, applied: &Vector) {
        for status in self.lock().values_mut().filter_map(|row| row.status.as_mut()) {
            status.record_gauges(applied);
        }
    }

    /// Changes when a peer that was down answers pings again: a puller then does not wait out its delay.
    /// A peer that answers pings all along, and whose rounds fail, does not count.
    pub fn returns(&self) -> watch::Receiver<u64> {
        self.0.returns.subscribe()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Rows> {
        self.0.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn update<T>(&self, key: &PeerKey, change: impl FnOnce(&mut PeerStatus) -> T) -> Option<T> {
        self.lock().get_mut(key)?.status.as_mut().map(change)
    }

    fn enter(&self, rows: &mut Rows, address: &Address, name: Option<&str>, now: UnixSeconds) {
        let key = PeerKey::from(address);
        if name.is_some() {
            // An address in node.join has a member already, perhaps a remembered one.
            self.0.members.expect(&key);
        }
        let route = Route {
            address: address.clone(),
            peer: Peer::new(address, &self.0.dialler),
            is_fixed: name.is_none(),
            listed: name.map(|name| (name.to_owned(), 0)).into_iter().collect(),
        };
        let status = Some(PeerStatus::new(key.clone(), now));
        rows.insert(key, Row { route: Some(route), status });
    }

    /// Ends a row's place among the members, and its report.
    fn leave(&self, key: &PeerKey, status: Option<PeerStatus>) {
        if let Some(status) = status {
            status.end();
        }
        self.0.members.withdraw(key);
    }

    fn publish(&self, rows: &Rows) {
        let routes = rows.values().filter_map(|row| row.route.as_ref());
        self.0.dialled.send_replace(Arc::new(routes.map(|route| route.address.clone()).collect()));
    }
}

/// What discovery reports.
impl Roster {
    /// DNS lists these addresses under a name. New ones become peers. An address that is no longer listed
    /// stays for [`limits::DISCOVERY_MISSES`] answers, and as long as the peer is up. Its node stays a
    /// member until an operator retires it.
    pub fn found(&self, name: &str, addresses: &[Address], now: UnixSeconds) -> ListingChange {
        let mut rows = self.lock();
        let mut change = ListingChange::default();
        for key in unlist(&mut rows, name, addresses) {
            let status = rows.remove(&key).and_then(|row| row.status);
            self.leave(&key, status);
            change.dropped += 1;
        }
        for address in addresses {
            if let Some(row) = rows.get_mut(&PeerKey::from(address)) {
                if let Some(route) = &mut row.route {
                    route.listed.insert(name.to_owned(), 0);
                }
                continue;
            }
            let active = rows.values().filter_map(Row::peer).count();
            let known = rows.values().filter(|row| row.route.is_some()).count();
            if active >= limits::PEERS_MAX || known >= limits::DISCOVERED_MAX {
                change.left_out += 1;
                continue;
            }
            self.enter(&mut rows, address, Some(name), now);
            change.added += 1;
        }
        // IMPORTANT: only after its peers are entered, or for a moment no member would be waited for.
        let key = PeerKey::from(name);
        if rows.get(&key).is_some_and(|row| row.route.is_none()) {
            let status = rows.remove(&key).and_then(|row| row.status);
            self.leave(&key, status);
        }
        if change.added + change.dropped > 0 {
            self.publish(&rows);
        }
        change
    }

    /// DNS did not answer: the roster stays as it is.
    pub fn not_found(&self, name: &str, error: &str, now: UnixSeconds) {
        // The name has a row only until its first answer.
        self.failed(&PeerKey::from(name), error, false, now);
    }
}

/// What pullers and pings report.
impl Roster {
    /// Ignores an address, because it leads to this node itself or to a peer that is up elsewhere: no
    /// member is waited for there. Returns whether it was not ignored before.
    pub fn ignore(&self, key: &PeerKey) -> bool {
        let mut rows = self.lock();
        let Some(row) = rows.get_mut(key) else { return false };
        let status = row.status.take();
        let is_new = status.is_some();
        self.leave(key, status);
        is_new
    }

    /// A peer answered a round's hello. Marks it as up under the identity it gave, unless that is this
    /// node's or is up at another address; an ignored address that is admitted is a peer again.
    pub fn admit(
        &self,
        key: &PeerKey,
        (node_id, incarnation): (&NodeId, Incarnation),
        now: UnixSeconds,
    ) -> Result<(), Refusal> {
        if node_id == self.0.members.own_id() {
            return Err(Refusal::OwnId(node_id.clone()));
        }
        let mut rows = self.lock();
        let is_twin = |(other, row): &(&PeerKey, &Row)| {
            let status = row.status.as_ref().map(PeerStatus::report);
            *other != key
                && status.is_some_and(|report| report.up && report.node_id.as_ref() == Some(node_id))
        };
        if let Some((other, twin)) = rows.iter().find(is_twin) {
            // It may also have been restarted and moved, and the other address has not failed yet.
            let known = twin.status.as_ref().and_then(|status| status.report().incarnation);
            if known != Some(incarnation) {
                return Err(Refusal::Twin { node_id: node_id.clone(), other: other.clone() });
            }
            // A machine with two addresses, of which DNS lists at least one, is not a mistake.
            if twin.is_discovered() || rows.get(key).is_some_and(Row::is_discovered) {
                return Err(Refusal::Alias);
            }
            return Err(Refusal::Duplicate { node_id: node_id.clone(), other: other.clone() });
        }
        let Some(row) = rows.get_mut(key) else { return Ok(()) };
        let status = row.status.get_or_insert_with(|| {
            self.0.members.expect(key);
            PeerStatus::new(key.clone(), now)
        });
        status.admit(node_id, incarnation, now);
        Ok(())
    }

    /// A peer said what it has applied (all of it if `fresh`, otherwise what changed) and how far its wall
    /// clock is ahead of this node's. That raises the acknowledgement of its member too.
    pub fn heard(
        &self,
        key: &PeerKey,
        (node_id, incarnation): (&NodeId, Incarnation),
        heads: &Vector,
        fresh: bool,
        skew_seconds: i64,
        now: UnixSeconds,
    ) {
        self.update(key, |status| status.heard(incarnation, heads, fresh, skew_seconds, now));
        self.0.members.heard(key, (node_id, incarnation), heads, fresh, now);
    }

    /// Entries of this many bytes arrived from a peer.
    pub fn received(&self, key: &PeerKey, entries: u64, bytes: u64, now: UnixSeconds) {
        metrics::counter!(names::ENTRIES, "address" => key.to_string()).increment(entries);
        self.update(key, |status| status.received(entries, bytes, now));
    }

    /// A round with a peer begins.
    pub fn begin_round(&self, key: &PeerKey, now_ms: u64) {
        self.update(key, |status| status.begin_round(now_ms));
    }

    /// The round has ended; `error` says why, if it failed.
    pub fn end_round(&self, key: &PeerKey, error: Option<&str>) {
        let label = if error.is_none() { "ok" } else { "error" };
        metrics::counter!(names::ROUNDS, "address" => key.to_string(), "outcome" => label).increment(1);
        self.update(key, |status| status.end_round(error));
    }

    /// Pulling from a peer failed. `lasts`: another attempt cannot succeed until an operator changes something.
    pub fn failed(&self, key: &PeerKey, error: &str, lasts: bool, now: UnixSeconds) {
        self.update(key, |status| status.failed(error, lasts, now));
    }

    /// Pulling from a peer failed, because this node refuses to.
    pub fn refused(&self, key: &PeerKey, refusal: &Refusal, now: UnixSeconds) {
        self.update(key, |status| status.refused(&refusal.to_string(), now));
    }

    /// Pulling from a peer ended, because this node stops or the peer is no longer listed.
    pub fn ended(&self, key: &PeerKey, now: UnixSeconds) {
        self.update(key, |status| status.ended(now));
    }

    /// The round trip of a ping; `None`: it was not answered.
    pub fn pinged(&self, key: &PeerKey, round_trip: Option<Duration>) {
        if self.update(key, |status| status.pinged(round_trip)) == Some(true) {
            self.0.returns.send_modify(|returns| *returns += 1);
        }
    }

    /// A repair left this many key hashes as they were, and different from the peer's. Returns whether
    /// that number has changed.
    pub fn set_unrepaired(&self, key: &PeerKey, differing: u64) -> bool {
        self.update(key, |status| status.set_unrepaired(differing)).unwrap_or(true)
    }
}

/// Counts the answers for `name` that do not list an address any more. Returns the peers that no name
/// lists now.
fn unlist(rows: &mut Rows, name: &str, addresses: &[Address]) -> Vec<PeerKey> {
    let listed: BTreeSet<PeerKey> = addresses.iter().map(PeerKey::from).collect();
    let mut dropped = Vec::new();
    for (key, row) in rows {
        let is_up = row.is_up();
        let Some(route) = &mut row.route else { continue };
        if let Some(misses) = route.listed.get_mut(name) {
            *misses = if listed.contains(key) { 0 } else { misses.saturating_add(1) };
            if *misses >= limits::DISCOVERY_MISSES && !is_up {
                route.listed.remove(name);
            }
        }
        if !route.is_fixed && route.listed.is_empty() {
            dropped.push(key.clone());
        }
    }
    dropped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::{compare::SyncStatus, contacts::Unreachable};
    use brock_core::base::{id::Origin, vector::Clock};

    const HOUR: Duration = Duration::from_secs(3600);
    const LIFE: Incarnation = Incarnation(1);

    fn roster(fixed: &[&str], names: &[&str]) -> Roster {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let versions =
            rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config =
            versions.unwrap().with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
        let addresses = addresses(fixed);
        let join: Vec<PeerKey> = addresses.iter().map(PeerKey::from).collect();
        let members = Members::new(id("me"), (&join, !names.is_empty()), Vec::new(), HOUR).unwrap();
        let names = names.iter().map(ToString::to_string);
        Roster::new(&addresses, names, Arc::new(config).into(), members, 0)
    }

    fn id(name: &str) -> NodeId {
        name.parse().unwrap()
    }

    fn addresses(texts: &[&str]) -> Vec<Address> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn key(text: &str) -> PeerKey {
        text.into()
    }

    #[tokio::test]
    async fn a_peer_with_my_own_id_or_a_taken_one_is_refused() {
        let roster = roster(&["a:1", "b:1"], &[]);
        let (me, other) = (id("me"), id("other"));
        assert_eq!(roster.admit(&key("a:1"), (&me, LIFE), 1), Err(Refusal::OwnId(me.clone())));
        assert_eq!(roster.admit(&key("a:1"), (&other, LIFE), 1), Ok(()));
        assert_eq!(
            roster.admit(&key("a:1"), (&other, LIFE), 2),
            Ok(()),
            "again at the same address is a new round"
        );
        let twin = Refusal::Duplicate { node_id: other.clone(), other: key("a:1") };
        assert_eq!(roster.admit(&key("b:1"), (&other, LIFE), 2), Err(twin));
        roster.failed(&key("a:1"), "gone", false, 3);
        assert_eq!(roster.admit(&key("b:1"), (&other, LIFE), 4), Ok(()), "it moved");
        let [a, b] = roster.reports().try_into().unwrap();
        assert_eq!((a.up, a.since, a.last_error.as_deref()), (false, 3, Some("gone")));
        assert_eq!((b.up, b.since, b.node_id), (true, 4, Some(other)));
    }

    #[tokio::test]
    async fn a_second_address_that_dns_lists_is_ignored_until_the_first_is_down() {
        let roster = roster(&["a:1"], &["dns+peers:1"]);
        assert_eq!(roster.unresolved(), [key("dns+peers:1")]);
        let change = roster.found("dns+peers:1", &addresses(&["b:1"]), 0);
        assert_eq!(change, ListingChange { added: 1, ..ListingChange::default() });
        assert_eq!(roster.unresolved(), []);
        let other = id("other");
        roster.admit(&key("a:1"), (&other, LIFE), 1).unwrap();
        assert_eq!(roster.admit(&key("b:1"), (&other, LIFE), 1), Err(Refusal::Alias));
        assert!(roster.ignore(&key("b:1")) && !roster.ignore(&key("b:1")), "it is new once");
        assert_eq!((roster.reports().len(), roster.peers().len()), (1, 1));
        assert_eq!(roster.watch().borrow().len(), 2, "it is still dialled");
        roster.failed(&key("a:1"), "gone", false, 2);
        assert_eq!(roster.admit(&key("b:1"), (&other, LIFE), 3), Ok(()));
        assert_eq!((roster.reports().len(), roster.peers().len()), (2, 2));
    }

    #[tokio::test]
    async fn an_address_is_dropped_after_some_answers_without_it_and_not_while_it_is_up() {
        let roster = roster(&["fixed:1"], &["dns+peers:1"]);
        roster.found("dns+peers:1", &addresses(&["up:1", "down:1"]), 0);
        roster.admit(&key("up:1"), (&id("up"), LIFE), 0).unwrap();
        let dropped = |_| roster.found("dns+peers:1", &[], 0).dropped;
        assert_eq!([1, 2, 3, 4].map(dropped), [0, 0, 1, 0]);
        let left: Vec<String> = roster.reports().iter().map(|report| report.key.to_string()).collect();
        assert_eq!(left, ["fixed:1", "up:1"]);
        roster.heard(&key("up:1"), (&id("up"), Incarnation(1)), &Vector::default(), true, 0, 1);
        assert_eq!(roster.unasked(&roster.peers()), 0);
        roster.failed(&key("up:1"), "gone", false, 1);
        assert_eq!(roster.found("dns+peers:1", &[], 1).dropped, 1);
        // Its node stays a member, may have what no other has, and cannot be asked.
        assert_eq!(roster.unasked(&roster.peers()), 1);
        assert_eq!(roster.sync_status(&Vector::default()).peers, 2);
        roster.members().retire("up", &Vector::default()).unwrap();
        assert_eq!(roster.unasked(&roster.peers()), 0);
    }

    #[tokio::test]
    async fn a_contact_is_named_once_it_has_answered_and_a_member_without_an_address_cannot_be_asked() {
        let roster = roster(&["a:1"], &[]);
        let named = || roster.contacts(0).peers.into_iter().map(|contact| contact.name).collect::<Vec<_>>();
        roster.members().hello(&id("pulls"), Incarnation(1), &Vector::default(), 0);
        assert_eq!(named(), ["a:1"]);
        assert_eq!(roster.contacts(0).unreachable, [], "it may be the node at a:1");
        roster.heard(&key("a:1"), (&id("a"), Incarnation(1)), &Vector::default(), true, 0, 0);
        assert_eq!(named(), ["a"]);
        assert_eq!(roster.contacts(0).unreachable, [(id("pulls"), Unreachable::NotJoined)]);
        roster.members().retire("a", &Vector::default()).unwrap();
        assert!(roster.contacts(0).peers[0].is_retired);
    }

    #[tokio::test]
    async fn a_node_is_behind_the_peer_that_is_furthest_ahead_and_last_heard_the_latest_one() {
        let nothing = Vector::default();
        let none = SyncStatus { peers: 0, lag_entries: None, gap: None };
        assert_eq!(roster(&[], &[]).sync_status(&nothing), none);
        let roster = roster(&["a:1", "b:1", "dead:1"], &[]);
        assert_eq!(roster.sync_status(&nothing), SyncStatus { peers: 3, ..none }, "unknown is not 0");
        let origin = Origin::new(&id("o"), Incarnation(1));
        let up_to = |clock| [(origin, Clock(clock))].into_iter().collect::<Vector>();
        roster.heard(&key("a:1"), (&id("a"), Incarnation(1)), &up_to(9), true, 0, 1);
        roster.heard(&key("b:1"), (&id("b"), Incarnation(1)), &up_to(5), true, 0, 1);
        let status = roster.sync_status(&up_to(2));
        assert_eq!(status.lag_entries, Some(7));
        assert!(status.gap.unwrap() < Duration::from_secs(60), "{status:?}");
    }

    #[tokio::test]
    async fn that_a_peer_answers_again_is_reported_once() {
        let roster = roster(&["a:1"], &[]);
        let mut returns = roster.returns();
        let mut has_returned = |round_trip| {
            roster.pinged(&key("a:1"), round_trip);
            let has_changed = returns.has_changed().unwrap();
            returns.mark_unchanged();
            has_changed
        };
        let answer = Some(Duration::from_millis(1));
        let reported: Vec<_> = [None, answer, answer, None, None, answer].map(&mut has_returned).into();
        assert_eq!(reported, [false, true, false, false, false, true]);
        roster.admit(&key("a:1"), (&id("other"), LIFE), 1).unwrap();
        assert!(!has_returned(None) && !has_returned(answer), "a lost ping is not an absence");
    }
}
