//! From a bound listener to a stream of identified connections, for tonic's
//! `serve_with_incoming_shutdown`, and from one such server to its successor.
//!
//! Peers reach this code before they are authenticated. Therefore each handshake runs in its own task with
//! a deadline, the numbers of handshakes and connections are bounded, failures of unauthenticated peers are
//! logged at debug only, and an error of one connection does not end the loop.
//!
//! Unfinished handshakes and identified connections are bounded apart. A handshake that finds all places taken
//! replaces the oldest one, so that connections that say nothing delay no others. Identified callers share their
//! places as `shares` says: the caller that has most gives way to others.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use rustls::{ServerConfig, server::Acceptor as Reading};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};
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
    level::WireLevel,
    registry::{ConnectionRegistry, OtherEnd},
    roles::{PeerIdentity, Role, RolePolicy},
    shares::{Open, Shares, Usage},
};
use crate::{
    listen, panics,
    places::{Place, Places, network},
    task::{TaskName, TaskStatus, Tasks},
};
use brock_core::base::{
    limits,
    metrics::{CONNECTIONS_WITHOUT_URI, HANDSHAKE_FAILURES},
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
    /// Who shares are counted for: the holder of the certificate; without a URI several hosts may have the same
    /// one, so each network counts.
    pub fn holder(&self) -> String {
        let holder = self.identity.holder();
        if self.identity.legacy { format!("{holder} at {}", network(self.remote.ip())) } else { holder }
    }

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

/// How many connections a listener may have.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// Of identified callers.
    pub connections: usize,
    /// Whose handshake is not finished.
    pub handshakes: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self { connections: limits::CONNECTIONS_MAX, handshakes: limits::HANDSHAKES_MAX }
    }
}

/// Accepts on `listener`, as `identity`, until `tasks` stop or the returned stream is dropped.
/// Connections close when their certificates are no longer trusted.
pub fn accept(listener: TcpListener, identity: &Identity, room: Room, tasks: &Tasks) -> Incoming {
    let registry = Some(Arc::clone(identity.registry()));
    accept_within(
        Bounds { room, registry, level: identity.levels().node, ..Bounds::default() },
        listener,
        identity.server_config(),
        identity.policy(),
        tasks,
    )
}

/// The limits, which tests lower.
pub(crate) struct Bounds {
    pub(crate) room: Room,
    pub(crate) handshake_timeout: Duration,
    /// How long a connection is unused before it counts as idle.
    pub(crate) idle: Duration,
    pub(crate) registry: Option<Arc<ConnectionRegistry>>,
    /// The level of wire encryption that `config` has, for messages.
    pub(crate) level: WireLevel,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            room: Room::default(),
            handshake_timeout: limits::HANDSHAKE_TIMEOUT,
            idle: limits::CONNECTION_IDLE,
            registry: None,
            level: WireLevel::Default,
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
        config,
        level: bounds.level,
        policy,
        sender,
        tasks: tasks.clone(),
        shares: Shares::new(bounds.room.connections, bounds.idle),
        handshakes: Places::new(bounds.room.handshakes),
        handshake_timeout: bounds.handshake_timeout,
        registry: bounds.registry,
        legacy_seen: Arc::default(),
        last_mismatch: Arc::default(),
    };
    tasks.spawn(TaskName::Accept, |status| acceptor.run(listener, status));
    Incoming { queue: Some(receiver), draining: tasks.stopping().clone(), successor: None }
}

#[derive(Clone)]
struct Acceptor {
    config: Arc<ServerConfig>,
    level: WireLevel,
    policy: RolePolicy,
    sender: mpsc::Sender<io::Result<Accepted>>,
    tasks: Tasks,
    shares: Arc<Shares>,
    handshakes: Arc<Places>,
    handshake_timeout: Duration,
    registry: Option<Arc<ConnectionRegistry>>,
    /// Whether a certificate without a SPIFFE URI was logged: once is enough.
    legacy_seen: Arc<AtomicBool>,
    /// When a caller without the required wire encryption was last logged as a warning.
    last_mismatch: Arc<Mutex<Option<Instant>>>,
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

    /// Never returns.
    async fn accept_all(&self, listener: TcpListener, status: &TaskStatus) {
        let mut last_warning: Option<Instant> = None;
        status.set_state("accepting");
        loop {
            match listen::accept(&listener).await {
                Ok((socket, remote)) => {
                    status.clear_error();
                    let place = self.handshakes.take(remote.ip()).await;
                    self.tasks.spawn_short(self.clone().greet(socket, remote, place));
                }
                Err(error) => {
                    // Out of descriptors or memory: the pause keeps the loop from spinning until connections have
                    // closed.
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

    /// Identifies the caller, unless its place is needed for another one, and passes the connection on.
    async fn greet(self, socket: TcpStream, remote: SocketAddr, place: Place) {
        let stop: CancellationToken = self.tasks.stopping().clone();
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            () = place.evicted() => {
                let text = "others needed its place before its handshake was finished".to_owned();
                return Refused::new(HandshakeFailure::Replaced, text).report(remote);
            }
            accepted = self.identify(socket, remote) => accepted,
        };
        drop(place);
        let Some(accepted) = accepted else { return };
        tokio::select! {
            () = stop.cancelled() => {}
            // If the server is gone, the connection closes with this drop.
            _ = self.sender.send(Ok(accepted)) => {}
        }
    }

    /// `None`: the caller was refused.
    async fn identify(&self, socket: TcpStream, remote: SocketAddr) -> Option<Accepted> {
        // Loaded before the handshake, which uses this store or a newer one.
        let before = self.registry.as_ref().map(|registry| (registry, registry.trust_store().load()));
        let accepted_at = Instant::now();
        let (stream, identity) = match timeout(self.handshake_timeout, self.handshake(socket)).await {
            Ok(Ok(accepted)) => accepted,
            Ok(Err(refused)) => {
                refused.report(remote);
                if refused.reason == HandshakeFailure::WireEncryption {
                    self.warn_of_mismatch(remote, &refused.text);
                }
                if let Some(socket) = refused.socket {
                    linger(socket).await;
                }
                return None;
            }
            Err(_) => {
                let text = format!("no handshake within {:?}", self.handshake_timeout);
                Refused::new(HandshakeFailure::Timeout, text).report(remote);
                return None;
            }
        };
        let session = stream.get_ref().1;
        let end = || OtherEnd::Caller { is_node: identity.role == Role::Node };
        let registered =
            before.as_ref().map(|(registry, before)| registry.register(before, session, &identity, end()));
        let usage = Usage::new(registered.as_ref().map(|registered| registered.abort().clone()));
        let admitted = self.shares.admit(&identity, remote.ip(), Arc::clone(&usage));
        // A connection that gives way has its descriptor until it is closed. Meanwhile this one counts as a handshake.
        let Ok(Some(open)) = timeout(self.handshake_timeout, admitted).await else {
            let text = "there is no place for another connection of this role".to_owned();
            Refused::new(HandshakeFailure::NoPlace, text).report(remote);
            return None;
        };
        tracing::debug!(target: LOG_TARGET, %remote, %identity, "accepted a connection");
        if identity.legacy {
            metrics::counter!(CONNECTIONS_WITHOUT_URI, "role" => identity.role.as_str()).increment(1);
        }
        if identity.legacy && !self.legacy_seen.swap(true, Ordering::Relaxed) {
            tracing::warn!(target: LOG_TARGET, %remote, %identity,
                "a certificate without a SPIFFE URI was accepted by its key usages; make one with `brock cert`, and \
                 set node.require-uri-roles once all have one"
            );
        }
        let stream = AbortableStream::new(stream, registered).noting(usage);
        let draining = self.tasks.stopping().clone();
        let info = ConnectionInfo { remote, identity: Arc::new(identity), accepted_at, draining };
        Some(Accepted { stream: Coalesce::new(stream), info, _open: open })
    }

    async fn handshake(&self, socket: TcpStream) -> Result<(TlsStream<TcpStream>, PeerIdentity), Refused> {
        let accepted = panics::contain(self.accept_tls(socket)).await;
        let stream =
            accepted.map_err(|panicked| Refused::new(HandshakeFailure::Other, panicked.to_string()))??;
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

    /// Reads the caller's first message by itself: what is lacking in it is named here, and not in an alert.
    async fn accept_tls(&self, socket: TcpStream) -> Result<TlsStream<TcpStream>, Refused> {
        let mut reading = LazyConfigAcceptor::new(Reading::default(), socket);
        let start = match (&mut reading).await {
            Ok(start) => start,
            Err(error) => return Err(Refused::of(&error, reading.take_io())),
        };
        let lacking = self.level.lacks(&start.client_hello());
        let accepted = start.into_stream(Arc::clone(&self.config)).into_fallible().await;
        accepted.map_err(|(error, socket)| {
            let refused = Refused::of(&error, Some(socket));
            match lacking {
                Some(text) if refused.reason == HandshakeFailure::WireEncryption => {
                    Refused { text, ..refused }
                }
                _ => refused,
            }
        })
    }

    /// Warns of it once in a while. Callers that are not identified yet must not fill the log.
    fn warn_of_mismatch(&self, remote: SocketAddr, text: &str) {
        let mut last = self.last_mismatch.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|at| at.elapsed() >= limits::ACCEPT_WARN_INTERVAL) {
            *last = Some(Instant::now());
            tracing::warn!(target: LOG_TARGET, %remote, level = %self.level, "refused a caller for its wire encryption: {text}");
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

    /// Of a handshake that failed with this error.
    fn of(error: &io::Error, socket: Option<TcpStream>) -> Self {
        let text = errors::explain(error).unwrap_or_else(|| error.to_string());
        Self { reason: HandshakeFailure::of(error), text, socket }
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
