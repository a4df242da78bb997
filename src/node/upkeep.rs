//! What a running node does on the side: the superblock, the gauges, and telling when it is ready.

use std::{collections::BTreeMap, sync::Arc};

use tokio::{
    task::spawn_blocking,
    time::{Instant, MissedTickBehavior, interval},
};
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{
    api::http::readiness::Readiness,
    audit::log::{self, Trail},
    config::validate::Config,
    membership::{members::Members, roster::Roster, status::PeerReport},
    store::{Engine, Store},
};
use brock_core::{
    base::{limits, metrics as names, vector::Vector},
    proto,
};
use brock_net::task::{TaskStatus, Tasks};

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

/// Opens the audit log, if this node has a place for one.
pub(super) async fn open_trail(config: &Config, store: &Store, tasks: &Tasks) -> Trail {
    let directory = config.audit.path.clone().or_else(|| Some(config.path.as_ref()?.join("audit")));
    let Some(directory) = directory else {
        tracing::warn!(
            "node.path and audit.path are empty: NO AUDIT LOG is kept, and what operators do here is not recorded"
        );
        return Trail::none();
    };
    let options = log::Options { directory, max_bytes: config.audit.max_bytes };
    Trail::open(options, store, tasks).await
}

/// Keeps the superblock and the gauges up to date.
pub(super) fn spawn(tasks: &Tasks, store: &Store, roster: &Roster) {
    let (watched, clock, stop) = (roster.members().clone(), store.clone(), tasks.stopping().clone());
    tasks.spawn("revocations", |status| async move {
        status.set_state("waiting");
        let mut changes = watched.changes();
        while let Some(Ok(())) = stop.run_until_cancelled(changes.changed()).await {
            watched.settle_revocations(clock.now());
        }
    });
    let (store, roster, members) = (store.clone(), roster.clone(), roster.members().clone());
    let stop = tasks.stopping().clone();
    tasks.spawn("upkeep", |status| async move {
        let mut ticks = interval(limits::SUPERBLOCK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut written = store.vector();
        let mut remembered = Vec::new();
        let mut has_failed = false;
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            // A member may have ceased to be one.
            members.settle_revocations(store.now());
            members.revocations().record_gauges();
            metrics::gauge!(names::MEMBERS).set(members.count(store.now()) as f64);
            record_gauges(&store, &roster, &status).await;
            remember(&store, &members, &mut remembered, &status).await;
            let vector = store.vector();
            if vector != written {
                has_failed = !checkpoint(&store, &status, has_failed).await;
                written = vector;
            }
            status.set_state("waiting");
        }
        // Whoever came since the last time must not be forgotten by a restart.
        remember(&store, &members, &mut remembered, &status).await;
    });
}

/// Writes down what is known of the members, if it changed.
async fn remember(
    store: &Store,
    members: &Members,
    remembered: &mut Vec<proto::MemberState>,
    status: &TaskStatus,
) {
    let _writing = members.writing().await;
    let (mut known, forget) = members.to_remember(store.now());
    if known == *remembered && forget.is_empty() {
        return;
    }
    std::mem::swap(remembered, &mut known);
    if let Err(error) = store.remember(remembered.clone(), forget).await {
        remembered.clear();
        status.set_error(&error.to_string());
    }
}

/// Returns whether it was done. Says once that it was not, and once that it is again.
async fn checkpoint(store: &Store, status: &TaskStatus, failed_before: bool) -> bool {
    status.set_state("writing the superblock");
    let store = store.clone();
    match spawn_blocking(move || store.checkpoint()).await {
        Ok(Ok(())) => {
            if failed_before {
                tracing::info!("the superblock is brought up to date again");
            }
            status.clear_error();
            true
        }
        Ok(Err(error)) => {
            if !failed_before {
                tracing::warn!(%error, "the superblock was not brought up to date; trying again");
            }
            status.set_error(&error.to_string());
            false
        }
        Err(_) => true,
    }
}

async fn record_gauges(store: &Store, roster: &Roster, status: &TaskStatus) {
    let (vector, totals) = (store.vector(), store.totals());
    metrics::gauge!(names::RECORDS).set(totals.records as f64);
    metrics::gauge!(names::TOMBSTONES).set(totals.tombstones as f64);
    metrics::gauge!(names::LOG_ENTRIES).set(totals.log_entries as f64);
    metrics::gauge!(names::LOG_BYTES).set(totals.log_bytes as f64);
    metrics::gauge!(names::REMOVALS).set(totals.removals as f64);
    metrics::gauge!(names::QUARANTINE_NOW).set(totals.quarantined as f64);
    metrics::gauge!(names::CONFLICTS_NOW).set(totals.conflicts as f64);
    metrics::gauge!(names::ALARMS).set(store.alarms().list().len() as f64);
    for (origin, clock) in store.floors().iter() {
        metrics::gauge!(names::FLOOR, "origin" => origin.to_string()).set(clock.0 as f64);
    }
    for (origin, clock) in vector.iter() {
        metrics::gauge!(names::CLOCK, "origin" => origin.to_string()).set(clock.0 as f64);
    }
    let mut operations: BTreeMap<String, u64> = BTreeMap::new();
    // Folded incarnations too, or it would fall when one is folded.
    for (origin, clock) in store.applied().iter() {
        *operations.entry(origin.node_id().to_string()).or_default() += clock.0;
    }
    for (node_id, operations) in operations {
        metrics::gauge!(names::SEED_CLOCK, "node_id" => node_id).set(operations as f64);
    }
    roster.record_gauges(&store.applied());
    match store.engine().await {
        Ok(engine) => record_engine(&engine),
        Err(error) => status.set_error(&error.to_string()),
    }
    match store.storage_use().await {
        Ok(used) => {
            metrics::gauge!(names::STORAGE_BYTES, "kind" => "sst").set(used.sst_bytes as f64);
            metrics::gauge!(names::STORAGE_BYTES, "kind" => "memtable").set(used.memtable_bytes as f64);
            metrics::gauge!(names::STORAGE_BYTES, "kind" => "block_cache").set(used.block_cache_bytes as f64);
            if let Some(disk) = used.disk {
                metrics::gauge!(names::DISK_FREE).set(disk.free_bytes as f64);
                metrics::gauge!(names::DISK_TOTAL).set(disk.total_bytes as f64);
            }
        }
        Err(error) => status.set_error(&error.to_string()),
    }
}

fn record_engine(engine: &Engine) {
    metrics::gauge!(names::ENGINE_WRITES_STOPPED).set(f64::from(u8::from(engine.is_stopped)));
    metrics::gauge!(names::ENGINE_DELAYED).set(engine.delayed_bytes_per_second as f64);
    metrics::gauge!(names::ENGINE_COMPACTIONS).set(engine.compactions_running as f64);
    metrics::gauge!(names::ENGINE_FLUSHES).set(engine.flushes_running as f64);
    metrics::gauge!(names::ENGINE_SNAPSHOTS).set(engine.snapshots as f64);
    metrics::counter!(names::ENGINE_ERRORS).absolute(engine.background_errors);
    if let Some(bytes) = engine.wal_bytes {
        metrics::gauge!(names::ENGINE_WAL).set(bytes as f64);
    }
    for family in &engine.families {
        let set = |name, value: u64| metrics::gauge!(name, "family" => family.name).set(value as f64);
        set(names::ENGINE_FILES, family.level0_files);
        set(names::ENGINE_MEMTABLES, family.immutable_memtables);
        set(names::ENGINE_PENDING, family.compaction_pending_bytes);
        set(names::ENGINE_LIVE, family.live_bytes);
    }
}

/// Makes the node ready once every peer has been caught up with or does not answer, at the latest
/// after [`limits::FIRST_CATCH_UP_TIMEOUT`]: a node must also come up alone.
pub(super) fn spawn_first_catch_up(
    tasks: &Tasks,
    store: &Store,
    roster: &Roster,
    readiness: &Arc<Readiness>,
    reporter: &HealthReporter,
) {
    let (store, roster, stop) = (store.clone(), roster.clone(), tasks.stopping().clone());
    let (readiness, reporter) = (Arc::clone(readiness), reporter.clone());
    tasks.spawn("first catch-up", |status| async move {
        set_serving(&reporter, false).await;
        status.set_state("catching up");
        let deadline = Instant::now() + limits::FIRST_CATCH_UP_TIMEOUT;
        let mut ticks = interval(limits::FIRST_CATCH_UP_POLL);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let (reports, applied) = (roster.reports(), store.applied());
            let settled = reports.iter().all(|peer| is_settled(peer, &applied));
            if settled || Instant::now() >= deadline {
                readiness.set_caught_up();
                set_serving(&reporter, true).await;
                // A peer that cannot be pulled from is not waited for.
                let caught_up_with = reports.iter().filter(|peer| has_all_of(peer, &applied)).count();
                tracing::info!(peers = reports.len(), caught_up_with, "the node is ready");
                break;
            }
        }
    });
}

fn is_settled(peer: &PeerReport, applied: &Vector) -> bool {
    peer.last_error.is_some() || has_all_of(peer, applied)
}

fn has_all_of(peer: &PeerReport, applied: &Vector) -> bool {
    peer.up && peer.heads.as_ref().is_some_and(|heads| heads.entries_above(applied) == 0)
}
