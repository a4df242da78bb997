//! Builds the application layer on an open store.

use std::sync::{Arc, Mutex};

use super::{backups, error::StartError, frame::Frame, prepare::Prepared, storage};
use crate::{
    api::http::console::Console,
    app::{cluster::Cluster, operations::Operations, records::Records, status::Reporter, trace::Traces},
    backup::{job::Backups, manifest, objects::Target, signer},
    config::{sources::ShownSetting, validate::Config},
    maintenance::compact::Compactor,
    membership::roster::Roster,
    replication::{peek::Asker, resync::Resyncs},
    store::Store,
};
use brock_core::proto::show_configuration_response::Setting;
use brock_net::tls::credentials::Identity;

/// What the application and the background work share.
pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) roster: Roster,
    pub(super) resyncs: Resyncs,
    pub(super) compactor: Compactor,
    /// How many peers `node.join` names by address.
    pub(super) fixed_peers: usize,
}

impl Shared {
    pub(super) async fn new(config: &Config, prepared: &Prepared, store: &Store) -> Result<Self, StartError> {
        let Prepared { fixed, listed, identity, resolver, .. } = prepared;
        let members = storage::load_members(config, store, fixed, !listed.is_empty()).await?;
        let roster = Roster::new(
            fixed,
            listed.iter().map(ToString::to_string),
            identity.dialler().with_resolver(resolver.clone()),
            members.clone(),
            store.now(),
        );
        Ok(Self {
            compactor: Compactor::new(store.clone(), members, config.compact),
            store: store.clone(),
            roster,
            resyncs: Resyncs::default(),
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
        backup_target: Option<Target>,
    ) -> Result<Self, StartError> {
        let store = &shared.store;
        let asker = Asker::new(shared.roster.clone());
        let roster = &shared.roster;
        let (members, limit) = (roster.members().clone(), config.payload_limit_bytes);
        let records = Arc::new(Records::new(store.clone(), asker.clone(), members, limit));
        let (compactor, resyncs) = (shared.compactor.clone(), shared.resyncs.clone());
        let operations = Operations::new(store.clone(), roster.clone(), asker, compactor, resyncs);
        let signer = Arc::new(signer::load(store).await?);
        let backup_public_key = manifest::public_key(&signer);
        let backups = backups::open(config, backup_target, store, signer).await?;
        let readiness = Arc::clone(&frame.readiness);
        let reporter = Arc::new(Reporter {
            store: store.clone(),
            records: Arc::clone(&records),
            resyncs: shared.resyncs.clone(),
            backups: backups.clone(),
            backup_public_key,
            roster: roster.clone(),
            tasks: frame.tasks.clone(),
            readiness: Arc::new(move || readiness.is_ready()),
            identity: identity.clone(),
            started: store.now(),
            history: Mutex::default(),
        });
        Ok(Self {
            cluster: Cluster::new(store.clone(), roster.clone(), Arc::clone(&reporter)),
            traces: Traces::new(store.clone(), roster.clone()),
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
