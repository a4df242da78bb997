//! Whether the nodes hold the same: asked by an operator, noticed by the nodes, mended by joining.

use std::{path::Path, sync::Arc};

use crate::harness::{
    certs::Certs,
    client::all_within,
    cluster::Cluster,
    eventually,
    fake_peer::{FakePeer, Script},
    free_port,
    identity::{TestOrigin, strict, take},
    node::{TestNode, compacts_on_command, config},
    random_key, stays,
    store::{close, open, ram},
    wire::{at, create, origin},
};
use brock::{
    config::validate::Config,
    node::certificate::NodeCertificate,
    store::{Options, Store},
    transfer::{bundles::Bundles, keyed_state},
};
use brock_core::{
    base::{id::KeyHash, limits},
    domain::birth::SignedBirth,
    proto::{self, verify_response::Verdict},
};
use tonic::Code;

/// The database of a closed store.
fn database(directory: &Path) -> rocksdb::DB {
    let families = rocksdb::DB::list_cf(&rocksdb::Options::default(), directory.join("db")).unwrap();
    rocksdb::DB::open_cf(&rocksdb::Options::default(), directory.join("db"), families).unwrap()
}

/// Takes a record out of a closed store, as a bit that rots would.
fn lose_record(directory: &Path, key: &[u8]) {
    let database = database(directory);
    let records = database.cf_handle("record").unwrap();
    assert!(database.get_cf(records, key).unwrap().is_some(), "it is there");
    database.delete_cf(records, key).unwrap();
    database.flush_cf(records).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_says_converged_or_who_lags() {
    let mut cluster = Cluster::start_with(3, compacts_on_command).await;
    let key = random_key();
    cluster.node(0).client.put(&key, b"grant").await.unwrap();
    cluster.node(1).admin.invalidate(&key, "leaked", all_within(20_000)).await.unwrap();
    cluster.node(2).admin.delete(&random_key(), None).await.unwrap_err();
    let verified = cluster.node(2).admin.verify().await;
    assert_eq!(verified.verdict(), Verdict::Converged, "{verified:?}");
    assert!(verified.nodes.iter().all(|node| node.equal && node.lag_entries == 0 && node.error.is_empty()));
    assert!(verified.nodes.iter().all(|node| node.records == 1));
    let mut names: Vec<&str> = verified.nodes.iter().map(|node| node.node.as_str()).collect();
    assert_eq!(names[0], "node-2", "the one that was asked comes first");
    names.sort_unstable();
    assert_eq!(names, ["node-0", "node-1", "node-2"]);

    cluster.stop_node(1).await;
    let verified = cluster.node(2).admin.verify().await;
    assert_eq!(verified.verdict(), Verdict::NotYet);
    let away = verified.nodes.iter().find(|node| node.node == "node-1").unwrap();
    assert_ne!(away.error, "", "{verified:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_lost_behind_the_stores_back_is_noticed_and_comes_back_from_the_peers() {
    let mut cluster = Cluster::start_with(2, compacts_on_command).await;
    let keys: Vec<Vec<u8>> = (0..20).map(|_| random_key()).collect();
    for key in &keys {
        cluster.node(0).client.put(key, b"grant").await.unwrap();
    }
    cluster.node(0).admin.delete(&keys[1], None).await.unwrap();
    cluster.acknowledged().await;
    cluster.stop_node(1).await;
    lose_record(&cluster.path(1), &keys[0]);
    lose_record(&cluster.path(1), &keys[1]);
    cluster.start_node(1).await;
    eventually("the record is back", || async { cluster.node(1).client.has_local(&keys[0]).await }).await;
    for what in ["are not those that were written", "held other records"] {
        eventually(&format!("an alarm: {what}"), || async {
            let alarms = cluster.node(1).admin.status().await.alarms;
            alarms.iter().any(|alarm| alarm.text.contains(what)).then_some(())
        })
        .await;
    }
    eventually("the tombstone is back, and all is equal", || async {
        let status = cluster.node(1).admin.status().await;
        let verified = cluster.node(0).admin.verify().await;
        ((status.records, status.tombstones) == (19, 1) && verified.verdict() == Verdict::Converged)
            .then_some(())
    })
    .await;
    assert_eq!(cluster.node(1).client.put(&keys[1], b"again").await.unwrap_err().code(), Code::AlreadyExists);
    cluster.stop().await;
}

/// Takes every second bundle out of a closed store, and spoils the others. Returns how many there were.
fn lose_bundles(directory: &Path) -> usize {
    let database = database(directory);
    let bundles = database.cf_handle("bundle").unwrap();
    let keys = database.iterator_cf(bundles, rocksdb::IteratorMode::Start);
    let keys: Vec<Box<[u8]>> = keys.map(|item| item.unwrap().0).collect();
    for (number, key) in keys.iter().enumerate() {
        match number % 2 {
            0 => database.delete_cf(bundles, key).unwrap(),
            _ => database.put_cf(bundles, key, b"rotten").unwrap(),
        }
    }
    database.flush_cf(bundles).unwrap();
    keys.len()
}

/// Of how many records all is proven by what the store has.
async fn proven(store: &Store, keys: &[Vec<u8>]) -> usize {
    let mut proven = 0;
    for key in keys {
        let key = KeyHash::try_from(&key[..]).unwrap();
        let state = store.get(key).await.unwrap().unwrap();
        assert!(!state.evidence.is_empty());
        let believed = strict(store).believe(&key, state.clone(), &Bundles::default(), &[]);
        proven += usize::from(believed.unproven.is_empty() && believed.state.evidence == state.evidence);
    }
    proven
}

/// Two nodes that hold the same, of which the second has lost what proves it.
async fn unproven_cluster() -> (Cluster, Vec<Vec<u8>>) {
    let mut cluster = Cluster::start_with(2, compacts_on_command).await;
    let keys: Vec<Vec<u8>> = (0..20).map(|_| random_key()).collect();
    for key in &keys {
        cluster.node(0).client.put(key, b"grant").await.unwrap();
    }
    cluster.acknowledged().await;
    cluster.compact().await;
    cluster.stop_node(1).await;
    assert_eq!(lose_bundles(&cluster.path(1)), keys.len());
    cluster.start_node(1).await;
    assert_eq!(proven(cluster.node(1).node.store(), &keys).await, 0);
    (cluster, keys)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_proves_records_comes_back_from_the_peers() {
    let (cluster, keys) = unproven_cluster().await;
    let store = cluster.node(1).node.store();
    eventually("all is proven again", || async {
        (proven(store, &keys).await == keys.len() && store.lacking_proofs(None).is_empty()).then_some(())
    })
    .await;
    let alarms = cluster.node(1).admin.status().await.alarms;
    assert!(alarms.iter().any(|alarm| alarm.text.contains("have lost what proves them")), "{alarms:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_proves_records_comes_back_by_repair_at_once() {
    let (cluster, keys) = unproven_cluster().await;
    let repaired = cluster.node(1).admin.admin.clone().repair(proto::RepairRequest {}).await;
    let repaired = repaired.unwrap().into_inner().peers;
    assert_eq!((repaired.len(), repaired[0].proven), (1, keys.len() as u64), "{repaired:?}");
    let store = cluster.node(1).node.store();
    assert_eq!(proven(store, &keys).await, keys.len());
    // Of the damaged ones in the log's place nothing is left, and the others stay.
    assert_eq!(store.drop_bundles().await.unwrap(), keys.len() as u64 / 2);
    assert_eq!((proven(store, &keys).await, store.drop_bundles().await.unwrap()), (keys.len(), 0));
    cluster.stop().await;
}

/// A peer that is asked for what proves records sends genuine bundles of its own besides, as many as it likes.
#[tokio::test(flavor = "multi_thread")]
async fn of_what_a_peer_sends_to_prove_records_only_what_they_name_is_kept() {
    let (certs, home) = (Certs::new(), tempfile::tempdir().unwrap());
    let own = TestOrigin::certified(&certs, origin("liar", 1));
    let log = own.sign(0, vec![create(1, &random_key(), b"junk")]);
    let identity = Some(Arc::new(NodeCertificate::new(certs.node_identity("helper"))) as _);
    let helper = open(&Options { identity, ..ram("helper") }).await;
    take(&helper, log.clone()).await.unwrap();
    let key = KeyHash::try_from(&log.entries[0].key_hash[..]).unwrap();
    let state = helper.get(key).await.unwrap().unwrap();
    let (stamp, evidence) = state.evidence.first().unwrap();
    let id = evidence.bundle_id(stamp.origin);
    // The log is not here: nothing of it is needed.
    let answer = proto::FetchStatesResponse {
        bundles: helper.bundles_of([&state]).await.unwrap(),
        states: vec![keyed_state(key, &state)],
        looked_at: 1,
        births: vec![own.birth()],
        ..Default::default()
    };
    let liar = FakePeer::start(&certs, "liar", Script { states: Some(answer), ..Script::new("liar") }).await;
    let path = home.path().join("me");
    let base = config(&certs, "me", free_port(), &[liar.port]);
    let base = Config { path: Some(path.clone()), ..compacts_on_command(base) };
    let me = TestNode::start(&certs, Config { join: Vec::new(), ..base.clone() }).await;
    me.client.put(&random_key(), b"grant").await.unwrap();
    me.admin.admin.clone().compact(proto::CompactRequest {}).await.unwrap();
    me.node
        .store()
        .keep_births(vec![SignedBirth::from_proto(own.birth()).unwrap()], &at(own.origin, 1))
        .await
        .unwrap();
    me.stop().await;
    assert_eq!(lose_bundles(&path), 1);
    let me = TestNode::start(&certs, base).await;
    eventually("it asks for proofs", || async { (*liar.fetches.lock().unwrap() >= 2).then_some(()) }).await;
    let store = me.node.store();
    assert!(store.born(&own.origin).is_some(), "the bundle is genuine");
    assert_eq!((store.leaves(&id).unwrap(), store.lacking_proofs(None).len()), (None, 1));
    me.stop().await;
    close(helper).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_difference_that_nobody_mends_is_named_by_verify() {
    let mut cluster = Cluster::start_with(2, compacts_on_command).await;
    let keys = [random_key(), random_key()];
    for key in &keys {
        cluster.node(0).client.put(key, b"grant").await.unwrap();
    }
    cluster.acknowledged().await;
    cluster.stop_node(1).await;
    lose_record(&cluster.path(1), &keys[0]);
    // It pulls from no peer, so it cannot repair what it has lost.
    cluster.start_node_with(1, |config| Config { join: Vec::new(), ..config }).await;
    let verified = eventually("the difference shows", || async {
        let verified = cluster.node(0).admin.verify().await;
        (verified.verdict() == Verdict::Diverged).then_some(verified)
    })
    .await;
    let hurt = verified.nodes.iter().find(|node| node.node == "node-1").unwrap();
    assert_eq!((hurt.equal, hurt.differing_total, hurt.lag_entries), (false, 1, 0));
    assert_eq!(hurt.differing, [keys[0].clone()]);
    eventually("the operator is told", || async {
        let alarms = cluster.node(0).admin.status().await.alarms;
        alarms.iter().any(|alarm| alarm.text.contains("held other records")).then_some(())
    })
    .await;
    stays("there is one alarm", 3 * limits::HEARTBEAT_INTERVAL, || async {
        cluster.node(0).admin.status().await.alarms.len() == 1
    })
    .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_difference_is_mended_by_repair_at_once() {
    let mut cluster = Cluster::start_with(2, compacts_on_command).await;
    let key = random_key();
    cluster.node(0).client.put(&key, b"grant").await.unwrap();
    cluster.acknowledged().await;
    cluster.stop_node(0).await;
    lose_record(&cluster.path(0), &key);
    cluster.start_node(0).await;
    let admin = cluster.node(0).admin.admin.clone();
    let repaired = admin.clone().repair(proto::RepairRequest {}).await.unwrap().into_inner();
    assert_eq!(repaired.peers.len(), 1);
    assert!(repaired.peers[0].error.is_empty(), "{repaired:?}");
    cluster.node(0).client.get_local(&key).await.unwrap();
    let again = admin.clone().repair(proto::RepairRequest {}).await.unwrap().into_inner();
    assert_eq!((again.peers[0].differing, again.peers[0].repaired), (0, 0));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unequal_creates_are_in_the_ledger_of_every_node_with_the_same_winner() {
    let mut cluster = Cluster::start_some(2, 1, compacts_on_command).await;
    let (key, other) = (random_key(), random_key());
    let early = proto::Record { created_at_unix: 1_000, ..crate::harness::client::record(b"early") };
    let late = proto::Record { created_at_unix: 2_000, ..crate::harness::client::record(b"late") };
    cluster.node(0).client.put_record(&key, late.clone()).await.unwrap();
    cluster.node(0).client.put_record(&other, early.clone()).await.unwrap();
    cluster.stop_node(0).await;
    cluster.start_node(1).await;
    cluster.node(1).client.put_record(&key, early.clone()).await.unwrap();
    cluster.node(1).client.put_record(&other, early).await.unwrap();
    cluster.start_node(0).await;
    cluster.converged().await;
    let mut ledgers = Vec::new();
    for node in cluster.running() {
        let request = proto::ListConflictsRequest::default();
        let ledger = node.admin.admin.clone().list_conflicts(request).await.unwrap().into_inner();
        assert_eq!(ledger.conflicts.len(), 1, "the same payload twice is no conflict");
        assert_eq!(ledger.conflicts[0].key_hash.as_ref(), key);
        assert_eq!(ledger.conflicts[0].winner.as_ref().unwrap().created_at_unix, 1_000);
        assert_eq!(ledger.conflicts[0].losers.len(), 1);
        assert_eq!(node.admin.status().await.conflicts, 1);
        assert_eq!(node.client.get_local(&key).await.unwrap().encrypted_access_grant.as_ref(), b"early");
        ledgers.push(ledger);
    }
    assert_eq!(ledgers[0].conflicts, ledgers[1].conflicts);
    cluster.stop().await;
}
