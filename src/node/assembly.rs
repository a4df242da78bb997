//! From an open storage to a node that serves: services, then background work.

use std::sync::{Arc, Mutex, OnceLock, atomic::AtomicU64};

use tonic::{service::Routes, transport::Server};

use super::{
    Node, StartError,
    background::{self, Shared},
    backups,
    prepare::{self, Prepared},
    reload, serving, upkeep,
};
use crate::{
    api::{
        grpc::{
            admin::Admin, authorise::Authorise, kv::KeyValue, recognition::Recognition,
            replication::Replication,
        },
        http::{
            console::{self, Console},
            readiness::Readiness,
            server::Pages,
        },
    },
    app::{
        cluster::Cluster, operations::Lifecycle, records::Records, status::Reporter, tail::Tails,
        trace::Traces,
    },
    audit::log::Trail,
    backup::{manifest, signer},
    config::{sources::ShownSetting, validate::Config},
    maintenance::compact::Compactor,
    membership::{
        members::Members,
        peer::PeerKey,
        pings,
        roster::{Roster, SyncStatus},
    },
    replication::{peek::Asker, resync::Resyncs},
    store::{OpenError, Store},
    telemetry::logs::Telemetry,
};
use brock_core::{
    base::{id::Instance, limits},
    proto::{
        self, admin_service_server::AdminServiceServer, key_value_service_server::KeyValueServiceServer,
        recognition_service_server::RecognitionServiceServer,
        replication_service_server::ReplicationServiceServer,
    },
};
use brock_net::{address::Address, task::Tasks, tls::accept};

/// What a node has from its first moment to its last.
pub(super) struct Frame {
    pub(super) tasks: Tasks,
    /// The HTTP side, which outlives the drain so that it can say that the node is draining.
    pub(super) http_tasks: Tasks,
    pub(super) instance: Instance,
    pub(super) readiness: Arc<Readiness>,
    /// Set once there are a store and peers to compare.
    sync_status: Arc<OnceLock<Box<dyn Fn() -> SyncStatus + Send + Sync>>>,
    /// Set with the services.
    console: console::Slot,
}

impl Frame {
    pub(super) fn new() -> Self {
        Self {
            tasks: Tasks::default(),
            http_tasks: Tasks::default(),
            instance: Instance::random(),
            readiness: Arc::default(),
            sync_status: Arc::default(),
            console: Arc::default(),
        }
    }

    /// What the HTTP side shows, from before the storage opens.
    pub(super) fn pages(&self, prepared: &Prepared, telemetry: Option<Arc<Telemetry>>) -> Pages {
        let known = Arc::clone(&self.sync_status);
        // Not shown before the node is open: until then it is not ready.
        let nothing = SyncStatus { peers: 0, lag_entries: None, gap: None };
        let sync_status = Arc::new(move || known.get().map_or(nothing, |sync_status| sync_status()));
        Pages {
            readiness: Arc::clone(&self.readiness),
            sync_status,
            telemetry,
            console: Arc::clone(&self.console),
            gate: Arc::clone(&prepared.console_gate),
            tls: prepared.web_tls.clone(),
        }
    }

    /// Ends everything, for a node that does not come up.
    pub(super) async fn stop(&self) {
        self.tasks.stop(limits::HTTP_STOP_TIMEOUT).await;
        self.http_tasks.stop(limits::HTTP_STOP_TIMEOUT).await;
    }
}

/// Builds the services on an open store, serves them, and starts the background work. On failure the
/// caller stops the frame and closes the store.
pub(super) async fn assemble(
    config: &Config,
    prepared: Prepared,
    frame: &Frame,
    store: &Store,
) -> Result<Node, StartError> {
    let Prepared { identity, join, resolver, listener, address, http_address, backup_target, .. } = prepared;
    let Frame { tasks, http_tasks, instance, readiness, sync_status, console } = frame;
    let (fixed, listed) = prepare::split(join);
    let members = load_members(config, store, &fixed, !listed.is_empty()).await?;
    let roster = Roster::new(
        &fixed,
        listed.iter().map(ToString::to_string),
        identity.dialler().with_resolver(resolver.clone()),
        members.clone(),
        store.now(),
    );
    let compared = (store.clone(), roster.clone());
    let _ = sync_status.set(Box::new(move || compared.1.sync_status(&compared.0.applied())));
    let asker = Asker::new(roster.clone());
    let (pinged, stop) = (roster.clone(), tasks.stopping().clone());
    tasks.spawn("pings", |status| pings::run(pinged, stop, status));
    let (traces, resyncs) = (Traces::new(store.clone()), Resyncs::default());
    let compactor = Compactor::new(store.clone(), members.clone(), config.compact);
    let records = Arc::new(Records {
        store: store.clone(),
        asker: asker.clone(),
        members: members.clone(),
        payload_limit_bytes: config.payload_limit_bytes,
        lookups: AtomicU64::new(0),
    });
    let lifecycle = Arc::new(Lifecycle {
        store: store.clone(),
        asker,
        roster: roster.clone(),
        compactor: compactor.clone(),
        resyncs: resyncs.clone(),
    });
    let (health, health_service) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let is_ready = {
        let readiness = Arc::clone(readiness);
        Arc::new(move || readiness.is_ready())
    };
    let signer = Arc::new(signer::load(store).await?);
    let backup_public_key = manifest::public_key(&signer);
    let backups = backups::open(config, backup_target, store, signer).await?;
    let reporter = Arc::new(Reporter {
        records: records.clone(),
        resyncs: resyncs.clone(),
        backups: backups.clone(),
        backup_public_key,
        roster: roster.clone(),
        tasks: tasks.clone(),
        readiness: is_ready,
        identity: identity.clone(),
        started: store.now(),
        history: Mutex::default(),
    });
    let cluster = Cluster::new(Arc::clone(&reporter), Arc::clone(&lifecycle));
    let settings: Arc<[_]> = config.settings.iter().map(ShownSetting::to_proto).collect();
    let _ = console.set(Console {
        cluster: cluster.clone(),
        traces: traces.clone(),
        lifecycle: Arc::clone(&lifecycle),
        settings: Arc::clone(&settings),
    });
    let trail = upkeep::open_trail(config, store, tasks).await;
    let admin = Admin {
        records: records.clone(),
        lifecycle,
        traces: traces.clone(),
        tails: Tails::new(store.clone(), tasks.clone()),
        reporter: Arc::clone(&reporter),
        cluster,
        settings,
        backups: backups.clone(),
        trail: trail.clone(),
        tasks: tasks.clone(),
    };
    let (sampled, stop) = (Arc::clone(&reporter), tasks.stopping().clone());
    tasks.spawn("sampler", |status| sampled.run(stop, status));
    let kv = KeyValueServiceServer::new(KeyValue { records, tasks: tasks.clone() });
    let replication = ReplicationServiceServer::new(Replication::new(
        store.clone(),
        members.clone(),
        traces,
        reporter,
        tasks.clone(),
    ));
    let recognition = RecognitionServiceServer::new(Recognition {
        node_id: config.node_id.clone(),
        instance: *instance,
        memory: Some((store.clone(), members.clone())),
    });
    let routes = Routes::new(health_service)
        .add_service(reflection)
        .add_service(kv.max_decoding_message_size(limits::MESSAGE_MAX_BYTES))
        .add_service(recognition)
        .add_service(replication.max_decoding_message_size(limits::MESSAGE_MAX_BYTES))
        .add_service(AdminServiceServer::new(admin));
    let incoming = accept::accept(listener, &identity, tasks);
    let server_failed = serving::spawn(tasks, server(trail), routes, incoming, identity.exchanges());
    if let Some(made) = backups {
        backups::spawn(tasks, made, readiness);
    }
    let shared = Shared { store, resyncs: &resyncs, roster: &roster };
    background::spawn(config, shared, compactor, tasks);
    background::spawn_discovery(config, listed, &resolver, shared, tasks);
    let look_at_certificates = reload::spawn(tasks, &identity, &config.node_id);
    upkeep::spawn_first_catch_up(tasks, store, &roster, readiness, &health);
    tracing::info!(
        node_id = %config.node_id, origin = %store.origin(), %address,
        http_address = http_address.map(tracing::field::display), peers = fixed.len(), records = store.records(),
        "the node is up"
    );
    Ok(Node {
        store: store.clone(),
        tasks: tasks.clone(),
        http_tasks: http_tasks.clone(),
        readiness: Arc::clone(readiness),
        roster,
        look_at_certificates,
        health,
        address,
        http_address,
        shutdown_timeout: config.shutdown_timeout,
        server_failed,
    })
}

/// A server that lets nobody in who may not.
pub(super) type GrpcServer = Server<tower::layer::util::Stack<Authorise, tower::layer::util::Identity>>;

/// What every gRPC server of a node has in common.
pub(super) fn server(trail: Trail) -> GrpcServer {
    Server::builder()
        .http2_keepalive_interval(Some(limits::KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(limits::KEEPALIVE_TIMEOUT))
        .initial_stream_window_size(limits::STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(limits::STREAMS_PER_CONNECTION)
        .layer(Authorise::new(trail))
}

/// What was remembered of the members, and who is in `node.join`.
async fn load_members(
    config: &Config,
    store: &Store,
    fixed: &[Address],
    discovers: bool,
) -> Result<Members, StartError> {
    let damaged = |source| {
        let path = config.path.clone().unwrap_or_default();
        StartError::Store(OpenError::Database { path, reason: source })
    };
    let remembered = store.members().await.map_err(|error| damaged(error.to_string()))?;
    let fixed: Vec<PeerKey> = fixed.iter().map(PeerKey::from).collect();
    Members::new(config.node_id.clone(), (&fixed, discovers), remembered, config.member_retention)
        .map_err(|error| damaged(error.to_string()))
}
