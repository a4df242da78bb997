//! What a running node does on the side: the superblock, the gauges, and telling when it is ready.

use std::sync::Arc;

use tokio::{
    task::spawn_blocking,
    time::{Instant, MissedTickBehavior, interval},
};
use tonic_health::{ServingStatus, server::HealthReporter};

use super::readiness::Readiness;
use crate::{
    ground::{
        clock::Vector,
        limits, metrics as names,
        task::{TaskStatus, Tasks},
    },
    replication::peers::{PeerReport, Peers},
    store::Store,
};

/// gRPC services whose health is reported; the empty name stands for the whole node.
const SERVICES: [&str; 4] =
    ["", "brock.v1.KeyValueService", "brock.v1.ReplicationService", "brock.v1.AdminService"];

/// Reports every service's health.
pub(super) async fn set_serving(reporter: &HealthReporter, serving: bool) {
    let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
    for service in SERVICES {
        reporter.set_service_status(service, status).await;
    }
}

/// Keeps the superblock and the gauges up to date.
pub(super) fn spawn(tasks: &Tasks, store: &Store, peers: &Peers) {
    let (store, peers, stop) = (store.clone(), peers.clone(), tasks.stopping().clone());
    tasks.spawn("upkeep", |status| async move {
        let mut ticks = interval(limits::SUPERBLOCK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut written = store.vector();
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            record_gauges(&store, &peers, &status).await;
            let vector = store.vector();
            if vector != written {
                checkpoint(&store, &status).await;
                written = vector;
            }
            status.set_state("waiting");
        }
    });
}

async fn checkpoint(store: &Store, status: &TaskStatus) {
    status.set_state("writing the superblock");
    let store = store.clone();
    match spawn_blocking(move || store.checkpoint()).await {
        Ok(Ok(())) => status.set_error(""),
        Ok(Err(error)) => {
            tracing::warn!(%error, "the superblock was not brought up to date; trying again");
            status.set_error(&error.to_string());
        }
        Err(_) => {}
    }
}

async fn record_gauges(store: &Store, peers: &Peers, status: &TaskStatus) {
    let vector = store.vector();
    metrics::gauge!(names::RECORDS).set(store.records() as f64);
    for (origin, clock) in vector.iter() {
        metrics::gauge!(names::CLOCK, "origin" => origin.to_string()).set(clock.0 as f64);
    }
    peers.record_lag(&vector);
    match store.storage_use().await {
        Ok(used) => {
            metrics::gauge!(names::STORAGE_BYTES, "kind" => "sst").set(used.sst_bytes as f64);
            metrics::gauge!(names::STORAGE_BYTES, "kind" => "memtable").set(used.memtable_bytes as f64);
            metrics::gauge!(names::STORAGE_BYTES, "kind" => "block_cache").set(used.block_cache_bytes as f64);
        }
        Err(error) => status.set_error(&error.to_string()),
    }
}

/// Makes the node ready once every peer has been caught up with or does not answer, at the latest
/// after [`limits::FIRST_CATCH_UP_TIMEOUT`]: a node must also come up alone.
pub(super) fn spawn_first_catch_up(
    tasks: &Tasks,
    store: &Store,
    peers: &Peers,
    readiness: &Arc<Readiness>,
    reporter: &HealthReporter,
) {
    let (store, peers, stop) = (store.clone(), peers.clone(), tasks.stopping().clone());
    let (readiness, reporter) = (Arc::clone(readiness), reporter.clone());
    tasks.spawn("first catch-up", |status| async move {
        set_serving(&reporter, false).await;
        status.set_state("catching up");
        let deadline = Instant::now() + limits::FIRST_CATCH_UP_TIMEOUT;
        let mut ticks = interval(limits::FIRST_CATCH_UP_POLL);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let caught_up = peers.reports().iter().all(|peer| is_settled(peer, &store.vector()));
            if caught_up || Instant::now() >= deadline {
                readiness.set_caught_up();
                set_serving(&reporter, true).await;
                tracing::info!(caught_up, "the node is ready");
                break;
            }
        }
    });
}

fn is_settled(peer: &PeerReport, applied: &Vector) -> bool {
    let caught_up = peer.heads.as_ref().is_some_and(|heads| heads.entries_above(applied) == 0);
    !peer.last_error.is_empty() || (peer.up && caught_up)
}
