//! The messages of a snapshot.

use bytes::Bytes;

use crate::store::{Fill, RecordPage, Totals};
use brock_core::{
    base::{
        id::{Incarnation, KeyHash, NodeId, Origin},
        vector::Vector,
    },
    domain::{bundle::Tip, codec, record::RecordState},
    proto::{self, SnapshotResponse, snapshot_response::Message},
};

/// A record's state with its key hash.
pub fn keyed_state(key_hash: KeyHash, state: &RecordState) -> proto::KeyedState {
    proto::KeyedState {
        key_hash: Bytes::copy_from_slice(&key_hash.0),
        state: Some(codec::state_to_proto(state)),
    }
}

/// The first message: what the store has applied when the snapshot begins, and on whose word alone.
pub(super) fn header(
    node_id: &NodeId,
    incarnation: Incarnation,
    (vector, folds): (&Vector, &Vector),
    totals: Totals,
    unconfirmed: Vec<Fill>,
) -> SnapshotResponse {
    message(Message::Header(proto::SnapshotHeader {
        unconfirmed: unconfirmed.into_iter().map(|fill| fill.donor.to_string()).collect(),
        node_id: node_id.to_string(),
        incarnation: incarnation.0,
        vector: Some(codec::vector_to_proto(vector)),
        folds: Some(codec::folds_to_proto(folds)),
        records: totals.records + totals.tombstones,
    }))
}

/// Births of origins that sign, and the last bundles of their logs.
pub(super) fn births(births: Vec<proto::Birth>, tips: Vec<(Origin, Tip)>) -> SnapshotResponse {
    let tips = tips.into_iter().map(|(origin, tip)| tip.of_origin(&origin)).collect();
    message(Message::Births(proto::Births { births, tips }))
}

/// A page of records, with the chains of the operators whose orders are in it. Tombstones up to `collected` may be
/// missing in it.
pub(super) fn records(page: &RecordPage, collected: &Vector, chains: Vec<proto::Chain>) -> SnapshotResponse {
    message(Message::Records(proto::RecordPage {
        records: page.states.iter().map(|(key_hash, state)| keyed_state(*key_hash, state)).collect(),
        through: Bytes::copy_from_slice(&page.through.0),
        collected: unless_empty(collected),
        chains,
        bundles: page.bundles.iter().map(|(origin, leaves)| leaves.to_proto(*origin)).collect(),
    }))
}

/// A stretch of one origin's log.
pub(super) fn log(batch: proto::Batch) -> SnapshotResponse {
    message(Message::Log(proto::LogPage { batch: Some(batch) }))
}

/// The last message: how far tombstones were collected when the snapshot ended.
pub(super) fn end(collected: &Vector) -> SnapshotResponse {
    message(Message::End(proto::SnapshotEnd { collected: unless_empty(collected) }))
}

fn unless_empty(vector: &Vector) -> Option<proto::Vector> {
    (!vector.is_empty()).then(|| codec::vector_to_proto(vector))
}

fn message(message: Message) -> SnapshotResponse {
    SnapshotResponse { message: Some(message) }
}
