use crate::failure::Exit;
use brock_core::proto::{operation::Kind, record_trace};
use serde_json::json;

use super::*;

const CREATE: &str = "node-1/00000001:5";
const REVOKE: &str = "node-2/00000002:9";

fn operation(kind: Kind, written: &str, applied_unix_ms: i64) -> record_trace::Operation {
    record_trace::Operation {
        kind: kind.into(),
        stamp: Some(stamp::to_wire(&stamp::parse(written).unwrap())),
        at_unix: 1_777_636_800,
        applied_unix_ms,
        quarantined: false,
        reason: String::new(),
    }
}

fn revoke(applied_unix_ms: i64) -> record_trace::Operation {
    record_trace::Operation {
        reason: "leaked".to_owned(),
        ..operation(Kind::Invalidate, REVOKE, applied_unix_ms)
    }
}

fn node(
    name: &str,
    state: record_trace::State,
    applied: &[&str],
    operations: Vec<record_trace::Operation>,
) -> proto::trace_record_response::Node {
    let clocks = applied.iter().map(|text| stamp::to_wire(&stamp::parse(text).unwrap())).collect();
    let trace = proto::RecordTrace {
        state: state.into(),
        payload: record_trace::Payload::Present.into(),
        expires_at_unix: 0,
        public: true,
        operations,
        conflicts: 0,
        applied: Some(proto::Vector { clocks }),
    };
    proto::trace_record_response::Node { node: name.to_owned(), error: String::new(), trace: Some(trace) }
}

fn unasked(name: &str) -> proto::trace_record_response::Node {
    proto::trace_record_response::Node { node: name.to_owned(), error: "refused\x07".to_owned(), trace: None }
}

fn absent(name: &str) -> proto::trace_record_response::Node {
    node(name, record_trace::State::Absent, &[], Vec::new())
}

fn trace(nodes: Vec<proto::trace_record_response::Node>) -> Trace {
    Trace::new(KeyHash([0xab; 32]), proto::TraceRecordResponse { nodes }).unwrap()
}

#[test]
fn a_narrow_terminal_gets_times_that_fit() {
    let made = "2026-05-01T12:00:00Z (1777636800)";
    for (applied, expected) in [
        ("2026-05-01T12:00:00.123Z", "12:00:00.123Z"),
        ("2026-05-02T12:00:00.123Z", "2026-05-02T12:00:00.123Z"),
        ("-", "-"),
    ] {
        assert_eq!(shortened(made, applied), ("2026-05-01T12:00:00Z".to_owned(), expected.to_owned()));
    }
    assert_eq!(shortened("unknown", "-"), ("unknown".to_owned(), "-".to_owned()));
}

#[test]
fn a_trace_is_this_json() {
    let create = operation(Kind::Create, CREATE, 1_777_636_800_123);
    let known = node("node-1", record_trace::State::Created, &["node-1/00000001:7"], vec![create]);
    let traced = trace(vec![known, unasked("c:20004")]);
    let json: serde_json::Value = serde_json::from_str(&output::json(&traced).unwrap()).unwrap();
    let expected = json!({
        "key_hash": "ab".repeat(32),
        "nodes": [
            {"node": "node-1", "error": "", "state": "CREATED", "payload": "PRESENT", "expires_at_unix": 0,
             "public": true, "conflicts": 0, "applied": {"node-1/00000001": 7},
             "operations": [{"operation": "create", "origin": "node-1/00000001", "clock": 5,
                 "at_unix": 1_777_636_800, "applied_unix_ms": 1_777_636_800_123_i64, "quarantined": false,
                 "reason": ""}]},
            {"node": "c:20004", "error": "refused\u{7}", "state": null, "payload": null,
             "expires_at_unix": null, "public": null, "conflicts": null, "applied": {}, "operations": []},
        ],
    });
    assert_eq!(json, expected);
}

#[test]
fn a_node_that_lacks_an_operation_says_why() {
    let create = |applied| operation(Kind::Create, CREATE, applied);
    let both = ["node-1/00000001:7", "node-2/00000002:9"];
    let quarantined =
        record_trace::Operation { quarantined: true, reason: "unknown field".to_owned(), ..revoke(0) };
    let revoked = record_trace::State::Invalidated;
    let text = trace(vec![
        node("has-all", revoked, &both, vec![create(1_777_636_800_123), revoke(1_777_636_801_000)]),
        node(
            "behind",
            record_trace::State::Created,
            &["node-1/00000001:7", "node-2/00000002:8"],
            vec![create(1)],
        ),
        node("never-heard", record_trace::State::Created, &["node-1/00000001:7"], vec![create(1)]),
        // It stands exactly at the create.
        node(
            "compacted",
            revoked,
            &["node-1/00000001:5", "node-2/00000002:9"],
            vec![revoke(1_777_636_801_000)],
        ),
        node("in-effect", revoked, &both, vec![create(0), revoke(1)]),
        node("refuses", record_trace::State::Created, &both, vec![create(1), quarantined]),
        unasked("gone"),
    ])
    .text();
    let blocks: Vec<_> = text.split("\n\n").collect();
    let line = |block: usize, stamp: &str| {
        let line = blocks[block].lines().find(|line| line.contains(stamp));
        line.unwrap_or_else(|| panic!("no line of {stamp} in\n{text}"))
    };
    assert_eq!(
        line(1, REVOKE),
        "  invalidate  node-2/00000002:9  2026-05-01T12:00:00Z (1777636800)  2026-05-01T12:00:01.000Z  leaked"
    );
    for (block, stamp, note) in [
        (1, CREATE, "2026-05-01T12:00:00.123Z"),
        (2, REVOKE, "-             not applied yet: has node-2/00000002 up to 8, it is at 9"),
        (3, REVOKE, "-             not applied yet: has node-2/00000002 up to 0, it is at 9"),
        (4, CREATE, "-                     applied; its log entry is compacted"),
        (5, CREATE, "-                         applied; its log entry is compacted"),
        (6, REVOKE, "-                         quarantined: unknown field"),
    ] {
        let line = line(block, stamp);
        let (_, end) = line.split_once("(1777636800)  ").unwrap();
        assert_eq!(end.split_whitespace().collect::<Vec<_>>(), note.split_whitespace().collect::<Vec<_>>());
    }
    assert_eq!(blocks[7], "gone: could not be asked: refused\u{fffd}\n");
    assert!(blocks[1].contains("\n  expires_at  never\n"), "{text}");
}

#[test]
fn the_exit_code_says_whether_any_node_knows_it() {
    let exit = |nodes| trace(nodes).verdict().map_err(|failure| failure.exit());
    let known = |name| node(name, record_trace::State::Deleted, &[], Vec::new());
    assert_eq!(exit(vec![absent("a"), known("b"), unasked("c")]), Ok(()));
    assert_eq!(exit(vec![absent("a"), absent("b")]), Err(Exit::NotFound));
    assert_eq!(exit(vec![absent("a"), unasked("c")]), Err(Exit::Unreachable));
    // A quarantined operation is known too.
    let quarantined = node("a", record_trace::State::Absent, &[], vec![revoke(0)]);
    assert_eq!(exit(vec![quarantined]), Ok(()));
}

#[test]
fn a_node_that_makes_no_sense_spoils_only_its_own_part() {
    let stampless = record_trace::Operation { stamp: None, ..revoke(1) };
    let mut strange = absent("d");
    if let Some(trace) = &mut strange.trace {
        trace.state = 99;
    }
    let traced = trace(vec![
        absent("a"),
        node("b", record_trace::State::Created, &[], vec![stampless]),
        proto::trace_record_response::Node { node: "c".to_owned(), ..Default::default() },
        strange,
    ]);
    let senseless: Vec<_> = traced.nodes.iter().map(|node| node.error.contains("makes no sense")).collect();
    assert_eq!(senseless, [false, true, true, true]);
    assert!(Trace::new(KeyHash([0; 32]), proto::TraceRecordResponse::default()).is_err());
}
