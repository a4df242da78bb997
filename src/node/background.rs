//! The background work of a node that serves.

use super::upkeep;
use crate::{
    config::validate::Config,
    maintenance::{compact::Compactor, scrub, sweep},
    membership::{directory::Directory, discovery::Discovery, members::Members, peers::Peers},
    replication::{
        pull::{puller::Puller, pullers},
        resync::Resyncs,
    },
    store::Store,
};
use brock_net::{
    dns::Resolver,
    join::Listed,
    task::{TaskName, Tasks},
};

/// What background work shares with the services.
#[derive(Clone, Copy)]
pub(super) struct Shared<'a> {
    pub(super) store: &'a Store,
    pub(super) peers: &'a Peers,
    pub(super) members: &'a Members,
    pub(super) resyncs: &'a Resyncs,
    pub(super) directory: &'a Directory,
}

/// Pulls, and keeps the storage in order.
pub(super) fn spawn(config: &Config, shared: Shared<'_>, compactor: Compactor, tasks: &Tasks) {
    let Shared { store, peers, members, resyncs, directory } = shared;
    let (interval, batch_limit) = (config.replication_interval, config.replication_limit);
    let (its_store, its_peers, its_members) = (store.clone(), peers.clone(), members.clone());
    let (its_resyncs, its_directory) = (resyncs.clone(), directory.clone());
    let make = move |address: &_, stop| Puller {
        address: Clone::clone(address),
        directory: its_directory.clone(),
        store: its_store.clone(),
        peers: its_peers.clone(),
        members: its_members.clone(),
        resyncs: its_resyncs.clone(),
        interval,
        batch_limit: u32::try_from(batch_limit).unwrap_or(u32::MAX),
        stop,
    };
    let (dialled, owner) = (directory.clone(), tasks.clone());
    tasks.spawn(TaskName::Pullers, |status| pullers::run(dialled, owner, make, status));
    let (swept, known, stop) = (store.clone(), peers.clone(), tasks.stopping().clone());
    tasks.spawn(TaskName::Sweeper, |status| sweep::run(swept, known, stop, status));
    let (known, stop) = (peers.clone(), tasks.stopping().clone());
    tasks.spawn(TaskName::Compactor, |status| compactor.run(known, stop, status));
    let (scrubbed, stop) = (store.clone(), tasks.stopping().clone());
    tasks.spawn(TaskName::Scrubber, |status| scrub::run(scrubbed, stop, status));
    upkeep::spawn(tasks, store, peers, members);
}

/// Asks DNS again and again for the names in `node.join`.
pub(super) fn spawn_discovery(
    config: &Config,
    names: Vec<Listed>,
    resolver: &Resolver,
    shared: Shared<'_>,
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
