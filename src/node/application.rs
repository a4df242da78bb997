//! Builds the application layer on an open store.

use std::{
    sync::{Arc, Mutex},
    time::Instant,
};

use super::{backups, error::StartError, frame::Frame, prepare::Prepared, storage};
use crate::{
    api::http::console::Console,
    app::{cluster::Cluster, operations::Operations, records::Records, status::Reporter, trace::Traces},
    backup::{job::Backups, manifest, objects::Target, signer},
    config::{sources::ShownSetting, validate::Config},
    maintenance::compact::Compactor,
    membership::{duplicates::Place, roster::Roster},
    replication::{breaker::Breaker, fills::Fills, peek::Asker, resync::Resyncs},
    runtime::{alarms::Alarms, descriptors::Descriptors},
    store::Store,
    transfer::{orders::Orders, proof::Verifier},
};
use brock_core::{
    base::{id::ClusterId, time::WallClock},
    proto::show_configuration_response::Setting,
};
use brock_net::tls::credentials::Identity;

/// What the application and the background work share.
pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) roster: Roster,
    pub(super) resyncs: Resyncs,
    pub(super) fills: Fills,
    pub(super) verifier: Verifier,
    pub(super) orders: Orders,
    pub(super) breaker: Breaker,
    pub(super) compactor: Compactor,
    pub(super) wall_clock: WallClock,
    pub(super) alarms: Alarms,
    /// How many peers `node.join` names by address.
    pub(super) fixed_peers: usize,
}

impl Shared {
    pub(super) async fn new(
        config: &Config,
        prepared: &Prepared,
        frame: &Frame,
        store: &Store,
    ) -> Result<Self, StartError> {
        let Frame { wall_clock, alarms, .. } = frame;
        let Prepared { fixed, listed, identity, resolver, .. } = prepared;
        let members = storage::load_members(config, store, fixed, !listed.is_empty()).await?;
        // First of all: whatever is seen later under this id is another process.
        members.duplicates().saw(&store.origin(), Instant::now(), Place::Here);
        let roster = Roster::new(
            fixed,
            listed.iter().map(ToString::to_string),
            identity.dialler().with_resolver(resolver.clone()),
            members.clone(),
            wall_clock.now(),
        );
        let context = (wall_clock.clone(), alarms.clone());
        let cluster = identity.peer().trust_domain.as_deref().map(ClusterId::of);
        let verifier = identity.statement_verifier();
        let orders = Orders::new(config.trust, cluster, verifier, store.clone(), context.clone());
        orders.load_closings().await.map_err(|error| storage::damaged(config, error))?;
        let breaker = Breaker::new(config.destruction_limit, (store.clone(), roster.clone()), context).await;
        Ok(Self {
            breaker: breaker.map_err(|error| storage::damaged(config, error))?,
            compactor: Compactor::new(store.clone(), members, config.compact, wall_clock.clone()),
            store: store.clone(),
            roster,
            fills: Fills::new(alarms.clone()),
            resyncs: Resyncs::new(wall_clock.clone(), config.compact.tombstone_grace.is_some()),
            verifier: Verifier::new(store.clone(), config.trust, Some(orders.clone())),
            orders,
            wall_clock: wall_clock.clone(),
            alarms: alarms.clone(),
            fixed_peers: fixed.len(),
        })
    }
}

/// What the protocols call.
pub(super) struct Application {
    pub(super) records: Arc<Records>,
    pub(super) operations: Arc<Operations>,
    pub(super) traces: Traces,
    pub(super) backups: Option<Backups>,
    pub(super) reporter: Arc<Reporter>,
    pub(super) cluster: Cluster,
    /// The configuration, to be shown.
    pub(super) settings: Arc<[Setting]>,
}

impl Application {
    pub(super) async fn new(
        config: &Config,
        shared: &Shared,
        frame: &Frame,
        identity: &Identity,
        descriptors: Descriptors,
        backup_target: Option<Target>,
    ) -> Result<Self, StartError> {
        let Shared { store, roster, wall_clock, alarms, .. } = shared;
        let asker = Asker::new(roster.clone(), shared.verifier.clone());
        let (members, limit) = (roster.members().clone(), config.payload_limit_bytes);
        let records =
            Arc::new(Records::new(store.clone(), asker.clone(), members, limit, wall_clock.clone()));
        let operations = Operations::new(
            store.clone(),
            roster.clone(),
            asker,
            (shared.compactor.clone(), shared.resyncs.clone()),
            (shared.verifier.clone(), shared.orders.clone()),
            (wall_clock.clone(), alarms.clone()),
            shared.breaker.clone(),
        );
        let signer = Arc::new(signer::load(store).await?);
        let backup_public_key = manifest::public_key(&signer);
        let backups = backups::open(config, backup_target, shared, signer).await?;
        let readiness = Arc::clone(&frame.readiness);
        let reporter = Arc::new(Reporter {
            store: store.clone(),
            records: Arc::clone(&records),
            resyncs: shared.resyncs.clone(),
            trust: config.trust,
            verifier: shared.verifier.clone(),
            breaker: shared.breaker.clone(),
            backups: backups.clone(),
            backup_public_key,
            alarms: alarms.clone(),
            roster: roster.clone(),
            tasks: frame.tasks.clone(),
            readiness: Arc::new(move || readiness.is_ready()),
            identity: identity.clone(),
            descriptors,
            started: wall_clock.now(),
            wall_clock: wall_clock.clone(),
            history: Mutex::default(),
        });
        Ok(Self {
            cluster: Cluster::new(store.clone(), roster.clone(), Arc::clone(&reporter), wall_clock.clone()),
            traces: Traces::new(store.clone(), roster.clone(), wall_clock.clone()),
            settings: config.settings.iter().map(ShownSetting::to_proto).collect(),
            records,
            operations: Arc::new(operations),
            backups,
            reporter,
        })
    }

    pub(super) fn console(&self) -> Console {
        Console {
            cluster: self.cluster.clone(),
            traces: self.traces.clone(),
            settings: Arc::clone(&self.settings),
        }
    }
}
