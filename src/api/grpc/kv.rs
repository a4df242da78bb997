//! The key-value service.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{Stream, StreamExt, stream::FuturesUnordered};
use tonic::{Request, Response, Status, Streaming};

use crate::app::{error::Problem, records::Records};
use brock_core::{
    base::limits,
    proto::{
        self, batch_get_response, batch_put_response, key_value_service_server::KeyValueService,
        session_request, session_response::Response as Answer,
    },
};
use brock_net::{task::Tasks, tls::accept::ConnectionInfo};

/// The handlers.
#[derive(Clone)]
pub struct KeyValue {
    /// What they read and write.
    pub records: Arc<Records>,
    /// Ends open sessions when the node shuts down.
    pub tasks: Tasks,
}

#[tonic::async_trait]
impl KeyValueService for KeyValue {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<proto::SessionResponse, Status>> + Send>>;

    async fn put(&self, request: Request<proto::PutRequest>) -> Result<Response<proto::PutResponse>, Status> {
        Ok(Response::new(self.records.put(request.into_inner()).await?))
    }

    async fn get(&self, request: Request<proto::GetRequest>) -> Result<Response<proto::GetResponse>, Status> {
        let request = request.into_inner();
        let answer = match self.records.get_now(&request) {
            Some(answer) => answer,
            None => self.records.get(request).await,
        };
        Ok(Response::new(answer?))
    }

    async fn batch_put(
        &self,
        request: Request<proto::BatchPutRequest>,
    ) -> Result<Response<proto::BatchPutResponse>, Status> {
        use batch_put_response::{Item, item::Outcome};
        let answers = self.records.put_many(request.into_inner().items).await?;
        let items = answers.into_iter().map(|answer| Item {
            outcome: Some(answer.map_or_else(|problem| Outcome::Error(problem.into()), Outcome::Ok)),
        });
        Ok(Response::new(proto::BatchPutResponse { items: items.collect() }))
    }

    async fn batch_get(
        &self,
        request: Request<proto::BatchGetRequest>,
    ) -> Result<Response<proto::BatchGetResponse>, Status> {
        use batch_get_response::{Item, item::Outcome};
        let answers = self.records.get_many(request.into_inner().items).await?;
        let items = answers.into_iter().map(|answer| Item {
            outcome: Some(answer.map_or_else(|problem| Outcome::Error(problem.into()), Outcome::Ok)),
        });
        Ok(Response::new(proto::BatchGetResponse { items: items.collect() }))
    }

    async fn session(
        &self,
        request: Request<Streaming<proto::SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let draining = ConnectionInfo::draining(&request, &self.tasks);
        let requests = request.into_inner().take_until(draining.cancelled_owned());
        let session = Session {
            records: Arc::clone(&self.records),
            requests: Some(Box::pin(requests)),
            under_way: FuturesUnordered::new(),
        };
        Ok(Response::new(Box::pin(session)))
    }
}

/// The answers of one session.
///
/// A read from memory is answered where its request is read, without a task, a future or a channel
/// in between, so that it costs little more than its bytes. The rest is under way at most
/// [`limits::SESSION_DEPTH`] times at once; while it is, no further request is read, which is the
/// flow control.
struct Session<R> {
    records: Arc<Records>,
    /// `None` once the client has sent its last one, or the connection drains.
    requests: Option<Pin<Box<R>>>,
    under_way: FuturesUnordered<Pin<Box<dyn Future<Output = proto::SessionResponse> + Send>>>,
}

impl<R: Stream<Item = Result<proto::SessionRequest, Status>>> Stream for Session<R> {
    type Item = Result<proto::SessionResponse, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let session = self.get_mut();
        if let Poll::Ready(Some(answer)) = session.under_way.poll_next_unpin(context) {
            return Poll::Ready(Some(Ok(answer)));
        }
        while session.under_way.len() < limits::SESSION_DEPTH
            && let Some(requests) = &mut session.requests
        {
            match requests.as_mut().poll_next(context) {
                Poll::Pending => break,
                Poll::Ready(None) => session.requests = None,
                Poll::Ready(Some(Err(status))) => {
                    session.requests = None;
                    return Poll::Ready(Some(Err(status)));
                }
                Poll::Ready(Some(Ok(request))) => {
                    if let Some(answer) = answer_now(&session.records, &request) {
                        return Poll::Ready(Some(Ok(answer)));
                    }
                    session.under_way.push(Box::pin(answer(Arc::clone(&session.records), request)));
                    if let Poll::Ready(Some(answer)) = session.under_way.poll_next_unpin(context) {
                        return Poll::Ready(Some(Ok(answer)));
                    }
                }
            }
        }
        if session.requests.is_none() && session.under_way.is_empty() {
            Poll::Ready(None)
        } else {
            Poll::Pending
        }
    }
}

fn answer_now(records: &Records, request: &proto::SessionRequest) -> Option<proto::SessionResponse> {
    let Some(session_request::Request::Get(get)) = &request.request else { return None };
    let answer = records.get_now(get)?.map_or_else(|problem| Answer::Error(problem.into()), Answer::Get);
    Some(proto::SessionResponse { id: request.id, response: Some(answer) })
}

async fn answer(records: Arc<Records>, request: proto::SessionRequest) -> proto::SessionResponse {
    let answer = match request.request {
        Some(session_request::Request::Put(put)) => records.put(put).await.map(Answer::Put),
        Some(session_request::Request::Get(get)) => records.get(get).await.map(Answer::Get),
        None => Err(Problem::EmptyRequest),
    };
    let answer = answer.unwrap_or_else(|problem| Answer::Error(problem.into()));
    proto::SessionResponse { id: request.id, response: Some(answer) }
}
