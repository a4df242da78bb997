//! From an open storage to a node that serves: services, then background work.

use std::sync::{Arc, Mutex, OnceLock, atomic::AtomicU64};

use tokio::sync::watch;
use tonic::transport::Server;

use super::{
    Node, StartError, backups, certificates,
    config::Config,
    console::{self, Console},
    http::Pages,
    prepare::Prepared,
    readiness::Readiness,
    sources::ShownSetting,
    telemetry::Telemetry,
    upkeep,
};
use crate::{
    audit::trail::Trail,
    backup::{manifest, signer},
    ground::{
        limits,
        task::{TaskStatus, Tasks},
    },
    proto::{
        self, admin_service_server::AdminServiceServer, key_value_service_server::KeyValueServiceServer,
        replication_service_server::ReplicationServiceServer,
    },
    replication::{
        ask::Asker,
        compact::Compactor,
        members::Members,
        peers::{Peers, Standing},
        pings,
        puller::Puller,
        remote::Peer,
        resync::Resyncs,
        scrub, sweep,
    },
    service::{
        admin::Admin, authorise::Authorise, cluster::Cluster, kv::KeyValue, lifecycle::Lifecycle,
        records::Records, replication::Replication, status::Reporter, tail::Tails, trace::Traces,
    },
    store::{OpenError, Store},
    tls::{
        accept::{self, Incoming},
        address::Address,
        identity::Identity,
    },
};

/// What a node has from its first moment to its last.
#[derive(Default)]
pub(super) struct Frame {
    pub(super) tasks: Tasks,
    /// The HTTP side, which outlives the drain so that it can say that the node is draining.
    pub(super) http_tasks: Tasks,
    pub(super) readiness: Arc<Readiness>,
    /// Set once there are a store and peers to compare.
    standing: Arc<OnceLock<Box<dyn Fn() -> Standing + Send + Sync>>>,
    /// Set with the services.
    console: console::Slot,
}

impl Frame {
    /// What the HTTP side shows, from before the storage opens.
    pub(super) fn pages(&self, prepared: &Prepared, telemetry: Option<Arc<Telemetry>>) -> Pages {
        let known = Arc::clone(&self.standing);
        // Nobody sees the figures of a node that is not open yet: it is not ready.
        let nothing = Standing { peers: 0, lag_entries: None, gap: None };
        let standing = Arc::new(move || known.get().map_or(nothing, |standing| standing()));
        Pages {
            readiness: Arc::clone(&self.readiness),
            standing,
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
    let Prepared { identity, join, listener, address, http_address, backup_target, .. } = prepared;
    let Frame { tasks, http_tasks, readiness, standing, console } = frame;
    let peers = Peers::default();
    join.iter().for_each(|address| peers.add(&address.to_string(), store.now()));
    let compared = (store.clone(), peers.clone());
    let _ = standing.set(Box::new(move || compared.1.standing(&compared.0.applied())));
    let members = load_members(&config, &store, &join).await?;
    let asked: Vec<Peer> = join.iter().map(|address| Peer::new(address, &identity.dialler())).collect();
    let asker = Asker::new(asked.clone());
    let (pinged, known, stop) = (asked.clone(), peers.clone(), tasks.stopping().clone());
    tasks.spawn("pings", |status| pings::run(pinged, known, stop, status));
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
        members: members.clone(),
        asker,
        peers: asked,
        compactor: compactor.clone(),
        resyncs: resyncs.clone(),
    });
    let (health, health_service) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let is_ready = {
        let readiness = Arc::clone(&readiness);
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
        peers: peers.clone(),
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
    let kv = KeyValueServiceServer::new(KeyValue { records, stop: tasks.stopping().clone() });
    let replication = ReplicationServiceServer::new(Replication::new(
        store.clone(),
        members.clone(),
        traces,
        reporter,
        tasks.clone(),
    ));
    let router = server(trail)
        .add_service(health_service)
        .add_service(reflection)
        .add_service(kv.max_decoding_message_size(limits::MESSAGE_MAX_BYTES))
        .add_service(replication.max_decoding_message_size(limits::MESSAGE_MAX_BYTES))
        .add_service(AdminServiceServer::new(admin));
    let incoming = accept::accept(listener, &identity, &tasks);
    let server_failed = serve(&tasks, router, incoming);
    let shared = Shared { store: &store, peers: &peers, members: &members, resyncs: &resyncs };
    if let Some(made) = backups {
        backups::spawn(tasks, made, readiness);
    }
    spawn_background(&config, &join, &identity, shared, compactor, &tasks);
    upkeep::spawn_first_catch_up(&tasks, &store, &peers, &readiness, &health);
    tracing::info!(
        node_id = %config.node_id, origin = %store.origin(), %address,
        http_address = http_address.map(tracing::field::display), peers = join.len(), records = store.records(),
        "the node is up"
    );
    Ok(Node {
        store: store.clone(),
        tasks: tasks.clone(),
        http_tasks: http_tasks.clone(),
        readiness: Arc::clone(readiness),
        health,
        address,
        http_address,
        shutdown_timeout: config.shutdown_timeout,
        server_failed,
    })
}

fn server(trail: Trail) -> Server<tower::layer::util::Stack<Authorise, tower::layer::util::Identity>> {
    Server::builder()
        .http2_keepalive_interval(Some(limits::KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(limits::KEEPALIVE_TIMEOUT))
        .initial_stream_window_size(limits::STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(limits::STREAMS_PER_CONNECTION)
        .layer(Authorise::new(trail))
}

type Router =
    tonic::transport::server::Router<tower::layer::util::Stack<Authorise, tower::layer::util::Identity>>;

fn serve(tasks: &Tasks, router: Router, incoming: Incoming) -> watch::Receiver<Option<String>> {
    let (failed, watcher) = watch::channel(None);
    let stop = tasks.stopping().clone();
    tasks.spawn("grpc", |status: TaskStatus| async move {
        status.set_state("serving");
        let outcome = router.serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned()).await;
        if let Err(error) = &outcome {
            status.set_error(&error.to_string());
        }
        if !stop.is_cancelled() {
            let reason = outcome.err().map_or_else(|| "it ended".to_owned(), |error| error.to_string());
            failed.send_replace(Some(format!("gRPC is not served any more: {reason}")));
        }
    });
    watcher
}

/// What was remembered of the members, and who is in `node.join`.
async fn load_members(config: &Config, store: &Store, join: &[Address]) -> Result<Members, StartError> {
    let damaged = |source| {
        let path = config.path.clone().unwrap_or_default();
        StartError::Store(OpenError::Database { path, reason: source })
    };
    let remembered = store.members().await.map_err(|error| damaged(error.to_string()))?;
    let join: Vec<String> = join.iter().map(ToString::to_string).collect();
    Members::new(config.node_id.clone(), &join, remembered, config.member_retention)
        .map_err(|error| damaged(error.to_string()))
}

/// What background work shares with the services.
struct Shared<'a> {
    store: &'a Store,
    peers: &'a Peers,
    members: &'a Members,
    resyncs: &'a Resyncs,
}

fn spawn_background(
    config: &Config,
    join: &[Address],
    identity: &Identity,
    shared: Shared<'_>,
    compactor: Compactor,
    tasks: &Tasks,
) {
    let Shared { store, peers, members, resyncs } = shared;
    for address in join {
        let puller = Puller {
            address: address.clone(),
            dialler: identity.dialler(),
            store: store.clone(),
            peers: peers.clone(),
            members: members.clone(),
            resyncs: resyncs.clone(),
            interval: config.replication_interval,
            batch_limit: u32::try_from(config.replication_limit).unwrap_or(u32::MAX),
            stop: tasks.stopping().clone(),
        };
        tasks.spawn(&format!("puller {address}"), |status| puller.run(status));
    }
    let (swept, known, stop) = (store.clone(), peers.clone(), tasks.stopping().clone());
    tasks.spawn("sweeper", |status| sweep::run(swept, known, stop, status));
    let (known, stop) = (peers.clone(), tasks.stopping().clone());
    tasks.spawn("compactor", |status| compactor.run(known, stop, status));
    let (scrubbed, stop) = (store.clone(), tasks.stopping().clone());
    tasks.spawn("scrubber", |status| scrub::run(scrubbed, stop, status));
    upkeep::spawn(tasks, store, peers, members);
    certificates::spawn(tasks, identity, &config.node_id);
}
