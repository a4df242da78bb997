//! Nodes that all join each other, each of which can be stopped, wiped and started again.

use std::{collections::BTreeMap, path::PathBuf};

use super::{
    certs::Certs,
    eventually, free_port,
    node::{TestNode, config},
    wire::{key_hash, whole_log},
};
use brock::config::validate::Config;
use brock_core::{base::vector::Vector, domain::codec::encode_state, proto};
use tempfile::TempDir;

pub struct Cluster {
    pub certs: Certs,
    /// The ports of all members, running or not: what each of them joins.
    pub ports: Vec<u16>,
    directory: TempDir,
    nodes: BTreeMap<usize, TestNode>,
    change: fn(Config) -> Config,
}

impl Cluster {
    /// `n` running nodes on disk.
    pub async fn start(n: usize) -> Self {
        Self::start_with(n, |config| config).await
    }

    /// `n` running nodes on disk, each with its configuration changed.
    pub async fn start_with(n: usize, change: fn(Config) -> Config) -> Self {
        Self::start_some(n, n, change).await
    }

    /// `n` nodes, of which the first `started` run.
    pub async fn start_some(n: usize, started: usize, change: fn(Config) -> Config) -> Self {
        let mut cluster = Self {
            certs: Certs::new(),
            ports: (0..n).map(|_| free_port()).collect(),
            directory: tempfile::tempdir().unwrap(),
            nodes: BTreeMap::new(),
            change,
        };
        for i in 0..started {
            cluster.start_node(i).await;
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
        (self.change)(Config { path: Some(self.path(i)), ..config })
    }

    pub async fn start_node(&mut self, i: usize) {
        self.start_node_with(i, |config| config).await;
    }

    /// Starts node `i` with its configuration changed once more.
    pub async fn start_node_with(&mut self, i: usize, change: impl FnOnce(Config) -> Config) {
        let node = TestNode::start(&self.certs, change(self.config(i))).await;
        assert!(self.nodes.insert(i, node).is_none(), "node {i} runs already");
    }

    /// Adds and starts a node that joins all others. Returns its index.
    pub async fn add_node(&mut self, change: impl FnOnce(Config) -> Config) -> usize {
        self.ports.push(free_port());
        let i = self.ports.len() - 1;
        self.start_node_with(i, change).await;
        i
    }

    pub async fn stop_node(&mut self, i: usize) {
        self.nodes.remove(&i).unwrap().stop().await;
    }

    pub fn node(&self, i: usize) -> &TestNode {
        &self.nodes[&i]
    }

    /// The nodes that run, in the order of their indices.
    pub fn running(&self) -> impl Iterator<Item = &TestNode> {
        self.nodes.values()
    }

    /// Waits until all running nodes have applied the same, folded origins included.
    pub async fn converged(&self) -> Vector {
        eventually("all nodes have applied the same", || async {
            let first = self.running().next().unwrap().node.store().applied();
            self.running().all(|node| node.node.store().applied() == first).then_some(first)
        })
        .await
    }

    /// Waits until every running node knows that all other running nodes have applied everything.
    pub async fn acknowledged(&self) {
        self.converged().await;
        let running: Vec<&str> = self.running().map(|node| node.id.as_str()).collect();
        eventually("every node knows that all others have everything", || async {
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

    /// Compacts at every running node.
    pub async fn compact(&self) -> Vec<proto::CompactResponse> {
        let mut outcomes = Vec::new();
        for node in self.running() {
            let request = proto::CompactRequest {};
            outcomes.push(node.admin.admin.clone().compact(request).await.unwrap().into_inner());
        }
        outcomes
    }

    pub async fn stop(self) {
        for node in self.nodes.into_values() {
            node.stop().await;
        }
    }
}

/// Fails unless all nodes have the same records, byte by byte, and the same logs, entry by entry.
pub async fn assert_same(nodes: impl IntoIterator<Item = &TestNode>, keys: &[Vec<u8>]) {
    let hashes: Vec<_> = keys.iter().map(|key| key_hash(key)).collect();
    let mut first = None;
    for node in nodes {
        let store = node.node.store();
        let states = store.get_many(hashes.clone()).await.unwrap();
        let states: Vec<_> =
            states.into_iter().map(|state| state.map(|state| encode_state(&state))).collect();
        assert!(states.iter().all(Option::is_some), "{} lacks a record", node.id);
        let all = (states, whole_log(store).await, store.records());
        let (id, (states, logs, records)) = first.get_or_insert_with(|| (node.id.clone(), all.clone()));
        assert!(*states == all.0, "{} has other records than {id}", node.id);
        assert!(*logs == all.1, "{} has another log than {id}", node.id);
        assert_eq!(*records, all.2, "{} counts other records", node.id);
        assert_eq!(store.quarantined(), 0);
    }
}
