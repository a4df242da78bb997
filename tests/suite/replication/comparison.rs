//! What two nodes tell from a difference of their records while writes go on.

use crate::harness::store::{
    NOW, batch, close, created, creation, deliver, entry, key, new_record, open, origin, payload, ram,
};
use brock::{
    replication::comparison::{Comparison, Look},
    store::{Page, Store},
    transfer::proof::Verifier,
};
use brock_core::{
    base::{limits, trust::TrustMode},
    domain::operation::Operation,
};

/// Two stores that have the first operation of the same origin, and the second one has the third as well: in its
/// log, or by a page alone.
async fn one_is_ahead(by_its_log: bool) -> [Store; 2] {
    let stores = [open(&ram("one")).await, open(&ram("other")).await];
    let from = origin("ended", 1);
    let grant = payload(b"g");
    let create = |clock| entry(clock, key(clock), &creation(NOW, &grant), Some(&grant));
    for store in &stores {
        deliver(store, batch(from, 0, vec![create(1)])).await.unwrap();
    }
    let rest = vec![create(2), entry(3, key(1), &Operation::Delete, None)];
    if by_its_log {
        deliver(&stores[1], batch(from, 1, rest)).await.unwrap();
        return stores;
    }
    let source = open(&ram("source")).await;
    deliver(&source, batch(from, 0, [vec![create(1)], rest].concat())).await.unwrap();
    let deleted = source.get(key(1)).await.unwrap().unwrap();
    stores[1]
        .join(Page { states: vec![(key(1), deleted)], bundles: Vec::new(), complete: None })
        .await
        .unwrap();
    close(source).await;
    stores
}

/// Looks often enough; in between, a record is written at both that the other one does not have yet.
async fn look_while_both_write([here, there]: &[Store; 2]) -> u64 {
    let verifier = Verifier::new(here.clone(), TrustMode::Centralized, None);
    let mut comparison = Comparison::default();
    let mut repaired = 0;
    for number in 0..=u64::from(limits::COMPARE_LOOKS) {
        created(here, new_record(key(100 + number), b"here")).await;
        created(there, new_record(key(200 + number), b"there")).await;
        let look = comparison.look((here, &verifier), there, None).await.unwrap();
        if let Look::Settled(settled) = look {
            repaired += settled.repaired;
        }
    }
    repaired
}

async fn is_deleted(store: &Store) -> bool {
    store.get(key(1)).await.unwrap().is_some_and(|state| state.deletion.is_some())
}

#[tokio::test]
async fn what_a_page_has_brought_of_a_log_that_is_over_spreads_while_writes_go_on() {
    let stores = one_is_ahead(false).await;
    assert!(!is_deleted(&stores[0]).await && is_deleted(&stores[1]).await);
    assert_eq!(look_while_both_write(&stores).await, 1, "and nothing else, which is under way");
    assert!(is_deleted(&stores[0]).await);
    assert_eq!(stores[0].clock(&origin("ended", 1)).0, 1, "no log has brought it");
}

#[tokio::test]
async fn what_a_fill_under_way_has_brought_to_one_says_nothing_of_the_other() {
    let stores = [open(&ram("one")).await, open(&ram("other")).await];
    let source = open(&ram("source")).await;
    created(&source, new_record(key(1), b"g")).await;
    let state = source.get(key(1)).await.unwrap().unwrap();
    stores[1]
        .join(Page { states: vec![(key(1), state)], bundles: Vec::new(), complete: None })
        .await
        .unwrap();
    assert_eq!(look_while_both_write(&stores).await, 0);
    assert!(stores[0].get(key(1)).await.unwrap().is_none());
}

#[tokio::test]
async fn what_one_has_in_its_log_is_left_to_the_log() {
    let stores = one_is_ahead(true).await;
    assert_eq!(look_while_both_write(&stores).await, 0);
    assert!(!is_deleted(&stores[0]).await);
}
