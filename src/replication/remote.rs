//! What a node answers when another looks at its records from outside, and how it is asked.

use std::future::Future;

use bytes::Bytes;
use prost::Message;
use tokio::time::timeout;
use tonic::{Code, transport::Channel};

use crate::{
    domain::codec::{self, CodecError},
    ground::{id::KeyHash, limits},
    proto::{self, replication_service_client::ReplicationServiceClient},
    store::{Store, StoreError, Summary, keyed_state},
    tls::{address::Address, channel, connect::Dialler, words},
};

/// Why another node's records could not be looked at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RemoteError {
    /// It could not be asked.
    #[error("{0}")]
    Call(String),
    /// It has not what was asked for.
    #[error("{0}")]
    Absent(String),
    /// It did not answer in time.
    #[error("no answer within {} s", limits::PEER_CALL_TIMEOUT.as_secs())]
    Late,
    /// Its answer makes no sense.
    #[error("its answer makes no sense: {0}")]
    Nonsense(#[from] CodecError),
    /// It is this process's own store, which could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Another node's records, seen from outside.
pub trait Remote: Sync {
    /// What it has applied, and the digest of its records there.
    fn summary(
        &self,
        buckets: bool,
    ) -> impl Future<Output = Result<proto::SummaryResponse, RemoteError>> + Send;
    /// The digests of the records in one bucket.
    fn list_bucket(
        &self,
        request: proto::ListBucketRequest,
    ) -> impl Future<Output = Result<proto::ListBucketResponse, RemoteError>> + Send;
    /// The states of several key hashes.
    fn fetch_states(
        &self,
        request: proto::FetchStatesRequest,
    ) -> impl Future<Output = Result<proto::FetchStatesResponse, RemoteError>> + Send;
}

/// This node's answers.
impl Remote for Store {
    async fn summary(&self, buckets: bool) -> Result<proto::SummaryResponse, RemoteError> {
        let summary = Self::summary(self);
        let digests = |wanted: Vec<u8>| if buckets { Bytes::from(wanted) } else { Bytes::new() };
        Ok(proto::SummaryResponse {
            node_id: self.node_id().to_string(),
            incarnation: self.origin().incarnation().0,
            now_unix: self.now(),
            vector: Some(codec::vector_to_proto(&summary.vector)),
            folds: Some(codec::folds_to_proto(&summary.folds)),
            digest: Some(digest_to_proto(&summary)),
            record_buckets: digests(summary.digest.record_buckets()),
            tombstone_buckets: digests(summary.digest.tombstone_buckets()),
            records: summary.totals.records,
            tombstones: summary.totals.tombstones,
        })
    }

    async fn list_bucket(
        &self,
        request: proto::ListBucketRequest,
    ) -> Result<proto::ListBucketResponse, RemoteError> {
        let malformed = CodecError::Malformed("bucket");
        let bucket = u8::try_from(request.bucket).map_err(|_| malformed.clone())?;
        let after = match request.after.as_ref() {
            [] => None,
            bytes => Some(KeyHash::try_from(bytes).map_err(|_| malformed)?),
        };
        let (items, more) = self.bucket(bucket, after).await?;
        let item = |item: crate::store::BucketItem| proto::list_bucket_response::Item {
            key_hash: Bytes::copy_from_slice(&item.key_hash.0),
            digest: Bytes::copy_from_slice(&item.digest),
            deleted: item.deleted,
        };
        Ok(proto::ListBucketResponse { items: items.into_iter().map(item).collect(), more })
    }

    async fn fetch_states(
        &self,
        request: proto::FetchStatesRequest,
    ) -> Result<proto::FetchStatesResponse, RemoteError> {
        let key_hashes: Vec<KeyHash> = request
            .key_hashes
            .iter()
            .take(limits::FETCH_STATES_MAX)
            .map(|bytes| KeyHash::try_from(bytes.as_ref()).map_err(|_| CodecError::Malformed("key hash")))
            .collect::<Result<_, _>>()?;
        let mut answer = proto::FetchStatesResponse::default();
        let mut bytes = 0;
        for (key_hash, state) in key_hashes.iter().zip(self.get_many(key_hashes.clone()).await?) {
            if let Some(state) = state {
                let state = keyed_state(*key_hash, &state);
                bytes += state.encoded_len();
                if bytes > limits::BATCH_MAX_BYTES && !answer.states.is_empty() {
                    break;
                }
                answer.states.push(state);
            }
            answer.looked_at += 1;
        }
        Ok(answer)
    }
}

/// To the wire.
pub fn digest_to_proto(summary: &Summary) -> proto::Digest {
    let (records, tombstones) = summary.digest.roots();
    proto::Digest {
        records: Bytes::copy_from_slice(&records),
        tombstones: Bytes::copy_from_slice(&tombstones),
        has_collected: !summary.collected.is_empty(),
    }
}

/// A peer, called over the network.
#[derive(Clone)]
pub struct Peer {
    /// As it stands in `node.join`.
    pub address: String,
    /// Dials when it is first used, and again whenever the connection is lost.
    pub client: ReplicationServiceClient<Channel>,
}

impl Peer {
    /// Connects when it is first called, each time by resolving the address anew.
    pub fn new(address: &Address, dialler: &Dialler) -> Self {
        let channel = channel::lazy_channel(address, dialler.clone());
        let client =
            ReplicationServiceClient::new(channel).max_decoding_message_size(limits::MESSAGE_MAX_BYTES);
        Self { address: address.to_string(), client }
    }

    /// One bounded call.
    pub async fn call<T, F>(
        &self,
        call: impl FnOnce(ReplicationServiceClient<Channel>) -> F,
    ) -> Result<T, RemoteError>
    where
        F: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        answer(timeout(limits::PEER_CALL_TIMEOUT, call(self.client.clone())).await)
    }
}

impl Remote for Peer {
    async fn summary(&self, buckets: bool) -> Result<proto::SummaryResponse, RemoteError> {
        self.call(|mut client| async move { client.summary(proto::SummaryRequest { buckets }).await }).await
    }

    async fn list_bucket(
        &self,
        request: proto::ListBucketRequest,
    ) -> Result<proto::ListBucketResponse, RemoteError> {
        self.call(|mut client| async move { client.list_bucket(request).await }).await
    }

    async fn fetch_states(
        &self,
        request: proto::FetchStatesRequest,
    ) -> Result<proto::FetchStatesResponse, RemoteError> {
        self.call(|mut client| async move { client.fetch_states(request).await }).await
    }
}

fn answer<T>(
    answered: Result<Result<tonic::Response<T>, tonic::Status>, tokio::time::error::Elapsed>,
) -> Result<T, RemoteError> {
    match answered {
        Err(_) => Err(RemoteError::Late),
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) if status.code() == Code::NotFound => {
            Err(RemoteError::Absent(status.message().to_owned()))
        }
        Ok(Err(status)) => Err(RemoteError::Call(
            words::explain(&status).unwrap_or_else(|| format!("{}: {}", status.code(), status.message())),
        )),
    }
}
