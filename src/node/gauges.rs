//! Records the gauges of the store and of the peers.

use std::collections::BTreeMap;

use crate::{
    membership::roster::Roster,
    replication::withheld::{self, Withheld},
    runtime::alarms::Alarms,
    store::{Engine, Store},
    transfer::proof::Verifier,
};
use brock_core::base::{limits, metrics as names};
use brock_net::task::TaskStatus;

/// Records all of them. What the storage engine does not answer becomes the task's error.
pub(super) async fn record(
    store: &Store,
    roster: &Roster,
    verifier: &Verifier,
    alarms: &Alarms,
    status: &TaskStatus,
) {
    let (vector, totals) = (store.vector(), store.totals());
    metrics::gauge!(names::RECORDS).set(totals.records as f64);
    metrics::gauge!(names::TOMBSTONES).set(totals.tombstones as f64);
    metrics::gauge!(names::LOG_ENTRIES).set(totals.log_entries as f64);
    metrics::gauge!(names::LOG_BYTES).set(totals.log_bytes as f64);
    metrics::gauge!(names::REMOVALS).set(totals.removals as f64);
    metrics::gauge!(names::QUARANTINE_NOW).set(totals.quarantined as f64);
    metrics::gauge!(names::CONFLICTS_NOW).set(totals.conflicts as f64);
    metrics::gauge!(names::UNPROVEN).set(totals.unproven as f64);
    metrics::gauge!(names::FROZEN_NOW).set(store.forks().len() as f64);
    let unbelieved = if verifier.is_strict() { verifier.unbelieved() } else { 0 };
    metrics::gauge!(names::UNBELIEVED).set(unbelieved as f64);
    metrics::gauge!(names::ALARMS).set(alarms.list().len() as f64);
    metrics::gauge!(names::DUPLICATE_IDS).set(roster.members().duplicates().list().len() as f64);
    for (origin, clock) in store.floors().iter() {
        metrics::gauge!(names::FLOOR, "origin" => origin.to_string()).set(clock.0 as f64);
    }
    for (origin, clock) in vector.iter() {
        metrics::gauge!(names::CLOCK, "origin" => origin.to_string()).set(clock.0 as f64);
    }
    let mut operations: BTreeMap<String, u64> = BTreeMap::new();
    // With folded incarnations: without them the gauge would fall at a fold.
    for (origin, clock) in store.applied().iter() {
        let sum = operations.entry(origin.node_id().to_string()).or_default();
        *sum = sum.saturating_add(clock.0);
    }
    for (node_id, operations) in operations {
        metrics::gauge!(names::SEED_CLOCK, "node_id" => node_id).set(operations as f64);
    }
    for head in store.newest_heads(limits::HEADS_SHOWN) {
        let at = head.at_unix_ms as f64 / 1000.0;
        metrics::gauge!(names::HEAD_TIME, "origin" => head.origin.to_string()).set(at);
    }
    let withheld = withheld::overdue(store, roster, false);
    metrics::gauge!(names::WITHHELD).set(withheld.iter().map(Withheld::operations).sum::<u64>() as f64);
    roster.record_gauges(&store.applied());
    match store.engine().await {
        Ok(engine) => record_engine(&engine),
        Err(error) => status.set_error(&error.to_string()),
    }
    metrics::gauge!(names::FILLS_UNCONFIRMED).set(store.unconfirmed_fills().len() as f64);
    match store.storage_use().await {
        Ok(used) => {
            metrics::gauge!(names::STORAGE_BYTES, "kind" => "sst").set(used.sst_bytes as f64);
            metrics::gauge!(names::STORAGE_BYTES, "kind" => "memtable").set(used.memtable_bytes as f64);
            metrics::gauge!(names::STORAGE_BYTES, "kind" => "block_cache").set(used.block_cache_bytes as f64);
            match used.disk {
                Some(disk) => {
                    metrics::gauge!(names::DISK_FREE).set(disk.free_bytes as f64);
                    metrics::gauge!(names::DISK_TOTAL).set(disk.total_bytes as f64);
                }
                None if used.in_ram => {}
                // What the gauges last said would otherwise be shown for ever.
                None => {
                    metrics::gauge!(names::DISK_FREE).set(f64::NAN);
                    metrics::gauge!(names::DISK_TOTAL).set(f64::NAN);
                }
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
