//! The status of all nodes, as far as this one can ask them.

use std::{collections::HashMap, sync::Arc, time::Instant};

use futures::future::join_all;
use tokio::sync::Mutex;

use super::{error::RequestError, health, status::Reporter};
use crate::{
    membership::{contacts::Unreachable, members::MemberView, peer::Peer, roster::Roster},
    store::Store,
};
use brock_core::{
    base::{limits, time::WallClock, vector::Vector},
    domain::codec,
    proto::{self, cluster_response::Node},
};

/// Asks every node. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    store: Store,
    roster: Roster,
    reporter: Arc<Reporter>,
    wall_clock: WallClock,
    /// The last view and when it was made: many viewers cost the peers no more than one.
    last: Arc<Mutex<Option<(Instant, proto::ClusterResponse)>>>,
}

impl Cluster {
    /// From this node's store, peers and status.
    pub fn new(store: Store, roster: Roster, reporter: Arc<Reporter>, wall_clock: WallClock) -> Self {
        Self { store, roster, reporter, wall_clock, last: Arc::default() }
    }

    /// Every node's status, and the verdict on the cluster; with `history`, their samples too.
    pub async fn view(&self, history: bool) -> Result<proto::ClusterResponse, RequestError> {
        // Held while the peers are asked, so that concurrent callers wait for the same answer.
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

    async fn look(&self) -> Result<proto::ClusterResponse, RequestError> {
        let contacts = self.roster.contacts(self.wall_clock.now());
        let reports = join_all(contacts.peers.iter().map(|contact| report(&contact.peer))).await;
        let own = self.reporter.status(true).await?;
        let own_applied = self.store.applied();
        let mut asked = vec![Asked::answered(&own.node_id.clone(), "", own, own_applied)];
        for (contact, report) in contacts.peers.iter().zip(reports) {
            let address = contact.peer.key.as_str();
            let mut node = match report {
                Ok((status, applied)) => Asked::answered(&status.node_id.clone(), address, status, applied),
                Err(error) => Asked::silent(&contact.name, address, error),
            };
            node.node.retired = contact.is_retired;
            asked.push(node);
        }
        for name in &contacts.unresolved {
            asked.push(Asked::silent(name.as_str(), name.as_str(), Unreachable::Unresolved.to_string()));
        }
        for (node_id, reason) in &contacts.unreachable {
            asked.push(Asked::silent(node_id.as_str(), "", reason.to_string()));
        }
        let views = self.roster.members().views(self.wall_clock.now());
        for Asked { node, .. } in asked[1..].iter_mut().filter(|asked| asked.node.status.is_none()) {
            let is_it = |view: &MemberView| {
                view.node_id.as_ref().is_some_and(|node_id| node_id.as_str() == node.node)
            };
            node.pulls = views.iter().any(|view| view.connected && is_it(view));
        }
        asked[1..].sort_by(|a, b| a.node.node.cmp(&b.node.node));
        let nodes = with_lags(asked);
        let gone = views.iter().filter(|view| view.retired);
        let names = |view: &MemberView| {
            let node_id = view.node_id.as_ref().map(ToString::to_string);
            node_id.into_iter().chain(view.address.as_ref().map(ToString::to_string))
        };
        let retired = gone.flat_map(names).collect();
        let verdict = health::of(&nodes, &retired, self.wall_clock.now());
        Ok(proto::ClusterResponse { nodes, verdict: Some(verdict) })
    }
}

struct Asked {
    node: Node,
    /// `None`: it could not be asked.
    applied: Option<Vector>,
}

impl Asked {
    fn answered(name: &str, address: &str, status: proto::StatusResponse, applied: Vector) -> Self {
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

/// Adds to each node how many operations it lacks that any other has. Operations that only a silent node
/// has are not known.
fn with_lags(asked: Vec<Asked>) -> Vec<Node> {
    let mut everything = Vector::default();
    asked.iter().filter_map(|asked| asked.applied.as_ref()).for_each(|applied| everything.join(applied));
    let lags = |applied: &Vector| {
        let mut entries: HashMap<String, u64> = HashMap::new();
        for (origin, clock) in everything.iter() {
            let lag = clock.0.saturating_sub(applied.get(&origin).0);
            *entries.entry(origin.node_id().to_string()).or_default() += lag;
        }
        proto::cluster_response::Lags { entries }
    };
    asked
        .into_iter()
        .map(|Asked { node, applied }| Node { lags: applied.as_ref().map(lags), ..node })
        .collect()
}
