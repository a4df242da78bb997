//! `status`: how a node is.

use std::collections::BTreeMap;

use brock::{
    ground::{id::Incarnation, limits},
    proto,
};
use serde::Serialize;

use crate::{
    cli::Format,
    client::{self, Access},
    failure::Failure,
    output::{self, headed, section},
    stamp,
};

/// Prints the status of the first node that answers.
pub(crate) async fn show(access: &Access, format: Format) -> Result<(), Failure> {
    let answered = access
        .first_answer(async |channel| {
            Ok(client::admin(channel).status(proto::StatusRequest {}).await?.into_inner())
        })
        .await;
    answered.tell_misses();
    output::data(format, &Status::try_from(answered.outcome?)?, Status::text)
}

/// What `status` prints.
#[derive(Debug, Serialize)]
struct Status {
    node_id: String,
    incarnation: String,
    incarnation_reason: String,
    version: String,
    ready: bool,
    records: u64,
    tombstones: u64,
    log_entries: u64,
    log_bytes: u64,
    /// Deleted payloads that are still somewhere in the node's files.
    removals_pending: u64,
    quarantined: u64,
    conflicts: u64,
    /// Empty: writes are accepted.
    writes_refused: String,
    alarms: Vec<String>,
    /// `null`: none is under way.
    resync: Option<Resync>,
    backup_public_key: String,
    backup: Option<BackupStatus>,
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
    /// Its wall clock minus the node's.
    clock_skew_seconds: i64,
}

/// The node is being filled from a peer's records.
#[derive(Debug, Serialize)]
struct Resync {
    node: String,
    reason: String,
    records_joined: u64,
    log_entries_copied: u64,
    records_expected: u64,
    since_unix: i64,
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
            incarnation_reason,
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
            tombstones,
            log_entries,
            log_bytes,
            removals_pending,
            resync,
            backup_public_key,
            backup,
        } = response;
        Ok(Self {
            node_id,
            incarnation: Incarnation(incarnation).to_string(),
            incarnation_reason,
            version,
            ready,
            records,
            tombstones,
            log_entries,
            log_bytes,
            removals_pending,
            quarantined,
            conflicts,
            writes_refused,
            alarms,
            resync: resync.map(Resync::from),
            backup_public_key,
            backup: backup.map(BackupStatus::from),
            clocks: stamp::clocks(clocks)?,
            peers: peers.into_iter().map(Peer::from).collect(),
            tasks: tasks.into_iter().map(Task::from).collect(),
        })
    }
}

#[derive(Debug, Serialize)]
struct BackupStatus {
    place: String,
    last_key: String,
    last_success_unix_ms: i64,
    last_error: String,
    failures: u64,
    last_verified_unix_ms: i64,
    verify_error: String,
}

impl From<proto::BackupStatus> for BackupStatus {
    fn from(backup: proto::BackupStatus) -> Self {
        let proto::BackupStatus {
            place,
            last_key,
            last_success_unix_ms,
            last_error,
            failures,
            last_verified_unix_ms,
            verify_error,
        } = backup;
        Self {
            place,
            last_key,
            last_success_unix_ms,
            last_error,
            failures,
            last_verified_unix_ms,
            verify_error,
        }
    }
}

impl BackupStatus {
    fn text(&self) -> String {
        let last = output::moment(self.last_success_unix_ms / 1000);
        let failed = match self.last_error.as_str() {
            "" => String::new(),
            error => format!("; the last attempt failed: {}", output::printable(error)),
        };
        let read = match (self.verify_error.as_str(), self.last_verified_unix_ms) {
            ("", 0) => "not read again yet".to_owned(),
            ("", at) => format!("read again and found whole {}", output::moment(at / 1000)),
            (problem, _) => format!("DAMAGED: {}", output::printable(problem)),
        };
        format!("to {}, last {last}, {read}{failed}", output::printable(&self.place))
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
            clock_skew_seconds,
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
            clock_skew_seconds,
        }
    }
}

impl From<proto::Resync> for Resync {
    fn from(resync: proto::Resync) -> Self {
        let proto::Resync { node, reason, records_joined, log_entries_copied, records_expected, since_unix } =
            resync;
        Self { node, reason, records_joined, log_entries_copied, records_expected, since_unix }
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
            (
                "incarnation",
                format!("{} ({})", self.incarnation, output::printable(&self.incarnation_reason)),
            ),
            ("version", output::printable(&self.version)),
            ("ready", if self.ready { "yes" } else { "no" }.to_owned()),
            ("writes", writes),
            ("backup", self.backup.as_ref().map_or_else(|| "not enabled".to_owned(), BackupStatus::text)),
            ("backup_key", output::printable(&self.backup_public_key)),
            ("resync", self.resync.as_ref().map_or_else(|| "none".to_owned(), Resync::text)),
            ("records", self.records.to_string()),
            ("tombstones", self.tombstones.to_string()),
            ("log_entries", self.log_entries.to_string()),
            ("log_bytes", self.log_bytes.to_string()),
            ("removals_pending", self.removals_pending.to_string()),
            ("quarantined", self.quarantined.to_string()),
            ("conflicts", self.conflicts.to_string()),
        ]);
        for warning in self.peers.iter().filter_map(Peer::skew) {
            text.push_str(&warning);
        }
        section(
            &mut text,
            "alarms",
            &self.alarms.iter().map(|alarm| vec![output::printable(alarm)]).collect::<Vec<_>>(),
        );
        let clocks = self.clocks.iter().map(|(origin, clock)| vec![origin.clone(), clock.to_string()]);
        section(&mut text, "clocks", &headed(&["ORIGIN", "CLOCK"], clocks));
        let peers = self.peers.iter().map(Peer::row);
        section(
            &mut text,
            "peers",
            &headed(&["ADDRESS", "NODE", "STATE", "SINCE", "LAG", "LAST ERROR"], peers),
        );
        let tasks = self.tasks.iter().map(|task| {
            [&task.name, &task.state, &task.last_error].map(|cell| output::printable(cell)).to_vec()
        });
        section(&mut text, "tasks", &headed(&["NAME", "STATE", "LAST ERROR"], tasks));
        text
    }
}

impl Resync {
    fn text(&self) -> String {
        format!(
            "from {} since {}: {} of about {} records, {} log entries ({})",
            output::printable(&self.node),
            output::moment(self.since_unix),
            self.records_joined,
            self.records_expected,
            self.log_entries_copied,
            output::printable(&self.reason)
        )
    }
}

impl Peer {
    /// A line of warning if its wall clock is too far off for expired records to be removed.
    fn skew(&self) -> Option<String> {
        let apart = self.clock_skew_seconds.unsigned_abs();
        if apart <= limits::CLOCK_SKEW_MAX_SECONDS {
            return None;
        }
        let name = match self.node_id.as_str() {
            "" => output::printable(&self.address),
            node_id => format!("{} ({})", output::printable(node_id), output::printable(&self.address)),
        };
        let direction = if self.clock_skew_seconds > 0 { "ahead of" } else { "behind" };
        Some(format!("warning: the clock of {name} is {apart} s {direction} this node's\n"))
    }

    fn row(&self) -> Vec<String> {
        vec![
            output::printable(&self.address),
            output::printable(if self.node_id.is_empty() { "?" } else { &self.node_id }),
            if self.up { "up" } else { "down" }.to_owned(),
            output::moment(self.since_unix),
            output::known(self.lag_entries),
            output::printable(&self.last_error),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response() -> proto::StatusResponse {
        let stamp = |text: &str| stamp::to_wire(&stamp::parse(text).unwrap());
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
            clock_skew_seconds: -301,
        };
        let down = proto::Peer {
            address: "c:20004".to_owned(),
            last_error: "refused\x1b[0m".to_owned(),
            clock_skew_seconds: 300,
            ..proto::Peer::default()
        };
        let task = proto::Task { name: "sweeper".into(), state: "idle".into(), last_error: String::new() };
        proto::StatusResponse {
            node_id: "node-a".to_owned(),
            incarnation: 0x0102_0304,
            incarnation_reason: "start".to_owned(),
            version: "0.1.0".to_owned(),
            records: 12,
            clocks: vec![stamp("node-b/01020304:5"), stamp("node-a/01020304:7")],
            peers: vec![up, down],
            tasks: vec![task],
            ready: true,
            tombstones: 2,
            log_entries: 30,
            log_bytes: 4000,
            removals_pending: 1,
            ..proto::StatusResponse::default()
        }
    }

    #[test]
    fn a_status_is_this_json() {
        let status = Status::try_from(response()).unwrap();
        let json: serde_json::Value = serde_json::from_str(&output::json(&status).unwrap()).unwrap();
        let expected = serde_json::json!({
            "node_id": "node-a", "incarnation": "01020304", "incarnation_reason": "start", "version": "0.1.0", "ready": true, "records": 12,
            "tombstones": 2, "log_entries": 30, "log_bytes": 4000, "removals_pending": 1, "resync": null,
            "backup": null, "backup_public_key": "",
            "quarantined": 0, "conflicts": 0, "writes_refused": "", "alarms": [],
            "clocks": {"node-a/01020304": 7, "node-b/01020304": 5},
            "peers": [
                {"address": "b:20004", "node_id": "node-b", "up": true, "since_unix": 1_777_636_800,
                 "last_error": "", "lag_entries": 3, "rounds": 9, "entries_received": 8,
                 "last_success_unix": 1_777_636_801, "clock_skew_seconds": -301},
                {"address": "c:20004", "node_id": "", "up": false, "since_unix": 0,
                 "last_error": "refused\u{1b}[0m", "lag_entries": null, "rounds": 0, "entries_received": 0,
                 "last_success_unix": 0, "clock_skew_seconds": 300},
            ],
            "tasks": [{"name": "sweeper", "state": "idle", "last_error": ""}],
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn a_status_is_a_table_for_people() {
        let text = Status::try_from(response()).unwrap().text();
        for line in [
            "node_id           node-a",
            "writes            accepted",
            "resync            none",
            "removals_pending  1",
            "warning: the clock of node-b (b:20004) is 301 s behind this node's",
            "alarms: none",
            "  node-b/01020304  5",
            "  b:20004  node-b  up     2026-05-01T12:00:00Z (1777636800)  3",
            "  c:20004  ?       down   never                              unknown  refused\u{fffd}[0m",
            "  sweeper  idle",
        ] {
            assert!(text.lines().any(|l| l == line), "{line:?} is missing in\n{text}");
        }
    }

    #[test]
    fn only_a_clock_that_is_far_off_is_warned_of() {
        let text = Status::try_from(response()).unwrap().text();
        assert_eq!(text.matches("warning:").count(), 1, "{text}");
        let ahead = proto::Peer {
            address: "c\x07:1".to_owned(),
            clock_skew_seconds: i64::MAX,
            ..proto::Peer::default()
        };
        let warning = Peer::from(ahead).skew().unwrap();
        assert_eq!(
            warning,
            "warning: the clock of c\u{fffd}:1 is 9223372036854775807 s ahead of this node's\n"
        );
    }

    #[test]
    fn a_resync_under_way_is_shown() {
        let resync = proto::Resync {
            node: "node-b".to_owned(),
            reason: "below the floor".to_owned(),
            records_joined: 5,
            log_entries_copied: 6,
            records_expected: 70,
            since_unix: 1_777_636_800,
        };
        let status = Status::try_from(proto::StatusResponse { resync: Some(resync), ..response() }).unwrap();
        let json: serde_json::Value = serde_json::from_str(&output::json(&status).unwrap()).unwrap();
        let expected = serde_json::json!({
            "node": "node-b", "reason": "below the floor", "records_joined": 5, "log_entries_copied": 6,
            "records_expected": 70, "since_unix": 1_777_636_800,
        });
        assert_eq!(json["resync"], expected);
        let line = "resync            from node-b since 2026-05-01T12:00:00Z (1777636800): \
                    5 of about 70 records, 6 log entries (below the floor)";
        let text = status.text();
        assert!(text.lines().any(|l| l == line), "{text}");
    }
}
