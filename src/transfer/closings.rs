//! Closings: an operator's order that the logs of a node end where they are, because its certificate was stolen.
//!
//! The thief may be born as that node and log on. Beyond the clocks of the closing nothing of these origins is accepted
//! from any node. What was accepted by then cannot be told from what the node itself has done: it stays, and fills
//! other nodes, because a closing names the births too. A closing is kept, and each node shows those that it has at the
//! beginning of a stream, so that all nodes learn it. Of two closings of one node the later one counts.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use prost::Message;
use tokio::sync::Mutex as AsyncMutex;

use super::{
    orders::{OrderError, Orders},
    signers::OperatorError,
    work,
};
use crate::store::StoreError;
use brock_core::{
    base::{
        id::{ClusterId, NodeId, Origin},
        limits,
        vector::Clock,
    },
    domain::{
        birth::Birth,
        codec::CodecError,
        order::{ClosedLog, SignedOrder, Subject},
    },
    proto,
};
use brock_net::tls::statement::StatementError;

/// The name under which the store keeps the closings.
const NOTE: &[u8] = b"closed";

/// What is kept is never taken for less than it was: that would open logs that an operator has closed.
const DAMAGED: CodecError = CodecError::Malformed("closings");

/// A closing as an operator has signed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closing {
    /// The node whose origins they are.
    pub node_id: NodeId,
    /// Its logs, in the order of their origins.
    pub logs: Vec<ClosedLog>,
    /// The operator's order.
    pub order: SignedOrder,
}

/// The closings that a node knows. The note in the store has the same, and is read at the start only.
#[derive(Debug, Default)]
pub(super) struct Closings {
    known: RwLock<Closed>,
    /// Held while the note is written.
    writing: AsyncMutex<()>,
}

impl Closings {
    fn read(&self) -> RwLockReadGuard<'_, Closed> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Closed> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The closings of a node, and what follows from them.
#[derive(Debug, Default)]
struct Closed {
    closings: BTreeMap<NodeId, Closing>,
    logs: HashMap<Origin, ClosedLog>,
}

impl Closed {
    fn put(&mut self, closing: Closing) {
        self.closings.insert(closing.node_id.clone(), closing);
        let logs = self.closings.values().flat_map(|closing| &closing.logs);
        self.logs = logs.map(|log| (log.origin, *log)).collect();
    }

    fn is_new(&self, closing: &Closing) -> bool {
        match self.closings.get(&closing.node_id) {
            Some(known) => known.order.proof.at_unix_ms < closing.order.proof.at_unix_ms,
            None => self.closings.len() < limits::CLOSINGS_MAX,
        }
    }
}

impl Closing {
    /// Reads one from a message; the error says what is wrong with it.
    pub fn from_proto(closing: proto::Closing) -> Result<Self, &'static str> {
        let proto::Closing { node_id, logs, order } = closing;
        let node_id: NodeId = node_id.parse().map_err(|_| "names no node")?;
        if logs.is_empty() || logs.len() > limits::ORIGINS_PER_NODE {
            return Err("has no logs, or more than a node may have");
        }
        let logs: Option<Vec<ClosedLog>> = logs.iter().map(ClosedLog::from_proto).collect();
        let logs = logs.ok_or("has a malformed log")?;
        if !logs.iter().all(|log| log.origin.is_of(&node_id)) {
            return Err("has a log of another node");
        }
        if !logs.is_sorted_by(|one, other| one.origin < other.origin) {
            return Err("has logs out of the order of their origins, or one of them twice");
        }
        Ok(Self { node_id, logs, order: SignedOrder::from_proto(order.unwrap_or_default())? })
    }

    /// As it travels and is kept.
    pub fn to_proto(&self) -> proto::Closing {
        proto::Closing {
            node_id: self.node_id.to_string(),
            logs: self.logs.iter().map(ClosedLog::to_proto).collect(),
            order: Some(self.order.to_proto()),
        }
    }

    fn subject(&self) -> Subject<'_> {
        Subject::Close(&self.node_id, &self.logs)
    }
}

/// What has become of the closings that a peer has shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Learnt {
    /// How many were new here and are kept.
    pub taken: usize,
    /// How many are malformed, or no operator has signed them, revoked or not.
    pub refused: usize,
}

impl Orders {
    /// Where the log of an origin ends by an operator's order; `None`: it is open.
    pub fn closed(&self, origin: &Origin) -> Option<Clock> {
        self.closings().read().logs.get(origin).map(|log| log.end)
    }

    /// Whether an operator has closed the log of this birth, and so taken for genuine what it has signed up to there:
    /// a node that is filled later cannot verify its certificate, which was revoked.
    pub(super) fn accepts(&self, birth: &Birth, cluster: &ClusterId) -> bool {
        let closed = self.closings().read().logs.get(&birth.origin).and_then(|log| log.birth);
        closed.is_some_and(|statement| statement == birth.statement(cluster))
    }

    /// The closings that this node knows, as they travel.
    pub fn known_closings(&self) -> Vec<proto::Closing> {
        self.closings().read().closings.values().map(Closing::to_proto).collect()
    }

    /// Reads what the store keeps. It was verified when it came.
    pub async fn load_closings(&self) -> Result<(), StoreError> {
        let kept = self.store().note(NOTE).await?.unwrap_or_default();
        let mut closed = Closed::default();
        for one in proto::Closings::decode(kept.as_slice()).map_err(|_| DAMAGED)?.closings {
            closed.put(Closing::from_proto(one).map_err(|_| DAMAGED)?);
        }
        *self.closings().write() = closed;
        Ok(())
    }

    /// Takes a closing that an operator hands in. Durable and in force here when it returns.
    ///
    /// Contract: see [`Orders::accept`].
    pub async fn close(&self, closing: Closing) -> Result<(), OrderError> {
        self.accept(closing.subject(), &closing.order).await?;
        self.keep(vec![closing]).await?;
        Ok(())
    }

    /// Takes the closings that a peer knows, as far as they are new here and an operator has signed them.
    pub async fn learn_closings(&self, claimed: Vec<proto::Closing>) -> Result<Learnt, StoreError> {
        if !self.can_verify() {
            return Ok(Learnt::default());
        }
        let count = claimed.len();
        let claimed = claimed.into_iter().take(limits::CLOSINGS_MAX);
        let claimed: Vec<Closing> = claimed.filter_map(|closing| Closing::from_proto(closing).ok()).collect();
        let malformed = count - claimed.len();
        let new: Vec<Closing> =
            claimed.into_iter().filter(|closing| self.closings().read().is_new(closing)).collect();
        if new.is_empty() {
            return Ok(Learnt { taken: 0, refused: malformed });
        }
        let (this, count) = (self.clone(), new.len());
        let verify = move || {
            let (mut genuine, mut revoked) = (Vec::new(), 0);
            for closing in new {
                match this.verify_past(closing.subject(), &closing.order) {
                    Ok(_) => genuine.push(closing),
                    // Its operator was revoked since: the peer that has it does no wrong.
                    Err(OrderError::Signer(OperatorError::Statement(StatementError::Revoked))) => {
                        revoked += 1;
                    }
                    Err(_) => {}
                }
            }
            (genuine, revoked)
        };
        let (genuine, revoked) = work(verify).await?;
        let taken = genuine.len();
        self.keep(genuine).await?;
        Ok(Learnt { taken, refused: malformed + count - taken - revoked })
    }

    async fn go_on(&self, closed: &Origin) -> Result<(), StoreError> {
        let fresh = self.store().go_on("closed").await?;
        self.alarm(format!(
            "an operator has closed the logs of this node, which was taken for stopped: it goes on as {fresh}. What it has \
             acknowledged of {closed} beyond that end, no other node takes: compare with `node-admin record trace`, and \
             repeat what is missing"
        ));
        Ok(())
    }

    async fn keep(&self, new: Vec<Closing>) -> Result<(), StoreError> {
        if new.is_empty() {
            return Ok(());
        }
        // One at a time: each note holds what the one before it held.
        let _writing = self.closings().writing.lock().await;
        let mut all: BTreeMap<NodeId, Closing> = self.closings().read().closings.clone();
        let fresh: Vec<Closing> =
            new.into_iter().filter(|closing| self.closings().read().is_new(closing)).collect();
        all.extend(fresh.iter().map(|closing| (closing.node_id.clone(), closing.clone())));
        let note = proto::Closings { closings: all.values().map(Closing::to_proto).collect() };
        self.store().keep_note(NOTE, note.encode_to_vec()).await?;
        let own = self.store().origin();
        let closes_own = fresh.iter().any(|closing| closing.logs.iter().any(|log| log.origin == own));
        {
            let mut closed = self.closings().write();
            for closing in fresh {
                tracing::warn!(node_id = %closing.node_id, "an operator has closed the logs of a node");
                closed.put(closing);
            }
        }
        // No other node takes what is added to that log.
        if closes_own { self.go_on(&own).await } else { Ok(()) }
    }
}
