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
    checkpoint::spawn(tasks, &shared.store, &shared.peers, &shared.members);
    if let Some(backups) = application.backups.clone() {
        backups::spawn(tasks, backups, readiness);
    }
    let (reporter, stop) = (Arc::clone(&application.reporter), tasks.stopping().clone());
    tasks.spawn(TaskName::Sampler, |status| reporter.run(stop, status));
}

fn spawn_pulling(config: &Config, shared: &Shared, tasks: &Tasks) {
    let (directory, peers, stop) = (shared.directory.clone(), shared.peers.clone(), tasks.stopping().clone());
    tasks.spawn(TaskName::Pings, |status| pings::run(directory, peers, stop, status));
    let (interval, batch_limit) = (config.replication_interval, config.replication_limit);
    let (store, peers, members) = (shared.store.clone(), shared.peers.clone(), shared.members.clone());
    let (resyncs, directory) = (shared.resyncs.clone(), shared.directory.clone());
    let make = move |address: &_, stop| Puller {
        address: Clone::clone(address),
        directory: directory.clone(),
        store: store.clone(),
        peers: peers.clone(),
        members: members.clone(),
        resyncs: resyncs.clone(),
        interval,
        batch_limit: u32::try_from(batch_limit).unwrap_or(u32::MAX),
        stop,
    };
    let (directory, owner) = (shared.directory.clone(), tasks.clone());
    tasks.spawn(TaskName::Pullers, |status| pullers::run(directory, owner, make, status));
}

fn spawn_maintenance(shared: &Shared, tasks: &Tasks) {
    let stop = || tasks.stopping().clone();
    let (store, peers) = (shared.store.clone(), shared.peers.clone());
    tasks.spawn(TaskName::Sweeper, |status| sweep::run(store, peers, stop(), status));
    let (compactor, peers) = (shared.compactor.clone(), shared.peers.clone());
    tasks.spawn(TaskName::Compactor, |status| compactor.run(peers, stop(), status));
    let store = shared.store.clone();
    tasks.spawn(TaskName::Scrubber, |status| scrub::run(store, stop(), status));
    let (store, members, stop) = (shared.store.clone(), shared.members.clone(), stop());
    tasks.spawn(TaskName::Revocations, |status| async move {
        status.set_state("waiting");
        let mut changes = members.changes();
        while let Some(Ok(())) = stop.run_until_cancelled(changes.changed()).await {
            members.settle_revocations(store.now());
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
            directory: shared.directory.clone(),
            store: shared.store.clone(),
            stop: tasks.stopping().clone(),
        };
        tasks.spawn(name, |status| discovery.run(status));
    }
}
