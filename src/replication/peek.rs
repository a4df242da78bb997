//! Peeking: a read asks the peers for a record that this node does not have (yet).

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, stream::FuturesUnordered};
use moka::sync::Cache;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};
use tonic::Code;

use super::remote::count_refused;
use crate::{
    membership::{
        peer::{Peer, RemoteError},
        roster::Roster,
    },
    runtime::planted::{self, Bug},
    transfer::{bundles::Bundles, proof::Verifier, work},
};
use brock_core::{
    base::{id::KeyHash, limits, metrics as names, vector::Vector},
    domain::{
        codec,
        order::Chain,
        record::{RecordState, Visibility},
    },
    proto,
};

/// The peers' common answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// One of them has the record.
    Found(Box<RecordState>),
    /// All of them answered, and none has the record.
    Absent,
    /// No peer that answered has the record, and some did not answer.
    Unknown {
        /// All peers.
        peers: usize,
        /// Those that did not answer.
        unanswered: usize,
    },
    /// Too many reads ask the peers already.
    Refused,
}

/// Asks all peers at once. Cheap to clone.
#[derive(Clone)]
pub struct Asker {
    roster: Roster,
    verifier: Verifier,
    absent: Cache<KeyHash, ()>,
    permits: Arc<Semaphore>,
}

impl Asker {
    /// Asks the peers that the roster has at the time of the question.
    pub fn new(roster: Roster, verifier: Verifier) -> Self {
        Self {
            roster,
            verifier,
            absent: Cache::builder()
                .max_capacity(limits::NEGATIVE_CACHE_ENTRIES)
                .time_to_live(limits::NEGATIVE_CACHE_TTL)
                .build(),
            permits: Arc::new(Semaphore::new(limits::PEEKS_MAX)),
        }
    }

    /// Removes a key hash from the cache of negative answers.
    pub fn forget(&self, key_hash: &KeyHash) {
        self.absent.invalidate(key_hash);
    }

    /// Asks all peers, and returns as soon as one has the record; at `deadline` at the latest, dialling
    /// included.
    pub async fn ask(&self, key_hash: KeyHash, deadline: Instant) -> Answer {
        let (answer, outcome) = match self.ask_peers(key_hash, deadline).await {
            Ok(answer) => {
                let outcome = match &answer {
                    Answer::Found(_) => "found",
                    Answer::Absent => "absent",
                    Answer::Unknown { .. } => "unknown",
                    Answer::Refused => "refused",
                };
                (answer, outcome)
            }
            Err(Cached) => (Answer::Absent, "cached_absent"),
        };
        metrics::counter!(names::PEEKS, "outcome" => outcome).increment(1);
        answer
    }

    async fn ask_peers(&self, key_hash: KeyHash, deadline: Instant) -> Result<Answer, Cached> {
        let peers = self.roster.peers();
        let mut unanswered = self.roster.unasked(&peers);
        let asked = peers.len() + unanswered;
        if asked == 0 {
            return Ok(Answer::Absent);
        }
        if self.absent.contains_key(&key_hash) {
            return Err(Cached);
        }
        let Ok(_permit) = self.permits.try_acquire() else { return Ok(Answer::Refused) };
        let request = proto::PeekRequest { key_hash: Bytes::copy_from_slice(&key_hash.0) };
        let mut answers: FuturesUnordered<_> =
            peers.iter().map(|peer| self.peek(peer, request.clone(), deadline)).collect();
        let mut incomplete = None;
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(Some(state)) if state.visibility(0) != Visibility::Incomplete => {
                    // Joined with the earlier answers: an invalidation among them must not be lost.
                    return Ok(Answer::Found(Box::new(state.join(incomplete.unwrap_or_default()))));
                }
                // A part of the record (an invalidation ahead of its create): another peer may have the rest.
                Ok(Some(state)) => incomplete = Some(state.join(incomplete.unwrap_or_default())),
                Ok(None) => {}
                Err(()) => unanswered += 1,
            }
        }
        match (unanswered, incomplete) {
            (0, Some(state)) => Ok(Answer::Found(Box::new(state))),
            (0, None) => {
                self.absent.insert(key_hash, ());
                Ok(Answer::Absent)
            }
            _ => Ok(Answer::Unknown { peers: asked, unanswered }),
        }
    }

    async fn peek(
        &self,
        peer: &Peer,
        request: proto::PeekRequest,
        deadline: Instant,
    ) -> Result<Option<RecordState>, ()> {
        let key_hash = KeyHash::try_from(request.key_hash.as_ref()).map_err(|_| ())?;
        match timeout_at(deadline, peer.client.clone().peek(request)).await {
            Ok(Ok(response)) => {
                let believed = believed(&self.verifier, key_hash, response.into_inner()).await;
                count_refused(&peer.key, believed.as_ref().map(|(_, unproven)| u64::from(*unproven > 0)));
                let (state, unproven) = believed.map_err(|_| ())?;
                if unproven > 0 && state.deletion.is_none() {
                    // It says nothing, but for what is proven to be gone.
                    return Err(());
                }
                Ok((state != RecordState::default()).then_some(state))
            }
            Ok(Err(status)) if status.code() == Code::NotFound => Ok(None),
            // The pullers report which peers are down, and why.
            Ok(Err(_)) | Err(_) => Err(()),
        }
    }
}

/// A peer's state of a key hash as far as it is believed, and how many of its operations nothing proves: then only what
/// takes something away is left of it.
pub async fn believed(
    verifier: &Verifier,
    key_hash: KeyHash,
    response: proto::PeekResponse,
) -> Result<(RecordState, usize), RemoteError> {
    verifier.learn(response.births, &Vector::default()).await?;
    let verifier = verifier.clone();
    let believe = move || {
        let claimed = codec::foreign_state(response.state.unwrap_or_default())?;
        if planted::is(Bug::SkipVerifyPeek) {
            return Ok((claimed, 0));
        }
        let received = Chain::read(response.chains, limits::STATES_CHAINS_READ);
        let with = (&response.bundles[..], &received[..]);
        // The answer is not stored, and its bundles and orders are not passed on.
        let (mut believed, _) =
            verifier.believe_all(vec![(key_hash, claimed)], with, &mut Bundles::default());
        let believed = believed.pop().map(|(_, believed)| believed).unwrap_or_default();
        let unproven = believed.unproven.len();
        Ok((believed.joinable(), unproven))
    };
    work(believe).await?
}

/// A cached answer: no peer had the record a moment ago.
struct Cached;
