//! The replication service: what this node answers to its peers.

use std::{pin::Pin, sync::Arc};

use futures::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{audit, convert};
use crate::{
    app::{error::RequestError, operations::Operations, records, status::Reporter, trace::Traces},
    audit::log::AuditLog,
    replication::{
        donor::{
            admission::{Caller, Donor},
            error::DonorError,
        },
        remote::Remote,
    },
    runtime::pool::{Applicant, Bounds, Pool, Taken},
    store::Store,
};
use brock_core::{
    base::{limits, time::WallClock},
    domain::{birth::SignedBirth, codec},
    proto::{self, replicate_request, replication_service_server::ReplicationService},
};
use brock_net::{task::Tasks, tls::accept::ConnectionInfo};

/// The handlers.
#[derive(Clone)]
pub struct Replication {
    /// Answers questions about this node's records.
    pub store: Store,
    /// Feeds pullers.
    pub donor: Donor,
    /// Retires members.
    pub operations: Arc<Operations>,
    /// Traces records.
    pub traces: Traces,
    /// Reports the status of this node.
    pub reporter: Arc<Reporter>,
    /// Where the time comes from.
    pub wall_clock: WallClock,
    /// Records what operators have had passed on.
    pub audit_log: AuditLog,
    /// The node's background work.
    pub tasks: Tasks,
    /// The calls that each peer may make at once.
    pub calls: PeerCalls,
}

/// What each peer may ask at once.
#[derive(Clone)]
pub struct PeerCalls {
    reads: Pool,
    peeks: Pool,
    traces: Pool,
}

impl Default for PeerCalls {
    fn default() -> Self {
        let pool = |max, share| Pool::new(Bounds { max, share });
        Self {
            reads: pool(limits::PEER_CALLS_MAX, limits::PEER_CALLS_SHARE),
            peeks: pool(limits::PEER_PEEKS_MAX, limits::PEER_PEEKS_SHARE),
            traces: pool(limits::TRACES_MAX, 1),
        }
    }
}

/// Takes one of the caller's places, if it has one left.
fn begin<T>(pool: &Pool, request: &Request<T>) -> Result<Option<Taken>, Status> {
    let Some(info) = request.extensions().get::<ConnectionInfo>() else { return Ok(None) };
    let taken = pool.try_take(&Applicant::certified(info.holder()));
    Ok(Some(taken.ok_or(DonorError::TooManyCalls)?))
}

fn caller<T>(request: &Request<T>) -> Option<Caller> {
    let info = request.extensions().get::<ConnectionInfo>()?;
    Some(Caller {
        certified: info.identity.node_id(),
        holder: info.holder(),
        accepted_at: info.accepted_at,
        ip: info.remote.ip(),
    })
}

#[tonic::async_trait]
impl ReplicationService for Replication {
    type ReplicateStream = Pin<Box<dyn Stream<Item = Result<proto::ReplicateResponse, Status>> + Send>>;
    type SnapshotStream = Pin<Box<dyn Stream<Item = Result<proto::SnapshotResponse, Status>> + Send>>;

    async fn ping(&self, _: Request<proto::PingRequest>) -> Result<Response<proto::PingResponse>, Status> {
        Ok(Response::new(proto::PingResponse {
            node_id: self.store.node_id().to_string(),
            incarnation: self.store.origin().incarnation().0,
            now_unix: self.wall_clock.now(),
        }))
    }

    async fn report(
        &self,
        request: Request<proto::ReportRequest>,
    ) -> Result<Response<proto::ReportResponse>, Status> {
        let _place = begin(&self.calls.reads, &request)?;
        Ok(Response::new(self.reporter.report(request.into_inner().history).await?))
    }

    async fn peek(
        &self,
        request: Request<proto::PeekRequest>,
    ) -> Result<Response<proto::PeekResponse>, Status> {
        let _place = begin(&self.calls.peeks, &request)?;
        let key_hash = records::key_hash(&request.into_inner().key_hash)?;
        let state = self.store.get(key_hash).await.map_err(RequestError::from)?;
        let state = state.ok_or(RequestError::Absent)?;
        let births = self.store.births_of([&state]).await.map_err(RequestError::from)?;
        let chains = self.store.chains_of([&state]).await.map_err(RequestError::from)?;
        let bundles = self.store.bundles_of([&state]).await.map_err(RequestError::from)?;
        let state = Some(codec::state_to_proto(&state));
        Ok(Response::new(proto::PeekResponse { state, births, chains, bundles }))
    }

    async fn replicate(
        &self,
        request: Request<Streaming<proto::ReplicateRequest>>,
    ) -> Result<Response<Self::ReplicateStream>, Status> {
        let caller = caller(&request);
        let stop = ConnectionInfo::draining(&request, &self.tasks);
        let mut requests = request.into_inner();
        let first = tokio::time::timeout(limits::STREAM_SILENCE_TIMEOUT, requests.next());
        let first = match stop.run_until_cancelled(first).await {
            None => return Err(DonorError::Stopping.into()),
            Some(Ok(Some(first))) => first?,
            Some(Ok(None) | Err(_)) => return Err(DonorError::NoHello.into()),
        };
        let Some(replicate_request::Message::Hello(hello)) = first.message else {
            return Err(DonorError::NoHello.into());
        };
        let evicted = stop.child_token();
        let (session, place) = self.donor.admit(hello, caller, evicted.clone()).await?;
        let (out, responses) = mpsc::channel(1);
        let stopping = evicted.clone();
        self.tasks.spawn_short(async move {
            let failed = out.clone();
            let ended = session.run(requests, out, evicted.clone()).await;
            if evicted.is_cancelled() && !stop.is_cancelled() {
                // Without waiting: the node that has left the stream behind may not read it.
                let _ = failed.try_send(Err(DonorError::Replaced.into()));
            } else if let Err(error) = ended {
                let status = DonorError::from(error).into();
                // Behind the messages that are still on their way to the puller, which may be gone.
                let sent = failed.send_timeout(Err(status), limits::STREAM_SILENCE_TIMEOUT);
                let _ = stopping.run_until_cancelled(sent).await;
            }
            drop(place);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(responses))))
    }

    async fn snapshot(
        &self,
        request: Request<proto::SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        let (caller, evicted) = (caller(&request), self.tasks.stopping().child_token());
        let snapshot = self.donor.snapshot(request.into_inner(), caller, evicted.clone());
        let (mut feed, place) = snapshot.await?;
        let (out, responses) = mpsc::channel(1);
        self.tasks.spawn_short(async move {
            let send = async {
                loop {
                    let message = match feed.next().await {
                        Ok(Some(message)) => Ok(message),
                        Ok(None) => return,
                        Err(error) => Err(RequestError::from(error).into()),
                    };
                    let failed = message.is_err();
                    // A puller that does not read for this long is gone.
                    let sent = out.send_timeout(message, limits::DIAL_TIMEOUT).await;
                    if sent.is_err() || failed {
                        return;
                    }
                }
            };
            evicted.run_until_cancelled(send).await;
            drop(place);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(responses))))
    }

    async fn summary(
        &self,
        request: Request<proto::SummaryRequest>,
    ) -> Result<Response<proto::SummaryResponse>, Status> {
        let _place = begin(&self.calls.reads, &request)?;
        let answer = Remote::summary(&self.store, request.into_inner().buckets).await;
        let answer = answer.map_err(RequestError::from)?;
        Ok(Response::new(proto::SummaryResponse { now_unix: self.wall_clock.now(), ..answer }))
    }

    async fn list_bucket(
        &self,
        request: Request<proto::ListBucketRequest>,
    ) -> Result<Response<proto::ListBucketResponse>, Status> {
        let _place = begin(&self.calls.reads, &request)?;
        Ok(Response::new(self.store.list_bucket(request.into_inner()).await.map_err(RequestError::from)?))
    }

    async fn hash_records(
        &self,
        request: Request<proto::HashRecordsRequest>,
    ) -> Result<Response<proto::HashRecordsResponse>, Status> {
        let _place = begin(&self.calls.reads, &request)?;
        let answer = Remote::hash_records(&self.store, request.into_inner()).await;
        Ok(Response::new(answer.map_err(RequestError::from)?))
    }

    async fn fetch_states(
        &self,
        request: Request<proto::FetchStatesRequest>,
    ) -> Result<Response<proto::FetchStatesResponse>, Status> {
        let _place = begin(&self.calls.reads, &request)?;
        Ok(Response::new(self.store.fetch_states(request.into_inner()).await.map_err(RequestError::from)?))
    }

    async fn trace(
        &self,
        request: Request<proto::TraceRequest>,
    ) -> Result<Response<proto::TraceResponse>, Status> {
        let _place = begin(&self.calls.traces, &request)?;
        let trace = self.traces.read(records::key_hash(&request.into_inner().key_hash)?).await?;
        Ok(Response::new(proto::TraceResponse { trace: Some(trace) }))
    }

    async fn retire(
        &self,
        request: Request<proto::RetireRequest>,
    ) -> Result<Response<proto::RetireResponse>, Status> {
        let info = request.extensions().get::<ConnectionInfo>().cloned();
        let proto::RetireRequest { member, order } = request.into_inner();
        // IMPORTANT: a node's certificate alone retires no member. The operator's signature does.
        let missing =
            || RequestError::field("order", "is missing: a node's certificate alone retires no member");
        let order = convert::order(order)?.ok_or_else(missing)?;
        let operator = self.operations.retiring(&member, &order).await?;
        let retire = async { Ok(self.operations.retire_here(&member).await?) };
        audit::on_behalf(&self.audit_log, &operator, info.as_ref(), ("Retire", &member), retire).await?;
        Ok(Response::new(proto::RetireResponse {}))
    }

    async fn offer_births(
        &self,
        request: Request<proto::Births>,
    ) -> Result<Response<proto::OfferBirthsResponse>, Status> {
        let births = request.into_inner().births.into_iter().map(SignedBirth::from_proto);
        let births = births.collect::<Result<_, _>>();
        let births = births.map_err(|error| RequestError::field("births", error))?;
        self.operations.take_offered(births).await?;
        Ok(Response::new(proto::OfferBirthsResponse {}))
    }
}
