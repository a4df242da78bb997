//! Peers whose reports lie, and the view of the cluster that is built all the same.

use std::time::{Duration, Instant};

use crate::harness::{
    certs::Certs,
    eventually,
    fake_peer::{FakePeer, Script},
    free_port,
    node::{TestNode, config},
    wire::{at, origin},
};
use brock_client::view;
use brock_core::{
    base::{
        claims::ClaimKind,
        vector::{Clock, Vector},
    },
    domain::codec,
    proto::{self, ReportResponse, StatusResponse, cluster_response::Node, verdict::Level},
};

fn report(status: StatusResponse, applied: &Vector) -> ReportResponse {
    ReportResponse { status: Some(status), applied: Some(codec::vector_to_proto(applied)) }
}

fn status(node_id: &str) -> StatusResponse {
    StatusResponse { node_id: node_id.to_owned(), version: "1".to_owned(), ready: true, ..Default::default() }
}

/// Every number at its end.
fn endless(node_id: &str) -> StatusResponse {
    let max = u64::MAX;
    StatusResponse {
        records: max,
        quarantined: max,
        conflicts: max,
        tombstones: max,
        log_entries: max,
        log_bytes: max,
        removals_pending: max,
        started_unix: i64::MIN,
        now_unix_ms: i64::MIN,
        storage: Some(proto::Storage {
            sst_bytes: max,
            memtable_bytes: max,
            block_cache_bytes: max,
            disk_free_bytes: max,
            disk_total_bytes: 1,
            in_ram: false,
        }),
        traffic: Some(proto::Traffic { reads: max, writes: max, entries_received: max }),
        certificates: vec![proto::Certificate {
            file: "node.crt".to_owned(),
            not_after_unix: i64::MAX,
            lifetime_seconds: i64::MIN,
        }],
        backup: Some(proto::BackupStatus {
            last_success_unix_ms: i64::MAX,
            failures: max,
            interval_seconds: max,
            ..Default::default()
        }),
        peers: vec![proto::Peer {
            address: "x:1".to_owned(),
            up: true,
            lag_entries: Some(max),
            clock_skew_seconds: i64::MIN,
            round_trip_micros: Some(max),
            ..Default::default()
        }],
        descriptors_limit: max,
        connections_max: max,
        conflicts_acknowledged: max,
        ..status(node_id)
    }
}

/// Texts that would write on an operator's terminal.
fn loud(node_id: &str) -> StatusResponse {
    let text = || "\x1b]0;owned\x07\r\nall is well".to_owned();
    StatusResponse {
        version: text(),
        writes_refused: text(),
        incarnation_reason: text(),
        alarms: vec![proto::Alarm { text: text(), ..Default::default() }],
        tasks: vec![proto::Task { name: text(), state: text(), last_error: text() }],
        peers: vec![proto::Peer {
            address: text(),
            node_id: text(),
            last_error: text(),
            ..Default::default()
        }],
        ..status(node_id)
    }
}

fn many_origins() -> Vector {
    (0..49_000).map(|i| (origin(&format!("invented-{i}"), 1), Clock(u64::MAX))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_lies_costs_its_sender_a_place_in_the_view_and_nobody_else() {
    let certs = Certs::new();
    let honest = TestNode::start(&certs, config(&certs, "honest", free_port(), &[])).await;
    let (none, many) = (Vector::default(), many_origins());
    let malformed = proto::Stamp { origin: vec![1; 3].into(), clock: 1 };
    let tasks = vec![proto::Task { last_error: "x".repeat(100), ..Default::default() }; 20_000];
    let authority = proto::Authority { key: "0a".to_owned(), revoked: u64::MAX, ..Default::default() };
    let reports = [
        ("malformed", report(StatusResponse { clocks: vec![malformed], ..status("malformed") }, &none)),
        ("another", report(status("honest"), &none)),
        ("nameless", report(status(""), &none)),
        ("no-status", ReportResponse::default()),
        ("tasks", report(StatusResponse { tasks, ..status("tasks") }, &none)),
        ("revoked", report(StatusResponse { authorities: vec![authority], ..status("revoked") }, &none)),
        ("endless", report(endless("endless"), &at(origin("endless", 1), u64::MAX))),
        (
            "endless-2",
            report(
                endless("endless-2"),
                &[1, 2].map(|i| (origin("endless-2", i), Clock(u64::MAX))).into_iter().collect(),
            ),
        ),
        ("loud", report(loud("loud"), &none)),
        (
            "many",
            report(StatusResponse { clocks: codec::vector_to_proto(&many).clocks, ..status("many") }, &many),
        ),
    ];
    let mut liars = Vec::new();
    for (id, report) in reports {
        liars.push(FakePeer::start(&certs, id, Script { report: Some(report), ..Script::new(id) }).await);
    }
    let join: Vec<u16> = liars.iter().map(|liar| liar.port).chain([honest.port]).collect();
    let me = TestNode::start(&certs, config(&certs, "me", free_port(), &join)).await;
    eventually("every peer is known by its name", || async {
        me.admin.status().await.peers.iter().all(|peer| !peer.node_id.is_empty()).then_some(())
    })
    .await;
    let asked = Instant::now();
    let request = proto::ClusterRequest { history: true, fresh: false };
    let seen = me.admin.admin.clone().cluster(request).await.unwrap().into_inner();
    assert!(asked.elapsed() < Duration::from_secs(10), "it took {:?}", asked.elapsed());
    let named = |id: &str| -> &Node { seen.nodes.iter().find(|node| node.node == id).unwrap() };
    for id in ["malformed", "another", "nameless", "no-status", "tasks", "revoked"] {
        let node = named(id);
        assert!(node.status.is_none() && node.error.contains("report is not valid"), "{id}: {}", node.error);
    }
    let counts: Vec<u64> = liars.iter().map(|liar| liar.refused(ClaimKind::Report)).collect();
    assert!(counts[..6].iter().all(|count| *count > 0) && counts[6..] == [0; 4], "{counts:?}");
    for id in ["me", "honest", "endless", "endless-2", "loud", "many"] {
        assert!(named(id).status.is_some(), "{id}: {}", named(id).error);
    }
    assert_eq!(seen.nodes.len(), 12);
    assert_eq!(seen.nodes.iter().filter(|node| node.node == "honest").count(), 1);
    let verdict = seen.verdict.as_ref().unwrap();
    assert!(verdict.findings.len() < 200, "{}", verdict.findings.len());
    let about_honest = verdict.findings.iter().filter(|finding| finding.node == "honest");
    assert!(about_honest.clone().all(|finding| finding.level() != Level::Act), "{verdict:?}");
    assert!(!format!("{:?}", named("loud")).contains("\\u{1b}"), "{:?}", named("loud"));
    assert!(!verdict.findings.iter().any(|finding| finding.what.contains('\u{1b}')), "{verdict:?}");
    let view = view::Cluster::try_from(seen.clone()).unwrap();
    assert_eq!(view.nodes.len(), seen.nodes.len());
    me.stop().await;
    honest.stop().await;
}
