//! Creating and reading records, whatever call asks for it.

use std::sync::atomic::{AtomicU64, Ordering};

use futures::{StreamExt, future::join_all, stream};
use tokio::time::Instant;

use super::{
    acks::{WaitFor, Waiting},
    error::RequestError,
};
use crate::{
    membership::{members::Members, receipt::Receipt},
    replication::peek::{Answer, Asker},
    store::{CreateOutcome, NewRecord, Store},
};
use brock_core::{
    base::{id::KeyHash, limits, metrics as names, time::WallClock, vector::Stamp},
    domain::{
        payload::Payload,
        record::{Creation, Invalidation, RecordState, UnixSeconds, Visibility},
    },
};

/// A record to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// What it is found by.
    pub key_hash: KeyHash,
    /// When it was created; `None` = now, by this node's clock.
    pub created_at: Option<UnixSeconds>,
    /// From when on it is absent; `None` = it never expires.
    pub expires_at: Option<UnixSeconds>,
    /// Whether it may be used without authentication.
    pub public: bool,
    /// Its content.
    pub payload: Payload,
    /// Which members to wait for; `None` = this node alone.
    pub wait: Option<WaitFor>,
    /// Whether it comes from another database: its times are taken as they are.
    pub import: bool,
}

/// A record that was created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// Where the create stands in the log.
    pub stamp: Stamp,
    /// Which members hold it; `None` = the request did not ask.
    pub receipt: Option<Receipt>,
}

/// A record to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Get {
    /// What it is found by.
    pub key_hash: KeyHash,
    /// Whether this node answers alone, without its peers.
    pub local: bool,
}

/// A record that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// When it was created.
    pub created_at: UnixSeconds,
    /// From when on it is absent; `None` = it never expires.
    pub expires_at: Option<UnixSeconds>,
    /// Whether it may be used without authentication.
    pub public: bool,
    /// Its content.
    pub payload: Payload,
    /// Set if it is revoked; only operators see such a record.
    pub invalidation: Option<Invalidation>,
    /// Where the create stands in the log.
    pub stamp: Stamp,
}

/// The outcome of one item of a batch.
pub type Item<T> = Result<T, RequestError>;

/// A node's records, as clients see them.
pub struct Records {
    store: Store,
    asker: Asker,
    members: Members,
    payload_limit_bytes: usize,
    wall_clock: WallClock,
    lookups: AtomicU64,
}

impl Records {
    /// Reads from this node's store, then from its peers. A client may put payloads up to the limit.
    pub fn new(
        store: Store,
        asker: Asker,
        members: Members,
        payload_limit_bytes: usize,
        wall_clock: WallClock,
    ) -> Self {
        Self { store, asker, members, payload_limit_bytes, wall_clock, lookups: AtomicU64::new(0) }
    }

    /// How many key hashes clients have looked up since the start.
    pub fn reads(&self) -> u64 {
        self.lookups.load(Ordering::Relaxed)
    }

    /// Creates one record. It is durable here when this returns, and at as many members as the request
    /// waits for, unless the receipt says otherwise.
    pub async fn put(&self, put: Put) -> Result<Created, RequestError> {
        let (record, waiting) = self.check(put)?;
        let outcomes = self.store.create(vec![record]).await?;
        // One record in, one outcome out.
        self.created(outcomes.first(), waiting).await
    }

    /// Creates many records, each with its own outcome, in order.
    pub async fn put_many(&self, puts: Vec<Item<Put>>) -> Result<Vec<Item<Created>>, RequestError> {
        check_batch(puts.len())?;
        let mut records = Vec::with_capacity(puts.len());
        let mut checked = Vec::with_capacity(puts.len());
        for put in puts {
            checked.push(put.and_then(|put| self.check(put)).map(|(record, waiting)| {
                records.push(record);
                waiting
            }));
        }
        let outcomes = if records.is_empty() { Vec::new() } else { self.store.create(records).await? };
        let mut outcomes = outcomes.iter();
        let answers = checked.into_iter().map(|checked| {
            let outcome = if checked.is_ok() { outcomes.next() } else { None };
            async move { self.created(outcome, checked?).await }
        });
        // All wait at once: the receipt of the last comes with that of the first.
        Ok(join_all(answers.collect::<Vec<_>>()).await)
    }

    /// Reads one record for a client: a revoked one is refused.
    pub async fn get(&self, get: Get) -> Result<Record, RequestError> {
        self.count_reads(1);
        usable(self.find(get).await?)
    }

    /// The answer of [`Records::get`], if it needs neither the disk nor the peers.
    pub fn get_now(&self, key_hash: &KeyHash) -> Option<Result<Record, RequestError>> {
        let state = match self.store.get_cached(key_hash) {
            Ok(state) => state??,
            Err(error) => return Some(Err(error.into())),
        };
        let answer = match state.visibility(self.wall_clock.now()) {
            Visibility::Valid | Visibility::Invalidated => usable(state),
            Visibility::Gone => Err(RequestError::Absent),
            Visibility::Incomplete => return None,
        };
        self.count_reads(1);
        Some(answer)
    }

    /// Reads many records for a client, each with its own outcome, in order.
    pub async fn get_many(&self, gets: Vec<Item<Get>>) -> Result<Vec<Item<Record>>, RequestError> {
        check_batch(gets.len())?;
        self.count_reads(gets.len());
        let valid = gets.iter().filter_map(|get| get.as_ref().ok().map(|get| get.key_hash)).collect();
        let mut states = self.store.get_many(valid).await?.into_iter();
        let deadline = Instant::now() + limits::PEEK_TIMEOUT;
        let lookups = gets.into_iter().map(|get| {
            let here = get.as_ref().ok().and_then(|_| states.next()).flatten();
            async move { usable(self.complete(get?, here, deadline).await?) }
        });
        // `buffered` keeps the order and bounds how many reads ask the peers at once.
        Ok(stream::iter(lookups.collect::<Vec<_>>()).buffered(limits::BATCH_PEEKS).collect().await)
    }

    /// Reads one record for an operator, revoked or not.
    pub async fn show(&self, get: Get) -> Result<Record, RequestError> {
        record(self.find(get).await?)
    }

    fn count_reads(&self, reads: usize) {
        self.lookups.fetch_add(reads as u64, Ordering::Relaxed);
    }

    async fn created(
        &self,
        outcome: Option<&CreateOutcome>,
        waiting: Option<Waiting>,
    ) -> Result<Created, RequestError> {
        let stamp = match outcome {
            Some(CreateOutcome::Created(stamp)) => stamp,
            Some(CreateOutcome::WasDeleted) => return Err(RequestError::WasDeleted),
            Some(CreateOutcome::Exists) | None => return Err(RequestError::Exists),
        };
        let receipt = match waiting {
            Some(waiting) => Some(waiting.receipt(*stamp, &self.members, self.wall_clock.now()).await),
            None => None,
        };
        Ok(Created { stamp: *stamp, receipt })
    }

    async fn find(&self, get: Get) -> Result<RecordState, RequestError> {
        let here = self.store.get(get.key_hash).await?;
        self.complete(get, here, Instant::now() + limits::PEEK_TIMEOUT).await
    }

    /// The visible state of a key hash: this node's, or this node's joined with the peers'.
    async fn complete(
        &self,
        get: Get,
        here: Option<RecordState>,
        deadline: Instant,
    ) -> Result<RecordState, RequestError> {
        let here = here.unwrap_or_default();
        match here.visibility(self.wall_clock.now()) {
            Visibility::Valid | Visibility::Invalidated => return Ok(here),
            Visibility::Gone => return Err(RequestError::Absent),
            Visibility::Incomplete if get.local => return Err(RequestError::Absent),
            Visibility::Incomplete => {}
        }
        let there = match self.asker.ask(get.key_hash, deadline).await {
            Answer::Found(state) => state,
            Answer::Absent => return Err(RequestError::Absent),
            Answer::Unknown { peers, unanswered } => {
                return Err(RequestError::NotEveryoneAsked { peers, unanswered });
            }
            Answer::Refused => return Err(RequestError::TooManyPeeks),
        };
        // A peer that runs on an old copy may not know yet what this node deleted and then forgot.
        let there = there.without_forgotten(&self.store.collected(), Some(&here));
        let joined = here.join(there);
        match joined.visibility(self.wall_clock.now()) {
            Visibility::Valid | Visibility::Invalidated => Ok(joined),
            Visibility::Gone | Visibility::Incomplete => Err(RequestError::Absent),
        }
    }

    /// Checks a put as far as this node's settings and members decide about it.
    fn check(&self, put: Put) -> Result<(NewRecord, Option<Waiting>), RequestError> {
        let Put { key_hash, created_at, expires_at, public, payload, wait, import } = put;
        let now = self.wall_clock.now();
        if !import {
            check_times(created_at, expires_at, now)?;
        }
        let waiting = wait.map(|wait| Waiting::begin(wait, &self.members, now)).transpose()?;
        let payload = payload.encode();
        if payload.len() > self.payload_limit_bytes {
            let (size, limit) = (payload.len(), self.payload_limit_bytes);
            let problem =
                format!("its fields take {size} bytes together, more than node.payload-limit ({limit})");
            return Err(RequestError::field("record", problem));
        }
        let created_at = created_at.unwrap_or(now);
        Ok((NewRecord { key_hash, created_at, expires_at, public, payload }, waiting))
    }
}

/// Refuses times that a client cannot mean. A record that has expired would take its key hash for ever and
/// never be read; one that expires in milliseconds after 1970 would never expire.
fn check_times(
    created_at: Option<UnixSeconds>,
    expires_at: Option<UnixSeconds>,
    now: UnixSeconds,
) -> Result<(), RequestError> {
    let is_implausible = |at: &UnixSeconds| *at > limits::RECORD_TIME_MAX;
    const IN_SECONDS: &str = "is after the year 9999; write seconds since the Unix epoch, not milliseconds";
    if expires_at.is_some_and(|at| at <= now) {
        let problem = "is not in the future by this node's clock, so the record could never be read; 0 means never. \
                       A record of another database may have expired: set `import` (node-admin: --import)";
        return Err(RequestError::field("record.expires_at_unix", problem));
    }
    if expires_at.as_ref().is_some_and(is_implausible) {
        return Err(RequestError::field("record.expires_at_unix", IN_SECONDS));
    }
    if created_at.as_ref().is_some_and(is_implausible) {
        return Err(RequestError::field("record.created_at_unix", IN_SECONDS));
    }
    let latest = now.saturating_add_unsigned(limits::CREATED_AHEAD_MAX.as_secs());
    if created_at.is_some_and(|at| at > latest) {
        let problem = "is more than a day ahead of this node's clock; 0 means now. Check both clocks";
        return Err(RequestError::field("record.created_at_unix", problem));
    }
    Ok(())
}

/// Reads the field that every request about a record has.
pub fn key_hash(bytes: &[u8]) -> Result<KeyHash, RequestError> {
    KeyHash::try_from(bytes)
        .map_err(|_| RequestError::field("key_hash", format!("is {} bytes; a SHA-256 has 32", bytes.len())))
}

fn check_batch(items: usize) -> Result<(), RequestError> {
    if items > limits::BATCH_ITEMS_MAX { Err(RequestError::BatchSize(items)) } else { Ok(()) }
}

fn usable(state: RecordState) -> Result<Record, RequestError> {
    if let Some(invalidation) = state.invalidation {
        metrics::counter!(names::TERMINATED_READS).increment(1);
        return Err(RequestError::Invalidated { reason: invalidation.reason });
    }
    record(state)
}

fn record(state: RecordState) -> Result<Record, RequestError> {
    let RecordState { creation, expires_at, unpublished, invalidation, .. } = state;
    let Some(Creation { created_at, stamp, payload: Some(payload), .. }) = creation else {
        return Err(RequestError::Absent);
    };
    let payload = Payload::decode(payload)?;
    Ok(Record { created_at, expires_at, public: !unpublished, payload, invalidation, stamp })
}
