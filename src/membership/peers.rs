//! What is known of each peer: kept by its puller, shown by the status.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::watch;

use brock_core::{
    base::{
        id::{Incarnation, NodeId},
        limits, metrics as names,
        vector::Vector,
    },
    domain::record::UnixSeconds,
};
use brock_net::task::bounded;

/// One peer, as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerReport {
    /// As it stands in `node.join`, or as DNS lists it.
    pub address: String,
    /// Once it has answered.
    pub node_id: Option<NodeId>,
    /// Whether this node is pulling from it.
    pub up: bool,
    /// When `up` last changed.
    pub since: UnixSeconds,
    /// Why the last round failed; empty = it did not.
    pub last_error: String,
    /// What it was last known to have; `None` = it has never said.
    pub heads: Option<Vector>,
    /// Rounds begun.
    pub rounds: u64,
    /// Log entries received, duplicates included.
    pub entries_received: u64,
    /// When something was last heard from it; 0 = never.
    pub last_success: UnixSeconds,
    /// The same by a clock that nobody sets; `None` = never.
    pub heard_at: Option<Instant>,
    /// Its wall clock minus ours, in seconds, when last heard.
    pub clock_skew_seconds: i64,
    /// Key hashes that differ there although the same is applied, and that could not be mended here.
    pub unmended: u64,
    /// What the log was last warned of since it failed, and when.
    warned: Option<(UnixSeconds, String)>,
    /// What the log was last told of its clock.
    told_skew_seconds: i64,
    /// Whether the log was last told that this node is behind it.
    told_behind: bool,
    /// How long it took to answer a ping, when last asked; `None` = it has not answered.
    pub round_trip: Option<Duration>,
    /// The round under way.
    pub round: Option<Round>,
    /// The last ones that ended, oldest first.
    pub recent_rounds: VecDeque<Round>,
}

/// One round of pulling from a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    /// By the wall clock.
    pub started_unix_ms: u64,
    /// By a clock that nobody sets.
    pub started_at: Instant,
    /// Until it ended.
    pub duration: Duration,
    /// Log entries that it brought, duplicates included.
    pub entries: u64,
    /// Their operations and payloads.
    pub bytes: u64,
    /// Why it failed; empty = it did not.
    pub error: String,
}

/// What of a failure is worth a line in the log.
#[derive(Debug, PartialEq, Eq)]
enum News {
    Nothing,
    NotYet,
    Fails,
    FailsOtherwise,
}

impl PeerReport {
    /// A failure is told once, not at every try; and not yet of a peer that was never up, while it may still
    /// be starting as this node is. A reason that was not there at first is told once it has lasted: how a
    /// connection ended does not say why there is no new one.
    fn news(&mut self, error: &str, now: UnixSeconds) -> News {
        let down_for = now.saturating_sub(self.since).unsigned_abs();
        if self.node_id.is_none() && down_for < limits::FIRST_CATCH_UP_TIMEOUT.as_secs() {
            return if self.last_error.is_empty() { News::NotYet } else { News::Nothing };
        }
        let error = bounded(error);
        let news = match &self.warned {
            None => News::Fails,
            Some((at, told)) => {
                let is_due = now.saturating_sub(*at).unsigned_abs() >= limits::PEER_REASON_NEWS.as_secs();
                if !is_due || *told == error || self.last_error != error {
                    return News::Nothing;
                }
                News::FailsOtherwise
            }
        };
        self.warned = Some((now, error));
        news
    }

    /// Logs what is news of what it says: its clocks when they are first heard, an origin that it did not
    /// know, a wall clock that moved.
    fn tell(&mut self, heads: &Vector, skew_seconds: i64) {
        let (address, node_id) = (&self.address, self.node_id.as_ref().map(tracing::field::display));
        let moved = skew_seconds.abs_diff(self.told_skew_seconds) >= limits::CLOCK_SKEW_NEWS_SECONDS;
        match &self.heads {
            None => {
                let operations = heads.entries_above(&Vector::default());
                tracing::info!(
                    address,
                    node_id,
                    origins = heads.len(),
                    operations,
                    skew_seconds,
                    "heard a peer's clocks"
                );
            }
            Some(known) => {
                let mut fresh = heads.iter().filter(|(origin, _)| !known.lists(origin));
                if let Some((origin, _)) = fresh.next() {
                    let more = fresh.count();
                    tracing::info!(address, node_id, %origin, more, "a peer has heard of new origins");
                }
                if moved {
                    tracing::info!(
                        address,
                        node_id,
                        skew_seconds,
                        "a peer's wall clock has moved against ours"
                    );
                }
            }
        }
        if moved || self.heads.is_none() {
            self.told_skew_seconds = skew_seconds;
        }
    }

    fn hear(&mut self, now: UnixSeconds) {
        self.last_success = now;
        self.heard_at = Some(Instant::now());
    }
}

/// How this node stands against its peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// How many it has.
    pub peers: usize,
    /// The most operations that any one of them was last known to have and this node lacks; `None` =
    /// none has said yet what it has.
    pub lag_entries: Option<u64>,
    /// For how long nothing has been heard from any of them; `None` = never was.
    pub gap: Option<Duration>,
}

/// Why a peer is refused although it answers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It says that it has this node's name, and it is not this process.
    #[error(
        "the peer has this node's own id, {0}: two nodes run under one id. Give every node its own node.id and storage"
    )]
    OwnId(NodeId),
    /// Another address answers as the same node.
    #[error("node {node_id} already answers at {other}: list it once, or give the second node its own id")]
    Duplicate {
        /// The id that both have.
        node_id: NodeId,
        /// Where the first one is.
        other: String,
    },
}

/// All peers of a node. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Peers {
    reports: Arc<Mutex<BTreeMap<String, PeerReport>>>,
    /// How often one that was down has begun to answer pings.
    returns: watch::Sender<u64>,
}

impl Peers {
    /// Adds a peer that nothing is known of yet.
    pub fn add(&self, address: &str, now: UnixSeconds) {
        let report = PeerReport {
            address: address.to_owned(),
            node_id: None,
            up: false,
            since: now,
            last_error: String::new(),
            heads: None,
            rounds: 0,
            entries_received: 0,
            last_success: 0,
            heard_at: None,
            clock_skew_seconds: 0,
            unmended: 0,
            warned: None,
            told_skew_seconds: 0,
            told_behind: false,
            round_trip: None,
            round: None,
            recent_rounds: VecDeque::new(),
        };
        metrics::gauge!(names::PEER_UP, "address" => address.to_owned()).set(0.0);
        // From 0, so that increase() sees the first one.
        metrics::counter!(names::ENTRIES, "address" => address.to_owned()).absolute(0);
        for outcome in ["ok", "error"] {
            metrics::counter!(names::ROUNDS, "address" => address.to_owned(), "outcome" => outcome)
                .absolute(0);
        }
        self.lock().insert(address.to_owned(), report);
    }

    /// Forgets a peer. What its gauges last said would otherwise be shown for ever.
    pub fn remove(&self, address: &str) {
        if self.lock().remove(address).is_some() {
            for gauge in [names::PEER_UP, names::PEER_LAG, names::PEER_CLOCK_SKEW, names::PEER_LAST_SUCCESS] {
                metrics::gauge!(gauge, "address" => address.to_owned()).set(f64::NAN);
            }
        }
    }

    /// Whether this node is pulling from it.
    pub fn is_up(&self, address: &str) -> bool {
        self.lock().get(address).is_some_and(|report| report.up)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, PeerReport>> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, address: &str, change: impl FnOnce(&mut PeerReport)) {
        if let Some(report) = self.lock().get_mut(address) {
            change(report);
        }
    }

    /// Every peer, by address.
    pub fn reports(&self) -> Vec<PeerReport> {
        self.lock().values().cloned().collect()
    }

    /// Marks a peer as up under the identity it gave, unless it is us or is up elsewhere.
    pub fn admit(
        &self,
        address: &str,
        own: &NodeId,
        (node_id, _incarnation): (&NodeId, Incarnation),
        now: UnixSeconds,
    ) -> Result<(), Refusal> {
        if node_id == own {
            return Err(Refusal::OwnId(own.clone()));
        }
        let mut peers = self.lock();
        let twin =
            peers.values().find(|p| p.up && p.address != address && p.node_id.as_ref() == Some(node_id));
        if let Some(twin) = twin {
            return Err(Refusal::Duplicate { node_id: node_id.clone(), other: twin.address.clone() });
        }
        if let Some(report) = peers.get_mut(address) {
            metrics::gauge!(names::PEER_UP, "address" => address.to_owned()).set(1.0);
            report.node_id = Some(node_id.clone());
            report.last_error.clear();
            report.warned = None;
            report.rounds += 1;
            report.hear(now);
            if !report.up {
                (report.up, report.since) = (true, now);
                tracing::info!(address, node_id = %node_id, "pulling from a peer");
            }
        }
        Ok(())
    }

    /// The peer said what it has, and what time it is.
    /// `fresh`: that is all it has, not only what changed.
    pub fn heard(&self, address: &str, heads: &Vector, fresh: bool, skew_seconds: i64, now: UnixSeconds) {
        self.update(address, |report| {
            report.tell(heads, skew_seconds);
            match &mut report.heads {
                Some(known) if !fresh => known.join(heads),
                known => *known = Some(heads.clone()),
            }
            report.clock_skew_seconds = skew_seconds;
            report.hear(now);
        });
    }

    /// Entries came from the peer.
    pub fn received(&self, address: &str, entries: u64, bytes: u64, now: UnixSeconds) {
        metrics::counter!(names::ENTRIES, "address" => address.to_owned()).increment(entries);
        self.update(address, |report| {
            report.entries_received += entries;
            if let Some(round) = &mut report.round {
                round.entries += entries;
                round.bytes += bytes;
            }
            report.hear(now);
        });
    }

    /// A round with the peer begins.
    pub fn round_begins(&self, address: &str, now_ms: u64) {
        self.update(address, |report| {
            report.round = Some(Round {
                started_unix_ms: now_ms,
                started_at: Instant::now(),
                duration: Duration::ZERO,
                entries: 0,
                bytes: 0,
                error: String::new(),
            });
        });
    }

    /// It has ended; `error` is empty if it went well.
    pub fn round_ends(&self, address: &str, error: &str) {
        let label = if error.is_empty() { "ok" } else { "error" };
        metrics::counter!(names::ROUNDS, "address" => address.to_owned(), "outcome" => label).increment(1);
        self.update(address, |report| {
            let Some(round) = report.round.take() else { return };
            let duration = round.started_at.elapsed();
            if report.recent_rounds.len() == limits::RECENT_ROUNDS {
                report.recent_rounds.pop_front();
            }
            report.recent_rounds.push_back(Round { duration, error: bounded(error), ..round });
        });
    }

    /// It answered a ping after so long, or not at all.
    pub fn pinged(&self, address: &str, round_trip: Option<Duration>) {
        self.update(address, |report| {
            let before = std::mem::replace(&mut report.round_trip, round_trip);
            if before.is_none() && round_trip.is_some() && !report.up {
                self.returns.send_modify(|returns| *returns += 1);
            }
        });
    }

    /// Changes when a peer that was down answers pings again: whoever waits before trying again need not.
    /// One that answers them all along and whose rounds fail is no news.
    pub fn returns(&self) -> watch::Receiver<u64> {
        self.returns.subscribe()
    }

    /// So many key hashes differ there and could not be mended here. Returns whether that is news.
    pub fn unmended(&self, address: &str, differing: u64) -> bool {
        let mut peers = self.lock();
        let before = peers.get_mut(address).map(|report| std::mem::replace(&mut report.unmended, differing));
        before != Some(differing)
    }

    /// A round with the peer failed.
    pub fn failed(&self, address: &str, error: &str, now: UnixSeconds) {
        self.update(address, |report| {
            metrics::gauge!(names::PEER_UP, "address" => address.to_owned()).set(0.0);
            let was_up = std::mem::take(&mut report.up);
            if was_up {
                report.since = now;
            }
            match report.news(error, now) {
                News::Nothing => {}
                News::NotYet => tracing::info!(address, error, "a peer does not answer yet; trying again"),
                News::Fails => tracing::warn!(address, error, "cannot pull from a peer; trying again"),
                News::FailsOtherwise => {
                    tracing::warn!(
                        address,
                        error,
                        "still cannot pull from a peer, for another reason than before"
                    );
                }
            }
            report.last_error = bounded(error);
        });
    }

    /// The pulling from the peer ended in order.
    pub fn ended(&self, address: &str, now: UnixSeconds) {
        self.update(address, |report| {
            metrics::gauge!(names::PEER_UP, "address" => address.to_owned()).set(0.0);
            (report.up, report.since) = (false, now);
        });
    }

    /// Sets the gauges of what is only now and then worth a look, against what is applied here.
    pub fn record_gauges(&self, applied: &Vector) {
        for report in self.lock().values_mut() {
            let address = || report.address.clone();
            if let Some(heads) = &report.heads {
                let lag = heads.entries_above(applied);
                if !report.told_behind && lag >= limits::LAG_NEWS_ENTRIES {
                    tracing::info!(address = report.address, operations = lag, "this node is behind a peer");
                    report.told_behind = true;
                } else if report.told_behind && lag == 0 {
                    tracing::info!(address = report.address, "this node has caught up with a peer");
                    report.told_behind = false;
                }
                metrics::gauge!(names::PEER_LAG, "address" => address()).set(lag as f64);
                let skew = report.clock_skew_seconds as f64;
                metrics::gauge!(names::PEER_CLOCK_SKEW, "address" => address()).set(skew);
            }
            if report.heard_at.is_some() {
                let at = report.last_success as f64;
                metrics::gauge!(names::PEER_LAST_SUCCESS, "address" => address()).set(at);
            }
        }
    }

    /// How this node, which has applied this, stands against its peers.
    pub fn standing(&self, applied: &Vector) -> Standing {
        let peers = self.lock();
        let lags = peers.values().filter_map(|report| report.heads.as_ref());
        let heard_at = peers.values().filter_map(|report| report.heard_at).max();
        Standing {
            peers: peers.len(),
            lag_entries: lags.map(|heads| heads.entries_above(applied)).max(),
            gap: heard_at.map(|at| at.elapsed()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use brock_core::base::{id::Origin, vector::Clock};

    #[test]
    fn a_peer_with_my_own_id_or_a_taken_one_is_refused() {
        let peers = Peers::default();
        peers.add("a:1", 0);
        peers.add("b:1", 0);
        let (me, other): (NodeId, NodeId) = ("me".parse().unwrap(), "other".parse().unwrap());
        let one = Incarnation(1);
        assert_eq!(peers.admit("a:1", &me, (&me, one), 1), Err(Refusal::OwnId(me.clone())));
        assert_eq!(peers.admit("a:1", &me, (&other, one), 1), Ok(()));
        assert_eq!(
            peers.admit("a:1", &me, (&other, one), 2),
            Ok(()),
            "again at the same address is a new round"
        );
        let twin = Refusal::Duplicate { node_id: other.clone(), other: "a:1".into() };
        assert_eq!(peers.admit("b:1", &me, (&other, Incarnation(2)), 2), Err(twin));
        peers.failed("a:1", "gone", 3);
        assert_eq!(peers.admit("b:1", &me, (&other, Incarnation(2)), 4), Ok(()), "it moved");
        let [a, b] = peers.reports().try_into().unwrap();
        assert_eq!((a.up, a.since, a.last_error.as_str()), (false, 3, "gone"));
        assert_eq!((b.up, b.since, b.node_id), (true, 4, Some(other)));
    }

    #[test]
    fn a_node_stands_as_it_does_against_the_peer_that_is_furthest_ahead_and_the_one_heard_last() {
        let peers = Peers::default();
        assert_eq!(peers.standing(&Vector::default()), Standing { peers: 0, lag_entries: None, gap: None });
        peers.add("a:1", 0);
        peers.add("b:1", 0);
        peers.add("dead:1", 0);
        let standing = peers.standing(&Vector::default());
        assert_eq!(standing, Standing { peers: 3, lag_entries: None, gap: None }, "unknown is not 0");
        let origin = Origin::new(&"o".parse().unwrap(), Incarnation(1));
        let up_to = |clock| [(origin, Clock(clock))].into_iter().collect::<Vector>();
        peers.heard("a:1", &up_to(9), true, 0, 1);
        peers.heard("b:1", &up_to(5), true, 0, 1);
        let standing = peers.standing(&up_to(2));
        assert_eq!(standing.lag_entries, Some(7));
        assert!(standing.gap.unwrap() < Duration::from_secs(60), "{standing:?}");
    }
    #[test]
    fn that_a_peer_answers_again_is_told_once() {
        let peers = Peers::default();
        peers.add("a:1", 0);
        let mut returns = peers.returns();
        let mut has_returned = |round_trip| {
            peers.pinged("a:1", round_trip);
            let told = returns.has_changed().unwrap();
            returns.mark_unchanged();
            told
        };
        let answer = Some(Duration::from_millis(1));
        let told: Vec<_> = [None, answer, answer, None, None, answer].map(&mut has_returned).into();
        assert_eq!(told, [false, true, false, false, false, true]);
        let (me, other) = ("me".parse().unwrap(), "other".parse().unwrap());
        peers.admit("a:1", &me, (&other, Incarnation(1)), 1).unwrap();
        assert!(!has_returned(None) && !has_returned(answer), "a lost ping is not an absence");
    }

    #[test]
    fn a_failure_is_told_once_and_another_reason_once_it_has_lasted() {
        let peers = Peers::default();
        peers.add("a:1", 0);
        let news = |error: &str, now| {
            let mut peers = peers.lock();
            let report = peers.get_mut("a:1").unwrap();
            let news = report.news(error, now);
            report.last_error = error.to_owned();
            news
        };
        assert_eq!(news("refused", 1), News::NotYet);
        assert_eq!(news("refused", 2), News::Nothing);
        assert_eq!(news("refused", 31), News::Fails, "it should have started by now");
        assert_eq!(news("refused", 500), News::Nothing);
        assert_eq!(news("expired", 501), News::Nothing, "it may pass");
        assert_eq!(news("expired", 502), News::FailsOtherwise);
        assert_eq!(news("refused", 503), News::Nothing);
        assert_eq!(news("refused", 504), News::Nothing, "too soon after the last line");
        assert_eq!(news("refused", 600), News::FailsOtherwise);
        let (me, other) = ("me".parse().unwrap(), "other".parse().unwrap());
        peers.admit("a:1", &me, (&other, Incarnation(1)), 601).unwrap();
        assert_eq!(news("ended", 602), News::Fails, "it was up meanwhile");
    }
}
