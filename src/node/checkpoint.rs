//! Writes the superblock and the members at an interval, and records the gauges.

use tokio::{
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};

use super::{application::Shared, gauges};
use crate::{membership::members::Members, store::Store};
use brock_core::{
    base::{limits, metrics as names},
    domain::record::UnixSeconds,
    proto,
};
use brock_net::task::{TaskName, TaskStatus, Tasks};

/// Starts the task.
pub(super) fn spawn(tasks: &Tasks, shared: &Shared) {
    let (store, roster, members) =
        (shared.store.clone(), shared.roster.clone(), shared.roster.members().clone());
    let (wall_clock, alarms) = (shared.wall_clock.clone(), shared.alarms.clone());
    let verifier = shared.verifier.clone();
    let stop = tasks.stopping().clone();
    tasks.spawn(TaskName::Checkpoint, |status| async move {
        let mut ticks = interval(limits::SUPERBLOCK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut written = store.vector();
        let mut remembered = Vec::new();
        let mut has_failed = false;
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            // A node may no longer be a member.
            members.settle_revocations(wall_clock.now());
            members.revocations().record_gauges();
            metrics::gauge!(names::MEMBERS).set(members.count(wall_clock.now()) as f64);
            gauges::record(&store, &roster, &verifier, &alarms, &status).await;
            remember(&store, (&members, wall_clock.now()), &mut remembered, &status).await;
            let vector = store.vector();
            if vector != written {
                has_failed = !checkpoint(&store, &status, has_failed).await;
                written = vector;
            }
            status.set_state("waiting");
        }
        // The next start must know members that came since the last time.
        remember(&store, (&members, wall_clock.now()), &mut remembered, &status).await;
    });
}

/// Writes the state of the members to the store, if it changed.
async fn remember(
    store: &Store,
    (members, now): (&Members, UnixSeconds),
    remembered: &mut Vec<proto::MemberState>,
    status: &TaskStatus,
) {
    let _writing = members.writing().await;
    let (mut known, forget) = members.to_remember(now);
    if known == *remembered && forget.is_empty() {
        return;
    }
    std::mem::swap(remembered, &mut known);
    if let Err(error) = store.remember(remembered.clone(), forget).await {
        remembered.clear();
        status.set_error(&error.to_string());
    }
}

/// Returns whether it wrote the superblock. Logs once that it fails, and once that it works again.
async fn checkpoint(store: &Store, status: &TaskStatus, failed_before: bool) -> bool {
    status.set_state("writing the superblock");
    let store = store.clone();
    match spawn_blocking(move || store.checkpoint()).await {
        Ok(Ok(())) => {
            if failed_before {
                tracing::info!("writing the superblock works again");
            }
            status.clear_error();
            true
        }
        Ok(Err(error)) => {
            if !failed_before {
                tracing::warn!(%error, "cannot write the superblock; trying again");
            }
            status.set_error(&error.to_string());
            false
        }
        Err(_) => true,
    }
}
