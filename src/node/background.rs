//! Starts the background tasks of a node that serves.

use std::sync::Arc;

use super::{
    application::{Application, Shared},
    backups, checkpoint,
};
use crate::{
    api::http::readiness::Readiness,
    config::validate::Config,
    maintenance::{scrub, sweep},
    membership::{discovery::Discovery, pings},
    replication::pull::{puller::Puller, pullers},
};
use brock_net::{
    dns::Resolver,
    join::Listed,
    task::{TaskName, Tasks},
};

/// Starts everything but discovery: pulling from peers, and keeping the storage in order.
pub(super) fn spawn(
    config: &Config,
    shared: &Shared,
    application: &Application,
    readiness: &Arc<Readiness>,
    tasks: &Tasks,
) {
    spawn_pulling(config, shared, tasks);
    spawn_maintenance(shared, tasks);
    checkpoint::spawn(tasks, shared);
    if let Some(backups) = application.backups.clone() {
        backups::spawn(tasks, backups, readiness);
    }
    let (reporter, stop) = (Arc::clone(&application.reporter), tasks.stopping().clone());
    tasks.spawn(TaskName::Sampler, |status| reporter.run(stop, status));
}

fn spawn_pulling(config: &Config, shared: &Shared, tasks: &Tasks) {
    let (roster, alarms, stop) = (shared.roster.clone(), shared.alarms.clone(), tasks.stopping().clone());
    tasks.spawn(TaskName::Pings, |status| pings::run(roster, alarms, stop, status));
    let (interval, batch_limit) = (config.replication_interval, config.replication_limit);
    let (store, roster, resyncs) = (shared.store.clone(), shared.roster.clone(), shared.resyncs.clone());
    let (verifier, fills) = (shared.verifier.clone(), shared.fills.clone());
    let (wall_clock, alarms, breaker) =
        (shared.wall_clock.clone(), shared.alarms.clone(), shared.breaker.clone());
    let orders = shared.orders.clone();
    let make = move |address: &_, stop| Puller {
        address: Clone::clone(address),
        roster: roster.clone(),
        store: store.clone(),
        verifier: verifier.clone(),
        resyncs: resyncs.clone(),
        fills: fills.clone(),
        orders: orders.clone(),
        wall_clock: wall_clock.clone(),
        alarms: alarms.clone(),
        differs: Arc::default(),
        breaker: breaker.clone(),
        interval,
        batch_limit: u32::try_from(batch_limit).unwrap_or(u32::MAX),
        stop,
    };
    let (roster, owner) = (shared.roster.clone(), tasks.clone());
    tasks.spawn(TaskName::Pullers, |status| pullers::run(roster, owner, make, status));
}

fn spawn_maintenance(shared: &Shared, tasks: &Tasks) {
    let stop = || tasks.stopping().clone();
    let (store, roster) = (shared.store.clone(), shared.roster.clone());
    let context = (shared.wall_clock.clone(), shared.alarms.clone());
    tasks.spawn(TaskName::Sweeper, |status| sweep::run(store, roster, context, stop(), status));
    let (compactor, roster) = (shared.compactor.clone(), shared.roster.clone());
    tasks.spawn(TaskName::Compactor, |status| compactor.run(roster, stop(), status));
    let (store, alarms) = (shared.store.clone(), shared.alarms.clone());
    tasks.spawn(TaskName::Scrubber, |status| scrub::run(store, alarms, stop(), status));
    let (members, wall_clock, stop) = (shared.roster.members().clone(), shared.wall_clock.clone(), stop());
    tasks.spawn(TaskName::Revocations, |status| async move {
        status.set_state("waiting");
        let mut changes = members.changes();
        while let Some(Ok(())) = stop.run_until_cancelled(changes.changed()).await {
            members.settle_revocations(wall_clock.now());
        }
    });
}

/// Starts a task for each of the `names` in `node.join` that resolves the name again and again.
pub(super) fn spawn_discovery(
    config: &Config,
    names: Vec<Listed>,
    resolver: &Resolver,
    shared: &Shared,
    tasks: &Tasks,
) {
    for listed in names {
        let name = TaskName::Discovery(listed.to_string());
        let discovery = Discovery {
            listed,
            resolver: resolver.clone(),
            interval: config.discovery_interval,
            roster: shared.roster.clone(),
            wall_clock: shared.wall_clock.clone(),
            stop: tasks.stopping().clone(),
        };
        tasks.spawn(name, |status| discovery.run(status));
    }
}
