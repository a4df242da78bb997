//! Asking the peers: what a read does when this node does not have the record (yet).

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, stream::FuturesUnordered};
use moka::sync::Cache;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};
use tonic::{Code, transport::Channel};

use crate::membership::directory::Directory;
use brock_core::{
    base::{id::KeyHash, limits, metrics as names},
    domain::{
        codec,
        record::{RecordState, Visibility},
    },
    proto::{self, replication_service_client::ReplicationServiceClient},
};

/// What the peers said together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// One of them has it.
    Found(Box<RecordState>),
    /// All of them were asked, and none has it.
    Absent,
    /// None that answered has it, and this many could not be asked.
    Unknown {
        /// Peers in all.
        peers: usize,
        /// Those that did not answer.
        unanswered: usize,
    },
    /// Too many reads are asking already.
    Refused,
}

/// Asks all peers at once. Cheap to clone.
#[derive(Clone)]
pub struct Asker {
    directory: Directory,
    absent: Cache<KeyHash, ()>,
    permits: Arc<Semaphore>,
}

impl Asker {
    /// Asks whoever is a peer when a question comes.
    pub fn new(directory: Directory) -> Self {
        Self {
            directory,
            absent: Cache::builder()
                .max_capacity(limits::NEGATIVE_CACHE_ENTRIES)
                .time_to_live(limits::NEGATIVE_CACHE_TTL)
                .build(),
            permits: Arc::new(Semaphore::new(limits::PEEKS_MAX)),
        }
    }

    /// Does not believe any more what the peers said of this key hash.
    pub fn forget(&self, key_hash: &KeyHash) {
        self.absent.invalidate(key_hash);
    }

    /// The first peer that has the record answers; the others are not waited for. Takes until
    /// `deadline` at most, dialling included.
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
        let peers = self.directory.peers();
        // Names that DNS has not answered for stand for peers that cannot be asked.
        let mut unanswered = self.directory.unresolved().len();
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
            peers.iter().map(|peer| peek(peer.client.clone(), request.clone(), deadline)).collect();
        let mut incomplete = None;
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(Some(state)) if state.visibility(0) != Visibility::Incomplete => {
                    // With what others have said already: an invalidation must not be forgotten.
                    return Ok(Answer::Found(Box::new(state.join(incomplete.unwrap_or_default()))));
                }
                // A part of it (an invalidation ahead of its create): another peer may have the rest.
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
}

/// Every peer said lately that it does not have it.
struct Cached;

async fn peek(
    mut peer: ReplicationServiceClient<Channel>,
    request: proto::PeekRequest,
    deadline: Instant,
) -> Result<Option<RecordState>, ()> {
    match timeout_at(deadline, peer.peek(request)).await {
        Ok(Ok(response)) => state(response.into_inner()).map(Some).ok_or(()),
        Ok(Err(status)) if status.code() == Code::NotFound => Ok(None),
        // Which peers are down, and why, is the pullers' business to report.
        Ok(Err(_)) | Err(_) => Err(()),
    }
}

/// A peer's state of a key hash; `None` if it does not hold together.
fn state(response: proto::PeekResponse) -> Option<RecordState> {
    codec::foreign_state(response.state?).ok()
}
