//! The origins that are known here and what proves them; and an operator's word for a birth whose certificate cannot be
//! verified any more.

use futures::future::join_all;

use super::{error::RequestError, operations::Operations};
use crate::{
    membership::{contacts::Contact, peer::RemoteError},
    store::Store,
    transfer::{
        closings::Closing,
        proof::{ProofError, Verifier},
        work,
    },
};
use brock_core::{
    base::{
        id::{ClusterId, Origin},
        limits,
        vector::{Clock, Vector},
    },
    domain::{
        birth::SignedBirth,
        order::{SignedOrder, Subject},
    },
};

/// An origin, and what proves what it has signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownOrigin {
    /// Its node and incarnation.
    pub origin: Origin,
    /// What is applied of it.
    pub clock: Clock,
    /// Whether it is finished, and vectors do not list it any more.
    pub is_folded: bool,
    /// Where an operator has closed its log.
    pub closed: Option<Clock>,
    /// `None`: it signs nothing, as far as is known here.
    pub birth: Option<KnownBirth>,
}

/// What is known of a birth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownBirth {
    /// As it is signed.
    pub signed: SignedBirth,
    /// What an operator vouches for.
    pub statement: [u8; 32],
    /// When the certificate ends that has signed it.
    pub certificate_ends: Option<i64>,
    /// Why an empty node with the certificates of this one would not believe it; `None`: it would.
    pub problem: Option<String>,
    /// Why the certificate that has signed it is not accepted here, whatever an operator has said of its log;
    /// `None`: it is.
    pub certificate_problem: Option<String>,
}

/// What a node answered to a birth that an operator has vouched for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VouchOutcome {
    /// The node.
    pub node: String,
    /// `None`: it has what it needs of it.
    pub error: Option<RemoteError>,
}

impl Operations {
    /// A page of the origins above `after`, and whether there are more.
    pub async fn origins(
        &self,
        after: Option<Origin>,
        limit: u32,
    ) -> Result<(Vec<KnownOrigin>, bool), RequestError> {
        let most = match usize::try_from(limit).unwrap_or(usize::MAX) {
            0 => limits::ORIGINS_PAGE,
            limit => limit.min(limits::ORIGINS_PAGE),
        };
        let (applied, folds) = (self.store.applied(), self.store.folds());
        let mut above = applied.iter().filter(|(origin, _)| after.is_none_or(|after| *origin > after));
        let listed: Vec<(Origin, Clock)> = above.by_ref().take(most).collect();
        let has_more = above.next().is_some();
        let (store, verifier, orders) = (self.store.clone(), self.verifier.clone(), self.orders.clone());
        let look = move || {
            let known = |(origin, clock)| {
                let birth = birth(&store, &verifier, &origin)?;
                let (is_folded, closed) = (folds.lists(&origin), orders.closed(&origin));
                Ok::<_, RequestError>(KnownOrigin { origin, clock, is_folded, closed, birth })
            };
            listed.into_iter().map(known).collect::<Result<Vec<_>, _>>()
        };
        Ok((work(look).await??, has_more))
    }

    /// Keeps the birth of an origin as one that an operator vouches for, here and at every peer that answers and knows
    /// that origin: each believes the operator, not this node. Durable here when it returns.
    ///
    /// Contract: the birth itself stays the same, and one whose certificate is accepted here is left alone.
    pub async fn vouch(&self, origin: Origin, order: SignedOrder) -> Result<Vec<VouchOutcome>, RequestError> {
        let (store, verifier) = (self.store.clone(), self.verifier.clone());
        let known = work(move || birth(&store, &verifier, &origin)).await??;
        let Some(KnownBirth { signed, statement, problem, .. }) = known else {
            return Err(RequestError::NoBirth(origin));
        };
        if let Some(domain) = self.store.identity().and_then(|identity| identity.foreign_domain(&signed)) {
            return Err(RequestError::OtherDomain { origin, domain });
        }
        // It may be repeated: a peer may not have been asked.
        if problem.is_none() && signed.vouched_at_unix_ms.is_none() {
            return Err(RequestError::IsBelieved(origin));
        }
        self.orders.accept(Subject::Vouch(&statement), &order).await?;
        let SignedOrder { proof, chain } = order;
        let vouched = SignedBirth {
            birth: signed.birth,
            scheme: proof.scheme,
            signature: proof.signature,
            certificates: chain.certificates().to_vec(),
            vouched_at_unix_ms: Some(proof.at_unix_ms),
        };
        self.store.keep_births(vec![vouched.clone()], &Vector::default()).await?;
        tracing::warn!(%origin, "an operator vouches for the birth of an origin");
        self.verifier.count_unbelieved().await?;
        let mut outcomes = vec![VouchOutcome { node: self.store.node_id().to_string(), error: None }];
        let contacts = self.roster.contacts(self.wall_clock.now()).peers;
        let answers = contacts.into_iter().filter(|contact| !contact.is_retired).map(
            async |Contact { peer, name, .. }| {
                let error = peer.offer_births(&vouched).await.err();
                VouchOutcome { node: name, error }
            },
        );
        outcomes.extend(join_all(answers).await);
        Ok(outcomes)
    }

    /// Closes the logs of a node at these clocks, by an operator's order. Durable and in force here when it returns;
    /// the other nodes learn it at the beginning of their next streams.
    pub async fn close(&self, closing: Closing) -> Result<(), RequestError> {
        if closing.node_id == *self.store.node_id() {
            let problem = "is of the node that was asked: ask another one";
            return Err(RequestError::field("closing.node_id", problem));
        }
        self.orders.close(closing).await?;
        // The next status shows what this has changed.
        Ok(self.verifier.count_unbelieved().await?)
    }

    /// Notes here that an operator has dealt with what has frozen an origin. Returns whether it is frozen here.
    pub async fn acknowledge_fork(&self, origin: Origin) -> Result<bool, RequestError> {
        Ok(self.store.acknowledge_fork(origin).await?)
    }

    /// Takes births that another node offers, because an operator has vouched for them, or because this node claims
    /// more of their logs than they have signed: as far as these logs are known here, and the births verified.
    pub async fn take_offered(&self, births: Vec<SignedBirth>) -> Result<(), RequestError> {
        if births.len() > limits::OFFERED_BIRTHS_MAX {
            let problem =
                format!("{} of them, more than the {} allowed", births.len(), limits::OFFERED_BIRTHS_MAX);
            return Err(RequestError::field("births", problem));
        }
        // A peer may offer the same again and again, and a count verifies all births.
        if self.verifier.renew(births).await? {
            self.verifier.count_unbelieved().await?;
        }
        Ok(())
    }
}

/// What is known of the birth of an origin. Blocks for some signatures.
fn birth(store: &Store, verifier: &Verifier, origin: &Origin) -> Result<Option<KnownBirth>, RequestError> {
    let Some(signed) = store.signed_birth(origin)? else { return Ok(None) };
    let identity = store.identity();
    let cluster = identity.as_ref().and_then(|identity| identity.cluster()).unwrap_or(ClusterId([0; 32]));
    Ok(Some(KnownBirth {
        statement: signed.birth.statement(&cluster),
        certificate_problem: identity
            .as_ref()
            .and_then(|identity| identity.verify(&signed).err())
            .map(|reason| reason.to_string()),
        certificate_ends: identity.and_then(|identity| identity.ends(&signed)),
        problem: verifier.check_birth(&signed).err().map(|error| match error {
            ProofError::Birth { reason, .. } => reason.to_string(),
            other => other.to_string(),
        }),
        signed,
    }))
}
