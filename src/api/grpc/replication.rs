//! The replication service: the donor's end of what the peers' pullers do.

use std::{pin::Pin, sync::Arc};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    app::{error::Problem, operations, status::Reporter, trace::Traces},
    membership::members::Members,
    replication::{
        donor::session::{Session, SessionError},
        pull::puller::PROTOCOL_VERSION,
        remote::Remote,
    },
    store::Store,
    transfer::snapshot::{SnapshotError, SnapshotFeed},
};
use brock_core::{
    base::{
        id::{KeyHash, NodeId},
        limits,
    },
    domain::codec,
    proto::{self, replicate_request, replication_service_server::ReplicationService},
};
use brock_net::{task::Tasks, tls::accept::ConnectionInfo};

/// The handlers.
#[derive(Clone)]
pub struct Replication {
    store: Store,
    members: Members,
    tasks: Tasks,
    traces: Traces,
    reporter: Arc<Reporter>,
    feeds: Arc<Semaphore>,
    snapshots: Arc<Semaphore>,
}

impl Replication {
    /// Serves this store's log and records.
    pub fn new(
        store: Store,
        members: Members,
        traces: Traces,
        reporter: Arc<Reporter>,
        tasks: Tasks,
    ) -> Self {
        Self {
            store,
            members,
            tasks,
            traces,
            reporter,
            feeds: Arc::new(Semaphore::new(limits::FEEDS_MAX)),
            snapshots: Arc::new(Semaphore::new(limits::SNAPSHOTS_MAX)),
        }
    }

    /// A puller must be the node that its certificate says, must not be this node, and must speak
    /// this version's protocol.
    fn check(&self, hello: &proto::Hello, certified: Option<NodeId>) -> Result<NodeId, Status> {
        if hello.protocol_version != PROTOCOL_VERSION {
            return Err(Status::failed_precondition(format!(
                "the puller speaks replication protocol {}, this node speaks {PROTOCOL_VERSION}: run the same version \
                 of brock on both",
                hello.protocol_version
            )));
        }
        let node_id: NodeId = hello
            .node_id
            .parse()
            .map_err(|error| Status::invalid_argument(format!("hello.node_id: {error}")))?;
        if let Some(certified) = certified
            && certified != node_id
        {
            return Err(Status::permission_denied(format!(
                "hello.node_id: the certificate is that of {certified} and may not act as {node_id}"
            )));
        }
        if node_id == *self.store.node_id() {
            return Err(Status::failed_precondition(format!(
                "hello.node_id: {node_id} is this node's own id: give every node its own node.id and storage"
            )));
        }
        Ok(node_id)
    }
}

#[tonic::async_trait]
impl ReplicationService for Replication {
    type ReplicateStream = Pin<Box<dyn Stream<Item = Result<proto::ReplicateResponse, Status>> + Send>>;
    type SnapshotStream = Pin<Box<dyn Stream<Item = Result<proto::SnapshotResponse, Status>> + Send>>;

    async fn ping(&self, _: Request<proto::PingRequest>) -> Result<Response<proto::PingResponse>, Status> {
        Ok(Response::new(proto::PingResponse {
            node_id: self.store.node_id().to_string(),
            incarnation: self.store.origin().incarnation().0,
            now_unix: self.store.now(),
        }))
    }

    async fn report(
        &self,
        request: Request<proto::ReportRequest>,
    ) -> Result<Response<proto::ReportResponse>, Status> {
        Ok(Response::new(self.reporter.report(request.into_inner().history).await?))
    }

    async fn peek(
        &self,
        request: Request<proto::PeekRequest>,
    ) -> Result<Response<proto::PeekResponse>, Status> {
        let bytes: Bytes = request.into_inner().key_hash;
        let key_hash = KeyHash::try_from(bytes.as_ref())
            .map_err(|error| Status::invalid_argument(format!("key_hash: {error}")))?;
        let state = self.store.get(key_hash).await.map_err(Problem::from)?.ok_or(Problem::Absent)?;
        Ok(Response::new(proto::PeekResponse { state: Some(codec::state_to_proto(&state)) }))
    }

    async fn replicate(
        &self,
        request: Request<Streaming<proto::ReplicateRequest>>,
    ) -> Result<Response<Self::ReplicateStream>, Status> {
        let info = request.extensions().get::<ConnectionInfo>();
        let certified = info.and_then(|info| info.identity.node_id());
        let stop = ConnectionInfo::draining(&request, &self.tasks);
        let mut requests = request.into_inner();
        let first = tokio::time::timeout(limits::STREAM_SILENCE_TIMEOUT, requests.next()).await;
        let first = match first {
            Ok(Some(first)) => first?,
            Ok(None) | Err(_) => return Err(Status::invalid_argument("the stream must begin with a hello")),
        };
        let Some(replicate_request::Message::Hello(hello)) = first.message else {
            return Err(Status::invalid_argument("the stream must begin with a hello"));
        };
        let node_id = self.check(&hello, certified)?;
        let vector = codec::vector_from_proto(hello.vector.as_ref().unwrap_or(&proto::Vector::default()))
            .map_err(|error| Status::invalid_argument(format!("hello.vector: {error}")))?;
        let Ok(permit) = Arc::clone(&self.feeds).try_acquire_owned() else {
            return Err(Status::resource_exhausted("this node feeds as many pullers as it can"));
        };
        self.store.check_rollback(&vector).await.map_err(Problem::from)?;
        let (out, responses) = mpsc::channel(1);
        let session =
            Session { store: self.store.clone(), members: self.members.clone(), node_id, hello, vector };
        let stopping = stop.clone();
        self.tasks.spawn_short(async move {
            let failed = out.clone();
            if let Err(error) = session.run(requests, out, stop).await {
                let status = match error {
                    SessionError::Protocol(problem) => Status::invalid_argument(problem),
                    SessionError::Store(error) => Problem::from(error).into(),
                };
                // Behind what is still on its way to the puller. Nobody listening is as good as told.
                let told = failed.send_timeout(Err(status), limits::STREAM_SILENCE_TIMEOUT);
                let _ = stopping.run_until_cancelled(told).await;
            }
            drop(permit);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(responses))))
    }

    async fn snapshot(
        &self,
        request: Request<proto::SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        let request = request.into_inner();
        let applied = codec::vector_from_proto(&request.applied.clone().unwrap_or_default())
            .map_err(|error| Status::invalid_argument(format!("applied: {error}")))?;
        self.store.check_rollback(&applied).await.map_err(Problem::from)?;
        let mut feed = SnapshotFeed::begin(self.store.clone(), request).map_err(|error| match error {
            SnapshotError::Restarted => Status::aborted(error.to_string()),
            SnapshotError::Cursor(_) => Status::invalid_argument(error.to_string()),
        })?;
        let Ok(permit) = Arc::clone(&self.snapshots).try_acquire_owned() else {
            return Err(Status::resource_exhausted("this node fills as many others as it can"));
        };
        let (out, responses) = mpsc::channel(1);
        let stop = self.tasks.stopping().clone();
        self.tasks.spawn_short(async move {
            let send = async {
                loop {
                    let message = match feed.next().await {
                        Ok(Some(message)) => Ok(message),
                        Ok(None) => return,
                        Err(error) => Err(Problem::from(error).into()),
                    };
                    let failed = message.is_err();
                    // A puller that does not read for this long is gone.
                    let sent = out.send_timeout(message, limits::DIAL_TIMEOUT).await;
                    if sent.is_err() || failed {
                        return;
                    }
                }
            };
            stop.run_until_cancelled(send).await;
            drop(permit);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(responses))))
    }

    async fn summary(
        &self,
        request: Request<proto::SummaryRequest>,
    ) -> Result<Response<proto::SummaryResponse>, Status> {
        let answer = Remote::summary(&self.store, request.into_inner().buckets).await;
        Ok(Response::new(answer.map_err(Problem::from)?))
    }

    async fn list_bucket(
        &self,
        request: Request<proto::ListBucketRequest>,
    ) -> Result<Response<proto::ListBucketResponse>, Status> {
        Ok(Response::new(self.store.list_bucket(request.into_inner()).await.map_err(Problem::from)?))
    }

    async fn fetch_states(
        &self,
        request: Request<proto::FetchStatesRequest>,
    ) -> Result<Response<proto::FetchStatesResponse>, Status> {
        Ok(Response::new(self.store.fetch_states(request.into_inner()).await.map_err(Problem::from)?))
    }

    async fn trace(
        &self,
        request: Request<proto::TraceRequest>,
    ) -> Result<Response<proto::TraceResponse>, Status> {
        let trace = self.traces.here(&request.into_inner().key_hash).await?;
        Ok(Response::new(proto::TraceResponse { trace: Some(trace) }))
    }

    async fn retire(
        &self,
        request: Request<proto::RetireRequest>,
    ) -> Result<Response<proto::RetireResponse>, Status> {
        let proto::RetireRequest { member, alias } = request.into_inner();
        operations::retire_here(&self.store, &self.members, &member, &alias).await?;
        Ok(Response::new(proto::RetireResponse {}))
    }
}
