//! Written here, read there: nodes end up with the same records and the same logs.

use std::time::{Duration, Instant};

use crate::harness::{
    client::record,
    cluster::{Cluster, assert_same},
    eventually, free_port,
    node::{TestNode, compacts_on_command, config},
    random_key,
};
use brock::config::validate::Config;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tonic::Code;

/// Writes records of any size, with and without an expiry, sometimes the same key on two nodes.
/// Returns all keys.
async fn write_at_random(cluster: &Cluster, random: &mut StdRng, writes: usize) -> Vec<Vec<u8>> {
    let mut keys: Vec<Vec<u8>> = Vec::new();
    let mut pending = Vec::new();
    for _ in 0..writes {
        let mut key = random.random::<[u8; 32]>().to_vec();
        if random.random_ratio(1, 5) && !keys.is_empty() {
            key = keys[random.random_range(0..keys.len())].clone();
        }
        let mut grant = vec![0; 1 << random.random_range(0..14)];
        random.fill(grant.as_mut_slice());
        let mut new = record(&grant);
        new.public = random.random();
        if random.random() {
            new.expires_at_unix = brock_core::base::time::unix_now() + random.random_range(1_000..1_000_000);
        }
        keys.push(key.clone());
        let client = cluster.node(random.random_range(0..cluster.ports.len())).client.clone();
        pending.push(tokio::spawn(async move { client.put_record(&key, new).await }));
        if random.random_ratio(1, 8) {
            finish(&mut pending).await;
        }
    }
    finish(&mut pending).await;
    keys
}

type Put = tokio::task::JoinHandle<Result<brock_core::proto::Stamp, tonic::Status>>;

async fn finish(pending: &mut Vec<Put>) {
    for put in pending.drain(..) {
        match put.await.unwrap() {
            Ok(_) => {}
            Err(status) => assert_eq!(status.code(), Code::AlreadyExists, "{status}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_written_to_one_node_is_held_by_all() {
    let cluster = Cluster::start(3).await;
    let key = random_key();
    cluster.node(0).client.put(&key, b"grant").await.unwrap();
    for node in cluster.running() {
        eventually("the record is there", || node.client.has_local(&key)).await;
        let record = node.client.get_local(&key).await.unwrap();
        assert_eq!(record.encrypted_access_grant, "grant");
    }
    let again = cluster.node(2).client.put(&key, b"other").await.unwrap_err();
    assert_eq!(again.code(), Code::AlreadyExists);
    cluster.converged().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_under_random_writes_end_up_with_the_same_records_and_logs() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    for nodes in [3, 5] {
        let cluster = Cluster::start(nodes).await;
        let keys = write_at_random(&cluster, &mut random, 300).await;
        let vector = cluster.converged().await;
        assert_eq!(vector.len(), nodes, "everybody wrote");
        assert_same(cluster.running(), &keys).await;
        cluster.stop().await;
    }
}

/// In a full mesh each operation should cross the mesh once per node: a relay that sends what
/// another donor delivers anyway wastes the links.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_gets_hardly_any_entry_twice_and_none_when_it_is_up_to_date() {
    let cluster = Cluster::start(4).await;
    for round in 0..60_u32 {
        // One at a time, as they are made: the case in which every relay is tempted.
        let node = cluster.node(round as usize % 4);
        node.client.put(&random_key(), &round.to_be_bytes()).await.unwrap();
        cluster.converged().await;
    }
    // The same with a pause before each: the last supplier of an origin is long forgotten.
    let mut pace = tokio::time::interval(Duration::from_millis(250));
    for round in 0..12_u32 {
        pace.tick().await;
        cluster.node(0).client.put(&random_key(), &round.to_be_bytes()).await.unwrap();
        cluster.converged().await;
    }
    let received = async |node: &TestNode| {
        node.admin.status().await.peers.iter().map(|peer| peer.entries_received).sum::<u64>()
    };
    let needed = 72 * 3;
    let mut total = 0;
    for node in cluster.running() {
        total += received(node).await;
    }
    println!("{total} entries received, {needed} needed");
    assert!(total >= needed);
    assert!(total < needed * 3 / 2, "{total} entries were received where {needed} were needed");
    // A new round of an up-to-date node, in both directions.
    let stopped = cluster.node(0).node.store().vector();
    let before = received(cluster.node(1)).await;
    let (certs, join) = (&cluster.certs, &cluster.ports[1..]);
    let donor = TestNode::start(certs, config(certs, "late", free_port(), join)).await;
    eventually("it has caught up", || async { (donor.vector() == stopped).then_some(()) }).await;
    let reader = TestNode::start(certs, config(certs, "later", free_port(), &[donor.port])).await;
    eventually("it has caught up too", || async { (reader.vector() == stopped).then_some(()) }).await;
    let report = reader.admin.status().await.peers.remove(0);
    assert_eq!(report.entries_received, 72, "an empty node gets each entry once");
    assert_eq!(received(cluster.node(1)).await, before, "a node that has everything gets nothing");
    cluster.stop().await;
    for node in [donor, reader] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_joins_later_with_an_empty_disk_gets_everything() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut cluster = Cluster::start(3).await;
    let keys = write_at_random(&cluster, &mut random, 200).await;
    cluster.converged().await;
    cluster.add_node(|config| config).await;
    cluster.converged().await;
    assert_same(cluster.running(), &keys).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn small_batches_change_neither_the_outcome_nor_the_order() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut cluster = Cluster::start_some(3, 0, |config| config).await;
    for (i, replication_limit) in [1, 7, 1000].into_iter().enumerate() {
        cluster.start_node_with(i, |config| Config { replication_limit, ..config }).await;
    }
    let keys = write_at_random(&cluster, &mut random, 150).await;
    cluster.converged().await;
    assert_same(cluster.running(), &keys).await;
    cluster.stop().await;
}

/// 3 MiB and 700 entries: more than one batch by entries, and more than one by bytes.
#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_larger_than_one_batch_drains_in_one_round() {
    // A log that was compacted meanwhile would not be pulled at all: the late ones would be filled from the records.
    let mut cluster = Cluster::start_with(1, compacts_on_command).await;
    let client = &cluster.node(0).client;
    let keys: Vec<_> = (0..700).map(|_| random_key()).collect();
    for chunk in keys.chunks(100) {
        let put = futures::future::join_all(chunk.iter().map(|key| client.put(key, &[7; 4500]))).await;
        put.into_iter().for_each(|outcome| drop(outcome.unwrap()));
    }
    for limit in [50, 1000] {
        let join = vec![cluster.node(0).address()];
        let i = cluster.add_node(|config| Config { replication_limit: limit, join, ..config }).await;
        cluster.converged().await;
        let report = eventually("what has come is counted", || async {
            let report = cluster.node(i).admin.status().await.peers.remove(0);
            (report.entries_received >= 700).then_some(report)
        })
        .await;
        assert_eq!((report.rounds, report.entries_received), (1, 700), "limit {limit}");
    }
    assert_same(cluster.running(), &keys).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_operation_arrives_long_before_the_next_round() {
    let cluster = Cluster::start(2).await;
    cluster.node(0).client.put(&random_key(), b"the streams are up").await.unwrap();
    cluster.converged().await;
    let mut took = Vec::new();
    for _ in 0..5 {
        let (key, written) = (random_key(), Instant::now());
        cluster.node(0).client.put(&key, b"grant").await.unwrap();
        eventually("the record is there", || cluster.node(1).client.has_local(&key)).await;
        took.push(written.elapsed());
    }
    took.sort();
    // Less than a heartbeat, too: it is the commit that wakes the stream.
    assert!(took[2] < Duration::from_millis(500) && took[4] < Duration::from_secs(3), "they took {took:?}");
    let status = cluster.node(1).admin.status().await;
    assert_eq!(status.peers[0].rounds, 1, "the first round is still open");
    cluster.stop().await;
}
