//! The background work of a node that serves.

use super::upkeep;
use crate::{
    config::validate::Config,
    maintenance::{compact::Compactor, scrub, sweep},
    membership::{discovery::Discovery, roster::Roster},
    replication::{
        pull::{puller::Puller, pullers},
        resync::Resyncs,
    },
    store::Store,
};
use brock_net::{dns::Resolver, join::Listed, task::Tasks};

/// What background work shares with the services.
#[derive(Clone, Copy)]
pub(super) struct Shared<'a> {
    pub(super) store: &'a Store,
    pub(super) resyncs: &'a Resyncs,
    pub(super) roster: &'a Roster,
}

/// Pulls, and keeps the storage in order.
pub(super) fn spawn(config: &Config, shared: Shared<'_>, compactor: Compactor, tasks: &Tasks) {
    let Shared { store, resyncs, roster } = shared;
    let (interval, batch_limit) = (config.replication_interval, config.replication_limit);
    let (its_store, its_resyncs, its_roster) = (store.clone(), resyncs.clone(), roster.clone());
    let make = move |address: &_, stop| Puller {
        address: Clone::clone(address),
        roster: its_roster.clone(),
        store: its_store.clone(),
        resyncs: its_resyncs.clone(),
        interval,
        batch_limit: u32::try_from(batch_limit).unwrap_or(u32::MAX),
        stop,
    };
    let (dialled, owner) = (roster.clone(), tasks.clone());
    tasks.spawn("pullers", |status| pullers::run(dialled, owner, make, status));
    let (swept, known, stop) = (store.clone(), roster.clone(), tasks.stopping().clone());
    tasks.spawn("sweeper", |status| sweep::run(swept, known, stop, status));
    let (known, stop) = (roster.clone(), tasks.stopping().clone());
    tasks.spawn("compactor", |status| compactor.run(known, stop, status));
    let (scrubbed, stop) = (store.clone(), tasks.stopping().clone());
    tasks.spawn("scrubber", |status| scrub::run(scrubbed, stop, status));
    upkeep::spawn(tasks, store, roster);
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
        let name = format!("discovery {listed}");
        let discovery = Discovery {
            listed,
            resolver: resolver.clone(),
            interval: config.discovery_interval,
            roster: shared.roster.clone(),
            store: shared.store.clone(),
            stop: tasks.stopping().clone(),
        };
        tasks.spawn(&name, |status| discovery.run(status));
    }
}
