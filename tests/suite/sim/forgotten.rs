//! What a node has deleted and forgotten, and another one keeps.

use super::{node::verifier, upkeep::compare};
use crate::harness::store::{NOW, batch, creation, deliver, entry, key, node_id, origin, payload, ram};
use brock::{
    replication::repair,
    store::Store,
    transfer::{
        join::{Joiner, Terms},
        keyed_state,
    },
};
use brock_core::{
    base::trust::TrustMode,
    domain::{codec, operation::Operation},
    proto::{self, snapshot_response::Message},
};

/// Two stores that have applied a create; `here` has deleted the record too, and forgotten that.
async fn stores() -> (Store, Store) {
    let (here, there) = (Store::open(&ram("here")).unwrap(), Store::open(&ram("there")).unwrap());
    let payload = payload(b"grant");
    for store in [&here, &there] {
        let create = entry(1, key(1), &creation(NOW, &payload), Some(&payload));
        deliver(store, batch(origin("creator", 1), 0, vec![create])).await.unwrap();
    }
    let delete = entry(1, key(1), &Operation::Delete, None);
    deliver(&here, batch(origin("deleter", 1), 0, vec![delete])).await.unwrap();
    assert_eq!(here.collect(vec![key(1)], here.applied()).await.unwrap(), 1);
    (here, there)
}

/// Claim: no comparison, repair or page of a resync brings back what this node has deleted and forgotten.
async fn nothing_came_back(here: &Store) {
    assert_eq!(here.get(key(1)).await.unwrap(), None);
}

#[tokio::test]
async fn a_comparison_brings_back_nothing_forgotten() {
    let (here, there) = stores().await;
    compare(&here, &there).await;
    nothing_came_back(&here).await;
}

#[tokio::test]
async fn a_repair_brings_back_nothing_forgotten() {
    let (here, there) = stores().await;
    let verifier = verifier(&here, TrustMode::Centralized);
    repair::repair((&here, &verifier), &there, None).await.unwrap();
    nothing_came_back(&here).await;
}

#[tokio::test]
async fn a_page_brings_back_nothing_forgotten() {
    let (here, there) = stores().await;
    let state = there.get(key(1)).await.unwrap().unwrap();
    let header = Message::Header(proto::SnapshotHeader {
        node_id: "there".to_owned(),
        vector: Some(codec::vector_to_proto(&there.applied())),
        ..Default::default()
    });
    let page = Message::Records(proto::RecordPage {
        records: vec![keyed_state(key(1), &state)],
        through: vec![0xff; 32].into(),
        ..Default::default()
    });
    let mut joiner = Joiner::new(here.clone(), node_id("there"), Terms::default(), None);
    for message in [header, page] {
        joiner.take(proto::SnapshotResponse { message: Some(message) }).await.unwrap();
    }
    nothing_came_back(&here).await;
}
