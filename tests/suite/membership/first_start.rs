//! `node.first-start auto`: a new node comes up by itself, and one whose disk was lost does not.

use std::{path::Path, time::Duration};

use crate::harness::{
    certs::Certs,
    cluster::Cluster,
    eventually,
    fake_peer::{FakePeer, Script},
    free_port,
    http::get,
    node::{TestNode, config},
    process::Launch,
    random_key,
};
use brock::{
    config::validate::{Config, FirstStart},
    node::{Node, StartError},
};
use brock_core::proto::RecogniseResponse;

fn auto(config: Config) -> Config {
    Config { first_start: FirstStart::Auto, ..config }
}

async fn refusal(config: Config) -> StartError {
    match Node::start(config, None).await {
        Ok(node) => {
            node.stop().await;
            panic!("it starts");
        }
        Err(error) => error,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nodes_of_a_new_cluster_that_all_start_at_once_come_up_by_themselves() {
    let certs = Certs::new();
    let directory = tempfile::tempdir().unwrap();
    // The same list for all, each itself included.
    let ports = [free_port(), free_port(), free_port()];
    let config = |i: usize| {
        let config = config(&certs, &format!("node-{i}"), ports[i], &ports);
        auto(Config { path: Some(directory.path().join(i.to_string())), ..config })
    };
    let (a, b, c) = tokio::join!(
        Node::start(config(0), None),
        Node::start(config(1), None),
        Node::start(config(2), None)
    );
    for node in [a, b, c] {
        assert!(node.unwrap().stop().await.closed);
    }
    // From now on there is storage, and no peer is asked.
    let alone = Node::start(config(0), None).await.unwrap();
    // A node that joins those that have been there.
    let ports = [free_port(), ports[0]];
    let late = Config {
        path: Some(directory.path().join("late")),
        ..crate::harness::node::config(&certs, "late", ports[0], &ports)
    };
    let late = Node::start(auto(late), None).await.unwrap();
    assert!(late.stop().await.closed);
    assert!(alone.stop().await.closed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_a_peer_knows_does_not_start_on_a_lost_disk_until_an_operator_says_so() {
    let mut cluster = Cluster::start(2).await;
    cluster.node(1).client.put(&random_key(), b"grant").await.unwrap();
    cluster.converged().await;
    cluster.stop_node(1).await;
    let lose = |path: &Path| std::fs::remove_dir_all(path).unwrap();
    lose(&cluster.path(1));
    let error = refusal(auto(cluster.config(1))).await;
    assert!(matches!(error, StartError::LivedBefore { operations: 1, .. }), "{error}");
    for part in ["node-0 at 127.0.0.1:", "knows node-1", "--node.first-start=true"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    assert!(!cluster.path(1).exists(), "a refusal changes nothing");
    // Retired: an empty disk is what all peers expect.
    cluster.node(0).admin.retire("node-1").await;
    let node = TestNode::start(&cluster.certs, auto(cluster.config(1))).await;
    eventually("it is filled", || async { (node.node.store().records() == 1).then_some(()) }).await;
    // Back as a member, it has lived before again.
    eventually("it is a member again", || async {
        let members = cluster.node(0).admin.members().await.members;
        members.iter().any(|member| member.node_id == "node-1" && !member.retired).then_some(())
    })
    .await;
    node.stop().await;
    lose(&cluster.path(1));
    assert!(matches!(refusal(auto(cluster.config(1))).await, StartError::LivedBefore { .. }));
    let said = Config { first_start: FirstStart::Yes, ..cluster.config(1) };
    TestNode::start(&cluster.certs, said).await.stop().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_under_one_id_are_told_apart_before_anything_is_made() {
    let certs = Certs::new();
    let first = TestNode::start(&certs, config(&certs, "twin", free_port(), &[])).await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    let second = config(&certs, "twin", free_port(), &[first.port]);
    let error = refusal(auto(Config { path: Some(path.clone()), ..second })).await;
    assert!(matches!(error, StartError::Twin { .. }), "{error}");
    assert!(!path.exists());
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_peers_or_with_itself_alone_is_the_first_of_its_cluster() {
    let certs = Certs::new();
    let directory = tempfile::tempdir().unwrap();
    let port = free_port();
    for (name, join) in [("none", vec![]), ("itself", vec![port])] {
        let config = config(&certs, "node-1", port, &join);
        let config = auto(Config { path: Some(directory.path().join(name)), ..config });
        assert!(Node::start(config, None).await.unwrap().stop().await.closed, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_nobody_tells_whether_it_is_new_answers_probes_and_then_gives_up() {
    let (certs, directory) = (Certs::new(), tempfile::tempdir().unwrap());
    let mut launch = Launch::new(&certs, "node-1", &directory.path().join("data"));
    launch.join = vec![free_port()];
    launch.more = vec!["--node.first-start=auto".to_owned()];
    let process = launch.spawn();
    let http_port = launch.http_port;
    let live = eventually("it is alive", || get(http_port, "/livez")).await;
    assert!(live.starts_with("HTTP/1.1 200 "), "{live}");
    let ready = get(http_port, "/readyz").await.unwrap();
    assert!(ready.starts_with("HTTP/1.1 503 ") && ready.contains("the store is not open yet"), "{ready}");
    let metrics = get(http_port, "/metrics").await.unwrap();
    assert!(metrics.contains("brock_build_info{") && metrics.contains("brock_ready 0"), "{metrics}");
    let (status, log) = process.wait();
    assert_eq!(status.code(), Some(1), "{log:?}");
    let log = log.join("\n");
    assert!(
        log.contains("no peer in node.join could be asked") && log.contains("--node.first-start=true"),
        "{log}"
    );
    assert!(!launch.path.exists());

    // And one that is told to stop meanwhile stops at once, in order.
    let process = launch.spawn();
    eventually("it is alive", || get(http_port, "/livez")).await;
    let began = std::time::Instant::now();
    let (status, log) = process.terminate();
    assert!(status.success(), "{log:?}");
    assert!(began.elapsed() < Duration::from_secs(10), "{log:?}");
}

/// No peer proves its answer: the refusal says who says what, so that an operator can decide.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_names_who_knows_the_node_and_who_does_not() {
    let certs = Certs::new();
    let honest = TestNode::start(&certs, config(&certs, "honest", free_port(), &[])).await;
    let answer = |node_id: &str, operations| RecogniseResponse {
        node_id: node_id.to_owned(),
        has_storage: true,
        operations,
        ..RecogniseResponse::default()
    };
    let says = |id: &'static str, answer| {
        let script = Script { recognise: Some(answer), ..Script::new(id) };
        let certs = &certs;
        async move { FakePeer::start(certs, id, script).await }
    };
    let liar = says("liar", answer("liar", u64::MAX)).await;
    let mute = FakePeer::start(&certs, "mute", Script::new("mute")).await;
    let directory = tempfile::tempdir().unwrap();
    let new = |join: &[u16]| Config {
        path: Some(directory.path().join("new")),
        ..config(&certs, "new", free_port(), join)
    };
    let error = refusal(auto(new(&[honest.port, liar.port, mute.port]))).await;
    assert!(matches!(error, StartError::LivedBefore { operations: u64::MAX, .. }), "{error}");
    let text = error.to_string();
    for part in [
        format!("liar at 127.0.0.1:{} knows new", liar.port),
        format!("honest at 127.0.0.1:{} does not know it", honest.port),
        format!("127.0.0.1:{}: ", mute.port),
        "if that answer is wrong, start it once with --node.first-start=true".to_owned(),
    ] {
        assert!(text.contains(&part), "{part} is not in {text}");
    }
    let said = Config { first_start: FirstStart::Yes, ..new(&[honest.port, liar.port]) };
    TestNode::start(&certs, said).await.stop().await;
    honest.stop().await;
}
