//! The connection registry: which connections are open, and which of them the current trust store would
//! still accept.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use rustls::CommonState;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_util::sync::CancellationToken;

use super::{
    level::Negotiated,
    roles::PeerIdentity,
    trust_store::{CurrentTrustStore, TrustStore},
};
use brock_core::base::id::NodeId;

/// Which side of a connection the peer is.
pub(crate) enum OtherEnd {
    /// The peer dialled us.
    Caller {
        /// Its certificate states the role of a node.
        is_node: bool,
    },
    /// We dialled the peer by this name.
    Dialled {
        /// The name that its certificate has to state.
        name: ServerName<'static>,
        /// The address.
        address: String,
    },
}

/// An open connection to another node.
#[derive(Debug, Clone)]
pub struct OpenPeer {
    /// The address that was dialled; `None`: the peer dialled us.
    pub address: Option<String>,
    /// The node id in its certificate; `None` without a URI.
    pub node_id: Option<NodeId>,
    /// What the two ends have agreed on.
    pub negotiated: Negotiated,
}

struct OpenConnection {
    chain: Vec<CertificateDer<'static>>,
    end: OtherEnd,
    node_id: Option<NodeId>,
    negotiated: Negotiated,
    /// The generation of the trust store that was current before its handshake.
    generation: u64,
    abort: CancellationToken,
}

impl OpenConnection {
    fn is_accepted_by(&self, store: &TrustStore, now: UnixTime) -> bool {
        match &self.end {
            OtherEnd::Caller { .. } => store.accepts_caller(&self.chain, now),
            OtherEnd::Dialled { name, .. } => store.accepts_node(&self.chain, name, now),
        }
    }
}

/// The open connections of this process, and the trust store that new ones are verified against.
pub(crate) struct ConnectionRegistry {
    trust_store: Arc<CurrentTrustStore>,
    open: Mutex<HashMap<u64, OpenConnection>>,
    next_id: AtomicU64,
}

impl fmt::Debug for ConnectionRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionRegistry").finish_non_exhaustive()
    }
}

impl ConnectionRegistry {
    pub(crate) fn new(trust_store: Arc<CurrentTrustStore>) -> Arc<Self> {
        Arc::new(Self { trust_store, open: Mutex::default(), next_id: AtomicU64::default() })
    }

    /// The trust store that a handshake which starts now is verified against.
    pub(crate) fn trust_store(&self) -> &Arc<CurrentTrustStore> {
        &self.trust_store
    }

    /// Closes the connections that the current trust store would not accept. Returns how many.
    pub(crate) fn close_untrusted(&self) -> usize {
        let (store, now) = (self.trust_store.load(), UnixTime::now());
        self.close(|connection| !connection.is_accepted_by(&store, now))
    }

    /// How many callers connected under an older trust store than `store`.
    pub(crate) fn callers_before(&self, store: &TrustStore) -> usize {
        let is_caller = |connection: &&OpenConnection| matches!(connection.end, OtherEnd::Caller { .. });
        let is_older = |connection: &&OpenConnection| connection.generation < store.generation();
        self.lock().values().filter(is_caller).filter(is_older).count()
    }

    /// Closes the connections of those callers, except of nodes. Returns how many.
    pub(crate) fn close_clients_before(&self, store: &TrustStore) -> usize {
        self.close(|connection| {
            matches!(connection.end, OtherEnd::Caller { is_node: false })
                && connection.generation < store.generation()
        })
    }

    /// Closes the connections that are `chosen`. Returns how many.
    fn close(&self, chosen: impl Fn(&OpenConnection) -> bool) -> usize {
        let mut closed = 0;
        for connection in self.lock().values().filter(|connection| chosen(connection)) {
            connection.abort.cancel();
            closed += 1;
        }
        closed
    }

    /// The connections to other nodes.
    pub(crate) fn peers(&self) -> Vec<OpenPeer> {
        let peer = |connection: &OpenConnection| {
            let address = match &connection.end {
                OtherEnd::Caller { is_node: false } => return None,
                OtherEnd::Caller { is_node: true } => None,
                OtherEnd::Dialled { address, .. } => Some(address.clone()),
            };
            let (node_id, negotiated) = (connection.node_id.clone(), connection.negotiated.clone());
            Some(OpenPeer { address, node_id, negotiated })
        };
        self.lock().values().filter_map(peer).collect()
    }

    /// How many connections there are of each kind: dialled, accepted from a node, accepted from a client.
    pub(crate) fn negotiated(&self) -> BTreeMap<(&'static str, Negotiated), usize> {
        let mut counts = BTreeMap::new();
        for connection in self.lock().values() {
            let end = match connection.end {
                OtherEnd::Caller { is_node: false } => "client",
                OtherEnd::Caller { is_node: true } => "accepted",
                OtherEnd::Dialled { .. } => "dialled",
            };
            *counts.entry((end, connection.negotiated.clone())).or_default() += 1;
        }
        counts
    }

    /// Registers a connection until the returned value is dropped.
    ///
    /// `before` is the trust store that was current before the handshake. The handshake was verified
    /// against that store or a newer one.
    ///
    /// Contract: a connection whose trust store was replaced in the meantime is closed, either here or by
    /// [`ConnectionRegistry::close_untrusted`].
    pub(crate) fn register(
        self: &Arc<Self>,
        before: &TrustStore,
        session: &CommonState,
        identity: &PeerIdentity,
        end: OtherEnd,
    ) -> Registration {
        let abort = CancellationToken::new();
        let chain = session.peer_certificates().unwrap_or_default();
        let chain = chain.iter().map(|der| der.clone().into_owned()).collect();
        let generation = before.generation();
        let (node_id, negotiated) = (identity.node_id(), Negotiated::of(session));
        let connection = OpenConnection { chain, end, node_id, negotiated, generation, abort: abort.clone() };
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        self.lock().insert(id, connection);
        if self.trust_store.load().generation() != generation {
            // Its generation is not known for certain. The peer may dial again.
            abort.cancel();
        }
        Registration { registry: Arc::clone(self), id, generation, abort }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, OpenConnection>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's entry in the registry. Dropping it removes the entry.
pub(crate) struct Registration {
    registry: Arc<ConnectionRegistry>,
    id: u64,
    generation: u64,
    abort: CancellationToken,
}

impl Registration {
    /// Cancelled when the connection must close.
    pub(crate) fn abort(&self) -> &CancellationToken {
        &self.abort
    }

    /// Whether certificates were rotated since the handshake.
    pub(crate) fn is_outdated(&self) -> bool {
        self.registry.trust_store.load().generation() != self.generation
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.registry.lock().remove(&self.id);
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration").field("id", &self.id).finish_non_exhaustive()
    }
}
