//! The node: one function boots it, one shuts it down.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::spawn_blocking,
};
use tokio_util::sync::CancellationToken;

pub use super::start_error::StartError;
use super::{
    assembly::{self, Frame},
    prepare::{self, Prepared},
    upkeep,
};
use crate::{
    api::http::{readiness::Readiness, server},
    config::validate::Config,
    membership::roster::Roster,
    store::{Health, Store},
    telemetry::logs::Telemetry,
};
use brock_core::base::limits;
use brock_net::task::Tasks;

/// A running node.
pub struct Node {
    pub(super) store: Store,
    pub(super) tasks: Tasks,
    /// The HTTP side, which outlives the drain so that it can say that the node is draining.
    pub(super) http_tasks: Tasks,
    pub(super) readiness: Arc<Readiness>,
    pub(super) roster: Roster,
    pub(super) look_at_certificates: mpsc::Sender<oneshot::Sender<()>>,
    pub(super) health: tonic_health::server::HealthReporter,
    pub(super) address: SocketAddr,
    pub(super) http_address: Option<SocketAddr>,
    pub(super) shutdown_timeout: std::time::Duration,
    pub(super) server_failed: watch::Receiver<Option<String>>,
}

impl Node {
    /// Boots a node: identity, listeners, storage, then background work. Serves when it returns,
    /// though perhaps not yet caught up with its peers. The HTTP side answers from before the storage
    /// opens, which may take long. On failure nothing is left running.
    pub async fn start(config: Config, telemetry: Option<Arc<Telemetry>>) -> Result<Self, StartError> {
        Self::start_unless(config, telemetry, &CancellationToken::new()).await
    }

    /// The same, and gives up waiting for peers when `stop` is cancelled.
    pub async fn start_unless(
        config: Config,
        telemetry: Option<Arc<Telemetry>>,
        stop: &CancellationToken,
    ) -> Result<Self, StartError> {
        let mut prepared = Prepared::new(&config).await?;
        let frame = Frame::new();
        frame.readiness.show();
        if let Some(listener) = prepared.http_listener.take() {
            server::spawn(&frame.http_tasks, listener, frame.pages(&prepared, telemetry.clone()));
        }
        if let Some(telemetry) = &telemetry {
            telemetry.set_node(&config.node_id);
            telemetry.spawn_upkeep(&frame.tasks);
        }
        let store = match prepare::open_store(&config, &prepared, frame.instance, stop).await {
            Ok(store) => store,
            Err(error) => {
                frame.stop().await;
                return Err(error);
            }
        };
        frame.readiness.set_store_open();
        match assembly::assemble(&config, prepared, &frame, &store).await {
            Ok(node) => Ok(node),
            Err(error) => {
                frame.stop().await;
                // The process may end right after: RocksDB's threads must have ended before.
                let _ = spawn_blocking(move || store.close()).await;
                Err(error)
            }
        }
    }

    /// Where gRPC is served.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the HTTP side is served, if it is.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http_address
    }

    /// The node's store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// How it is, in a line for a supervisor.
    pub fn state(&self) -> String {
        let reports = self.roster.reports();
        let up = reports.iter().filter(|peer| peer.up).count();
        let pulling = match reports.len() {
            0 => "no peers".to_owned(),
            peers => format!("pulling from {up} of {peers} peers"),
        };
        match (
            self.readiness.reasons().as_slice(),
            self.roster.sync_status(&self.store.applied()).lag_entries,
        ) {
            ([], _) => format!("ready; {pulling}"),
            ([reason], Some(lag)) => format!("{reason}; {pulling}, lacks {lag} operations"),
            (reasons, _) => format!("{}; {pulling}", reasons.join("; ")),
        }
    }

    /// Whether it goes on doing its work: the store takes part, and gRPC is served. Answers within
    /// `patience`; false if it does not come to answer.
    pub async fn is_well(&self, patience: Duration) -> bool {
        let store = self.store.clone();
        // Takes the locks that every call takes, on a thread that other work needs too.
        let looked = tokio::time::timeout(patience, spawn_blocking(move || store.vector())).await;
        let stopped = matches!(&*self.store.health().borrow(), Health::Stopped(_));
        matches!(looked, Ok(Ok(_))) && !stopped && self.server_failed.borrow().is_none()
    }

    /// Takes over certificates that were exchanged, without waiting until they are looked at anyway.
    pub async fn reload(&self) {
        let (answer, looked) = oneshot::channel();
        if self.look_at_certificates.send(answer).await.is_ok() {
            let _ = looked.await;
        }
    }

    /// Resolves, with the reason, when the node cannot go on: a write failed, or gRPC is not
    /// served any more.
    pub async fn failed(&self) -> String {
        let mut health = self.store.health();
        let mut server = self.server_failed.clone();
        let stopped = health.wait_for(|health| matches!(health, Health::Stopped(_)));
        let ended = server.wait_for(Option::is_some);
        let reason = tokio::select! {
            health = stopped => match health.as_deref() {
                Ok(Health::Stopped(reason)) => format!("the store has stopped: {reason}"),
                _ => "the store is gone".to_owned(),
            },
            server = ended => server.ok().and_then(|reason| reason.clone()).unwrap_or_default(),
        };
        self.readiness.set_failed();
        reason
    }

    /// Shuts down in order: unready, no new connections, drain with a deadline, close the store. A client
    /// that does not let go is cut off.
    pub async fn stop(self) -> Stopped {
        tracing::info!("shutting down");
        self.readiness.set_draining();
        upkeep::set_serving(&self.health, false).await;
        let drained = self.tasks.stop(self.shutdown_timeout).await;
        if !drained {
            tracing::warn!(
                seconds = self.shutdown_timeout.as_secs(),
                "some work did not end in time and is cut off; nothing acknowledged is lost. Raise \
                 node.shutdown-timeout if this recurs"
            );
        }
        let store = self.store;
        let closed = spawn_blocking(move || store.close()).await;
        let closed = match closed {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::error!(%error, "the storage was not closed cleanly; the next start treats it as after a crash");
                false
            }
            Err(_) => false,
        };
        self.http_tasks.stop(limits::HTTP_STOP_TIMEOUT).await;
        tracing::info!(drained, clean = closed, "stopped");
        Stopped { drained, closed }
    }
}

/// How a node has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// Whether everything that was under way ended in time.
    pub drained: bool,
    /// Whether the storage is whole and says so; otherwise the next start treats it as after a crash.
    pub closed: bool,
}
