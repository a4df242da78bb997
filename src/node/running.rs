//! The handle of a running node.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::spawn_blocking,
    time::{interval, timeout},
};
use tonic_health::server::HealthReporter;

use super::health;
use crate::{
    api::http::readiness::Readiness,
    membership::roster::Roster,
    runtime::alarms::Alarms,
    store::{Health, Store},
};
use brock_core::base::{limits, time::unix_now};
use brock_net::task::Tasks;

/// A running node.
pub struct Node {
    pub(super) store: Store,
    pub(super) alarms: Alarms,
    pub(super) tasks: Tasks,
    /// The HTTP server. It stops after the drain, so that it can answer that the node is draining.
    pub(super) http_tasks: Tasks,
    pub(super) readiness: Arc<Readiness>,
    pub(super) roster: Roster,
    /// Requests to reload certificates now, each with a channel for the answer.
    pub(super) reloads: mpsc::Sender<oneshot::Sender<()>>,
    pub(super) health: HealthReporter,
    pub(super) address: SocketAddr,
    pub(super) http_address: Option<SocketAddr>,
    pub(super) shutdown_timeout: Duration,
    /// Set to the reason when the gRPC server has ended before the node stops.
    pub(super) server_failed: watch::Receiver<Option<String>>,
}

impl Node {
    /// The address of the gRPC server.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of the HTTP server, if there is one.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http_address
    }

    /// The node's store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The node's alarms.
    pub fn alarms(&self) -> &Alarms {
        &self.alarms
    }

    /// The node's state, in one line for a supervisor.
    pub fn state(&self) -> String {
        let reports = self.roster.reports();
        let up = reports.iter().filter(|peer| peer.up).count();
        let pulling = match reports.len() {
            0 => "no peers".to_owned(),
            peers => format!("pulling from {up} of {peers} peers"),
        };
        let lag_entries = self.roster.sync_status(&self.store.applied()).lag_entries;
        match (self.readiness.reasons().as_slice(), lag_entries) {
            ([], _) => format!("ready; {pulling}"),
            ([reason], Some(lag)) => format!("{reason}; {pulling}, lacks {lag} operations"),
            (reasons, _) => format!("{}; {pulling}", reasons.join("; ")),
        }
    }

    /// Whether the node works: the store answers within `timeout` and has not stopped, and the gRPC server
    /// runs.
    pub async fn is_healthy(&self, timeout: Duration) -> bool {
        let store = self.store.clone();
        // Takes the locks that every call takes, on a thread that other work needs too.
        let answered = tokio::time::timeout(timeout, spawn_blocking(move || store.vector())).await;
        let stopped = matches!(&*self.store.health().borrow(), Health::Stopped(_));
        matches!(answered, Ok(Ok(_))) && !stopped && self.server_failed.borrow().is_none()
    }

    /// Reloads the certificates now. Returns when they are in use, or when they were rejected.
    pub async fn reload(&self) {
        let (answer, done) = oneshot::channel();
        if self.reloads.send(answer).await.is_ok() {
            let _ = done.await;
        }
    }

    /// Resolves, with the reason, when the node cannot continue: a write failed, the data directory is gone, or
    /// the gRPC server has ended.
    pub async fn failed(&self) -> String {
        let mut health = self.store.health();
        let mut server = self.server_failed.clone();
        let stopped = health.wait_for(|health| matches!(health, Health::Stopped(_) | Health::Lost(_)));
        let ended = server.wait_for(Option::is_some);
        let (reason, is_lost) = tokio::select! {
            health = stopped => match health.as_deref() {
                Ok(Health::Stopped(reason)) => (format!("the store has stopped: {reason}"), false),
                Ok(Health::Lost(reason)) => (format!("the store has stopped: {reason}"), true),
                _ => ("the store has ended".to_owned(), false),
            },
            server = ended => (server.ok().and_then(|reason| reason.clone()).unwrap_or_default(), false),
        };
        self.readiness.set_failed();
        health::set_serving(&self.health, false).await;
        if is_lost && timeout(limits::HAND_OVER_PATIENCE, self.hand_over()).await.is_err() {
            tracing::error!(
                seconds = limits::HAND_OVER_PATIENCE.as_secs(),
                "not all members have replicated what this node has: operations may be lost"
            );
        }
        reason
    }

    /// Waits until every member has what this node has: after its end, they alone may have it.
    async fn hand_over(&self) {
        let mut ticks = interval(limits::HAND_OVER_POLL);
        loop {
            ticks.tick().await;
            let applied = self.store.applied();
            if self.roster.members().stable(&applied, unix_now()) == applied {
                return;
            }
        }
    }
}
