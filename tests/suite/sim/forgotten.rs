//! What one node holds and another one does not: it has deleted and forgotten it, or was filled without it.

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
    base::{id::sha256, trust::TrustMode, vector::Vector},
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
    compare((&here, &verifier(&here, TrustMode::Centralized)), (&node_id("there"), &there)).await.unwrap();
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
    fill(&here, Some(&there), &there.applied()).await;
    nothing_came_back(&here).await;
}

/// What a donor holds of the record, if it shows any, in a page that says that it has applied `applied`.
async fn fill(store: &Store, donor: Option<&Store>, applied: &Vector) {
    let mut records = Vec::new();
    if let Some(donor) = donor {
        records.push(keyed_state(key(1), &donor.get(key(1)).await.unwrap().unwrap()));
    }
    let header = Message::Header(proto::SnapshotHeader {
        node_id: "there".to_owned(),
        vector: Some(codec::vector_to_proto(applied)),
        ..Default::default()
    });
    let page =
        Message::Records(proto::RecordPage { records, through: vec![0xff; 32].into(), ..Default::default() });
    let mut joiner = Joiner::new(
        store.clone(),
        node_id("there"),
        Terms::default(),
        Some(verifier(store, TrustMode::Centralized)),
    );
    for message in [header, page, Message::End(proto::SnapshotEnd::default())] {
        joiner.take(proto::SnapshotResponse { message: Some(message) }).await.unwrap();
    }
}

/// Claim: a comparison finds a create that a donor has left out although all that shows of it is an earlier expiry, and
/// although the vectors are unequal.
#[tokio::test]
async fn a_comparison_finds_an_expiry_that_was_left_out() {
    let [here, there, partial] = ["here", "there", "partial"].map(|id| Store::open(&ram(id)).unwrap());
    let payload = payload(b"grant");
    let first =
        batch(origin("first", 1), 0, vec![entry(1, key(1), &creation(NOW, &payload), Some(&payload))]);
    let digest = sha256(&payload);
    let expires =
        Operation::Create { created_at: NOW + 1, expires_at: Some(i64::MAX / 2), public: true, digest };
    let second = batch(origin("second", 1), 0, vec![entry(1, key(1), &expires, Some(&payload))]);
    deliver(&partial, first.clone()).await.unwrap();
    for batch in [first, second] {
        deliver(&there, batch).await.unwrap();
    }
    fill(&here, Some(&partial), &there.applied()).await;
    let later = entry(1, key(2), &creation(NOW, &payload), Some(&payload));
    deliver(&here, batch(origin("third", 1), 0, vec![later])).await.unwrap();
    compare((&here, &verifier(&here, TrustMode::Centralized)), (&node_id("there"), &there)).await.unwrap();
    assert_eq!(here.get(key(1)).await.unwrap().unwrap().expires_at, Some(i64::MAX / 2));
}

/// Claim: two nodes that one donor has filled without a record confirm nothing to each other. A third one, which has
/// it, shows what was left out, and confirms the fill only then.
#[tokio::test]
async fn nodes_that_the_same_donor_has_filled_confirm_nothing_to_each_other() {
    let [here, other, third] = ["here", "other", "third"].map(|id| Store::open(&ram(id)).unwrap());
    let payload = payload(b"grant");
    let create = entry(1, key(1), &creation(NOW, &payload), Some(&payload));
    deliver(&third, batch(origin("creator", 1), 0, vec![create])).await.unwrap();
    for store in [&here, &other] {
        fill(store, None, &third.applied()).await;
    }
    let trusting = |store| verifier(store, TrustMode::Centralized);
    let (_, confirmed) = compare((&here, &trusting(&here)), (&node_id("other"), &other)).await.unwrap();
    assert!(confirmed.is_empty());
    let (repaired, confirmed) =
        compare((&here, &trusting(&here)), (&node_id("third"), &third)).await.unwrap();
    assert_eq!((repaired.repaired, confirmed.len()), (1, 1));
    assert!(confirmed[0].states.contains_key(&key(1)), "it is here before that");
    let (_, confirmed) = compare((&other, &trusting(&other)), (&node_id("here"), &here)).await.unwrap();
    assert_eq!(confirmed.len(), 1, "it is confirmed itself now");
    assert!(other.get(key(1)).await.unwrap().is_some());
}
