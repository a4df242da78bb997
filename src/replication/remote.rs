//! Another node's records, read over the network: the questions, and this node's answers to them.

use std::future::Future;

use bytes::Bytes;
use prost::Message;

use crate::{
    membership::peer::{Peer, PeerKey, RemoteError},
    store::{RecordPage, Store, Summary},
    transfer::keyed_state,
};
use brock_core::{
    base::{
        claims::{self, ClaimKind},
        id::KeyHash,
        limits,
    },
    domain::{
        codec::{self, CodecError},
        leaves::Leaves,
    },
    proto,
};

/// The records of a node, as another node reads them.
pub trait Remote: Sync {
    /// What it has applied, and the digest of its records at exactly that point.
    fn summary(
        &self,
        buckets: bool,
    ) -> impl Future<Output = Result<proto::SummaryResponse, RemoteError>> + Send;
    /// The digests of the records in one bucket.
    fn list_bucket(
        &self,
        request: proto::ListBucketRequest,
    ) -> impl Future<Output = Result<proto::ListBucketResponse, RemoteError>> + Send;
    /// The hash of a stretch of the records.
    fn hash_records(
        &self,
        request: proto::HashRecordsRequest,
    ) -> impl Future<Output = Result<proto::HashRecordsResponse, RemoteError>> + Send;
    /// The states of several key hashes.
    fn fetch_states(
        &self,
        request: proto::FetchStatesRequest,
    ) -> impl Future<Output = Result<proto::FetchStatesResponse, RemoteError>> + Send;
}

/// This node's answers.
impl Remote for Store {
    async fn summary(&self, buckets: bool) -> Result<proto::SummaryResponse, RemoteError> {
        let unconfirmed = self.unconfirmed_fills();
        let summary = Self::summary(self);
        let digests = |wanted: Vec<u8>| if buckets { Bytes::from(wanted) } else { Bytes::new() };
        Ok(proto::SummaryResponse {
            node_id: self.node_id().to_string(),
            incarnation: self.origin().incarnation().0,
            vector: Some(codec::vector_to_proto(&summary.vector)),
            folds: Some(codec::folds_to_proto(&summary.folds)),
            digest: Some(digest_to_proto(&summary)),
            record_buckets: digests(summary.digest.record_buckets()),
            tombstone_buckets: digests(summary.digest.tombstone_buckets()),
            records: summary.totals.records,
            tombstones: summary.totals.tombstones,
            unconfirmed: unconfirmed.into_iter().map(|fill| fill.donor.to_string()).collect(),
            // A store does not tell the time: the handler of the call does.
            now_unix: 0,
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

    async fn hash_records(
        &self,
        request: proto::HashRecordsRequest,
    ) -> Result<proto::HashRecordsResponse, RemoteError> {
        let after = match request.after.as_ref() {
            [] => None,
            bytes => Some(KeyHash::try_from(bytes).map_err(|_| CodecError::Malformed("key hash"))?),
        };
        let items = usize::try_from(request.items).unwrap_or(usize::MAX).clamp(1, limits::CONFIRM_ITEMS);
        let hash = Self::hash_records(self, after, RecordPage::END, items).await?;
        let bytes = |bytes: &[u8; 32]| Bytes::copy_from_slice(bytes);
        Ok(proto::HashRecordsResponse {
            through: bytes(&hash.through.0),
            records: bytes(&hash.records),
            tombstones: bytes(&hash.tombstones),
        })
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
        let found = self.get_many(key_hashes.clone()).await?;
        let mut answer = proto::FetchStatesResponse::default();
        let mut bytes = 0;
        for (key_hash, state) in key_hashes.iter().zip(&found) {
            if let Some(state) = state {
                let evidence = state.evidence.iter();
                bytes += evidence.map(|(_, one)| Leaves::bytes_of(one.count)).sum::<usize>();
                let state = keyed_state(*key_hash, state);
                bytes += state.encoded_len();
                if bytes > limits::BATCH_MAX_BYTES && !answer.states.is_empty() {
                    break;
                }
                answer.states.push(state);
            }
            answer.looked_at += 1;
        }
        let sent = || found.iter().take(answer.looked_at as usize).flatten();
        let (births, chains) = (self.births_of(sent()).await?, self.chains_of(sent()).await?);
        let bundles = self.bundles_of(sent()).await?;
        Ok(proto::FetchStatesResponse { births, chains, bundles, ..answer })
    }
}

/// Counts a peer's states of which something is not proven, or an answer that makes no sense.
pub fn count_refused(peer: &PeerKey, unproven: Result<u64, &RemoteError>) {
    let states = match unproven {
        Ok(states) => states,
        Err(RemoteError::Nonsense(_)) => 1,
        Err(_) => 0,
    };
    if states > 0 {
        claims::refused(peer, ClaimKind::State, states);
    }
}

/// Encodes the digest of a summary.
pub fn digest_to_proto(summary: &Summary) -> proto::Digest {
    let (records, tombstones) = summary.digest.roots();
    proto::Digest {
        records: Bytes::copy_from_slice(&records),
        tombstones: Bytes::copy_from_slice(&tombstones),
        has_collected: !summary.collected.is_empty(),
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

    async fn hash_records(
        &self,
        request: proto::HashRecordsRequest,
    ) -> Result<proto::HashRecordsResponse, RemoteError> {
        self.call(|mut client| async move { client.hash_records(request).await }).await
    }

    async fn fetch_states(
        &self,
        request: proto::FetchStatesRequest,
    ) -> Result<proto::FetchStatesResponse, RemoteError> {
        self.call(|mut client| async move { client.fetch_states(request).await }).await
    }
}
