//! From a bound listener to a stream of identified connections, for tonic's
//! `serve_with_incoming_shutdown`, and from one such server to its successor.
//!
//! Peers reach this code before they are authenticated. Therefore each handshake runs in its own task with
//! a deadline, the numbers of handshakes and connections are bounded, failures of unauthenticated peers are
//! logged at debug only, and an error of one connection does not end the loop.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use rustls::ServerConfig;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

use super::{
    LOG_TARGET,
    abortable::AbortableStream,
    coalesce::Coalesce,
    credentials::Identity,
    errors::{self, HandshakeFailure},
    io_delegate::delegate_io,
    registry::{ConnectionRegistry, OtherEnd},
    roles::{PeerIdentity, Role, RolePolicy},
};
use crate::{
    panics,
    task::{TaskName, TaskStatus, Tasks},
};
use brock_core::base::{
    limits,
    metrics::{CONNECTIONS, HANDSHAKE_FAILURES},
};

/// The caller's connection. tonic puts it into the extensions of each request.
#[derive(Debug, Clone)]
pub struct ConnectionInfo {
    /// The caller's socket address.
    pub remote: SocketAddr,
    /// The caller's identity.
    pub identity: Arc<PeerIdentity>,
    /// When it was accepted; the caller took part in the handshake after that.
    pub accepted_at: Instant,
    /// Cancelled when the connection drains: endless streams end then, in order.
    pub draining: CancellationToken,
}

impl ConnectionInfo {
    /// What ends an endless stream: the draining of its connection, or without a connection the stop of the
    /// node.
    pub fn draining<T>(request: &tonic::Request<T>, tasks: &Tasks) -> CancellationToken {
        let info = request.extensions().get::<Self>();
        info.map_or_else(|| tasks.stopping().clone(), |info| info.draining.clone())
    }
}

/// An authenticated connection. It counts against the limit until it is dropped.
#[derive(Debug)]
pub struct Accepted {
    stream: Coalesce<AbortableStream<TlsStream<TcpStream>>>,
    info: ConnectionInfo,
    _open: Open,
}

impl Connected for Accepted {
    type ConnectInfo = ConnectionInfo;

    fn connect_info(&self) -> ConnectionInfo {
        self.info.clone()
    }
}

delegate_io!(Accepted);

/// The stream of accepted connections. Ends when the node stops.
#[derive(Debug)]
pub struct Incoming {
    /// `None` after it was lent or returned.
    queue: Option<mpsc::Receiver<io::Result<Accepted>>>,
    draining: CancellationToken,
    successor: Option<oneshot::Sender<Incoming>>,
}

impl Incoming {
    /// Lends the stream to a server that may end before the node does. When that server drops it, the
    /// receiver gets the stream back for the next server. Connections that arrive in between are kept.
    ///
    /// `draining` becomes [`ConnectionInfo::draining`] of the connections from the lent stream.
    pub fn lend(mut self, draining: CancellationToken) -> (Self, oneshot::Receiver<Self>) {
        let (successor, returned) = oneshot::channel();
        (Self { queue: self.queue.take(), draining, successor: Some(successor) }, returned)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Some(successor) = self.successor.take() {
            let draining = CancellationToken::new();
            // Without a successor, the queued connections close with the queue.
            let _ = successor.send(Self { queue: self.queue.take(), draining, successor: None });
        }
    }
}

impl Stream for Incoming {
    type Item = io::Result<Accepted>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let incoming = &mut *self;
        let Some(queue) = &mut incoming.queue else { return Poll::Ready(None) };
        loop {
            let mut accepted = queue.poll_recv(cx);
            if let Poll::Ready(Some(Ok(accepted))) = &mut accepted {
                // Accepted before a rotation and served after it, it would never drain. The peer may dial again.
                if accepted.stream.get_ref().is_outdated() {
                    continue;
                }
                accepted.info.draining = incoming.draining.clone();
            }
            return accepted;
        }
    }
}

/// Accepts on `listener`, as `identity`, until `tasks` stop or the returned stream is dropped.
/// Connections close when their certificates are no longer trusted.
pub fn accept(listener: TcpListener, identity: &Identity, tasks: &Tasks) -> Incoming {
    let registry = Some(Arc::clone(identity.registry()));
    accept_within(
        Bounds { registry, ..Bounds::default() },
        listener,
        identity.server_config(),
        identity.policy(),
        tasks,
    )
}

/// The limits, which tests lower.
pub(crate) struct Bounds {
    pub(crate) connections: usize,
    pub(crate) handshakes: usize,
    pub(crate) handshake_timeout: Duration,
    pub(crate) registry: Option<Arc<ConnectionRegistry>>,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections: limits::CONNECTIONS_MAX,
            handshakes: limits::HANDSHAKES_MAX,
            handshake_timeout: limits::HANDSHAKE_TIMEOUT,
            registry: None,
        }
    }
}

pub(crate) fn accept_within(
    bounds: Bounds,
    listener: TcpListener,
    config: Arc<ServerConfig>,
    policy: RolePolicy,
    tasks: &Tasks,
) -> Incoming {
    let (sender, receiver) = mpsc::channel(limits::ACCEPTED_QUEUE);
    let acceptor = Acceptor {
        tls: TlsAcceptor::from(config),
        policy,
        sender,
        tasks: tasks.clone(),
        connections: Arc::new(Semaphore::new(bounds.connections)),
        handshakes: Arc::new(Semaphore::new(bounds.handshakes)),
        handshake_timeout: bounds.handshake_timeout,
        registry: bounds.registry,
        legacy_seen: Arc::default(),
    };
    tasks.spawn(TaskName::Accept, |status| acceptor.run(listener, status));
    Incoming { queue: Some(receiver), draining: tasks.stopping().clone(), successor: None }
}

/// A connection's permit. The gauge counts the permits.
#[derive(Debug)]
struct Open(#[allow(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

impl Open {
    fn new(permit: OwnedSemaphorePermit) -> Self {
        metrics::gauge!(CONNECTIONS).increment(1.0);
        Self(permit)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        metrics::gauge!(CONNECTIONS).decrement(1.0);
    }
}

#[derive(Clone)]
struct Acceptor {
    tls: TlsAcceptor,
    policy: RolePolicy,
    sender: mpsc::Sender<io::Result<Accepted>>,
    tasks: Tasks,
    connections: Arc<Semaphore>,
    handshakes: Arc<Semaphore>,
    handshake_timeout: Duration,
    registry: Option<Arc<ConnectionRegistry>>,
    /// Whether a certificate without a SPIFFE URI was logged: once is enough.
    legacy_seen: Arc<AtomicBool>,
}

impl Acceptor {
    async fn run(self, listener: TcpListener, status: TaskStatus) {
        let stop = self.tasks.stopping().clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.sender.closed() => {}
            () = self.accept_all(listener, &status) => {}
        }
    }

    /// Never returns. It takes a permit for the connection and one for its handshake before it accepts;
    /// without permits, peers wait in the kernel's queue.
    async fn accept_all(&self, listener: TcpListener, status: &TaskStatus) {
        let mut last_warning: Option<Instant> = None;
        status.set_state("accepting");
        loop {
            // The semaphores are never closed.
            let Ok(connection) = self.connections.clone().acquire_owned().await else { return };
            let Ok(handshake) = self.handshakes.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((socket, remote)) => {
                    status.clear_error();
                    self.tasks.spawn_short(self.clone().shake_hands(socket, remote, connection, handshake));
                }
                Err(error) if concerns_one_connection(&error) => {}
                Err(error) => {
                    // Out of descriptors or memory. The next accept would fail at once too: the pause
                    // keeps the loop from spinning until connections have closed.
                    status.set_error(&error.to_string());
                    if last_warning.is_none_or(|at| at.elapsed() >= limits::ACCEPT_WARN_INTERVAL) {
                        last_warning = Some(Instant::now());
                        tracing::warn!(target: LOG_TARGET, %error, "cannot accept connections for now: is the limit of open files too low?");
                    }
                    sleep(limits::ACCEPT_REST).await;
                }
            }
        }
    }

    async fn shake_hands(
        self,
        socket: TcpStream,
        remote: SocketAddr,
        connection: OwnedSemaphorePermit,
        handshake: OwnedSemaphorePermit,
    ) {
        let stop: CancellationToken = self.tasks.stopping().clone();
        // Loaded before the handshake, which uses this store or a newer one.
        let before = self.registry.as_ref().map(|registry| (registry, registry.trust_store().load()));
        let accepted_at = Instant::now();
        let shaken = tokio::select! {
            () = stop.cancelled() => return,
            shaken = timeout(self.handshake_timeout, self.handshake(socket)) => shaken,
        };
        drop(handshake);
        let (stream, identity) = match shaken {
            Ok(Ok(accepted)) => accepted,
            Ok(Err(refused)) => {
                refused.report(remote);
                if let Some(socket) = refused.socket {
                    linger(socket).await;
                }
                return;
            }
            Err(_) => {
                let text = format!("no handshake within {:?}", self.handshake_timeout);
                return Refused::new(HandshakeFailure::Timeout, text).report(remote);
            }
        };
        tracing::debug!(target: LOG_TARGET, %remote, %identity, "accepted a connection");
        if identity.legacy && !self.legacy_seen.swap(true, Ordering::Relaxed) {
            tracing::warn!(target: LOG_TARGET, %remote, %identity,
                "a certificate without a SPIFFE URI was accepted by its key usages; make one with `brock cert`, and \
                 set node.require-uri-roles once all have one"
            );
        }
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let end = || OtherEnd::Caller { is_node: identity.role == Role::Node };
        let registered = before.as_ref().map(|(registry, before)| registry.register(before, chain, end()));
        let stream = AbortableStream::new(stream, registered);
        let info =
            ConnectionInfo { remote, identity: Arc::new(identity), accepted_at, draining: stop.clone() };
        let accepted = Accepted { stream: Coalesce::new(stream), info, _open: Open::new(connection) };
        tokio::select! {
            () = stop.cancelled() => {}
            // If the server is gone, the connection closes with this drop.
            _ = self.sender.send(Ok(accepted)) => {}
        }
    }

    async fn handshake(&self, socket: TcpStream) -> Result<(TlsStream<TcpStream>, PeerIdentity), Refused> {
        let io_error = |error: io::Error| Refused::new(HandshakeFailure::Io, error.to_string());
        // IMPORTANT: without it, each small answer waits for the acknowledgement of the previous one.
        socket.set_nodelay(true).map_err(io_error)?;
        let accepted = panics::contain(self.tls.accept(socket).into_fallible()).await;
        let accepted =
            accepted.map_err(|panicked| Refused::new(HandshakeFailure::Other, panicked.to_string()))?;
        let stream = match accepted {
            Ok(stream) => stream,
            Err((error, socket)) => {
                let reason = HandshakeFailure::of(&error);
                let text = errors::explain(&error).unwrap_or_else(|| error.to_string());
                return Err(Refused { reason, text, socket: Some(socket) });
            }
        };
        let leaf = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let Some(leaf) = leaf else {
            let text = "the other end showed no certificate".to_owned();
            return Err(Refused::new(HandshakeFailure::NoCertificate, text));
        };
        match PeerIdentity::of_certificate(leaf, self.policy) {
            Ok(identity) => Ok((stream, identity)),
            Err(error) => Err(Refused::new(HandshakeFailure::Role, error.to_string())),
        }
    }
}

/// A handshake that failed.
struct Refused {
    reason: HandshakeFailure,
    text: String,
    /// The connection, if an alert was sent on it.
    socket: Option<TcpStream>,
}

impl Refused {
    fn new(reason: HandshakeFailure, text: String) -> Self {
        Self { reason, text, socket: None }
    }

    /// Logs at debug only, so that unauthenticated peers cannot flood the log. The counter shows how many
    /// failed.
    fn report(&self, remote: SocketAddr) {
        metrics::counter!(HANDSHAKE_FAILURES, "reason" => self.reason.as_str()).increment(1);
        tracing::debug!(target: LOG_TARGET, %remote, reason = self.reason.as_str(), "refused a connection: {}", self.text);
    }
}

/// Gives the alert time to arrive. A TLS 1.3 client already sends when it is refused. Closing a socket with
/// unread bytes resets the connection, and the reset would discard the alert.
async fn linger(mut socket: TcpStream) {
    let farewell = async {
        socket.shutdown().await?;
        let mut rest = socket.take(limits::REFUSAL_LINGER_BYTES);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
    };
    // The connection ends here in any case.
    let _ = timeout(limits::REFUSAL_LINGER, farewell).await;
}

/// Whether an error of `accept` concerns only the connection that it was about to return.
fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}
