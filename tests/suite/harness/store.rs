//! Stores without a node around them, and what peers might send them.

use std::path::Path;

use super::eventually;
use brock::{
    runtime::alarms::Alarms,
    store::{CreateOutcome, NewOperation, NewRecord, OpenError, Options, Page, Store, StoreError},
};
use brock_core::{
    base::{
        id::{Incarnation, KeyHash, NodeId, Origin, sha256},
        time::WallClock,
        vector::{Clock, Stamp},
    },
    domain::{
        leaves::Leaves,
        operation::Operation,
        record::{RecordState, UnixSeconds},
        segment::Segment,
    },
    proto,
};
use bytes::Bytes;
use prost::Message;

/// The time in every store made by [`options`] and [`ram`].
pub const NOW: UnixSeconds = 1_700_000_000;

/// The node id of every store made by [`options`].
pub const NODE_ID: &str = "node-1";

pub fn node_id(id: &str) -> NodeId {
    id.parse().unwrap()
}

/// A store in a directory, in which time stands still.
pub fn options(path: &Path) -> Options {
    Options { path: Some(path.to_owned()), ..ram(NODE_ID) }
}

/// A store in RAM, in which time stands still.
pub fn ram(id: &str) -> Options {
    let wall_clock = WallClock::new(|| NOW.unsigned_abs() * 1000);
    Options {
        cache_bytes: 256 * 1024,
        memtables_bytes: 1024 * 1024,
        alarms: Alarms::new(wall_clock.clone()),
        wall_clock,
        ..Options::ram(node_id(id))
    }
}

/// Opens a store, and waits while another is still closing it.
pub async fn open(options: &Options) -> Store {
    eventually("the lock of the store is free", || async {
        match Store::open(options) {
            Ok(store) => Some(store),
            Err(OpenError::Locked(_)) => None,
            Err(error) => panic!("the store does not open: {error}"),
        }
    })
    .await
}

/// Closes a store in order.
pub async fn close(store: Store) {
    tokio::task::spawn_blocking(move || store.close()).await.unwrap().unwrap();
}

pub fn key(number: u64) -> KeyHash {
    KeyHash(sha256(&number.to_be_bytes()))
}

pub fn payload(grant: &[u8]) -> Bytes {
    let grant = Bytes::copy_from_slice(grant);
    proto::Payload { encrypted_access_grant: grant, ..Default::default() }.encode_to_vec().into()
}

pub fn new_record(key_hash: KeyHash, grant: &[u8]) -> NewRecord {
    NewRecord { key_hash, created_at: NOW, expires_at: None, public: true, payload: payload(grant) }
}

/// Creates one record.
pub async fn create(store: &Store, record: NewRecord) -> CreateOutcome {
    store.create(vec![record]).await.unwrap()[0]
}

/// Creates one record that was not there.
pub async fn created(store: &Store, record: NewRecord) -> Stamp {
    match create(store, record).await {
        CreateOutcome::Created(stamp) => stamp,
        CreateOutcome::Exists | CreateOutcome::WasDeleted => panic!("the record exists"),
    }
}

/// Deletes the record of [`key`].
pub async fn delete(store: &Store, number: u64) {
    let request = NewOperation { key_hash: key(number), operation: Operation::Delete, ahead: false };
    store.operate(request).await.unwrap();
}

/// One origin's whole log, read in batches of `limit`; checks that the batches join up and that
/// they cover what the store says it has.
pub async fn log_of(store: &Store, origin: Origin, limit: usize) -> Vec<proto::Entry> {
    let (mut entries, mut after) = (Vec::new(), Clock(0));
    while let Some(changes) = store.changes_since(origin, after, limit).await.unwrap() {
        let batch = changes.batch;
        assert_eq!(batch.origin.as_ref(), origin.as_bytes());
        assert_eq!(batch.after, after.0, "a batch begins where it was asked to");
        assert!(batch.covered_through > after.0, "a batch covers something");
        assert!(batch.entries.iter().all(|entry| entry.clock > after.0));
        assert!(batch.entries.len() <= limit);
        assert!(batch.entries.is_sorted_by_key(|entry| entry.clock));
        after = Clock(batch.covered_through);
        entries.extend(batch.entries);
    }
    assert_eq!(after, store.clock(&origin), "the log covers what is visible");
    entries
}

/// Checks that a log has the clocks 1, 2, 3 and so on, up to the store's own.
pub async fn contiguous_log(store: &Store, origin: Origin) -> Vec<proto::Entry> {
    let entries = log_of(store, origin, 1000).await;
    let clocks: Vec<u64> = entries.iter().map(|entry| entry.clock).collect();
    assert_eq!(clocks, (1..=store.clock(&origin).0).collect::<Vec<_>>(), "clocks of {origin}");
    entries
}

/// An origin that is not a store's.
pub fn origin(id: &str, incarnation: u32) -> Origin {
    Origin::new(&node_id(id), Incarnation(incarnation))
}

pub fn entry(clock: u64, key_hash: KeyHash, operation: &Operation, payload: Option<&Bytes>) -> proto::Entry {
    proto::Entry {
        clock,
        key_hash: Bytes::copy_from_slice(&key_hash.0),
        operation: operation.encode(),
        payload: payload.cloned(),
    }
}

/// The operation that creates a record with this payload.
pub fn creation(created_at: UnixSeconds, payload: &Bytes) -> Operation {
    Operation::Create { created_at, expires_at: None, public: true, digest: sha256(payload) }
}

/// An entry that no version of brock can apply.
pub fn poison(clock: u64, key_hash: KeyHash) -> proto::Entry {
    proto::Entry {
        clock,
        key_hash: Bytes::copy_from_slice(&key_hash.0),
        operation: Bytes::from_static(&[0xff, 0xfe, 0xfd]),
        payload: Some(Bytes::from_static(b"unexplained")),
    }
}

/// Entries as a batch that covers what they span, from `after` on.
pub fn batch(origin: Origin, after: u64, entries: Vec<proto::Entry>) -> proto::Batch {
    proto::Batch {
        origin: Bytes::copy_from_slice(origin.as_bytes()),
        after,
        covered_through: entries.last().map_or(after, |entry| entry.clock),
        entries,
        ..proto::Batch::default()
    }
}

/// States as another store has them, to be joined, with the bundles that prove them.
pub async fn carried(from: &Store, states: Vec<(KeyHash, RecordState)>) -> Page {
    let bundles = from.bundles_of(states.iter().map(|(_, state)| state)).await.unwrap();
    let bundles = bundles.iter().map(|leaves| Leaves::from_proto(leaves).unwrap()).collect();
    Page { states, bundles, complete: None }
}

/// Delivers a batch as a puller does.
pub async fn deliver(store: &Store, batch: proto::Batch) -> Result<(), StoreError> {
    store.apply(Segment::check(batch).unwrap()).await.map(drop)
}
