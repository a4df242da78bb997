//! How all nodes are, as far as this one can ask them.

use std::{collections::HashMap, sync::Arc, time::Instant};

use futures::future::join_all;
use tokio::sync::Mutex;

use super::{error::Problem, health, operations::Lifecycle, status::Reporter};
use crate::membership::{contacts::Unreachable, peer::Peer};
use brock_core::{
    base::{limits, vector::Vector},
    domain::codec,
    proto::{self, cluster_response::Node},
};

/// Asks every node. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    reporter: Arc<Reporter>,
    lifecycle: Arc<Lifecycle>,
    /// The last view and when it was made: many who look cost the peers no more than one.
    last: Arc<Mutex<Option<(Instant, proto::ClusterResponse)>>>,
}

impl Cluster {
    /// As this node sees it.
    pub fn new(reporter: Arc<Reporter>, lifecycle: Arc<Lifecycle>) -> Self {
        Self { reporter, lifecycle, last: Arc::default() }
    }

    /// Every node's status and what to make of them; with `history`, their samples too.
    pub async fn view(&self, history: bool) -> Result<proto::ClusterResponse, Problem> {
        // Held while the peers are asked: who comes meanwhile waits for the same answer.
        let mut last = self.last.lock().await;
        let is_fresh = |at: &Instant| at.elapsed() < limits::CLUSTER_VIEW_TTL;
        let mut view = match &*last {
            Some((at, view)) if is_fresh(at) => view.clone(),
            _ => {
                let view = self.look().await?;
                *last = Some((Instant::now(), view.clone()));
                view
            }
        };
        drop(last);
        if !history {
            view.nodes.iter_mut().filter_map(|node| node.status.as_mut()).for_each(|s| s.history.clear());
        }
        Ok(view)
    }

    async fn look(&self) -> Result<proto::ClusterResponse, Problem> {
        let Lifecycle { store, roster, .. } = &*self.lifecycle;
        let contacts = roster.contacts(store.now());
        let reports = join_all(contacts.peers.iter().map(|contact| report(&contact.peer))).await;
        let own = self.reporter.status(true).await?;
        let own_applied = store.applied();
        let mut seen = vec![Seen::well(&own.node_id.clone(), "", own, own_applied)];
        for (contact, report) in contacts.peers.iter().zip(reports) {
            let address = contact.peer.key.as_str();
            let mut node = match report {
                Ok((status, applied)) => Seen::well(&status.node_id.clone(), address, status, applied),
                Err(error) => Seen::silent(&contact.name, address, error),
            };
            node.node.retired = contact.is_retired;
            seen.push(node);
        }
        for name in &contacts.unresolved {
            seen.push(Seen::silent(name.as_str(), name.as_str(), Unreachable::Unresolved.to_string()));
        }
        for (node_id, reason) in &contacts.unreachable {
            seen.push(Seen::silent(node_id.as_str(), "", reason.to_string()));
        }
        seen[1..].sort_by(|a, b| a.node.node.cmp(&b.node.node));
        let nodes = with_lags(seen);
        let verdict = health::of(&nodes, store.now());
        Ok(proto::ClusterResponse { nodes, verdict: Some(verdict) })
    }
}

struct Seen {
    node: Node,
    /// `None`: it could not be asked.
    applied: Option<Vector>,
}

impl Seen {
    fn well(name: &str, address: &str, status: proto::StatusResponse, applied: Vector) -> Self {
        let (node, address) = (name.to_owned(), address.to_owned());
        let node = Node { node, address, status: Some(status), ..Node::default() };
        Self { node, applied: Some(applied) }
    }

    fn silent(name: &str, address: &str, error: String) -> Self {
        let (node, address) = (name.to_owned(), address.to_owned());
        Self { node: Node { node, address, error, ..Node::default() }, applied: None }
    }
}

async fn report(peer: &Peer) -> Result<(proto::StatusResponse, Vector), String> {
    let request = proto::ReportRequest { history: true };
    let answer = peer.call(|mut client| async move { client.report(request).await }).await;
    let answer = answer.map_err(|error| error.to_string())?;
    let nonsense = || "its answer makes no sense: is it of the same version?".to_owned();
    let status = answer.status.ok_or_else(nonsense)?;
    let applied = codec::vector_from_proto(&answer.applied.unwrap_or_default()).map_err(|_| nonsense())?;
    Ok((status, applied))
}

/// What each node lacks of what any of them has. What a node that is silent alone has is not known.
fn with_lags(seen: Vec<Seen>) -> Vec<Node> {
    let mut everything = Vector::default();
    seen.iter().filter_map(|seen| seen.applied.as_ref()).for_each(|applied| everything.join(applied));
    let lags = |applied: &Vector| {
        let mut entries: HashMap<String, u64> = HashMap::new();
        for (origin, clock) in everything.iter() {
            let lag = clock.0.saturating_sub(applied.get(&origin).0);
            *entries.entry(origin.node_id().to_string()).or_default() += lag;
        }
        proto::cluster_response::Lags { entries }
    };
    seen.into_iter().map(|Seen { node, applied }| Node { lags: applied.as_ref().map(lags), ..node }).collect()
}
