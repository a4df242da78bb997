//! From an address to a connection whose other end is known to be a node.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, lookup_host},
    time::{Sleep, sleep, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    address::Address,
    dns::Resolver,
    panics::contain,
    tls::{
        abortable::AbortableStream,
        credentials::{ClientConfigs, ClientIdentity, Identity},
        errors,
        io_delegate::delegate_io,
        level::{Negotiated, WireLevel},
        registry::{ConnectionRegistry, OtherEnd},
        roles::{PeerIdentity, RoleError, RolePolicy},
    },
};
use brock_core::base::{advice, limits};

/// Why a peer could not be reached. The text does not name the address: the peer's name stands before it wherever it
/// is shown.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The host name has no address.
    #[error("the name cannot be resolved: {source}")]
    Resolve {
        /// The dialled address.
        address: Address,
        /// The resolver's error.
        source: io::Error,
    },
    /// Nothing answers at the address.
    #[error("cannot connect{}: {source}{}", resolved(.address, .socket), advice::on_descriptors(source))]
    Connect {
        /// The dialled address.
        address: Address,
        /// The socket address that it resolved to.
        socket: SocketAddr,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The node took too long.
    #[error("no answer within {after:?}")]
    Timeout {
        /// The dialled address.
        address: Address,
        /// The time-out.
        after: Duration,
    },
    /// The TLS handshake failed.
    #[error("no secure connection: {reason}")]
    Tls {
        /// The dialled address.
        address: Address,
        /// The reason, and what the operator can do.
        reason: String,
        /// The error of rustls.
        source: io::Error,
    },
    /// The certificate is trusted, but is not a node's.
    #[error("it is not a node: {source}")]
    NotANode {
        /// The dialled address.
        address: Address,
        /// What is wrong with its role.
        source: RoleError,
    },
    /// A channel of [`crate::channel::open_channel`] lost its connection.
    #[error("the connection was lost")]
    Lost {
        /// The dialled address.
        address: Address,
    },
    /// HTTP/2 did not start after the TLS handshake.
    #[error("no HTTP/2 connection: {reason}")]
    Http2 {
        /// The dialled address.
        address: Address,
        /// The reason.
        reason: String,
    },
}

/// What a name has led to.
fn resolved(address: &Address, socket: &SocketAddr) -> String {
    if address.name().is_some() { format!(" to {socket}") } else { String::new() }
}

impl DialError {
    /// Whether another attempt can succeed without a change. A refusal because of a certificate needs a new
    /// certificate first.
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

/// How to dial: with which certificate, against which trust store, and with which resolver.
#[derive(Debug, Clone)]
pub struct Dialler {
    config: Arc<ClientConfig>,
    /// A node's configurations, by level of wire encryption; `None`: `config` for every address.
    configs: Option<Arc<ClientConfigs>>,
    /// Closes connections to peers that are no longer trusted; `None` for short-lived tools.
    registry: Option<Arc<ConnectionRegistry>>,
    resolver: Resolver,
}

impl Dialler {
    /// Resolves names with `resolver` instead of the operating system.
    pub fn with_resolver(self, resolver: Resolver) -> Self {
        Self { resolver, ..self }
    }

    /// The TLS configuration for an address, and its level of wire encryption.
    pub fn config_for(&self, address: &Address) -> (WireLevel, Arc<ClientConfig>) {
        match &self.configs {
            Some(configs) => configs.to(address),
            None => (WireLevel::Default, Arc::clone(&self.config)),
        }
    }
}

impl From<Arc<ClientConfig>> for Dialler {
    /// For short-lived tools: a rotation of certificates does not close their connections.
    fn from(config: Arc<ClientConfig>) -> Self {
        Self { config, configs: None, registry: None, resolver: Resolver::default() }
    }
}

impl Identity {
    /// Dials as this node. Connections close when the peer is no longer trusted.
    pub fn dialler(&self) -> Dialler {
        let configs = self.client_configs();
        let registry = Some(Arc::clone(self.registry()));
        Dialler { registry, configs: Some(Arc::clone(&configs)), ..configs.at(self.levels().node).into() }
    }
}

impl ClientIdentity {
    /// Dials with this certificate.
    pub fn dialler(&self) -> Dialler {
        self.client_config().into()
    }
}

/// A connection to a node.
#[derive(Debug)]
pub struct Dialled {
    stream: AbortableStream<TlsStream<TcpStream>>,
    identity: Arc<PeerIdentity>,
}

impl Dialled {
    /// What the two ends have agreed on.
    pub fn negotiated(&self) -> Negotiated {
        Negotiated::of(self.stream.get_ref().get_ref().1)
    }

    /// The identity of the peer, which is always a node.
    pub fn identity(&self) -> &Arc<PeerIdentity> {
        &self.identity
    }

    /// The TLS session, with the negotiated parameters.
    #[cfg(test)]
    pub(crate) fn session(&self) -> &rustls::ClientConnection {
        self.stream.get_ref().get_ref().1
    }
}

delegate_io!(Dialled);

/// Resolves `address` and connects to each of its IP addresses in turn, until one shows a node's
/// certificate for that host. Takes at most [`limits::DIAL_TIMEOUT`].
///
/// With TLS 1.3 this succeeds before the node has verified our certificate. A refusal is the error of the
/// first read; [`errors::explain`] explains it.
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
    // Each IP address gets a share, so that one that drops packets leaves time for the next.
    let share = limits::DIAL_TIMEOUT / (sockets.len().max(1) as u32);
    let mut best = None;
    for &socket in sockets {
        let error = match timeout(share, dial_one(address, socket, dialler)).await {
            Ok(Ok(dialled)) => return Ok(dialled),
            Ok(Err(error)) => error,
            Err(_) => DialError::Timeout { address: address.clone(), after: share },
        };
        // Of several failures, one of the TLS handshake says most.
        if best.as_ref().is_none_or(DialError::retry_can_help) {
            best = Some(error);
        }
    }
    let nothing = || unresolved(io::Error::new(io::ErrorKind::NotFound, "the name has no addresses"));
    Err(best.unwrap_or_else(nothing))
}

async fn dial_one(address: &Address, socket: SocketAddr, dialler: &Dialler) -> Result<Dialled, DialError> {
    let unconnected = |source| DialError::Connect { address: address.clone(), socket, source };
    let tcp = TcpStream::connect(socket).await.map_err(unconnected)?;
    // IMPORTANT: without it, each small request waits for the acknowledgement of the previous one.
    tcp.set_nodelay(true).map_err(unconnected)?;
    let server_name = address.server_name().ok_or_else(|| {
        unconnected(io::Error::new(io::ErrorKind::InvalidInput, "not a name that a certificate can state"))
    })?;
    // Loaded before the handshake, which uses this store or a newer one.
    let before = dialler.registry.as_ref().map(|registry| (registry, registry.trust_store().load()));
    let (level, config) = dialler.config_for(address);
    let connected = contain(TlsConnector::from(config).connect(server_name.clone(), tcp)).await;
    let stream = match connected.map_err(io::Error::other).flatten() {
        Ok(stream) => stream,
        Err(source) if level != WireLevel::Default && errors::is_nothing_in_common(&source) => {
            let reason = nothing_in_common(level, socket, &server_name, dialler).await;
            return Err(DialError::Tls { address: address.clone(), reason, source });
        }
        Err(source) => return Err(tls_error(address, source)),
    };
    let session = stream.get_ref().1;
    let leaf = session.peer_certificates().and_then(|chain| chain.first());
    let not_a_node = |source| DialError::NotANode { address: address.clone(), source };
    // The TLS configuration applied the role policy; this only reads the identity.
    let identity = leaf
        .ok_or_else(|| RoleError::Malformed("there is none".to_owned()))
        .and_then(|leaf| PeerIdentity::of_certificate(leaf, RolePolicy::default()))
        .and_then(PeerIdentity::require_node)
        .map_err(not_a_node)?;
    let end = OtherEnd::Dialled { name: server_name, address: address.to_string() };
    let registered =
        before.as_ref().map(|(registry, before)| registry.register(before, session, &identity, end));
    Ok(Dialled { stream: AbortableStream::new(stream, registered), identity: Arc::new(identity) })
}

/// Does a handshake whose first message arrives in two packets, as a post-quantum one does on some networks, and closes
/// the connection: proxies that read the message, and firewalls, have lost the second half.
pub async fn dial_in_halves(address: &Address, dialler: &Dialler) -> io::Result<()> {
    let halved = async {
        let tcp = TcpStream::connect((address.host(), address.port())).await?;
        tcp.set_nodelay(true)?;
        let unnamed =
            || io::Error::new(io::ErrorKind::InvalidInput, "not a name that a certificate can state");
        let name = address.server_name().ok_or_else(unnamed)?;
        let connector = TlsConnector::from(dialler.config_for(address).1);
        contain(connector.connect(name, Halves { tcp, pause: Pause::Before }))
            .await
            .map_err(io::Error::other)?
    };
    timeout(limits::DIAL_TIMEOUT, halved).await?.map(drop)
}

/// Between the halves. Without it they may travel as one packet.
const HALVES_PAUSE: Duration = Duration::from_millis(50);

/// A connection that sends the first half of the first write by itself.
struct Halves {
    tcp: TcpStream,
    pause: Pause,
}

enum Pause {
    /// Nothing was sent yet.
    Before,
    /// Between the halves.
    Between(Pin<Box<Sleep>>),
    /// Both halves were sent.
    Over,
}

impl AsyncWrite for Halves {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let half = match &mut self.pause {
            Pause::Before => &bytes[..bytes.len() / 2],
            Pause::Between(sleep) => {
                ready!(sleep.as_mut().poll(cx));
                self.pause = Pause::Over;
                bytes
            }
            Pause::Over => bytes,
        };
        let written = ready!(Pin::new(&mut self.tcp).poll_write(cx, half))?;
        if matches!(self.pause, Pause::Before) {
            self.pause = Pause::Between(Box::pin(sleep(HALVES_PAUSE)));
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

impl AsyncRead for Halves {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buffer)
    }
}

/// Explains that a peer has nothing of the required level. An alert does not say what it has instead, so it is asked
/// once more, with everything offered: what it then chooses names the mismatch. Nothing else is sent.
async fn nothing_in_common(
    level: WireLevel,
    socket: SocketAddr,
    name: &ServerName<'static>,
    dialler: &Dialler,
) -> String {
    let probe = async {
        let config = dialler.configs.as_ref()?.at(WireLevel::Default);
        let tcp = TcpStream::connect(socket).await.ok()?;
        let stream = contain(TlsConnector::from(config).connect(name.clone(), tcp)).await.ok()?.ok()?;
        Some(Negotiated::of(stream.get_ref().1))
    };
    let has = match probe.await {
        Some(negotiated) => format!("the other end has {negotiated}"),
        None => "what the other end has is not known".to_owned(),
    };
    format!(
        "this node requires wire encryption {level} ({}), and the other end has none of it: {has}. Set \
         node.wire-encryption alike on both, or this peer's level in node.wire-encryption-peers",
        level.offer()
    )
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
