//! Peers that claim clocks that no log has.

use crate::harness::{
    certs::Certs,
    eventually,
    fake_peer::{FakePeer, Script},
    free_port,
    http::get,
    node::{TestNode, config},
    random_key,
    wire::{batch, create, origin},
};
use brock::config::validate::Config;
use brock_core::{
    base::vector::Clock,
    proto::{self, cluster_response::Node},
};

async fn of_peer(node: &TestNode, id: &str) -> proto::Peer {
    let find = || async { node.admin.status().await.peers.into_iter().find(|peer| peer.node_id == id) };
    eventually("the peer is known", find).await
}

async fn cluster(node: &TestNode) -> (Vec<Node>, proto::Verdict) {
    let view = node
        .admin
        .admin
        .clone()
        .cluster(proto::ClusterRequest { history: false, fresh: false })
        .await
        .unwrap();
    let proto::ClusterResponse { nodes, verdict } = view.into_inner();
    (nodes, verdict.unwrap())
}

/// The liar claims logs that it never sends, in its own name, an honest node's and this node's, and sends one
/// entry that covers everything. None of it overflows; the claims stop to count, and a true lag still does.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_its_peer_does_not_make_good_counts_for_a_moment_only() {
    let certs = Certs::new();
    let honest = TestNode::start(&certs, config(&certs, "honest", free_port(), &[])).await;
    let claimed = ["liar", "honest", "me", "elsewhere"].into_iter();
    let heads =
        claimed.flat_map(|id| [(origin(id, 5), Clock(u64::MAX)), (origin(id, 6), Clock(1 << 62))]).collect();
    let endless = |incarnation| {
        batch(origin("me", incarnation), 0, u64::MAX, vec![create(u64::MAX, &random_key(), b"x")])
    };
    let script = Script { heads, batches: vec![endless(7), endless(8)], ..Script::new("liar") };
    let liar = FakePeer::start(&certs, "liar", script).await;
    let http = free_port();
    let config = config(&certs, "me", free_port(), &[honest.port, liar.port]);
    let http_address = Some(format!("127.0.0.1:{http}").parse().unwrap());
    let me = TestNode::start(&certs, Config { http_address, ..config }).await;
    let healthy =
        |path: &'static str| async move { get(http, path).await.unwrap().starts_with("HTTP/1.1 200") };
    of_peer(&me, "liar").await;
    eventually("the lie does not count any more", || async {
        healthy("/healthz?max_lag=10").await.then_some(())
    })
    .await;
    assert!(healthy("/readyz").await);
    assert_eq!(of_peer(&me, "liar").await.lag_entries, Some(0));
    let (nodes, verdict) = cluster(&me).await;
    let lags = &nodes[0].lags.as_ref().unwrap().entries;
    assert!(lags.values().all(|lag| *lag == 0), "{lags:?}");
    // Between two of its broken streams the connection is up.
    let is_about_claims = |what: &str| what.contains("does not send") || what.contains("broke the protocol");
    let finding = verdict.findings.iter().find(|finding| is_about_claims(&finding.what));
    assert!(finding.is_some_and(|finding| finding.what.contains("liar")), "{verdict:?}");
    let key = random_key();
    honest.client.put(&key, b"grant").await.unwrap();
    eventually("the honest node is followed", || me.client.has_local(&key)).await;
    me.stop().await;
    honest.stop().await;
}
