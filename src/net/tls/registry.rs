//! What every handshake is judged by, and who is connected: both change while the node runs.
//!
//! The rustls configurations are made once and ask here each time, so that nobody who dials or accepts
//! needs to know that certificates were exchanged.

use std::{
    collections::HashMap,
    fmt,
    future::Future as _,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use rustls::{
    SignatureScheme,
    client::{ResolvesClientCert, WebPkiServerVerifier, danger::ServerCertVerifier as _},
    server::{ClientHello, ResolvesServerCert, danger::ClientCertVerifier},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::watch,
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::{
    TlsError,
    config::{self, Material},
};

/// Our own certificate, and whom we trust, as of one moment.
pub(crate) struct Trust {
    own: Arc<CertifiedKey>,
    pub(crate) clients: Arc<dyn ClientCertVerifier>,
    pub(crate) nodes: Arc<WebPkiServerVerifier>,
    /// How many there were before.
    number: u64,
}

/// Holds a key: nothing of it is shown.
impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").finish_non_exhaustive()
    }
}

impl Trust {
    pub(crate) fn of(material: &Material<'_>) -> Result<Self, TlsError> {
        let refused = |source| TlsError::Config { dir: material.dir.to_owned(), source };
        let own =
            CertifiedKey::from_der(material.chain.to_vec(), material.key.clone_key(), &config::provider());
        Ok(Self {
            own: Arc::new(own.map_err(refused)?),
            clients: config::client_verifier(material)?,
            nodes: config::node_verifier(material)?,
            number: 0,
        })
    }

    /// Whether somebody who is connected could still connect now.
    fn admits(&self, peer: &OpenPeer, now: UnixTime) -> bool {
        let Some((leaf, intermediates)) = peer.chain.split_first() else { return false };
        match &peer.end {
            OtherEnd::Caller { .. } => self.clients.verify_client_cert(leaf, intermediates, now).is_ok(),
            OtherEnd::Dialled(name) => {
                self.nodes.verify_server_cert(leaf, intermediates, name, &[], now).is_ok()
            }
        }
    }
}

/// Who is at the other end of a connection.
pub(crate) enum OtherEnd {
    /// Somebody who has dialled us.
    Caller {
        /// With the certificate of a node.
        is_node: bool,
    },
    /// Whom we have dialled by this name.
    Dialled(ServerName<'static>),
}

/// Somebody who is connected.
struct OpenPeer {
    chain: Vec<CertificateDer<'static>>,
    end: OtherEnd,
    /// The number of the trust that its handshake was judged by.
    judge: u64,
    cut: CancellationToken,
}

/// The trust of now, and the connections that were made by it.
pub(crate) struct Current {
    trust: watch::Sender<Arc<Trust>>,
    open: Mutex<HashMap<u64, OpenPeer>>,
    next: AtomicU64,
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Current").finish_non_exhaustive()
    }
}

impl Current {
    pub(crate) fn new(trust: Trust) -> Arc<Self> {
        let trust = watch::Sender::new(Arc::new(trust));
        Arc::new(Self { trust, open: Mutex::default(), next: AtomicU64::default() })
    }

    pub(crate) fn trust(&self) -> Arc<Trust> {
        Arc::clone(&self.trust.borrow())
    }

    /// Tells of every exchange.
    pub(crate) fn exchanges(&self) -> watch::Receiver<Arc<Trust>> {
        self.trust.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, OpenPeer>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on handshakes are judged by this.
    pub(crate) fn replace(&self, trust: Trust) {
        self.trust.send_modify(|now| {
            let number = now.number + 1;
            *now = Arc::new(Trust { number, ..trust });
        });
    }

    /// Ends the connections of those who could not connect now. Returns how many.
    pub(crate) fn cut_off(&self) -> usize {
        let (trust, now) = (self.trust(), UnixTime::now());
        let open = self.lock();
        let refused: Vec<&OpenPeer> = open.values().filter(|peer| !trust.admits(peer, now)).collect();
        refused.iter().for_each(|peer| peer.cut.cancel());
        refused.len()
    }

    /// How many are connected that have dialled us and were judged before `trust`.
    pub(crate) fn callers_before(&self, trust: &Trust) -> usize {
        let is_caller = |peer: &&OpenPeer| matches!(peer.end, OtherEnd::Caller { .. });
        self.lock().values().filter(is_caller).filter(|peer| peer.judge < trust.number).count()
    }

    /// Ends the connections of those of them that are no nodes. Returns how many.
    pub(crate) fn cut_clients_before(&self, trust: &Trust) -> usize {
        let open = self.lock();
        let clients = open.values().filter(|peer| matches!(peer.end, OtherEnd::Caller { is_node: false }));
        clients.filter(|peer| peer.judge < trust.number).map(|peer| peer.cut.cancel()).count()
    }

    /// Follows a connection until what this returns is dropped.
    ///
    /// `before`: the trust from before the handshake, which has judged the chain.
    ///
    /// Contract: whoever was judged by a trust that was replaced meanwhile is cut off, either here or by
    /// [`Current::cut_off`].
    pub(crate) fn register(
        self: &Arc<Self>,
        before: &Arc<Trust>,
        chain: &[CertificateDer<'_>],
        end: OtherEnd,
    ) -> Registered {
        let cut = CancellationToken::new();
        let chain = chain.iter().map(|der| der.clone().into_owned()).collect();
        let judge = before.number;
        let peer = OpenPeer { chain, end, judge, cut: cut.clone() };
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.lock().insert(id, peer);
        if self.trust().number != judge {
            // It must not come to rest between two generations: it may dial again.
            cut.cancel();
        }
        Registered { current: Arc::clone(self), id, judge, cut: Box::pin(cut.cancelled_owned()) }
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.trust.borrow().own))
    }
}

impl ResolvesClientCert for Current {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.trust.borrow().own))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// A connection that is followed.
pub(crate) struct Registered {
    current: Arc<Current>,
    id: u64,
    judge: u64,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.current.lock().remove(&self.id);
    }
}

impl fmt::Debug for Registered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registered").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A stream that ends with an error once it is cut.
#[derive(Debug)]
pub(crate) struct Cuttable<S> {
    stream: S,
    registered: Option<Registered>,
}

impl<S> Cuttable<S> {
    /// Never cut without a registration.
    pub(crate) fn new(stream: S, registered: Option<Registered>) -> Self {
        Self { stream, registered }
    }

    /// Whether certificates were exchanged since its handshake.
    pub(crate) fn is_outdated(&self) -> bool {
        let registered = self.registered.as_ref();
        registered.is_some_and(|registered| registered.current.trust().number != registered.judge)
    }

    #[cfg(test)]
    pub(crate) fn get_ref(&self) -> &S {
        &self.stream
    }

    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let Some(registered) = &mut self.registered else { return Ok(()) };
        match registered.cut.as_mut().poll(cx) {
            Poll::Pending => Ok(()),
            Poll::Ready(()) => {
                let reason = "its certificates are not those that are trusted and used now";
                Err(io::Error::new(io::ErrorKind::ConnectionAborted, reason))
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Cuttable<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

/// Writing is cut, too: whoever does not read must not keep a connection by that.
impl<S: AsyncWrite + Unpin> AsyncWrite for Cuttable<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
