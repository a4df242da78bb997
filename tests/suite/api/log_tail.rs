//! `log tail`: what a node's log gains, in the order in which it becomes visible.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::harness::{
    admin::Admin,
    certs::Certs,
    client::record,
    cluster::Cluster,
    eventually,
    fake_peer::{FakePeer, Script},
    free_port,
    node::{TestNode, compacts_on_command, config},
    process::{NODE_ADMIN, lines_of},
    random_key,
    wire::{at, batch, create, origin},
};
use brock::store::StoreError;
use brock_core::{
    base::{limits, vector::Vector},
    proto,
};
use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::timeout};
use tonic::Code;

fn lines(admin: &Admin, arguments: &[&str]) -> Vec<Value> {
    let output = admin.run(&[&["log", "tail", "-o", "json"], arguments].concat(), "");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A `node-admin log tail --follow` that runs. Killed when dropped.
struct Following(Child, mpsc::Receiver<String>);

impl Following {
    fn start(certs: &Certs, address: &str, last: &str) -> Self {
        let mut command = Command::new(NODE_ADMIN);
        command.args(["--certs-dir", certs.admin().to_str().unwrap(), "--node-addresses", address]);
        command.args(["log", "tail", "-f", "-o", "json", "-n", last]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let seen = lines_of(child.stdout.take().unwrap());
        Self(child, seen)
    }

    async fn next(&mut self) -> Value {
        let line = timeout(Duration::from_secs(60), self.1.recv()).await.expect("nothing comes");
        serde_json::from_str(&line.expect("it ended")).unwrap()
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_entries_of_all_origins_come_in_the_order_of_their_arrival() {
    let cluster = Cluster::start(2).await;
    let mut keys = Vec::new();
    // One after the other, each awaited here, so the order is a fact.
    for i in 0..12 {
        let key = random_key();
        cluster.node(i % 2).client.put(&key, b"grant").await.unwrap();
        cluster.converged().await;
        keys.push(HEXLOWER.encode(&key));
    }
    let admin = Admin::new(&cluster.certs.admin(), &[cluster.node(0).address()]);
    let all = lines(&admin, &["-n", "100"]);
    let seen: Vec<&str> = all.iter().map(|entry| entry["key_hash"].as_str().unwrap()).collect();
    assert_eq!(seen, keys);
    for (i, entry) in all.iter().enumerate() {
        let origin = entry["origin"].as_str().unwrap();
        assert!(origin.starts_with(&format!("node-{}/", i % 2)), "{entry}");
        assert_eq!((&entry["clock"], &entry["operation"]), (&json!(i / 2 + 1), &json!("create")));
        assert!(entry["applied_unix_ms"].is_i64() && entry["log_bytes"].as_u64().unwrap() > 100, "{entry}");
        assert_eq!(entry["quarantined"], false);
    }
    assert_eq!(lines(&admin, &["-n", "5"]), all[7..]);
    assert_eq!(lines(&admin, &["-n", "0"]), Vec::<Value>::new());
    admin.fails(2, "10000", &["log", "tail", "-n", "10001"], "");
    let text = String::from_utf8(admin.run(&["log", "tail", "-n", "1"], "").stdout).unwrap();
    assert!(text.starts_with("APPLIED HERE") && text.contains(keys.last().unwrap()), "{text}");
    Admin::new(&cluster.certs.client(), &[cluster.node(0).address()]).fails(
        6,
        "not for the role client",
        &["log", "tail"],
        "",
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_follows_is_shown_every_kind_from_every_origin_as_it_comes() {
    let cluster = Cluster::start(2).await;
    let (key, other) = (random_key(), random_key());
    cluster.node(0).client.put(&key, b"grant").await.unwrap();
    cluster.converged().await;
    let mut following = Following::start(&cluster.certs, &cluster.node(0).address(), "1");
    assert_eq!(following.next().await["key_hash"], json!(HEXLOWER.encode(&key)));
    let public = proto::Record { public: true, ..record(b"grant") };
    cluster.node(1).client.put_record(&other, public).await.unwrap();
    assert_eq!(following.next().await["key_hash"], json!(HEXLOWER.encode(&other)));
    let admin = &cluster.node(1).admin;
    admin.unpublish(&other).await.unwrap();
    assert_eq!(following.next().await["operation"], "unpublish");
    admin.invalidate(&other, "leaked", None).await.unwrap();
    assert_eq!(following.next().await["operation"], "invalidate");
    admin.delete(&other, None).await.unwrap();
    let last = following.next().await;
    assert_eq!((&last["operation"], &last["clock"]), (&json!("delete"), &json!(4)));
    // More than one page, from an origin that others wait behind.
    let before = cluster.node(0).vector();
    let requests: Vec<Vec<u8>> = (0..3 * limits::TAIL_PAGE).map(|_| random_key()).collect();
    for chunk in requests.chunks(256) {
        let put = chunk.iter().map(|key| cluster.node(1).client.put(key, b"grant"));
        futures::future::try_join_all(put).await.unwrap();
    }
    let mut clock = 4;
    for _ in &requests {
        clock += 1;
        assert_eq!(following.next().await["clock"], json!(clock));
    }
    assert_eq!(cluster.converged().await.entries_above(&before), requests.len() as u64);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_quarantined_is_shown_as_that() {
    let certs = Certs::new();
    let mut unknown = create(2, &random_key(), b"x");
    unknown.operation = vec![8, 99].into();
    let batches = vec![batch(origin("peer", 1), 0, 2, vec![create(1, &random_key(), b"g"), unknown])];
    let script = Script { heads: at(origin("peer", 1), 2), batches, ..Script::new("peer") };
    let peer = FakePeer::start(&certs, "peer", script).await;
    let node = TestNode::start(&certs, config(&certs, "node-1", free_port(), &[peer.port])).await;
    eventually("both are applied", || async { (node.vector().get(&origin("peer", 1)).0 == 2).then_some(()) })
        .await;
    let shown = lines(&Admin::new(&certs.admin(), &[node.address()]), &[]);
    let is = |i: usize| (shown[i]["operation"].clone(), shown[i]["quarantined"].clone());
    assert_eq!(is(0), (json!("create"), json!(false)));
    assert_eq!(is(1), (json!("unknown"), json!(true)));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_compaction_has_overtaken_is_told_so() {
    let cluster = Cluster::start_with(1, compacts_on_command).await;
    let store = cluster.node(0).node.store();
    for _ in 0..5 {
        cluster.node(0).client.put(&random_key(), b"g").await.unwrap();
    }
    assert_eq!(store.tail_above(Vector::default(), 3).await.unwrap().0.len(), 3);
    cluster.compact().await;
    let overtaken = store.tail_above(Vector::default(), 3).await;
    assert!(matches!(overtaken, Err(StoreError::BelowFloor { .. })), "{overtaken:?}");
    let (newest, read) = store.tail(10).await.unwrap();
    assert_eq!((newest.len(), read), (0, store.vector()));
    cluster.node(0).client.put(&random_key(), b"g").await.unwrap();
    assert_eq!(store.tail_above(store.floors(), 3).await.unwrap().0[0].stamp.clock.0, 6);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_so_many_follow_at_once_and_one_that_leaves_makes_room() {
    let cluster = Cluster::start(1).await;
    let mut admin = cluster.node(0).admin.admin.clone();
    let request = proto::TailLogRequest { last: 0, follow: true };
    let mut following = Vec::new();
    for _ in 0..limits::TAILS_MAX {
        following.push(admin.tail_log(request).await.unwrap());
    }
    let refused = admin.tail_log(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    following.pop();
    let mut last = eventually("there is room again", || {
        let mut admin = admin.clone();
        async move { Some(admin.tail_log(request).await.ok()?.into_inner()) }
    })
    .await;
    drop(following);
    // A follower does not hold up a shutdown.
    cluster.stop().await;
    let told = last.message().await.unwrap_err();
    assert!(told.code() == Code::Unavailable && told.message().contains("begin again"), "{told}");
}
