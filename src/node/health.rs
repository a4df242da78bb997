//! gRPC health, when a started node becomes ready, and whether its disk can still be written.

use std::sync::Arc;

use tokio::time::{Instant, MissedTickBehavior, interval};
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{
    api::http::readiness::Readiness,
    membership::{members::Members, roster::Roster, status::PeerReport},
    replication::fills::Fills,
    store::{Health, Store},
};
use brock_core::base::limits;
use brock_net::task::{TaskName, Tasks};

/// The services that report their health; the empty name means the whole node.
const SERVICES: [&str; 4] =
    ["", "brock.v1.KeyValueService", "brock.v1.ReplicationService", "brock.v1.AdminService"];

/// Sets the health of all services.
pub(super) async fn set_serving(reporter: &HealthReporter, serving: bool) {
    let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
    for service in SERVICES {
        reporter.set_service_status(service, status).await;
    }
}

/// Makes the node ready once it has caught up with every peer that answers, at the latest after
/// [`limits::FIRST_CATCH_UP_TIMEOUT`]: a node must also become ready alone.
pub(super) fn spawn_first_catch_up(
    tasks: &Tasks,
    store: &Store,
    roster: &Roster,
    readiness: &Arc<Readiness>,
    reporter: &HealthReporter,
) {
    let (store, roster, stop) = (store.clone(), roster.clone(), tasks.stopping().clone());
    let (readiness, reporter) = (Arc::clone(readiness), reporter.clone());
    tasks.spawn(TaskName::FirstCatchUp, |status| async move {
        set_serving(&reporter, false).await;
        status.set_state("catching up");
        let deadline = Instant::now() + limits::FIRST_CATCH_UP_TIMEOUT;
        let mut ticks = interval(limits::FIRST_CATCH_UP_POLL);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let reports = roster.compared(&store.applied());
            let settled = reports.iter().all(is_settled);
            if settled || Instant::now() >= deadline {
                readiness.set_caught_up();
                set_serving(&reporter, readiness.is_ready()).await;
                let caught_up_with = reports.iter().filter(|peer| has_all_of(peer)).count();
                match readiness.reasons().first() {
                    None => tracing::info!(peers = reports.len(), caught_up_with, "the node is ready"),
                    Some(reason) => {
                        tracing::warn!(
                            peers = reports.len(),
                            caught_up_with,
                            reason,
                            "the node is not ready"
                        );
                    }
                }
                break;
            }
        }
    });
}

/// Makes the node unready while no member has filled it whose records are proven here.
pub(super) fn spawn_fill_watch(
    tasks: &Tasks,
    (fills, members): (&Fills, &Members),
    readiness: &Arc<Readiness>,
    reporter: &HealthReporter,
) {
    let (mut incomplete, stop) = (fills.incomplete(), tasks.stopping().clone());
    // The pullers may have begun before this.
    incomplete.mark_changed();
    let (fills, members, mut changes) = (fills.clone(), members.clone(), members.changes());
    let (readiness, reporter) = (Arc::clone(readiness), reporter.clone());
    tasks.spawn(TaskName::Fills, |status| async move {
        status.set_state("watching");
        let mut was_incomplete = false;
        loop {
            let news = async {
                tokio::select! {
                    changed = incomplete.changed() => changed,
                    changed = changes.changed() => changed,
                }
            };
            let Some(Ok(())) = stop.run_until_cancelled(news).await else { break };
            fills.retain(|donor| members.remembers(donor) == Some(false));
            let is_incomplete = *incomplete.borrow_and_update();
            readiness.set_incomplete(is_incomplete);
            set_serving(&reporter, readiness.is_ready()).await;
            // Before that, the first catch-up says it.
            if std::mem::replace(&mut was_incomplete, is_incomplete) != is_incomplete
                && readiness.is_caught_up()
            {
                match readiness.reasons().first() {
                    None => tracing::info!("the node is ready"),
                    Some(reason) => tracing::warn!(reason, "the node is not ready"),
                }
            }
        }
    });
}

/// Checks the disk also while nothing is written: that it has room, and that the directory of the store is in its
/// place and may be written.
pub(super) fn spawn_disk_watch(
    tasks: &Tasks,
    store: &Store,
    readiness: &Arc<Readiness>,
    reporter: &HealthReporter,
) {
    let (store, stop) = (store.clone(), tasks.stopping().clone());
    let (readiness, reporter) = (Arc::clone(readiness), reporter.clone());
    tasks.spawn(TaskName::Disk, |status| async move {
        status.set_state("watching");
        let mut ticks = interval(limits::DISK_WATCH_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut was_read_only = false;
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            // What it finds is the store's health.
            let _ = stop.run_until_cancelled(store.check_disk()).await;
            let is_read_only = matches!(&*store.health().borrow(), Health::ReadOnly(_));
            if std::mem::replace(&mut was_read_only, is_read_only) != is_read_only {
                readiness.set_read_only(is_read_only);
                set_serving(&reporter, readiness.is_ready()).await;
            }
        }
    });
}

/// A peer that the node cannot pull from does not hold it up.
fn is_settled(peer: &PeerReport) -> bool {
    peer.last_error.is_some() || has_all_of(peer)
}

fn has_all_of(peer: &PeerReport) -> bool {
    peer.up && peer.lag == Some(0)
}
