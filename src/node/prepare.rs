//! Certificates, addresses and listeners: everything that can be wrong before the storage opens.

use std::{net::SocketAddr, sync::Arc};

use tokio::{net::TcpListener, task::spawn_blocking, time::timeout};

use super::{backups, error::StartError};
use crate::{
    api::http::console::Gate, backup::objects::Target, config::validate::Config,
    runtime::descriptors::Descriptors,
};
use brock_core::base::{limits, trust::TrustMode};
use brock_net::{
    address::Address,
    dns::Resolver,
    join::{Join, Listed},
    listen::ListenAddress,
    tls::{
        TlsError,
        accept::Room,
        credentials::Identity,
        roles::{PeerIdentity, RolePolicy},
        web::WebTls,
    },
};

/// What a start needs before the storage opens. Making it finds all that is wrong with certificates,
/// addresses and settings.
pub(super) struct Prepared {
    pub(super) descriptors: Descriptors,
    pub(super) identity: Identity,
    /// The peers that `node.join` names by address.
    pub(super) fixed: Vec<Address>,
    /// The names in `node.join` under which DNS lists peers.
    pub(super) listed: Vec<Listed>,
    pub(super) resolver: Resolver,
    pub(super) listener: TcpListener,
    pub(super) address: SocketAddr,
    pub(super) http_listener: Option<TcpListener>,
    pub(super) http_address: Option<SocketAddr>,
    pub(super) web_tls: Option<WebTls>,
    pub(super) console_gate: Arc<Gate>,
    pub(super) backup_target: Option<Target>,
}

/// Checks the certificates as a start does: nodes and this one can use them, and they are this node's. Changes nothing.
/// Returns what the node's own certificate states.
pub async fn check_certificates(config: &Config) -> Result<PeerIdentity, StartError> {
    let identity = load_identity(config, RolePolicy { require_uri: config.require_uri_roles }).await?;
    Ok(identity.peer())
}

impl Prepared {
    pub(super) async fn new(config: &Config) -> Result<Self, StartError> {
        let descriptors = shares()?;
        config.warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
        let policy = RolePolicy { require_uri: config.require_uri_roles };
        let identity = load_identity(config, policy).await?;
        let (fixed, listed) = parse_join(&config.join)?;
        let listener = bind("node.address", &config.address).await?;
        let http_listener = match &config.http_address {
            Some(address) => Some(bind("http.address", address).await?),
            None => None,
        };
        let http_address = http_listener.as_ref().map(local_address).transpose()?;
        Ok(Self {
            descriptors,
            web_tls: config.http_tls.then(|| WebTls::new(&identity)).transpose()?,
            console_gate: Arc::new(console_gate(config, http_address)),
            http_address,
            address: local_address(&listener)?,
            backup_target: backups::target(config).await?,
            identity,
            fixed,
            listed,
            resolver: Resolver::new(config.dns_server),
            listener,
            http_listener,
        })
    }
}

impl Prepared {
    /// The connections to `node.address` for which there are descriptors.
    pub(super) fn room(&self) -> Room {
        Room { connections: self.descriptors.connections, handshakes: self.descriptors.handshakes }
    }
}

/// A node that lacks descriptors must not find that out when its store needs one.
fn shares() -> Result<Descriptors, StartError> {
    let descriptors = Descriptors::claim()?;
    if !descriptors.are_enough() {
        tracing::warn!(
            limit = descriptors.limit,
            connections = descriptors.connections,
            "the limit of open files is low: the node accepts fewer than {} connections. Raise it (LimitNOFILE= in a \
             systemd unit, `--ulimit nofile=` of a container; docs/guides/capacity.md)",
            limits::CONNECTIONS_MAX
        );
    }
    Ok(descriptors)
}

/// If the directory does not answer, the thread that reads it is abandoned: the process ends soon.
async fn load_identity(config: &Config, policy: RolePolicy) -> Result<Identity, StartError> {
    let (dir, lists) = (config.certs_dir.clone(), config.crl_dir.clone());
    let levels = config.wire_levels.clone();
    let loading = spawn_blocking(move || Identity::load_at(&dir, lists.as_deref(), policy, levels));
    let silent = |_| TlsError::NoAnswer {
        dir: config.certs_dir.clone(),
        crl_dir: config.crl_dir.clone(),
        seconds: limits::CERTIFICATES_START_TIMEOUT.as_secs(),
    };
    let loaded = timeout(limits::CERTIFICATES_START_TIMEOUT, loading).await.map_err(silent)?;
    let identity = loaded.map_err(|_| StartError::Interrupted)??;
    match identity.peer().node_id() {
        Some(certified) if certified != config.node_id => Err(StartError::CertificateOfAnother {
            certs_dir: config.certs_dir.clone(),
            certified,
            configured: config.node_id.clone(),
        }),
        Some(_) => Ok(identity),
        None if config.trust == TrustMode::Distributed => {
            let (certs_dir, node_id) = (config.certs_dir.clone(), config.node_id.clone());
            Err(StartError::NoTrustDomain { certs_dir, node_id })
        }
        None => {
            tracing::warn!(
                "this node's certificate states no role (it has no SPIFFE URI): peers accept it as a node's because it \
                 has clientAuth and serverAuth, and it can act as any node id"
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
            "clients send http.console-token IN CLEAR TEXT: set http.tls, or set http.address to a loopback address"
        );
    }
    Gate { on_loopback, token, tls: config.http_tls }
}

fn parse_join(join: &[String]) -> Result<(Vec<Address>, Vec<Listed>), StartError> {
    let (mut fixed, mut listed) = (Vec::new(), Vec::new());
    for text in join {
        match text.parse().map_err(|source| StartError::Join { source })? {
            Join::Peer(address) => fixed.push(address),
            Join::Listed(name) => listed.push(name),
        }
    }
    Ok((fixed, listed))
}

async fn bind(setting: &'static str, address: &ListenAddress) -> Result<TcpListener, StartError> {
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
