//! The key-value service.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{Stream, StreamExt, stream::FuturesUnordered};
use prost::Message;
use tonic::{Request, Response, Status, Streaming};

use super::convert::{get, get_response, put, put_response};
use crate::app::{
    error::RequestError,
    records::{Item, Records},
};
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
        let created = self.records.put(put(request.into_inner())?).await?;
        Ok(Response::new(put_response(created)))
    }

    async fn get(&self, request: Request<proto::GetRequest>) -> Result<Response<proto::GetResponse>, Status> {
        let proto::GetRequest { key_hash, local } = request.into_inner();
        let get = get(&key_hash, local)?;
        let record = match self.records.get_now(&get.key_hash) {
            Some(record) => record,
            None => self.records.get(get).await,
        };
        Ok(Response::new(get_response(record?)))
    }

    async fn batch_put(
        &self,
        request: Request<proto::BatchPutRequest>,
    ) -> Result<Response<proto::BatchPutResponse>, Status> {
        use batch_put_response::{Item, item::Outcome};
        let puts = request.into_inner().items.into_iter().map(put).collect();
        let answers = self.records.put_many(puts).await?.into_iter().map(|answer| match answer {
            Ok(created) => Outcome::Ok(put_response(created)),
            Err(error) => Outcome::Error(error.into()),
        });
        let items = answers.map(|outcome| Item { outcome: Some(outcome) }).collect();
        Ok(Response::new(proto::BatchPutResponse { items }))
    }

    async fn batch_get(
        &self,
        request: Request<proto::BatchGetRequest>,
    ) -> Result<Response<proto::BatchGetResponse>, Status> {
        use batch_get_response::{Item, item::Outcome};
        let gets = request.into_inner().items.into_iter().map(|item| get(&item.key_hash, item.local));
        let records = self.records.get_many(gets.collect()).await?;
        let answers = records.into_iter().map(|record| record.map(get_response)).collect();
        let outcomes = bound_answer(answers).into_iter().map(|answer| match answer {
            Ok(response) => Outcome::Ok(response),
            Err(error) => Outcome::Error(error.into()),
        });
        let items = outcomes.map(|outcome| Item { outcome: Some(outcome) }).collect();
        Ok(Response::new(proto::BatchGetResponse { items }))
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
/// in between, so that it costs little more than its bytes. At most [`limits::SESSION_DEPTH`] other requests
/// are under way at once; beyond that no further request is read, which is the flow control.
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

/// Replaces answers beyond what a message may hold by errors, so that the others get through.
fn bound_answer(mut answers: Vec<Item<proto::GetResponse>>) -> Vec<Item<proto::GetResponse>> {
    let mut bytes = 0;
    for answer in &mut answers {
        bytes += answer.as_ref().map_or(64, proto::GetResponse::encoded_len) + 8;
        if bytes > limits::BATCH_GET_ANSWER_BYTES && answer.is_ok() {
            *answer = Err(RequestError::AnswerSize);
        }
    }
    answers
}

fn answer_now(records: &Records, request: &proto::SessionRequest) -> Option<proto::SessionResponse> {
    let Some(session_request::Request::Get(asked)) = &request.request else { return None };
    let record = match get(&asked.key_hash, asked.local) {
        Ok(get) => records.get_now(&get.key_hash)?,
        Err(error) => Err(error),
    };
    let answer =
        record.map_or_else(|error| Answer::Error(error.into()), |record| Answer::Get(get_response(record)));
    Some(proto::SessionResponse { id: request.id, response: Some(answer) })
}

async fn answer(records: Arc<Records>, request: proto::SessionRequest) -> proto::SessionResponse {
    let answer = match request.request {
        Some(session_request::Request::Put(asked)) => answer_put(&records, asked).await,
        Some(session_request::Request::Get(asked)) => answer_get(&records, asked).await,
        None => Err(RequestError::EmptyRequest),
    };
    let answer = answer.unwrap_or_else(|error| Answer::Error(error.into()));
    proto::SessionResponse { id: request.id, response: Some(answer) }
}

async fn answer_put(records: &Records, asked: proto::PutRequest) -> Result<Answer, RequestError> {
    Ok(Answer::Put(put_response(records.put(put(asked)?).await?)))
}

async fn answer_get(records: &Records, asked: proto::GetRequest) -> Result<Answer, RequestError> {
    Ok(Answer::Get(get_response(records.get(get(&asked.key_hash, asked.local)?).await?)))
}
