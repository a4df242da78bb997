//! Origins state with a time how far their logs go: what is missing shows, and so does the peer that keeps it back.

use std::sync::Arc;

use crate::harness::{
    certs::Certs,
    eventually,
    fake_peer::{FakePeer, Script},
    free_port,
    identity::{TestIdentity, TestOrigin},
    node::{TestNode, config},
    random_key,
    store::{NOW, created, creation, entry, key, new_record, node_id, payload, ram},
    wire::{at, create, origin},
};
use brock::{
    config::validate::Config,
    store::{Options, Store},
    transfer::proof::Verifier,
};
use brock_core::{
    base::{
        id::ClusterId,
        limits,
        time::unix_now,
        trust::TrustMode,
        vector::{Clock, Vector},
    },
    domain::{birth::SignedBirth, head::Head, segment::Segment},
    proto::{self, OriginHead},
};

fn strict(certs: &Certs, id: &str, port: u16, join: &[u16]) -> Config {
    Config { trust: TrustMode::Distributed, ..config(certs, id, port, join) }
}

async fn heads(node: &TestNode) -> Vec<OriginHead> {
    node.admin.status().await.trust.unwrap().heads
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_keeps_a_log_back_is_named_and_a_quiet_origin_is_not() {
    let certs = Certs::new();
    let now_ms = unix_now().unsigned_abs() * 1000;
    let (silenced, quiet) = (
        TestOrigin::certified(&certs, origin("silenced", 1)),
        TestOrigin::certified(&certs, origin("quiet", 1)),
    );
    let one =
        |own: &TestOrigin, after: u64| own.sign(after, vec![create(after + 1, &random_key(), b"grant")]);
    let (first, second, only) = (one(&silenced, 0), one(&silenced, 1), one(&quiet, 0));
    let signed = [silenced.head(&second, now_ms), quiet.head(&only, now_ms - 3_600_000)];
    let signed: Vec<_> = signed.iter().map(Head::to_proto).collect();
    let claims =
        |clock| -> Vector { at(silenced.origin, clock).iter().chain(at(quiet.origin, 1).iter()).collect() };
    // It claims to have both operations, and sends the first.
    let script = |id: &str, clock| Script {
        heads: claims(clock),
        batches: vec![first.clone(), only.clone()],
        signed: signed.clone(),
        ..Script::new(id)
    };
    let liar = FakePeer::start(&certs, "liar", script("liar", 2)).await;
    let honest = FakePeer::start(&certs, "honest", script("honest", 1)).await;
    let victim =
        TestNode::start(&certs, strict(&certs, "victim", free_port(), &[liar.port, honest.port])).await;
    let liar_address = format!("127.0.0.1:{}", liar.port);
    let of = |heads: Vec<OriginHead>, own: &TestOrigin| {
        heads.into_iter().find(|head| head.origin == own.origin.as_bytes().as_slice())
    };
    let named = eventually("the liar is named", || async {
        of(heads(&victim).await, &silenced).filter(|head| !head.withheld_by.is_empty())
    })
    .await;
    assert_eq!((named.clock, named.lacking, named.at_unix_ms), (2, 1, now_ms));
    assert_eq!(named.withheld_by, std::slice::from_ref(&liar_address));
    assert!(named.lacking_seconds >= limits::HEAD_PATIENCE.as_secs(), "{named:?}");
    let known = || async { of(heads(&victim).await, &quiet) };
    let is_quiet = eventually("the quiet origin's head is known", known).await;
    assert_eq!((is_quiet.clock, is_quiet.lacking, is_quiet.withheld_by.len()), (1, 0, 0));
    let alarm = eventually("an alarm names it", || async {
        let alarms = victim.admin.status().await.alarms;
        let about = |text: &str| text.contains("keeps back 1 operations");
        let found: Vec<_> = alarms.into_iter().filter(|alarm| about(&alarm.text)).collect();
        (!found.is_empty()).then_some(found)
    })
    .await;
    assert_eq!(alarm.len(), 1);
    assert_eq!(alarm[0].source, liar_address, "{alarm:?}");
    let view = victim.admin.admin.clone().cluster(proto::ClusterRequest::default()).await.unwrap();
    let findings = view.into_inner().verdict.unwrap().findings;
    assert!(findings.iter().any(|finding| finding.what.contains("it lacks 1 operations")), "{findings:?}");
    victim.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_travels_over_a_relay_and_says_when_the_origin_has_written_last() {
    let certs = Certs::new();
    let begun = unix_now().unsigned_abs() * 1000;
    let writer = TestNode::start(&certs, strict(&certs, "writer", free_port(), &[])).await;
    let relay = TestNode::start(&certs, strict(&certs, "relay", free_port(), &[writer.port])).await;
    let reader = TestNode::start(&certs, strict(&certs, "reader", free_port(), &[relay.port])).await;
    writer.client.put(&random_key(), b"grant").await.unwrap();
    let own = writer.node.store().origin();
    let head = eventually("the reader knows the head", || async {
        heads(&reader).await.into_iter().find(|head| head.origin == own.as_bytes().as_slice())
    })
    .await;
    assert_eq!((head.clock, head.lacking), (1, 0));
    assert!((begun..=begun + 60_000).contains(&head.at_unix_ms), "{head:?}");
    for node in [reader, relay, writer] {
        node.stop().await;
    }
}

fn signing(options: Options) -> Options {
    Options { identity: Some(Arc::new(TestIdentity::new(options.node_id.clone()))), ..options }
}

fn verifier(store: &Store) -> Verifier {
    Verifier::new(store.clone(), TrustMode::Distributed, None)
}

fn step(own: &TestOrigin, after: u64, number: u64) -> proto::Batch {
    own.sign(after, vec![write(after + 1, number)])
}

fn write(clock: u64, number: u64) -> proto::Entry {
    let grant = payload(b"g");
    entry(clock, key(number), &creation(NOW, &grant), Some(&grant))
}

async fn deliver(store: &Store, batch: proto::Batch) {
    let segment = verifier(store).check_segment(&node_id("relay"), Segment::check(batch).unwrap()).unwrap();
    let _ = store.apply(segment).await;
}

async fn told(store: &Store, heads: &[Head]) -> usize {
    verifier(store).take_heads(heads.iter().map(Head::to_proto).collect(), NOW_MS).await.unwrap()
}

const NOW_MS: u64 = NOW.unsigned_abs() * 1000;

#[tokio::test]
async fn only_genuine_heads_that_go_further_are_taken_and_nothing_behind_a_forged_one() {
    let store = Store::open(&signing(ram("here"))).unwrap();
    let (own, other) = (TestOrigin::new(origin("own", 1)), TestOrigin::new(origin("other", 1)));
    let (first, second, third) = (step(&own, 0, 1), step(&own, 1, 2), step(&own, 2, 3));
    let genuine = own.head(&second, NOW_MS);
    assert_eq!(told(&store, &[genuine]).await, 0);
    assert_eq!(store.head(&own.origin), None, "its birth is not known");
    deliver(&store, first.clone()).await;
    let of_other = step(&other, 0, 9);
    store
        .keep_births(vec![SignedBirth::from_proto(other.birth()).unwrap()], &Vector::default())
        .await
        .unwrap();

    let late = NOW_MS + limits::CLOCK_SKEW_MAX_SECONDS * 1000;
    let forged = Head { signature: [1; 64], ..genuine };
    let foreign = own.head_in(&ClusterId::of("another"), &second, NOW_MS);
    for refused in [forged, foreign, own.head(&second, late + 1), Head { at_unix_ms: NOW_MS + 1, ..genuine }]
    {
        assert_eq!(told(&store, &[refused]).await, 1, "{refused:?}");
        assert_eq!(store.head(&own.origin), None);
    }
    let behind = other.head(&of_other, NOW_MS);
    assert_eq!(told(&store, &[forged, behind]).await, 1);
    assert_eq!(store.head(&other.origin), None, "nothing behind a forged one is verified");
    assert_eq!(told(&store, &[genuine, behind, forged]).await, 0, "what is known is not verified again");
    assert_eq!((store.head(&own.origin), store.head(&other.origin)), (Some(genuine), Some(behind)));
    assert_eq!(told(&store, &[own.head(&first, late)]).await, 0);
    assert_eq!(store.head(&own.origin), Some(genuine), "an older one says nothing");
    let many = vec![genuine; limits::HEADS_MAX + 1];
    assert_eq!(told(&store, &many).await, 1, "more than a message has");

    // What is lacking, until it comes.
    let lacking = store.lacking();
    let found = lacking.iter().find(|lacking| lacking.head == genuine).unwrap();
    assert_eq!((found.applied, lacking.len()), (Clock(1), 2));
    let latest = own.head(&third, late);
    assert_eq!(told(&store, &[latest]).await, 0);
    let still = store.lacking().into_iter().find(|lacking| lacking.head == latest).unwrap();
    assert_eq!(still.since, found.since, "a newer head is no progress");
    deliver(&store, second).await;
    deliver(&store, third).await;
    assert_eq!(told(&store, &[]).await, 0);
    assert!(store.lacking().iter().all(|lacking| lacking.head == behind));
    assert!(store.forks().is_empty());
}

#[tokio::test]
async fn a_head_of_another_history_freezes_its_origin_whether_the_log_or_the_head_comes_first() {
    let (first, one, other) = (1, 2, 3);
    let kinds = ["the log first", "the head first", "two heads", "a log that ends before the head"];
    for kind in kinds {
        let store = Store::open(&signing(ram("here"))).unwrap();
        let own = TestOrigin::new(origin("two", 1));
        let (begin, here) = (step(&own, 0, first), step(&own, 1, one));
        let there = step(&own, 1, other);
        let (head_here, head_there) = (own.head(&here, NOW_MS), own.head(&there, NOW_MS + 1));
        deliver(&store, begin).await;
        match kind {
            "the log first" => {
                deliver(&store, here).await;
                assert_eq!(told(&store, &[head_there]).await, 0);
            }
            "the head first" => {
                assert_eq!(told(&store, &[head_there]).await, 0);
                deliver(&store, here).await;
                assert_eq!(told(&store, &[]).await, 0);
            }
            "a log that ends before the head" => {
                let both = own.sign(1, [2, 3].map(|clock| write(clock, other)).to_vec());
                assert_eq!(told(&store, &[own.head(&both, NOW_MS)]).await, 0);
                deliver(&store, here).await;
                assert_eq!(told(&store, &[]).await, 0);
            }
            _ => {
                let longer = step(&own, 2, 4);
                // The bundle behind `there` states what is before it.
                assert_eq!(told(&store, &[head_here]).await, 0);
                assert_eq!(told(&store, &[own.head(&longer, NOW_MS + 2)]).await, 0);
            }
        }
        assert!(store.is_frozen(&own.origin), "{kind}");
        // The proof stands by itself.
        let elsewhere = Store::open(&signing(ram("elsewhere"))).unwrap();
        let proofs = store.forks().iter().map(|fork| fork.to_proto()).collect();
        assert_eq!(verifier(&elsewhere).take_forks(proofs).await.unwrap(), 0);
        assert!(elsewhere.is_frozen(&own.origin), "{kind}");
    }
}

#[tokio::test]
async fn a_node_signs_a_head_when_its_log_has_grown_and_not_at_each_write() {
    let store = Store::open(&signing(ram("writer"))).unwrap();
    let own = store.origin();
    store.sign_head(NOW_MS);
    assert_eq!(store.head(&own), None, "it has written nothing");
    created(&store, new_record(key(1), b"g")).await;
    store.sign_head(NOW_MS);
    let head = store.head(&own).unwrap();
    let reader = Store::open(&signing(ram("reader"))).unwrap();
    let birth = store.birth(own).await.unwrap().unwrap();
    reader.keep_births(vec![SignedBirth::from_proto(birth).unwrap()], &Vector::default()).await.unwrap();
    assert_eq!((told(&reader, &[head]).await, reader.head(&own)), (0, Some(head)), "it is genuine");
    created(&store, new_record(key(2), b"g")).await;
    store.sign_head(NOW_MS + 1);
    assert_eq!(store.head(&own), Some(head), "too soon");
    let (sent, number) = store.heads_after(0);
    assert_eq!((sent, store.heads_after(number).0), (vec![head], vec![]), "a stream carries it once");
    let later = NOW_MS + u64::try_from(limits::HEAD_INTERVAL.as_millis()).unwrap();
    store.sign_head(later - 1);
    assert_eq!(store.head(&own), Some(head), "still too soon");
    store.sign_head(later);
    store.sign_head(later + 1);
    let (sent, number) = store.heads_after(number);
    let signed = |sent: &[Head]| sent.iter().map(|head| (head.clock(), head.at_unix_ms)).collect::<Vec<_>>();
    assert_eq!(signed(&sent), [(Clock(2), later)], "once");
    created(&store, new_record(key(3), b"g")).await;
    store.sign_head(NOW_MS - 3_600_000);
    assert_eq!(
        signed(&store.heads_after(number).0),
        [(Clock(3), NOW_MS - 3_600_000)],
        "its clock was set back"
    );
}
