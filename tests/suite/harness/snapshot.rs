//! The messages of a resync, as a donor sends them that lies.

use super::fake_peer::Script;
use brock::{
    store::{RecordPage, Store},
    transfer::keyed_state,
};
use brock_core::{
    base::{id::KeyHash, vector::Vector},
    domain::{codec, record::RecordState},
    proto::{self, out_of_sync::Reason, replicate_response, snapshot_response::Message},
};
use bytes::Bytes;

/// A donor that forces a resync on every puller, with these messages.
pub fn forces(id: &str, reason: Reason, messages: Vec<Message>) -> Script {
    let out_of_sync = proto::OutOfSync { reason: reason.into(), ..Default::default() };
    let response = |message| proto::SnapshotResponse { message: Some(message) };
    Script {
        then: vec![replicate_response::Message::OutOfSync(out_of_sync)],
        snapshot: Some(messages.into_iter().map(response).collect()),
        ..Script::new(id)
    }
}

pub fn header(id: &str, vector: &Vector, folds: &Vector, records: u64) -> Message {
    Message::Header(proto::SnapshotHeader {
        node_id: id.to_owned(),
        incarnation: 1,
        vector: Some(codec::vector_to_proto(vector)),
        folds: Some(codec::folds_to_proto(folds)),
        records,
        ..Default::default()
    })
}

/// Births, and the last bundles of the logs that this store has.
pub fn births(births: Vec<proto::Birth>, store: &Store) -> Message {
    let tips = store.tips(&store.vector());
    let tips = tips.into_iter().map(|(origin, tip)| tip.of_origin(&origin)).collect();
    Message::Births(proto::Births { births, tips })
}

/// `through`: each byte of the last key hash.
pub fn page(records: Vec<proto::KeyedState>, through: u8, collected: Option<&Vector>) -> Message {
    let through = Bytes::copy_from_slice(&[through; 32]);
    Message::Records(proto::RecordPage {
        records,
        through,
        collected: collected.map(codec::vector_to_proto),
        ..Default::default()
    })
}

/// All records up to the last key hash, with the bundles that this store has for them.
pub async fn proven_page(from: &Store, records: &[(KeyHash, RecordState)]) -> Message {
    let bundles = from.bundles_of(records.iter().map(|(_, state)| state)).await.unwrap();
    let records = records.iter().map(|(key_hash, state)| keyed_state(*key_hash, state)).collect();
    let through = Bytes::copy_from_slice(&RecordPage::END.0);
    Message::Records(proto::RecordPage { records, through, bundles, ..Default::default() })
}

pub fn end(collected: Option<&Vector>) -> Message {
    Message::End(proto::SnapshotEnd { collected: collected.map(codec::vector_to_proto) })
}
