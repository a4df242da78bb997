//! Nodes in this process: real TLS, real RocksDB, real sockets.

use super::{certs::Certs, client::Client, free_port};
use brock::{
    config::validate::Config,
    maintenance::compact::{Mode, Policy},
    node::{Node, Stopped},
};
use brock_core::base::vector::Vector;

/// How to start one node: the defaults, but for these. Change what a test is about.
pub fn config(certs: &Certs, id: &str, port: u16, join: &[u16]) -> Config {
    let certs_dir = certs.node(id);
    let join: Vec<String> = join.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    Config::from_pairs(&[
        ("node.id", id),
        ("node.path", "ram:"),
        ("node.certs-dir", certs_dir.to_str().unwrap()),
        ("node.first-start", "true"),
        ("node.address", &format!("127.0.0.1:{port}")),
        ("node.join", &join.join(",")),
        ("node.discovery-interval", "200ms"),
        ("node.cache-size", "8MiB"),
        ("audit.max-size", "64MiB"),
        ("http.address", "off"),
    ])
    .unwrap()
}

/// Compacts only on command.
pub fn compacts_on_command(config: Config) -> Config {
    Config { compact: Policy { mode: Mode::Never, ..config.compact }, ..config }
}

/// A running node and two clients of it.
pub struct TestNode {
    pub node: Node,
    pub id: String,
    pub port: u16,
    /// With the role client.
    pub client: Client,
    /// With the role admin.
    pub admin: Client,
}

/// Starts a node without peers, with an authority of its own.
pub async fn node_with(change: impl FnOnce(Config) -> Config) -> (Certs, TestNode) {
    let certs = Certs::new();
    let node = TestNode::start(&certs, change(config(&certs, "node-1", 0, &[]))).await;
    (certs, node)
}

impl TestNode {
    pub async fn start(certs: &Certs, config: Config) -> Self {
        let id = config.node_id.to_string();
        let node =
            Node::start(config, None).await.unwrap_or_else(|error| panic!("{id} does not start: {error}"));
        let address = node.address().to_string();
        let client = Client::lasting(&address, &certs.client()).await;
        let admin = Client::lasting(&address, &certs.admin()).await;
        Self { port: node.address().port(), node, id, client, admin }
    }

    /// In RAM, pulling from these.
    pub async fn joining(certs: &Certs, id: &str, join: &[u16]) -> Self {
        Self::start(certs, config(certs, id, free_port(), join)).await
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn vector(&self) -> Vector {
        self.node.store().vector()
    }

    pub async fn stop(self) {
        let id = self.id.clone();
        let in_order = Stopped { drained: true, closed: true, lost: false };
        assert_eq!(self.node.stop().await, in_order, "{id} did not stop in order");
    }
}
