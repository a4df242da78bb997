//! How the whole cluster is, as any one of its nodes says.

use std::collections::BTreeMap;

use crate::harness::{
    client::Client,
    cluster::Cluster,
    eventually,
    identity::TestOrigin,
    node::compacts_on_command,
    random_key,
    wire::{create, origin},
};
use brock::{config::validate::Config, transfer::proof::Verifier};
use brock_core::{
    base::{limits, trust::TrustMode},
    domain::{birth::SignedBirth, segment::Segment},
    proto::{self, cluster_response::Node, verdict::Level},
};

async fn view(admin: &Client, history: bool) -> proto::ClusterResponse {
    let request = proto::ClusterRequest { history, fresh: false };
    admin.admin.clone().cluster(request).await.unwrap().into_inner()
}

/// What was durable before is in a view that is to be fresh, at the node that is asked and at its peers.
#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_view_is_not_older_than_the_call() {
    let cluster = Cluster::start_with(2, compacts_on_command).await;
    let admin = &cluster.node(0).admin;
    eventually("both answer", || async {
        view(admin, false).await.nodes.iter().all(|node| node.status.is_some()).then_some(())
    })
    .await;
    for records in 1..=5 {
        view(admin, false).await;
        cluster.node(1).client.put(&random_key(), b"grant").await.unwrap();
        let request = proto::ClusterRequest { history: false, fresh: true };
        let fresh = admin.admin.clone().cluster(request).await.unwrap().into_inner();
        assert_eq!(named(&fresh, "node-1").status.as_ref().unwrap().records, records);
    }
    cluster.stop().await;
}

fn named<'a>(view: &'a proto::ClusterResponse, name: &str) -> &'a Node {
    view.nodes.iter().find(|node| node.node == name).unwrap_or_else(|| panic!("{name} is not in {view:?}"))
}

fn lags(node: &Node) -> BTreeMap<&str, u64> {
    let lags = node.lags.as_ref().unwrap();
    lags.entries.iter().map(|(origin, lag)| (origin.as_str(), *lag)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_of_healthy_nodes_is_well_and_every_one_of_them_says_so() {
    let cluster = Cluster::start_with(3, compacts_on_command).await;
    for _ in 0..5 {
        cluster.node(1).client.put(&random_key(), b"grant").await.unwrap();
    }
    cluster.node(0).client.get(&random_key()).await.unwrap_err();
    cluster.converged().await;
    for i in 0..3 {
        let view = eventually("all say that all is well", || async {
            let view = view(&cluster.node(i).admin, true).await;
            (view.verdict.as_ref().unwrap().level() == Level::Well).then_some(view)
        })
        .await;
        assert_eq!(view.nodes[0].node, format!("node-{i}"), "the one that was asked comes first");
        assert_eq!(view.nodes.len(), 3);
        for node in &view.nodes {
            assert_eq!(lags(node), [("node-1", 0)].into(), "only node-1 has written");
            let status = node.status.as_ref().unwrap();
            assert_eq!(status.records, 5);
            assert!(!status.history.is_empty(), "sampled since the start");
            assert!(status.certificates.iter().any(|certificate| certificate.file.starts_with("node")));
        }
        let writes = |name| named(&view, name).status.as_ref().unwrap().traffic.unwrap().writes;
        assert_eq!((writes("node-0"), writes("node-1")), (0, 5));
        let received = |name| named(&view, name).status.as_ref().unwrap().traffic.unwrap().entries_received;
        assert!(received("node-0") >= 5);
        assert_eq!(named(&view, "node-0").status.as_ref().unwrap().traffic.unwrap().reads, 1);
    }
    assert!(
        view(&cluster.node(0).admin, false)
            .await
            .nodes
            .iter()
            .all(|node| { node.status.as_ref().is_some_and(|status| status.history.is_empty()) })
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_node_is_unknown_and_a_lagging_one_lacks_what_it_lacks() {
    let mut cluster = Cluster::start_some(3, 1, compacts_on_command).await;
    // It pulls from no peer.
    cluster.start_node_with(1, |config| Config { join: Vec::new(), ..config }).await;
    for _ in 0..7 {
        cluster.node(0).client.put(&random_key(), b"grant").await.unwrap();
    }
    cluster.node(1).client.put(&random_key(), b"grant").await.unwrap();
    let view = eventually("node 0 has what node 1 wrote", || async {
        let view = view(&cluster.node(0).admin, false).await;
        // Its status was taken a moment before its clocks.
        let status = view.nodes[0].status.as_ref()?;
        let pulls = status.peers.iter().any(|peer| peer.up && peer.node_id == "node-1");
        (pulls && lags(&view.nodes[0]).get("node-1") == Some(&0)).then_some(view)
    })
    .await;
    let lagging = named(&view, "node-1");
    assert_eq!(lags(lagging), [("node-0", 7), ("node-1", 0)].into());
    // It has never said what it is called.
    let dead = named(&view, &format!("127.0.0.1:{}", cluster.ports[2]));
    assert!(dead.status.is_none() && dead.lags.is_none() && !dead.error.is_empty(), "{dead:?}");
    let verdict = view.verdict.as_ref().unwrap();
    assert_eq!(verdict.level(), Level::Act);
    assert!(verdict.sentence.starts_with("2 of 3 nodes answer; act now: "), "{verdict:?}");
    assert!(verdict.findings[0].todo.contains(&dead.address), "{verdict:?}");
    // Seen from the one that joins no peer: node 0 pulls from it, so it is known, and cannot be asked.
    let seen = self::view(&cluster.node(1).admin, false).await;
    assert!(named(&seen, "node-0").error.contains("not in this node's node.join"), "{seen:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_knows_how_far_away_its_peers_are_and_what_the_last_rounds_brought() {
    let short = |config| Config {
        replication_interval: std::time::Duration::from_millis(100),
        ..compacts_on_command(config)
    };
    let mut cluster = Cluster::start_with(2, short).await;
    cluster.node(0).client.put(&random_key(), b"grant").await.unwrap();
    let peer = eventually("a round that brought the record has ended, and a ping was answered", || async {
        let peer = cluster.node(1).admin.status().await.peers.pop().unwrap();
        let brought = peer.recent_rounds.iter().any(|round| round.entries == 1 && round.bytes > 5);
        (brought && peer.round_trip_micros.is_some()).then_some(peer)
    })
    .await;
    let micros = peer.round_trip_micros.unwrap();
    assert!((1..2_000_000).contains(&micros), "{micros}");
    assert!(peer.recent_rounds.iter().all(|round| round.error.is_empty() && round.started_unix_ms > 0));
    eventually("more rounds have ended than are remembered", || async {
        let peer = cluster.node(1).admin.status().await.peers.pop().unwrap();
        (peer.rounds > 25).then_some(())
    })
    .await;
    cluster.stop_node(0).await;
    eventually("a failed round is remembered with its error", || async {
        let peer = cluster.node(1).admin.status().await.peers.pop().unwrap();
        assert_eq!(peer.recent_rounds.len(), 20, "only the last ones");
        peer.recent_rounds.iter().any(|round| !round.error.is_empty()).then_some(())
    })
    .await;
    eventually("what does not answer is not near", || async {
        let peer = cluster.node(1).admin.status().await.peers.pop().unwrap();
        peer.round_trip_micros.is_none().then_some(())
    })
    .await;
    cluster.stop().await;
}

/// Of what a node lists, any number may be frozen, and a report holds some of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_has_frozen_more_than_a_report_holds_can_still_be_asked() {
    let cluster = Cluster::start_with(2, compacts_on_command).await;
    let store = cluster.node(1).node.store();
    let verifier = Verifier::new(store.clone(), TrustMode::Distributed, None);
    let born =
        |origin| TestOrigin::certified(&cluster.certs, origin).sign(0, vec![create(1, &random_key(), b"x")]);
    for incarnation in 1..=u32::try_from(limits::FORKS_MAX).unwrap() + 1 {
        let origin = origin("twice", incarnation);
        let segment = Segment::check(born(origin)).unwrap();
        let segment = verifier.check_segment(&origin.node_id(), segment).unwrap();
        store.apply(segment).await.unwrap();
        let other = SignedBirth::from_proto(born(origin).birth.unwrap()).unwrap();
        assert!(verifier.prove_two_births(other).await.unwrap() && store.is_frozen(&origin));
    }
    assert_eq!(store.forks().len(), limits::FORKS_MAX + 1);
    let view = view(&cluster.node(0).admin, false).await;
    let status = named(&view, "node-1").status.as_ref().unwrap();
    assert_eq!(status.trust.as_ref().unwrap().forks.len(), limits::FORKS_MAX);
    cluster.stop().await;
}
