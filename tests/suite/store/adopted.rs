//! How far logs go on a donor's word, and which last bundle they have then.

use std::sync::{Arc, Mutex};

use crate::harness::{
    identity::{TestOrigin, signing, strict, take, trusting},
    snapshot::{end, header, page},
    store::{
        NOW, close, create, creation, entry, key, new_record, node_id, open, options, origin, payload, ram,
    },
};
use brock::{
    store::{Store, StoreError},
    transfer::{
        dump,
        feed::SnapshotFeed,
        join::{JoinError, Joiner, Terms},
        proof::Verifier,
    },
};
use brock_core::{
    base::{
        id::Origin,
        vector::{Clock, Vector},
    },
    domain::{bundle::Tip, codec},
    proto::{self, backup_frame::Frame, snapshot_response::Message},
};

fn step(own: &TestOrigin, after: u64) -> proto::Batch {
    let grant = payload(b"g");
    own.sign(after, vec![entry(after + 1, key(after), &creation(NOW, &grant), Some(&grant))])
}

fn vector(clocks: &[(Origin, u64)]) -> Vector {
    clocks.iter().map(|(origin, clock)| (*origin, Clock(*clock))).collect()
}

/// What the messages of a donor say, before a puller takes them.
struct Said<'a> {
    vector: &'a Vector,
    folds: &'a Vector,
    shows_tips: bool,
    present: Vec<Origin>,
}

async fn fill(
    store: &Store,
    donor: &Store,
    verifier: Option<Verifier>,
    said: Said<'_>,
) -> Result<(), JoinError> {
    let terms = Terms { present: said.present, ..Terms::default() };
    let mut joiner = Joiner::new(store.clone(), donor.node_id().clone(), terms, verifier);
    let mut feed = SnapshotFeed::begin(donor.clone(), joiner.request()).unwrap();
    while let Some(mut message) = feed.next().await.unwrap() {
        match message.message.as_mut().unwrap() {
            Message::Header(header) => {
                header.vector = Some(codec::vector_to_proto(said.vector));
                header.folds = Some(codec::folds_to_proto(said.folds));
            }
            Message::Births(births) if !said.shows_tips => births.tips.clear(),
            _ => {}
        }
        joiner.take(message).await?;
    }
    Ok(())
}

#[tokio::test]
async fn only_clocks_that_origins_have_signed_are_adopted_where_they_must_be() {
    let (honest, unborn, past) = (origin("honest", 1), origin("unborn", 1), origin("honest", 7));
    let none = || vector(&[]);
    // The vector and the folds that are said, the logs that are written to now, and what a node adopts that believes
    // only what is proven, and one that does not.
    let cases = [
        (vector(&[(honest, 2)]), none(), vec![honest], vector(&[(honest, 2)]), vector(&[(honest, 2)])),
        // It went on behind its fold.
        (
            vector(&[(honest, 2)]),
            vector(&[(honest, 1)]),
            vec![],
            vector(&[(honest, 2)]),
            vector(&[(honest, 2)]),
        ),
        // Within a bundle, perhaps.
        (vector(&[(honest, 1)]), none(), vec![honest], none(), none()),
        (vector(&[(past, 4)]), none(), vec![], none(), none()),
        (vector(&[(honest, 9)]), none(), vec![honest], none(), none()),
        (vector(&[(honest, 9)]), none(), vec![], none(), none()),
        (none(), vector(&[(honest, 9)]), vec![honest], none(), none()),
        (none(), vector(&[(honest, 9)]), vec![], none(), none()),
        // Of a log without signatures, a strict node takes nothing: what of it is left is bookkeeping.
        (vector(&[(unborn, 3)]), none(), vec![], vector(&[(unborn, 3)]), vector(&[(unborn, 3)])),
        (vector(&[(unborn, 3)]), none(), vec![unborn], none(), vector(&[(unborn, 3)])),
        // The next incarnation has stated where this one ended.
        (vector(&[(past, 5)]), none(), vec![], vector(&[(past, 5)]), vector(&[(past, 5)])),
        (vector(&[(past, 6)]), none(), vec![], none(), none()),
    ];
    for (said, folds, present, by_strict, by_trusting) in cases {
        for (is_strict, expected) in [(true, by_strict), (false, by_trusting)] {
            let (store, donor) = (open(&signing(ram("one"))).await, open(&signing(ram("donor"))).await);
            let own = TestOrigin::new(honest);
            take(&donor, step(&own, 0)).await.unwrap();
            take(&donor, step(&own, 1)).await.unwrap();
            donor.compact(&donor.vector()).await.unwrap();
            let ended = TestOrigin::new(past);
            let next = TestOrigin::after(origin("honest", 8), ended.stamp(5));
            for birth in [ended.birth(), next.birth()] {
                strict(&donor).learn(vec![birth], &Vector::default()).await.unwrap();
            }
            let verifier = if is_strict { strict(&store) } else { trusting(&store) };
            let said = Said { vector: &said, folds: &folds, shows_tips: true, present: present.clone() };
            let claimed = format!("{:?} {:?} {present:?} {is_strict}", said.vector, said.folds);
            let filled = fill(&store, &donor, Some(verifier), said).await;
            assert_eq!(store.applied(), expected, "{claimed}");
            assert_eq!(matches!(filled, Err(JoinError::Unsigned(_))), expected.is_empty(), "{claimed}");
            assert_eq!(store.records(), 2, "{claimed}: the rest is taken");
            close(store).await;
            close(donor).await;
        }
    }
}

/// While a snapshot is sent, its donor may list an origin again that it had folded when that began.
#[tokio::test]
async fn a_fold_is_adopted_though_the_log_has_gone_on_behind_it() {
    let (store, donor) = (open(&signing(ram("one"))).await, open(&signing(ram("donor"))).await);
    let own = TestOrigin::new(origin("honest", 1));
    let folded = vector(&[(own.origin, 1)]);
    take(&donor, step(&own, 0)).await.unwrap();
    donor.compact(&donor.vector()).await.unwrap();
    assert!(donor.fold(own.origin).await.unwrap());
    take(&donor, step(&own, 1)).await.unwrap();
    donor.compact(&donor.vector()).await.unwrap();
    assert_eq!((donor.folds(), donor.clock(&own.origin)), (folded.clone(), Clock(2)));
    let said = Said { vector: &vector(&[]), folds: &folded, shows_tips: true, present: vec![] };
    fill(&store, &donor, Some(strict(&store)), said).await.unwrap();
    assert_eq!(store.folds(), folded);
    close(store).await;
    close(donor).await;
}

/// Nothing else would heal a node that has believed too much: it would skip what the origin does next.
#[tokio::test]
async fn a_donors_claim_is_retracted_when_the_birth_comes_that_it_has_hidden() {
    let home = tempfile::tempdir().unwrap();
    let at_home = signing(options(home.path()));
    for is_folded in [false, true] {
        for by_log in [false, true] {
            let (store, donor) = (open(&at_home).await, open(&signing(ram("donor"))).await);
            let own = TestOrigin::new(origin("honest", u32::from(is_folded) * 2 + u32::from(by_log)));
            let claimed = vector(&[(own.origin, 9)]);
            let (listed, folds) = if is_folded { (vector(&[]), claimed) } else { (claimed, vector(&[])) };
            let said = Said { vector: &listed, folds: &folds, shows_tips: false, present: vec![] };
            fill(&store, &donor, Some(strict(&store)), said).await.unwrap();
            assert_eq!(store.applied().get(&own.origin), Clock(9));
            let log = step(&own, 0);
            match by_log {
                true => take(&store, log.clone()).await.unwrap(),
                false => strict(&store).learn(vec![own.birth()], &Vector::default()).await.unwrap(),
            }
            assert!(
                store.born(&own.origin).is_some() && !store.applied().lists(&own.origin),
                "{is_folded} {by_log}"
            );
            close(store).await;
            let store = open(&at_home).await;
            assert!(!store.applied().lists(&own.origin), "after a restart");
            take(&store, log).await.unwrap();
            assert_eq!(store.clock(&own.origin), Clock(1));
            close(store).await;
            close(donor).await;
        }
    }
    // What was confirmed, or applied, stays: a thief could be born as an incarnation that never signed.
    let (store, donor) = (open(&at_home).await, open(&signing(ram("donor"))).await);
    let past = TestOrigin::new(origin("past", 1));
    let claimed = vector(&[(past.origin, 9)]);
    let said = Said { vector: &claimed, folds: &vector(&[]), shows_tips: false, present: vec![] };
    fill(&store, &donor, Some(strict(&store)), said).await.unwrap();
    let fills = store.unconfirmed_fills();
    store.confirm_fills(fills).await.unwrap();
    strict(&store).learn(vec![past.birth()], &Vector::default()).await.unwrap();
    assert_eq!(store.clock(&past.origin), Clock(9));
    close(store).await;
    close(donor).await;
}

/// A log whose last bundle is not known is followed without being compared.
#[tokio::test]
async fn the_last_bundle_of_a_log_is_learnt_from_what_others_show() {
    let donor = open(&signing(ram("donor"))).await;
    let own = TestOrigin::new(origin("two", 1));
    let batches = [step(&own, 0), step(&own, 1)];
    let head = own.head(&batches[1], 5);
    for batch in batches {
        take(&donor, batch).await.unwrap();
    }
    let genuine = donor.tip(&own.origin).unwrap();
    let shown = |tip: Tip| vec![tip.of_origin(&own.origin)];
    for by_head in [true, false] {
        let store = open(&signing(ram("one"))).await;
        let said =
            Said { vector: &donor.vector(), folds: &Vector::default(), shows_tips: false, present: vec![] };
        // As a backup of before: it shows no log either, so nothing says which bundle is the last.
        donor.compact(&donor.vector()).await.unwrap();
        fill(&store, &donor, None, said).await.unwrap();
        assert_eq!((store.clock(&own.origin), store.tip(&own.origin)), (Clock(2), None));
        let verifier = strict(&store);
        let forged = Tip { root: [7; 32], ..genuine };
        assert_eq!(verifier.compare_tips(shown(forged)).await.unwrap(), 1);
        assert_eq!(store.tip(&own.origin), None);
        let refused = match by_head {
            true => verifier.take_heads(vec![head.to_proto()], 5).await.unwrap(),
            false => verifier.compare_tips(shown(genuine)).await.unwrap(),
        };
        assert_eq!((refused, store.tip(&own.origin)), (0, Some(genuine)), "by a head: {by_head}");
        close(store).await;
    }
    close(donor).await;
}

#[tokio::test]
async fn a_backup_knows_the_last_bundles() {
    let donor = open(&signing(ram("donor"))).await;
    let own = TestOrigin::new(origin("two", 1));
    take(&donor, step(&own, 0)).await.unwrap();
    create(&donor, new_record(key(9), b"g")).await;
    donor.compact(&donor.vector()).await.unwrap();
    let store = restored(&donor).await;
    for origin in [own.origin, donor.origin()] {
        assert!(store.tip(&origin).is_some() && store.tip(&origin) == donor.tip(&origin), "{origin}");
    }
    close(store).await;
    close(donor).await;
}

/// Bundles of these sizes, one behind the other.
fn bundles(own: &TestOrigin, sizes: &[u64]) -> Vec<proto::Batch> {
    let mut after = 0;
    let mut bundle = |size: &u64| {
        let grant = payload(b"g");
        let create = |clock: u64| entry(clock, key(clock), &creation(NOW, &grant), Some(&grant));
        let batch = own.sign(after, (after + 1..=after + size).map(create).collect());
        after += size;
        batch
    };
    sizes.iter().map(&mut bundle).collect()
}

/// What a liar says in a snapshot, as far as it is taken.
async fn says(store: &Store, verifier: Verifier, messages: Vec<Message>) -> Result<(), JoinError> {
    let mut joiner = Joiner::new(store.clone(), node_id("liar"), Terms::default(), Some(verifier));
    for message in messages {
        joiner.take(proto::SnapshotResponse { message: Some(message) }).await?;
    }
    Ok(())
}

fn log(batch: &proto::Batch) -> Message {
    Message::Log(proto::LogPage { batch: Some(batch.clone()) })
}

/// All that a donor reads of a log, and a backup.
async fn is_readable(store: &Store, origin: Origin) {
    let through = store.clock(&origin);
    match store.changes_since(origin, Clock(0), 1000).await {
        Ok(_) | Err(StoreError::BelowFloor { .. }) => {}
        Err(error) => panic!("{error}"),
    }
    store.retained_log(origin, Clock(0), through).await.unwrap();
    store.compact(&[(origin, through)].into_iter().collect()).await.unwrap();
    close(restored(store).await).await;
}

/// A full backup, restored.
async fn restored(donor: &Store) -> Store {
    let store = open(&signing(ram("restored"))).await;
    let frames = Arc::new(Mutex::new(Vec::new()));
    let (of, to) = (donor.clone(), Arc::clone(&frames));
    let dumping = tokio::task::spawn_blocking(move || {
        dump::frames(&of, None, |frame| {
            to.lock().unwrap().push(frame);
            true
        })
    });
    dumping.await.unwrap().unwrap();
    let frames = std::mem::take(&mut *frames.lock().unwrap());
    let mut joiner = Joiner::new(store.clone(), donor.node_id().clone(), Terms::own_backup(), None);
    for frame in frames {
        let Some(Frame::Snapshot(message)) = frame.frame else { panic!("it is a full backup") };
        joiner.take(message).await.unwrap();
    }
    store
}

/// A node whose log cannot be read helps no other, and has no backup.
#[tokio::test]
async fn whatever_a_donor_sends_of_its_log_what_is_adopted_can_be_read() {
    let own = || TestOrigin::new(origin("liar", 1));
    let claims = |own: &TestOrigin, clock| header("liar", &vector(&[(own.origin, clock)]), &vector(&[]), 0);
    let births = |own: &TestOrigin, tips: Vec<proto::OriginTip>| {
        Message::Births(proto::Births { births: vec![own.birth()], tips })
    };
    let records = || page(Vec::new(), 0xff, None);

    // The pages of two snapshots overlap: of the bundle that both would need, each has a half.
    let store = open(&signing(ram("one"))).await;
    let liar = own();
    let (first, other) = (bundles(&liar, &[4]), bundles(&liar, &[2, 4]));
    let begun = vec![claims(&liar, 6), births(&liar, vec![]), records(), log(&first[0])];
    says(&store, strict(&store), begun).await.unwrap();
    let again = vec![claims(&liar, 6), births(&liar, vec![]), records(), log(&other[1]), end(None)];
    says(&store, strict(&store), again).await.unwrap();
    assert_eq!((store.clock(&liar.origin), store.floors().get(&liar.origin)), (Clock(6), Clock(2)));
    is_readable(&store, liar.origin).await;
    close(store).await;

    // A log without signatures, whose birth comes behind it.
    let store = open(&signing(ram("one"))).await;
    let liar = own();
    let signed = bundles(&liar, &[3]).remove(0);
    let tip = Tip { ..liar.head(&signed, 1).tip };
    let unsigned =
        proto::Batch { birth: None, bundles: Vec::new(), chain: Default::default(), ..signed.clone() };
    let messages = vec![
        claims(&liar, 3),
        records(),
        log(&unsigned),
        births(&liar, vec![tip.of_origin(&liar.origin)]),
        end(None),
    ];
    says(&store, trusting(&store), messages).await.unwrap();
    assert_eq!((store.clock(&liar.origin), store.floors().get(&liar.origin)), (Clock(3), Clock(3)));
    is_readable(&store, liar.origin).await;
    close(store).await;

    // A clock within a bundle, of an origin whose birth is hidden.
    for is_confirmed in [false, true] {
        let store = open(&signing(ram("one"))).await;
        let liar = own();
        let all = bundles(&liar, &[4, 2]);
        says(&store, strict(&store), vec![claims(&liar, 2), records(), end(None)]).await.unwrap();
        assert_eq!(store.clock(&liar.origin), Clock(2));
        if is_confirmed {
            store.confirm_fills(store.unconfirmed_fills()).await.unwrap();
        }
        for batch in [&all[0], &all[0], &all[1]] {
            take(&store, batch.clone()).await.unwrap();
        }
        let floor = if is_confirmed { 4 } else { 0 };
        assert_eq!((store.clock(&liar.origin).0, store.floors().get(&liar.origin).0), (6, floor));
        for number in 1..=6 {
            let is_here = store.get(key(number)).await.unwrap().is_some();
            assert_eq!(is_here, !is_confirmed || number > 2, "{number}");
        }
        is_readable(&store, liar.origin).await;
        close(store).await;
    }
}
