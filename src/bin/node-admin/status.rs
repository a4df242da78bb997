//! `status`: how a node is.

use std::collections::BTreeMap;

use brock::{
    ground::id::{Incarnation, Origin},
    proto,
};
use serde::Serialize;

use crate::{
    cli::Format,
    client::{self, Access},
    failure::Failure,
    output,
};

/// Prints the status of the first node that answers.
pub(crate) async fn show(access: &Access, format: Format) -> Result<(), Failure> {
    let answered = access
        .first_answer(async |channel| {
            Ok(client::admin(channel).status(proto::StatusRequest {}).await?.into_inner())
        })
        .await;
    for (address, miss) in &answered.misses {
        if answered.outcome.is_ok() {
            // The status is then not of the node that was named first.
            output::message(&format!("note: {address} did not answer: {}", miss.reason));
        }
    }
    output::data(format, &Status::try_from(answered.outcome?)?, Status::text)
}

/// What `status` prints.
#[derive(Debug, Serialize)]
struct Status {
    node_id: String,
    incarnation: String,
    version: String,
    ready: bool,
    records: u64,
    quarantined: u64,
    conflicts: u64,
    /// Empty: writes are accepted.
    writes_refused: String,
    alarms: Vec<String>,
    clocks: BTreeMap<String, u64>,
    peers: Vec<Peer>,
    tasks: Vec<Task>,
}

#[derive(Debug, Serialize)]
struct Peer {
    address: String,
    node_id: String,
    up: bool,
    since_unix: i64,
    last_error: String,
    /// `null`: not known.
    lag_entries: Option<u64>,
    rounds: u64,
    entries_received: u64,
    last_success_unix: i64,
}

#[derive(Debug, Serialize)]
struct Task {
    name: String,
    state: String,
    last_error: String,
}

impl TryFrom<proto::StatusResponse> for Status {
    type Error = Failure;

    fn try_from(response: proto::StatusResponse) -> Result<Self, Failure> {
        // Destructured, so that a new field cannot be forgotten here.
        let proto::StatusResponse {
            node_id,
            incarnation,
            version,
            records,
            clocks,
            peers,
            quarantined,
            conflicts,
            writes_refused,
            tasks,
            alarms,
            ready,
        } = response;
        let clocks = clocks.into_iter().map(|stamp| match Origin::try_from(stamp.origin.as_ref()) {
            Ok(origin) => Ok((origin.to_string(), stamp.clock)),
            Err(error) => Err(Failure::Error(format!("the node's answer makes no sense: {error}"))),
        });
        Ok(Self {
            node_id,
            incarnation: Incarnation(incarnation).to_string(),
            version,
            ready,
            records,
            quarantined,
            conflicts,
            writes_refused,
            alarms,
            clocks: clocks.collect::<Result<_, _>>()?,
            peers: peers.into_iter().map(Peer::from).collect(),
            tasks: tasks.into_iter().map(Task::from).collect(),
        })
    }
}

impl From<proto::Peer> for Peer {
    fn from(peer: proto::Peer) -> Self {
        let proto::Peer {
            address,
            node_id,
            up,
            since_unix,
            last_error,
            lag_entries,
            rounds,
            entries_received,
            last_success_unix,
        } = peer;
        Self {
            address,
            node_id,
            up,
            since_unix,
            last_error,
            lag_entries,
            rounds,
            entries_received,
            last_success_unix,
        }
    }
}

impl From<proto::Task> for Task {
    fn from(task: proto::Task) -> Self {
        let proto::Task { name, state, last_error } = task;
        Self { name, state, last_error }
    }
}

impl Status {
    fn text(&self) -> String {
        let writes = match self.writes_refused.as_str() {
            "" => "accepted".to_owned(),
            reason => format!("refused: {}", output::printable(reason)),
        };
        let mut text = output::fields(&[
            ("node_id", output::printable(&self.node_id)),
            ("incarnation", self.incarnation.clone()),
            ("version", output::printable(&self.version)),
            ("ready", if self.ready { "yes" } else { "no" }.to_owned()),
            ("writes", writes),
            ("records", self.records.to_string()),
            ("quarantined", self.quarantined.to_string()),
            ("conflicts", self.conflicts.to_string()),
        ]);
        section(
            &mut text,
            "alarms",
            self.alarms.iter().map(|alarm| vec![output::printable(alarm)]).collect(),
        );
        let clocks = self.clocks.iter().map(|(origin, clock)| vec![origin.clone(), clock.to_string()]);
        section(&mut text, "clocks", headed(&["ORIGIN", "CLOCK"], clocks));
        let peers = self.peers.iter().map(Peer::row);
        section(
            &mut text,
            "peers",
            headed(&["ADDRESS", "NODE", "STATE", "SINCE", "LAG", "LAST ERROR"], peers),
        );
        let tasks = self.tasks.iter().map(|task| {
            [&task.name, &task.state, &task.last_error].map(|cell| output::printable(cell)).to_vec()
        });
        section(&mut text, "tasks", headed(&["NAME", "STATE", "LAST ERROR"], tasks));
        text
    }
}

impl Peer {
    fn row(&self) -> Vec<String> {
        let lag = self.lag_entries.map_or_else(|| "unknown".to_owned(), |entries| entries.to_string());
        vec![
            output::printable(&self.address),
            output::printable(if self.node_id.is_empty() { "?" } else { &self.node_id }),
            if self.up { "up" } else { "down" }.to_owned(),
            output::moment(self.since_unix),
            lag,
            output::printable(&self.last_error),
        ]
    }
}

fn headed(heading: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Vec<Vec<String>> {
    let mut table: Vec<_> = rows.collect();
    if !table.is_empty() {
        table.insert(0, heading.iter().map(ToString::to_string).collect());
    }
    table
}

fn section(text: &mut String, title: &str, rows: Vec<Vec<String>>) {
    if rows.is_empty() {
        text.push_str(&format!("\n{title}: none\n"));
    } else {
        text.push_str(&format!("\n{title}:\n{}", output::table(&rows)));
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn response() -> proto::StatusResponse {
        let stamp = |node: &str, clock| {
            let origin = Origin::new(&node.parse().unwrap(), Incarnation(0x0102_0304));
            proto::Stamp { origin: Bytes::copy_from_slice(origin.as_bytes()), clock }
        };
        let up = proto::Peer {
            address: "b:20004".to_owned(),
            node_id: "node-b".to_owned(),
            up: true,
            since_unix: 1_777_636_800,
            last_error: String::new(),
            lag_entries: Some(3),
            rounds: 9,
            entries_received: 8,
            last_success_unix: 1_777_636_801,
        };
        let down = proto::Peer {
            address: "c:20004".to_owned(),
            last_error: "refused\x1b[0m".to_owned(),
            ..proto::Peer::default()
        };
        let task = proto::Task { name: "sweeper".into(), state: "idle".into(), last_error: String::new() };
        proto::StatusResponse {
            node_id: "node-a".to_owned(),
            incarnation: 0x0102_0304,
            version: "0.1.0".to_owned(),
            records: 12,
            clocks: vec![stamp("node-b", 5), stamp("node-a", 7)],
            peers: vec![up, down],
            tasks: vec![task],
            ready: true,
            ..proto::StatusResponse::default()
        }
    }

    #[test]
    fn a_status_is_this_json() {
        let status = Status::try_from(response()).unwrap();
        let json: serde_json::Value = serde_json::from_str(&output::json(&status).unwrap()).unwrap();
        let expected = serde_json::json!({
            "node_id": "node-a", "incarnation": "01020304", "version": "0.1.0", "ready": true, "records": 12,
            "quarantined": 0, "conflicts": 0, "writes_refused": "", "alarms": [],
            "clocks": {"node-a/01020304": 7, "node-b/01020304": 5},
            "peers": [
                {"address": "b:20004", "node_id": "node-b", "up": true, "since_unix": 1_777_636_800,
                 "last_error": "", "lag_entries": 3, "rounds": 9, "entries_received": 8,
                 "last_success_unix": 1_777_636_801},
                {"address": "c:20004", "node_id": "", "up": false, "since_unix": 0,
                 "last_error": "refused\u{1b}[0m", "lag_entries": null, "rounds": 0, "entries_received": 0,
                 "last_success_unix": 0},
            ],
            "tasks": [{"name": "sweeper", "state": "idle", "last_error": ""}],
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn a_status_is_a_table_for_people() {
        let text = Status::try_from(response()).unwrap().text();
        for line in [
            "node_id      node-a",
            "writes       accepted",
            "alarms: none",
            "  node-b/01020304  5",
            "  b:20004  node-b  up     2026-05-01T12:00:00Z (1777636800)  3",
            "  c:20004  ?       down   never                              unknown  refused\u{fffd}[0m",
            "  sweeper  idle",
        ] {
            assert!(text.lines().any(|l| l == line), "{line:?} is missing in\n{text}");
        }
    }
}
