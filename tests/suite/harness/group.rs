//! Nodes that all join each other, each of which can be stopped, wiped and started again.

use std::path::PathBuf;

use super::{
    certs::Certs,
    eventually, free_port,
    node::{TestNode, config},
};
use brock::{
    config::validate::Config,
    maintenance::compact::{Mode, Policy},
};
use brock_core::{base::vector::Vector, proto};
use tempfile::TempDir;

pub struct Group {
    pub certs: Certs,
    pub ports: Vec<u16>,
    directory: TempDir,
    nodes: Vec<Option<TestNode>>,
    change: fn(Config) -> Config,
}

/// Compacts only when told to.
pub fn compacts_on_command(config: Config) -> Config {
    Config { compact: Policy { mode: Mode::Never, ..config.compact }, ..config }
}

impl Group {
    /// `n` nodes, of which the first `started` run.
    pub async fn start(n: usize, started: usize, change: fn(Config) -> Config) -> Self {
        let mut group = Self {
            certs: Certs::new(),
            ports: (0..n).map(|_| free_port()).collect(),
            directory: tempfile::tempdir().unwrap(),
            nodes: (0..n).map(|_| None).collect(),
            change,
        };
        for i in 0..started {
            group.start_node(i).await;
        }
        group
    }

    pub fn path(&self, i: usize) -> PathBuf {
        self.directory.path().join(format!("node-{i}"))
    }

    pub fn config(&self, i: usize) -> Config {
        let others: Vec<u16> = (0..self.ports.len()).filter(|j| *j != i).map(|j| self.ports[j]).collect();
        let config = config(&self.certs, &format!("node-{i}"), self.ports[i], &others);
        (self.change)(Config { path: Some(self.path(i)), ..config })
    }

    pub async fn start_node(&mut self, i: usize) {
        let config = self.config(i);
        self.nodes[i] = Some(TestNode::start(&self.certs, config).await);
    }

    /// With another configuration than its own.
    pub async fn start_node_with(&mut self, i: usize, change: impl FnOnce(Config) -> Config) {
        let config = change(self.config(i));
        self.nodes[i] = Some(TestNode::start(&self.certs, config).await);
    }

    pub async fn stop_node(&mut self, i: usize) {
        self.nodes[i].take().unwrap().stop().await;
    }

    pub fn node(&self, i: usize) -> &TestNode {
        self.nodes[i].as_ref().unwrap()
    }

    pub fn running(&self) -> impl Iterator<Item = &TestNode> {
        self.nodes.iter().flatten()
    }

    /// Waits until all that run have applied the same, folded origins included.
    pub async fn converged(&self) -> Vector {
        eventually("all nodes have applied the same", || async {
            let first = self.running().next().unwrap().node.store().applied();
            self.running().all(|node| node.node.store().applied() == first).then_some(first)
        })
        .await
    }

    /// Waits until every node that runs knows that all others that run have applied everything.
    pub async fn acknowledged(&self) {
        self.converged().await;
        let running: Vec<&str> = self.running().map(|node| node.id.as_str()).collect();
        eventually("everybody knows that everybody has everything", || async {
            for node in self.running() {
                let members = node.admin.members().await.members;
                let lags = |id: &&str| {
                    let member = members.iter().find(|member| member.node_id == **id);
                    **id != node.id && member.and_then(|member| member.lag_entries) != Some(0)
                };
                if running.iter().any(lags) {
                    return None;
                }
            }
            Some(())
        })
        .await;
    }

    /// Compacts at every node that runs.
    pub async fn compact(&self) -> Vec<proto::CompactResponse> {
        let mut outcomes = Vec::new();
        for node in self.running() {
            let request = proto::CompactRequest {};
            outcomes.push(node.admin.admin.clone().compact(request).await.unwrap().into_inner());
        }
        outcomes
    }

    pub async fn stop(mut self) {
        for node in std::mem::take(&mut self.nodes).into_iter().flatten() {
            node.stop().await;
        }
    }
}
