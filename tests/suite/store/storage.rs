//! What the store keeps, how it counts, and how it merges.

use std::os::unix::fs::PermissionsExt;

use crate::harness::store::{
    NOW, batch, close, contiguous_log, create, created, creation, deliver, entry, key, log_of, new_record,
    open, options, origin, payload, poison, ram,
};
use brock::store::{CreateOutcome, NewRecord, Store, StoreError};
use brock_core::{
    base::{
        id::{KeyHash, Origin},
        limits,
        vector::{Clock, Stamp, Vector},
    },
    domain::{
        operation::Operation,
        record::{RecordState, Visibility},
        segment::Segment,
    },
    proto,
};
use bytes::Bytes;
use futures::future::join_all;

async fn state(store: &Store, key_hash: KeyHash) -> RecordState {
    store.get(key_hash).await.unwrap().unwrap()
}

/// The record is there, whole, with this payload.
async fn assert_holds(store: &Store, key_hash: KeyHash, payload: &Bytes) {
    let state = state(store, key_hash).await;
    assert_eq!(state.visibility(NOW), Visibility::Valid);
    assert_eq!(state.creation.unwrap().payload.as_ref(), Some(payload));
}

fn grant(number: u64) -> Vec<u8> {
    format!("grant {number}").into_bytes()
}

#[tokio::test]
async fn a_hundred_records_survive_a_clean_stop() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("deep/data");
    let store = open(&options(&directory)).await;
    for made in [&directory, &parent.path().join("deep")] {
        let mode = std::fs::metadata(made).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o700, "payloads are for nobody else");
    }
    let records: Vec<NewRecord> = (0..100).map(|i| new_record(key(i), &grant(i))).collect();
    store.create(records).await.unwrap();
    for i in 0..100 {
        assert_holds(&store, key(i), &payload(&grant(i))).await;
    }
    let (vector, origin) = (store.vector(), store.origin());
    let log = contiguous_log(&store, origin).await;
    close(store).await;

    let store = open(&options(&directory)).await;
    for i in 0..100 {
        assert_holds(&store, key(i), &payload(&grant(i))).await;
    }
    assert_eq!(store.vector(), vector);
    assert_eq!(store.records(), 100);
    assert_eq!(contiguous_log(&store, origin).await, log);
    assert_eq!(store.get(key(100)).await.unwrap(), None);
}

#[tokio::test]
async fn the_log_is_exact_after_every_operation_and_a_failed_put_leaves_the_clock_where_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&options(directory.path())).await;
    let origin = store.origin();
    let mut expected = Vec::new();
    for i in 0..20 {
        let stamp = created(&store, new_record(key(i), &grant(i))).await;
        assert_eq!(stamp, Stamp { origin, clock: Clock(i + 1) });
        let payload = payload(&grant(i));
        expected.push(entry(i + 1, key(i), &creation(NOW, &payload), Some(&payload)));
        assert_eq!(log_of(&store, origin, 7).await, expected);
        // The same again, another payload, and both in one call with one that is new.
        assert_eq!(create(&store, new_record(key(i), &grant(i))).await, CreateOutcome::Exists);
        assert_eq!(create(&store, new_record(key(i), b"other")).await, CreateOutcome::Exists);
        assert_eq!(store.clock(&origin), Clock(i + 1));
        assert_eq!(log_of(&store, origin, 7).await, expected);
        assert_holds(&store, key(i), &payload).await;
    }
    let mixed =
        vec![new_record(key(0), b"x"), new_record(key(20), &grant(20)), new_record(key(20), &grant(20))];
    let outcomes = store.create(mixed).await.unwrap();
    let stamp = Stamp { origin, clock: Clock(21) };
    assert_eq!(outcomes, [CreateOutcome::Exists, CreateOutcome::Created(stamp), CreateOutcome::Exists]);
    assert_eq!(store.clock(&origin), Clock(21));
    assert_eq!(store.records(), 21);
}

#[tokio::test]
async fn an_expiry_of_now_is_unreadable() {
    let store = open(&ram("a")).await;
    for (i, (expires_at, visibility)) in [
        (Some(NOW - 1), Visibility::Gone),
        (Some(NOW), Visibility::Gone),
        (Some(NOW + 1), Visibility::Valid),
        (None, Visibility::Valid),
    ]
    .into_iter()
    .enumerate()
    {
        let key = key(i as u64);
        created(&store, NewRecord { expires_at, ..new_record(key, b"g") }).await;
        assert_eq!(state(&store, key).await.visibility(NOW), visibility, "expiry {expires_at:?} at {NOW}");
    }
    let log = contiguous_log(&store, store.origin()).await;
    let payloads: Vec<bool> = log.iter().map(|entry| entry.payload.is_some()).collect();
    assert_eq!(payloads, [true; 4], "whether it has expired is for each node's own clock to say");
}

#[tokio::test]
async fn the_sweeper_removes_what_expired_after_the_margin_and_the_log_keeps_a_stub() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&options(directory.path())).await;
    let origin = store.origin();
    let expiring = limits::SWEEP_BATCH + 7;
    let records = (0..expiring as u64 + 3).map(|i| NewRecord {
        expires_at: (i < expiring as u64).then_some(NOW + 10),
        ..new_record(key(i), &grant(i))
    });
    store.create(records.collect()).await.unwrap();
    let before = contiguous_log(&store, origin).await;

    // The margin is one hour: a second before its end nothing goes.
    assert_eq!(store.sweep(NOW + 10 + 3599).await.unwrap(), 0);
    assert_eq!(store.records(), expiring as u64 + 3);
    let due = NOW + 10 + 3600;
    assert_eq!(store.sweep(due).await.unwrap(), limits::SWEEP_BATCH, "a bounded number at a time");
    assert_eq!(store.sweep(due).await.unwrap(), 7);
    assert_eq!(store.sweep(due).await.unwrap(), 0);
    close(store).await;

    let store = open(&options(directory.path())).await;
    assert_eq!(store.records(), 3);
    let left = store.get(key(0)).await.unwrap().unwrap();
    assert!(!left.has_payload() && left.creation.is_some(), "all but the payload is kept");
    assert_eq!(left.expires_at, Some(NOW + 10));
    let again = store.create(vec![new_record(key(0), &grant(0))]).await.unwrap();
    assert_eq!(again, [CreateOutcome::Exists], "what expired does not come back");
    assert_holds(&store, key(expiring as u64), &payload(&grant(expiring as u64))).await;
    let mut stubs = before;
    stubs.iter_mut().take(expiring).for_each(|entry| entry.payload = None);
    assert_eq!(contiguous_log(&store, origin).await, stubs);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_creates_get_contiguous_clocks_and_all_survive_a_crash() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&options(directory.path())).await;
    let first_origin = store.origin();
    let tasks = (0..64u64).map(|task| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut stamps = Vec::new();
            for i in 0..20 {
                let number = task * 1000 + i;
                stamps.push((number, created(&store, new_record(key(number), &grant(number))).await));
            }
            stamps
        })
    });
    let stamps: Vec<(u64, Stamp)> = join_all(tasks).await.into_iter().flat_map(Result::unwrap).collect();
    let mut clocks: Vec<u64> = stamps.iter().map(|(_, stamp)| stamp.clock.0).collect();
    clocks.sort_unstable();
    assert_eq!(clocks, (1..=64 * 20).collect::<Vec<_>>());
    for of_task in stamps.chunks(20) {
        assert!(of_task.is_sorted_by_key(|(_, stamp)| stamp.clock), "one caller's writes keep their order");
    }
    drop(store);

    let store = open(&options(directory.path())).await;
    let log = contiguous_log(&store, first_origin).await;
    for (number, stamp) in stamps {
        assert_eq!(stamp.origin, first_origin);
        assert_holds(&store, key(number), &payload(&grant(number))).await;
        let index = usize::try_from(stamp.clock.0).unwrap() - 1;
        assert_eq!(log[index].key_hash.as_ref(), key(number).0, "the log says what the caller was told");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_concurrent_creates_of_one_key_hash_exactly_one_wins() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&options(directory.path())).await;
    for round in 0..10 {
        let tasks = (0..50u64).map(|i| {
            let store = store.clone();
            tokio::spawn(async move { (i, create(&store, new_record(key(round), &grant(i))).await) })
        });
        let outcomes: Vec<_> = join_all(tasks).await.into_iter().map(Result::unwrap).collect();
        let won = |outcome: &&(u64, CreateOutcome)| matches!(outcome.1, CreateOutcome::Created(_));
        let winners: Vec<_> = outcomes.iter().filter(won).collect();
        assert_eq!(winners.len(), 1);
        assert_holds(&store, key(round), &payload(&grant(winners[0].0))).await;
        assert_eq!(store.clock(&store.origin()), Clock(round + 1));
    }
    assert_eq!(store.conflicts(), 0, "a refused create is not a conflict");
}

#[tokio::test]
async fn batches_respect_the_entry_limit_and_the_byte_limit() {
    let store = open(&ram("a")).await;
    let large = vec![7; 60_000];
    let records: Vec<NewRecord> = (0..40).map(|i| new_record(key(i), &large)).collect();
    store.create(records).await.unwrap();
    let own = store.origin();
    let entry_bytes = 61_000;
    let changes = store.changes_since(own, Clock(0), 1000).await.unwrap().unwrap();
    assert!(
        changes.bytes <= limits::BATCH_MAX_BYTES && changes.bytes + entry_bytes > limits::BATCH_MAX_BYTES
    );
    assert!(changes.batch.entries.len() < 40);
    assert_eq!(changes.batch.covered_through, changes.batch.entries.len() as u64, "it covers what it holds");
    assert_eq!(contiguous_log(&store, own).await.len(), 40, "the rest follows");

    let three = store.changes_since(own, Clock(5), 3).await.unwrap().unwrap().batch;
    let clocks: Vec<u64> = three.entries.iter().map(|entry| entry.clock).collect();
    assert_eq!((three.after, three.covered_through, clocks), (5, 8, vec![6, 7, 8]));

    assert_eq!(store.changes_since(own, Clock(40), 1000).await.unwrap(), None, "up to date: nothing");
    assert_eq!(store.changes_since(own, Clock(41), 1000).await.unwrap(), None, "ahead: nothing");
    let stranger = origin("aa", own.incarnation().0);
    assert_eq!(store.changes_since(stranger, Clock(0), 9).await.unwrap(), None, "`a` is not `aa`");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_never_holds_more_than_is_visible() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&options(directory.path())).await;
    let own = store.origin();
    let writer = {
        let store = store.clone();
        tokio::spawn(async move {
            for i in 0..300 {
                let many = (0..3).map(|j| new_record(key(i * 10 + j), b"g"));
                store.create(many.collect()).await.unwrap();
            }
        })
    };
    let mut reads = 0;
    while !writer.is_finished() {
        let changes = store.changes_since(own, Clock(0), 10_000).await.unwrap();
        let visible = store.clock(&own);
        if let Some(proto::Batch { covered_through, entries, .. }) = changes.map(|changes| changes.batch) {
            assert!(covered_through <= visible.0);
            assert!(covered_through % 3 == 0, "a call's records become visible together");
            let clocks: Vec<u64> = entries.iter().map(|entry| entry.clock).collect();
            assert_eq!(clocks, (1..=covered_through).collect::<Vec<_>>());
            reads += 1;
        }
    }
    writer.await.unwrap();
    assert!(reads > 10, "the reader was there while the writer wrote");
}

#[tokio::test]
async fn applying_twice_changes_nothing_and_a_gap_is_refused_without_effect() {
    let store = open(&ram("a")).await;
    let (peer, grant) = (origin("peer", 1), payload(b"g"));
    let entries: Vec<proto::Entry> =
        (1..=6).map(|i| entry(i, key(i), &creation(NOW, &grant), Some(&grant))).collect();
    let gap = deliver(&store, batch(peer, 3, entries[3..].to_vec())).await;
    assert_eq!(gap, Err(StoreError::Gap { origin: peer, after: Clock(3), applied: Clock(0) }));
    assert_eq!((store.vector(), store.records()), (Vector::default(), 0));
    assert_eq!(store.get(key(4)).await.unwrap(), None);

    deliver(&store, batch(peer, 0, entries[..4].to_vec())).await.unwrap();
    for (after, through) in [(0, 4), (0, 2), (2, 3), (1, 4)] {
        deliver(&store, batch(peer, after as u64, entries[after..through].to_vec())).await.unwrap();
        assert_eq!(store.clock(&peer), Clock(4));
    }
    // It overlaps what is there.
    deliver(&store, batch(peer, 2, entries[2..].to_vec())).await.unwrap();
    assert_eq!(contiguous_log(&store, peer).await, entries);
    assert_eq!((store.records(), store.conflicts(), store.quarantined()), (6, 0, 0));
    let other = deliver(&store, batch(origin("peer", 2), 1, vec![])).await;
    assert!(matches!(other, Err(StoreError::Gap { .. })), "another incarnation starts at 0: {other:?}");
}

#[tokio::test]
async fn a_poison_entry_is_set_aside_counted_and_relayed_verbatim() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&options(directory.path())).await;
    let (peer, grant) = (origin("peer", 1), payload(b"g"));
    let create = |clock| entry(clock, key(clock), &creation(NOW, &grant), Some(&grant));
    let mut forged = create(5);
    forged.payload = Some(payload(b"another"));
    let mut later_kind = create(6);
    later_kind.operation = Bytes::from_static(&[8, 77]);
    later_kind.payload = None;
    let entries = vec![create(1), poison(2, key(2)), create(3), create(4), forged, later_kind, create(7)];
    let sent = batch(peer, 0, entries);
    deliver(&store, sent.clone()).await.unwrap();
    deliver(&store, sent.clone()).await.unwrap();
    assert_eq!((store.records(), store.quarantined()), (4, 3));
    close(store).await;

    let store = open(&options(directory.path())).await;
    assert_eq!((store.records(), store.quarantined()), (4, 3), "counted once, also after a restart");
    assert_holds(&store, key(7), &grant).await;
    assert_eq!(store.get(key(2)).await.unwrap(), None);
    let relayed = store.changes_since(peer, Clock(0), 100).await.unwrap().unwrap().batch;
    assert_eq!(relayed, sent, "verbatim: another version of brock may understand it");
}

#[tokio::test]
async fn unequal_duplicates_have_the_same_winner_in_both_orders_and_are_counted() {
    let (first, second) = (open(&ram("a")).await, open(&ram("b")).await);
    let (x, y) = (origin("x", 1), origin("y", 1));
    for (number, (x_time, y_time)) in [(NOW, NOW), (NOW, NOW + 1), (NOW + 1, NOW)].into_iter().enumerate() {
        let clock = number as u64 + 1;
        let (of_x, of_y) = (payload(b"from x"), payload(b"from y"));
        let from_x =
            || batch(x, clock - 1, vec![entry(clock, key(clock), &creation(x_time, &of_x), Some(&of_x))]);
        let from_y =
            || batch(y, clock - 1, vec![entry(clock, key(clock), &creation(y_time, &of_y), Some(&of_y))]);
        deliver(&first, from_x()).await.unwrap();
        deliver(&first, from_y()).await.unwrap();
        // In one group commit, for once.
        let (a, b) = tokio::join!(deliver(&second, from_y()), deliver(&second, from_x()));
        a.and(b).unwrap();
        let winner = state(&first, key(clock)).await;
        assert_eq!(winner, state(&second, key(clock)).await);
        if x_time != y_time {
            let earlier = if x_time < y_time { &of_x } else { &of_y };
            assert_eq!(winner.creation.unwrap().payload.as_ref(), Some(earlier), "the earlier one wins");
        }
        for store in [&first, &second] {
            assert_eq!((store.conflicts(), store.records()), (clock, clock));
        }
    }
    // The loser's entry stays in the log, without a payload that would never be used.
    let logs = [log_of(&first, x, 9).await, log_of(&first, y, 9).await].concat();
    assert_eq!(logs.iter().filter(|entry| entry.payload.is_some()).count(), 3);
    assert_eq!(logs.len(), 6);
}

#[tokio::test]
async fn equal_duplicates_are_no_conflict() {
    let store = open(&ram("a")).await;
    let (x, grant) = (origin("x", 1), payload(b"g"));
    created(&store, new_record(key(1), b"g")).await;
    deliver(&store, batch(x, 0, vec![entry(1, key(1), &creation(NOW + 5, &grant), Some(&grant))]))
        .await
        .unwrap();
    assert_eq!((store.conflicts(), store.records()), (0, 1));
    assert_holds(&store, key(1), &grant).await;
}

#[tokio::test]
async fn operations_of_peers_merge_to_the_same_state_in_any_order() {
    let store = open(&ram("a")).await;
    let grant = payload(b"g");
    let invalidate = |at, reason: &str| Operation::Invalidate { at, reason: reason.into() };
    let lasting = [
        creation(NOW, &grant),
        invalidate(NOW + 2, "leaked"),
        invalidate(NOW + 1, "rotated"),
        Operation::Unpublish,
    ];
    let mut deleted = lasting.clone();
    deleted[2] = Operation::Delete;
    let mut case = 0;
    for operations in [lasting, deleted] {
        for order in permutations(4) {
            case += 1;
            // Each operation by an origin of its own, so that nothing prescribes the order.
            let origins: Vec<Origin> = (0..4).map(|i| origin(&format!("peer-{i}"), case)).collect();
            let key = key(u64::from(case));
            let of = |i: usize| match &operations[i] {
                create @ Operation::Create { .. } => entry(1, key, create, Some(&grant)),
                operation => entry(1, key, operation, None),
            };
            for &i in &order {
                deliver(&store, batch(origins[i], 0, vec![of(i)])).await.unwrap();
            }
            let stamp = |i: usize| Stamp { origin: origins[i], clock: Clock(1) };
            let expected = (0..4).fold(RecordState::default(), |joined, i| {
                let payload = matches!(operations[i], Operation::Create { .. }).then(|| grant.clone());
                joined.join(operations[i].state(stamp(i), payload))
            });
            assert_eq!(state(&store, key).await, expected, "in the order {order:?}");
            let visible = expected.visibility(NOW);
            assert_eq!(visible == Visibility::Gone, operations[2] == Operation::Delete);
            assert_eq!(visible == Visibility::Invalidated, operations[2] != Operation::Delete);
        }
    }
    assert_eq!(case, 48);
    assert_eq!(store.records(), 24, "a deleted record does not count");
}

#[tokio::test]
async fn a_deleted_record_cannot_be_created_again() {
    let store = open(&ram("a")).await;
    deliver(&store, batch(origin("x", 1), 0, vec![entry(1, key(1), &Operation::Delete, None)]))
        .await
        .unwrap();
    assert_eq!(create(&store, new_record(key(1), b"g")).await, CreateOutcome::WasDeleted);
    assert_eq!(store.clock(&store.origin()), Clock(0));
}

#[tokio::test]
async fn a_segment_of_the_stores_own_future_is_refused_and_rolls_it_to_a_new_incarnation() {
    let options = ram("a");
    let store = open(&options).await;
    let own = store.origin();
    created(&store, new_record(key(1), b"g")).await;
    let grant = payload(b"lost");
    let future = batch(own, 1, vec![entry(2, key(2), &creation(NOW, &grant), Some(&grant))]);
    let refused = store.apply(Segment::check(future.clone()).unwrap()).await;
    assert_eq!(refused, Err(StoreError::RolledBack { origin: own, theirs: Clock(2), ours: Clock(1) }));
    assert_eq!(store.clock(&own), Clock(1));
    store.rolled_back(Clock(2), "a peer").await.unwrap();
    assert_ne!(store.origin(), own);
    let alarms = options.alarms.list();
    assert!(alarms[0].text.contains("rolled back"), "{alarms:?}");
    deliver(&store, future).await.unwrap();
    assert_holds(&store, key(2), &grant).await;
    let stamp = created(&store, new_record(key(3), b"g")).await;
    assert_eq!(stamp, Stamp { origin: store.origin(), clock: Clock(1) });
}

fn permutations(n: usize) -> Vec<Vec<usize>> {
    if n == 0 {
        return vec![vec![]];
    }
    let shorter = permutations(n - 1);
    let insert = |order: &Vec<usize>, at: usize| {
        let mut order = order.clone();
        order.insert(at, n - 1);
        order
    };
    shorter.iter().flat_map(|order| (0..n).map(move |at| insert(order, at))).collect()
}

#[tokio::test]
async fn a_key_hash_that_expired_long_ago_merges_to_the_same_state_in_any_order() {
    let (first, second) = (open(&ram("a")).await, open(&ram("b")).await);
    let (x, y) = (origin("x", 1), origin("y", 1));
    let grant = payload(b"g");
    let expired = Operation::Create {
        created_at: NOW - 9000,
        expires_at: Some(NOW - 8000),
        public: true,
        digest: brock_core::base::id::sha256(&grant),
    };
    let of_x = || batch(x, 0, vec![entry(1, key(1), &expired, None)]);
    let of_y = || batch(y, 0, vec![entry(1, key(1), &creation(NOW, &grant), Some(&grant))]);
    for segment in [of_x(), of_y()] {
        deliver(&first, segment).await.unwrap();
    }
    for segment in [of_y(), of_x()] {
        deliver(&second, segment).await.unwrap();
    }
    let visibility = async |store: &Store| state(store, key(1)).await.visibility(NOW);
    assert_eq!(visibility(&first).await, visibility(&second).await);
}
