//! What comes a second time, or after something was given up, changes nothing that it must not.

use crate::harness::store::{
    batch, close, created, creation, deliver, entry, key, log_of, new_record, open, options, origin, payload,
    poison, ram,
};
use brock::store::{Adoption, NewOperation, Page, Stretch};
use brock_core::{
    base::vector::{Clock, Vector},
    domain::{operation::Operation, record::RecordState, segment::Segment},
};

/// A log of creates, from `first` on.
fn creates(first: u64, last: u64) -> Vec<brock_core::proto::Entry> {
    let payload = payload(b"g");
    (first..=last).map(|clock| entry(clock, key(clock), &creation(1, &payload), Some(&payload))).collect()
}

#[tokio::test]
async fn a_segment_that_comes_again_does_not_lower_the_clock_on_disk() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&options(directory.path())).await;
    let peer = origin("peer", 1);
    deliver(&store, batch(peer, 0, creates(1, 9))).await.unwrap();
    deliver(&store, batch(peer, 0, creates(1, 5))).await.unwrap();
    close(store).await;
    let again = options(directory.path());
    let store = open(&again).await;
    assert_eq!(store.clock(&peer), Clock(9));
    assert_eq!(again.alarms.list(), []);
    assert_eq!(log_of(&store, peer, 100).await.len(), 9);
    close(store).await;
}

#[tokio::test]
async fn a_quarantined_entry_that_was_dropped_is_still_relayed_as_its_origin_wrote_it() {
    let store = open(&ram("a")).await;
    let peer = origin("peer", 1);
    let poisoned = poison(1, key(1));
    deliver(&store, batch(peer, 0, vec![poisoned.clone()])).await.unwrap();
    let stamp = brock_core::base::vector::Stamp { origin: peer, clock: Clock(1) };
    assert!(store.drop_quarantined(stamp).await.unwrap());
    assert!(!store.drop_quarantined(stamp).await.unwrap(), "once");
    assert_eq!(store.quarantined(), 0);
    assert_eq!(log_of(&store, peer, 100).await[0].operation, poisoned.operation);
    close(store).await;
}

#[tokio::test]
async fn adopting_an_older_vector_cuts_nothing_from_the_log() {
    let store = open(&ram("a")).await;
    let peer = origin("peer", 1);
    deliver(&store, batch(peer, 0, creates(1, 8))).await.unwrap();
    let clocks = |clock| -> Vector { [(peer, Clock(clock))].into_iter().collect() };
    // The donor stood at 5 when its pages began, and had compacted up to 10 when they ended.
    let adoption = Adoption { vector: clocks(5), floors: clocks(10), ..Adoption::default() };
    store.adopt(adoption).await.unwrap();
    assert_eq!(store.clock(&peer), Clock(8));
    assert_eq!(log_of(&store, peer, 100).await.len(), 8);
    close(store).await;
}

#[tokio::test]
async fn a_page_does_not_undo_an_operation_that_is_written_with_it() {
    let store = open(&ram("a")).await;
    let stamp = created(&store, new_record(key(1), b"g")).await;
    let forgotten: Vector = [(stamp.origin, stamp.clock)].into_iter().collect();
    let stretch =
        Stretch { after: None, through: brock_core::base::id::KeyHash([0xff; 32]), collected: forgotten };
    // One group: queued together while the writer is busy, or one after the other; both must do.
    let delete = store.operate(NewOperation { key_hash: key(1), operation: Operation::Delete, ahead: false });
    let page = store.join(Page { states: Vec::new(), complete: Some(stretch) });
    let (deleted, joined) = tokio::join!(delete, page);
    deleted.unwrap();
    joined.unwrap();
    let state = store.get(key(1)).await.unwrap().unwrap_or_default();
    assert!(state.deletion.is_some(), "an acknowledged delete is undone: {state:?}");
    close(store).await;
}

#[tokio::test]
async fn a_log_that_was_imported_twice_and_then_pulled_is_there_once() {
    let store = open(&ram("a")).await;
    let peer = origin("peer", 1);
    let segment = || Segment::check(batch(peer, 0, creates(1, 6))).unwrap();
    store.import_log(segment()).await.unwrap();
    store.import_log(segment()).await.unwrap();
    assert_eq!(store.clock(&peer), Clock(0), "nothing of it counts yet");
    assert_eq!(store.get(key(1)).await.unwrap(), None);
    deliver(&store, batch(peer, 0, creates(1, 3))).await.unwrap();
    let states = (1..=6).map(|clock| {
        let state = creation(1, &payload(b"g")).state(
            brock_core::base::vector::Stamp { origin: peer, clock: Clock(clock) },
            Some(payload(b"g")),
        );
        (key(clock), state)
    });
    store.join(Page { states: states.collect(), complete: None }).await.unwrap();
    let vector: Vector = [(peer, Clock(6))].into_iter().collect();
    store.adopt(Adoption { vector, ..Adoption::default() }).await.unwrap();
    let log = log_of(&store, peer, 100).await;
    assert_eq!(log.len(), 6);
    assert!(log.iter().all(|entry| entry.payload == Some(payload(b"g"))));
    assert_eq!(store.records(), 6);
    assert_eq!(store.get(key(9)).await.unwrap(), None::<RecordState>);
    close(store).await;
}
