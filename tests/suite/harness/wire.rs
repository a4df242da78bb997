//! Batches and entries as a peer would send them, good and bad.

use brock::store::Store;
use brock_core::{
    base::{
        id::{Incarnation, KeyHash, Origin, sha256},
        vector::{Clock, Stamp, Vector},
    },
    domain::{
        operation::Operation,
        record::{Creation, RecordState, UnixSeconds},
    },
    proto,
};
use bytes::Bytes;
use prost::Message;

pub fn origin(id: &str, incarnation: u32) -> Origin {
    Origin::new(&id.parse().unwrap(), Incarnation(incarnation))
}

pub fn key_hash(key: &[u8]) -> KeyHash {
    KeyHash::try_from(key).unwrap()
}

/// The encoded payload of a record with this grant and nothing else.
pub fn payload(grant: &[u8]) -> Bytes {
    let payload = proto::Payload { encrypted_access_grant: grant.to_vec().into(), ..Default::default() };
    payload.encode_to_vec().into()
}

/// An entry with an operation that has no payload.
pub fn entry(clock: u64, key: &[u8], operation: &Operation) -> proto::Entry {
    proto::Entry { clock, key_hash: key.to_vec().into(), operation: operation.encode(), payload: None }
}

/// A create of a record with this grant.
pub fn create(clock: u64, key: &[u8], grant: &[u8]) -> proto::Entry {
    create_at(clock, key, grant, 1_700_000_000, None)
}

/// A create at a time of its own, perhaps with an expiry.
pub fn create_at(
    clock: u64,
    key: &[u8],
    grant: &[u8],
    created_at: UnixSeconds,
    expires_at: Option<UnixSeconds>,
) -> proto::Entry {
    let payload = payload(grant);
    let create = Operation::Create { created_at, expires_at, public: true, digest: sha256(&payload) };
    proto::Entry { payload: Some(payload), ..entry(clock, key, &create) }
}

/// The same without its payload: what a donor sends that has it no more.
pub fn stub(entry: proto::Entry) -> proto::Entry {
    proto::Entry { payload: None, ..entry }
}

pub fn invalidate(clock: u64, key: &[u8], reason: &str) -> proto::Entry {
    entry(clock, key, &Operation::Invalidate { at: 1_700_000_001, reason: reason.to_owned() })
}

pub fn batch(origin: Origin, after: u64, covered_through: u64, entries: Vec<proto::Entry>) -> proto::Batch {
    let origin = Bytes::copy_from_slice(origin.as_bytes());
    proto::Batch { origin, after, covered_through, entries, ..proto::Batch::default() }
}

/// One origin at one clock.
pub fn at(origin: Origin, clock: u64) -> Vector {
    [(origin, Clock(clock))].into_iter().collect()
}

/// One origin's whole log on a node, and the clock that it is covered through.
pub async fn log_of(store: &Store, origin: Origin) -> (u64, Vec<proto::Entry>) {
    let (mut through, mut entries) = (Clock(0), Vec::new());
    while let Some(changes) = store.changes_since(origin, through, 100).await.unwrap() {
        assert_eq!(changes.batch.after, through.0);
        through = Clock(changes.batch.covered_through);
        entries.extend(changes.batch.entries);
    }
    (through.0, entries)
}

/// Every origin's log on a node, in order of origins.
pub async fn whole_log(store: &Store) -> Vec<(Origin, u64, Vec<proto::Entry>)> {
    let mut logs = Vec::new();
    for (origin, clock) in store.vector().iter() {
        let (through, entries) = log_of(store, origin).await;
        assert_eq!(through, clock.0, "the log of {origin} ends before its clock");
        assert!(entries.is_sorted_by(|a, b| a.clock < b.clock), "the log of {origin} is out of order");
        logs.push((origin, through, entries));
    }
    logs
}

/// A stamp of an origin that no test node has.
pub fn stamp() -> Stamp {
    Stamp { origin: origin("elsewhere", 1), clock: Clock(1) }
}

/// A record that a peer has, with this grant.
pub fn held(grant: &[u8]) -> RecordState {
    let creation = Some(Creation::new(1_700_000_000, stamp(), payload(grant)));
    RecordState { creation, ..RecordState::default() }
}
