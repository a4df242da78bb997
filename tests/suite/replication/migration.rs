//! From certificates without URIs, whose nodes sign nothing, to nodes that believe only what is proven.

use std::path::PathBuf;

use crate::harness::{
    admin::Admin,
    certs::Certs,
    client::{Client, record},
    eventually, free_port,
    node::{compacts_on_command, config},
    own_ca::{Leaf, OwnCa},
    random_key,
};
use brock::{config::validate::Config, node::Node};
use brock_core::{
    base::{time::unix_now, trust::TrustMode},
    proto::{self, verify_response::Verdict},
};
use serde_json::json;
use tempfile::TempDir;
use tonic::Code;

struct Nodes {
    ca: OwnCa,
    /// For what a configuration needs besides.
    certs: Certs,
    admin: PathBuf,
    directory: TempDir,
    ports: [u16; 3],
    /// Of the nodes that sign.
    destruction_limit: Option<u64>,
}

impl Nodes {
    fn new() -> Self {
        let ca = OwnCa::new();
        let admin = ca.directory("admin", &Leaf::admin("ops"));
        let ports = [free_port(), free_port(), free_port()];
        let (directory, certs) = (tempfile::tempdir().unwrap(), Certs::new());
        // What is logged again destroys nothing.
        Self { ca, certs, admin, directory, ports, destruction_limit: Some(1) }
    }

    /// Starts a node on its storage, with such a certificate.
    async fn start(&self, i: usize, certs: &str, has_uri: bool, trust: TrustMode) -> Node {
        let id = format!("node-{i}");
        let leaf = Leaf::node(&id);
        let leaf = if has_uri { leaf } else { Leaf { uris: Vec::new(), ..leaf } };
        let others: Vec<u16> = (0..2).filter(|other| *other != i).map(|other| self.ports[other]).collect();
        let config = compacts_on_command(config(&self.certs, &id, self.ports[i], &others));
        let config = Config {
            certs_dir: self.ca.directory(&format!("{certs}-{i}"), &leaf),
            path: Some(self.directory.path().join(&id)),
            trust,
            destruction_limit: self.destruction_limit.filter(|_| has_uri),
            ..config
        };
        Node::start(config, None).await.unwrap()
    }

    async fn client(&self, i: usize) -> Client {
        Client::lasting(&format!("127.0.0.1:{}", self.ports[i]), &self.admin).await
    }
}

async fn compact(nodes: &Nodes) {
    for i in 0..2 {
        eventually("the log of before is compacted", || async {
            let client = nodes.client(i).await;
            let compacted = client.admin.clone().compact(proto::CompactRequest {}).await.unwrap();
            (compacted.into_inner().entries_kept == 0).then_some(())
        })
        .await;
    }
}

async fn same(nodes: &[&Node]) {
    eventually("all have applied the same", || async {
        let first = nodes[0].store().applied();
        nodes.iter().all(|node| node.store().applied() == first).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_signed_nothing_becomes_distributed_without_downtime() {
    let nodes = Nodes::new();
    let centralized = TrustMode::Centralized;
    let [a, b] = [0, 1].map(|i| nodes.start(i, "bare", false, centralized));
    let (a, b) = (a.await, b.await);
    let (client, at_b) = (nodes.client(0).await, nodes.client(1).await);
    let [valid, revoked, hidden, deleted, expiring] = std::array::from_fn(|_| random_key());
    for key in [&valid, &revoked, &hidden, &deleted] {
        client.put_record(key, proto::Record { public: true, ..record(b"grant") }).await.unwrap();
    }
    let expires_at_unix = unix_now() + 3600;
    client.put_record(&expiring, proto::Record { expires_at_unix, ..record(b"grant") }).await.unwrap();
    client.invalidate(&revoked, "leaked", None).await.unwrap();
    client.unpublish(&hidden).await.unwrap();
    client.delete(&deleted, None).await.unwrap();
    let invalidated_at = client.show(&revoked).await.unwrap().invalidated_at_unix;
    same(&[&a, &b]).await;
    let trust = at_b.status().await.trust.unwrap();
    assert_eq!((trust.unproven_records, trust.unborn_origins), (5, 1));
    let tool = Admin::new(&nodes.admin, &[format!("127.0.0.1:{}", nodes.ports[0])]);
    tool.fails(2, "--yes", &["trust", "migrate"], "");
    tool.fails(2, "brock cert node", &["trust", "migrate", "--yes"], "");
    let shown = tool.run(&["trust", "status"], "");
    let told = String::from_utf8_lossy(&shown.stderr);
    assert!(shown.status.code() == Some(5) && told.contains("not proven at node-0, node-1"), "{told}");

    // Certificates that name the nodes, one node after the other.
    assert!(a.stop().await.closed);
    let a = nodes.start(0, "named", true, centralized).await;
    assert!(b.stop().await.closed);
    let b = nodes.start(1, "named", true, centralized).await;
    let migrated = tool.json(&["trust", "migrate", "--yes"], "");
    let counted = ["records", "operations", "orders", "unproven_records"].map(|name| &migrated[name]);
    assert_eq!(counted, [&json!(5), &json!(7), &json!(3), &json!(0)], "{migrated}");
    let again = tool.json(&["trust", "migrate", "--yes"], "");
    assert_eq!((&again["operations"], &again["orders"]), (&json!(0), &json!(0)), "{again}");
    eventually("the other node has it proven too", || async {
        tool.run(&["trust", "status"], "").status.success().then_some(())
    })
    .await;
    let trusts = tool.json(&["trust", "status"], "");
    let all = trusts["nodes"].as_array().unwrap().iter().map(|node| &node["trust"]);
    assert!(
        all.map(|trust| (&trust["unproven_records"], &trust["signs"])).eq([(&json!(0), &json!(true)); 2])
    );
    same(&[&a, &b]).await;
    assert!(nodes.client(1).await.status().await.paused.is_empty());
    compact(&nodes).await;

    // Distributed, one node after the other, and then one that is empty.
    let distributed = TrustMode::Distributed;
    assert!(a.stop().await.closed);
    let a = nodes.start(0, "distributed", true, distributed).await;
    assert!(b.stop().await.closed);
    let b = nodes.start(1, "distributed", true, distributed).await;
    let new = nodes.start(2, "new", true, distributed).await;
    same(&[&a, &b, &new]).await;
    let client = nodes.client(2).await;
    assert_eq!(new.store().totals().unproven, 0);
    assert_eq!(client.get_local(&valid).await.unwrap().encrypted_access_grant.as_ref(), b"grant");
    assert_eq!(client.get_local(&revoked).await.unwrap_err().code(), Code::FailedPrecondition);
    assert_eq!(client.show(&revoked).await.unwrap().invalidated_at_unix, invalidated_at);
    assert!(client.show(&valid).await.unwrap().public && !client.show(&hidden).await.unwrap().public);
    assert_eq!(client.get_local(&deleted).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(client.get_local(&expiring).await.unwrap().expires_at_unix, expires_at_unix);
    eventually("it is ready", || async { client.status().await.ready.then_some(()) }).await;
    let alarms = client.status().await.alarms;
    assert!(alarms.is_empty(), "{alarms:?}");
    eventually("all hold the same", || async {
        (client.verify().await.verdict() == Verdict::Converged).then_some(())
    })
    .await;
    for node in [a, b, new] {
        assert!(node.stop().await.closed);
    }
}

/// The alarm at the others names that node, and its operator does not restart it first.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_logged_again_at_the_node_whose_log_has_ended_reaches_the_others() {
    let nodes = Nodes { destruction_limit: None, ..Nodes::new() };
    let a = nodes.start(0, "named", true, TrustMode::Centralized).await;
    let b = nodes.start(1, "named", true, TrustMode::Distributed).await;
    let nameless = Leaf { uris: Vec::new(), ..Leaf::admin("ops") };
    let nameless = nodes.ca.directory("nameless", &nameless);
    let nameless = Client::lasting(&format!("127.0.0.1:{}", nodes.ports[0]), &nameless).await;
    let (client, at_b) = (nodes.client(0).await, nodes.client(1).await);
    let key = random_key();
    client.put(&key, b"grant").await.unwrap();
    eventually("the other node has it", || at_b.has_local(&key)).await;
    nameless.invalidate(&key, "leaked", None).await.unwrap();
    eventually("the distributed node does not take it", || async {
        let alarms = at_b.status().await.alarms;
        alarms.iter().any(|alarm| alarm.text.contains("trust migrate")).then_some(())
    })
    .await;
    let ended = a.store().origin();
    let tool = Admin::new(&nodes.admin, &[format!("127.0.0.1:{}", nodes.ports[0])]);
    let migrated = tool.json(&["trust", "migrate", "--yes"], "");
    assert_eq!(
        (&migrated["operations"], &migrated["unproven_records"]),
        (&json!(1), &json!(0)),
        "{migrated}"
    );
    eventually("the other node takes it", || async {
        let refused = at_b.get_local(&key).await.err().map(|error| error.code());
        (refused == Some(Code::FailedPrecondition)).then_some(())
    })
    .await;
    assert_ne!(a.store().origin(), ended);
    assert_eq!(client.status().await.incarnation_reason, "migrated");
    for node in [a, b] {
        assert!(node.stop().await.closed);
    }
}

/// An operator without a URI, and a cluster of which a part is distributed already.
#[tokio::test(flavor = "multi_thread")]
async fn what_no_operator_has_signed_is_counted_and_logged_again_with_an_order() {
    let nodes = Nodes { destruction_limit: None, ..Nodes::new() };
    let (centralized, distributed) = (TrustMode::Centralized, TrustMode::Distributed);
    let a = nodes.start(0, "named", true, centralized).await;
    let b = nodes.start(1, "named", true, distributed).await;
    let nameless = Leaf { uris: Vec::new(), ..Leaf::admin("ops") };
    let nameless = nodes.ca.directory("nameless", &nameless);
    let nameless = Client::lasting(&format!("127.0.0.1:{}", nodes.ports[0]), &nameless).await;
    let (client, at_b) = (nodes.client(0).await, nodes.client(1).await);
    let [revoked, hidden, deleted, later] = std::array::from_fn(|_| random_key());
    for key in [&revoked, &hidden, &deleted] {
        client.put_record(key, proto::Record { public: true, ..record(b"grant") }).await.unwrap();
        eventually("the other node has it", || at_b.has_local(key)).await;
    }
    nameless.invalidate(&revoked, "leaked", None).await.unwrap();
    nameless.unpublish(&hidden).await.unwrap();
    nameless.delete(&deleted, None).await.unwrap();
    client.put(&later, b"grant").await.unwrap();
    eventually("the distributed node takes none of it", || async {
        let alarms = at_b.status().await.alarms;
        alarms.iter().any(|alarm| alarm.text.contains("trust migrate")).then_some(())
    })
    .await;
    assert!(at_b.get_local(&revoked).await.is_ok() && at_b.get_local(&later).await.is_err());
    let status = client.status().await;
    let (trust, unproven) = (status.trust.unwrap(), at_b.status().await.trust.unwrap().unproven_records);
    assert_eq!((trust.unproven_records, trust.unborn_origins, unproven), (3, 0, 0));
    let tool = Admin::new(&nodes.admin, &[format!("127.0.0.1:{}", nodes.ports[0])]);
    let cluster = tool.run(&["status", "--cluster", "-o", "json"], "").stdout;
    assert!(!String::from_utf8_lossy(&cluster).contains("are not proven"), "a finding of a centralized node");

    assert!(a.stop().await.closed);
    let a = nodes.start(0, "distributed", true, distributed).await;
    let migrated = tool.json(&["trust", "migrate", "--yes"], "");
    let counted = ["records", "operations", "orders", "unproven_records"].map(|name| &migrated[name]);
    assert_eq!(counted, [&json!(3), &json!(3), &json!(3), &json!(0)], "{migrated}");
    eventually("the distributed node takes what is ordered", || async {
        let refused = at_b.get_local(&revoked).await.err().map(|error| error.code());
        (refused == Some(Code::FailedPrecondition)).then_some(())
    })
    .await;
    // The rest of the log that has ended.
    assert!(b.stop().await.closed);
    let b = nodes.start(1, "again", true, centralized).await;
    same(&[&a, &b]).await;
    assert!(b.stop().await.closed);
    let b = nodes.start(1, "strict", true, distributed).await;
    let at_b = nodes.client(1).await;
    same(&[&a, &b]).await;
    eventually("both hold the same", || async {
        (nodes.client(0).await.verify().await.verdict() == Verdict::Converged).then_some(())
    })
    .await;
    at_b.has_local(&later).await.unwrap();
    compact(&nodes).await;

    let new = nodes.start(2, "new", true, distributed).await;
    same(&[&a, &b, &new]).await;
    let client = nodes.client(2).await;
    eventually("it is ready", || async { client.status().await.ready.then_some(()) }).await;
    assert_eq!(new.store().totals().unproven, 0);
    for node in [&at_b, &client] {
        assert_eq!(node.get_local(&revoked).await.unwrap_err().code(), Code::FailedPrecondition);
        assert_eq!(node.get_local(&deleted).await.unwrap_err().code(), Code::NotFound);
        assert!(!node.show(&hidden).await.unwrap().public);
        node.has_local(&later).await.unwrap();
    }
    for node in [a, b, new] {
        assert!(node.stop().await.closed);
    }
}
