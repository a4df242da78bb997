//! What comes a second time, or after something was given up, changes nothing that it must not.

use crate::harness::store::{
    batch, close, contiguous_log, created, creation, deliver, entry, key, log_of, new_record, open, options,
    origin, payload, poison, ram,
};
use brock::store::{Adoption, NewOperation, Page, StoreError, Stretch};
use brock_core::{
    base::{
        limits,
        vector::{Clock, Vector},
    },
    domain::{operation::Operation, record::RecordState, segment::Segment},
    proto,
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
    let adoption = Adoption { vector: clocks(5), ..Adoption::default() };
    store.adopt(adoption).await.unwrap();
    assert_eq!(store.clock(&peer), Clock(8));
    assert_eq!(log_of(&store, peer, 100).await.len(), 8);
    close(store).await;
}

/// Whatever a donor says: a log that has a hole would be refused by every other node.
#[tokio::test]
async fn a_vector_that_is_adopted_over_a_hole_raises_the_floor_above_it() {
    let store = open(&ram("a")).await;
    let peer = origin("peer", 1);
    deliver(&store, batch(peer, 0, creates(1, 2))).await.unwrap();
    let import = async |from: u64, to: u64| {
        let segment = Segment::check(batch(peer, from - 1, creates(from, to))).unwrap();
        store.import_log(segment).await.unwrap();
    };
    let adopt = async |clock: u64| {
        let vector: Vector = [(peer, Clock(clock))].into_iter().collect();
        store.adopt(Adoption { vector, ..Adoption::default() }).await.unwrap();
        store.floors().get(&peer).0
    };
    import(3, 4).await;
    assert_eq!(adopt(4).await, 0, "there is no hole");
    import(6, 7).await;
    import(9, 10).await;
    assert_eq!(adopt(10).await, 8, "5 and 8 are missing");
    assert_eq!(store.totals().log_entries, 2);
    let relayed = store.changes_since(peer, Clock(8), 100).await.unwrap().unwrap();
    assert_eq!(Segment::check(relayed.batch).unwrap().entries.len(), 2);
    import(11, 12).await;
    assert_eq!(adopt(13).await, 13, "the end is missing");
    assert_eq!((store.totals().log_entries, store.totals().log_bytes), (0, 0));
    assert_eq!(adopt(u64::MAX).await, u64::MAX);
    close(store).await;
}

/// Two donors, of which one lies: what the later one says stands in the log, and nothing beside it.
#[tokio::test]
async fn a_log_that_another_donor_gave_first_is_replaced() {
    let store = open(&ram("a")).await;
    let peer = origin("peer", 1);
    let forged = (1..=4).map(|clock| entry(clock, key(90 + clock), &Operation::Delete, None)).collect();
    store.import_log(Segment::check(batch(peer, 0, forged)).unwrap()).await.unwrap();
    store.import_log(Segment::check(batch(peer, 0, creates(1, 4))).unwrap()).await.unwrap();
    let vector: Vector = [(peer, Clock(4))].into_iter().collect();
    store.adopt(Adoption { vector, ..Adoption::default() }).await.unwrap();
    let log = contiguous_log(&store, peer).await;
    assert!(log.iter().all(|entry| entry.operation != Operation::Delete.encode()));
    assert_eq!(store.totals().log_entries, 4);
    close(store).await;
}

/// One node's rubbish fills its share of the quarantine, and stops no other node's log.
#[tokio::test]
async fn what_cannot_be_applied_is_bounded_in_bytes_and_by_node() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&options(directory.path())).await;
    let (peer, other) = (origin("peer", 1), origin("other", 1));
    let large = |clock: u64| {
        let payload = bytes::Bytes::from(vec![7; 1024 * 1024]);
        proto::Entry { payload: Some(payload), ..poison(clock, key(clock)) }
    };
    let share = limits::QUARANTINE_MAX_BYTES / limits::QUARANTINE_SHARES;
    let mut clock = 0;
    let refused = loop {
        match deliver(&store, batch(peer, clock, vec![large(clock + 1)])).await {
            Ok(()) => clock += 1,
            Err(refused) => break refused,
        }
    };
    assert!(matches!(&refused, StoreError::QuarantineFull(node) if node.as_str() == "peer"), "{refused}");
    assert_eq!(clock, share / (1024 * 1024) - 1, "the rest of the share is its entries' other bytes");
    let again = deliver(&store, batch(origin("peer", 2), 0, vec![large(1)])).await;
    assert!(again.is_err(), "another incarnation has no share of its own");
    deliver(&store, batch(other, 0, vec![large(1)])).await.unwrap();
    let totals = store.totals();
    assert_eq!(totals.quarantined, clock + 1);
    close(store).await;
    // Counted again at the start, and less when one goes.
    let store = open(&options(directory.path())).await;
    assert_eq!(store.totals(), totals);
    assert!(deliver(&store, batch(peer, clock, vec![large(clock + 1)])).await.is_err());
    let stamp = brock_core::base::vector::Stamp { origin: peer, clock: Clock(1) };
    assert!(store.drop_quarantined(stamp).await.unwrap());
    deliver(&store, batch(peer, clock, vec![large(clock + 1)])).await.unwrap();
    assert_eq!(store.totals().quarantine_bytes, totals.quarantine_bytes);
    close(store).await;
}

#[tokio::test]
async fn a_page_does_not_undo_an_operation_that_is_written_with_it() {
    let store = open(&ram("a")).await;
    let stamp = created(&store, new_record(key(1), b"g")).await;
    let forgotten: Vector = [(stamp.origin, stamp.clock)].into_iter().collect();
    let stretch = Stretch {
        after: None,
        through: brock_core::base::id::KeyHash([0xff; 32]),
        collected: forgotten,
        may_drop: 9,
    };
    // One group: queued together while the writer is busy, or one after the other; both must do.
    let delete = store.operate(NewOperation { key_hash: key(1), operation: Operation::Delete, ahead: false });
    let page = store.join(Page { states: Vec::new(), bundles: Vec::new(), complete: Some(stretch) });
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
    store.join(Page { states: states.collect(), bundles: Vec::new(), complete: None }).await.unwrap();
    let vector: Vector = [(peer, Clock(6))].into_iter().collect();
    store.adopt(Adoption { vector, ..Adoption::default() }).await.unwrap();
    let log = log_of(&store, peer, 100).await;
    assert_eq!(log.len(), 6);
    assert!(log.iter().all(|entry| entry.payload == Some(payload(b"g"))));
    assert_eq!(store.records(), 6);
    assert_eq!(store.get(key(9)).await.unwrap(), None::<RecordState>);
    close(store).await;
}
