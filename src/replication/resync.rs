//! Fills this node from a peer's records, when no log can bring it up to date any more.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::{
    sync::{Mutex as AsyncMutex, OwnedMutexGuard, RwLock, RwLockReadGuard},
    time::timeout,
};
use tonic::{Code, transport::Channel};
use tracing::Instrument as _;

use crate::{
    membership::peer::CallError,
    runtime::spans,
    store::Store,
    transfer::{
        join::{JoinError, Joiner},
        proof::Verifier,
    },
};
use brock_core::{
    base::{id::NodeId, limits, metrics as names, time::WallClock},
    domain::record::UnixSeconds,
    proto::{self, replication_service_client::ReplicationServiceClient},
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
}

/// Why a resync did not finish. The next round continues where it stopped.
#[derive(Debug, thiserror::Error)]
pub enum ResyncError {
    /// Another resync is running.
    #[error("this node is being filled from another peer first")]
    UnderWay,
    /// The donor answered with an error, or the connection broke.
    #[error("the snapshot broke off: {0}")]
    Call(#[from] CallError),
    /// The donor ended the stream before its last message.
    #[error("the snapshot broke off: it ended early")]
    EndedEarly,
    /// The donor sent nothing for too long.
    #[error("nothing was heard of the snapshot for {} s", limits::STREAM_SILENCE_TIMEOUT.as_secs())]
    Silence,
    /// The whole resync took too long.
    #[error("the snapshot was not whole within {} s", limits::RESYNC_TIMEOUT.as_secs())]
    Late,
    /// A message could not be joined.
    #[error(transparent)]
    Join(#[from] JoinError),
}

/// All resyncs of a node: one at a time. Cheap to clone.
#[derive(Clone)]
pub struct Resyncs {
    wall_clock: WallClock,
    /// The state of one that broke off.
    turn: Arc<AsyncMutex<Option<Joiner>>>,
    /// Held for writing by a resync, and for reading while anything else from peers is applied.
    gate: Arc<RwLock<()>>,
    report: Arc<Mutex<Option<ResyncReport>>>,
}

impl Resyncs {
    /// None is running. The clock tells since when one is.
    pub fn new(wall_clock: WallClock) -> Self {
        let resyncs = Self { wall_clock, turn: Arc::default(), gate: Arc::default(), report: Arc::default() };
        resyncs.set_report(None);
        resyncs
    }

    /// The one that is running.
    pub fn report(&self) -> Option<ResyncReport> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until no resync is running, and keeps the next one from beginning. The pages of a donor that has
    /// collected tombstones remove records, and nothing else may bring those back meanwhile.
    pub async fn others(&self) -> RwLockReadGuard<'_, ()> {
        self.gate.read().await
    }

    fn set_report(&self, report: Option<ResyncReport>) {
        metrics::gauge!(names::RESYNC_RUNNING).set(if report.is_some() { 1.0 } else { 0.0 });
        *self.report.lock().unwrap_or_else(PoisonError::into_inner) = report;
    }

    /// Fills the store from a donor, from where the last attempt with it stopped.
    pub async fn run(
        &self,
        store: &Store,
        client: ReplicationServiceClient<Channel>,
        (donor, verifier): (&NodeId, &Verifier),
        reason: &str,
    ) -> Result<(), ResyncError> {
        let Ok(mut turn) = Arc::clone(&self.turn).try_lock_owned() else {
            return Err(ResyncError::UnderWay);
        };
        if turn.as_ref().is_some_and(|joiner| joiner.donor() != donor || !joiner.is_resumable()) {
            *turn = None;
        }
        tracing::info!(%donor, reason, resumed = turn.is_some(), "filling this node from a peer's records");
        let began = self.wall_clock.now();
        let waiting = ResyncReport {
            node_id: donor.clone(),
            reason: reason.to_owned(),
            records: 0,
            log_entries: 0,
            expected: 0,
            since: began,
        };
        self.set_report(Some(waiting));
        let _alone = self.gate.write().await;
        let span = spans::resync(donor);
        let filled =
            self.fill(store, client, (donor, verifier), (reason, began), &mut turn).instrument(span.clone());
        let outcome = timeout(limits::RESYNC_TIMEOUT, filled).await.unwrap_or(Err(ResyncError::Late));
        spans::end(&span, outcome.is_ok());
        let label = if outcome.is_ok() { "ok" } else { "error" };
        metrics::counter!(names::RESYNCS, "outcome" => label).increment(1);
        if outcome.is_ok() {
            let records = turn.take().map_or(0, |joiner| joiner.records);
            tracing::info!(%donor, records, "this node has everything that the peer had");
        }
        self.set_report(None);
        outcome
    }

    async fn fill(
        &self,
        store: &Store,
        mut client: ReplicationServiceClient<Channel>,
        (donor, verifier): (&NodeId, &Verifier),
        (reason, since): (&str, UnixSeconds),
        turn: &mut OwnedMutexGuard<Option<Joiner>>,
    ) -> Result<(), ResyncError> {
        let joiner =
            turn.get_or_insert_with(|| Joiner::new(store.clone(), donor.clone(), Some(verifier.clone())));
        let report = |joiner: &Joiner| ResyncReport {
            node_id: donor.clone(),
            reason: reason.to_owned(),
            records: joiner.records,
            log_entries: joiner.log_entries,
            expected: joiner.expected(),
            since,
        };
        self.set_report(Some(report(joiner)));
        let answer = timeout(limits::STREAM_SILENCE_TIMEOUT, client.snapshot(joiner.request())).await;
        let mut messages = match answer {
            Err(_) => return Err(ResyncError::Silence),
            Ok(Err(status)) => {
                if status.code() == Code::Aborted {
                    // The donor cannot continue from there: the next attempt restarts.
                    **turn = None;
                }
                return Err(CallError::from(status).into());
            }
            Ok(Ok(response)) => response.into_inner(),
        };
        loop {
            let message = timeout(limits::STREAM_SILENCE_TIMEOUT, messages.message()).await;
            let message: proto::SnapshotResponse = match message {
                Err(_) => return Err(ResyncError::Silence),
                Ok(Err(status)) => return Err(CallError::from(status).into()),
                Ok(Ok(None)) => return Err(ResyncError::EndedEarly),
                Ok(Ok(Some(message))) => message,
            };
            let before = (joiner.records, joiner.log_entries);
            let taken = joiner.take(message).await;
            for (kind, copied) in
                [("record", joiner.records - before.0), ("log_entry", joiner.log_entries - before.1)]
            {
                metrics::counter!(names::RESYNC_RECORDS, "kind" => kind).increment(copied);
            }
            match taken {
                Ok(true) => return Ok(()),
                Ok(false) => self.set_report(Some(report(joiner))),
                Err(error) => {
                    if matches!(error, JoinError::Protocol(_) | JoinError::Proof(_) | JoinError::Unproven(_))
                    {
                        **turn = None;
                    }
                    return Err(error.into());
                }
            }
        }
    }
}
