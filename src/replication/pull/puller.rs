//! Pulling from one peer: rounds with it, one after the other, until the puller is stopped.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tracing::Instrument as _;

use super::{comparer, error::RoundError, inbox::Inbox, round::Round};
use crate::{
    membership::{
        duplicates::Place,
        peer::{CallError, Peer, PeerKey},
        roster::{Refusal, Roster},
    },
    replication::{breaker::Breaker, fills::Fills, resync::Resyncs},
    runtime::{
        alarms::Alarms,
        retry::{Retry, RetryPolicy},
        spans,
    },
    store::Store,
    transfer::{forks, orders::Orders, proof::Verifier},
};
use brock_core::{
    base::{
        id::{Incarnation, Origin},
        limits,
        time::WallClock,
        vector::{Stamp, Vector},
    },
    domain::{birth::SignedBirth, codec},
    proto::{self, replicate_request},
};
use brock_net::{address::Address, channel, task::TaskStatus, tls::roles::PeerIdentity};

/// The replication protocol that this version speaks.
pub const PROTOCOL_VERSION: u32 = 3;

/// Pulls from one peer.
#[derive(Clone)]
pub struct Puller {
    /// The peer's address.
    pub address: Address,
    /// The peer's row is there, and how to dial it.
    pub roster: Roster,
    /// Takes the peer's operations.
    pub store: Store,
    /// Decides what of it is believed.
    pub verifier: Verifier,
    /// For when the peer's log is not enough.
    pub resyncs: Resyncs,
    /// Notes whether the peer's records could fill this node.
    pub fills: Fills,
    /// Verifies the operators' orders among them.
    pub orders: Orders,
    /// Where the time comes from.
    pub wall_clock: WallClock,
    /// Takes the alarms of its rounds.
    pub alarms: Alarms,
    /// Its heads show other records than this node's, at the same vector.
    pub differs: Arc<Notify>,
    /// Pauses logs that destroy much.
    pub breaker: Breaker,
    /// How long a round lasts.
    pub interval: Duration,
    /// The most entries in one batch.
    pub batch_limit: u32,
    /// Ends it.
    pub stop: CancellationToken,
}

impl Puller {
    /// Runs rounds until stopped, and compares the records beside them.
    pub async fn run(self, task: TaskStatus) {
        tokio::select! {
            () = self.pull(&task) => {}
            () = comparer::run(&self) => {}
        }
    }

    async fn pull(&self, task: &TaskStatus) {
        let key = PeerKey::from(&self.address);
        let policy = RetryPolicy {
            first_delay: limits::ROUND_RETRY_MIN.min(self.interval),
            max_delay: self.interval,
            max_elapsed: None,
        };
        let (mut retry, mut returns) = (Retry::new(policy), self.roster.returns());
        loop {
            task.set_state("pulling");
            // Before the dial: a peer that returns while the dial fails is not missed.
            returns.mark_unchanged();
            self.roster.begin_round(&key, self.wall_clock.now_ms());
            let span = spans::round(key.as_str());
            let outcome = tokio::select! {
                () = self.stop.cancelled() => break,
                outcome = self.round(&key, &mut retry).instrument(span.clone()) => outcome,
            };
            spans::end(&span, outcome.is_ok());
            drop(span);
            let delay = match outcome {
                Ok(()) => {
                    self.roster.end_round(&key, None);
                    task.clear_error();
                    continue;
                }
                Err(reason) if reason.leads_to_no_peer() => {
                    self.ignore(&key, &reason, task);
                    // A name that stands for several nodes may lead to another one the next time.
                    if self.stop.run_until_cancelled(sleep(limits::IGNORED_RECHECK_INTERVAL)).await.is_none()
                    {
                        break;
                    }
                    continue;
                }
                Err(error) => {
                    self.note_failure(&key, &error, task);
                    retry.next_delay().unwrap_or(self.interval)
                }
            };
            tokio::select! {
                () = self.stop.cancelled() => break,
                () = sleep(delay) => {}
                _ = returns.changed() => {}
            }
        }
        self.roster.ended(&key, self.wall_clock.now());
    }

    fn ignore(&self, key: &PeerKey, reason: &RoundError, task: &TaskStatus) {
        if self.roster.ignore(key) {
            tracing::info!(address = %key, "not a peer of its own: {reason}");
        }
        task.set_state(&reason.to_string());
        task.clear_error();
    }

    fn note_failure(&self, key: &PeerKey, error: &RoundError, task: &TaskStatus) {
        let (reason, now) = (error.to_string(), self.wall_clock.now());
        self.roster.end_round(key, Some(&reason));
        match error {
            RoundError::Refused(refusal) => self.roster.refused(key, refusal, now),
            _ => self.roster.failed(key, &reason, error.lasts(), now),
        }
        task.set_state("waiting to try again");
        task.set_error(&reason);
    }

    /// One round: dials, says hello, identifies the donor, and follows its log until the interval is over.
    async fn round(&self, key: &PeerKey, retry: &mut Retry) -> Result<(), RoundError> {
        let dialled_at = Instant::now().into_std();
        let (channel, identity) = channel::open_channel(&self.address, self.roster.dialler().clone()).await?;
        let peer = Peer::on(key.clone(), channel);
        let (announced, folds) = (self.store.vector(), self.store.folds());
        let (requests, outgoing) = mpsc::channel(4);
        let hello = replicate_request::Message::Hello(proto::Hello {
            protocol_version: PROTOCOL_VERSION,
            node_id: self.store.node_id().to_string(),
            incarnation: self.store.origin().incarnation().0,
            vector: Some(codec::vector_to_proto(&announced)),
            batch_limit: self.batch_limit,
            folds_digest: Bytes::copy_from_slice(&codec::folds_digest(&folds)),
            forks: forks::shown(&self.store, &Vector::default()),
        });
        let _ = requests.send(proto::ReplicateRequest { message: Some(hello), ..Default::default() }).await;
        let said = Instant::now();
        let mut client = peer.client.clone();
        let call = client.replicate(ReceiverStream::new(outgoing));
        let inbox = match timeout(limits::STREAM_SILENCE_TIMEOUT, call).await {
            Ok(Ok(responses)) => Inbox::new(responses.into_inner(), said),
            Ok(Err(status)) => return Err(self.refused(peer, &identity, status).await),
            Err(_) => return Err(RoundError::Silence),
        };
        let mut round =
            Round::begin(self, peer, requests, inbox, (&identity, dialled_at), (announced, folds)).await?;
        let begun = Instant::now();
        match round.follow(begun + self.interval, retry).await {
            // The donor stops, or has reloaded its certificates: the next dial shows which.
            Err(RoundError::Ended) if begun.elapsed() >= limits::ROUND_ENDS_EARLY => {
                retry.reset();
                Ok(())
            }
            ended => ended,
        }
    }

    /// Why the donor refused the hello. It does so too when it is this node. That is certain if it answers
    /// with the incarnation that was minted at this start: no other storage has it, not even a copy.
    async fn refused(
        &self,
        Peer { key, mut client }: Peer,
        identity: &PeerIdentity,
        status: tonic::Status,
    ) -> RoundError {
        let refusal = |status: tonic::Status| RoundError::from(CallError::from(status));
        if status.code() != Code::FailedPrecondition {
            return refusal(status);
        }
        let (before, asked) = (self.store.origin(), Instant::now().into_std());
        let Ok(Ok(said)) = timeout(limits::PEER_CALL_TIMEOUT, client.ping(proto::PingRequest {})).await
        else {
            return refusal(status);
        };
        let (said, own) = (said.into_inner(), self.store.origin());
        let is_certified = identity.node_id().is_none_or(|certified| certified == *self.store.node_id());
        if said.node_id != self.store.node_id().as_str() || !is_certified {
            return refusal(status);
        }
        let said = Origin::new(self.store.node_id(), Incarnation(said.incarnation));
        // This node may have begun another incarnation meanwhile.
        if said == own || said == before {
            return RoundError::Own;
        }
        let duplicates = self.roster.members().duplicates();
        duplicates.saw(&said, asked, Place::At(key));
        duplicates.saw(&own, Instant::now().into_std(), Place::Here);
        Refusal::OwnId(self.store.node_id().clone()).into()
    }

    /// Shows a donor the births of logs that it claims beyond what is signed: an honest one has the claim from a node
    /// that hid the birth, and retracts it.
    pub(super) async fn offer_births(&self, peer: &Peer, claimed: &[Stamp]) -> Result<(), RoundError> {
        for Stamp { origin, .. } in claimed.iter().take(limits::OFFERED_BIRTHS_MAX) {
            let birth = self.store.birth(*origin).await?;
            if let Some(birth) = birth.and_then(|birth| SignedBirth::from_proto(birth).ok())
                && let Err(error) = peer.offer_births(&birth).await
            {
                tracing::debug!(address = %peer.key, %origin, %error, "a birth could not be offered");
                break;
            }
        }
        Ok(())
    }
}
