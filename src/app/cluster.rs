//! The status of all nodes, as far as this one can ask them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Instant,
};

use futures::future::join_all;
use tokio::sync::Mutex;

use super::{error::RequestError, health, reports, status::Reporter};
use crate::{
    membership::{
        contacts::{Contact, Unreachable},
        members::MemberView,
        roster::Roster,
    },
    store::Store,
};
use brock_core::{
    base::{
        claims::{self, ClaimKind},
        id::{NodeId, Origin},
        limits,
        time::WallClock,
        vector::{Clock, Vector},
    },
    proto::{self, cluster_response::Node},
};

/// Asks every node. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    store: Store,
    roster: Roster,
    reporter: Arc<Reporter>,
    wall_clock: WallClock,
    /// The last view and when the peers began to be asked: many viewers cost the peers no more than one.
    last: Arc<Mutex<Option<(Instant, proto::ClusterResponse)>>>,
}

impl Cluster {
    /// From this node's store, peers and status.
    pub fn new(store: Store, roster: Roster, reporter: Arc<Reporter>, wall_clock: WallClock) -> Self {
        Self { store, roster, reporter, wall_clock, last: Arc::default() }
    }

    /// Every node's status, and the verdict on the cluster; with `history`, their samples too. If it is to be `fresh`,
    /// the nodes were asked after this call; otherwise at most [`limits::CLUSTER_VIEW_TTL`] before.
    pub async fn view(&self, history: bool, fresh: bool) -> Result<proto::ClusterResponse, RequestError> {
        let called = Instant::now();
        // Held while the peers are asked, so that concurrent callers wait for the same answer.
        let mut last = self.last.lock().await;
        let is_usable = |began: &Instant| match fresh {
            true => *began >= called,
            false => began.elapsed() < limits::CLUSTER_VIEW_TTL,
        };
        let mut view = match &*last {
            Some((began, view)) if is_usable(began) => view.clone(),
            _ => {
                let began = Instant::now();
                let view = self.look().await?;
                *last = Some((began, view.clone()));
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
        let mut own = self.reporter.status(true).await?;
        reports::clean(&mut own);
        let names: Vec<_> = contacts.peers.iter().map(|contact| contact.name.clone()).collect();
        let taken = |name: &str| {
            let others = names.iter().filter(|other| *other != name).cloned();
            others.chain([own.node_id.clone()]).collect::<Vec<_>>()
        };
        let answers = contacts.peers.iter().map(|contact| report(contact, taken(&contact.name)));
        let reports = join_all(answers).await;
        let own_applied = self.store.applied();
        let believed = self.believed(&own_applied);
        let mut asked = vec![Asked::answered(&own.node_id.clone(), "", own, own_applied.clone())];
        for (contact, report) in contacts.peers.iter().zip(reports) {
            let address = contact.peer.key.as_str();
            let mut node = match report {
                Ok((status, applied)) => {
                    let believed = believed.get(address);
                    let is_believed = |origin: &Origin| {
                        let of_it = believed.map(|vector| vector.get(origin)).unwrap_or_default();
                        of_it.max(own_applied.get(origin))
                    };
                    let applied =
                        applied.iter().map(|(origin, clock)| (origin, clock.min(is_believed(&origin))));
                    // An origin that this node has not heard of is unknown, and no lag of 0.
                    let applied = applied.filter(|(_, clock)| *clock > Clock::default());
                    Asked::answered(&status.node_id.clone(), address, status, applied.collect())
                }
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
        let paused =
            self.reporter.breaker.paused().into_iter().filter_map(|paused| Some(paused.at?.0)).collect();
        let nodes = with_lags(asked, &paused);
        let gone = views.iter().filter(|view| view.retired);
        let names = |view: &MemberView| {
            let node_id = view.node_id.as_ref().map(ToString::to_string);
            node_id.into_iter().chain(view.address.as_ref().map(ToString::to_string))
        };
        let retired = gone.flat_map(names).collect();
        let verdict = health::of(&nodes, &retired, self.wall_clock.now());
        Ok(proto::ClusterResponse { nodes, verdict: Some(verdict) })
    }

    /// What the peers have said of their logs and are believed to have, by address: a report has more than that only
    /// for a moment, unless it lies.
    fn believed(&self, applied: &Vector) -> HashMap<String, Vector> {
        let believed = |heads: &Vector, unsent: &Vector| -> Vector {
            heads.iter().filter(|(origin, _)| !unsent.lists(origin)).collect()
        };
        let reports = self.roster.compared(applied).into_iter();
        reports
            .filter_map(|peer| Some((peer.key.to_string(), believed(peer.heads.as_ref()?, &peer.unsent))))
            .collect()
    }
}

struct Asked {
    node: Node,
    /// `None`: it could not be asked.
    applied: Option<Vector>,
}

impl Asked {
    fn answered(name: &str, address: &str, mut status: proto::StatusResponse, applied: Vector) -> Self {
        status.clocks.truncate(limits::VIEW_ORIGINS);
        let (node, address) = (name.to_owned(), address.to_owned());
        let node = Node { node, address, status: Some(status), ..Node::default() };
        Self { node, applied: Some(applied) }
    }

    fn silent(name: &str, address: &str, error: String) -> Self {
        let (node, address) = (name.to_owned(), address.to_owned());
        Self { node: Node { node, address, error, ..Node::default() }, applied: None }
    }
}

async fn report(contact: &Contact, taken: Vec<String>) -> Result<(proto::StatusResponse, Vector), String> {
    let request = proto::ReportRequest { history: true };
    let answer = contact.peer.call(|mut client| async move { client.report(request).await }).await;
    let answer = answer.map_err(|error| error.to_string())?;
    reports::read(answer, &contact.name, &taken).map_err(|error| {
        claims::refused(&contact.peer.key, ClaimKind::Report, 1);
        format!("{}: {error}", health::INVALID_REPORT)
    })
}

/// Adds to each node how many operations it lacks that any other has, by node id of the origin, the most first if they
/// are many. Operations that only a silent node has are not known; what is paused here does not count.
fn with_lags(asked: Vec<Asked>, paused: &BTreeSet<Origin>) -> Vec<Node> {
    let mut everything = Vector::default();
    asked.iter().filter_map(|asked| asked.applied.as_ref()).for_each(|applied| everything.join(applied));
    let mut origins: BTreeMap<NodeId, Vec<(Origin, Clock)>> = BTreeMap::new();
    for (origin, clock) in everything.iter().filter(|(origin, _)| !paused.contains(origin)) {
        origins.entry(origin.node_id()).or_default().push((origin, clock));
    }
    let lags = |applied: &Vector| {
        let lag = |origins: &Vec<(Origin, Clock)>| {
            origins.iter().fold(0, |sum: u64, (origin, clock)| {
                sum.saturating_add(clock.0.saturating_sub(applied.get(origin).0))
            })
        };
        let mut lags: Vec<_> = origins.iter().map(|(node_id, origins)| (lag(origins), node_id)).collect();
        lags.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
        let shown = lags.into_iter().take(limits::VIEW_ORIGINS);
        let entries = shown.map(|(lag, node_id)| (node_id.to_string(), lag)).collect();
        proto::cluster_response::Lags { entries }
    };
    asked
        .into_iter()
        .map(|Asked { node, applied }| Node { lags: applied.as_ref().map(lags), ..node })
        .collect()
}
