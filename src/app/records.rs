//! Putting and getting records, whatever call they came by.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::{StreamExt, future::join_all, stream};
use prost::Message;
use tokio::time::Instant;

use super::{acks::Wanted, error::Problem};
use crate::{
    membership::members::Members,
    replication::peek::{Answer, Asker},
    store::{CreateOutcome, NewRecord, Store},
};
use brock_core::{
    base::{id::KeyHash, limits, metrics as names, vector::Stamp},
    domain::{
        codec::stamp_to_proto,
        record::{Creation, RecordState, Visibility},
    },
    proto,
};

/// A node's records, as clients see them.
pub struct Records {
    /// This node's.
    pub store: Store,
    /// The peers'.
    pub asker: Asker,
    /// Who may be waited for.
    pub members: Members,
    /// The largest payload that a client may put.
    pub payload_limit_bytes: usize,
    /// Key hashes that clients have looked up.
    pub lookups: AtomicU64,
}

impl Records {
    /// Key hashes that clients have looked up since the start.
    pub fn reads(&self) -> u64 {
        self.lookups.load(Ordering::Relaxed)
    }

    fn count_reads(&self, reads: usize) {
        self.lookups.fetch_add(reads as u64, Ordering::Relaxed);
    }

    /// Creates one record. Durable here when it returns, and at as many members as were asked for,
    /// unless the receipt says otherwise.
    pub async fn put(&self, mut request: proto::PutRequest) -> Result<proto::PutResponse, Problem> {
        let wanted = Wanted::decode(request.acks.take(), &self.store, &self.members)?;
        let record = self.decode(request)?;
        let outcomes = self.store.create(vec![record]).await?;
        // One record in, one outcome out.
        let stamp = outcomes.first().map_or(Err(Problem::Exists), created)?;
        Ok(self.answer(stamp, wanted).await)
    }

    /// Creates many, each with its own outcome, in order.
    pub async fn put_many(
        &self,
        requests: Vec<proto::PutRequest>,
    ) -> Result<Vec<Result<proto::PutResponse, Problem>>, Problem> {
        check_batch(requests.len())?;
        let mut answers = Vec::with_capacity(requests.len());
        let mut records = Vec::with_capacity(requests.len());
        for mut request in requests {
            let wanted = Wanted::decode(request.acks.take(), &self.store, &self.members);
            answers.push(match wanted.and_then(|wanted| Ok((wanted, self.decode(request)?))) {
                Ok((wanted, record)) => {
                    records.push(record);
                    Ok(wanted)
                }
                Err(problem) => Err(problem),
            });
        }
        let outcomes = if records.is_empty() { Vec::new() } else { self.store.create(records).await? };
        let mut outcomes = outcomes.iter();
        let answer = async |decoded: Result<Option<Wanted>, Problem>, outcome: Option<&CreateOutcome>| {
            let wanted = decoded?;
            let stamp = outcome.map_or(Err(Problem::Exists), created)?;
            Ok(self.answer(stamp, wanted).await)
        };
        let mut merged = Vec::with_capacity(answers.len());
        for decoded in answers {
            let outcome = if decoded.is_ok() { outcomes.next() } else { None };
            merged.push(answer(decoded, outcome));
        }
        // All wait at once: the last one's receipt comes with the first one's.
        Ok(join_all(merged).await)
    }

    async fn answer(&self, stamp: Stamp, wanted: Option<Wanted>) -> proto::PutResponse {
        let receipt = match wanted {
            Some(wanted) => Some(wanted.receipt(stamp, &self.store, &self.members).await),
            None => None,
        };
        proto::PutResponse { stamp: Some(stamp_to_proto(stamp)), receipt }
    }

    /// Reads one record for a client: an invalidated one is refused.
    pub async fn get(&self, request: proto::GetRequest) -> Result<proto::GetResponse, Problem> {
        let key_hash = key_hash(&request.key_hash)?;
        self.count_reads(1);
        let found = self.find(key_hash, request.local).await?;
        usable(found)
    }

    /// What [`Records::get`] would answer, if that needs neither the disk nor the peers.
    pub fn get_now(&self, request: &proto::GetRequest) -> Option<Result<proto::GetResponse, Problem>> {
        let key_hash = match key_hash(&request.key_hash) {
            Ok(key_hash) => key_hash,
            Err(problem) => return Some(Err(problem)),
        };
        let state = match self.store.get_cached(&key_hash) {
            Ok(state) => state??,
            Err(error) => return Some(Err(error.into())),
        };
        let answer = match state.visibility(self.store.now()) {
            Visibility::Valid | Visibility::Invalidated => usable(state),
            Visibility::Gone => Err(Problem::Absent),
            Visibility::Incomplete => return None,
        };
        self.count_reads(1);
        Some(answer)
    }

    /// Reads many for a client, each with its own outcome, in order.
    pub async fn get_many(
        &self,
        requests: Vec<proto::GetRequest>,
    ) -> Result<Vec<Result<proto::GetResponse, Problem>>, Problem> {
        check_batch(requests.len())?;
        self.count_reads(requests.len());
        let key_hashes: Vec<Result<KeyHash, Problem>> =
            requests.iter().map(|r| key_hash(&r.key_hash)).collect();
        let valid = key_hashes.iter().filter_map(|key_hash| key_hash.as_ref().ok().copied()).collect();
        let mut states = self.store.get_many(valid).await?.into_iter();
        let deadline = Instant::now() + limits::PEEK_TIMEOUT;
        let lookups = requests.into_iter().zip(key_hashes).map(|(request, key_hash)| {
            let here = key_hash.as_ref().ok().and_then(|_| states.next()).flatten();
            async move { usable(self.complete(key_hash?, here, request.local, deadline).await?) }
        });
        // `buffered` keeps the order, and bounds how many ask the peers at once.
        let answers: Vec<_> =
            stream::iter(lookups.collect::<Vec<_>>()).buffered(limits::BATCH_PEEKS).collect().await;
        Ok(bound_answer(answers))
    }

    /// The record as an operator sees it, invalidated or not.
    pub async fn show(
        &self,
        key_hash_bytes: &[u8],
        local: bool,
    ) -> Result<proto::ShowRecordResponse, Problem> {
        let state = self.find(key_hash(key_hash_bytes)?, local).await?;
        let (record, stamp) = encode(state)?;
        Ok(proto::ShowRecordResponse { record: Some(record), stamp: Some(stamp) })
    }

    async fn find(&self, key_hash: KeyHash, local: bool) -> Result<RecordState, Problem> {
        let here = self.store.get(key_hash).await?;
        self.complete(key_hash, here, local, Instant::now() + limits::PEEK_TIMEOUT).await
    }

    /// A state that is there to be shown: what is here, or what the peers have joined with it.
    async fn complete(
        &self,
        key_hash: KeyHash,
        here: Option<RecordState>,
        local: bool,
        deadline: Instant,
    ) -> Result<RecordState, Problem> {
        let here = here.unwrap_or_default();
        match here.visibility(self.store.now()) {
            Visibility::Valid | Visibility::Invalidated => return Ok(here),
            Visibility::Gone => return Err(Problem::Absent),
            Visibility::Incomplete if local => return Err(Problem::Absent),
            Visibility::Incomplete => {}
        }
        let there = match self.asker.ask(key_hash, deadline).await {
            Answer::Found(state) => state,
            Answer::Absent => return Err(Problem::Absent),
            Answer::Unknown { peers, unanswered } => {
                return Err(Problem::NotEveryoneAsked { peers, unanswered });
            }
            Answer::Refused => return Err(Problem::TooManyPeeks),
        };
        // A peer that comes from an old copy may not know yet what was deleted and forgotten here.
        let there = there.without_forgotten(&self.store.collected(), Some(&here));
        let joined = here.join(there);
        match joined.visibility(self.store.now()) {
            Visibility::Valid | Visibility::Invalidated => Ok(joined),
            Visibility::Gone | Visibility::Incomplete => Err(Problem::Absent),
        }
    }

    /// Checks a Put; everything in it comes from outside.
    fn decode(&self, request: proto::PutRequest) -> Result<NewRecord, Problem> {
        let proto::PutRequest { key_hash: bytes, record, acks: _ } = request;
        let key_hash = key_hash(&bytes)?;
        let record = record.ok_or_else(|| field("record", "is missing"))?;
        let proto::Record {
            created_at_unix,
            public,
            satellite_address,
            macaroon_head,
            expires_at_unix,
            encrypted_secret_key,
            encrypted_access_grant,
            invalidation_reason,
            invalidated_at_unix,
            state,
            public_project_id,
        } = record;
        if state != i32::from(proto::record::State::Created) {
            return Err(field("record.state", "must be CREATED: records are only created by a Put"));
        }
        if !invalidation_reason.is_empty() {
            return Err(field("record.invalidation_reason", "must be empty: a Put cannot invalidate"));
        }
        if invalidated_at_unix != 0 {
            return Err(field("record.invalidated_at_unix", "must be 0: a Put cannot invalidate"));
        }
        if created_at_unix < 0 {
            return Err(field("record.created_at_unix", "must not be negative; 0 means now"));
        }
        if expires_at_unix < 0 {
            return Err(field("record.expires_at_unix", "must not be negative; 0 means never"));
        }
        if encrypted_access_grant.is_empty() {
            return Err(field("record.encrypted_access_grant", "is empty"));
        }
        let payload = proto::Payload {
            satellite_address,
            macaroon_head,
            encrypted_secret_key,
            encrypted_access_grant,
            public_project_id,
        };
        let payload = Bytes::from(payload.encode_to_vec());
        if payload.len() > self.payload_limit_bytes {
            let (size, limit) = (payload.len(), self.payload_limit_bytes);
            let problem =
                format!("its fields take {size} bytes together, more than node.payload-limit ({limit})");
            return Err(Problem::Field { field: "record", problem });
        }
        Ok(NewRecord {
            key_hash,
            created_at: if created_at_unix == 0 { self.store.now() } else { created_at_unix },
            expires_at: (expires_at_unix != 0).then_some(expires_at_unix),
            public,
            payload,
        })
    }
}

fn field(field: &'static str, problem: &str) -> Problem {
    Problem::Field { field, problem: problem.to_owned() }
}

/// Reads the field that every request about a record has.
pub fn key_hash(bytes: &[u8]) -> Result<KeyHash, Problem> {
    KeyHash::try_from(bytes).map_err(|_| Problem::Field {
        field: "key_hash",
        problem: format!("is {} bytes; a SHA-256 has 32", bytes.len()),
    })
}

fn check_batch(items: usize) -> Result<(), Problem> {
    if items > limits::BATCH_ITEMS_MAX { Err(Problem::BatchSize(items)) } else { Ok(()) }
}

fn created(outcome: &CreateOutcome) -> Result<Stamp, Problem> {
    match outcome {
        CreateOutcome::Created(stamp) => Ok(*stamp),
        CreateOutcome::Exists => Err(Problem::Exists),
    }
}

fn usable(state: RecordState) -> Result<proto::GetResponse, Problem> {
    if let Some(invalidation) = state.invalidation {
        metrics::counter!(names::TERMINATED_READS).increment(1);
        return Err(Problem::Invalidated { reason: invalidation.reason });
    }
    let (record, stamp) = encode(state)?;
    Ok(proto::GetResponse { record: Some(record), stamp: Some(stamp) })
}

/// Answers beyond what a message may hold are replaced, so that the others get through.
fn bound_answer(
    mut answers: Vec<Result<proto::GetResponse, Problem>>,
) -> Vec<Result<proto::GetResponse, Problem>> {
    let mut bytes = 0;
    for answer in &mut answers {
        bytes += answer.as_ref().map_or(64, proto::GetResponse::encoded_len) + 8;
        if bytes > limits::BATCH_GET_ANSWER_BYTES && answer.is_ok() {
            *answer = Err(Problem::AnswerSize);
        }
    }
    answers
}

/// A visible state as the wire's Record, and where its create stands.
fn encode(state: RecordState) -> Result<(proto::Record, proto::Stamp), Problem> {
    let RecordState { creation, expires_at, unpublished, invalidation, .. } = state;
    let Some(Creation { created_at, stamp, payload: Some(payload), .. }) = creation else {
        return Err(Problem::Absent);
    };
    let payload = proto::Payload::decode(payload)
        .map_err(|_| Problem::Store(brock_core::domain::codec::CodecError::Malformed("payload").into()))?;
    let (state, reason, invalidated_at) = match invalidation {
        None => (proto::record::State::Created, String::new(), 0),
        Some(invalidation) => (proto::record::State::Invalidated, invalidation.reason, invalidation.at),
    };
    let record = proto::Record {
        created_at_unix: created_at,
        public: !unpublished,
        satellite_address: payload.satellite_address,
        macaroon_head: payload.macaroon_head,
        expires_at_unix: expires_at.unwrap_or_default(),
        encrypted_secret_key: payload.encrypted_secret_key,
        encrypted_access_grant: payload.encrypted_access_grant,
        invalidation_reason: reason,
        invalidated_at_unix: invalidated_at,
        state: state.into(),
        public_project_id: payload.public_project_id,
    };
    Ok((record, stamp_to_proto(stamp)))
}
