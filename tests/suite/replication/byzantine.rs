//! Nodes that believe only what is proven, and a peer that has a certificate of the cluster.

use std::collections::BTreeSet;

use crate::harness::{
    certs::Certs,
    eventually,
    fake_peer::{FakePeer, Script},
    free_port,
    identity::TestOrigin,
    node::{TestNode, config},
    random_key,
    snapshot::{births, end, forces, header, proven_page},
    wire::{batch, create, origin},
};
use brock::config::validate::Config;
use brock_core::{
    base::{
        claims::ClaimKind,
        id::{KeyHash, Origin},
        trust::TrustMode,
        vector::{Clock, Vector},
    },
    domain::{operation::Operation, record::RecordState},
    proto::{self, out_of_sync::Reason},
};
use bytes::Bytes;

async fn node(certs: &Certs, id: &str, join: &[u16]) -> TestNode {
    let config = config(certs, id, free_port(), join);
    TestNode::start(certs, Config { trust: TrustMode::Distributed, ..config }).await
}

/// A node's log as one batch, with its birth.
async fn log(node: &TestNode) -> proto::Batch {
    let store = node.node.store();
    let changes = store.changes_since(store.origin(), Clock(0), 1000).await.unwrap().unwrap();
    proto::Batch { birth: store.birth(store.origin()).await.unwrap(), ..changes.batch }
}

/// Whatever a relay does with a log, its victims take it as its origin wrote it, or not at all.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_can_alter_nothing_of_what_it_passes_on() {
    let certs = Certs::new();
    let writer = node(&certs, "writer", &[]).await;
    let keys: Vec<Vec<u8>> = (0..5).map(|_| random_key()).collect();
    for key in &keys {
        writer.client.put(key, b"grant").await.unwrap();
    }
    let (genuine, store) = (log(&writer).await, writer.node.store().clone());
    let last = genuine.entries.len() - 1;
    let altered = |change: &dyn Fn(&mut proto::Batch)| {
        let mut batch = genuine.clone();
        change(&mut batch);
        batch
    };
    let thief = TestOrigin::certified(&certs, store.origin());
    let another = TestOrigin::certified(&certs, origin("writer", 77));
    let lies = [
        altered(&|batch| batch.entries[2].key_hash = random_key().into()),
        altered(&|batch| batch.entries[last].operation = Operation::Unpublish.encode()),
        altered(&|batch| batch.entries.swap(1, 2)),
        altered(&|batch| {
            batch.entries.remove(2);
            batch.bundles.remove(2);
        }),
        altered(&|batch| {
            batch.bundles.clear();
            batch.birth = None;
        }),
        altered(&|batch| batch.bundles.clear()),
        altered(&|batch| batch.birth = None),
        altered(&|batch| batch.bundles.swap(0, last)),
        // The log of one incarnation as that of another one, with its genuine birth.
        altered(&|batch| {
            batch.birth = another.sign(0, vec![create(1, &keys[0], b"x")]).birth;
            batch.origin = Bytes::copy_from_slice(another.origin.as_bytes());
        }),
        // A birth for another node's origin, which the thief's own certificate does not name.
        altered(&|batch| {
            let mut birth = thief.sign(0, vec![create(1, &keys[0], b"x")]).birth.unwrap();
            birth.certificates = TestOrigin::certified(&certs, origin("relay-0", 1))
                .sign(0, vec![create(1, &keys[0], b"x")])
                .birth
                .unwrap()
                .certificates;
            batch.birth = Some(birth);
        }),
        // What no origin has signed.
        batch(origin("invented", 1), 0, 1, vec![create(1, &random_key(), b"x")]),
    ];
    let mut relays = Vec::new();
    for (number, lie) in lies.iter().enumerate() {
        let id = format!("relay-{number}");
        let script = Script { batches: vec![lie.clone()], ..Script::new(&id) };
        relays.push(FakePeer::start(&certs, &id, script).await);
    }
    let ports: Vec<u16> = relays.iter().map(|relay| relay.port).collect();
    let victim = node(&certs, "victim", &ports).await;
    for (number, relay) in relays.iter().enumerate() {
        eventually(&format!("lie {number} is refused"), || async {
            let declined = !relay.declined.lock().unwrap().is_empty();
            // A batch that contradicts itself ends the round.
            (declined || *relay.streams.lock().unwrap() > 1).then_some(())
        })
        .await;
    }
    assert!(victim.vector().is_empty(), "{:?}", victim.vector());
    assert_eq!((victim.node.store().records(), victim.node.store().quarantined()), (0, 0));
    drop(relays);
    victim.stop().await;
    // Through the same hands, the log as it is.
    let script = Script { batches: vec![genuine], ..Script::new("relay") };
    let relay = FakePeer::start(&certs, "relay", script).await;
    let victim = node(&certs, "victim", &[relay.port]).await;
    for key in &keys {
        eventually("the record is there", || victim.client.has_local(key)).await;
    }
    victim.stop().await;
    writer.stop().await;
}

/// A donor of a resync shows genuine records, one that it has invented, and one whose operations it has altered.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_donors_records_only_what_is_proven_is_joined_and_its_vector_is_not_adopted() {
    let certs = Certs::new();
    let writer = node(&certs, "writer", &[]).await;
    let (genuine, altered, invented) = (random_key(), random_key(), random_key());
    for key in [&genuine, &altered] {
        writer.client.put(key, b"grant").await.unwrap();
    }
    let store = writer.node.store();
    let hash = |key: &[u8]| crate::harness::wire::key_hash(key);
    let state = |key: KeyHash| async move { store.get(key).await.unwrap().unwrap() };
    let told = state(hash(&genuine)).await;
    let resurrected = RecordState { expires_at: Some(1), expiry: None, ..state(hash(&altered)).await };
    let mut records: Vec<(KeyHash, RecordState)> = vec![
        (hash(&genuine), told.clone()),
        (hash(&altered), resurrected),
        (hash(&invented), RecordState { evidence: Default::default(), ..told }),
    ];
    records.sort_by_key(|(key_hash, _)| *key_hash);
    let vector = writer.vector();
    let birth = store.birth(store.origin()).await.unwrap().unwrap();
    let said = vec![
        header("donor", &vector, &Vector::default(), 3),
        births(vec![birth], store),
        proven_page(store, &records).await,
        end(None),
    ];
    let script = forces("donor", Reason::BelowFloor, said);
    let donor = FakePeer::start(&certs, "donor", script).await;
    let victim = node(&certs, "victim", &[donor.port]).await;
    eventually("what is genuine has arrived", || victim.client.has_local(&genuine)).await;
    eventually("the status says why the rest is missing", || async {
        let peers = victim.admin.status().await.peers;
        peers.iter().any(|peer| peer.last_error.contains("are not proven")).then_some(())
    })
    .await;
    assert!(donor.refused(ClaimKind::Forged) > 0);
    let kept: BTreeSet<KeyHash> = {
        let all = records.iter().map(|(key_hash, _)| *key_hash);
        let states = victim.node.store().get_many(all.clone().collect()).await.unwrap();
        all.zip(states).filter_map(|(key_hash, state)| state.map(|_| key_hash)).collect()
    };
    assert_eq!(kept, BTreeSet::from([hash(&genuine), hash(&altered)]));
    let state = victim.node.store().get(hash(&altered)).await.unwrap().unwrap();
    assert!(state.expires_at.is_none() && state.is_proven(), "{state:?}");
    assert!(victim.vector().is_empty(), "its vector is not believed: {:?}", victim.vector());
    victim.stop().await;
    writer.stop().await;
}

/// A node with a certificate of the cluster shows two histories of its log, each to one of two nodes.
#[tokio::test(flavor = "multi_thread")]
async fn an_origin_with_two_histories_is_frozen_everywhere_and_what_it_wrote_in_either_stays() {
    for mode in [TrustMode::Distributed, TrustMode::Centralized] {
        let certs = Certs::new();
        let own = TestOrigin::certified(&certs, origin("two", 1));
        let keys: Vec<Vec<u8>> = (0..3).map(|_| random_key()).collect();
        let step =
            |after: u64, number: usize| own.sign(after, vec![create(after + 1, &keys[number], b"grant")]);
        let common = step(0, 0);
        // Of equal length: the nodes tell each other nothing but their tips.
        let (one, other) = (vec![common.clone(), step(1, 1)], vec![common, step(1, 2)]);
        let start = async |id: &str, port: u16, join: &[u16]| {
            TestNode::start(&certs, Config { trust: mode, ..config(&certs, id, port, join) }).await
        };
        let shows = async |batches: Vec<proto::Batch>| {
            FakePeer::start(&certs, "two", Script { batches, ..Script::new("two") }).await
        };
        let (first_face, second_face) = (shows(one).await, shows(other).await);
        let ports = [free_port(), free_port()];
        let first = start("first", ports[0], &[first_face.port, ports[1]]).await;
        let second = start("second", ports[1], &[second_face.port, ports[0]]).await;
        let third = start("third", free_port(), &ports).await;
        for node in [&first, &second, &third] {
            eventually(&format!("{} names the fork in {mode}", node.id), || async {
                let trust = node.admin.status().await.trust.unwrap();
                (trust.forks.len() == 1).then(|| {
                    assert_eq!(trust.forks[0].origin, own.origin.as_bytes().as_slice());
                    assert_eq!(trust.forks[0].kind, "two histories");
                })
            })
            .await;
            for key in &keys {
                eventually("both histories are there", || node.client.has_local(key)).await;
            }
            assert!(node.vector().is_empty(), "{:?}", node.vector());
        }
        assert_eq!(first.node.store().forks(), third.node.store().forks());
        // An operator has dealt with it at one node, and says so.
        let acknowledge = async |node: &TestNode, origin: Origin| {
            let origin = bytes::Bytes::copy_from_slice(origin.as_bytes());
            let request = proto::AcknowledgeForkRequest { origin };
            node.admin.admin.clone().acknowledge_fork(request).await.unwrap().into_inner().frozen
        };
        assert!(
            acknowledge(&first, own.origin).await && !acknowledge(&first, first.node.store().origin()).await
        );
        for (node, is_acknowledged) in [(&first, true), (&second, false)] {
            let fork = node.admin.status().await.trust.unwrap().forks.remove(0);
            assert_eq!(fork.acknowledged, is_acknowledged);
            assert!(node.node.store().is_frozen(&own.origin));
        }
        let request = proto::ClusterRequest::default();
        let verdict =
            second.admin.admin.clone().cluster(request).await.unwrap().into_inner().verdict.unwrap();
        let frozen: BTreeSet<&str> = verdict
            .findings
            .iter()
            .filter(|finding| finding.what.contains("is frozen there"))
            .map(|finding| finding.node.as_str())
            .collect();
        assert_eq!(frozen, BTreeSet::from(["second"]), "{verdict:?}");
        for node in [first, second, third] {
            node.stop().await;
        }
    }
}
