//! Retiring a member: at this node, and at the others, which believe the operator's signature and no node.

use futures::future::join_all;

use super::{error::RequestError, operations::Operations};
use crate::membership::{
    contacts::{Contact, Contacts, Unreachable},
    peer::RemoteError,
};
use brock_core::domain::order::{SignedOrder, Subject};
use brock_net::tls::roles::PeerIdentity;

/// What a node answered to the request to retire a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetireOutcome {
    /// The node.
    pub node: String,
    /// `None`: it has retired the member.
    pub error: Option<RetireError>,
}

/// Why a node has not retired a member.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RetireError {
    /// It could not be asked, or refused.
    #[error(transparent)]
    Remote(RemoteError),
    /// It is a member without an address that this node could use.
    #[error("{0}: repeat this with its address in --node-addresses")]
    Unreachable(Unreachable),
    /// It was not asked.
    #[error(
        "not asked, because no operator has signed this: repeat it at that node, or with `node-admin`, which signs it"
    )]
    Unsigned,
}

impl Operations {
    /// Retires a member here and, with an operator's order, at every peer that answers: a peer believes the operator,
    /// not this node. Without one, the outcomes name the peers at which it must be repeated.
    pub async fn retire(
        &self,
        member: &str,
        order: Option<SignedOrder>,
    ) -> Result<Vec<RetireOutcome>, RequestError> {
        if member == self.store.node_id().as_str() {
            let problem = "is the node that was asked: ask another one to retire it";
            return Err(RequestError::field("member", problem));
        }
        let order = self.verifiable(order);
        match &order {
            Some(order) => drop(self.orders.accept(Subject::Retire(member), order).await?),
            None if self.orders.are_required() => return Err(RequestError::OrderRequired),
            None => {}
        }
        self.retire_here(member).await?;
        let mut outcomes = vec![RetireOutcome { node: self.store.node_id().to_string(), error: None }];
        let Contacts { peers, unreachable, .. } = self.roster.contacts(self.wall_clock.now());
        let answers = peers.into_iter().map(async |Contact { peer, name, .. }| {
            let retired = match &order {
                None => Err(RetireError::Unsigned),
                Some(order) => Ok(peer.retire(member, order.to_proto()).await),
            };
            let error = match retired {
                // A node that does not know the member need not retire it.
                Ok(Ok(()) | Err(RemoteError::Absent(_))) => None,
                Ok(Err(error)) => Some(RetireError::Remote(error)),
                Err(unsigned) => Some(unsigned),
            };
            RetireOutcome { node: name, error }
        });
        // The retired member itself need not agree.
        outcomes.extend(join_all(answers).await.into_iter().filter(|outcome| outcome.node != member));
        // They wait for it all the same.
        let untold = unreachable.into_iter().filter(|(node_id, _)| node_id.as_str() != member);
        outcomes.extend(untold.map(|(node_id, reason)| RetireOutcome {
            node: node_id.to_string(),
            error: Some(RetireError::Unreachable(reason)),
        }));
        Ok(outcomes)
    }

    /// The operator who has signed an order to retire a member, which another node passes on.
    pub async fn retiring(&self, member: &str, order: &SignedOrder) -> Result<PeerIdentity, RequestError> {
        Ok(self.orders.accept(Subject::Retire(member), order).await?)
    }

    /// Retires a member at this node alone. Durable when it returns. The caller has verified that an operator wants
    /// it.
    pub async fn retire_here(&self, member: &str) -> Result<(), RequestError> {
        if member == self.store.node_id().as_str() {
            // A node does not wait for itself.
            return Ok(());
        }
        let members = self.roster.members();
        let _writing = members.writing().await;
        let applied = self.store.applied();
        // The operator may know it by its address, and this node by its id, or the other way round.
        let alias = members.alias(member, self.wall_clock.now());
        let retired = match (members.retire(member, &applied), alias) {
            (Err(_), Some(alias)) => members.retire(&alias, &applied),
            (retired, _) => retired,
        };
        self.store.remember(vec![retired?], Vec::new()).await?;
        tracing::warn!(member, "an operator retired a member: this node does not wait for it any more");
        Ok(())
    }
}
