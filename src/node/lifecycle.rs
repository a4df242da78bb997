//! The node: one function boots it, one shuts it down.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc};

use aws_lc_rs::signature::Ed25519KeyPair;
use tokio::{net::TcpListener, sync::watch, task::spawn_blocking};
use tonic::transport::Server;

use super::{
    certificates,
    config::Config,
    http::{self, Pages},
    readiness::Readiness,
    telemetry::Telemetry,
    upkeep,
};
use crate::{
    backup::{
        job::{Backups, Plan},
        manifest,
        objects::{ObjectError, Target},
        signer::{self, SignerError},
    },
    ground::{
        id::{Incarnations, NodeId},
        limits,
        task::{TaskStatus, Tasks},
        time::WallClock,
    },
    proto::{
        self, admin_service_server::AdminServiceServer, key_value_service_server::KeyValueServiceServer,
        replication_service_server::ReplicationServiceServer,
    },
    replication::{
        ask::Asker, compact::Compactor, members::Members, peers::Peers, puller::Puller, remote::Peer,
        resync::Resyncs, scrub, sweep,
    },
    service::{
        admin::Admin, authorise::Authorise, kv::KeyValue, lifecycle::Lifecycle, records::Records,
        replication::Replication, trace::Traces,
    },
    store::{self, Health, OpenError, Store},
    tls::{
        TlsError,
        accept::{self, Incoming},
        address::{Address, AddressError},
        identity::Identity,
        roles::RolePolicy,
    },
};

/// Why a node did not start. Nothing is left running.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The certificates are missing or wrong.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The certificate is another node's.
    #[error(
        "the certificate in {} is that of node {certified}, but node.id is {configured}: make one with `brock cert \
         node --node-id {configured} …`, or set node.id to {certified}", certs_dir.display()
    )]
    CertificateOfAnother {
        /// Where it lies.
        certs_dir: PathBuf,
        /// Whose it is.
        certified: NodeId,
        /// Who wanted to use it.
        configured: NodeId,
    },
    /// An address in `node.join` is not one.
    #[error("node.join: {address}: {source}")]
    Join {
        /// The address.
        address: String,
        /// What is wrong with it.
        source: AddressError,
    },
    /// The storage did not open.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// An address cannot be listened on.
    #[error("cannot listen on {setting} ({address}): {source}{hint}", hint = bind_hint(source))]
    Listen {
        /// The setting.
        setting: &'static str,
        /// Its value.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// The place for backups cannot be used.
    #[error("node.backup: {0}")]
    Backup(#[from] ObjectError),
    /// There is no key to sign backups with.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// There is no place for the parts of backups.
    #[error("cannot make a directory for backups in {}: {source}. Set TMPDIR to one where that is possible", path.display())]
    Staging {
        /// Where it was to be made.
        path: PathBuf,
        /// Why it was not.
        source: io::Error,
    },
    /// gRPC reflection could not be set up.
    #[error("cannot describe the protocol: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The runtime is going away.
    #[error("the start was interrupted")]
    Interrupted,
}

fn bind_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => ". Another process listens there: is this node already running?",
        io::ErrorKind::PermissionDenied => ". Ports below 1024 need privileges: choose a higher one",
        io::ErrorKind::AddrNotAvailable => ". This machine has no such address",
        _ => "",
    }
}

/// A running node.
pub struct Node {
    store: Store,
    tasks: Tasks,
    /// The HTTP side, which outlives the drain so that it can say that the node is draining.
    http_tasks: Tasks,
    readiness: Arc<Readiness>,
    health: tonic_health::server::HealthReporter,
    address: SocketAddr,
    http_address: Option<SocketAddr>,
    shutdown_timeout: std::time::Duration,
    server_failed: watch::Receiver<Option<String>>,
}

impl Node {
    /// Boots a node: identity, storage, listeners, then background work. Ready to serve when it
    /// returns, though perhaps not yet caught up with its peers.
    pub async fn start(config: Config, telemetry: Option<Arc<Telemetry>>) -> Result<Self, StartError> {
        let policy = RolePolicy { require_uri: config.require_uri_roles };
        let identity = load_identity(&config, policy)?;
        let join = parse_join(&config.join)?;
        let listener = bind("node.address", &config.address).await?;
        let http_listener = match &config.http_address {
            Some(address) => Some(bind("http.address", address).await?),
            None => None,
        };
        let (address, http_address) =
            (local_address(&listener)?, http_listener.as_ref().map(local_address).transpose()?);
        // What is wrong with the settings is found before the store opens.
        let target = config
            .backup
            .as_ref()
            .map(|backup| Target::open(&backup.location, &backup.settings))
            .transpose()?;
        let store = open_store(&config).await?;

        let (tasks, http_tasks) = (Tasks::default(), Tasks::default());
        let readiness = Arc::new(Readiness::default());
        readiness.set_store_open();
        let peers = Peers::default();
        join.iter().for_each(|address| peers.add(&address.to_string(), store.now()));
        if let Some(listener) = http_listener {
            let standing = {
                let (store, peers) = (store.clone(), peers.clone());
                Arc::new(move || peers.standing(&store.applied()))
            };
            let pages = Pages { readiness: Arc::clone(&readiness), standing, telemetry: telemetry.clone() };
            http::spawn(&http_tasks, listener, pages);
        }
        if let Some(telemetry) = &telemetry {
            telemetry.set_node(&config.node_id);
            telemetry.spawn_upkeep(&tasks);
        }
        let members = load_members(&config, &store, &join).await?;
        let asked: Vec<Peer> = join.iter().map(|address| Peer::new(address, &identity.dialler())).collect();
        let asker = Asker::new(asked.clone());
        let (traces, resyncs) = (Traces::new(store.clone()), Resyncs::default());
        let compactor = Compactor::new(store.clone(), members.clone(), config.compact);
        let records = Arc::new(Records {
            store: store.clone(),
            asker: asker.clone(),
            members: members.clone(),
            payload_limit_bytes: config.payload_limit_bytes,
        });
        let lifecycle = Arc::new(Lifecycle {
            store: store.clone(),
            members: members.clone(),
            asker,
            peers: asked,
            compactor: compactor.clone(),
            resyncs: resyncs.clone(),
        });
        let (reporter, health_service) = tonic_health::server::health_reporter();
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()?;
        let is_ready = {
            let readiness = Arc::clone(&readiness);
            Arc::new(move || readiness.is_ready())
        };
        let signer = Arc::new(signer::load(&store).await?);
        let backup_public_key = manifest::public_key(&signer);
        let backups = open_backups(&config, target, &store, signer).await?;
        let admin = Admin {
            records: records.clone(),
            lifecycle,
            backups: backups.clone(),
            backup_public_key,
            traces: traces.clone(),
            resyncs: resyncs.clone(),
            peers: peers.clone(),
            tasks: tasks.clone(),
            readiness: is_ready,
        };
        let kv = KeyValueServiceServer::new(KeyValue { records, stop: tasks.stopping().clone() });
        let replication = ReplicationServiceServer::new(Replication::new(
            store.clone(),
            members.clone(),
            traces,
            tasks.clone(),
        ));
        let router = server()
            .add_service(health_service)
            .add_service(reflection)
            .add_service(kv.max_decoding_message_size(limits::MESSAGE_MAX_BYTES))
            .add_service(replication.max_decoding_message_size(limits::MESSAGE_MAX_BYTES))
            .add_service(AdminServiceServer::new(admin));
        let incoming = accept::accept(listener, &identity, &tasks);
        let server_failed = serve(&tasks, router, incoming);
        let shared = Shared { store: &store, peers: &peers, members: &members, resyncs: &resyncs };
        if let Some(backups) = backups {
            let (checks, stop) = (backups.clone(), tasks.stopping().clone());
            tasks.spawn("backup-checks", |status| checks.run_checks(stop, status));
            let stop = tasks.stopping().clone();
            let readiness = Arc::clone(&readiness);
            tasks.spawn("backups", |status| backups.run(move || readiness.is_ready(), stop, status));
        }
        spawn_background(&config, &join, &identity, shared, compactor, &tasks);
        upkeep::spawn_first_catch_up(&tasks, &store, &peers, &readiness, &reporter);
        tracing::info!(
            node_id = %config.node_id, origin = %store.origin(), %address,
            http_address = http_address.map(tracing::field::display), peers = join.len(), records = store.records(),
            "the node is up"
        );
        let shutdown_timeout = config.shutdown_timeout;
        Ok(Self {
            store,
            tasks,
            http_tasks,
            readiness,
            health: reporter,
            address,
            http_address,
            shutdown_timeout,
            server_failed,
        })
    }

    /// Where gRPC is served.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the HTTP side is served, if it is.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http_address
    }

    /// The node's store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Resolves, with the reason, when the node cannot go on: a write failed, or gRPC is not
    /// served any more.
    pub async fn failed(&self) -> String {
        let mut health = self.store.health();
        let mut server = self.server_failed.clone();
        let stopped = health.wait_for(|health| matches!(health, Health::Stopped(_)));
        let ended = server.wait_for(Option::is_some);
        let reason = tokio::select! {
            health = stopped => match health.as_deref() {
                Ok(Health::Stopped(reason)) => format!("the store has stopped: {reason}"),
                _ => "the store is gone".to_owned(),
            },
            server = ended => server.ok().and_then(|reason| reason.clone()).unwrap_or_default(),
        };
        self.readiness.set_failed();
        reason
    }

    /// Shuts down in order: unready, no new connections, drain with a deadline, close the store.
    /// True if the storage was closed cleanly; a client that does not let go is cut off.
    pub async fn stop(self) -> bool {
        tracing::info!("shutting down");
        self.readiness.set_draining();
        upkeep::set_serving(&self.health, false).await;
        let drained = self.tasks.stop(self.shutdown_timeout).await;
        if !drained {
            tracing::warn!(
                seconds = self.shutdown_timeout.as_secs(),
                "some work did not end in time and is cut off"
            );
        }
        let store = self.store;
        let closed = spawn_blocking(move || store.close()).await;
        let closed = match closed {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::error!(%error, "the storage was not closed cleanly; the next start treats it as after a crash");
                false
            }
            Err(_) => false,
        };
        self.http_tasks.stop(limits::HTTP_STOP_TIMEOUT).await;
        tracing::info!(drained, clean = closed, "stopped");
        closed
    }
}

fn load_identity(config: &Config, policy: RolePolicy) -> Result<Identity, StartError> {
    let identity = Identity::load(&config.certs_dir, policy)?;
    match identity.peer().node_id() {
        Some(certified) if certified != config.node_id => Err(StartError::CertificateOfAnother {
            certs_dir: config.certs_dir.clone(),
            certified,
            configured: config.node_id.clone(),
        }),
        Some(_) => Ok(identity),
        None => {
            tracing::warn!(
                "this node's certificate names no role (it has no SPIFFE URI): it counts as a node's because it has \
                 clientAuth and serverAuth, and may act as any node id"
            );
            Ok(identity)
        }
    }
}

fn parse_join(join: &[String]) -> Result<Vec<Address>, StartError> {
    let parse =
        |text: &String| text.parse().map_err(|source| StartError::Join { address: text.clone(), source });
    join.iter().map(parse).collect()
}

async fn bind(
    setting: &'static str,
    address: &super::listen::ListenAddress,
) -> Result<TcpListener, StartError> {
    address.bind().await.map_err(|source| StartError::Listen {
        setting,
        address: address.to_string(),
        source,
    })
}

fn local_address(listener: &TcpListener) -> Result<SocketAddr, StartError> {
    let failed = |source| StartError::Listen { setting: "the listener", address: String::new(), source };
    listener.local_addr().map_err(failed)
}

async fn open_store(config: &Config) -> Result<Store, StartError> {
    if config.path.is_none() {
        tracing::warn!("node.path is empty: ALL DATA IS IN RAM ONLY and is gone when this process ends");
    }
    let options = store::Options {
        node_id: config.node_id.clone(),
        path: config.path.clone(),
        first_start: config.first_start,
        cache_bytes: config.cache_size_bytes,
        memtables_bytes: limits::MEMTABLES_BYTES,
        expiry_margin: config.expiry_margin,
        conflict_delay: config.conflict_backoff.delay,
        conflict_min: config.conflict_backoff.min,
        conflict_max: config.conflict_backoff.max,
        wall_clock: WallClock::system(),
        incarnations: Incarnations::random(),
    };
    Ok(spawn_blocking(move || Store::open(&options)).await.map_err(|_| StartError::Interrupted)??)
}

fn server() -> Server<tower::layer::util::Stack<Authorise, tower::layer::util::Identity>> {
    Server::builder()
        .http2_keepalive_interval(Some(limits::KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(limits::KEEPALIVE_TIMEOUT))
        .initial_stream_window_size(limits::STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(limits::STREAMS_PER_CONNECTION)
        .layer(Authorise::default())
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

/// Configured backups that cannot be made stop the start: nobody must believe that there are any.
async fn open_backups(
    config: &Config,
    target: Option<Target>,
    store: &Store,
    signer: Arc<Ed25519KeyPair>,
) -> Result<Option<Backups>, StartError> {
    let (Some(backup), Some(target)) = (&config.backup, target) else { return Ok(None) };
    if backup.recipients.is_empty() {
        tracing::warn!(
            "backups are NOT ENCRYPTED: set node.backup.recipient (`brock backup keygen` makes one)"
        );
    }
    let temporary = |source| StartError::Staging { path: std::env::temp_dir(), source };
    let (staging, ram) = match &config.path {
        Some(path) => (path.join("backup-staging"), None),
        None => {
            let home = tempfile::Builder::new().prefix("brock-backup-").tempdir().map_err(temporary)?;
            (home.path().join("parts"), Some(Arc::new(home)))
        }
    };
    let plan = Plan {
        target,
        recipients: backup.recipients.clone(),
        interval: backup.interval,
        sync_interval: backup.sync_interval,
        retention: backup.retention,
        staging,
        ram,
    };
    Ok(Some(Backups::open(store.clone(), plan, signer).await.map_err(SignerError::from)?))
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
