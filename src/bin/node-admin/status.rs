//! `status`: the status of one node.

use crate::{
    answer,
    cli::Format,
    cluster::bytes,
    failure::Failure,
    output::{self, headed, section},
    paint, trust,
};
use brock_client::{
    Client,
    view::{Authority, BackupStatus, Certificate, Peer, Resync, Status, Storage, Trust},
};
use brock_core::{base::limits, proto};

/// Prints the status of the first node that answers.
pub(crate) async fn show(client: &Client, format: Format) -> Result<(), Failure> {
    output::data(format, &fetch(client).await?, text)
}

/// The status of the first node that answers.
pub(crate) async fn fetch(client: &Client) -> Result<Status, Failure> {
    let status = answer::reported(client.status(proto::StatusRequest::default()).await)?;
    Status::try_from(status).map_err(Failure::nonsense)
}

fn backup_text(backup: &BackupStatus) -> String {
    let last = output::moment(backup.last_success_unix_ms / 1000);
    let failed = match backup.last_error.as_str() {
        "" => String::new(),
        error => format!("; the last attempt failed: {}", output::printable(error)),
    };
    let read = match (backup.verify_error.as_str(), backup.last_verified_unix_ms) {
        ("", 0) => "not read again yet".to_owned(),
        ("", at) => format!("read again and found whole {}", output::moment(at / 1000)),
        (problem, _) => format!("DAMAGED: {}", output::printable(problem)),
    };
    format!("to {}, last {last}, {read}{failed}", output::printable(&backup.place))
}

fn text(status: &Status) -> String {
    let writes = match status.writes_refused.as_str() {
        "" => "accepted".to_owned(),
        reason => paint::bad(&format!("refused: {}", output::printable(reason))),
    };
    let mut text = output::fields(&[
        ("node_id", output::printable(&status.node_id)),
        (
            "incarnation",
            format!("{} ({})", status.incarnation, output::printable(&status.incarnation_reason)),
        ),
        ("version", output::printable(&status.version)),
        ("started", output::moment(status.started_unix)),
        ("ready", if status.ready { "yes".to_owned() } else { paint::warn("no") }),
        ("writes", writes),
        ("backup", status.backup.as_ref().map_or_else(|| "not enabled".to_owned(), backup_text)),
        ("backup_public_key", output::printable(&status.backup_public_key)),
        ("resync", status.resync.as_ref().map_or_else(|| "none".to_owned(), resync_text)),
        ("records", status.records.to_string()),
        ("tombstones", status.tombstones.to_string()),
        ("log_entries", status.log_entries.to_string()),
        ("log_bytes", bytes(status.log_bytes)),
        ("removals_pending", status.removals_pending.to_string()),
        ("reads", status.traffic.reads.to_string()),
        ("operations", status.traffic.writes.to_string()),
        ("storage", storage_text(&status.storage)),
        ("certificate", certificate_text(status.certificates.first())),
        ("revoked", revoked_text(&status.authorities)),
        ("quarantined", status.quarantined.to_string()),
        ("conflicts", conflicts_text(status)),
        ("trust", status.trust.as_ref().map_or_else(|| "not known".to_owned(), trust_text)),
    ]);
    for warning in status.peers.iter().filter_map(skew) {
        text.push_str(&warning);
    }
    section(
        &mut text,
        "alarms",
        &status
            .alarms
            .iter()
            .map(|alarm| vec![output::moment(alarm.at_unix), paint::bad(&output::printable(&alarm.text))])
            .collect::<Vec<_>>(),
    );
    let paused = status.paused.iter().map(|paused| {
        let origin = paused.origin.as_deref().unwrap_or("records in whole");
        let cells = [&paused.node_id, &paused.by, origin].map(output::printable);
        [cells.to_vec(), vec![paused.clock.to_string(), output::moment(paused.since_unix)]].concat()
    });
    section(&mut text, "paused", &headed(&["NODE", "BROUGHT BY", "LOG", "APPLIED", "SINCE"], paused));
    let forks = status.trust.iter().flat_map(|trust| &trust.forks);
    let forks = forks.map(|fork| vec![fork.origin.clone(), trust::forked(fork)]);
    section(&mut text, "frozen", &headed(&["LOG", "HAS SIGNED"], forks));
    let fills = status.trust.iter().flat_map(|trust| &trust.unconfirmed_fills);
    let fills = fills.map(|fill| {
        let what = format!("filled from {} alone, unconfirmed", output::printable(&fill.donor));
        vec![what, output::moment(fill.since_unix)]
    });
    section(&mut text, "fills", &headed(&["FILL", "SINCE"], fills));
    let heads = status.trust.iter().flat_map(|trust| &trust.heads).map(|head| {
        let signed = output::moment(i64::try_from(head.at_unix_ms / 1000).unwrap_or(i64::MAX));
        // Without the number, so that it fits.
        let signed = signed.split(' ').next().unwrap_or_default().to_owned();
        let by = head.withheld_by.iter().map(|peer| output::printable(peer)).collect::<Vec<_>>().join(", ");
        vec![head.origin.clone(), head.clock.to_string(), signed, head.lacking.to_string(), by]
    });
    section(&mut text, "heads", &headed(&["ORIGIN", "CLOCK", "SIGNED", "LACKING", "KEPT BACK BY"], heads));
    let clocks = status.clocks.iter().map(|(origin, clock)| vec![origin.clone(), clock.to_string()]);
    section(&mut text, "clocks", &headed(&["ORIGIN", "CLOCK"], clocks));
    let peers = status.peers.iter().map(row);
    section(
        &mut text,
        "peers",
        &headed(&["ADDRESS", "NODE", "STATE", "SINCE", "LAG", "ROUND TRIP", "WIRE", "LAST ERROR"], peers),
    );
    let tasks = status
        .tasks
        .iter()
        .map(|task| [&task.name, &task.state, &task.last_error].map(|cell| output::printable(cell)).to_vec());
    section(&mut text, "tasks", &headed(&["NAME", "STATE", "LAST ERROR"], tasks));
    text
}

fn revoked_text(authorities: &[Authority]) -> String {
    let of = |Authority { key, name, revoked, absent }: &Authority| {
        let absent = if *absent { ", a CA that is not in its directory" } else { "" };
        format!("{revoked} of {} ({}{absent})", output::printable(name), output::printable(key))
    };
    match authorities {
        [] => "not known".to_owned(),
        authorities => authorities.iter().map(of).collect::<Vec<_>>().join(", "),
    }
}

fn conflicts_text(status: &Status) -> String {
    match status.conflicts_acknowledged {
        0 => status.conflicts.to_string(),
        acknowledged => format!("{} ({acknowledged} acknowledged)", status.conflicts),
    }
}

fn trust_text(trust: &Trust) -> String {
    let mode = output::printable(&trust.mode);
    match trust.unproven_records {
        0 => format!("{mode}, all records are proven"),
        unproven => format!("{mode}, {unproven} records are not proven"),
    }
}

fn resync_text(resync: &Resync) -> String {
    format!(
        "from {} since {}: {} of about {} records, {} log entries, the last at {} ({})",
        output::printable(&resync.node),
        output::moment(resync.since_unix),
        resync.records_joined,
        resync.records_expected,
        resync.log_entries_copied,
        output::moment(resync.progressed_unix),
        output::printable(&resync.reason)
    )
}

/// A warning if the peer's wall clock is so far off that expired records cannot be removed.
fn skew(peer: &Peer) -> Option<String> {
    let apart = peer.clock_skew_seconds.unsigned_abs();
    if apart <= limits::CLOCK_SKEW_MAX_SECONDS {
        return None;
    }
    let name = match peer.node_id.as_str() {
        "" => output::printable(&peer.address),
        node_id => format!("{} ({})", output::printable(node_id), output::printable(&peer.address)),
    };
    let direction = if peer.clock_skew_seconds > 0 { "ahead of" } else { "behind" };
    let warning = paint::warn("warning:");
    Some(format!("{warning} the clock of {name} is {apart} s {direction} this node's\n"))
}

fn row(peer: &Peer) -> Vec<String> {
    vec![
        output::printable(&peer.address),
        output::printable(if peer.node_id.is_empty() { "?" } else { &peer.node_id }),
        if peer.up { paint::good("up") } else { paint::bad("down") },
        output::moment(peer.since_unix),
        output::known(peer.lag_entries),
        round_trip(peer.round_trip_micros),
        wire(peer),
        output::printable(&peer.last_error),
    ]
}

fn storage_text(storage: &Storage) -> String {
    let Storage {
        sst_bytes,
        memtable_bytes,
        block_cache_bytes: _,
        disk_free_bytes,
        disk_total_bytes,
        in_ram,
    } = storage;
    let used = format!("{} in files, {} in memory", bytes(*sst_bytes), bytes(*memtable_bytes));
    match disk_total_bytes {
        0 if *in_ram => format!("{used}; in RAM only"),
        0 => format!("{used}; the disk does not answer"),
        total => format!("{used}; {} of {} of the disk are free", bytes(*disk_free_bytes), bytes(*total)),
    }
}

/// The certificate that expires first.
fn certificate_text(certificate: Option<&Certificate>) -> String {
    certificate.map_or_else(
        || "?".to_owned(),
        |first| {
            format!("{} expires {}", output::printable(&first.file), output::moment(first.not_after_unix))
        },
    )
}

/// What the connection to a peer has been encrypted and signed with; `-` if there is none.
pub(crate) fn wire(peer: &Peer) -> String {
    match peer.group.as_str() {
        "" => "-".to_owned(),
        group => {
            let suite = peer.suite.strip_prefix("TLS_").unwrap_or(&peer.suite);
            output::printable(&format!("{group} {suite} {}", peer.signature))
        }
    }
}

/// `?` if not known.
fn round_trip(micros: Option<u64>) -> String {
    micros.map_or_else(|| "?".to_owned(), |micros| format!("{:.1} ms", micros as f64 / 1000.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stamp;

    fn response() -> proto::StatusResponse {
        let stamp = |text: &str| stamp::to_wire(&stamp::parse(text).unwrap());
        let round =
            proto::Round { started_unix_ms: 5, duration_ms: 6, entries: 7, bytes: 8, error: "x".to_owned() };
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
            round_trip_micros: Some(1234),
            recent_rounds: vec![round],
            refused: false,
            group: "X25519MLKEM768".to_owned(),
            suite: "TLS_AES_256_GCM_SHA384".to_owned(),
            signature: "ecdsa-p256".to_owned(),
            ..proto::Peer::default()
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
            started_unix: 1_777_636_700,
            now_unix_ms: 1_777_636_802_000,
            storage: Some(proto::Storage {
                sst_bytes: 100,
                memtable_bytes: 20,
                block_cache_bytes: 3,
                disk_free_bytes: 5000,
                disk_total_bytes: 9000,
                in_ram: false,
            }),
            traffic: Some(proto::Traffic { reads: 41, writes: 42, entries_received: 8 }),
            certificates: vec![proto::Certificate {
                file: "node.crt".to_owned(),
                not_after_unix: 1_777_636_800,
                lifetime_seconds: 86_400,
            }],
            descriptors_limit: 1024,
            connections_max: 448,
            authorities: vec![proto::Authority {
                key: "0a".to_owned(),
                name: "CN=Brock CA".to_owned(),
                revoked: 2,
                absent: false,
            }],
            ..proto::StatusResponse::default()
        }
    }

    #[test]
    fn a_status_is_this_json() {
        let status = Status::try_from(response()).unwrap();
        let json: serde_json::Value = serde_json::from_str(&output::json(&status).unwrap()).unwrap();
        let peers = serde_json::json!([
                {"address": "b:20004", "node_id": "node-b", "up": true, "since_unix": 1_777_636_800,
                 "last_error": "", "refused": false, "lag_entries": 3, "rounds": 9, "entries_received": 8,
                 "last_success_unix": 1_777_636_801, "clock_skew_seconds": -301, "round_trip_micros": 1234,
                 "group": "X25519MLKEM768", "suite": "TLS_AES_256_GCM_SHA384", "signature": "ecdsa-p256",
                 "recent_rounds": [{"started_unix_ms": 5, "duration_ms": 6, "entries": 7, "bytes": 8, "error": "x"}], "unsent": {}, "unsent_origins": 0},
                {"address": "c:20004", "node_id": "", "up": false, "since_unix": 0,
                 "last_error": "refused\u{1b}[0m", "refused": false, "lag_entries": null, "rounds": 0, "entries_received": 0,
                 "last_success_unix": 0, "clock_skew_seconds": 300, "round_trip_micros": null,
                 "group": "", "suite": "", "signature": "",
                 "recent_rounds": [], "unsent": {}, "unsent_origins": 0},
        ]);
        let expected = serde_json::json!({
            "node_id": "node-a", "incarnation": "01020304", "incarnation_reason": "start", "version": "0.1.0",
            "started_unix": 1_777_636_700, "now_unix_ms": 1_777_636_802_000_i64, "ready": true, "records": 12,
            "tombstones": 2, "log_entries": 30, "log_bytes": 4000, "removals_pending": 1, "resync": null,
            "backup": null, "backup_public_key": "",
            "quarantined": 0, "conflicts": 0, "conflicts_acknowledged": 0, "trust": null, "writes_refused": "", "alarms": [],
            "storage": {"sst_bytes": 100, "memtable_bytes": 20, "block_cache_bytes": 3,
                        "disk_free_bytes": 5000, "disk_total_bytes": 9000, "in_ram": false},
            "traffic": {"reads": 41, "writes": 42, "entries_received": 8},
            "certificates": [{"file": "node.crt", "not_after_unix": 1_777_636_800, "lifetime_seconds": 86_400}],
            "authorities": [{"key": "0a", "name": "CN=Brock CA", "revoked": 2, "absent": false}], "duplicate_ids": [],
            "descriptors_limit": 1024, "connections_max": 448, "paused": [],
            "clocks": {"node-a/01020304": 7, "node-b/01020304": 5},
            "peers": peers,
            "tasks": [{"name": "sweeper", "state": "idle", "last_error": ""}],
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn a_status_is_a_table_for_people() {
        let text = text(&Status::try_from(response()).unwrap());
        for line in [
            "node_id            node-a",
            "writes             accepted",
            "resync             none",
            "removals_pending   1",
            "operations         42",
            "storage            100 B in files, 20 B in memory; 4.9 KiB of 8.8 KiB of the disk are free",
            "certificate        node.crt expires 2026-05-01T12:00:00Z (1777636800)",
            "revoked            2 of CN=Brock CA (0a)",
            "warning: the clock of node-b (b:20004) is 301 s behind this node's",
            "alarms: none",
            "  node-b/01020304  5",
            "  b:20004  node-b  up     2026-05-01T12:00:00Z (1777636800)  3        1.2 ms      X25519MLKEM768 AES_256_GCM_SHA384 ecdsa-p256",
            "  c:20004  ?       down   never                              unknown  ?           -                                             refused\u{fffd}[0m",
            "  sweeper  idle",
        ] {
            assert!(text.lines().any(|l| l == line), "{line:?} is missing in\n{text}");
        }
    }

    #[test]
    fn only_a_clock_that_is_far_off_is_warned_of() {
        let text = text(&Status::try_from(response()).unwrap());
        assert_eq!(text.matches("warning:").count(), 1, "{text}");
        let ahead = proto::Peer {
            address: "c\x07:1".to_owned(),
            clock_skew_seconds: i64::MAX,
            ..proto::Peer::default()
        };
        let warning = skew(&Peer::try_from(ahead).unwrap()).unwrap();
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
            progressed_unix: 1_777_636_860,
        };
        let status = Status::try_from(proto::StatusResponse { resync: Some(resync), ..response() }).unwrap();
        let json: serde_json::Value = serde_json::from_str(&output::json(&status).unwrap()).unwrap();
        let expected = serde_json::json!({
            "node": "node-b", "reason": "below the floor", "records_joined": 5, "log_entries_copied": 6,
            "records_expected": 70, "since_unix": 1_777_636_800, "progressed_unix": 1_777_636_860,
        });
        assert_eq!(json["resync"], expected);
        let line = "resync             from node-b since 2026-05-01T12:00:00Z (1777636800): \
                    5 of about 70 records, 6 log entries, the last at 2026-05-01T12:01:00Z (1777636860) \
                    (below the floor)";
        let text = text(&status);
        assert!(text.lines().any(|l| l == line), "{text}");
    }
}
