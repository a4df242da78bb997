//! Relays that pass on a signed log as no origin has signed it: with bundles of several operations that they cut, join
//! and empty, and behind the genuine log that a node has taken already.

use crate::harness::{
    certs::Certs,
    client::put_request,
    eventually,
    fake_peer::{FakePeer, Script},
    free_port,
    identity::{Hand, TestOrigin},
    node::{TestNode, config},
    proxy::{Mode, Proxy},
    random_key,
    wire::{create, key_hash, origin, payload},
};
use brock::config::validate::Config;
use brock_core::{
    base::{
        claims::ClaimKind,
        time::unix_now,
        trust::TrustMode,
        vector::{Clock, Vector},
    },
    domain::codec::state_to_proto,
    proto,
};
use bytes::Bytes;
use tonic::Code;

async fn node(certs: &Certs, mode: TrustMode, id: &str, join: &[u16]) -> TestNode {
    TestNode::start(certs, Config { trust: mode, ..config(certs, id, free_port(), join) }).await
}

/// Two bundles of five operations each; no two grants are equal, and all are equally long.
async fn log_of_bundles(writer: &TestNode, keys: &[Vec<u8>]) -> proto::Batch {
    for (half, keys) in keys.chunks(5).enumerate() {
        let put = |(i, key): (usize, &Vec<u8>)| put_request(key, format!("grant-{half}-{i}").as_bytes());
        let items = keys.iter().enumerate().map(put).collect();
        writer.client.kv.clone().batch_put(proto::BatchPutRequest { items }).await.unwrap();
    }
    let store = writer.node.store();
    let log = store.changes_since(store.origin(), Clock(0), 1000).await.unwrap().unwrap().batch;
    assert_eq!(log.bundles.iter().map(|bundle| bundle.count).collect::<Vec<_>>(), [5, 5]);
    proto::Batch { birth: store.birth(store.origin()).await.unwrap(), ..log }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_can_cut_and_join_no_bundles_and_put_no_other_payload_into_them() {
    let certs = Certs::new();
    let writer = node(&certs, TrustMode::Distributed, "writer", &[]).await;
    let other = node(&certs, TrustMode::Distributed, "other", &[]).await;
    let keys: Vec<Vec<u8>> = (0..10).map(|_| random_key()).collect();
    let genuine = log_of_bundles(&writer, &keys).await;
    let others = log_of_bundles(&other, &(0..10).map(|_| random_key()).collect::<Vec<_>>()).await;
    let altered = |change: &dyn Fn(&mut proto::Batch)| {
        let mut batch = genuine.clone();
        change(&mut batch);
        batch
    };
    let shorten = |batch: &mut proto::Batch| {
        batch.entries.truncate(8);
        batch.covered_through = 8;
    };
    let skip = |batch: &mut proto::Batch| {
        batch.entries.drain(..2);
        batch.after = 2;
    };
    let lies = [
        ("cut inside the last bundle", altered(&shorten)),
        (
            "the same, called a shorter bundle",
            altered(&|batch| {
                shorten(batch);
                batch.bundles[1].count = 3;
            }),
        ),
        ("cut inside the first bundle", altered(&skip)),
        (
            "the same, called a shorter bundle",
            altered(&|batch| {
                skip(batch);
                batch.bundles[0].count = 3;
            }),
        ),
        (
            "two bundles as one",
            altered(&|batch| {
                batch.bundles[0].count = 10;
                batch.bundles.truncate(1);
            }),
        ),
        (
            "a bundle split at another place",
            altered(&|batch| (batch.bundles[0].count, batch.bundles[1].count) = (4, 6)),
        ),
        (
            "another origin's bundle behind it",
            altered(&|batch| {
                let spliced = others.entries[..5].iter().cloned();
                batch.entries.extend(spliced.map(|entry| proto::Entry { clock: entry.clock + 10, ..entry }));
                batch.bundles.push(others.bundles[0].clone());
                batch.covered_through = 15;
            }),
        ),
        (
            "another origin's bundle in place of the second",
            altered(&|batch| {
                batch.entries.splice(5.., others.entries[5..].iter().cloned());
                batch.bundles[1] = others.bundles[1].clone();
            }),
        ),
        ("another origin's birth", altered(&|batch| batch.birth.clone_from(&others.birth))),
        (
            "the whole log of another origin, in this one's name",
            proto::Batch { origin: genuine.origin.clone(), birth: genuine.birth.clone(), ..others.clone() },
        ),
        (
            "another payload of the same length",
            altered(&|batch| batch.entries[6].payload.clone_from(&genuine.entries[7].payload)),
        ),
    ];
    let mut relays = Vec::new();
    for (number, (_, lie)) in lies.iter().enumerate() {
        let id = format!("relay-{number}");
        let script = Script { batches: vec![lie.clone()], ..Script::new(&id) };
        relays.push(FakePeer::start(&certs, &id, script).await);
    }
    let ports: Vec<u16> = relays.iter().map(|relay| relay.port).collect();
    let victim = node(&certs, TrustMode::Distributed, "victim", &ports).await;
    for (relay, (what, _)) in relays.iter().zip(&lies) {
        eventually(&format!("it is refused: {what}"), || async {
            (relay.refused(ClaimKind::Forged) + relay.refused(ClaimKind::Batch) > 0).then_some(())
        })
        .await;
    }
    assert_eq!(victim.vector(), Vector::default());
    assert_eq!((victim.node.store().records(), victim.node.store().quarantined()), (0, 0));
    victim.stop().await;
    // Through the same hands, the log as it is.
    let script = Script { batches: vec![genuine], ..Script::new("relay") };
    let relay = FakePeer::start(&certs, "relay", script).await;
    let victim = node(&certs, TrustMode::Distributed, "victim", &[relay.port]).await;
    eventually("it is taken", || async { (victim.vector() == writer.vector()).then_some(()) }).await;
    victim.stop().await;
    writer.stop().await;
    other.stop().await;
}

/// That a payload is missing is no lie: it may have been removed. Who has it is asked, and believed as far as its
/// digest was signed.
#[tokio::test(flavor = "multi_thread")]
async fn a_payload_that_a_relay_keeps_back_is_read_from_a_peer_that_has_it() {
    let certs = Certs::new();
    let writer = node(&certs, TrustMode::Distributed, "writer", &[]).await;
    let keys: Vec<Vec<u8>> = (0..10).map(|_| random_key()).collect();
    let mut stripped = log_of_bundles(&writer, &keys).await;
    stripped.entries[6].payload = None;
    let held = writer.node.store().get(key_hash(&keys[6])).await.unwrap().unwrap();
    let mut forged = state_to_proto(&held);
    forged.creation.as_mut().unwrap().payload = Some(payload(b"grant-x-x"));
    let holder = async |id: &str, state: proto::RecordState| {
        let holds = [(keys[6].clone(), state)].into();
        FakePeer::start(&certs, id, Script { holds, ..Script::new(id) }).await
    };
    let script = Script { batches: vec![stripped], ..Script::new("relay") };
    let relay = FakePeer::start(&certs, "relay", script).await;
    let (liar, honest) = (holder("liar", forged).await, holder("honest", state_to_proto(&held)).await);
    for (id, ports, is_found) in
        [("alone", [relay.port, liar.port], false), ("lucky", [relay.port, honest.port], true)]
    {
        let victim = node(&certs, TrustMode::Distributed, id, &ports).await;
        eventually("its log is taken", || async { (victim.vector() == writer.vector()).then_some(()) }).await;
        assert_eq!(victim.client.get(&keys[5]).await.unwrap().encrypted_access_grant, "grant-1-0");
        let read = victim.client.get(&keys[6]).await;
        match is_found {
            true => assert_eq!(read.unwrap().encrypted_access_grant, "grant-1-1"),
            false => assert_eq!(read.unwrap_err().code(), Code::Unavailable),
        }
        victim.stop().await;
    }
    writer.stop().await;
}

/// The victim has the log up to clock 3, from the same hands, when they lie about the next operation.
#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_has_signed_is_believed_in_no_mode_without_its_signature() {
    for mode in [TrustMode::Distributed, TrustMode::Centralized] {
        let certs = Certs::new();
        let own = TestOrigin::certified(&certs, origin("writer", 1));
        // With a key of its own, and a birth that another node's certificate has signed.
        let thief = TestOrigin::signed_by(&Hand::of(&certs.node("thief"), "brock"), own.origin, unix_now());
        let keys: Vec<Vec<u8>> = (0..4).map(|_| random_key()).collect();
        let first = || (1..4).zip(&keys).map(|(clock, key)| create(clock, key, b"x")).collect();
        let log = own.sign_each(0, first());
        thief.sign_each(0, first());
        let invented = || vec![create(4, &random_key(), b"x")];
        let next = own.sign(3, vec![create(4, &keys[3], b"x")]);
        let unsigned = |birth| proto::Batch {
            bundles: Vec::new(),
            chain: Bytes::new(),
            birth,
            entries: invented(),
            ..next.clone()
        };
        let mut altered = next.clone();
        altered.entries[0].key_hash = random_key().into();
        let stolen = thief.sign(3, invented());
        let lies = [
            ("unsigned", unsigned(None)),
            ("unsigned, with its birth", unsigned(Some(own.birth()))),
            ("altered", altered),
            ("another key", proto::Batch { birth: None, ..stolen.clone() }),
            ("another key, with its birth", proto::Batch { birth: Some(own.birth()), ..stolen.clone() }),
            ("another key, with a birth of another certificate", stolen),
        ];
        let mut relays = Vec::new();
        for (number, (_, lie)) in lies.iter().enumerate() {
            let id = format!("relay-{number}");
            let script = Script { batches: vec![log.clone(), lie.clone()], ..Script::new(&id) };
            relays.push(FakePeer::start(&certs, &id, script).await);
        }
        let script = Script { batches: vec![next], ..Script::new("honest") };
        let honest = FakePeer::start(&certs, "honest", script).await;
        let link = Proxy::start(honest.port).await;
        link.set(Mode::Cut);
        let ports: Vec<u16> = relays.iter().map(|relay| relay.port).chain([link.port]).collect();
        let victim = node(&certs, mode, "victim", &ports).await;
        for (relay, (what, _)) in relays.iter().zip(&lies) {
            eventually(&format!("in {mode}, it is refused: {what}"), || async {
                (relay.refused(ClaimKind::Forged) > 0).then_some(())
            })
            .await;
        }
        let store = victim.node.store();
        assert_eq!((store.clock(&own.origin), store.records(), store.quarantined()), (Clock(3), 3, 0));
        assert!(!store.is_frozen(&own.origin), "in {mode}, nothing proves that it has two births");
        link.set(Mode::Pass);
        eventually(&format!("in {mode}, the log goes on"), || victim.client.has_local(&keys[3])).await;
        assert_eq!(store.records(), 4);
        victim.stop().await;
    }
}

/// The holder of the node's certificate goes on under the node's incarnation, with another key.
#[tokio::test(flavor = "multi_thread")]
async fn of_an_incarnation_with_a_second_birth_nothing_more_is_taken_in_either_mode() {
    for mode in [TrustMode::Distributed, TrustMode::Centralized] {
        let certs = Certs::new();
        let [own, twin] = [(); 2].map(|()| TestOrigin::certified(&certs, origin("writer", 1)));
        let keys: Vec<Vec<u8>> = (0..3).map(|_| random_key()).collect();
        let log = own.sign(0, vec![create(1, &keys[0], b"x")]);
        twin.sign(0, vec![create(1, &keys[0], b"x")]);
        let batches = vec![log, twin.sign(1, vec![create(2, &keys[1], b"x")])];
        let relay = FakePeer::start(&certs, "relay", Script { batches, ..Script::new("relay") }).await;
        let victim = node(&certs, mode, "victim", &[relay.port]).await;
        eventually(&format!("in {mode}, it is named"), || async {
            let forks = victim.admin.status().await.trust.unwrap().forks;
            forks.iter().any(|fork| fork.kind == "two births").then_some(())
        })
        .await;
        let store = victim.node.store();
        assert!(store.is_frozen(&own.origin) && victim.vector().is_empty(), "in {mode}");
        victim.client.has_local(&keys[0]).await.expect("what it wrote stays");
        assert!(victim.client.has_local(&keys[1]).await.is_none(), "in {mode}");
        assert_eq!(relay.refused(ClaimKind::Forged), 0, "it is proven");
        victim.stop().await;
    }
}
