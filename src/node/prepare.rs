//! What a boot does before the storage is open, and opening it.

use std::{net::SocketAddr, sync::Arc};

use tokio::{net::TcpListener, task::spawn_blocking};
use tokio_util::sync::CancellationToken;

use super::{StartError, backups, first_start};
use crate::{
    api::http::console::Gate,
    backup::objects::Target,
    config::validate::{Config, FirstStart},
    store::{self, OpenError, Store},
};
use brock_core::base::{
    id::{Incarnations, Instance},
    limits,
    time::WallClock,
};
use brock_net::{
    address::Address,
    dns::Resolver,
    join::{Join, Listed},
    tls::{credentials::Identity, roles::RolePolicy, web::WebTls},
};

/// Everything that can be found wrong with certificates, addresses and settings is found while it is
/// made: before the storage opens.
pub(super) struct Prepared {
    pub(super) identity: Identity,
    pub(super) join: Vec<Join>,
    pub(super) resolver: Resolver,
    pub(super) listener: TcpListener,
    pub(super) address: SocketAddr,
    pub(super) http_listener: Option<TcpListener>,
    pub(super) http_address: Option<SocketAddr>,
    pub(super) web_tls: Option<WebTls>,
    pub(super) console_gate: Arc<Gate>,
    pub(super) backup_target: Option<Target>,
}

impl Prepared {
    pub(super) async fn new(config: &Config) -> Result<Self, StartError> {
        let policy = RolePolicy { require_uri: config.require_uri_roles };
        let identity = load_identity(config, policy)?;
        let join = parse_join(&config.join)?;
        let listener = bind("node.address", &config.address).await?;
        let http_listener = match &config.http_address {
            Some(address) => Some(bind("http.address", address).await?),
            None => None,
        };
        let http_address = http_listener.as_ref().map(local_address).transpose()?;
        Ok(Self {
            web_tls: config.http_tls.then(|| WebTls::new(&identity)).transpose()?,
            console_gate: Arc::new(console_gate(config, http_address)),
            http_address,
            address: local_address(&listener)?,
            backup_target: backups::target(config).await?,
            identity,
            join,
            resolver: Resolver::new(config.dns_server),
            listener,
            http_listener,
        })
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

fn console_gate(config: &Config, http_address: Option<SocketAddr>) -> Gate {
    let on_loopback = http_address.is_some_and(|address| address.ip().is_loopback());
    let token = config.console_token.as_ref().map(|token| token.reveal().to_owned());
    if token.is_some() && !on_loopback && !config.http_tls {
        tracing::warn!(
            "http.console-token travels IN CLEAR TEXT: set http.tls, or let http.address be on loopback"
        );
    }
    Gate { on_loopback, token, tls: config.http_tls }
}

fn parse_join(join: &[String]) -> Result<Vec<Join>, StartError> {
    let parse = |text: &String| text.parse().map_err(|source| StartError::Join { source });
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

/// Opens the storage; if it is empty, and that is not for an operator to say, after asking the peers.
pub(super) async fn open_store(
    config: &Config,
    prepared: &Prepared,
    instance: Instance,
    stop: &CancellationToken,
) -> Result<Store, StartError> {
    if config.path.is_none() {
        tracing::warn!("node.path is empty: ALL DATA IS IN RAM ONLY and is gone when this process ends");
    }
    let options = store::Options {
        node_id: config.node_id.clone(),
        path: config.path.clone(),
        first_start: config.first_start == FirstStart::Yes,
        cache_bytes: config.cache_size_bytes,
        memtables_bytes: limits::MEMTABLES_BYTES,
        expiry_margin: config.expiry_margin,
        conflict_delay: config.conflict_backoff.delay,
        conflict_min: config.conflict_backoff.min,
        conflict_max: config.conflict_backoff.max,
        wall_clock: WallClock::system(),
        incarnations: Incarnations::random(),
    };
    match (open(options.clone()).await, config.first_start) {
        (Err(StartError::Store(OpenError::Empty(_))), FirstStart::Auto) => {
            first_start::check(config, prepared, instance, stop).await?;
            open(store::Options { first_start: true, ..options }).await
        }
        (outcome, _) => outcome,
    }
}

async fn open(options: store::Options) -> Result<Store, StartError> {
    Ok(spawn_blocking(move || Store::open(&options)).await.map_err(|_| StartError::Interrupted)??)
}

/// The peers that `node.join` names, and the names under which DNS lists others.
pub(super) fn split(join: Vec<Join>) -> (Vec<Address>, Vec<Listed>) {
    let (mut fixed, mut listed) = (Vec::new(), Vec::new());
    for entry in join {
        match entry {
            Join::Peer(address) => fixed.push(address),
            Join::Listed(name) => listed.push(name),
        }
    }
    (fixed, listed)
}
