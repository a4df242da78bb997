//! Fills this node from a peer's records, when no log can bring it up to date any more.
//!
//! A resync delays nothing else from peers, unless its donor has collected tombstones: its pages then remove records,
//! which nothing may bring back meanwhile. A donor must deliver at a pace; one that does not is not asked again for
//! a while. While one resync lasts, another donor may begin to fill this node beside it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use prost::Message as _;
use tokio::{
    sync::{RwLock, RwLockReadGuard, RwLockWriteGuard, watch},
    time::{Instant, timeout, timeout_at},
};
use tonic::{Code, transport::Channel};
use tracing::Instrument as _;

use super::{
    breaker::{Breaker, Bringer},
    destruction,
    pace::Pace,
};
use crate::{
    membership::{
        members::Members,
        origins::Supplier,
        peer::{CallError, PeerKey},
    },
    runtime::{alarms::Alarms, repeats::Repeats, spans},
    store::Store,
    transfer::{
        join::{Declines, JoinError, Joiner, Terms},
        proof::Verifier,
    },
};
use brock_core::{
    base::{
        id::{NodeId, Origin},
        limits, metrics as names,
        time::WallClock,
    },
    domain::record::UnixSeconds,
    proto::{self, replication_service_client::ReplicationServiceClient, snapshot_response::Message},
};

/// A resync, as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResyncReport {
    /// The donor.
    pub node_id: NodeId,
    /// Why the log was not enough.
    pub reason: String,
    /// Records joined so far.
    pub records: u64,
    /// Log entries copied so far.
    pub log_entries: u64,
    /// Records of the donor, roughly.
    pub expected: u64,
    /// When it began.
    pub since: UnixSeconds,
    /// When the last records or log entries came, or it began.
    pub progressed: UnixSeconds,
}

impl ResyncReport {
    /// In a sentence, at this time.
    pub fn text(&self, now: UnixSeconds) -> String {
        let (lasts, quiet) = (now.saturating_sub(self.since), now.saturating_sub(self.progressed));
        let progress = match u64::try_from(quiet) {
            Ok(quiet) if quiet >= limits::STREAM_SILENCE_TIMEOUT.as_secs() => {
                format!("; no progress for {quiet} s")
            }
            _ => String::new(),
        };
        let Self { node_id, records, expected, .. } = self;
        format!("being filled from {node_id} for {lasts} s: {records} of about {expected} records{progress}")
    }
}

/// Why a resync did not finish. The next round continues where it stopped, or restarts if the donor was at fault.
#[derive(Debug, thiserror::Error)]
pub enum ResyncError {
    /// Another resync is running.
    #[error("this node is being filled from another peer first")]
    UnderWay,
    /// The donor has failed lately.
    #[error(
        "this node is not filled from that peer for the next {0} s, because its last attempt failed: {1}"
    )]
    SetAside(u64, String),
    /// The donor answered with an error, or the connection broke.
    #[error("the snapshot broke off: {0}")]
    Call(#[from] CallError),
    /// The donor ended the stream before its last message.
    #[error("the snapshot broke off: it ended early")]
    EndedEarly,
    /// The donor sent nothing for too long.
    #[error("nothing was heard of the snapshot for {} s", limits::STREAM_SILENCE_TIMEOUT.as_secs())]
    Silence,
    /// The donor sends, but next to nothing.
    #[error(
        "the snapshot makes no progress: less than {} records and {} KiB came within {} s",
        limits::RESYNC_WINDOW_ITEMS, limits::RESYNC_WINDOW_BYTES / 1024, limits::RESYNC_WINDOW.as_secs()
    )]
    Stalled,
    /// The donor sends far more than it has announced.
    #[error("the snapshot has far more than the {0} records that its donor has announced")]
    Excess(u64),
    /// The whole resync took too long.
    #[error("the snapshot was not whole within the time for the records that its donor has announced")]
    Late,
    /// Its pages would destroy more than one node may.
    #[error(
        "the records of {0} would destroy more than node.destruction-limit of this node's: it is paused. If that is \
         intended: `node-admin origin resume {0}`"
    )]
    Paused(NodeId),
    /// A message could not be joined.
    #[error(transparent)]
    Join(#[from] JoinError),
}

impl ResyncError {
    fn aside_max(&self) -> Duration {
        match self {
            Self::Join(JoinError::Unproven(_) | JoinError::Unsigned(_)) => limits::RESYNC_ASIDE_UNPROVEN,
            _ => limits::RESYNC_ASIDE_MAX,
        }
    }

    /// Whether the donor is at fault, and not the connection or this node.
    fn blames_donor(&self) -> bool {
        match self {
            Self::Silence | Self::Stalled | Self::Excess(_) | Self::Late => true,
            Self::Join(error) => !matches!(error, JoinError::Store(_)),
            Self::UnderWay | Self::SetAside(..) | Self::Call(_) | Self::EndedEarly | Self::Paused(_) => false,
        }
    }
}

/// The records that were dropped because donors had deleted and forgotten them.
#[derive(Debug, Default)]
struct Drops {
    /// When the first of them was; `None` = there was none.
    since: Option<Instant>,
    records: u64,
    /// Whether an alarm has reported that they are as many as may be.
    is_reported: bool,
}

impl Drops {
    /// How many more may be dropped now, of a node that has so many records.
    fn left(&mut self, records: u64) -> u64 {
        if self.since.is_some_and(|since| since.elapsed() >= limits::RESYNC_DROPS_PERIOD) {
            *self = Self::default();
        }
        let most = limits::RESYNC_DROPS_MIN.max(records / limits::RESYNC_DROPS_PART);
        most.saturating_sub(self.records)
    }

    fn add(&mut self, records: u64) {
        if records > 0 {
            self.since.get_or_insert_with(Instant::now);
            self.records = self.records.saturating_add(records);
        }
    }
}

/// Where a resync comes from.
pub struct Source {
    /// The donor's calls.
    pub client: ReplicationServiceClient<Channel>,
    /// The donor.
    pub supplier: Supplier,
    /// Decides what of its records is believed.
    pub verifier: Verifier,
    /// Origins that nodes write to now: they are not over, whatever the donor says.
    pub present: Vec<Origin>,
    /// Pauses a donor whose records would destroy much, and the donor's address.
    pub breaker: (Breaker, PeerKey),
    /// Why its log was not enough.
    pub reason: &'static str,
}

/// A donor that failed, and until when it is not asked.
struct Aside {
    failures: u32,
    until: Instant,
    error: String,
}

#[derive(Default)]
struct State {
    /// By donor.
    running: BTreeMap<NodeId, (Instant, ResyncReport)>,
    /// Those that broke off, by donor.
    broken: BTreeMap<NodeId, Joiner>,
    aside: BTreeMap<NodeId, Aside>,
}

/// All resyncs of a node: one of each donor at a time. Cheap to clone.
#[derive(Clone)]
pub struct Resyncs {
    wall_clock: WallClock,
    state: Arc<Mutex<State>>,
    /// Held for writing by a resync that removes records, and for reading while anything else from peers is applied.
    gate: Arc<RwLock<()>>,
    /// Held for writing, for a moment, while a resync changes the log or the vector, and for reading while a segment
    /// is applied: both count what is in the log. Nothing waits for the network meanwhile.
    log: Arc<RwLock<()>>,
    /// Counts those that have ended.
    ended: watch::Sender<u64>,
    /// Whether this node collects tombstones. If not, it drops no record on a donor's word.
    collects: bool,
    drops: Arc<Mutex<Drops>>,
    /// Counts those that have filled this node.
    filled: watch::Sender<u64>,
    /// The lines about each donor.
    lines: Arc<Mutex<HashMap<PeerKey, Repeats>>>,
}

impl Resyncs {
    /// None yet. The clock says when one begins. `collects`: this node collects tombstones.
    pub fn new(wall_clock: WallClock, collects: bool) -> Self {
        metrics::gauge!(names::RESYNC_RUNNING).set(0.0);
        Self {
            wall_clock,
            state: Arc::default(),
            gate: Arc::default(),
            log: Arc::default(),
            ended: watch::Sender::new(0),
            collects,
            drops: Arc::default(),
            filled: watch::Sender::new(0),
            lines: Arc::default(),
        }
    }

    /// Changes when a resync has filled this node: what its donor left out is looked for then.
    pub fn filled(&self) -> watch::Receiver<u64> {
        self.filled.subscribe()
    }

    /// Whether a donor that drops too many records is news. It is once in [`limits::RESYNC_DROPS_PERIOD`].
    pub fn reports_drops(&self) -> bool {
        !std::mem::replace(&mut self.drops().is_reported, true)
    }

    fn drops(&self) -> MutexGuard<'_, Drops> {
        self.drops.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The resync under way; of several, the first.
    pub fn report(&self) -> Option<ResyncReport> {
        let state = self.lock();
        state.running.values().min_by_key(|(began, _)| *began).map(|(_, report)| report.clone())
    }

    /// Waits until no resync removes records, and keeps one from doing so. The pages of a donor that has collected
    /// tombstones remove records, and nothing else may bring those back meanwhile.
    pub async fn others(&self) -> RwLockReadGuard<'_, ()> {
        self.gate.read().await
    }

    /// The same while a segment of a log is applied.
    pub async fn applying(&self) -> (RwLockReadGuard<'_, ()>, RwLockReadGuard<'_, ()>) {
        (self.gate.read().await, self.log.read().await)
    }

    /// A donor can make this node begin again and again.
    fn is_line_due(&self, key: &PeerKey) -> bool {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() > limits::DISCOVERED_MAX {
            lines.clear();
        }
        lines.entry(key.clone()).or_default().is_due()
    }

    /// Waits until another attempt may be worth it.
    pub async fn ended(&self) {
        let mut ended = self.ended.subscribe();
        if !self.lock().running.is_empty() {
            let _ = timeout(limits::RESYNC_ALONE, ended.changed()).await;
        }
    }

    /// Takes a place for a resync from this donor.
    fn begin(&self, donor: &NodeId, reason: &str) -> Result<Running<'_>, ResyncError> {
        let (mut state, now) = (self.lock(), Instant::now());
        if let Some(aside) = state.aside.get(donor).filter(|aside| aside.until > now) {
            let left = aside.until.duration_since(now).as_secs() + 1;
            return Err(ResyncError::SetAside(left, aside.error.clone()));
        }
        let is_alone = |(began, _): &(Instant, ResyncReport)| began.elapsed() < limits::RESYNC_ALONE;
        if state.running.contains_key(donor)
            || state.running.len() >= limits::RESYNCS_MAX
            || state.running.values().any(is_alone)
        {
            return Err(ResyncError::UnderWay);
        }
        let since = self.wall_clock.now();
        let report = ResyncReport {
            node_id: donor.clone(),
            reason: reason.to_owned(),
            records: 0,
            log_entries: 0,
            expected: 0,
            since,
            progressed: since,
        };
        state.running.insert(donor.clone(), (now, report));
        metrics::gauge!(names::RESYNC_RUNNING).set(1.0);
        Ok(Running { resyncs: self, donor: donor.clone() })
    }

    /// Fills the store from a donor, from where the last attempt with it stopped.
    pub async fn run(
        &self,
        store: &Store,
        members: &Members,
        alarms: &Alarms,
        source: Source,
    ) -> Result<(), ResyncError> {
        let Source { client, supplier, verifier, present, breaker, reason } = source;
        let donor = supplier.node_id.clone();
        let running = self.begin(&donor, reason)?;
        let broken = self.lock().broken.remove(&donor).filter(Joiner::is_resumable);
        let is_logged = self.is_line_due(&breaker.1);
        if is_logged {
            tracing::info!(%donor, reason, resumed = broken.is_some(), "filling this node from a peer's records");
        }
        let holder = supplier.holder.clone();
        let fresh = || {
            let declines = declines(store, members, supplier, alarms);
            let may_drop = self.collects.then(|| self.drops().left(store.records()));
            let terms = Terms { may_drop, present };
            Joiner::from_peer(store.clone(), (donor.clone(), holder), terms, verifier, declines)
        };
        let mut joiner = broken.unwrap_or_else(fresh);
        let span = spans::resync(&donor);
        let filled = running.fill(client, &mut joiner, (&breaker.0, &breaker.1)).instrument(span.clone());
        let outcome = timeout(limits::RESYNC_TIMEOUT, filled).await.unwrap_or(Err(ResyncError::Late));
        spans::end(&span, outcome.is_ok());
        let label = if outcome.is_ok() { "ok" } else { "error" };
        metrics::counter!(names::RESYNCS, "outcome" => label).increment(1);
        match &outcome {
            Ok(()) => {
                self.lock().aside.remove(&donor);
                self.filled.send_modify(|filled| *filled += 1);
                if is_logged {
                    tracing::info!(%donor, records = joiner.records, "this node has everything that the peer had");
                }
            }
            Err(error) => {
                if matches!(error, ResyncError::Join(JoinError::Unsigned(_))) {
                    self.filled.send_modify(|filled| *filled += 1);
                }
                self.note_failure(&donor, error, joiner);
            }
        }
        outcome
    }

    /// Keeps what can be continued, and sets a donor aside that was at fault, for twice as long each time.
    fn note_failure(&self, donor: &NodeId, error: &ResyncError, mut joiner: Joiner) {
        let mut state = self.lock();
        if !error.blames_donor() {
            // The donor cannot continue from there: the next attempt restarts.
            let restarts = matches!(error, ResyncError::Call(CallError::Status { code: Code::Aborted, .. }));
            if !restarts {
                if state.broken.len() >= limits::RESYNCS_MAX {
                    state.broken.pop_first();
                }
                joiner.pause();
                state.broken.insert(donor.clone(), joiner);
            }
            return;
        }
        let now = Instant::now();
        state.aside.retain(|_, aside| now < aside.until + limits::RESYNC_ASIDE_MAX);
        let failures = state.aside.get(donor).map_or(0, |aside| aside.failures);
        let delay = limits::RESYNC_ASIDE_MIN.saturating_mul(1 << failures.min(16));
        let until = now + delay.min(error.aside_max());
        if state.aside.len() < limits::MEMBERS_MAX || state.aside.contains_key(donor) {
            let aside = Aside { failures: failures.saturating_add(1), until, error: error.to_string() };
            state.aside.insert(donor.clone(), aside);
        }
    }
}

fn declines(store: &Store, members: &Members, supplier: Supplier, alarms: &Alarms) -> Declines {
    let (store, members, alarms) = (store.clone(), members.clone(), alarms.clone());
    Box::new(move |origins, lists| {
        members.origins().declined(&store, &members, &supplier, origins, lists, &alarms)
    })
}

/// A resync under way. It ends when this is dropped.
struct Running<'a> {
    resyncs: &'a Resyncs,
    donor: NodeId,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut state = self.resyncs.lock();
        state.running.remove(&self.donor);
        if state.running.is_empty() {
            metrics::gauge!(names::RESYNC_RUNNING).set(0.0);
        }
        drop(state);
        self.resyncs.ended.send_modify(|ended| *ended += 1);
    }
}

impl Running<'_> {
    fn note(&self, joiner: &Joiner) {
        let now = self.resyncs.wall_clock.now();
        if let Some((_, report)) = self.resyncs.lock().running.get_mut(&self.donor) {
            if (report.records, report.log_entries) != (joiner.records, joiner.log_entries) {
                report.progressed = now;
            }
            report.records = joiner.records;
            report.log_entries = joiner.log_entries;
            report.expected = joiner.expected();
        }
    }

    /// Contract: no segment is applied while a log page is imported or the vector adopted. From the first message on
    /// that may remove records, nothing else from peers is applied until the end.
    async fn fill(
        &self,
        mut client: ReplicationServiceClient<Channel>,
        joiner: &mut Joiner,
        (breaker, key): (&Breaker, &PeerKey),
    ) -> Result<(), ResyncError> {
        self.note(joiner);
        let answer = timeout(limits::STREAM_SILENCE_TIMEOUT, client.snapshot(joiner.request())).await;
        let mut messages = match answer {
            Err(_) => return Err(ResyncError::Silence),
            Ok(answer) => answer.map_err(CallError::from)?.into_inner(),
        };
        let mut alone: Option<RwLockWriteGuard<'_, ()>> = None;
        let mut pace = Pace::new(Instant::now(), joiner.records);
        loop {
            let silent_at = Instant::now() + limits::STREAM_SILENCE_TIMEOUT;
            let message = match timeout_at(silent_at.min(pace.window_ends()), messages.message()).await {
                Ok(Ok(message)) => message.ok_or(ResyncError::EndedEarly)?,
                Ok(Err(status)) => return Err(CallError::from(status).into()),
                Err(_) if Instant::now() >= silent_at => return Err(ResyncError::Silence),
                Err(_) => {
                    pace.check(Instant::now(), joiner)?;
                    continue;
                }
            };
            if alone.is_none() && joiner.may_drop(&message) {
                alone = Some(self.resyncs.gate.write().await);
            }
            let brought: Bringer<'_> = (key, &self.donor);
            if !breaker
                .admit_states(brought, &destruction::in_page(&message))
                .await
                .map_err(JoinError::from)?
            {
                return Err(ResyncError::Paused(self.donor.clone()));
            }
            let (bytes, before) = (message.encoded_len() as u64, (joiner.records, joiner.log_entries));
            if self.take(joiner, message).await? {
                return Ok(());
            }
            let items = (joiner.records - before.0) + (joiner.log_entries - before.1);
            self.note(joiner);
            pace.note(items, bytes);
            pace.check(Instant::now(), joiner)?;
        }
    }

    async fn take(&self, joiner: &mut Joiner, message: proto::SnapshotResponse) -> Result<bool, ResyncError> {
        let before = (joiner.records, joiner.log_entries);
        let dropped_before = joiner.dropped;
        let changes_log = matches!(message.message, Some(Message::Log(_) | Message::End(_)));
        let no_segment = if changes_log { Some(self.resyncs.log.write().await) } else { None };
        let taken = joiner.take(message).await;
        drop(no_segment);
        self.resyncs.drops().add(joiner.dropped - dropped_before);
        for (kind, copied) in
            [("record", joiner.records - before.0), ("log_entry", joiner.log_entries - before.1)]
        {
            metrics::counter!(names::RESYNC_RECORDS, "kind" => kind).increment(copied);
        }
        Ok(taken?)
    }
}
