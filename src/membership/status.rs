//! What is known of one peer: reported by its puller and the pings, shown in the node's status.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use brock_core::{
    base::{
        claims::{self, ClaimKind},
        id::{Incarnation, NodeId, Origin},
        limits, metrics as names,
        vector::{Clock, Vector},
    },
    domain::record::UnixSeconds,
};
use brock_net::task::bounded;

use super::{lag::Claims, peer::PeerKey};
use crate::runtime::repeats::Repeats;

/// One peer, as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerReport {
    /// Its address, or a name that DNS has not answered for yet.
    pub key: PeerKey,
    /// `None` until it has answered.
    pub node_id: Option<NodeId>,
    /// The one that it last answered as.
    pub incarnation: Option<Incarnation>,
    /// Whether this node is pulling from it.
    pub up: bool,
    /// When `up` last changed.
    pub since: UnixSeconds,
    /// Why the last round failed; `None` = it did not.
    pub last_error: Option<String>,
    /// Whether it failed because this node refuses to pull from it.
    pub is_refused: bool,
    /// What it last said it has applied; `None` = it has not said it yet.
    pub heads: Option<Vector>,
    /// Operations that it is believed to have and that this node lacks; only in a report of
    /// [`super::roster::Roster::compared`].
    pub lag: Option<u64>,
    /// What it claims to have, and does not send; only there, too.
    pub unsent: Vector,
    /// Rounds in which it answered.
    pub rounds: u64,
    /// Log entries received from it, duplicates included.
    pub entries_received: u64,
    /// The last message from it; `None` = there was none.
    pub last_heard: Option<Heard>,
    /// Its wall clock minus this node's, in seconds; `None` = it has not said its time yet.
    pub clock_skew_seconds: Option<i64>,
    /// Key hashes whose records differ there although both nodes have applied the same operations, and
    /// that a repair at this node left as they were.
    pub unrepaired: u64,
    /// The round trip of the last ping; `None` = it was not answered.
    pub round_trip: Option<Duration>,
    /// The current round.
    pub round: Option<Round>,
    /// The last rounds that ended, oldest first.
    pub recent_rounds: VecDeque<Round>,
}

impl PeerReport {
    /// Of a peer that has not answered yet.
    pub fn new(key: PeerKey, now: UnixSeconds) -> Self {
        Self {
            key,
            node_id: None,
            incarnation: None,
            up: false,
            since: now,
            last_error: None,
            is_refused: false,
            heads: None,
            lag: None,
            unsent: Vector::default(),
            rounds: 0,
            entries_received: 0,
            last_heard: None,
            clock_skew_seconds: None,
            unrepaired: 0,
            round_trip: None,
            round: None,
            recent_rounds: VecDeque::new(),
        }
    }
}

/// When a peer was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// By the wall clock.
    pub at_unix: UnixSeconds,
    /// By the monotonic clock.
    pub at: Instant,
}

/// One round of pulling from a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    /// By the wall clock.
    pub started_unix_ms: u64,
    /// By the monotonic clock.
    pub started_at: Instant,
    /// Until it ended; zero while it lasts.
    pub duration: Duration,
    /// Log entries received, duplicates included.
    pub entries: u64,
    /// Bytes of their operations and payloads.
    pub bytes: u64,
    /// Why it failed; `None` = it did not.
    pub error: Option<String>,
}

/// A failure that is logged.
#[derive(Debug, PartialEq, Eq)]
enum LogEvent {
    /// The peer was never up, and may still be starting.
    NotUpYet,
    /// Pulling fails.
    Fails,
    /// Pulling still fails, for another reason.
    FailsOtherwise,
}

/// The report of one peer, and what was last logged of it.
#[derive(Debug)]
pub(super) struct PeerStatus {
    report: PeerReport,
    /// The failure last logged since the peer was up, and when.
    last_logged_failure: Option<(UnixSeconds, String)>,
    last_logged_skew_seconds: i64,
    /// Whether the last line about this node's lag says that it is behind.
    last_logged_behind: bool,
    claims: Claims,
    lines: Lines,
}

/// The lines that the peer can cause again and again.
#[derive(Debug, Default)]
struct Lines {
    up: Repeats,
    fails: Repeats,
    behind: Repeats,
    origins: Repeats,
    clock: Repeats,
}

impl PeerStatus {
    /// Of a peer that has not answered yet.
    pub(super) fn new(key: PeerKey, now: UnixSeconds) -> Self {
        let address = || key.to_string();
        metrics::gauge!(names::PEER_UP, "address" => address()).set(0.0);
        // From 0, so that increase() sees the first entry and the first round.
        metrics::counter!(names::ENTRIES, "address" => address()).absolute(0);
        for outcome in ["ok", "error"] {
            metrics::counter!(names::ROUNDS, "address" => address(), "outcome" => outcome).absolute(0);
        }
        ClaimKind::ALL.into_iter().for_each(|kind| claims::refused(&key, kind, 0));
        metrics::counter!(names::ORDERS_REFUSED, "address" => address()).absolute(0);
        let report = PeerReport::new(key, now);
        Self {
            report,
            last_logged_failure: None,
            last_logged_skew_seconds: 0,
            last_logged_behind: false,
            claims: Claims::default(),
            lines: Lines::default(),
        }
    }

    pub(super) fn report(&self) -> &PeerReport {
        &self.report
    }

    /// Ends the gauges: what they last said would otherwise be shown for ever.
    pub(super) fn end(self) {
        for gauge in [names::PEER_UP, names::PEER_LAG, names::PEER_CLOCK_SKEW, names::PEER_LAST_SUCCESS] {
            metrics::gauge!(gauge, "address" => self.report.key.to_string()).set(f64::NAN);
        }
    }

    /// The peer answered a round's hello as this node.
    pub(super) fn admit(&mut self, node_id: &NodeId, incarnation: Incarnation, now: UnixSeconds) {
        self.set_up_gauge(1.0);
        self.last_logged_failure = None;
        self.hear(now);
        let report = &mut self.report;
        report.node_id = Some(node_id.clone());
        report.incarnation = Some(incarnation);
        (report.last_error, report.is_refused) = (None, false);
        report.rounds += 1;
        if !report.up {
            (report.up, report.since) = (true, now);
            if self.lines.up.is_due() {
                tracing::info!(address = %report.key, %node_id, "pulling from a peer");
            }
        }
    }

    /// The peer said what it has applied (all of it if `fresh`, otherwise what changed), and its time.
    pub(super) fn heard(
        &mut self,
        incarnation: Incarnation,
        heads: &Vector,
        fresh: bool,
        skew_seconds: i64,
        now: UnixSeconds,
    ) {
        self.report.incarnation = Some(incarnation);
        self.log_heads(heads, skew_seconds);
        match &mut self.report.heads {
            Some(known) if !fresh => known.join(heads),
            known => {
                *known = Some(heads.clone());
                self.claims.begin();
            }
        }
        self.report.clock_skew_seconds = Some(skew_seconds);
        self.hear(now);
    }

    pub(super) fn received(&mut self, entries: u64, bytes: u64, now: UnixSeconds) {
        self.report.entries_received = self.report.entries_received.saturating_add(entries);
        if let Some(round) = &mut self.report.round {
            round.entries = round.entries.saturating_add(entries);
            round.bytes = round.bytes.saturating_add(bytes);
        }
        self.hear(now);
    }

    /// Weighs what the peer, which was just heard, claims above `applied`. `is_backed`: another peer sends that log up
    /// to that clock.
    pub(super) fn weigh(&mut self, applied: &Vector, is_backed: impl Fn(&Origin, Clock) -> bool) {
        let Some(heads) = &self.report.heads else { return };
        let disbelieved = self.claims.weigh(heads, applied, Instant::now(), is_backed);
        if disbelieved > 0 {
            claims::refused(&self.report.key, ClaimKind::Unsent, disbelieved as u64);
        }
    }

    /// What the peer claims to have, and does not send.
    pub(super) fn unsent(&self) -> &Vector {
        self.claims.unsent()
    }

    /// How many operations this node, which has applied `applied`, lacks of those that the peer is believed to have.
    pub(super) fn lag(&self, applied: &Vector) -> Option<u64> {
        self.report.heads.as_ref().map(|heads| self.claims.lag(heads, applied))
    }

    /// Whether the peer is sending an origin's log up to this clock or further.
    pub(super) fn is_sending(&self, origin: &Origin, clock: Clock) -> bool {
        let heads = self.report.heads.as_ref().filter(|_| self.report.up);
        heads.is_some_and(|heads| self.claims.is_sending(heads, origin, clock))
    }

    /// Whether it is up and has long claimed to have more of an origin's log than `applied`, and sent nothing of it.
    pub(super) fn withholds(&self, origin: &Origin, applied: Clock) -> bool {
        let claims = self.report.heads.as_ref().is_some_and(|heads| heads.get(origin) > applied);
        claims && self.report.up && self.claims.withholds(origin)
    }

    /// The peer has sent operations that this node lacked.
    pub(super) fn sent(&mut self, origin: &Origin, operations: u64) {
        self.claims.sent(origin, operations);
    }

    /// Whether this node refuses to be filled from the peer.
    pub(super) fn refuse_records(&mut self, are_refused: bool) {
        self.claims.refuse_records(are_refused);
    }

    /// This node takes nothing of an origin from the peer on this stream.
    pub(super) fn decline(&mut self, origin: Origin) {
        self.claims.decline(origin);
    }

    pub(super) fn begin_round(&mut self, now_ms: u64) {
        self.report.round = Some(Round {
            started_unix_ms: now_ms,
            started_at: Instant::now(),
            duration: Duration::ZERO,
            entries: 0,
            bytes: 0,
            error: None,
        });
    }

    pub(super) fn end_round(&mut self, error: Option<&str>) {
        let Some(round) = self.report.round.take() else { return };
        let recent = &mut self.report.recent_rounds;
        if recent.len() == limits::RECENT_ROUNDS {
            recent.pop_front();
        }
        let duration = round.started_at.elapsed();
        recent.push_back(Round { duration, error: error.map(bounded), ..round });
    }

    /// Notes the round trip of a ping. Returns whether the peer answers again after it was down.
    pub(super) fn pinged(&mut self, round_trip: Option<Duration>) -> bool {
        let before = std::mem::replace(&mut self.report.round_trip, round_trip);
        before.is_none() && round_trip.is_some() && !self.report.up
    }

    /// Notes how many key hashes a repair left different. Returns whether that has changed.
    pub(super) fn set_unrepaired(&mut self, differing: u64) -> bool {
        std::mem::replace(&mut self.report.unrepaired, differing) != differing
    }

    /// Pulling failed. `lasts`: it will fail until an operator changes something.
    pub(super) fn failed(&mut self, error: &str, lasts: bool, now: UnixSeconds) {
        self.set_up_gauge(0.0);
        if std::mem::take(&mut self.report.up) {
            self.report.since = now;
        }
        let event = self.failure_to_log(error, lasts, now).filter(|_| self.lines.fails.is_due());
        let address = self.report.key.as_str();
        match event {
            None => {}
            Some(LogEvent::NotUpYet) => {
                tracing::info!(address, error, "a peer does not answer yet; trying again");
            }
            Some(LogEvent::Fails) => tracing::warn!(address, error, "cannot pull from a peer; trying again"),
            Some(LogEvent::FailsOtherwise) => {
                tracing::warn!(
                    address,
                    error,
                    "still cannot pull from a peer, for another reason than before"
                );
            }
        }
        (self.report.last_error, self.report.is_refused) = (Some(bounded(error)), false);
    }

    /// Pulling failed, because this node refuses to.
    pub(super) fn refused(&mut self, error: &str, now: UnixSeconds) {
        self.failed(error, false, now);
        self.report.is_refused = true;
    }

    /// Pulling ended without an error.
    pub(super) fn ended(&mut self, now: UnixSeconds) {
        self.set_up_gauge(0.0);
        (self.report.up, self.report.since) = (false, now);
    }

    /// Sets the gauges that compare the peer with what is applied here, and logs when this node falls
    /// behind it and when it has caught up.
    pub(super) fn record_gauges(&mut self, applied: &Vector) {
        let lag = self.lag(applied);
        let report = &self.report;
        let address = || report.key.to_string();
        if let Some(lag) = lag {
            if !self.last_logged_behind && lag >= limits::LAG_NEWS_ENTRIES && self.lines.behind.is_due() {
                tracing::info!(address = %report.key, operations = lag, "this node is behind a peer");
                self.last_logged_behind = true;
            } else if self.last_logged_behind && lag == 0 {
                tracing::info!(address = %report.key, "this node has caught up with a peer");
                self.last_logged_behind = false;
            }
            metrics::gauge!(names::PEER_LAG, "address" => address()).set(lag as f64);
            let skew_seconds = report.clock_skew_seconds.unwrap_or_default();
            metrics::gauge!(names::PEER_CLOCK_SKEW, "address" => address()).set(skew_seconds as f64);
        }
        if let Some(heard) = report.last_heard {
            metrics::gauge!(names::PEER_LAST_SUCCESS, "address" => address()).set(heard.at_unix as f64);
        }
    }

    fn set_up_gauge(&self, up: f64) {
        metrics::gauge!(names::PEER_UP, "address" => self.report.key.to_string()).set(up);
    }

    fn hear(&mut self, now: UnixSeconds) {
        self.report.last_heard = Some(Heard { at_unix: now, at: Instant::now() });
    }

    /// A failure is logged once, not at every attempt. While a peer that was never up may still be
    /// starting, its failure is not a warning yet. A new reason is logged only once it has occurred
    /// twice: how a connection broke does not say why there is no new one.
    fn failure_to_log(&mut self, error: &str, lasts: bool, now: UnixSeconds) -> Option<LogEvent> {
        let report = &self.report;
        let down_for = now.saturating_sub(report.since).unsigned_abs();
        if !lasts && report.node_id.is_none() && down_for < limits::FIRST_CATCH_UP_TIMEOUT.as_secs() {
            return report.last_error.is_none().then_some(LogEvent::NotUpYet);
        }
        let error = bounded(error);
        let event = match &self.last_logged_failure {
            None => LogEvent::Fails,
            Some((at, logged)) => {
                let is_due = now.saturating_sub(*at).unsigned_abs() >= limits::PEER_REASON_NEWS.as_secs();
                let has_lasted = lasts || report.last_error.as_ref() == Some(&error);
                if !is_due || *logged == error || !has_lasted {
                    return None;
                }
                LogEvent::FailsOtherwise
            }
        };
        self.last_logged_failure = Some((now, error));
        Some(event)
    }

    /// Logs the peer's clocks when they are first heard, then origins that are new to it, and a wall
    /// clock that moved.
    fn log_heads(&mut self, heads: &Vector, skew_seconds: i64) {
        let report = &self.report;
        let (address, node_id) = (report.key.as_str(), report.node_id.as_ref().map(tracing::field::display));
        let moved = skew_seconds.abs_diff(self.last_logged_skew_seconds) >= limits::CLOCK_SKEW_NEWS_SECONDS;
        match &report.heads {
            None => {
                let (origins, operations) = (heads.len(), heads.entries_above(&Vector::default()));
                tracing::info!(address, node_id, origins, operations, skew_seconds, "heard a peer's clocks");
            }
            Some(known) => {
                let mut fresh = heads.iter().filter(|(origin, _)| !known.lists(origin));
                if let Some((origin, _)) = fresh.next()
                    && self.lines.origins.is_due()
                {
                    let more = fresh.count();
                    tracing::info!(address, node_id, %origin, more, "a peer has heard of new origins");
                }
                if moved && self.lines.clock.is_due() {
                    tracing::info!(
                        address,
                        node_id,
                        skew_seconds,
                        "a peer's wall clock has moved against ours"
                    );
                }
            }
        }
        if moved || report.heads.is_none() {
            self.last_logged_skew_seconds = skew_seconds;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_logged_once_and_another_reason_once_it_has_lasted() {
        let mut status = PeerStatus::new("a:1".into(), 0);
        let event = |status: &mut PeerStatus, error: &str, now| {
            let event = status.failure_to_log(error, false, now);
            status.report.last_error = Some(error.to_owned());
            event
        };
        assert_eq!(event(&mut status, "refused", 1), Some(LogEvent::NotUpYet));
        assert_eq!(event(&mut status, "refused", 2), None);
        assert_eq!(event(&mut status, "refused", 31), Some(LogEvent::Fails), "it should have started by now");
        assert_eq!(event(&mut status, "refused", 500), None);
        assert_eq!(event(&mut status, "expired", 501), None, "it may pass");
        assert_eq!(event(&mut status, "expired", 502), Some(LogEvent::FailsOtherwise));
        assert_eq!(event(&mut status, "refused", 503), None);
        assert_eq!(event(&mut status, "refused", 504), None, "too soon after the last line");
        assert_eq!(event(&mut status, "refused", 600), Some(LogEvent::FailsOtherwise));
        let mut wrong_ca = PeerStatus::new("a:1".into(), 0);
        assert_eq!(wrong_ca.failure_to_log("wrong CA", true, 1), Some(LogEvent::Fails), "it is not starting");
        assert_eq!(wrong_ca.failure_to_log("wrong CA", true, 2), None);
        status.admit(&"other".parse().unwrap(), Incarnation(1), 601);
        assert_eq!(event(&mut status, "ended", 602), Some(LogEvent::Fails), "it was up meanwhile");
    }
}
