//! Operations that come by way of another node.

use crate::harness::{
    certs::Certs,
    cluster::{Cluster, assert_same},
    eventually,
    node::TestNode,
    random_key,
    wire::log_of,
};
use brock::config::validate::Config;

async fn put_all(node: &TestNode, grant: &str, count: usize) -> Vec<Vec<u8>> {
    let keys: Vec<_> = (0..count).map(|_| random_key()).collect();
    for key in &keys {
        node.client.put(key, grant.as_bytes()).await.unwrap();
    }
    keys
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_travel_along_a_chain_under_the_stamps_of_their_origin() {
    let certs = Certs::new();
    let a = TestNode::joining(&certs, "a", &[]).await;
    let b = TestNode::joining(&certs, "b", &[a.port]).await;
    let c = TestNode::joining(&certs, "c", &[b.port]).await;
    let keys = put_all(&a, "from a", 30).await;
    let stamps = a.client.put(&random_key(), b"the last one").await.unwrap();
    assert_eq!(stamps.clock, 31);
    for other in [&b, &c] {
        eventually("the whole log is there", || async { (other.vector() == a.vector()).then_some(()) }).await;
    }
    let origin = a.node.store().origin();
    let log = log_of(a.node.store(), origin).await;
    assert_eq!(log.1.iter().map(|entry| entry.clock).collect::<Vec<_>>(), (1..=31).collect::<Vec<_>>());
    assert_eq!(log_of(c.node.store(), origin).await, log);
    for key in &keys {
        let request = brock_core::proto::GetRequest { key_hash: key.clone().into(), local: true };
        let here = a.client.kv.clone().get(request.clone()).await.unwrap().into_inner();
        let there = c.client.kv.clone().get(request).await.unwrap().into_inner();
        assert_eq!(here, there);
    }
    for node in [a, b, c] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_passes_on_an_origin_that_is_gone_for_good() {
    let certs = Certs::new();
    let a = TestNode::joining(&certs, "a", &[]).await;
    let b = TestNode::joining(&certs, "b", &[a.port]).await;
    let keys = put_all(&a, "from a", 30).await;
    let vector = a.vector();
    eventually("b has it", || async { (b.vector() == vector).then_some(()) }).await;
    let origin = a.node.store().origin();
    let log = log_of(a.node.store(), origin).await;
    a.stop().await;
    let c = TestNode::joining(&certs, "c", &[b.port]).await;
    eventually("c has it", || async { (c.vector() == vector).then_some(()) }).await;
    assert_eq!(log_of(c.node.store(), origin).await, log);
    let d = TestNode::joining(&certs, "d", &[c.port]).await;
    eventually("d has it", || async { (d.vector() == vector).then_some(()) }).await;
    for key in &keys {
        assert_eq!(d.client.get_local(key).await.unwrap().encrypted_access_grant, "from a");
    }
    for node in [b, c, d] {
        node.stop().await;
    }
}

/// Each joins its neighbours only, and all of them write, also while the middle is away.
#[tokio::test(flavor = "multi_thread")]
async fn a_line_of_nodes_converges_and_goes_on_after_its_middle_was_away() {
    let mut cluster = Cluster::start_some(4, 0, |config| config).await;
    let addresses: Vec<String> = cluster.ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let line = |i: usize, config: Config| {
        let neighbours = (0..4).filter(|j| i.abs_diff(*j) == 1);
        Config { join: neighbours.map(|j| addresses[j].clone()).collect(), ..config }
    };
    for i in 0..4 {
        cluster.start_node_with(i, |config| line(i, config)).await;
    }
    let mut keys = Vec::new();
    for node in cluster.running() {
        keys.extend(put_all(node, &node.id, 10).await);
    }
    cluster.converged().await;
    cluster.stop_node(1).await;
    for node in cluster.running() {
        keys.extend(put_all(node, &node.id, 10).await);
    }
    eventually("the far part has converged", || async {
        (cluster.node(2).vector() == cluster.node(3).vector()).then_some(())
    })
    .await;
    assert_ne!(cluster.node(0).vector(), cluster.node(2).vector(), "there is no way around the middle");
    cluster.start_node_with(1, |config| line(1, config)).await;
    keys.extend(put_all(cluster.node(1), "back", 10).await);
    cluster.converged().await;
    assert_same(cluster.running(), &keys).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn origins_whose_names_begin_alike_are_never_mixed() {
    let certs = Certs::new();
    let ids = ["a", "aa", "a.a", "aaaaaaaaaaaaaaaaaaaaaaaaaaaa"];
    let mut nodes = Vec::new();
    for id in ids {
        nodes.push(TestNode::joining(&certs, id, &[]).await);
    }
    let ports: Vec<u16> = nodes.iter().map(|node| node.port).collect();
    let relay = TestNode::joining(&certs, "relay", &ports).await;
    let last = TestNode::joining(&certs, "last", &[relay.port]).await;
    let mut keys = Vec::new();
    for (i, node) in nodes.iter().enumerate() {
        keys.push(put_all(node, &node.id, 5 + i).await);
    }
    eventually("all is relayed", || async {
        (last.vector().entries_above(&Default::default()) == 26).then_some(())
    })
    .await;
    for (node, keys) in nodes.iter().zip(&keys) {
        let (through, entries) = log_of(last.node.store(), node.node.store().origin()).await;
        assert_eq!(through, keys.len() as u64);
        let logged: Vec<Vec<u8>> = entries.iter().map(|entry| entry.key_hash.to_vec()).collect();
        assert_eq!(&logged, keys, "the log of {}", node.id);
    }
    assert_eq!(nodes[0].vector().len(), 1, "nobody pulled anything into a");
    for node in nodes.into_iter().chain([relay, last]) {
        node.stop().await;
    }
}
