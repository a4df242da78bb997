//! A peer that says what a test tells it to, over real TLS.

use std::{
    collections::{BTreeMap, HashMap},
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{
    certs::Certs,
    metrics::{count_refusals, refused_of},
};
use brock_core::{
    base::{claims::ClaimKind, id::Origin, limits, vector::Vector},
    domain::codec,
    proto::{
        self,
        recognition_service_server::{RecognitionService, RecognitionServiceServer},
        replicate_request, replicate_response,
        replication_service_server::{ReplicationService, ReplicationServiceServer},
    },
};
use brock_net::{
    task::Tasks,
    tls::{accept, credentials::Identity},
};
use futures::{Stream, StreamExt};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, transport::Server};

/// What a fake peer says on every Replicate stream, after its heads.
#[derive(Clone)]
pub struct Script {
    pub node_id: String,
    pub heads: Vector,
    /// The signed heads in its first message.
    pub signed: Vec<proto::Head>,
    /// The closings in its first message.
    pub closings: Vec<proto::Closing>,
    pub batches: Vec<proto::Batch>,
    /// What it says after the batches.
    pub then: Vec<replicate_response::Message>,
    /// What Snapshot answers, as it stands; `None`: that it has no records.
    pub snapshot: Option<Vec<proto::SnapshotResponse>>,
    /// The pause before each of these messages.
    pub snapshot_pause: Duration,
    /// What Summary answers.
    pub summary: Option<proto::SummaryResponse>,
    /// What ListBucket answers about each bucket; about all others, that they are empty.
    pub buckets: HashMap<u32, proto::ListBucketResponse>,
    /// What FetchStates answers, whatever was asked for.
    pub states: Option<proto::FetchStatesResponse>,
    /// What Recognise answers.
    pub recognise: Option<proto::RecogniseResponse>,
    /// What Report answers.
    pub report: Option<proto::ReportResponse>,
    /// The digest in its heads.
    pub digest: Option<proto::Digest>,
    /// On every stream it calls itself otherwise.
    pub renames: bool,
    /// End the stream after the batches instead of keeping it open.
    pub hang_up: bool,
    /// What Peek answers about these key hashes.
    pub holds: HashMap<Vec<u8>, proto::RecordState>,
    /// What Peek answers about all others.
    pub peek: Result<proto::RecordState, Status>,
    /// What proves the states that Peek answers.
    pub proofs: proto::PeekResponse,
    /// How long Peek takes.
    pub peek_delay: Duration,
    pub now_unix: i64,
    /// Say nothing at all, not even the heads.
    pub silent: bool,
    /// Never read what the puller says.
    pub deaf: bool,
}

impl Script {
    pub fn new(node_id: &str) -> Self {
        Self {
            node_id: node_id.to_owned(),
            heads: Vector::default(),
            signed: Vec::new(),
            closings: Vec::new(),
            batches: Vec::new(),
            then: Vec::new(),
            snapshot: None,
            snapshot_pause: Duration::ZERO,
            summary: None,
            buckets: HashMap::new(),
            states: None,
            recognise: None,
            report: None,
            digest: None,
            renames: false,
            hang_up: false,
            holds: HashMap::new(),
            peek_delay: Duration::ZERO,
            peek: Err(Status::not_found("no record has this key hash")),
            proofs: proto::PeekResponse::default(),
            now_unix: brock_core::base::time::unix_now(),
            silent: false,
            deaf: false,
        }
    }
}

/// A running fake peer. Ends when dropped.
pub struct FakePeer {
    pub port: u16,
    /// The last vector that a puller has announced, joined over its messages.
    pub applied: Arc<Mutex<Vector>>,
    /// The origins that pullers have declined.
    pub declined: Arc<Mutex<Vec<Origin>>>,
    /// Streams that were begun.
    pub streams: Arc<Mutex<u64>>,
    /// Peeks that were answered.
    pub peeks: Arc<Mutex<u64>>,
    /// Questions for states that were answered.
    pub fetches: Arc<Mutex<u64>>,
    /// Snapshots that were begun.
    pub snapshots: Arc<Mutex<u64>>,
    /// What nodes had refused of a peer that had its port before.
    before: BTreeMap<String, u64>,
    tasks: Tasks,
}

#[derive(Clone)]
struct Service {
    script: Script,
    applied: Arc<Mutex<Vector>>,
    declined: Arc<Mutex<Vec<Origin>>>,
    streams: Arc<Mutex<u64>>,
    peeks: Arc<Mutex<u64>>,
    fetches: Arc<Mutex<u64>>,
    snapshots: Arc<Mutex<u64>>,
}

impl FakePeer {
    /// Listens with the node certificate of `certified_id`.
    pub async fn start(certs: &Certs, certified_id: &str, script: Script) -> Self {
        Self::start_as(&certs.node_identity(certified_id), script).await
    }

    /// Listens with any certificate.
    pub async fn start_as(identity: &Identity, script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        count_refusals();
        let before = refused_of(&format!("127.0.0.1:{port}"));
        let tasks = Tasks::default();
        let incoming = accept::accept(listener, identity, accept::Room::default(), &tasks);
        let (applied, streams, peeks) = (Arc::default(), Arc::default(), Arc::default());
        let fetches = Arc::<Mutex<u64>>::default();
        let (snapshots, declined) = (Arc::default(), Arc::default());
        let service = Service {
            script,
            applied: Arc::clone(&applied),
            declined: Arc::clone(&declined),
            streams: Arc::clone(&streams),
            peeks: Arc::clone(&peeks),
            fetches: Arc::clone(&fetches),
            snapshots: Arc::clone(&snapshots),
        };
        let stop = tasks.stopping().clone();
        tasks.spawn_short(async move {
            let recognition = RecognitionServiceServer::new(service.clone());
            let service = ReplicationServiceServer::new(service).max_encoding_message_size(64 * 1024 * 1024);
            // A small window, so that a puller notices soon when it is not listened to.
            let mut server = Server::builder().initial_stream_window_size(1024);
            let server = server.add_service(service).add_service(recognition);
            let _ = server.serve_with_incoming_shutdown(incoming, stop.cancelled_owned()).await;
        });
        Self { port, applied, declined, streams, peeks, fetches, snapshots, before, tasks }
    }

    /// How many of its claims the nodes that dial it have refused, of this kind.
    pub fn refused(&self, kind: ClaimKind) -> u64 {
        let now = refused_of(&format!("127.0.0.1:{}", self.port));
        let of_kind = |counts: &BTreeMap<String, u64>| counts.get(kind.as_str()).copied().unwrap_or_default();
        of_kind(&now) - of_kind(&self.before)
    }
}

impl Drop for FakePeer {
    fn drop(&mut self) {
        self.tasks.stopping().cancel();
    }
}

#[tonic::async_trait]
impl RecognitionService for Service {
    async fn recognise(
        &self,
        _: Request<proto::RecogniseRequest>,
    ) -> Result<Response<proto::RecogniseResponse>, Status> {
        let answer = self.script.recognise.clone();
        Ok(Response::new(answer.ok_or_else(|| Status::unimplemented("a fake peer knows no node"))?))
    }
}

#[tonic::async_trait]
impl ReplicationService for Service {
    type ReplicateStream = Pin<Box<dyn Stream<Item = Result<proto::ReplicateResponse, Status>> + Send>>;
    type SnapshotStream = Pin<Box<dyn Stream<Item = Result<proto::SnapshotResponse, Status>> + Send>>;

    async fn snapshot(
        &self,
        _: Request<proto::SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        *self.snapshots.lock().unwrap() += 1;
        let messages = self.script.snapshot.clone();
        let messages = messages.ok_or_else(|| Status::unimplemented("a fake peer has no records"))?;
        let pause = self.script.snapshot_pause;
        // The script is a slow donor.
        let said = futures::stream::iter(messages).then(move |message| async move {
            tokio::time::sleep(pause).await;
            Ok(message)
        });
        Ok(Response::new(Box::pin(said)))
    }

    async fn summary(
        &self,
        _: Request<proto::SummaryRequest>,
    ) -> Result<Response<proto::SummaryResponse>, Status> {
        let summary = self.script.summary.clone();
        Ok(Response::new(summary.ok_or_else(|| Status::unimplemented("a fake peer has no records"))?))
    }

    async fn list_bucket(
        &self,
        request: Request<proto::ListBucketRequest>,
    ) -> Result<Response<proto::ListBucketResponse>, Status> {
        Ok(Response::new(self.script.buckets.get(&request.into_inner().bucket).cloned().unwrap_or_default()))
    }

    async fn hash_records(
        &self,
        _: Request<proto::HashRecordsRequest>,
    ) -> Result<Response<proto::HashRecordsResponse>, Status> {
        Err(Status::unimplemented("a fake peer has no records"))
    }

    async fn fetch_states(
        &self,
        _: Request<proto::FetchStatesRequest>,
    ) -> Result<Response<proto::FetchStatesResponse>, Status> {
        *self.fetches.lock().unwrap() += 1;
        let states = self.script.states.clone();
        Ok(Response::new(states.ok_or_else(|| Status::unimplemented("a fake peer has no records"))?))
    }

    async fn trace(&self, _: Request<proto::TraceRequest>) -> Result<Response<proto::TraceResponse>, Status> {
        Err(Status::unimplemented("a fake peer has no records"))
    }

    async fn offer_births(
        &self,
        _: Request<proto::Births>,
    ) -> Result<Response<proto::OfferBirthsResponse>, Status> {
        Ok(Response::new(proto::OfferBirthsResponse {}))
    }

    async fn retire(
        &self,
        _: Request<proto::RetireRequest>,
    ) -> Result<Response<proto::RetireResponse>, Status> {
        Err(Status::unimplemented("a fake peer has no members"))
    }

    async fn report(
        &self,
        _: Request<proto::ReportRequest>,
    ) -> Result<Response<proto::ReportResponse>, Status> {
        let report = self.script.report.clone();
        Ok(Response::new(report.ok_or_else(|| Status::unimplemented("a fake peer has no status"))?))
    }

    async fn ping(&self, _: Request<proto::PingRequest>) -> Result<Response<proto::PingResponse>, Status> {
        let node_id = self.script.node_id.clone();
        Ok(Response::new(proto::PingResponse { node_id, incarnation: 1, now_unix: self.script.now_unix }))
    }

    async fn peek(
        &self,
        request: Request<proto::PeekRequest>,
    ) -> Result<Response<proto::PeekResponse>, Status> {
        *self.peeks.lock().unwrap() += 1;
        // The script is a slow peer.
        tokio::time::sleep(self.script.peek_delay).await;
        let held = self.script.holds.get(request.into_inner().key_hash.as_ref()).cloned();
        let state = held.map_or_else(|| self.script.peek.clone(), Ok)?;
        Ok(Response::new(proto::PeekResponse { state: Some(state), ..self.script.proofs.clone() }))
    }

    async fn replicate(
        &self,
        request: Request<Streaming<proto::ReplicateRequest>>,
    ) -> Result<Response<Self::ReplicateStream>, Status> {
        let stream = {
            let mut streams = self.streams.lock().unwrap();
            *streams += 1;
            *streams
        };
        let mut script = self.script.clone();
        if script.renames {
            script.node_id = format!("{}-{stream}", script.node_id);
        }
        let mut messages = vec![replicate_response::Message::Heads(proto::Heads {
            node_id: script.node_id.clone(),
            incarnation: 1,
            vector: Some(codec::vector_to_proto(&script.heads)),
            heads: script.signed,
            closings: script.closings,
            now_unix: script.now_unix,
            digest: script.digest.clone(),
            ..proto::Heads::default()
        })];
        messages.extend(script.batches.into_iter().map(replicate_response::Message::Batch));
        messages.extend(script.then);
        let (out, responses) = mpsc::channel(1);
        let (applied, declined) = (Arc::clone(&self.applied), Arc::clone(&self.declined));
        let mut requests = request.into_inner();
        tokio::spawn(async move {
            let say = async {
                if script.silent {
                    return std::future::pending().await;
                }
                for message in messages {
                    let _ = out.send(Ok(proto::ReplicateResponse { message: Some(message) })).await;
                }
                if !script.hang_up {
                    let beat = || proto::Heads {
                        node_id: script.node_id.clone(),
                        incarnation: 1,
                        vector: None,
                        now_unix: script.now_unix,
                        digest: script.digest.clone(),
                        ..proto::Heads::default()
                    };
                    loop {
                        // As often as a real peer.
                        tokio::time::sleep(limits::HEARTBEAT_INTERVAL).await;
                        let message = Some(replicate_response::Message::Heads(beat()));
                        if out.send(Ok(proto::ReplicateResponse { message })).await.is_err() {
                            return;
                        }
                    }
                }
            };
            let hear = async {
                if script.deaf {
                    return std::future::pending().await;
                }
                while let Some(Ok(request)) = requests.next().await {
                    let vector = match request.message {
                        Some(replicate_request::Message::Hello(hello)) => hello.vector.unwrap_or_default(),
                        Some(replicate_request::Message::Applied(vector)) => vector,
                        Some(replicate_request::Message::Declined(origin)) => {
                            declined.lock().unwrap().push(Origin::try_from(origin.origin.as_ref()).unwrap());
                            continue;
                        }
                        _ => continue,
                    };
                    applied.lock().unwrap().join(&codec::vector_from_proto(&vector).unwrap());
                }
            };
            tokio::select! { () = say => {}, () = hear => {} }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(responses))))
    }
}
