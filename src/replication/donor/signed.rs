//! What a puller signs of the log that it is sent.

use std::sync::Arc;

use super::session::SessionError;
use crate::{
    membership::receipt::Signed,
    store::{Identity, OwnHash, Store},
    transfer::work,
};
use brock_core::{
    base::{
        id::{ClusterId, NodeId},
        vector::Vector,
    },
    domain::{acknowledgement::Acknowledgement, birth::SignedBirth},
    proto,
};

/// Verifies the acknowledgements of one stream.
pub(super) struct Signatures {
    store: Store,
    node_id: NodeId,
    /// Of the puller's present incarnation, verified.
    birth: Option<Arc<SignedBirth>>,
}

/// Whether an acknowledgement counts as proof.
enum Verdict {
    Genuine(Signed),
    /// It proves nothing, and need not be a lie.
    Useless(String),
    Forged(&'static str),
}

impl Signatures {
    pub(super) fn new(store: &Store, node_id: &NodeId) -> Self {
        Self { store: store.clone(), node_id: node_id.clone(), birth: None }
    }

    /// Verifies what the puller has signed beside `applied`. `None`: it proves nothing, so that only the word of the
    /// puller counts, as that of one that does not sign. An error: a lie, and nothing of the message may count.
    pub(super) async fn check(
        &mut self,
        said: &proto::Acknowledgement,
        birth: Option<proto::Birth>,
        applied: &Vector,
    ) -> Result<Option<Signed>, SessionError> {
        let said = Acknowledgement::from_proto(said)?;
        let birth = birth.map(SignedBirth::from_proto).transpose()?;
        if !said.member.is_of(&self.node_id) {
            return Err(SessionError::Forged("it is signed in another node's name"));
        }
        if !said.applied.origin.is_of(self.store.node_id()) {
            return Err(SessionError::Forged("it is about another node's log"));
        }
        if applied.get(&said.applied.origin) != said.applied.clock {
            return Err(SessionError::Forged("it is about another clock than the puller says"));
        }
        let Some(identity) = self.store.identity() else { return Ok(None) };
        let Some(cluster) = identity.cluster() else { return Ok(None) };
        let (known, store) = (self.birth.clone(), self.store.clone());
        let verify = move || match accepted(&*identity, known, birth) {
            Ok(birth) => (Some(Arc::clone(&birth)), verdict(&store, &cluster, said, birth)),
            Err(reason) => (None, Verdict::Useless(reason)),
        };
        let (birth, verdict) = work(verify).await?;
        self.birth = birth;
        match verdict {
            Verdict::Genuine(signed) => Ok(Some(signed)),
            Verdict::Useless(reason) => {
                tracing::debug!(puller = %self.node_id, reason, "an acknowledgement proves nothing");
                Ok(None)
            }
            Verdict::Forged(reason) => Err(SessionError::Forged(reason)),
        }
    }
}

/// The birth that counts from now on. One that is not accepted is no lie: its certificate may have been revoked since,
/// and the node may have another one by now.
fn accepted(
    identity: &dyn Identity,
    known: Option<Arc<SignedBirth>>,
    sent: Option<SignedBirth>,
) -> Result<Arc<SignedBirth>, String> {
    match (known, sent) {
        (Some(known), None) => Ok(known),
        (Some(known), Some(sent)) if *known == sent => Ok(known),
        (_, Some(sent)) => match identity.verify(&sent) {
            Ok(()) => Ok(Arc::new(sent)),
            Err(unbelieved) => Err(unbelieved.to_string()),
        },
        (None, None) => Err("the birth of the puller is not known".to_owned()),
    }
}

/// Blocks for a signature.
fn verdict(store: &Store, cluster: &ClusterId, said: Acknowledgement, birth: Arc<SignedBirth>) -> Verdict {
    if birth.birth.origin != said.member {
        return Verdict::Forged("it is signed by another incarnation than its birth is of");
    }
    if store.born(&said.member).is_some_and(|known| known != birth.birth) {
        return Verdict::Useless("another birth of that incarnation is known here".to_owned());
    }
    if said.applied.origin != store.origin() {
        return Verdict::Useless("it is about an earlier incarnation of this node".to_owned());
    }
    if !said.is_genuine(cluster, &birth.birth.key) {
        return Verdict::Forged("its signature does not match");
    }
    match store.own_hash(said.applied) {
        OwnHash::Known(hash) if hash == said.chain => {
            Verdict::Genuine(Signed { acknowledgement: said, birth })
        }
        OwnHash::Known(_) => Verdict::Forged("it is about another history of this node's log"),
        OwnHash::Nowhere => Verdict::Forged("no node has this node's log up to just there"),
        OwnHash::Unknown => Verdict::Useless("this node does not remember its own log there".to_owned()),
    }
}
