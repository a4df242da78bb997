//! Bundles are kept once for all records that they prove, for as long as one names them.

use std::collections::BTreeSet;

use crate::harness::{
    identity::{TestOrigin, signing, strict, take},
    store::{
        carried, close, created, delete, entry, key, log_of, new_record, node_id, open, options, origin,
        poison, ram,
    },
};
use brock::{
    store::{NewRecord, Page, Store},
    transfer::{
        bundles::Bundles,
        feed::SnapshotFeed,
        join::{Joiner, Terms},
    },
};
use brock_core::{
    base::vector::{Clock, Stamp},
    domain::{
        leaves::{BundleId, Leaves},
        operation::Operation,
        segment::Segment,
    },
    proto::{self, snapshot_response::Message},
};

/// Creates them in one commit, so that they are in one bundle.
async fn create_all(store: &Store, numbers: std::ops::Range<u64>) {
    let records: Vec<NewRecord> = numbers.map(|number| new_record(key(number), b"g")).collect();
    store.create(records).await.unwrap();
}

async fn compact(store: &Store) {
    store.compact(&store.vector()).await.unwrap();
    assert_eq!(store.totals().log_entries, 0);
}

/// Whether all of a record is proven by the bundles that the store has.
async fn is_proven(store: &Store, number: u64) -> bool {
    let state = store.get(key(number)).await.unwrap().unwrap();
    let believed = strict(store).believe(&key(number), state.clone(), &Bundles::default(), &[]);
    believed.unproven.is_empty() && believed.state.evidence == state.evidence && !state.evidence.is_empty()
}

/// The bundles that a record names.
async fn named(store: &Store, number: u64) -> BTreeSet<BundleId> {
    let state = store.get(key(number)).await.unwrap().unwrap();
    state.evidence.iter().map(|(stamp, evidence)| evidence.bundle_id(stamp.origin)).collect()
}

#[tokio::test]
async fn a_bundle_stays_without_its_log_as_long_as_one_record_names_it() {
    let directory = tempfile::tempdir().unwrap();
    let place = signing(options(directory.path()));
    let store = open(&place).await;
    create_all(&store, 1..4).await;
    let bundle = *named(&store, 1).await.first().unwrap();
    assert_eq!(named(&store, 3).await, BTreeSet::from([bundle]));
    assert_eq!(store.drop_bundles().await.unwrap(), 0, "it is in the log");
    compact(&store).await;
    for number in 1..3 {
        delete(&store, number).await;
    }
    compact(&store).await;
    assert_eq!(store.drop_bundles().await.unwrap(), 0, "one record is left, and two tombstones");
    close(store).await;
    let store = open(&place).await;
    assert_eq!(store.drop_bundles().await.unwrap(), 0);
    for number in 1..4 {
        assert!(is_proven(&store, number).await, "{number}");
    }
    delete(&store, 3).await;
    assert_eq!(store.drop_bundles().await.unwrap(), 1);
    assert_eq!(store.leaves(&bundle).unwrap(), None);
    assert!(is_proven(&store, 3).await);
    close(store).await;
}

#[tokio::test]
async fn nothing_is_dropped_while_bundles_are_held() {
    let store = open(&signing(ram("one"))).await;
    create_all(&store, 1..2).await;
    delete(&store, 1).await;
    compact(&store).await;
    let held = store.hold_bundles().await;
    assert_eq!(store.drop_bundles().await.unwrap(), 0);
    drop(held);
    assert_eq!(store.drop_bundles().await.unwrap(), 1);
    close(store).await;
}

/// From a donor whose log is gone, and from there to a third: each bundle goes once, and proves all of its records.
#[tokio::test]
async fn the_pages_of_a_donor_have_each_bundle_once() {
    let open_all = async |id| open(&signing(ram(id))).await;
    let (donor, middle, last) = (open_all("donor").await, open_all("middle").await, open_all("last").await);
    for begin in [0, 100, 200] {
        create_all(&donor, begin..begin + 100).await;
    }
    for number in 300..310 {
        created(&donor, new_record(key(number), b"g")).await;
    }
    compact(&donor).await;
    for (from, to) in [(&donor, &middle), (&middle, &last)] {
        let mut joiner = Joiner::new(to.clone(), from.node_id().clone(), Terms::default(), Some(strict(to)));
        let mut feed = SnapshotFeed::begin(from.clone(), joiner.request()).unwrap();
        let mut sent = Vec::new();
        while let Some(message) = feed.next().await.unwrap() {
            if let Some(Message::Records(page)) = &message.message {
                sent.extend(page.bundles.iter().map(|leaves| leaves.first));
            }
            joiner.take(message).await.unwrap();
        }
        // 64 + 36 of each hundred.
        assert_eq!((sent.len(), BTreeSet::from_iter(&sent).len()), (16, 16));
        assert_eq!(to.vector(), donor.vector());
        for number in 0..310 {
            assert!(is_proven(to, number).await, "{number}");
        }
        drop(joiner);
        assert_eq!(to.drop_bundles().await.unwrap(), 0);
    }
    for store in [donor, middle, last] {
        close(store).await;
    }
}

/// The bundles of the page came with a log that is then replaced by another history.
#[tokio::test]
async fn a_bundle_that_gives_way_in_the_log_is_kept_for_its_records() {
    let (store, helper) = (open(&signing(ram("one"))).await, open(&signing(ram("helper"))).await);
    let two = TestOrigin::new(origin("two", 1));
    let unpublish = |number| vec![entry(1, key(number), &Operation::Unpublish, None)];
    let (one, other) = (two.sign(0, unpublish(1)), two.sign(0, unpublish(2)));
    take(&helper, one.clone()).await.unwrap();
    let state = helper.get(key(1)).await.unwrap().unwrap();
    store.import_log(Segment::check(one).unwrap()).await.unwrap();
    store.join(Page { bundles: Vec::new(), ..carried(&helper, vec![(key(1), state)]).await }).await.unwrap();
    assert!(is_proven(&store, 1).await, "by the bundle in the log");
    take(&store, other).await.unwrap();
    assert!(is_proven(&store, 1).await && is_proven(&store, 2).await);
    assert_eq!(store.drop_bundles().await.unwrap(), 0);
    assert_eq!(log_of(&store, two.origin, 10).await.len(), 1);
    close(store).await;
    close(helper).await;
}

#[tokio::test]
async fn a_bundle_stays_for_an_entry_in_quarantine() {
    let store = open(&signing(ram("one"))).await;
    let later = TestOrigin::new(origin("later-version", 1));
    let cannot = later.sign(0, vec![poison(1, key(1))]);
    let segment = Segment::check(cannot.clone()).unwrap();
    let tip = segment.proof.unwrap().bundles()[0];
    let id = BundleId::of(later.origin, &tip);
    take(&store, cannot).await.unwrap();
    store.compact(&store.vector()).await.unwrap();
    assert_eq!(store.drop_bundles().await.unwrap(), 0);
    assert!(store.leaves(&id).unwrap().is_some());
    assert!(store.drop_quarantined(Stamp { origin: later.origin, clock: Clock(1) }).await.unwrap());
    assert_eq!(store.drop_bundles().await.unwrap(), 1);
    assert_eq!(store.leaves(&id).unwrap(), None);
    close(store).await;
}

/// What a peer sends beside states is looked at only as far as these name it.
#[tokio::test]
async fn bundles_that_no_state_names_are_not_taken() {
    let (donor, puller) = (open(&signing(ram("donor"))).await, open(&signing(ram("puller"))).await);
    created(&donor, new_record(key(1), b"g")).await;
    created(&donor, new_record(key(2), b"g")).await;
    compact(&donor).await;
    let mut joiner = Joiner::new(puller.clone(), node_id("donor"), Terms::default(), Some(strict(&puller)));
    let mut feed = SnapshotFeed::begin(donor.clone(), joiner.request()).unwrap();
    while let Some(mut message) = feed.next().await.unwrap() {
        if let Some(Message::Records(page)) = &mut message.message {
            page.records.truncate(1);
        }
        joiner.take(message).await.unwrap();
    }
    let mut here = 0;
    for number in 1..3 {
        for id in named(&donor, number).await {
            here += usize::from(puller.leaves(&id).unwrap().is_some());
        }
    }
    assert_eq!(here, 1);
    // Nor is one that its origin has not signed.
    let state = donor.get(key(1)).await.unwrap().unwrap();
    let mut leaves: Vec<proto::Leaves> = donor.bundles_of([&state]).await.unwrap();
    let mut forged = leaves[0].signed.to_vec();
    forged[0] ^= 1;
    leaves[0].signed = forged.into();
    let named = brock::transfer::bundles::named(&leaves, [&state]);
    assert_eq!(named.len(), 1, "the signature is not what it is named by");
    assert_eq!(strict(&puller).take_bundles(named, &mut Bundles::default()), Vec::new());
    close(donor).await;
    close(puller).await;
}

/// The hash of two operations together can be shown as that of one: the same root, and another bundle.
#[tokio::test]
async fn a_bundle_with_the_same_root_does_not_take_the_place_of_another() {
    let (donor, store) = (open(&signing(ram("donor"))).await, open(&signing(ram("one"))).await);
    let own = TestOrigin::new(origin("hostile", 1));
    let unpublish = |clock| entry(clock, key(clock), &Operation::Unpublish, None);
    take(&donor, own.sign(0, vec![unpublish(1), unpublish(2)])).await.unwrap();
    let mut states = Vec::new();
    for number in 1..3 {
        states.push((key(number), donor.get(key(number)).await.unwrap().unwrap()));
    }
    let page = carried(&donor, states).await;
    let genuine = page.bundles[0].1.clone();
    store.join(page).await.unwrap();
    let mut other = genuine.to_proto(own.origin);
    other.first = 2;
    other.signed = [&other.signed[..96], &genuine.tip().root].concat().into();
    let (_, other) = Leaves::from_proto(&other).unwrap();
    assert_eq!((other.tip().root, other.tip().bundle.count), (genuine.tip().root, 1));
    let bundles = vec![(own.origin, other)];
    store.join(Page { states: Vec::new(), bundles, complete: None }).await.unwrap();
    assert!(is_proven(&store, 1).await && is_proven(&store, 2).await);
    close(store).await;
    close(donor).await;
}
