//! Operators' orders: verified when a client hands them in, and when a peer's log brings them.
//!
//! An order is verified once, before what it destroys is applied, against the CAs that are trusted then, at the
//! time that it states: the operator's certificate may have expired since. With `node.trust distributed` nothing
//! destructive is taken from a log without one: that origin's log ends here at the operation before.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use metrics::counter;
use rustls_pki_types::CertificateDer;

use super::{
    closings::Closings,
    signers::{self, OperatorError},
    work,
};
use crate::{
    runtime::{
        alarms::Alarms,
        planted::{self, Bug},
    },
    store::{Store, StoreError},
};
use brock_core::{
    base::{
        id::{ClusterId, KeyHash, NodeId, Origin},
        limits, metrics as names,
        time::WallClock,
        trust::TrustMode,
        vector::{Clock, Stamp},
    },
    domain::{
        evidence::Evidence,
        operation::{Entry, Operation},
        order::{Chain, OrderProof, SignedOrder, Subject},
        segment::{Segment, SegmentEntry},
    },
};
use brock_net::tls::{
    roles::PeerIdentity,
    statement::{At, Signed, StatementVerifier},
};

/// Why an order is not valid here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// There is none.
    #[error("no operator has signed it")]
    Missing,
    /// This node belongs to no cluster that orders can name.
    #[error(
        "this node's own certificate states no trust domain (it has no SPIFFE URI), so no order can be verified"
    )]
    NoCluster,
    /// The operator's certificates did not come with it and are not here.
    #[error("the certificate of the operator who signed it is not known here")]
    UnknownSigner,
    /// No operator of this cluster has signed it, or it was changed.
    #[error(transparent)]
    Signer(#[from] OperatorError),
    /// It was given long ago, or a clock is wrong.
    #[error(
        "it was given {0} s from the time of this node's clock, and at most {max} s are accepted: check both clocks, and \
         sign it again", max = limits::ORDER_CLOCK_SKEW.as_secs()
    )]
    Time(u64),
    /// It could not be verified.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An operation that this node does not take from a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Which.
    pub stamp: Stamp,
    /// Why.
    pub reason: OrderError,
}

/// Verifies orders. Cheap to clone.
#[derive(Clone)]
pub struct Orders(Arc<Inner>);

struct Inner {
    mode: TrustMode,
    verifier: StatementVerifier,
    cluster: Option<ClusterId>,
    store: Store,
    wall_clock: WallClock,
    alarms: Alarms,
    /// The first nodes of whose logs an operation was refused. Each raises one alarm.
    refused: Mutex<BTreeSet<NodeId>>,
    /// Logs that operators have closed.
    closings: Closings,
}

impl Orders {
    /// The cluster is that of the node's own certificate, if this names one.
    pub fn new(
        mode: TrustMode,
        cluster: Option<ClusterId>,
        verifier: StatementVerifier,
        store: Store,
        (wall_clock, alarms): (WallClock, Alarms),
    ) -> Self {
        let (refused, closings) = <_>::default();
        Self(Arc::new(Inner { mode, verifier, cluster, store, wall_clock, alarms, refused, closings }))
    }

    /// Whether destruction needs an order here.
    pub fn are_required(&self) -> bool {
        self.0.mode == TrustMode::Distributed
    }

    /// Whether this node can verify orders: its own certificate says which cluster's.
    pub fn can_verify(&self) -> bool {
        self.0.cluster.is_some()
    }

    /// Verifies an order that a client hands in, or that a node passes on, and keeps the operator's certificates.
    /// Returns the operator.
    ///
    /// Contract: the order is this cluster's, about exactly this subject, signed by a trusted certificate of role
    /// admin, and was given at most [`limits::ORDER_CLOCK_SKEW`] ago.
    pub async fn accept(
        &self,
        subject: Subject<'_>,
        order: &SignedOrder,
    ) -> Result<PeerIdentity, OrderError> {
        let SignedOrder { proof, chain } = order.clone();
        let apart = self.0.wall_clock.now_ms().abs_diff(u64::try_from(proof.at_unix_ms).unwrap_or_default());
        if apart > u64::try_from(limits::ORDER_CLOCK_SKEW.as_millis()).unwrap_or(u64::MAX) {
            return Err(OrderError::Time(apart.div_ceil(1000)));
        }
        let content = self.content(subject, proof.at_unix_ms)?;
        let inner = Arc::clone(&self.0);
        let verified = work(move || {
            let operator = inner.verify(&content, &proof, &chain, At::Now)?;
            let is_known = inner.store.chain(&chain.id())?.is_some();
            Ok::<_, OrderError>((operator, (!is_known).then_some(chain)))
        });
        let (operator, new_chain) = verified.await??;
        if let Some(chain) = new_chain {
            self.0.store.keep_chains(vec![chain]).await?;
        }
        Ok(operator)
    }

    /// Verifies an order of some time ago. Blocks.
    pub(super) fn verify_past(
        &self,
        subject: Subject<'_>,
        order: &SignedOrder,
    ) -> Result<PeerIdentity, OrderError> {
        let SignedOrder { proof, chain } = order;
        let content = self.content(subject, proof.at_unix_ms)?;
        self.0.verify(&content, proof, chain, At::Time(u64::try_from(proof.at()).unwrap_or_default()))
    }

    pub(super) fn store(&self) -> &Store {
        &self.0.store
    }

    pub(super) fn alarm(&self, text: String) {
        self.0.alarms.raise(text);
    }

    pub(super) fn closings(&self) -> &Closings {
        &self.0.closings
    }

    fn content(&self, subject: Subject<'_>, at_unix_ms: i64) -> Result<Vec<u8>, OrderError> {
        Ok(subject.encode(&self.0.cluster.ok_or(OrderError::NoCluster)?, at_unix_ms))
    }

    /// Verifies the orders in a segment above `applied`. `received` are the chains that came with it, as claimed.
    /// Returns the chains that proved to be operators', to be kept before the segment is applied; and, if orders are
    /// required, the first destruction without a valid one. The segment is then cut before that. Blocks.
    pub fn check(
        &self,
        segment: &mut Segment,
        received: Vec<Chain>,
        applied: Clock,
    ) -> Result<(Vec<Chain>, Option<Refused>), StoreError> {
        let mut new = HashMap::new();
        for chain in received {
            let id = chain.id();
            if self.0.store.chain(&id)?.is_none() {
                new.insert(id, chain);
            }
        }
        let mut kept = HashMap::new();
        for index in 0..segment.entries.len() {
            let SegmentEntry::Applicable(entry, _) = &segment.entries[index] else { continue };
            if entry.clock <= applied || !entry.operation.destroys() {
                continue;
            }
            let id = entry.order.as_ref().map(|order| order.certificate).unwrap_or_default();
            // One order proves a chain, or does not: a peer cannot make this node verify the same one again and again.
            let first = new.remove(&id);
            if !self.are_required() && first.is_none() {
                continue;
            }
            let chain = match (&first, kept.get(&id)) {
                (Some(chain), _) | (None, Some(chain)) => Some(Chain::clone(chain)),
                (None, None) if entry.order.is_some() => self.0.store.chain(&id)?,
                (None, None) => None,
            };
            match self.verify_entry(entry, chain.as_ref()) {
                Ok(()) => drop(first.map(|chain| kept.insert(id, chain))),
                Err(OrderError::Store(error)) => return Err(error),
                Err(_) if !self.are_required() => {}
                Err(reason) => {
                    let stamp = Stamp { origin: segment.origin, clock: entry.clock };
                    segment.cut_before(stamp.clock);
                    return Ok((kept.into_values().collect(), Some(Refused { stamp, reason })));
                }
            }
        }
        Ok((kept.into_values().collect(), None))
    }

    /// Verifies an entry that is to be applied now by an operator's decision; see [`Orders::check`]. Blocks.
    pub fn check_entry(&self, entry: &Entry) -> Result<(), OrderError> {
        if !self.are_required() || !entry.operation.destroys() {
            return Ok(());
        }
        let id = entry.order.as_ref().map(|order| order.certificate);
        let chain = id.map(|id| self.0.store.chain(&id)).transpose()?.flatten();
        self.verify_entry(entry, chain.as_ref())
    }

    /// Verifies the order in an operation that a state consists of. `received` are the chains that came with it, as
    /// claimed. Returns the chain that it was verified with, if that is new here. Blocks.
    pub fn check_evidence(
        &self,
        key_hash: &KeyHash,
        evidence: &Evidence,
        received: &[Chain],
    ) -> Result<Option<Chain>, OrderError> {
        if !evidence.says().is_some_and(Operation::destroys) {
            return Ok(None);
        }
        let encoded = evidence.operation();
        let Ok((operation, order)) = Operation::decode_with(encoded) else { return Ok(None) };
        let named = order.as_ref().map(|order| order.certificate);
        let new = received.iter().find(|chain| Some(chain.id()) == named);
        if !self.are_required() && new.is_none() {
            return Ok(None);
        }
        let known = named.map(|id| self.0.store.chain(&id)).transpose()?.flatten();
        let entry = Entry {
            clock: Clock::default(),
            key_hash: *key_hash,
            encoded: encoded.clone(),
            operation,
            order,
        };
        match (self.verify_entry(&entry, known.as_ref().or(new)), known) {
            (Ok(()), None) => Ok(new.cloned()),
            (Err(error), _) if self.are_required() => Err(error),
            _ => Ok(None),
        }
    }

    fn verify_entry(&self, entry: &Entry, chain: Option<&Chain>) -> Result<(), OrderError> {
        if entry.order.is_none() && planted::is(Bug::AcceptUnsignedDelete) {
            return Ok(());
        }
        let proof = entry.order.as_ref().ok_or(OrderError::Missing)?;
        let subject =
            Subject::ordered(&entry.operation, &entry.key_hash, proof).ok_or(OrderError::Missing)?;
        let content = self.content(subject, proof.at_unix_ms)?;
        let chain = chain.ok_or(OrderError::UnknownSigner)?;
        let at = At::Time(u64::try_from(proof.at()).unwrap_or_default());
        self.0.verify(&content, proof, chain, at).map(drop)
    }

    /// Notes that a peer's log has an operation that this node does not take: counts it, and raises an alarm for the
    /// first of each origin's node, up to [`limits::REFUSED_NODES_ALARMED`] nodes.
    pub fn note_refused(&self, from: &str, refused: &Refused) {
        let Refused { stamp: Stamp { origin, clock }, reason } = refused;
        counter!(names::ORDERS_REFUSED, "address" => from.to_owned()).increment(1);
        let mut nodes = self.0.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if nodes.len() >= limits::REFUSED_NODES_ALARMED || !nodes.insert(Origin::node_id(origin)) {
            tracing::debug!(from, %origin, %clock, %reason, "an operation without a valid order was refused");
            return;
        }
        drop(nodes);
        self.0.alarms.raise(format!(
            "the log of {origin} destroys a record at clock {clock} without a valid order of an operator ({reason}). This \
             node takes nothing more of that log (node.trust distributed). If that node is honest, it ran with node.trust \
             centralized (`node-admin trust migrate` there, which brings its records here), or a CA or revocation list \
             differs; if not, find out who controls it: docs/guides/troubleshooting.md, A log ends at an \
             operation without an order"
        ));
    }
}

impl Inner {
    fn verify(
        &self,
        content: &[u8],
        proof: &OrderProof,
        chain: &Chain,
        at: At,
    ) -> Result<PeerIdentity, OrderError> {
        let certificates: Vec<CertificateDer<'_>> =
            chain.certificates().iter().map(|der| CertificateDer::from(der.as_ref())).collect();
        let signed = Signed { scheme: proof.scheme, signature: proof.signature.to_vec() };
        let cluster = self.cluster.ok_or(OrderError::NoCluster)?;
        Ok(signers::operator(&self.verifier, cluster, &certificates, (content, at), &signed)?)
    }
}
