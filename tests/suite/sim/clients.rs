//! What clients do, and a ghost whose log turns up although it has no store here.

use super::{
    liars::Operator,
    network::{Flight, Message},
    profile::Profile,
    world::World,
};
use crate::harness::store::{NOW, batch, creation, entry, key, payload, poison};
use brock::store::{CreateOutcome, NewOperation, NewRecord, OperationOutcome};
use brock_core::{
    base::{
        id::{KeyHash, sha256},
        vector::Stamp,
    },
    domain::{
        operation::Operation,
        order::{OrderProof, Subject},
        record::RecordState,
    },
    proto,
};
use bytes::Bytes;
use rand::{Rng, rngs::StdRng};

/// Three of these fill a page of a snapshot.
const LARGE_BYTES: usize = 400 * 1024;

impl World {
    fn any_key(&mut self) -> KeyHash {
        // Where clients do not create again what was deleted, new ones are needed all the time.
        let first = if self.profile.collects() { self.steps * self.profile.keys / 80 } else { 0 };
        key(first + self.random.random_range(0..self.profile.keys))
    }

    fn any_payload(&mut self) -> Bytes {
        let number: u8 = self.random.random_range(0..3);
        let size = match self.profile.large_payloads && self.random.random_bool(0.4) {
            true => LARGE_BYTES,
            false => 1,
        };
        payload(&vec![number; size])
    }

    /// Whether a client may create it. Where tombstones are collected, no client creates again
    /// what a client has deleted, nor changes it ahead; where nodes are retired besides, no client
    /// creates a key twice.
    fn may_create(&self, key: &KeyHash) -> bool {
        let again = self.profile.retires && self.history.was_created(key);
        !self.profile.collects() || !(self.deleted.contains(key) || again)
    }

    /// A client creates one to three records; some of them exist somewhere.
    pub async fn create(&mut self) {
        let Some(at) = self.any_running() else { return };
        let mut records: Vec<NewRecord> = Vec::new();
        for _ in 0..self.random.random_range(1..=3) {
            let key_hash = self.any_key();
            let expires_at = match self.random.random_range(0..8) {
                0 => Some(self.time() - self.random.random_range(0..100)),
                1 | 2 => Some(self.time() + self.random.random_range(1..900)),
                _ => None,
            };
            let created_at = self.nodes[at].wall_clock() - self.random.random_range(0..3);
            let (public, payload) = (self.random.random(), self.any_payload());
            let is_new = records.iter().all(|record| record.key_hash != key_hash);
            if self.may_create(&key_hash) && (is_new || !self.profile.collects()) {
                records.push(NewRecord { key_hash, created_at, expires_at, public, payload });
            }
        }
        let Some(store) = self.store(at) else { return };
        let outcomes = store.create(records.clone()).await.expect("the store takes writes");
        self.touched.insert(at);
        for (outcome, record) in outcomes.into_iter().zip(records) {
            let NewRecord { key_hash, created_at, expires_at, public, payload } = record;
            let digest = sha256(&payload);
            let operation = Operation::Create { created_at, expires_at, public, digest };
            self.note(format!("{at} creates {key_hash:?} until {expires_at:?}: {outcome:?}"));
            match outcome {
                CreateOutcome::Exists | CreateOutcome::WasDeleted => self.tally.add("creates refused", 1),
                CreateOutcome::Created(stamp) => {
                    self.tally.add("creates", 1);
                    self.done(at, stamp, key_hash, (&operation, operation.encode()), Some(payload)).await;
                }
            }
        }
    }

    fn time(&self) -> i64 {
        i64::try_from(self.now).expect("a time in this era")
    }

    /// A client invalidates, unpublishes or deletes a record.
    pub async fn change(&mut self) {
        let Some(at) = self.any_running() else { return };
        let key_hash = self.any_key();
        let operation = match self.random.random_range(0..10) {
            0..4 => Operation::Delete,
            4 | 5 => Operation::Unpublish,
            _ => Operation::Invalidate {
                at: self.time_of_destruction(at),
                reason: format!("reason {}", self.random.random_range(0..3)),
            },
        };
        let is_forgotten = self.profile.collects() && self.deleted.contains(&key_hash);
        let ahead = self.random.random_bool(0.25) && !is_forgotten;
        let order = self.order(at, &operation, &key_hash).await;
        let Some(store) = self.store(at) else { return };
        let request = NewOperation { key_hash, operation: operation.clone(), ahead };
        let outcome = store.operate_with(request, order.clone()).await.expect("the store takes writes");
        self.touched.insert(at);
        self.note(format!("{at} does {operation:?} to {key_hash:?}, ahead: {ahead}: {outcome:?}"));
        match outcome {
            OperationOutcome::Done(stamp) => {
                let counted = match operation {
                    Operation::Delete => "deletes",
                    Operation::Unpublish => "unpublications",
                    _ => "invalidations",
                };
                self.tally.add(counted, 1);
                self.tally.add("operations ahead", u64::from(!self.history.was_created(&key_hash)));
                if operation == Operation::Delete {
                    self.deleted.insert(key_hash);
                }
                if self.is_strict() && order.is_none() {
                    self.history.note_unordered(stamp);
                    self.tally.add("lies: destruction without an order", 1);
                }
                let encoded = operation.encode_with(order.as_ref());
                self.done(at, stamp, key_hash, (&operation, encoded), None).await;
            }
            OperationOutcome::Already(stamp) => {
                self.tally.add("operations that were in effect already", 1);
                assert!(self.history.knows(stamp), "{stamp:?} is said to have done it, and nobody made that");
            }
            OperationOutcome::Deleted | OperationOutcome::Unknown => {}
        }
    }

    /// What an invalidation states: the time of the order, if it needs one.
    fn time_of_destruction(&self, at: usize) -> i64 {
        if self.is_strict() { Operator::get().time(self.now) } else { self.nodes[at].wall_clock() }
    }

    /// An operator's order, where one is needed. A liar also destroys without one.
    ///
    /// The store is asked without the handler of the call: the operator's time is not that of this world.
    async fn order(&mut self, at: usize, operation: &Operation, key: &KeyHash) -> Option<OrderProof> {
        let is_unordered = self.is_liar(at) && self.random.random_bool(0.3);
        let subject = Subject::of(operation, key).filter(|_| self.is_strict() && !is_unordered)?;
        let operator = Operator::get();
        let kept = self.store(at)?.keep_chains(vec![operator.chain.clone()]).await;
        kept.expect("the store takes writes");
        Some(operator.order(subject, self.now))
    }

    /// Claim: what a client was told is done is in effect here at once.
    async fn done(
        &mut self,
        at: usize,
        stamp: Stamp,
        key: KeyHash,
        (operation, encoded): (&Operation, Bytes),
        payload: Option<Bytes>,
    ) {
        match self.is_liar(at) {
            true => self.history.acknowledge_doubtful(stamp, key, &encoded, payload.as_ref()),
            false => self.history.acknowledge(stamp, key, &encoded, payload.as_ref()),
        }
        let Some(store) = self.store(at) else { return };
        let state = store.get(key).await.expect("the store reads").unwrap_or_default();
        let with_it = state.clone().join(operation.state(stamp, payload));
        assert!(state == with_it, "{stamp:?} was acknowledged and is not in effect: {state:?}");
        assert!(store.applied().has(stamp), "{stamp:?} was acknowledged and is not applied");
    }

    /// A node is offered a stretch of the ghost's log, from about where it stands.
    pub fn hear_the_ghost(&mut self) {
        let Some(to) = self.any_running() else { return };
        let after = self.running(to).map_or(0, |running| running.store.clock(&self.ghost_origin).0);
        let after = after.saturating_sub(self.random.random_range(0..4));
        let length = self.random.random_range(1..8);
        let batch = self.ghost_batch(after, after + length);
        self.flights.push(Flight { from: None, to, message: Message::Batch(Box::new(batch)), lie: None });
    }

    pub fn ghost_batch(&self, after: u64, through: u64) -> proto::Batch {
        let within = |entry: &&proto::Entry| entry.clock > after && entry.clock <= through;
        let entries = self.ghost.iter().filter(within).cloned().collect();
        let end = self.ghost.last().map_or(0, |entry| entry.clock);
        let covered_through = through.min(end).max(after);
        proto::Batch { covered_through, ..batch(self.ghost_origin, after, entries) }
    }
}

/// Operations with poison between them. Where tombstones are collected, they are on key
/// hashes of their own and delete nothing: the ghost is no node's member.
pub fn ghost_log(random: &mut StdRng, profile: &Profile) -> Vec<proto::Entry> {
    if profile.has_liars {
        // It signs nothing.
        return Vec::new();
    }
    let mut clock = 0;
    let entries = (0..25).map(|_| {
        clock += 1;
        let own_keys = if profile.collects() { 1_000_000 } else { 0 };
        let key = key(own_keys + random.random_range(0..profile.keys));
        let at = NOW - random.random_range(0..3);
        match random.random_range(0..8) {
            0 if !profile.collects() => entry(clock, key, &Operation::Delete, None),
            0 | 1 if profile.has_poison => poison(clock, key),
            2 | 3 => {
                let reason = format!("reason {}", random.random_range(0..3));
                entry(clock, key, &Operation::Invalidate { at, reason }, None)
            }
            4 => entry(clock, key, &Operation::Unpublish, None),
            _ => {
                let payload = payload(&[random.random_range(0..3)]);
                entry(clock, key, &creation(at, &payload), Some(&payload))
            }
        }
    });
    entries.collect()
}

/// The same at every node. The payloads of what has expired go sooner on one node than on another; and where the create
/// of a tombstone was lost with a disk, not every node has seen it.
pub fn comparable(state: &RecordState, now: i64) -> RecordState {
    let state = if state.is_expired(now) { state.without_payload() } else { state.clone() };
    RecordState { was_created: false, ..state }
}
