//! The replication service: the donor's end of what the peers' pullers do.

use std::{pin::Pin, sync::Arc};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    domain::codec,
    ground::{
        id::{KeyHash, NodeId},
        limits,
        task::Tasks,
    },
    proto::{self, replicate_request, replication_service_server::ReplicationService},
    replication::{feed, puller::PROTOCOL_VERSION},
    store::Store,
    tls::accept::ConnectionInfo,
};

use super::problem::Problem;

/// The handlers.
#[derive(Clone)]
pub struct Replication {
    store: Store,
    tasks: Tasks,
    feeds: Arc<Semaphore>,
}

impl Replication {
    /// Serves this store's log.
    pub fn new(store: Store, tasks: Tasks) -> Self {
        Self { store, tasks, feeds: Arc::new(Semaphore::new(limits::FEEDS_MAX)) }
    }

    /// A puller must be the node that its certificate says, must not be this node, and must speak
    /// this version's protocol.
    fn check(&self, hello: &proto::Hello, certified: Option<NodeId>) -> Result<(), Status> {
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
        Ok(())
    }
}

#[tonic::async_trait]
impl ReplicationService for Replication {
    type ReplicateStream = Pin<Box<dyn Stream<Item = Result<proto::ReplicateResponse, Status>> + Send>>;

    async fn ping(&self, _: Request<proto::PingRequest>) -> Result<Response<proto::PingResponse>, Status> {
        Ok(Response::new(proto::PingResponse {
            node_id: self.store.node_id().to_string(),
            incarnation: self.store.origin().incarnation().0,
            now_unix: self.store.now(),
        }))
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
        let mut requests = request.into_inner();
        let first = tokio::time::timeout(limits::STREAM_SILENCE_TIMEOUT, requests.next()).await;
        let first = match first {
            Ok(Some(first)) => first?,
            Ok(None) | Err(_) => return Err(Status::invalid_argument("the stream must begin with a hello")),
        };
        let Some(replicate_request::Message::Hello(hello)) = first.message else {
            return Err(Status::invalid_argument("the stream must begin with a hello"));
        };
        self.check(&hello, certified)?;
        let vector = codec::vector_from_proto(hello.vector.as_ref().unwrap_or(&proto::Vector::default()))
            .map_err(|error| Status::invalid_argument(format!("hello.vector: {error}")))?;
        let Ok(permit) = Arc::clone(&self.feeds).try_acquire_owned() else {
            return Err(Status::resource_exhausted("this node feeds as many pullers as it can"));
        };
        let theirs = vector.get(&self.store.origin());
        if theirs > self.store.clock(&self.store.origin()) {
            self.store.rolled_back(theirs).await.map_err(Problem::from)?;
        }
        let (out, responses) = mpsc::channel(1);
        let (store, stop) = (self.store.clone(), self.tasks.stopping().clone());
        let stopping = stop.clone();
        self.tasks.spawn_short(async move {
            let failed = out.clone();
            if let Err(error) = feed::run(store, hello, vector, requests, out, stop).await {
                let status = match error {
                    feed::FeedError::Protocol(problem) => Status::invalid_argument(problem),
                    feed::FeedError::Store(error) => Problem::from(error).into(),
                };
                // Behind what is still on its way to the puller. Nobody listening is as good as told.
                let told = failed.send_timeout(Err(status), limits::STREAM_SILENCE_TIMEOUT);
                let _ = stopping.run_until_cancelled(told).await;
            }
            drop(permit);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(responses))))
    }
}
