//! Nodes in this process: real TLS, real RocksDB, real sockets.

use std::{path::PathBuf, sync::Arc};

use super::{certs::Certs, client::Client, eventually, free_port};
use brock::{
    config::validate::Config,
    node::{Node, Stopped},
};
use brock_core::base::vector::Vector;
use tempfile::TempDir;

/// How to start one node: the defaults, but for these. Change what a test is about.
pub fn config(certs: &Certs, id: &str, port: u16, join: &[u16]) -> Config {
    let certs_dir = certs.node(id);
    let join: Vec<String> = join.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    Config::from_pairs(&[
        ("node.id", id),
        ("node.certs-dir", certs_dir.to_str().unwrap()),
        ("node.first-start", "true"),
        ("node.address", &format!("127.0.0.1:{port}")),
        ("node.join", &join.join(",")),
        ("node.discovery-interval", "200ms"),
        ("node.cache-size", "8MiB"),
        ("audit.max-size", "64MiB"),
        ("http.address", ""),
    ])
    .unwrap()
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

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn vector(&self) -> Vector {
        self.node.store().vector()
    }

    pub async fn stop(self) {
        let id = self.id.clone();
        let in_order = Stopped { drained: true, closed: true };
        assert_eq!(self.node.stop().await, in_order, "{id} did not stop in order");
    }
}

/// Nodes that all join each other.
pub struct Cluster {
    pub certs: Arc<Certs>,
    pub nodes: Vec<TestNode>,
    pub ports: Vec<u16>,
    directory: TempDir,
}

impl Cluster {
    /// `n` nodes on disk.
    pub async fn start(n: usize) -> Self {
        Self::start_with(n, |_, config| config).await
    }

    /// `n` nodes on disk, each with its configuration changed.
    pub async fn start_with(n: usize, change: impl Fn(usize, Config) -> Config) -> Self {
        let ports: Vec<u16> = (0..n).map(|_| free_port()).collect();
        let mut cluster = Self {
            certs: Arc::new(Certs::new()),
            nodes: Vec::new(),
            ports,
            directory: tempfile::tempdir().unwrap(),
        };
        for i in 0..n {
            let config = change(i, cluster.config(i));
            let node = TestNode::start(&cluster.certs, config).await;
            cluster.nodes.push(node);
        }
        cluster
    }

    pub fn path(&self, i: usize) -> PathBuf {
        self.directory.path().join(format!("node-{i}"))
    }

    /// The configuration of node `i`, joined to all others.
    pub fn config(&self, i: usize) -> Config {
        let others: Vec<u16> = (0..self.ports.len()).filter(|j| *j != i).map(|j| self.ports[j]).collect();
        let config = config(&self.certs, &format!("node-{i}"), self.ports[i], &others);
        Config { path: Some(self.path(i)), ..config }
    }

    /// Waits until all nodes have applied the same.
    pub async fn converged(&self) -> Vector {
        eventually("all nodes have the same vector", || async {
            let first = self.nodes[0].vector();
            self.nodes.iter().all(|node| node.vector() == first).then_some(first)
        })
        .await
    }

    pub async fn stop(self) {
        for node in self.nodes {
            node.stop().await;
        }
    }
}
