//! `peers`: the connections of a node to its peers.

use std::collections::BTreeMap;

use super::{UNKNOWN, milliseconds, number, view};
use crate::{
    cli::Format,
    failure::Failure,
    output::{self, headed, section},
    paint, status,
};
use brock_client::{
    Client,
    view::{Cluster, Node, Peer},
};
use serde::Serialize;

/// Prints the peers of the first node that answers, or the round trips between all nodes.
pub(crate) async fn run(client: &Client, is_matrix: bool, format: Format) -> Result<(), Failure> {
    if is_matrix {
        let cluster = view(client, false).await?;
        return output::data(format, &RoundTrips::new(&cluster), |trips| output::table(&trips.table()));
    }
    let status = status::fetch(client).await?;
    output::data(format, &Peers { node_id: status.node_id, peers: status.peers }, Peers::text)
}

/// What `peers` prints.
#[derive(Debug, Serialize)]
struct Peers {
    node_id: String,
    peers: Vec<Peer>,
}

impl Peers {
    fn text(&self) -> String {
        let heading = [
            "NODE",
            "ADDRESS",
            "STATE",
            "SINCE",
            "ROUND TRIP",
            "LAG",
            "ROUNDS",
            "RECENT",
            "RECEIVED",
            "LAST SUCCESS",
            "WIRE",
            "LAST ERROR",
        ];
        let mut text = String::new();
        let title = format!("peers of {}", output::printable(&self.node_id));
        section(&mut text, &title, &headed(&heading, self.peers.iter().map(row)));
        text.trim_start().to_owned()
    }
}

fn row(peer: &Peer) -> Vec<String> {
    let failed = peer.recent_rounds.iter().filter(|round| !round.error.is_empty()).count();
    let recent = match (failed, peer.recent_rounds.len()) {
        (_, 0) => "none ended".to_owned(),
        (0, all) => format!("{all} well"),
        (failed, all) => paint::warn(&format!("{failed} of {all} failed")),
    };
    vec![
        output::printable(if peer.node_id.is_empty() { UNKNOWN } else { &peer.node_id }),
        output::printable(&peer.address),
        if peer.up { paint::good("up") } else { paint::bad("down") },
        output::moment(peer.since_unix),
        milliseconds(peer.round_trip_micros),
        number(peer.lag_entries),
        peer.rounds.to_string(),
        recent,
        peer.entries_received.to_string(),
        output::moment(peer.last_success_unix),
        status::wire(peer),
        output::printable(&peer.last_error),
    ]
}

/// What `peers --matrix` prints: from (outer) to (inner), in microseconds; `null` if not known.
#[derive(Debug, Serialize)]
struct RoundTrips {
    round_trip_micros: BTreeMap<String, BTreeMap<String, Option<u64>>>,
}

impl RoundTrips {
    fn new(cluster: &Cluster) -> Self {
        let nodes: Vec<_> = cluster.nodes.iter().filter(|node| !node.retired).collect();
        let between = |from: &Node, to: &Node| {
            let peers = from.status.iter().flat_map(|status| &status.peers);
            let is_it = |peer: &&Peer| {
                peer.node_id == to.node || (peer.node_id.is_empty() && peer.address == to.address)
            };
            peers.filter(is_it).find_map(|peer| peer.round_trip_micros)
        };
        let row = |from: &&Node| {
            let others = nodes.iter().filter(|to| to.node != from.node);
            (from.node.clone(), others.map(|to| (to.node.clone(), between(from, to))).collect())
        };
        Self { round_trip_micros: nodes.iter().map(row).collect() }
    }

    fn table(&self) -> Vec<Vec<String>> {
        let names: Vec<String> = self.round_trip_micros.keys().map(|name| output::printable(name)).collect();
        let mut heading = vec!["FROM \\ TO"];
        heading.extend(names.iter().map(String::as_str));
        let rows = self.round_trip_micros.iter().map(|(from, to)| {
            let mut cells = vec![output::printable(from)];
            cells.extend(self.round_trip_micros.keys().map(|name| match to.get(name) {
                None => "-".to_owned(),
                Some(None) => paint::warn(UNKNOWN),
                Some(micros) => milliseconds(*micros),
            }));
            cells
        });
        headed(&heading, rows)
    }
}

/// The round trips between all nodes, with a heading.
pub(crate) fn matrix(cluster: &Cluster) -> Vec<Vec<String>> {
    RoundTrips::new(cluster).table()
}

#[cfg(test)]
mod tests {
    use brock_core::proto::{self, cluster_response as wire};

    use super::*;

    #[test]
    fn an_unmeasured_round_trip_is_unknown_and_no_node_is_its_own_peer() {
        let peer = |node_id: &str, address: &str, round_trip_micros| proto::Peer {
            node_id: node_id.to_owned(),
            address: address.to_owned(),
            round_trip_micros,
            ..Default::default()
        };
        let node = |name: &str, address: &str, peers: Option<Vec<proto::Peer>>| wire::Node {
            node: name.to_owned(),
            address: address.to_owned(),
            status: peers.map(|peers| proto::StatusResponse { peers, ..Default::default() }),
            ..Default::default()
        };
        let nodes = vec![
            node("a", "", Some(vec![peer("b", "b:1", Some(1500)), peer("", "c:1", None)])),
            node("b", "b:1", Some(vec![peer("a", "a:1", Some(0))])),
            node("c:1", "c:1", None),
        ];
        let verdict = proto::Verdict { level: proto::verdict::Level::Well.into(), ..Default::default() };
        let response = proto::ClusterResponse { nodes, verdict: Some(verdict) };
        let table = matrix(&Cluster::try_from(response).unwrap());
        assert_eq!(table[0], ["FROM \\ TO", "a", "b", "c:1"]);
        assert_eq!(table[1], ["a", "-", "1.5 ms", "?"]);
        assert_eq!(table[2], ["b", "0.0 ms", "-", "?"]);
        assert_eq!(table[3], ["c:1", "?", "?", "-"]);
    }
}
