//! Which identified callers have the connections of a listener, and which one gives way when all places are taken.
//!
//! Clients leave places to operators, and both leave places to nodes. A caller is what its certificates name, at the
//! network it calls from: a client that never closes its connections has most of them, and takes no place from
//! another caller. A node has a share of its own, and what it opens beyond that replaces its own connections.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use super::{
    LOG_TARGET,
    roles::{PeerIdentity, Role},
};
use crate::places::{count, network};
use brock_core::base::{limits, metrics::CONNECTIONS};

/// The frame of an HTTP/2 ping: what is no longer than that keeps a connection open, but does not use it.
const PING_FRAME_BYTES: usize = 17;

/// When a connection was last used, and how to close it.
#[derive(Debug)]
pub(crate) struct Usage {
    begun: Instant,
    /// In milliseconds after `begun`.
    last: AtomicU64,
    /// `None`: it cannot be closed from here.
    abort: Option<CancellationToken>,
}

impl Usage {
    pub(crate) fn new(abort: Option<CancellationToken>) -> Arc<Self> {
        Arc::new(Self { begun: Instant::now(), last: AtomicU64::default(), abort })
    }

    /// Bytes were read or written. Pings are no use: a connection that is forgotten answers them, too.
    pub(crate) fn note(&self, bytes: usize) {
        if bytes > PING_FRAME_BYTES {
            let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.last.store(now, Ordering::Relaxed);
        }
    }

    fn last(&self) -> Instant {
        self.begun + Duration::from_millis(self.last.load(Ordering::Relaxed))
    }
}

/// The places for the connections of identified callers.
#[derive(Debug)]
pub(crate) struct Shares {
    max: usize,
    idle: Duration,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    next: u64,
    places: BTreeMap<u64, Holder>,
    last_warning: Option<Instant>,
}

/// A connection that has a place.
#[derive(Debug)]
struct Holder {
    role: Role,
    /// The identity, as logs name it, and the network.
    caller: (String, IpAddr),
    usage: Arc<Usage>,
    closed: CancellationToken,
}

impl Held {
    /// The name that has most connections, and how many.
    fn most(&self) -> Option<(String, usize)> {
        let counts = count(self.places.values().map(|holder| &holder.caller.0));
        counts.into_iter().max_by_key(|(_, count)| *count).map(|(name, count)| (name.clone(), count))
    }
}

impl Shares {
    pub(crate) fn new(max: usize, idle: Duration) -> Arc<Self> {
        Arc::new(Self { max, idle, held: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn for_admins(&self) -> usize {
        limits::CONNECTIONS_FOR_ADMINS.min(self.max / 8)
    }

    /// How many connections there may be when the last one is of a caller with this role.
    fn max_for(&self, role: Role) -> usize {
        let for_nodes = limits::CONNECTIONS_FOR_NODES.min(self.max / 4);
        match role {
            Role::Node => self.max,
            Role::Admin => self.max - for_nodes,
            Role::Client => self.max - for_nodes - self.for_admins(),
        }
    }

    /// Takes a place; if another connection gives way, returns once that one is closed. `None`: there is no place.
    pub(crate) async fn admit(
        self: &Arc<Self>,
        identity: &PeerIdentity,
        source: IpAddr,
        usage: Arc<Usage>,
    ) -> Option<Open> {
        let caller = (identity.to_string(), network(source));
        let (open, leaving) = self.take(identity.role, caller, usage)?;
        if let Some(leaving) = leaving {
            leaving.cancelled().await;
        }
        Some(open)
    }

    /// The place, and what is cancelled when the connection that had it is closed.
    fn take(
        self: &Arc<Self>,
        role: Role,
        caller: (String, IpAddr),
        usage: Arc<Usage>,
    ) -> Option<(Open, Option<CancellationToken>)> {
        let max = self.max_for(role);
        let mut held = self.lock();
        let mut leaving = None;
        let share = limits::CONNECTIONS_OF_A_NODE.min(self.max / 4);
        // From whatever network: the thief of a certificate may have many addresses.
        let is_own = |holder: &Holder| holder.role == Role::Node && holder.caller.0 == caller.0;
        let has_share =
            role == Role::Node && held.places.values().filter(|holder| is_own(holder)).count() >= share;
        let bound = if has_share { share } else { max };
        if has_share || held.places.len() >= max {
            let closable = |holder: &Holder| is_own(holder) && holder.usage.abort.is_some();
            let chosen = if has_share {
                let own = held.places.iter().filter(|(_, holder)| closable(holder));
                own.min_by_key(|(_, holder)| holder.usage.last()).map(|(id, _)| *id)
            } else {
                self.gives_way(&held, role, &caller)
            };
            let gone = chosen.and_then(|id| held.places.remove(&id));
            self.warn(&mut held, &caller.0, gone.as_ref(), bound);
            let gone = gone?;
            gone.usage.abort.iter().for_each(CancellationToken::cancel);
            leaving = Some(gone.closed);
        }
        let (id, closed) = (held.next, CancellationToken::new());
        held.next += 1;
        held.places.insert(id, Holder { role, caller, usage, closed: closed.clone() });
        drop(held);
        metrics::gauge!(CONNECTIONS).increment(1.0);
        Some((Open { shares: Arc::clone(self), id, closed }, leaving))
    }

    /// The connection that makes room for one more of `caller`. Of a caller that has two more connections than this
    /// one, any may go: afterwards it still has as many. One that is not used may go earlier. Of several, the one
    /// that was not used for longest goes.
    fn gives_way(&self, held: &Held, role: Role, caller: &(String, IpAddr)) -> Option<u64> {
        let all = || held.places.values();
        let by_name = count(all().map(|holder| &holder.caller.0));
        let by_caller = count(all().map(|holder| &holder.caller));
        let name_has = |of: &(String, IpAddr)| by_name.get(&of.0).copied().unwrap_or_default();
        let caller_has = |of: &(String, IpAddr)| by_caller.get(of).copied().unwrap_or_default();
        let admins = all().filter(|holder| holder.role == Role::Admin).count();
        let may_close = |holder: &Holder| {
            let may = match (holder.role, role) {
                (Role::Node, _) => false,
                (Role::Admin, Role::Client) => admins > self.for_admins(),
                (Role::Admin | Role::Client, _) => true,
            };
            may && holder.usage.abort.is_some()
        };
        let candidates: Vec<_> = held.places.iter().filter(|(_, holder)| may_close(holder)).collect();
        let longest_unused = |chosen: &dyn Fn(&Holder) -> bool| {
            let chosen = candidates.iter().filter(|(_, holder)| chosen(holder));
            chosen.min_by_key(|(_, holder)| holder.usage.last()).map(|(id, _)| **id)
        };
        // The most connections of one network, among the candidates of some names.
        let largest = |chosen: &dyn Fn(&Holder) -> bool| {
            let chosen = candidates.iter().filter(|(_, holder)| chosen(holder));
            chosen.map(|(_, holder)| caller_has(&holder.caller)).max().unwrap_or_default()
        };

        let most = candidates.iter().map(|(_, holder)| name_has(&holder.caller)).max()?;
        if most >= name_has(caller) + 2 {
            let has_most = |holder: &Holder| name_has(&holder.caller) == most;
            let largest = largest(&has_most);
            return longest_unused(&|holder| has_most(holder) && caller_has(&holder.caller) == largest);
        }
        // Clients with one certificate, in several networks.
        let is_own = |holder: &Holder| holder.caller.0 == caller.0;
        let largest = largest(&is_own);
        if largest >= caller_has(caller) + 2 {
            return longest_unused(&|holder| is_own(holder) && caller_has(&holder.caller) == largest);
        }
        longest_unused(&|holder| {
            let has_more = name_has(&holder.caller) > name_has(caller);
            (is_own(holder) || has_more) && holder.usage.last().elapsed() >= self.idle
        })
    }

    /// Logs the lack of places from time to time, with the caller that has most of them.
    fn warn(&self, held: &mut Held, refused: &str, gone: Option<&Holder>, max: usize) {
        if held.last_warning.is_some_and(|at| at.elapsed() < limits::ACCEPT_WARN_INTERVAL) {
            return;
        }
        held.last_warning = Some(Instant::now());
        if let Some(gone) = gone {
            let (of, at) = &gone.caller;
            tracing::warn!(
                target: LOG_TARGET, of, %at, max,
                "closed a connection, because another one needed its place: the caller named in `of` has most connections, \
                 or as many as one caller may have, or did not use this one. It should keep one and use it again"
            );
            return;
        }
        let Some((most, connections)) = held.most() else { return };
        tracing::warn!(
            target: LOG_TARGET, refused, most, connections, max,
            "refused a connection: there are as many as callers of its role, or one node, may have. The caller named in `most` has \
             most of them: it should keep one and use it again. A limit of open files of {} or more allows {} in all",
            limits::DESCRIPTORS_ENOUGH, limits::CONNECTIONS_MAX
        );
    }
}

/// A connection that counts until it is dropped, or has given way.
#[derive(Debug)]
pub(crate) struct Open {
    shares: Arc<Shares>,
    id: u64,
    closed: CancellationToken,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.shares.lock().places.remove(&self.id);
        metrics::gauge!(CONNECTIONS).decrement(1.0);
        self.closed.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    type Taken = (Open, Option<CancellationToken>, CancellationToken);

    fn take(shares: &Arc<Shares>, role: Role, name: &str, source: &str) -> Option<Taken> {
        let abort = CancellationToken::new();
        let caller = (format!("{role} {name}"), source.parse().unwrap());
        let (open, leaving) = shares.take(role, caller, Usage::new(Some(abort.clone())))?;
        Some((open, leaving, abort))
    }

    fn client(shares: &Arc<Shares>, name: &str, source: &str) -> Option<Taken> {
        take(shares, Role::Client, name, source)
    }

    fn closed(of: &[Taken]) -> Vec<usize> {
        of.iter().enumerate().filter(|(_, taken)| taken.2.is_cancelled()).map(|(index, _)| index).collect()
    }

    /// Of 16 places, clients have 10, and operators 2 more.
    #[test]
    fn the_caller_that_has_most_gives_way_until_another_has_as_many() {
        let shares = Shares::new(16, LONG);
        let leak: Vec<_> = (0..10).map(|_| client(&shares, "leaks", "10.0.0.1").unwrap()).collect();
        assert!(client(&shares, "leaks", "10.0.0.1").is_none(), "it has all, and uses them");
        leak[0].0.shares.lock().places[&0].usage.last.store(5, Ordering::Relaxed);
        let other: Vec<_> = (0..5).map(|_| client(&shares, "b", "10.0.0.2").unwrap()).collect();
        assert_eq!(closed(&leak), [1, 2, 3, 4, 5], "the one that was used last stays");
        assert!(client(&shares, "b", "10.0.0.2").is_none(), "both have five");
        assert!(client(&shares, "leaks", "10.0.0.1").is_none(), "it gets none of them back");
        let leaving = other[0].1.clone().unwrap();
        assert!(!leaving.is_cancelled(), "the old connection is still open");
        drop(leak);
        assert!(leaving.is_cancelled());
        drop(other);
        assert!(shares.lock().places.is_empty());
    }

    #[test]
    fn neither_nodes_nor_the_places_of_operators_give_way_to_clients() {
        let shares = Shares::new(16, LONG);
        let nodes: Vec<_> =
            (0..12).map(|n| take(&shares, Role::Node, &n.to_string(), "10.0.0.1").unwrap()).collect();
        let admins: Vec<_> = (0..2).filter_map(|_| take(&shares, Role::Admin, "ops", "10.0.0.2")).collect();
        assert!(admins.is_empty() && client(&shares, "a", "10.0.0.3").is_none());
        assert!(closed(&nodes).is_empty());
        drop(nodes);
        let admins: Vec<_> =
            (0..12).map(|_| take(&shares, Role::Admin, "ops", "10.0.0.2").unwrap()).collect();
        let clients: Vec<_> = (0..5).map(|_| client(&shares, "a", "10.0.0.3").unwrap()).collect();
        assert_eq!(closed(&admins), [0, 1, 2, 3, 4]);
        let others: Vec<_> = (0..9).filter_map(|n| client(&shares, &n.to_string(), "10.0.0.4")).collect();
        assert_eq!(shares.lock().places.values().filter(|holder| holder.role == Role::Admin).count(), 2);
        drop((admins, clients, others));
    }

    /// Of 16 places, a node has 4.
    #[test]
    fn a_node_that_opens_more_than_its_share_replaces_its_own_connections() {
        let shares = Shares::new(16, LONG);
        let other = take(&shares, Role::Node, "other", "10.0.0.2").unwrap();
        let many: Vec<_> =
            (0..40).map(|n| take(&shares, Role::Node, "many", &format!("10.1.0.{n}")).unwrap()).collect();
        assert_eq!(closed(&many).len(), 36);
        assert!(!other.2.is_cancelled() && client(&shares, "a", "10.0.0.3").is_some());
    }

    #[test]
    fn of_clients_with_one_certificate_the_network_that_has_most_or_the_longest_unused_gives_way() {
        let shares = Shares::new(16, LONG);
        let leak: Vec<_> = (0..10).map(|_| client(&shares, "app", "10.0.0.1").unwrap()).collect();
        let other = client(&shares, "app", "10.0.0.2").unwrap();
        assert_eq!(closed(&leak), [0]);
        drop((leak, other));
        let shares = Shares::new(16, Duration::ZERO);
        let leak: Vec<_> = (0..10).map(|_| client(&shares, "app", "10.0.0.1").unwrap()).collect();
        let again = client(&shares, "app", "10.0.0.1").unwrap();
        assert_eq!(closed(&leak), [0], "idle");
        drop((leak, again));
        let several: Vec<_> = (0..10).map(|n| client(&shares, &n.to_string(), "10.0.0.1").unwrap()).collect();
        let late = client(&shares, "late", "10.0.0.1").unwrap();
        assert_eq!(closed(&several), [0], "all have one, and this one is idle");
        drop((several, late));
    }

    #[test]
    fn pings_are_no_use() {
        let usage = Usage::new(None);
        let begun = usage.last();
        std::iter::repeat_with(|| usage.note(PING_FRAME_BYTES))
            .find(|()| usage.begun.elapsed() > Duration::from_millis(2));
        assert_eq!(usage.last(), begun);
        usage.note(PING_FRAME_BYTES + 1);
        assert!(usage.last() > begun);
    }
}
