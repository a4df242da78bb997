//! Serving a Replicate stream: the donor's end, from the puller's hello to its last acknowledgement.

use futures::{Stream, StreamExt};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use super::feed::{Feed, Next};
use crate::{
    membership::members::{Admission, Members},
    replication::remote,
    runtime::planted::{self, Bug},
    store::{Store, StoreError},
};
use brock_core::{
    base::{
        id::{Incarnation, NodeId, Origin},
        limits, metrics as names,
        vector::{Clock, Vector},
    },
    domain::codec::{self, CodecError},
    proto::{self, out_of_sync::Reason, replicate_request, replicate_response},
};

/// Why a feed ended early.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// The puller sent something that does not belong there.
    #[error("the puller broke the protocol: {0}")]
    Protocol(String),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<CodecError> for FeedError {
    fn from(error: CodecError) -> Self {
        Self::Protocol(error.to_string())
    }
}

/// Who is to be fed.
pub struct Puller {
    /// The store it is fed from.
    pub store: Store,
    /// Where its acknowledgements are noted.
    pub members: Members,
    /// Its name.
    pub node_id: NodeId,
    /// What it said first.
    pub hello: proto::Hello,
    /// What that said it has applied; folded origins are not listed.
    pub vector: Vector,
}

type Out = mpsc::Sender<Result<proto::ReplicateResponse, tonic::Status>>;

/// Feeds one puller until it hangs up, breaks the protocol, turns out to need more than the log, or
/// the node stops. Memory is bounded by the batch in hand and the one in `out`.
pub async fn run(
    puller: Puller,
    mut requests: impl Stream<Item = Result<proto::ReplicateRequest, tonic::Status>> + Unpin,
    out: Out,
    stop: CancellationToken,
) -> Result<(), FeedError> {
    let mut told = Vector::default();
    let first = heads(&puller.store, &mut told);
    if out.send(Ok(response(replicate_response::Message::Heads(first)))).await.is_err() {
        return Ok(());
    }
    let Some(applied) = exchange_folds(&puller, &mut requests, &out).await? else { return Ok(()) };
    let Puller { store, members, node_id, hello, .. } = puller;
    let incarnation = Incarnation(hello.incarnation);
    let admission = members.hello(&node_id, incarnation, &applied, store.now());
    if let Some(out_of_sync) = out_of_sync(&store, &applied, admission) {
        let _ = out.send(Ok(response(replicate_response::Message::OutOfSync(out_of_sync)))).await;
        return Ok(());
    }
    let _following = Following::begin(&members, &node_id);
    let mut commits = store.commits();
    let mut feed = Feed::new(store.node_id().clone(), applied, limits::RELAY_PATIENCE);
    let mut tell_at = Instant::now() + limits::HEARTBEAT_INTERVAL;
    let mut gather_until = Instant::now();
    let limit = usize::try_from(hello.batch_limit).unwrap_or(usize::MAX);
    loop {
        commits.mark_unchanged();
        let now = Instant::now();
        let above = store.above(feed.vector());
        let next = feed.next(&above, now);
        let tell = now >= tell_at;
        // A few operations right behind a batch gather for a moment: every batch costs the puller
        // an fsync and everybody a wake-up. A backlog does not wait, nor does the first after a pause.
        let gathers =
            now < gather_until && above.entries_above(feed.vector()) < limits::FOLLOW_GATHER_ENTRIES;
        let speak = tell || (matches!(next, Next::Send(..)) && !gathers);
        let wake_at = match next {
            Next::Wait(Some(at)) => at.min(tell_at),
            Next::Send(..) if gathers => gather_until.min(tell_at),
            _ => tell_at,
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            // Read while waiting to write: two ends that only write would wait for ever.
            request = requests.next() => match request {
                None | Some(Err(_)) => return Ok(()),
                Some(Ok(request)) => {
                    let applied = acknowledgement(request)?;
                    note_own_clock(&store, &applied).await;
                    feed.acknowledge(&applied);
                    check_size(feed.vector())?;
                    members.acknowledge(&node_id, &applied, store.now());
                }
            },
            permit = out.reserve(), if speak => {
                let Ok(permit) = permit else { return Ok(()) };
                if tell {
                    permit.send(Ok(response(replicate_response::Message::Heads(heads(&store, &mut told)))));
                    tell_at = now + limits::HEARTBEAT_INTERVAL;
                } else if let Next::Send(origin, after) = next {
                    match store.changes_since(origin, after, limit).await {
                        Ok(None) => {}
                        Ok(Some(changes)) => {
                            feed.sent(origin, Clock(changes.batch.covered_through));
                            gather_until = now + limits::FOLLOW_GATHER;
                            metrics::counter!(names::ENTRIES_SENT).increment(changes.batch.entries.len() as u64);
                            permit.send(Ok(response(replicate_response::Message::Batch(changes.batch))));
                        }
                        Err(StoreError::BelowFloor { origin, floor }) => {
                            let lacks = lacks(Reason::BelowFloor, origin, floor);
                            permit.send(Ok(response(replicate_response::Message::OutOfSync(lacks))));
                            return Ok(());
                        }
                        Err(error) => return Err(error.into()),
                    }
                }
            },
            _ = commits.changed(), if !speak => {}
            () = tokio::time::sleep_until(wake_at), if !speak => {}
        }
    }
}

/// Counts a puller as connected for as long as its stream lasts.
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

/// What the puller has applied, with the origins that it does not list because it has folded them
/// away. `None` = it hung up.
async fn exchange_folds(
    puller: &Puller,
    requests: &mut (impl Stream<Item = Result<proto::ReplicateRequest, tonic::Status>> + Unpin),
    out: &Out,
) -> Result<Option<Vector>, FeedError> {
    let mine = puller.store.folds();
    let mut applied = puller.vector.clone();
    if puller.hello.folds_digest == codec::folds_digest(&mine).as_slice() {
        applied.join(&mine);
        return Ok(Some(applied));
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
            Err(_) => return Err(FeedError::Protocol("it did not say what it has folded".to_owned())),
        };
        match request.message {
            Some(replicate_request::Message::Folds(folds)) => {
                applied.join(&codec::folds_from_proto(folds)?);
                return Ok(Some(applied));
            }
            // On its way before the question arrived.
            Some(replicate_request::Message::Applied(vector)) => {
                applied.join(&codec::vector_from_proto(&vector)?);
                check_size(&applied)?;
            }
            _ => return Err(FeedError::Protocol("it did not say what it has folded".to_owned())),
        }
    }
}

/// Why the log cannot help this puller, as far as that shows at once.
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

/// The puller's vector shows what it has of our own origin: more than we have means that our
/// storage was rolled back.
async fn note_own_clock(store: &Store, applied: &Vector) {
    if let Err(error) = store.check_rollback(applied).await {
        tracing::debug!(%error, "a puller claims more of this node's own operations than there are");
    }
}

fn acknowledgement(request: proto::ReplicateRequest) -> Result<Vector, FeedError> {
    match request.message {
        Some(replicate_request::Message::Applied(vector)) => Ok(codec::vector_from_proto(&vector)?),
        Some(replicate_request::Message::Hello(_)) => Err(FeedError::Protocol("a second hello".to_owned())),
        Some(replicate_request::Message::Folds(_)) => {
            Err(FeedError::Protocol("folds that were not asked for".to_owned()))
        }
        None => Err(FeedError::Protocol("an empty message".to_owned())),
    }
}

/// Announcements add up: together they are bounded too.
fn check_size(vector: &Vector) -> Result<(), FeedError> {
    if vector.len() > 2 * limits::VECTOR_MAX_ORIGINS {
        return Err(CodecError::VectorSize(vector.len()).into());
    }
    Ok(())
}

fn response(message: replicate_response::Message) -> proto::ReplicateResponse {
    proto::ReplicateResponse { message: Some(message) }
}

/// What the store has above what was told, and the digest of its records at exactly that point.
fn heads(store: &Store, told: &mut Vector) -> proto::Heads {
    let summary = store.summary();
    let fresh = summary.vector.above(told);
    told.join(&fresh);
    proto::Heads {
        node_id: store.node_id().to_string(),
        incarnation: store.origin().incarnation().0,
        vector: Some(codec::vector_to_proto(&fresh)),
        now_unix: store.now(),
        digest: Some(remote::digest_to_proto(&summary)),
    }
}
