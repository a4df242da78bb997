//! How a node finds its peers: a list that may name the node itself, and names in DNS.

use std::time::Duration;

use crate::harness::{
    certs::Certs,
    client::{all_within, put_request},
    cluster::Cluster,
    dns::Dns,
    eventually, free_port,
    node::{TestNode, config},
    random_key,
};
use brock::{
    config::validate::{Config, FirstStart},
    node::Node,
};
use brock_core::{base::limits, proto::verify_response::Verdict};
use brock_net::pki::issue::LeafKind;
use tempfile::TempDir;
use tonic::Code;

/// Names under which nodes are certified besides their addresses.
const NAMES: [&str; 3] = ["cluster.test", "node-1.cluster.test", "node-2.cluster.test"];

/// Nodes on loopback addresses of their own that all have the same `node.join`.
struct Site {
    certs: Certs,
    dns: Dns,
    directory: TempDir,
    port: u16,
    join: String,
}

impl Site {
    async fn new(join: impl FnOnce(u16) -> String) -> Self {
        let port = free_port();
        Self {
            certs: Certs::new(),
            dns: Dns::start().await,
            directory: tempfile::tempdir().unwrap(),
            port,
            join: join(port),
        }
    }

    fn ip(number: u8) -> String {
        format!("127.0.1.{number}")
    }

    fn config(&self, number: u8) -> Config {
        let id = format!("node-{number}");
        let mut hosts = vec!["localhost".to_owned(), Self::ip(number)];
        hosts.push(NAMES[0].to_owned());
        hosts.extend(NAMES.iter().find(|name| name.starts_with(&id)).map(|name| (*name).to_owned()));
        self.certs.leaf(&format!("node-{id}"), LeafKind::Node { node_id: id.parse().unwrap(), hosts });
        let mut config = config(&self.certs, &id, self.port, &[]);
        config.address = format!("{}:{}", Self::ip(number), self.port).parse().unwrap();
        config.path = Some(self.directory.path().join(&id));
        config.join = vec![self.join.clone()];
        config.dns_server = Some(self.dns.address);
        config.replication_interval = Duration::from_secs(1);
        config
    }

    async fn start(&self, number: u8) -> TestNode {
        TestNode::start(&self.certs, self.config(number)).await
    }

    fn list(&self, numbers: &[u8]) {
        let ips: Vec<String> = numbers.iter().map(|number| Self::ip(*number)).collect();
        self.dns.set_addresses(NAMES[0], &ips.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

/// Waits until a node has exactly these peers, by node id, all up.
async fn has_peers(node: &TestNode, ids: &[&str]) {
    eventually(&format!("{} pulls from {ids:?}", node.id), || async {
        let mut peers = node.admin.status().await.peers;
        peers.sort_by(|a, b| a.node_id.cmp(&b.node_id));
        let found: Vec<&str> = peers.iter().map(|peer| peer.node_id.as_str()).collect();
        (found == ids && peers.iter().all(|peer| peer.up)).then_some(())
    })
    .await;
}

/// A record that is put at one node is durable at all members, which are these.
async fn reaches_all(node: &TestNode, members: &[&str]) {
    let key = random_key();
    let mut request = put_request(&key, b"grant");
    request.acks = all_within(20_000);
    let receipt = node.client.kv.clone().put(request).await.unwrap().into_inner().receipt.unwrap();
    let mut holders: Vec<String> = receipt.holders.into_iter().map(|holder| holder.node).collect();
    holders.sort();
    assert_eq!((holders, receipt.missing), (members.iter().map(|id| (*id).to_owned()).collect(), vec![]));
}

async fn member_names(node: &TestNode) -> Vec<String> {
    let members = node.admin.members().await.members;
    members
        .into_iter()
        .map(|member| if member.node_id.is_empty() { member.address } else { member.node_id })
        .collect()
}

async fn discovery_error(node: &TestNode) -> String {
    let tasks = node.admin.status().await.tasks;
    tasks.into_iter().find(|task| task.name.starts_with("discovery ")).unwrap().last_error
}

#[tokio::test(flavor = "multi_thread")]
async fn all_nodes_may_have_the_same_list_and_none_is_a_peer_of_its_own() {
    let mut cluster = Cluster::start(3).await;
    let mut all: Vec<String> = cluster.ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    // Node 0 by its name, too.
    all.push(format!("localhost:{}", cluster.ports[0]));
    for i in 0..3 {
        cluster.stop_node(i).await;
    }
    for i in 0..3 {
        let join = all[..if i == 0 { 4 } else { 3 }].to_vec();
        cluster.start_node_with(i, |config| Config { join, ..config }).await;
    }
    let others = [["node-1", "node-2"], ["node-0", "node-2"], ["node-0", "node-1"]];
    for (node, others) in cluster.running().zip(others) {
        has_peers(node, &others).await;
        reaches_all(node, &others).await;
        assert_eq!(member_names(node).await, others);
        let verified = node.admin.verify().await;
        assert_eq!((verified.verdict(), verified.nodes.len()), (Verdict::Converged, 3), "{verified:?}");
    }
    cluster.converged().await;
    // Nothing waits for an answer that never comes.
    eventually("the log is compacted away", || async {
        let request = brock_core::proto::CompactRequest {};
        let compacted = cluster.node(0).admin.admin.clone().compact(request).await.unwrap().into_inner();
        (compacted.entries_kept == 0).then_some(())
    })
    .await;
    cluster.stop().await;
}

/// A second address of a peer is ignored, unless another process answers there.
#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_with_one_id_under_one_name_in_dns_are_told_apart() {
    let site = Site::new(|port| format!("dns+{}:{port}", NAMES[0])).await;
    site.list(&[1, 2, 3]);
    let (one, two) = (site.start(1).await, site.start(2).await);
    // A certificate of the same id for the other address.
    let hosts = vec![Site::ip(3), NAMES[0].to_owned()];
    let kind = LeafKind::Node { node_id: "node-2".parse().unwrap(), hosts };
    let certs_dir = site.certs.leaf("copy", kind);
    let copy = Config { address: site.config(3).address, certs_dir, path: None, ..site.config(2) };
    let copy = TestNode::start(&site.certs, copy).await;
    for node in [&one, &two, &copy] {
        eventually(&format!("{} sees both", node.id), || async {
            let [duplicate] = node.admin.status().await.duplicate_ids.try_into().ok()?;
            (duplicate.node_id == "node-2").then_some(())
        })
        .await;
    }
    for node in [copy, two, one] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_whose_addresses_are_in_dns_grows_and_shrinks_without_new_arguments() {
    let site = Site::new(|port| format!("dns+{}:{port}", NAMES[0])).await;
    site.list(&[1, 2]);
    let (one, two) = (site.start(1).await, site.start(2).await);
    has_peers(&one, &["node-2"]).await;
    has_peers(&two, &["node-1"]).await;
    reaches_all(&one, &["node-2"]).await;

    let three = site.start(3).await;
    site.list(&[1, 2, 3]);
    has_peers(&one, &["node-2", "node-3"]).await;
    has_peers(&two, &["node-1", "node-3"]).await;
    has_peers(&three, &["node-1", "node-2"]).await;
    reaches_all(&three, &["node-1", "node-2"]).await;
    reaches_all(&one, &["node-2", "node-3"]).await;

    // Not listed, but up: its operations are worth having.
    site.list(&[1, 2]);
    site.dns.is_asked_again(20).await;
    reaches_all(&three, &["node-1", "node-2"]).await;
    three.stop().await;
    has_peers(&one, &["node-2"]).await;
    has_peers(&two, &["node-1"]).await;
    // It may come back with operations that no other node has: the others wait until an operator retires it.
    assert_eq!(member_names(&one).await, ["node-2", "node-3"]);
    let missing = one.client.get(&random_key()).await.unwrap_err();
    assert_eq!(missing.code(), Code::Unavailable, "node 3 may have it: {missing}");
    let verified = one.admin.verify().await;
    let gone = verified.nodes.iter().find(|node| node.node == "node-3").unwrap();
    assert!(gone.error.contains("DNS does not list it any more"), "{verified:?}");
    one.stop().await;
    let one = site.start(1).await;
    has_peers(&one, &["node-2"]).await;
    assert_eq!(member_names(&one).await, ["node-2", "node-3"], "a restart forgets no member");
    for node in [&one, &two] {
        node.admin.retire("node-3").await;
    }
    assert_eq!(one.admin.verify().await.verdict(), Verdict::Converged);
    assert_eq!(one.client.get(&random_key()).await.unwrap_err().code(), Code::NotFound);
    reaches_all(&one, &["node-2"]).await;
    // It has pulled from it, and does not any more.
    let pullers: Vec<_> = two.admin.status().await.tasks.into_iter().map(|task| task.name).collect();
    assert!(!pullers.contains(&format!("puller {}:{}", Site::ip(3), site.port)), "{pullers:?}");
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_new_is_asked_of_those_whom_dns_lists_now() {
    let site = Site::new(|port| format!("dns+{}:{port}", NAMES[0])).await;
    site.list(&[1, 2]);
    let (one, two) = (site.start(1).await, site.start(2).await);
    has_peers(&one, &["node-2"]).await;
    two.client.put(&random_key(), b"grant").await.unwrap();
    eventually("node 1 has it", || async { (one.vector().len() == 1).then_some(()) }).await;
    two.stop().await;

    // A disk was lost, and says nothing; a peer does.
    let auto = |number| Config { first_start: FirstStart::Auto, ..site.config(number) };
    let mut lost = auto(2);
    lost.path = Some(site.directory.path().join("another-disk"));
    let refused = Node::start(lost, None).await.err().unwrap().to_string();
    assert!(refused.contains("node-2") && refused.contains("node-1"), "{refused}");

    // Nothing answers at one of the addresses, until DNS does not list it any more.
    site.list(&[1, 9]);
    let starting = tokio::spawn(Node::start(auto(3), None));
    site.dns.is_asked_again(20).await;
    assert!(!starting.is_finished(), "it did not wait for somebody who may know it");
    site.list(&[1]);
    let started = tokio::time::timeout(limits::FIRST_START_PATIENCE * 3 / 4, starting).await;
    let three = started.expect("it waits for an address that is gone").unwrap().unwrap();
    assert!(three.stop().await.closed);
    one.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_in_the_list_and_in_dns_is_one_peer() {
    let site = Site::new(|port| format!("dns+{}:{port}", NAMES[0])).await;
    site.list(&[1, 2]);
    let (one, two) = (site.start(1).await, site.start(2).await);
    has_peers(&one, &["node-2"]).await;
    one.stop().await;
    let mut both = site.config(1);
    both.join.push(format!("{}:{}", NAMES[2], site.port));
    let one = TestNode::start(&site.certs, both).await;
    eventually(
        "the one that DNS lists is pulled from, and the one of the list has no address yet",
        || async {
            let peers = one.admin.status().await.peers;
            (peers.len() == 2 && peers.iter().filter(|peer| peer.up).count() == 1).then_some(())
        },
    )
    .await;
    site.dns.set_addresses(NAMES[2], &[&Site::ip(2)]);
    eventually("it is one peer", || async {
        let peers = one.admin.status().await.peers;
        (peers.len() == 1 && peers[0].up && peers[0].node_id == "node-2").then_some(())
    })
    .await;
    reaches_all(&one, &["node-2"]).await;
    site.list(&[]);
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn srv_records_say_hosts_and_ports_and_a_certificate_must_state_the_host() {
    let site = Site::new(|_| "dnssrv+_brock._tcp.cluster.test".to_owned()).await;
    site.dns.set_addresses(NAMES[1], &[&Site::ip(1)]);
    site.dns.set_addresses(NAMES[2], &[&Site::ip(2)]);
    // The right place under a name that its certificate does not have.
    site.dns.set_addresses("other.cluster.test", &[&Site::ip(2)]);
    let services = [(NAMES[1], site.port), (NAMES[2], site.port), ("other.cluster.test", site.port)];
    site.dns.set_services("_brock._tcp.cluster.test", &services[..2]);
    let (one, two) = (site.start(1).await, site.start(2).await);
    has_peers(&one, &["node-2"]).await;
    has_peers(&two, &["node-1"]).await;
    let addresses: Vec<_> = one.admin.status().await.peers.into_iter().map(|peer| peer.address).collect();
    assert_eq!(addresses, [format!("{}:{}", NAMES[2], site.port)], "the node itself is not among them");
    reaches_all(&two, &["node-1"]).await;

    site.dns.set_services("_brock._tcp.cluster.test", &services);
    eventually("the wrong name is refused", || async {
        let peers = one.admin.status().await.peers;
        let wrong = peers.into_iter().find(|peer| peer.address.starts_with("other."))?;
        (!wrong.up && wrong.last_error.contains("other.cluster.test")).then_some(())
    })
    .await;
    site.dns.set_services("_brock._tcp.cluster.test", &services[..2]);
    has_peers(&one, &["node-2"]).await;
    assert_eq!(member_names(&one).await, ["node-2"], "who never answered is forgotten");
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_address_of_a_peer_in_dns_is_not_a_second_peer() {
    let site = Site::new(|port| format!("dns+{}:{port}", NAMES[0])).await;
    // Listens on all of loopback, so that it answers at two of the addresses that DNS lists.
    let mut two = site.config(2);
    two.address = format!("0.0.0.0:{}", site.port).parse().unwrap();
    two.join = Vec::new();
    let two = Node::start(two, None).await.unwrap();
    site.dns.set_addresses(NAMES[0], &["127.0.1.2", "127.0.1.9"]);
    let mut one = site.config(1);
    one.address = format!("127.0.1.1:{}", free_port()).parse().unwrap();
    let one = TestNode::start(&site.certs, one).await;
    has_peers(&one, &["node-2"]).await;
    assert_eq!(member_names(&one).await, ["node-2"]);
    one.stop().await;
    assert!(two.stop().await.closed);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_dns_does_not_answer_what_was_known_stays_and_nothing_unknown_is_taken_for_absent() {
    let site = Site::new(|port| format!("dns+{}:{port}", NAMES[0])).await;
    site.list(&[1, 2]);
    site.dns.set_fails(true);
    let one = site.start(1).await;
    eventually("it says so", || async {
        discovery_error(&one).await.contains("cannot resolve cluster.test").then_some(())
    })
    .await;
    let status = one.admin.status().await;
    assert_eq!(status.peers.len(), 1, "the name stands for whoever it may be: {status:?}");
    assert!(status.peers[0].address.starts_with("dns+cluster.test") && !status.peers[0].up);
    let missing = one.client.get(&random_key()).await.unwrap_err();
    assert_eq!(missing.code(), Code::Unavailable, "somebody may have it: {missing}");
    assert_eq!(one.admin.verify().await.verdict(), Verdict::NotYet);
    one.client.put(&random_key(), b"grant").await.unwrap();
    let request = brock_core::proto::CompactRequest {};
    let compacted = one.admin.admin.clone().compact(request).await.unwrap().into_inner();
    assert_eq!(compacted.entries_removed, 0, "nothing is stable while it is not known who the members are");

    site.dns.set_fails(false);
    let two = site.start(2).await;
    has_peers(&one, &["node-2"]).await;
    has_peers(&two, &["node-1"]).await;
    assert_eq!(one.client.get(&random_key()).await.unwrap_err().code(), Code::NotFound);

    site.dns.set_fails(true);
    eventually("it says so again", || async { (!discovery_error(&one).await.is_empty()).then_some(()) })
        .await;
    reaches_all(&one, &["node-2"]).await;
    reaches_all(&two, &["node-1"]).await;
    has_peers(&one, &["node-2"]).await;
    site.dns.set_fails(false);
    eventually("all is well", || async { discovery_error(&one).await.is_empty().then_some(()) }).await;
    one.stop().await;
    two.stop().await;
}
