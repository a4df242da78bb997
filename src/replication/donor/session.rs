//! One puller's Replicate stream at the donor, from the puller's hello to its last acknowledgement.

use std::collections::HashSet;

use futures::{Stream, StreamExt};
use tokio::{
    sync::mpsc::{self, Permit},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    feed::{Feed, Next},
    signed::Signatures,
};
use crate::{
    membership::{
        members::{Admission, Members},
        receipt::Signed,
    },
    replication::remote,
    runtime::planted::{self, Bug},
    store::{Store, StoreError},
    transfer::forks,
};
use brock_core::{
    base::{
        claims::{self, ClaimKind},
        id::{Incarnation, NodeId, Origin},
        limits, metrics as names,
        time::WallClock,
        vector::{Clock, Vector},
    },
    domain::{
        codec::{self, CodecError},
        head::Head,
        order::Chain,
    },
    proto::{self, out_of_sync::Reason, replicate_request, replicate_response},
};

/// Why a session ended early.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The puller sent a message that the protocol does not allow here.
    #[error("the puller broke the protocol: {0}")]
    Protocol(String),
    /// The puller has signed something else than it says, or than there is.
    #[error("an acknowledgement is not what it says: {0}")]
    Forged(&'static str),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<CodecError> for SessionError {
    fn from(error: CodecError) -> Self {
        Self::Protocol(error.to_string())
    }
}

/// A puller that has said hello.
pub struct Session {
    /// The store that it pulls from.
    pub store: Store,
    /// Takes its acknowledgements.
    pub members: Members,
    /// Where the time comes from.
    pub wall_clock: WallClock,
    /// Its node id.
    pub node_id: NodeId,
    /// Its hello.
    pub hello: proto::Hello,
    /// What the hello says it has applied; folded origins are not listed.
    pub vector: Vector,
    /// Who it is, as far as its certificate proves it.
    pub holder: String,
    /// The same, if its certificate states no node id.
    pub introducer: Option<String>,
    /// The closings that are shown to it.
    pub closings: Vec<proto::Closing>,
}

type Outcome = Result<proto::ReplicateResponse, tonic::Status>;
type Out = mpsc::Sender<Outcome>;

impl Session {
    /// Serves the puller until it hangs up, breaks the protocol, turns out to need more than the log, or the
    /// node stops. Memory is bounded by the batch in hand and the one in `out`.
    pub async fn run(
        self,
        requests: impl Stream<Item = Result<proto::ReplicateRequest, tonic::Status>> + Unpin,
        out: Out,
        stop: CancellationToken,
    ) -> Result<(), SessionError> {
        // At whatever point: a puller that says nothing more must not hold up the end of the node.
        stop.run_until_cancelled(self.serve(requests, out)).await.unwrap_or(Ok(()))
    }

    async fn serve(
        self,
        mut requests: impl Stream<Item = Result<proto::ReplicateRequest, tonic::Status>> + Unpin,
        out: Out,
    ) -> Result<(), SessionError> {
        let lists = self.hello.vector.as_ref().and_then(|vector| codec::vector_from_proto(vector).ok());
        let mut announced = Announced::to(lists.unwrap_or_default());
        let birth = self.store.birth(self.store.origin()).await?;
        let closings = self.closings.clone();
        let first = proto::Heads { birth, closings, ..heads(&self.store, &self.wall_clock, &mut announced) };
        if out.send(Ok(response(replicate_response::Message::Heads(first)))).await.is_err() {
            return Ok(());
        }
        let mut signatures = Signatures::new(&self.store, &self.node_id);
        let exchanged = self.exchange_folds(&mut requests, &out, &mut signatures).await?;
        let Some((applied, signed)) = exchanged else { return Ok(()) };
        let incarnation = Incarnation(self.hello.incarnation);
        self.members.leave_out(self.store.forks().iter().map(|fork| fork.origin()));
        let admission = match self.members.introduce(&self.node_id, self.introducer.as_deref()) {
            true => self.members.hello(&self.node_id, incarnation, &applied, self.wall_clock.now()),
            // It is served, and not waited for.
            false => Admission::Member,
        };
        if let Some(out_of_sync) = out_of_sync(&self.store, &applied, admission) {
            let _ = out.send(Ok(response(replicate_response::Message::OutOfSync(out_of_sync)))).await;
            return Ok(());
        }
        if let Some(signed) = signed {
            self.members.keep_signed(&self.node_id, signed);
        }
        let _following = Following::begin(&self.members, &self.node_id);
        let now = Instant::now();
        let sender = Sender {
            store: &self.store,
            members: &self.members,
            wall_clock: &self.wall_clock,
            feed: Feed::new(self.store.node_id().clone(), applied, limits::RELAY_PATIENCE),
            announced,
            births: HashSet::new(),
            heartbeat_at: now + limits::HEARTBEAT_INTERVAL,
            gather_until: now,
            batch_limit: usize::try_from(self.hello.batch_limit).unwrap_or(usize::MAX),
            chains: HashSet::new(),
        };
        self.follow((sender, signatures), requests, out).await
    }

    async fn follow(
        &self,
        (mut sender, mut signatures): (Sender<'_>, Signatures),
        mut requests: impl Stream<Item = Result<proto::ReplicateRequest, tonic::Status>> + Unpin,
        out: Out,
    ) -> Result<(), SessionError> {
        let mut commits = self.store.commits();
        loop {
            commits.mark_unchanged();
            let turn = sender.turn(Instant::now());
            tokio::select! {
                biased;
                // Read while waiting to write: two ends that only write would wait for ever.
                request = requests.next() => match request {
                    None | Some(Err(_)) => return Ok(()),
                    Some(Ok(request)) => self.take(request, &mut sender.feed, &mut signatures).await?,
                },
                permit = out.reserve(), if turn.sends => {
                    let Ok(permit) = permit else { return Ok(()) };
                    if !sender.send(permit, &turn).await? {
                        return Ok(());
                    }
                }
                _ = commits.changed(), if !turn.sends => {}
                () = tokio::time::sleep_until(turn.wake_at), if !turn.sends => {}
            }
        }
    }

    /// Takes what the puller says of what it was sent.
    ///
    /// Contract: nothing of a message with a false signature counts. A genuine one is kept before its acknowledgement
    /// counts, so that a receipt that waits for it finds both.
    async fn take(
        &self,
        mut request: proto::ReplicateRequest,
        feed: &mut Feed,
        signatures: &mut Signatures,
    ) -> Result<(), SessionError> {
        let signed = (request.acknowledgement.take(), request.birth.take());
        let applied = match acknowledgement(request)? {
            Acknowledgement::Applied(applied) => applied,
            Acknowledgement::Declined(origin) => {
                feed.decline(origin);
                return Ok(());
            }
        };
        if let Some(signed) = self.check(signed, &applied, signatures).await? {
            self.members.keep_signed(&self.node_id, signed);
        }
        check_own_clock(&self.store, &applied, &self.holder).await;
        let applied = self.store.relevant(applied, feed.vector().len());
        feed.acknowledge(&applied);
        self.members.acknowledge(&self.node_id, &applied, self.wall_clock.now());
        Ok(())
    }

    /// Verifies what the puller has signed beside `applied`, and counts what is a lie.
    async fn check(
        &self,
        (said, birth): (Option<proto::Acknowledgement>, Option<proto::Birth>),
        applied: &Vector,
        signatures: &mut Signatures,
    ) -> Result<Option<Signed>, SessionError> {
        let Some(said) = said else { return Ok(None) };
        let checked = signatures.check(&said, birth, applied).await;
        if let Err(SessionError::Forged(reason)) = &checked {
            let address = self.members.alias(self.node_id.as_str(), self.wall_clock.now());
            let peer = address.unwrap_or_else(|| self.holder.clone());
            tracing::debug!(puller = %self.node_id, reason, "an acknowledgement is refused");
            claims::refused(&peer, ClaimKind::Acknowledgement, 1);
        }
        checked
    }

    /// What the puller has applied, the origins that it has folded away included, and what it has signed meanwhile.
    /// `None` = it hung up.
    async fn exchange_folds(
        &self,
        requests: &mut (impl Stream<Item = Result<proto::ReplicateRequest, tonic::Status>> + Unpin),
        out: &Out,
        signatures: &mut Signatures,
    ) -> Result<Option<(Vector, Option<Signed>)>, SessionError> {
        let mine = self.store.folds();
        let (mut applied, mut signed) = (self.vector.clone(), None);
        if self.hello.folds_digest == codec::folds_digest(&mine).as_slice() {
            applied.join(&mine);
            return Ok(Some((applied, None)));
        }
        let folds = replicate_response::Message::Folds(codec::folds_to_proto(&mine));
        if out.send(Ok(response(folds))).await.is_err() {
            return Ok(None);
        }
        loop {
            let request = tokio::time::timeout(limits::STREAM_SILENCE_TIMEOUT, requests.next()).await;
            let request = match request {
                Ok(Some(Ok(request))) => request,
                Ok(None | Some(Err(_))) => return Ok(None),
                Err(_) => return Err(SessionError::Protocol("it did not say what it has folded".to_owned())),
            };
            match request.message {
                Some(replicate_request::Message::Folds(folds)) => {
                    applied.join(&self.store.relevant(codec::folds_from_proto(folds)?, applied.len()));
                    return Ok(Some((applied, signed)));
                }
                // Sent before the donor's folds arrived.
                Some(replicate_request::Message::Applied(vector)) => {
                    let vector = codec::vector_from_proto(&vector)?;
                    let said = (request.acknowledgement, request.birth);
                    signed = self.check(said, &vector, signatures).await?.or(signed);
                    applied.join(&self.store.relevant(vector, applied.len()));
                }
                _ => return Err(SessionError::Protocol("it did not say what it has folded".to_owned())),
            }
        }
    }
}

/// What a session does when its turn comes.
struct Turn {
    now: Instant,
    next: Next,
    /// The heads are due.
    heartbeat: bool,
    /// There is a message to send now.
    sends: bool,
    wake_at: Instant,
}

/// The sending half of a session whose puller the log can help.
struct Sender<'a> {
    store: &'a Store,
    members: &'a Members,
    wall_clock: &'a WallClock,
    feed: Feed,
    announced: Announced,
    /// The origins whose births were sent.
    births: HashSet<Origin>,
    heartbeat_at: Instant,
    gather_until: Instant,
    batch_limit: usize,
    /// The operators whose certificates this stream has carried.
    chains: HashSet<[u8; 32]>,
}

impl Sender<'_> {
    fn turn(&mut self, now: Instant) -> Turn {
        let above = self.store.above(self.feed.vector());
        let prefers = |origin: &Origin| self.members.remembers(&origin.node_id()).is_some();
        let next = self.feed.next(&above, prefers, now);
        let heartbeat = now >= self.heartbeat_at;
        // A few operations right behind a batch gather for a moment: every batch costs the puller an fsync
        // and all its followers a wake-up. A backlog does not wait, nor does the first operation after a
        // pause.
        let gathers = now < self.gather_until
            && above.entries_above(self.feed.vector()) < limits::FOLLOW_GATHER_ENTRIES;
        let wake_at = match next {
            Next::Wait(Some(at)) => at.min(self.heartbeat_at),
            Next::Send(..) if gathers => self.gather_until.min(self.heartbeat_at),
            _ => self.heartbeat_at,
        };
        let sends = heartbeat || (matches!(next, Next::Send(..)) && !gathers);
        Turn { now, next, heartbeat, sends, wake_at }
    }

    /// Sends the heads or the next batch. Returns whether the session goes on: it ends with a message for a
    /// puller that needs more than the log.
    async fn send(&mut self, permit: Permit<'_, Outcome>, turn: &Turn) -> Result<bool, SessionError> {
        if turn.heartbeat {
            let heads = heads(self.store, self.wall_clock, &mut self.announced);
            permit.send(Ok(response(replicate_response::Message::Heads(heads))));
            self.heartbeat_at = turn.now + limits::HEARTBEAT_INTERVAL;
            return Ok(true);
        }
        let Next::Send(origin, after) = turn.next else { return Ok(true) };
        match self.store.changes_since(origin, after, self.batch_limit).await {
            Ok(None) => Ok(true),
            Ok(Some(mut changes)) => {
                if !changes.batch.bundles.is_empty() && !self.births.contains(&origin) {
                    changes.batch.birth = self.store.birth(origin).await?;
                    self.births.insert(origin);
                }
                changes.batch.certificates.retain(|chain| {
                    let id = Chain::new(chain.certificates.clone()).map(|chain| chain.id());
                    id.is_some_and(|id| self.chains.insert(id))
                });
                self.feed.sent(origin, Clock(changes.batch.covered_through));
                self.gather_until = turn.now + limits::FOLLOW_GATHER;
                metrics::counter!(names::ENTRIES_SENT).increment(changes.batch.entries.len() as u64);
                permit.send(Ok(response(replicate_response::Message::Batch(changes.batch))));
                Ok(true)
            }
            Err(StoreError::BelowFloor { origin, floor }) => {
                let lacks = lacks(Reason::BelowFloor, origin, floor);
                permit.send(Ok(response(replicate_response::Message::OutOfSync(lacks))));
                Ok(false)
            }
            // One log that cannot be read must not keep the others from the puller.
            Err(StoreError::Damaged(error)) => {
                tracing::error!(%origin, %error, "a log cannot be read, and is not sent");
                self.feed.leave_out(origin);
                Ok(true)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Counts a puller as connected while its stream lasts.
struct Following<'a>(&'a Members, &'a NodeId);

impl<'a> Following<'a> {
    fn begin(members: &'a Members, node_id: &'a NodeId) -> Self {
        members.follows(node_id, true);
        Self(members, node_id)
    }
}

impl Drop for Following<'_> {
    fn drop(&mut self) {
        self.0.follows(self.1, false);
    }
}

/// Why the log is not enough for this puller, as far as its hello shows.
pub fn out_of_sync(store: &Store, applied: &Vector, admission: Admission) -> Option<proto::OutOfSync> {
    if admission == Admission::Retired {
        let reason = Reason::Retired.into();
        return Some(proto::OutOfSync { reason, ..proto::OutOfSync::default() });
    }
    if let Some((origin, clock)) = store.folds().iter().find(|(origin, clock)| applied.get(origin) < *clock)
        && !planted::is(Bug::IgnoreFloor)
    {
        return Some(lacks(Reason::Folded, origin, clock));
    }
    let totals = store.totals();
    let by_log = store.vector().entries_above(applied);
    let by_records = totals.records + totals.tombstones;
    let is_cheaper = by_log >= limits::RESYNC_CHEAPER_ENTRIES
        && by_log >= limits::RESYNC_CHEAPER_FACTOR.saturating_mul(by_records);
    (applied.is_empty() && is_cheaper)
        .then(|| proto::OutOfSync { reason: Reason::Cheaper.into(), ..proto::OutOfSync::default() })
}

fn lacks(reason: Reason, origin: Origin, floor: Clock) -> proto::OutOfSync {
    let origin = bytes::Bytes::copy_from_slice(origin.as_bytes());
    proto::OutOfSync { reason: reason.into(), origin, floor: floor.0 }
}

/// A puller that has more of this node's own origin than this node shows that this node's storage was rolled
/// back.
async fn check_own_clock(store: &Store, applied: &Vector, holder: &str) {
    if let Err(error) = store.check_rollback(applied, holder).await {
        tracing::debug!(%error, "a puller claims more of this node's own operations than there are");
    }
}

/// What a puller says of what it was sent.
enum Acknowledgement {
    Applied(Vector),
    Declined(Origin),
}

fn acknowledgement(request: proto::ReplicateRequest) -> Result<Acknowledgement, SessionError> {
    match request.message {
        Some(replicate_request::Message::Applied(vector)) => {
            Ok(Acknowledgement::Applied(codec::vector_from_proto(&vector)?))
        }
        Some(replicate_request::Message::Declined(declined)) => {
            let malformed = |_| SessionError::Protocol("it declines a malformed origin".to_owned());
            Ok(Acknowledgement::Declined(Origin::try_from(declined.origin.as_ref()).map_err(malformed)?))
        }
        Some(replicate_request::Message::Hello(_)) => {
            Err(SessionError::Protocol("a second hello".to_owned()))
        }
        Some(replicate_request::Message::Folds(_)) => {
            Err(SessionError::Protocol("folds that were not asked for".to_owned()))
        }
        None => Err(SessionError::Protocol("an empty message".to_owned())),
    }
}

fn response(message: replicate_response::Message) -> proto::ReplicateResponse {
    proto::ReplicateResponse { message: Some(message) }
}

/// What the heads have said so far.
#[derive(Debug, Default)]
pub struct Announced {
    vector: Vector,
    /// What the puller's hello listed, frozen origins included.
    lists: Vector,
    /// How many proofs that origins have signed two histories.
    forks: usize,
    /// The number of the last signed head.
    head: u64,
}

impl Announced {
    /// Nothing yet, to a puller whose hello lists these origins.
    pub fn to(lists: Vector) -> Self {
        Self { lists, ..Self::default() }
    }
}

/// What the store has applied above `announced`, and the digest of its records at exactly that point.
pub fn heads(store: &Store, wall_clock: &WallClock, announced: &mut Announced) -> proto::Heads {
    let summary = store.summary();
    let fresh = summary.vector.above(&announced.vector);
    announced.vector.join(&fresh);
    let known = store.forks().len();
    let is_news = known != std::mem::replace(&mut announced.forks, known);
    let forks = if is_news { forks::shown(store, &announced.lists) } else { Vec::new() };
    store.sign_head(wall_clock.now_ms());
    let signed;
    (signed, announced.head) = store.heads_after(announced.head);
    proto::Heads {
        node_id: store.node_id().to_string(),
        incarnation: store.origin().incarnation().0,
        vector: Some(codec::vector_to_proto(&fresh)),
        now_unix: wall_clock.now(),
        digest: Some(remote::digest_to_proto(&summary)),
        tips: store.tips(&fresh).into_iter().map(|(origin, tip)| tip.of_origin(&origin)).collect(),
        forks,
        birth: None,
        closings: Vec::new(),
        heads: signed.iter().map(Head::to_proto).collect(),
    }
}
