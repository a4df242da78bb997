//! From an address to a connection whose other end is known to be a node.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use rustls::ClientConfig;
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    address::Address,
    dns::Resolver,
    tls::{
        errors,
        io_delegate::delegate_io,
        registry::{Current, Cuttable, OtherEnd},
        roles::{PeerIdentity, RoleError, RolePolicy},
    },
};
use brock_core::base::limits;

/// Why a peer could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The host name has no address.
    #[error("cannot resolve {address}: {source}")]
    Resolve {
        /// Who was dialled.
        address: Address,
        /// What the resolver said.
        source: io::Error,
    },
    /// Nobody answers there.
    #[error("cannot connect to {address} ({socket}): {source}")]
    Connect {
        /// Who was dialled.
        address: Address,
        /// Where that resolved to.
        socket: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// It took too long.
    #[error("{address} did not answer within {after:?}")]
    Timeout {
        /// Who was dialled.
        address: Address,
        /// How long was waited.
        after: Duration,
    },
    /// No secure connection came about.
    #[error("no secure connection to {address}: {reason}")]
    Tls {
        /// Who was dialled.
        address: Address,
        /// In words, with what to do.
        reason: String,
        /// What rustls said.
        source: io::Error,
    },
    /// Whoever answered is trusted, but not as a node.
    #[error("{address} is not a node: {source}")]
    NotANode {
        /// Who was dialled.
        address: Address,
        /// What its certificate says.
        source: RoleError,
    },
    /// A channel of [`super::tls::channel::open_channel`] has lost its connection.
    #[error("the connection to {address} was lost")]
    Lost {
        /// Who was dialled.
        address: Address,
    },
    /// HTTP/2 did not start on a connection that was secure already.
    #[error("no HTTP/2 connection to {address}: {reason}")]
    Http2 {
        /// Who was dialled.
        address: Address,
        /// In words.
        reason: String,
    },
}

impl DialError {
    /// Whether dialling again may help without anyone doing anything. Refusals by certificate need
    /// a person (or a rotation) first.
    pub fn retry_can_help(&self) -> bool {
        match self {
            Self::Resolve { .. }
            | Self::Connect { .. }
            | Self::Timeout { .. }
            | Self::Lost { .. }
            | Self::Http2 { .. } => true,
            Self::Tls { source, .. } => errors::rustls_error(source).is_none(),
            Self::NotANode { .. } => false,
        }
    }
}

/// How somebody dials: as whom, and whom it believes.
#[derive(Debug, Clone)]
pub struct Dialler {
    config: Arc<ClientConfig>,
    /// Whom connections are told to, so that they end when the other end is not trusted any more.
    current: Option<Arc<Current>>,
    resolver: Resolver,
}

impl Dialler {
    pub(crate) fn watched(config: Arc<ClientConfig>, current: Arc<Current>) -> Self {
        Self { config, current: Some(current), resolver: Resolver::default() }
    }

    /// Resolves names so from now on.
    pub fn with_resolver(self, resolver: Resolver) -> Self {
        Self { resolver, ..self }
    }
}

impl Dialler {
    /// What rustls is told.
    pub fn config(&self) -> Arc<ClientConfig> {
        self.config.clone()
    }
}

impl From<Arc<ClientConfig>> for Dialler {
    /// For short-lived tools: connections last, whatever is exchanged meanwhile.
    fn from(config: Arc<ClientConfig>) -> Self {
        Self { config, current: None, resolver: Resolver::default() }
    }
}

/// A connection to a node.
#[derive(Debug)]
pub struct Dialled {
    stream: Cuttable<TlsStream<TcpStream>>,
    identity: Arc<PeerIdentity>,
}

impl Dialled {
    /// Who is at the other end: always a node.
    pub fn identity(&self) -> &Arc<PeerIdentity> {
        &self.identity
    }

    /// The TLS session, for what was negotiated.
    #[cfg(test)]
    pub(crate) fn session(&self) -> &rustls::ClientConnection {
        self.stream.get_ref().get_ref().1
    }
}

delegate_io!(Dialled);

/// Resolves `address`, connects to each of its addresses in turn until one has shown a node's
/// certificate for that host, all within [`limits::DIAL_TIMEOUT`].
///
/// In TLS 1.3 this succeeds before the node has looked at our certificate. A refusal arrives with
/// the first read: ask [`errors::explain`] about that error.
pub async fn dial(address: &Address, dialler: impl Into<Dialler>) -> Result<Dialled, DialError> {
    match timeout(limits::DIAL_TIMEOUT, dial_all(address, &dialler.into())).await {
        Ok(dialled) => dialled,
        Err(_) => Err(DialError::Timeout { address: address.clone(), after: limits::DIAL_TIMEOUT }),
    }
}

async fn dial_all(address: &Address, dialler: &Dialler) -> Result<Dialled, DialError> {
    let unresolved = |source| DialError::Resolve { address: address.clone(), source };
    let sockets: Vec<SocketAddr> = match address.name() {
        Some(name) if dialler.resolver.is_own() => {
            let ips = dialler.resolver.addresses(name).await;
            let ips = ips.map_err(|error| unresolved(io::Error::other(error)))?;
            ips.into_iter().map(|ip| SocketAddr::new(ip, address.port())).collect()
        }
        _ => lookup_host((address.host(), address.port())).await.map_err(unresolved)?.collect(),
    };
    let sockets = &sockets[..sockets.len().min(limits::DIAL_ADDRESSES_MAX)];
    // A share for each, so that a first address that swallows packets leaves time for the second.
    let share = limits::DIAL_TIMEOUT / (sockets.len().max(1) as u32);
    let mut told = None;
    for &socket in sockets {
        let error = match timeout(share, dial_one(address, socket, dialler)).await {
            Ok(Ok(dialled)) => return Ok(dialled),
            Ok(Err(error)) => error,
            Err(_) => DialError::Timeout { address: address.clone(), after: share },
        };
        // Of several failures, one that got as far as TLS says most.
        if told.as_ref().is_none_or(DialError::retry_can_help) {
            told = Some(error);
        }
    }
    let nothing = || unresolved(io::Error::new(io::ErrorKind::NotFound, "the name has no addresses"));
    Err(told.unwrap_or_else(nothing))
}

async fn dial_one(address: &Address, socket: SocketAddr, dialler: &Dialler) -> Result<Dialled, DialError> {
    let unconnected = |source| DialError::Connect { address: address.clone(), socket, source };
    let tcp = TcpStream::connect(socket).await.map_err(unconnected)?;
    // IMPORTANT: without it every small request waits for the acknowledgement of the last one.
    tcp.set_nodelay(true).map_err(unconnected)?;
    let server_name = address.server_name().ok_or_else(|| {
        unconnected(io::Error::new(io::ErrorKind::InvalidInput, "not a name that a certificate can state"))
    })?;
    // Before the handshake, which is judged by this one or by a later one.
    let before = dialler.current.as_ref().map(|current| (current, current.trust()));
    let connected = TlsConnector::from(Arc::clone(&dialler.config)).connect(server_name.clone(), tcp).await;
    let stream = connected.map_err(|source| tls_error(address, source))?;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let leaf = chain.first();
    let not_a_node = |source| DialError::NotANode { address: address.clone(), source };
    // The configuration's own verifier has applied the policy; this reads the identity again.
    let identity = leaf
        .ok_or_else(|| RoleError::Malformed("there is none".to_owned()))
        .and_then(|leaf| PeerIdentity::of_certificate(leaf, RolePolicy::default()))
        .and_then(PeerIdentity::require_node)
        .map_err(not_a_node)?;
    let registered = before
        .as_ref()
        .map(|(current, before)| current.register(before, chain, OtherEnd::Dialled(server_name)));
    Ok(Dialled { stream: Cuttable::new(stream, registered), identity: Arc::new(identity) })
}

fn tls_error(address: &Address, source: io::Error) -> DialError {
    let address = address.clone();
    if let Some(role) = errors::rustls_error(&source).and_then(errors::role_error) {
        return DialError::NotANode { address, source: role.clone() };
    }
    let reason = errors::explain(&source).unwrap_or_else(|| match source.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
            "the other end closed the connection during the handshake: is it a node?".to_owned()
        }
        _ => source.to_string(),
    });
    DialError::Tls { address, reason, source }
}
