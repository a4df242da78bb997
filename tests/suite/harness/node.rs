//! Nodes in this process: real TLS, real RocksDB, real sockets.

use std::time::Duration;

use super::{certs::Certs, client::Client};
use brock::{
    config::validate::{AuditConfig, Config, ConflictBackoff, FirstStart, LogConfig, LogFormat},
    maintenance::compact::{Mode, Policy},
    node::{Node, Stopped},
};
use brock_core::base::vector::Vector;

/// How to start one node. Change what a test is about.
pub fn config(certs: &Certs, id: &str, port: u16, join: &[u16]) -> Config {
    Config {
        node_id: id.parse().unwrap(),
        path: None,
        first_start: FirstStart::Yes,
        address: format!("127.0.0.1:{port}").parse().unwrap(),
        join: join.iter().map(|port| format!("127.0.0.1:{port}")).collect(),
        discovery_interval: Duration::from_millis(200),
        dns_server: None,
        certs_dir: certs.node(id),
        replication_interval: Duration::from_secs(30),
        replication_limit: 1000,
        conflict_backoff: ConflictBackoff {
            delay: Duration::ZERO,
            max: Duration::from_secs(300),
            min: Duration::from_millis(100),
        },
        payload_limit_bytes: 64 * 1024,
        cache_size_bytes: 8 * 1024 * 1024,
        require_uri_roles: false,
        expiry_margin: Duration::from_secs(3600),
        member_retention: Duration::from_secs(7 * 24 * 3600),
        backup: None,
        compact: Policy {
            mode: Mode::FactorOrTimer,
            factor: 0.4,
            size_bytes: 104_857_600,
            timer: Duration::from_secs(3600),
            tombstone_grace: None,
        },
        shutdown_timeout: Duration::from_secs(10),
        audit: AuditConfig { path: None, max_bytes: 64 * 1024 * 1024 },
        http_address: None,
        log: LogConfig { level: "info".to_owned(), format: LogFormat::Auto },
        http_tls: false,
        console_token: None,
        settings: Vec::new(),
        trace: None,
    }
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
