//! Nodes that stop, in order or not, and come back.

use std::{sync::Arc, time::Duration};

use crate::harness::{
    client::Client,
    cluster::{Cluster, assert_same},
    eventually,
    node::TestNode,
    random_key,
};
use brock::{
    config::validate::Config,
    node::{Node, StartError},
    store::OpenError,
};
use tokio::runtime::Runtime;

/// A node with a runtime of its own, so that it can be dropped at any moment without being told.
struct Solo {
    runtime: Runtime,
    node: TestNode,
}

impl Solo {
    async fn start(cluster: &Arc<Cluster>, config: Config) -> Self {
        let runtime = Runtime::new().unwrap();
        let cluster = Arc::clone(cluster);
        let started = runtime.spawn(async move {
            let node = eventually("the storage of the dropped node is free", || async {
                match Node::start(config.clone(), None).await {
                    Ok(node) => Some(node),
                    Err(StartError::Store(OpenError::Locked(_)) | StartError::Listen { .. }) => None,
                    Err(error) => panic!("it does not start: {error}"),
                }
            })
            .await;
            let address = node.address().to_string();
            let client = Client::connect(&address, &cluster.certs.client()).await;
            let admin = Client::connect(&address, &cluster.certs.admin()).await;
            TestNode { port: node.address().port(), id: config.node_id.to_string(), node, client, admin }
        });
        let node = started.await.unwrap();
        Self { runtime, node }
    }

    /// Stops it in order.
    async fn stop(self) {
        let Self { runtime, node } = self;
        runtime.spawn(node.stop()).await.unwrap();
        runtime.shutdown_background();
    }

    /// Drops it as it is: nothing is flushed, no peer is informed.
    async fn lose(self) {
        let Self { runtime, node } = self;
        tokio::task::spawn_blocking(move || {
            drop(node);
            runtime.shutdown_timeout(Duration::from_secs(5));
        })
        .await
        .unwrap();
    }
}

async fn put(solo: &Solo, keys: &mut Vec<Vec<u8>>, count: usize) {
    for _ in 0..count {
        let key = random_key();
        solo.node.client.put(&key, solo.node.id.as_bytes()).await.unwrap();
        keys.push(key);
    }
}

async fn converged(solos: &[Solo]) {
    eventually("all nodes have the same vector", || async {
        let first = solos[0].node.vector();
        solos.iter().all(|solo| solo.node.vector() == first).then_some(())
    })
    .await;
}

/// Each node in turn stops before writes, after its own writes, and while others write; once in
/// order and once not. What is acknowledged before and after is everywhere in the end.
async fn restart_at_every_point(interval: Duration) {
    let cluster = Arc::new(Cluster::start_some(3, 0, |config| config).await);
    let config = |i| Config { replication_interval: interval, ..cluster.config(i) };
    let mut solos = Vec::new();
    for i in 0..3 {
        solos.push(Solo::start(&cluster, config(i)).await);
    }
    let mut keys = Vec::new();
    for in_order in [true, false] {
        for i in 0..3 {
            let before = solos[i].node.node.store().origin();
            put(&solos[i], &mut keys, 5).await;
            let solo = solos.remove(i);
            if in_order {
                solo.stop().await;
            } else {
                solo.lose().await;
            }
            put(&solos[0], &mut keys, 5).await;
            solos.insert(i, Solo::start(&cluster, config(i)).await);
            put(&solos[i], &mut keys, 1).await;
            put(&solos[(i + 1) % 3], &mut keys, 5).await;
            let after = solos[i].node.node.store().origin();
            assert_ne!(before, after, "no life of a storage uses another's clocks");
            let reason = solos[i].node.node.store().incarnation_reason();
            assert_eq!(reason == "start", in_order, "{reason}");
            // At once again, without waiting for anything.
            let solo = solos.remove(i);
            if in_order {
                solo.lose().await;
            } else {
                solo.stop().await;
            }
            solos.insert(i, Solo::start(&cluster, config(i)).await);
        }
    }
    converged(&solos).await;
    assert_same(solos.iter().map(|solo| &solo.node), &keys).await;
    assert_eq!(solos[0].node.node.store().records(), keys.len() as u64);
    for solo in solos {
        solo.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_restarted_at_every_point_converge_again() {
    restart_at_every_point(Duration::from_secs(30)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_restarted_at_every_point_converge_again_with_rounds_of_200_ms() {
    restart_at_every_point(Duration::from_millis(200)).await;
}

/// Rounds that restart all the time, under writes: nothing is lost at the seams.
#[tokio::test(flavor = "multi_thread")]
async fn rounds_that_end_under_load_lose_nothing() {
    let short = |config| Config { replication_interval: Duration::from_millis(200), ..config };
    let cluster = Cluster::start_with(3, short).await;
    let mut keys = Vec::new();
    eventually("every peer was pulled from in five rounds", || async {
        let mut rounds = Vec::new();
        for node in cluster.running() {
            rounds.extend(node.admin.status().await.peers.iter().map(|peer| peer.rounds));
        }
        rounds.iter().all(|rounds| *rounds >= 5).then_some(())
    })
    .await;
    for i in 0..200 {
        let key = random_key();
        cluster.node(i % 3).client.put(&key, b"x").await.unwrap();
        keys.push(key);
    }
    cluster.converged().await;
    assert_same(cluster.running(), &keys).await;
    for node in cluster.running() {
        let peers = node.admin.status().await.peers;
        assert!(peers.iter().all(|peer| peer.last_error.is_empty()), "{peers:?}");
    }
    cluster.stop().await;
}
