//! Origins that sign two histories: proven, frozen, and what they wrote stays.

use crate::harness::{
    identity::{EXPIRED, REVOKED, TestOrigin, signing, strict, take},
    store::{
        NOW, close, create, created, creation, entry, key, new_record, node_id, open, options, origin,
        payload, ram,
    },
};
use brock::{
    replication::{comparison::Comparison, repair::repair},
    store::{Store, StoreError},
    transfer::{
        feed::SnapshotFeed,
        join::{Joiner, Terms},
    },
};
use brock_core::{
    base::{
        limits,
        vector::{Clock, Vector},
    },
    domain::{
        birth::SignedBirth,
        bundle::Tip,
        fork::{Contradiction, Fork},
    },
    proto::{self, snapshot_response::Message},
};

/// The bundle that creates a record, at the clock of its number in one of the two histories.
fn step(own: &TestOrigin, after: u64, number: u64) -> proto::Batch {
    let grant = payload(b"g");
    own.sign(after, vec![entry(after + 1, key(number), &creation(NOW, &grant), Some(&grant))])
}

/// The first bundle of both histories, the rest of the one, and the rest of the other.
fn two_histories(own: &TestOrigin) -> (proto::Batch, [proto::Batch; 3], [proto::Batch; 2]) {
    let first = step(own, 0, 1);
    let one = [step(own, 1, 12), step(own, 2, 13), step(own, 3, 14)];
    (first, one, [step(own, 1, 22), step(own, 2, 23)])
}

/// A store is shown both histories: its last bundle, and the one that contradicts it.
async fn shown_two(store: &Store, own: &TestOrigin) -> (Tip, Tip) {
    let (first, [a2, ..], [_, b3]) = two_histories(own);
    for batch in [first, a2] {
        take(store, batch).await.unwrap();
    }
    let Err(StoreError::Forked { pair, .. }) = take(store, b3).await else { panic!("it was applied") };
    *pair.unwrap()
}

async fn tells(from: &Store, to: &Store) -> usize {
    strict(to).take_forks(from.forks().iter().map(|fork| fork.to_proto()).collect()).await.unwrap()
}

async fn shows(from: &Store, to: &Store) -> usize {
    let tips = from.tips(&from.vector()).into_iter().map(|(origin, tip)| tip.of_origin(&origin)).collect();
    strict(to).compare_tips(tips).await.unwrap()
}

#[tokio::test]
async fn of_two_creates_of_a_record_under_one_stamp_each_keeps_its_proof() {
    let (one, other) = (open(&signing(ram("one"))).await, open(&signing(ram("other"))).await);
    let own = TestOrigin::new(origin("two", 1));
    let created = |at, bytes| {
        let grant = payload(bytes);
        own.sign(1, vec![entry(2, key(7), &creation(at, &grant), Some(&grant))])
    };
    let first = step(&own, 0, 1);
    for (store, batch) in [(&one, created(NOW, b"first")), (&other, created(NOW + 1, b"second"))] {
        take(store, first.clone()).await.unwrap();
        take(store, batch).await.unwrap();
    }
    let third = open(&signing(ram("third"))).await;
    strict(&third)
        .learn(vec![one.birth(own.origin).await.unwrap().unwrap()], &Vector::default())
        .await
        .unwrap();
    for (to, from) in [(&one, &other), (&other, &one), (&third, &other)] {
        let report = repair((to, &strict(to)), from, None).await.unwrap();
        assert!(report.repaired > 0, "{report:?}");
        let state = to.get(key(7)).await.unwrap().unwrap();
        assert!(state.is_proven() && state.evidence.len() == 2, "{state:?}");
        let kept = state.creation.unwrap();
        assert_eq!((kept.created_at, kept.payload, state.losers.len()), (NOW, Some(payload(b"first")), 1));
    }
    assert_eq!(one.summary().digest, other.summary().digest);
    for store in [one, other, third] {
        close(store).await;
    }
}

#[tokio::test]
async fn a_bundle_of_another_history_is_refused_and_proves_both_and_what_both_hold_stays() {
    let home = tempfile::tempdir().unwrap();
    let at_one = signing(options(home.path()));
    let (one, other) = (open(&at_one).await, open(&signing(ram("other"))).await);
    let own = TestOrigin::new(origin("two", 1));
    let (first, [a2, ..], [b2, b3]) = two_histories(&own);
    for (store, batch) in [(&one, a2.clone()), (&other, b2)] {
        take(store, first.clone()).await.unwrap();
        take(store, batch).await.unwrap();
    }
    // Both have applied two operations: the third is of the other history.
    let Err(StoreError::Forked { pair, .. }) = take(&one, b3.clone()).await else { panic!("it was applied") };
    let (here, theirs) = *pair.unwrap();
    assert_eq!((one.clock(&own.origin).0, one.is_frozen(&own.origin)), (2, false), "nothing has changed");
    assert!(strict(&one).prove_fork(own.origin, here, theirs).await.unwrap());
    assert!(one.is_frozen(&own.origin) && one.vector().is_empty() && one.floors().is_empty());
    assert_eq!((one.totals().log_entries, one.totals().log_bytes, one.records()), (0, 0, 2));
    assert!(matches!(take(&one, b3).await, Err(StoreError::Frozen(_))));
    assert!(matches!(take(&one, a2).await, Err(StoreError::Frozen(_))));
    // The proof stands by itself.
    assert_eq!(tells(&one, &other).await, 0);
    assert!(other.is_frozen(&own.origin) && other.vector().is_empty());
    assert_eq!(one.forks(), other.forks());
    let claim: Vector = [(own.origin, Clock(9))].into_iter().collect();
    assert!(one.relevant(claim, 0).is_empty(), "what peers say of it counts for nothing");
    for (to, from) in [(&one, &other), (&other, &one)] {
        repair((to, &strict(to)), from, None).await.unwrap();
        for number in [1, 12, 22] {
            assert!(to.get(key(number)).await.unwrap().unwrap().is_proven(), "{number}");
        }
    }
    assert_eq!(one.summary().digest, other.summary().digest);
    let forks = one.forks();
    close(one).await;
    let one = open(&at_one).await;
    assert!(one.forks() == forks && one.vector().is_empty() && one.records() == 3);
    assert_eq!(one.incarnation_reason(), "start", "no operation counts as lost");
    close(one).await;
    close(other).await;
}

/// Fills a store from the records and the log of another one, of which the header shows where the log ends or not.
/// `meanwhile` comes from elsewhere, before the last message.
async fn fill(store: &Store, donor: &Store, shows_tips: bool, meanwhile: Option<proto::Batch>) {
    fill_with(store, donor, async |_, message| match message {
        Message::Births(births) if !shows_tips => births.tips.clear(),
        Message::End(_) => {
            if let Some(batch) = &meanwhile {
                take(store, batch.clone()).await.unwrap();
            }
        }
        _ => {}
    })
    .await;
}

/// Fills a store from another one; `before` comes before each message, and may alter it.
async fn fill_with(store: &Store, donor: &Store, before: impl AsyncFn(&mut Joiner, &mut Message)) {
    let id = donor.node_id().clone();
    let mut joiner = Joiner::new(store.clone(), id, Terms::default(), Some(strict(store)));
    let mut feed = SnapshotFeed::begin(donor.clone(), joiner.request()).unwrap();
    while let Some(mut message) = feed.next().await.unwrap() {
        before(&mut joiner, message.message.as_mut().unwrap()).await;
        joiner.take(message).await.unwrap();
    }
}

/// Nothing is passed on but logs that other nodes can verify.
#[tokio::test]
async fn a_log_that_a_donor_continues_with_another_history_is_not_kept() {
    for shows_tips in [true, false] {
        let (one, donor) = (open(&signing(ram("one"))).await, open(&signing(ram("donor"))).await);
        let own = TestOrigin::new(origin("two", 1));
        let (first, [a2, ..], [b2, b3]) = two_histories(&own);
        for (store, batches) in [(&one, vec![a2]), (&donor, vec![b2, b3])] {
            for batch in [vec![first.clone()], batches].concat() {
                take(store, batch).await.unwrap();
            }
        }
        create(&donor, new_record(key(30), b"g")).await;
        fill(&one, &donor, shows_tips, None).await;
        assert!(one.is_frozen(&own.origin), "its third operation does not follow the second one here");
        assert_eq!((one.totals().log_entries, one.records()), (1, 5), "the other log, and all records");
        assert_eq!(tells(&one, &donor).await, 0);
        assert!(donor.is_frozen(&own.origin) && one.vector() == donor.vector());
        close(one).await;
        close(donor).await;
    }
}

#[tokio::test]
async fn a_log_whose_history_changes_during_a_resync_is_not_passed_on() {
    let (one, donor) = (open(&signing(ram("one"))).await, open(&signing(ram("donor"))).await);
    let own = TestOrigin::new(origin("two", 1));
    let (first, [a2, ..], [b2, b3]) = two_histories(&own);
    take(&one, first.clone()).await.unwrap();
    for batch in [first, b2, b3] {
        take(&donor, batch).await.unwrap();
    }
    fill(&one, &donor, true, Some(a2)).await;
    assert_eq!((one.clock(&own.origin), one.records()), (Clock(3), 4));
    assert_eq!((one.floors().get(&own.origin), one.totals().log_entries), (Clock(3), 0));
    close(one).await;
    close(donor).await;
}

/// The bundle of another history ends, and begins, elsewhere than the one that is here.
#[tokio::test]
async fn a_bundle_that_reaches_over_the_end_of_the_log_here_is_of_another_history() {
    let own = TestOrigin::new(origin("two", 1));
    let grant = payload(b"g");
    let bundle = |clocks: std::ops::RangeInclusive<u64>, history: u64| {
        let create = |clock| entry(clock, key(10 * history + clock), &creation(NOW, &grant), Some(&grant));
        own.sign(clocks.start() - 1, clocks.map(create).collect())
    };
    let (first, here, other) = (bundle(1..=1, 0), bundle(2..=3, 1), bundle(2..=4, 2));
    for comes_late in [true, false] {
        let (one, donor) = (open(&signing(ram("one"))).await, open(&signing(ram("donor"))).await);
        for batch in [&first, &other] {
            take(&donor, batch.clone()).await.unwrap();
        }
        take(&one, first.clone()).await.unwrap();
        if comes_late {
            fill(&one, &donor, true, Some(here.clone())).await;
            assert_eq!(
                (one.clock(&own.origin), one.totals().log_entries),
                (Clock(4), 0),
                "nothing is relayed"
            );
        } else {
            take(&one, here.clone()).await.unwrap();
            fill_with(&one, &donor, async |joiner, message| {
                if matches!(message, Message::Log(_)) {
                    // What is here hides behind a page that ends before it.
                    let page = proto::LogPage { batch: Some(first.clone()) };
                    joiner.take(proto::SnapshotResponse { message: Some(Message::Log(page)) }).await.unwrap();
                }
            })
            .await;
            assert!(one.is_frozen(&own.origin), "both cannot be true");
        }
        close(one).await;
        close(donor).await;
    }
}

#[tokio::test]
async fn where_a_copied_log_ends_is_known_though_its_donor_does_not_say_it() {
    let (one, donor) = (open(&signing(ram("one"))).await, open(&signing(ram("donor"))).await);
    let own = TestOrigin::new(origin("two", 1));
    let (first, [a2, ..], [_, b3]) = two_histories(&own);
    for batch in [first, a2] {
        take(&donor, batch).await.unwrap();
    }
    fill(&one, &donor, false, None).await;
    assert_eq!((one.clock(&own.origin), one.totals().log_entries), (Clock(2), 2));
    assert!(matches!(take(&one, b3).await, Err(StoreError::Forked { pair: Some(_), .. })));
    close(one).await;
    close(donor).await;
}

#[tokio::test]
async fn histories_of_equal_length_differ_in_what_peers_show_of_them_and_so_do_shorter_ones() {
    for longer in 0..=2 {
        let (one, other) = (open(&signing(ram("one"))).await, open(&signing(ram("other"))).await);
        let own = TestOrigin::new(origin("two", 1));
        let (first, [a2, a3, a4], [b2, _]) = two_histories(&own);
        for (store, batch) in [(&one, a2), (&other, b2)] {
            take(store, first.clone()).await.unwrap();
            assert_eq!(shows(store, &one).await + shows(store, &other).await, 0, "no difference yet");
            take(store, batch).await.unwrap();
        }
        assert!(!one.is_frozen(&own.origin));
        for batch in [a3, a4].into_iter().take(longer) {
            take(&one, batch).await.unwrap();
        }
        assert_eq!(shows(&other, &one).await, 0);
        assert!(one.is_frozen(&own.origin), "longer by {longer}");
        close(one).await;
        close(other).await;
    }
}

#[tokio::test]
async fn what_proves_no_fork_freezes_nothing() {
    let store = open(&signing(ram("one"))).await;
    let own = TestOrigin::new(origin("two", 1));
    let (here, theirs) = shown_two(&store, &own).await;
    let genuine = proto::Fork {
        birth: store.birth(own.origin).await.unwrap(),
        one: Some(here.to_proto()),
        other: Some(theirs.to_proto()),
        other_birth: None,
    };
    let altered = |alter: &dyn Fn(&mut proto::Fork)| {
        let mut fork = genuine.clone();
        alter(&mut fork);
        fork
    };
    let lies = vec![
        // An honest origin's own birth beside an altered copy of it.
        altered(&|fork| {
            (fork.one, fork.other) = (None, None);
            fork.other_birth.clone_from(&fork.birth);
            fork.birth.as_mut().unwrap().born_at_unix += 1;
        }),
        altered(&|fork| fork.other.clone_from(&fork.one)),
        altered(&|fork| fork.other.as_mut().unwrap().signature = vec![1; 64].into()),
        altered(&|fork| fork.one.as_mut().unwrap().root = vec![1; 32].into()),
        altered(&|fork| fork.one.as_mut().unwrap().first += 1),
        altered(&|fork| fork.birth.as_mut().unwrap().key = vec![1; 32].into()),
        altered(&|fork| fork.other_birth.clone_from(&fork.birth)),
        altered(&|fork| fork.birth = None),
        proto::Fork::default(),
    ];
    for lie in &lies {
        assert_eq!(strict(&store).take_forks(vec![lie.clone()]).await.unwrap(), 1, "{lie:?}");
        assert!(!store.is_frozen(&own.origin), "{lie:?}");
    }
    let many = [lies.clone(), lies].concat();
    assert_eq!(strict(&store).take_forks(many).await.unwrap(), limits::LIES_READ);
    // Genuine bundles beside an altered birth: the birth that is known here is kept instead.
    let beside = altered(&|fork| fork.birth.as_mut().unwrap().born_at_unix += 1);
    assert_eq!(strict(&store).take_forks(vec![beside]).await.unwrap(), 0);
    assert!(store.is_frozen(&own.origin));
    assert_eq!(Some(store.forks()[0].birth().to_proto()), genuine.birth);
    close(store).await;
    let fresh = open(&signing(ram("fresh"))).await;
    let unborn = altered(&|fork| fork.birth.as_mut().unwrap().born_at_unix += 1);
    assert_eq!(strict(&fresh).take_forks(vec![unborn]).await.unwrap(), 1);
    assert_eq!(strict(&fresh).take_forks(vec![genuine]).await.unwrap(), 0);
    assert!(fresh.is_frozen(&own.origin));
    close(fresh).await;
}

/// The holder of a node's certificate is born as the incarnation that the node is.
#[tokio::test]
async fn a_node_whose_own_incarnation_has_two_births_goes_on_as_another_and_loses_nothing() {
    let store = open(&signing(ram("one"))).await;
    let before = created(&store, new_record(key(1), b"g")).await;
    let thief = TestOrigin::new(before.origin);
    let birth = SignedBirth::from_proto(step(&thief, 0, 9).birth.unwrap()).unwrap();
    assert!(strict(&store).prove_two_births(birth).await.unwrap());
    assert!(store.is_frozen(&before.origin) && store.origin() != before.origin);
    assert!(store.get(key(1)).await.unwrap().unwrap().is_proven());
    let after = created(&store, new_record(key(2), b"g")).await;
    assert_eq!((after.origin, store.records()), (store.origin(), 2));
    create(&store, new_record(key(3), b"g")).await;
    assert_eq!(store.vector().iter().count(), 1);
    close(store).await;
}

/// The holder of an expired certificate can date a birth back, to when it was valid.
#[tokio::test]
async fn a_birth_that_was_accepted_once_does_not_freeze_one_that_is_accepted_now() {
    let own = [(); 2].map(|()| TestOrigin::new(origin("two", 1)));
    let [now, second] = own.each_ref().map(|own| step(own, 0, 1).birth.unwrap());
    // The known birth, the one that comes, and whether they prove a fork to a node that knows one, and to one that
    // does not.
    for (known, other, proves, proves_unknown) in [
        (now.scheme, EXPIRED.into(), false, false),
        (EXPIRED.into(), now.scheme, true, false),
        (EXPIRED.into(), EXPIRED.into(), true, true),
        // As it is once operators have done what the alarm tells them.
        (now.scheme, REVOKED.into(), true, true),
    ] {
        let known = proto::Birth { scheme: known, ..now.clone() };
        let other = proto::Birth { scheme: other, ..second.clone() };
        let fork = proto::Fork { birth: Some(known.clone()), other_birth: Some(other), ..Default::default() };
        for (knows, expected) in [(true, proves), (false, proves_unknown)] {
            let store = open(&signing(ram("one"))).await;
            if knows {
                strict(&store).learn(vec![known.clone()], &Vector::default()).await.unwrap();
            }
            let refused = strict(&store).take_forks(vec![fork.clone()]).await.unwrap();
            assert_eq!(
                (refused == 0, store.is_frozen(&own[0].origin)),
                (expected, expected),
                "{knows} {fork:?}"
            );
            close(store).await;
        }
    }
}

#[tokio::test]
async fn the_forks_of_one_node_are_bounded_and_take_no_place_from_others() {
    let store = open(&signing(ram("one"))).await;
    let forks = async |id: &str, count: u32| {
        for incarnation in 1..=count {
            let own = [(); 2].map(|()| TestOrigin::new(origin(id, incarnation)));
            let [first, second] = own.map(|own| step(&own, 0, 1).birth);
            let fork = proto::Fork { birth: first, other_birth: second, ..Default::default() };
            assert_eq!(strict(&store).take_forks(vec![fork]).await.unwrap(), 0);
        }
    };
    forks("liar", u32::try_from(limits::FORKS_PER_NODE).unwrap() + 3).await;
    forks("other", 1).await;
    assert_eq!(store.forks().len(), limits::FORKS_PER_NODE + 1);
    // Of what is listed here, none is left out: other nodes have frozen it.
    let own = TestOrigin::new(origin("liar", 99));
    let (here, theirs) = shown_two(&store, &own).await;
    assert!(strict(&store).prove_fork(own.origin, here, theirs).await.unwrap());
    assert!(store.is_frozen(&own.origin) && store.vector().is_empty());
    assert_eq!(store.listing(&node_id("liar")), (limits::FORKS_PER_NODE + 2, limits::FORKS_PER_NODE + 1));
    close(store).await;
}

/// The nodes write all the time, so their vectors are never equal.
#[tokio::test]
async fn what_a_frozen_origin_wrote_spreads_while_others_write() {
    let (one, other) = (open(&signing(ram("one"))).await, open(&signing(ram("other"))).await);
    let own = TestOrigin::new(origin("two", 1));
    let (first, [a2, ..], [b2, _]) = two_histories(&own);
    for (store, batch) in [(&one, a2), (&other, b2)] {
        take(store, first.clone()).await.unwrap();
        take(store, batch).await.unwrap();
    }
    shows(&other, &one).await;
    tells(&one, &other).await;
    for (to, from) in [(&one, &other), (&other, &one)] {
        let mut comparison = Comparison::default();
        for number in 100..100 + 2 * u64::from(limits::COMPARE_LOOKS) {
            create(from, new_record(key(number), b"g")).await;
            comparison.look((to, &strict(to)), from, None).await.unwrap();
        }
        for number in [1, 12, 22] {
            assert!(to.get(key(number)).await.unwrap().is_some(), "{number} at {}", to.node_id());
        }
    }
    close(one).await;
    close(other).await;
}

#[tokio::test]
async fn an_origin_that_is_frozen_and_folded_at_once_is_frozen_only() {
    let home = tempfile::tempdir().unwrap();
    let at_home = signing(options(home.path()));
    let store = open(&at_home).await;
    let own = TestOrigin::new(origin("two", 1));
    let (here, theirs) = shown_two(&store, &own).await;
    let birth = SignedBirth::from_proto(store.birth(own.origin).await.unwrap().unwrap()).unwrap();
    let fork = Fork::new(birth, Contradiction::Bundles(here, theirs)).unwrap();
    store.compact(&store.vector()).await.unwrap();
    let (frozen, folded) = tokio::join!(store.freeze(fork), store.fold(own.origin));
    assert_eq!((frozen.is_ok(), folded.unwrap()), (true, false));
    close(store).await;
    let store = open(&at_home).await;
    assert!(store.is_frozen(&own.origin) && store.folds().is_empty() && store.floors().is_empty());
    close(store).await;
}
