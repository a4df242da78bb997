//! Peers that claim clocks that no log has, and ends and histories that no origin has signed.

use crate::harness::{
    certs::Certs,
    eventually,
    fake_peer::{FakePeer, Script},
    free_port,
    http::get,
    identity::TestOrigin,
    node::{TestNode, config},
    random_key,
    wire::{at, batch, create, origin},
};
use brock::config::validate::Config;
use brock_core::{
    base::{claims::ClaimKind, time::unix_now, trust::TrustMode, vector::Clock},
    domain::head::Head,
    proto::{self, cluster_response::Node, replicate_response::Message},
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
    assert!(liar.refused(ClaimKind::Unsent) > 0);
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

/// The victim has the log that they are about.
#[tokio::test(flavor = "multi_thread")]
async fn ends_and_histories_of_a_log_that_its_origin_has_not_signed_change_nothing() {
    let certs = Certs::new();
    let own = TestOrigin::certified(&certs, origin("own", 1));
    let keys: Vec<Vec<u8>> = (0..2).map(|_| random_key()).collect();
    let step = |clock: u64| {
        let key = &keys[usize::try_from(clock).unwrap() - 1];
        own.sign(clock - 1, vec![create(clock, key, b"x")])
    };
    let (first, second) = (step(1), step(2));
    let now_ms = u64::try_from(unix_now()).unwrap() * 1000;
    let here = own.head(&first, now_ms);
    let forged = Head { signature: [1; 64], ..own.head(&second, now_ms) };
    let mut other_history = here.tip;
    other_history.root[0] ^= 1;
    // Two tips that contradict each other, the second of which it has not signed.
    let fork = proto::Fork {
        birth: Some(own.birth()),
        one: here.tip.of_origin(&own.origin).tip,
        other: other_history.of_origin(&own.origin).tip,
        ..Default::default()
    };
    let says = |heads: proto::Heads| {
        let heads =
            proto::Heads { node_id: "liar".to_owned(), incarnation: 1, now_unix: unix_now(), ..heads };
        Message::Heads(heads)
    };
    let lies = [
        (ClaimKind::Head, proto::Heads { heads: vec![forged.to_proto()], ..Default::default() }),
        (
            ClaimKind::History,
            proto::Heads { tips: vec![other_history.of_origin(&own.origin)], ..Default::default() },
        ),
        (ClaimKind::History, proto::Heads { forks: vec![fork], ..Default::default() }),
    ];
    for (number, (kind, lie)) in lies.into_iter().enumerate() {
        let then = vec![Message::Batch(first.clone()), says(lie), Message::Batch(second.clone())];
        let liar = FakePeer::start(&certs, "liar", Script { then, ..Script::new("liar") }).await;
        let config = config(&certs, "victim", free_port(), &[liar.port]);
        let victim = TestNode::start(&certs, Config { trust: TrustMode::Distributed, ..config }).await;
        eventually(&format!("behind lie {number} the log goes on"), || victim.client.has_local(&keys[1]))
            .await;
        assert_eq!(liar.refused(kind), 1, "lie {number}");
        let store = victim.node.store();
        assert!(!store.is_frozen(&own.origin) && store.forks().is_empty(), "lie {number}");
        assert_eq!(store.head(&own.origin), None, "lie {number}");
        assert_eq!(victim.vector(), at(own.origin, 2));
        victim.stop().await;
    }
}
