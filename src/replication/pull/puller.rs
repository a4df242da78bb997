//! Pulling from one peer: dial, announce the vector, apply what comes, acknowledge; for ever.

use std::time::Duration;

use bytes::Bytes;
use tokio::{
    sync::mpsc::{self, error::SendTimeoutError},
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Streaming, transport::Channel};
use tracing::Instrument as _;

use super::error::RoundError;
use crate::{
    membership::{
        directory::Directory,
        members::Members,
        peer::{Peer, RemoteError},
        peers::{Peers, Refusal},
    },
    replication::{latency::Ages, repair, resync::Resyncs},
    runtime::{
        retry::{Retry, RetryPolicy},
        spans,
    },
    store::{Comparison, Store, StoreError},
};
use brock_core::{
    base::{
        id::{Incarnation, NodeId},
        limits, metrics as names,
        vector::Vector,
    },
    domain::{
        codec::{self, CodecError},
        segment::Segment,
    },
    proto::{
        self, out_of_sync::Reason, replicate_request, replicate_response,
        replication_service_client::ReplicationServiceClient,
    },
};
use brock_net::{address::Address, channel, task::TaskStatus, tls::roles::PeerIdentity};

/// The replication protocol that this version speaks.
pub const PROTOCOL_VERSION: u32 = 2;

/// What a puller needs.
#[derive(Clone)]
pub struct Puller {
    /// The peer.
    pub address: Address,
    /// How to dial it, and whether it is a peer at all.
    pub directory: Directory,
    /// Where its operations go.
    pub store: Store,
    /// Where its state is kept.
    pub peers: Peers,
    /// Where it is noted what the peer has applied.
    pub members: Members,
    /// For when the peer's log is not enough.
    pub resyncs: Resyncs,
    /// How often a round starts anew.
    pub interval: Duration,
    /// The most entries in one batch.
    pub batch_limit: u32,
    /// Ends it.
    pub stop: CancellationToken,
}

impl Puller {
    /// Runs rounds until stopped.
    pub async fn run(self, task: TaskStatus) {
        let address = self.address.to_string();
        let policy = RetryPolicy {
            first_delay: limits::ROUND_RETRY_MIN.min(self.interval),
            max_delay: self.interval,
            max_elapsed: None,
        };
        let (mut retry, mut returns) = (Retry::new(policy), self.peers.returns());
        loop {
            task.set_state("pulling");
            // Who returns during a dial that fails is not missed.
            returns.mark_unchanged();
            self.peers.round_begins(&address, self.store.now_ms());
            let span = spans::round(&address);
            let outcome = tokio::select! {
                () = self.stop.cancelled() => break,
                outcome = self.round(&mut retry).instrument(span.clone()) => outcome,
            };
            spans::end(&span, outcome.is_ok());
            drop(span);
            if let Err(aside @ (RoundError::Own | RoundError::Alias)) = &outcome {
                if self.directory.set_aside(&address) {
                    tracing::info!(address, "not a peer of its own: {aside}");
                }
                task.set_state(&aside.to_string());
                task.set_error("");
                // A name that stands for several nodes may lead to another one the next time.
                if self.stop.run_until_cancelled(sleep(limits::ASIDE_RECHECK_INTERVAL)).await.is_none() {
                    break;
                }
                continue;
            }
            let Err(error) = outcome else {
                self.peers.round_ends(&address, "");
                task.set_error("");
                continue;
            };
            let text = error.to_string();
            self.peers.round_ends(&address, &text);
            self.peers.failed(&address, &text, self.store.now());
            task.set_state("waiting to try again");
            task.set_error(&text);
            let delay = retry.next_delay().unwrap_or(self.interval);
            tokio::select! {
                () = self.stop.cancelled() => break,
                () = sleep(delay) => {}
                _ = returns.changed() => {}
            }
        }
        self.peers.ended(&address, self.store.now());
    }

    /// One round: everything the peer has, then whatever commits there, until the interval is over.
    async fn round(&self, retry: &mut Retry) -> Result<(), RoundError> {
        let (channel, identity) =
            channel::open_channel(&self.address, self.directory.dialler().clone()).await?;
        let mut client =
            ReplicationServiceClient::new(channel).max_decoding_message_size(limits::MESSAGE_MAX_BYTES);
        let (announced, folds) = (self.store.vector(), self.store.folds());
        let (requests, outgoing) = mpsc::channel(4);
        let hello = replicate_request::Message::Hello(proto::Hello {
            protocol_version: PROTOCOL_VERSION,
            node_id: self.store.node_id().to_string(),
            incarnation: self.store.origin().incarnation().0,
            vector: Some(codec::vector_to_proto(&announced)),
            batch_limit: self.batch_limit,
            folds_digest: Bytes::copy_from_slice(&codec::folds_digest(&folds)),
        });
        let _ = requests.send(proto::ReplicateRequest { message: Some(hello) }).await;
        let said = Instant::now();
        let call = client.replicate(ReceiverStream::new(outgoing));
        let responses = match timeout(limits::STREAM_SILENCE_TIMEOUT, call).await {
            Ok(Ok(responses)) => responses.into_inner(),
            Ok(Err(status)) => return Err(self.refused(client, &identity, status).await),
            Err(_) => return Err(RoundError::Silence),
        };
        let (address, heard) = (self.address.to_string(), Instant::now());
        // The donor answers once it has read the hello.
        let round_trip = heard.duration_since(said);
        let mut round = Round {
            puller: self,
            peer: Peer { address: address.clone(), client },
            address,
            requests,
            responses,
            announced,
            heard,
            round_trip,
            // Unless it says otherwise, the peer has folded the same origins.
            theirs: folds,
            life: None,
            suspicion: None,
            has_given_up: false,
        };
        round.begin(&identity).await?;
        let begun = Instant::now();
        match round.follow(begun + self.interval, retry).await {
            // In order. What it means, the next dial tells.
            Err(RoundError::Ended) if begun.elapsed() >= limits::ROUND_ENDS_EARLY => {
                retry.reset();
                Ok(())
            }
            ended => ended,
        }
    }
}

impl Puller {
    /// Why the peer does not feed this node. A refusal may be because it is this node: it is if it says
    /// so, under the incarnation that was minted at this start and that no other storage has, even if
    /// it is a copy.
    async fn refused(
        &self,
        mut client: ReplicationServiceClient<Channel>,
        identity: &PeerIdentity,
        status: tonic::Status,
    ) -> RoundError {
        if status.code() != Code::FailedPrecondition {
            return status.into();
        }
        let Ok(Ok(said)) = timeout(limits::PEER_CALL_TIMEOUT, client.ping(proto::PingRequest {})).await
        else {
            return status.into();
        };
        let (said, own) = (said.into_inner(), self.store.origin());
        let is_certified = identity.node_id().is_none_or(|certified| certified == *self.store.node_id());
        if said.node_id != self.store.node_id().as_str() || !is_certified {
            return status.into();
        }
        match said.incarnation == own.incarnation().0 {
            true => RoundError::Own,
            false => Refusal::OwnId(self.store.node_id().clone()).into(),
        }
    }
}

struct Round<'a> {
    puller: &'a Puller,
    address: String,
    requests: mpsc::Sender<proto::ReplicateRequest>,
    responses: Streaming<proto::ReplicateResponse>,
    announced: Vector,
    heard: Instant,
    /// How long the donor took to answer the hello.
    round_trip: Duration,
    /// For calls besides the stream.
    peer: Peer,
    /// What the peer has applied, as far as it has said.
    theirs: Vector,
    /// Who the peer is.
    life: Option<(NodeId, Incarnation)>,
    /// Since when, and at what vector, the peer has held other records although it had applied the
    /// same.
    suspicion: Option<(Instant, Vector)>,
    /// A difference was found that only the peer can mend: it is left alone until the next round.
    has_given_up: bool,
}

impl Round<'_> {
    async fn receive(&mut self) -> Result<replicate_response::Message, RoundError> {
        // Counted from the last message, because this future is dropped and made anew meanwhile.
        let response =
            match timeout_at(self.heard + limits::STREAM_SILENCE_TIMEOUT, self.responses.message()).await {
                Err(_) => return Err(RoundError::Silence),
                Ok(response) => response?.ok_or(RoundError::Ended)?,
            };
        self.heard = Instant::now();
        response.message.ok_or_else(|| RoundError::Protocol("an empty message".to_owned()))
    }

    /// The first message says who the peer is: checked against its certificate and against the
    /// other peers before anything is applied.
    async fn begin(&mut self, identity: &PeerIdentity) -> Result<(), RoundError> {
        let replicate_response::Message::Heads(heads) = self.receive().await? else {
            return Err(RoundError::Protocol("it did not begin with its heads".to_owned()));
        };
        let malformed = |_| RoundError::Protocol("its node id is malformed".to_owned());
        let node_id: NodeId = heads.node_id.parse().map_err(malformed)?;
        if let Some(certified) = identity.node_id()
            && certified != node_id
        {
            return Err(RoundError::Identity {
                claimed: node_id.to_string(),
                certified: certified.to_string(),
            });
        }
        let now = self.puller.store.now();
        let life = (node_id, Incarnation(heads.incarnation));
        let own = self.puller.store.node_id();
        let admit = || self.puller.peers.admit(&self.address, own, (&life.0, life.1), now);
        match admit() {
            // A machine with two addresses in DNS, or with one there and one in a list, is no mistake of anybody's.
            Err(Refusal::Duplicate { other, .. })
                if [&self.address, &other].iter().any(|one| self.puller.directory.is_discovered(one)) =>
            {
                return Err(RoundError::Alias);
            }
            outcome => outcome?,
        }
        if self.puller.directory.restore(&self.address, now) {
            admit()?;
        }
        self.life = Some(life);
        self.heads(heads, true).await
    }

    async fn heads(&mut self, heads: proto::Heads, fresh: bool) -> Result<(), RoundError> {
        let store = &self.puller.store;
        let vector = codec::vector_from_proto(&heads.vector.unwrap_or_default())?;
        self.theirs.join(&vector);
        if self.theirs.len() > 2 * limits::VECTOR_MAX_ORIGINS {
            return Err(CodecError::VectorSize(self.theirs.len()).into());
        }
        let now = store.now();
        let skew_seconds = heads.now_unix.saturating_sub(now);
        self.puller.peers.heard(&self.address, &vector, fresh, skew_seconds, now);
        if let Some((node_id, incarnation)) = &mut self.life {
            // It may have begun a new one since the round did.
            *incarnation = Incarnation(heads.incarnation);
            self.puller.members.heard(&self.address, (&*node_id, *incarnation), &vector, fresh, now);
        }
        store.check_rollback(&vector).await?;
        match heads.digest {
            // With the first heads it is not known yet what the peer has folded.
            Some(digest) if !fresh => self.compare(&digest).await,
            _ => Ok(()),
        }
    }

    /// Two nodes that have applied the same must hold the same. A difference counts once it lasts
    /// while nothing else changes: a record may arrive ahead of its operation, by a snapshot or a
    /// repair.
    async fn compare(&mut self, digest: &proto::Digest) -> Result<(), RoundError> {
        let store = &self.puller.store;
        if self.has_given_up {
            return Ok(());
        }
        let mine = store.summary();
        if mine.compare(&self.theirs, digest) != Comparison::Different {
            self.suspicion = None;
            return Ok(());
        }
        let now = Instant::now();
        match &self.suspicion {
            Some((since, at)) if *at == self.theirs => {
                if now < *since + limits::DIVERGENCE_CONFIRM {
                    return Ok(());
                }
            }
            _ => {
                self.suspicion = Some((now, self.theirs.clone()));
                return Ok(());
            }
        }
        metrics::counter!(names::DIVERGENCES).increment(1);
        let _no_resync = self.puller.resyncs.others().await;
        let repair = timeout(limits::REPAIR_TIMEOUT, repair::repair(store, &self.peer));
        let repaired = repair.await.map_err(|_| RemoteError::Late)??;
        self.heard = Instant::now();
        self.suspicion = None;
        metrics::counter!(names::REPAIRED).increment(repaired.repaired);
        self.has_given_up = repaired.repaired == 0;
        let unmended = repaired.differing.saturating_sub(repaired.repaired);
        // A difference that only the peer can mend is found again and again.
        if self.puller.peers.unmended(&self.address, unmended) || repaired.repaired > 0 {
            let left_alone = match repaired.ambiguous {
                0 => String::new(),
                n => {
                    format!(", and {n} were left alone because this node may have deleted and forgotten them")
                }
            };
            store.alarm(format!(
                "the peer at {} has applied the same operations and held other records: {} key hashes differed, {} were \
                 mended here by joining{left_alone}. Check the disks of both",
                self.address, repaired.differing, repaired.repaired,
            ));
        }
        Ok(())
    }

    /// The peer has folded other origins away than this node.
    async fn folds(&mut self, folds: proto::Folds) -> Result<(), RoundError> {
        let store = &self.puller.store;
        let theirs = codec::folds_from_proto(folds)?;
        store.check_rollback(&theirs).await?;
        self.theirs.join(&theirs);
        let mine = codec::folds_to_proto(&store.folds());
        self.say(replicate_request::Message::Folds(mine)).await
    }

    /// The peer's log is not enough: fills this node from its records, and ends the round, so that
    /// the next one begins where those end.
    async fn resync(&mut self, out_of_sync: proto::OutOfSync) -> Result<(), RoundError> {
        let Some((donor, _)) = &self.life else { return Err(RoundError::Ended) };
        let reason = match out_of_sync.reason() {
            Reason::BelowFloor => "its log is compacted beyond what this node has",
            Reason::Retired => "this node was retired, and has missed what happened since",
            Reason::Folded => "it has finished incarnations that this node has not seen to their end",
            Reason::Cheaper => "its records are fewer than its log has entries",
        };
        let store = &self.puller.store;
        Ok(self.puller.resyncs.run(store, self.peer.client.clone(), donor, reason).await?)
    }

    /// Applies and acknowledges until the round's time is over and nothing is under way. The
    /// backoff starts over once the peer has said something useful after its heads: one whose every
    /// round fails at the first batch must not be dialled ten times a second for ever.
    async fn follow(&mut self, until: Instant, retry: &mut Retry) -> Result<(), RoundError> {
        let mut commits = self.puller.store.commits();
        let mut announce_at = Instant::now();
        let mut dirty = true;
        loop {
            tokio::select! {
                biased;
                message = self.receive() => {
                    match message? {
                        replicate_response::Message::Heads(heads) => self.heads(heads, false).await?,
                        replicate_response::Message::Folds(folds) => self.folds(folds).await?,
                        replicate_response::Message::OutOfSync(out_of_sync) => {
                            self.resync(out_of_sync).await?;
                            retry.reset();
                            return Ok(());
                        }
                        replicate_response::Message::Batch(batch) => {
                            let span = spans::batch(&self.address, batch.entries.len() as u64);
                            let applied = self.apply(batch).instrument(span.clone()).await;
                            spans::end(&span, applied.is_ok());
                            applied?;
                            self.announce().await?;
                        }
                    }
                    retry.reset();
                }
                // What came from elsewhere is announced too, a little later and together: the
                // peer then does not relay what is here already.
                () = tokio::time::sleep_until(announce_at), if dirty => {
                    self.announce().await?;
                    dirty = false;
                    announce_at = Instant::now() + limits::ANNOUNCE_INTERVAL;
                }
                _ = commits.changed(), if !dirty => {
                    dirty = true;
                    announce_at = announce_at.max(Instant::now());
                }
                () = tokio::time::sleep_until(until) => {
                    retry.reset();
                    return Ok(());
                }
            }
        }
    }

    async fn apply(&mut self, mut batch: proto::Batch) -> Result<(), RoundError> {
        let store = &self.puller.store;
        let entries = batch.entries.len() as u64;
        let bytes = batch.entries.iter().map(entry_bytes).sum();
        let Some((donor, _)) = &self.life else { return Err(RoundError::Ended) };
        let ages = Ages::take(&mut batch, donor, self.heard, self.round_trip / 2);
        // Hashes every payload: a millisecond of work that does not belong on the async runtime.
        let segment = match tokio::task::spawn_blocking(move || Segment::check(batch)).await {
            Ok(segment) => segment?,
            Err(_) => return Err(RoundError::Ended),
        };
        if segment.origin.is_of(store.node_id()) {
            store.check_rollback(&[(segment.origin, segment.covered_through)].into_iter().collect()).await?;
        }
        let _no_resync = self.puller.resyncs.others().await;
        match store.apply(segment).await {
            Err(error @ StoreError::RolledBack { theirs, .. }) => {
                store.rolled_back(theirs).await?;
                // The peer counts the batch as sent. A new hello asks for it again, as another
                // incarnation's.
                return Err(error.into());
            }
            outcome => ages.record(&self.address, outcome?),
        }
        self.puller.peers.received(&self.address, entries, bytes, store.now());
        Ok(())
    }

    /// Tells the peer what became durable here since it was last told.
    async fn announce(&mut self) -> Result<(), RoundError> {
        let fresh = self.puller.store.above(&self.announced);
        if fresh.is_empty() {
            return Ok(());
        }
        self.announced.join(&fresh);
        self.say(replicate_request::Message::Applied(codec::vector_to_proto(&fresh))).await
    }

    async fn say(&self, message: replicate_request::Message) -> Result<(), RoundError> {
        let request = proto::ReplicateRequest { message: Some(message) };
        // A peer that does not read would otherwise stop this puller for ever.
        match self.requests.send_timeout(request, limits::STREAM_SILENCE_TIMEOUT).await {
            Ok(()) => Ok(()),
            Err(SendTimeoutError::Timeout(_)) => Err(RoundError::Deaf),
            Err(SendTimeoutError::Closed(_)) => Err(RoundError::Ended),
        }
    }
}

fn entry_bytes(entry: &proto::Entry) -> u64 {
    (entry.operation.len() + entry.payload.as_ref().map_or(0, Bytes::len)) as u64
}
