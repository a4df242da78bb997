use super::*;

const NOW: i64 = 1_800_000_000;

fn node(name: &str) -> Node {
    let status = StatusResponse {
        node_id: name.to_owned(),
        version: "1".to_owned(),
        ready: true,
        started_unix: NOW - 60,
        ..StatusResponse::default()
    };
    Node { node: name.to_owned(), address: format!("{name}:1"), status: Some(status), ..Node::default() }
}

fn with(name: &str, change: impl FnOnce(&mut StatusResponse)) -> Node {
    let mut node = node(name);
    change(node.status.as_mut().unwrap());
    node
}

fn dead(name: &str) -> Node {
    Node { status: None, error: "refused".to_owned(), ..node(name) }
}

#[test]
fn a_cluster_is_well_when_there_is_nothing_to_say() {
    let verdict = of(&[node("a"), node("b")], NOW);
    assert_eq!((verdict.level(), verdict.findings.len()), (Level::Well, 0));
    assert_eq!(verdict.sentence, "All 2 nodes are well, and each has what the others have.");
    assert_eq!(of(&[node("a")], NOW).sentence, "The only node is well.");
}

#[test]
fn a_node_that_does_not_answer_is_named_once_and_a_retired_one_not_at_all() {
    let pulls = |status: &mut StatusResponse| {
        status.peers.push(Peer {
            address: "c:1".to_owned(),
            node_id: "c".to_owned(),
            last_error: "refused".to_owned(),
            ..Peer::default()
        });
    };
    let verdict = of(&[with("a", pulls), node("b"), dead("c")], NOW);
    assert_eq!(verdict.level(), Level::Act);
    assert_eq!(verdict.findings.len(), 1, "{verdict:?}");
    assert_eq!(
        verdict.sentence,
        "2 of 3 nodes answer; this needs somebody now: c: it does not answer at c:1: refused."
    );
    let retired = Node { retired: true, ..dead("c") };
    assert_eq!(of(&[with("a", pulls), retired], NOW).level(), Level::Well);
    // A way that is broken between two that are both well is a finding of the one that goes it.
    let verdict = of(&[with("a", pulls), node("c")], NOW);
    assert_eq!((verdict.findings[0].node.as_str(), verdict.findings.len()), ("a", 1), "{verdict:?}");
}

#[test]
fn what_is_wrong_with_a_node_is_found_and_says_what_to_do() {
    use proto::{BackupStatus, Certificate, Storage, Task};
    type Change = fn(&mut StatusResponse);
    let cases: [(Change, Level, &str); 16] = [
        (|s| s.writes_refused = "disk full".into(), Level::Act, "disk full"),
        (
            |s| {
                s.storage = Some(Storage { disk_free_bytes: 4, disk_total_bytes: 100, ..Storage::default() });
            },
            Level::Act,
            "4 % left",
        ),
        (
            |s| {
                s.storage = Some(Storage { disk_free_bytes: 9, disk_total_bytes: 100, ..Storage::default() });
            },
            Level::Watch,
            "9 % left",
        ),
        (
            |s| {
                s.storage = Some(Storage {
                    disk_free_bytes: 2 << 30,
                    disk_total_bytes: 50 << 30,
                    ..Storage::default()
                });
            },
            Level::Watch,
            "4 % left",
        ),
        (|s| s.ready = false, Level::Watch, "not ready"),
        (
            |s| s.resync = Some(proto::Resync { node: "b".into(), ..proto::Resync::default() }),
            Level::Watch,
            "filled from b",
        ),
        (
            |s| {
                s.peers.push(Peer {
                    address: "b:1".into(),
                    up: true,
                    clock_skew_seconds: -6,
                    ..Peer::default()
                });
            },
            Level::Watch,
            "6 s apart",
        ),
        (
            |s| {
                s.peers.push(Peer {
                    address: "b:1".into(),
                    up: true,
                    clock_skew_seconds: 301,
                    ..Peer::default()
                });
            },
            Level::Act,
            "301 s apart",
        ),
        (
            |s| {
                s.certificates.push(Certificate {
                    file: "node.crt".into(),
                    not_after_unix: NOW + 20 * 86_400,
                    lifetime_seconds: 365 * 86_400,
                });
            },
            Level::Watch,
            "expires in 20 days",
        ),
        (
            |s| {
                s.certificates.push(Certificate {
                    file: "node.crt".into(),
                    not_after_unix: NOW - 1,
                    lifetime_seconds: 86_400,
                });
            },
            Level::Act,
            "has expired",
        ),
        (
            |s| {
                s.backup = Some(BackupStatus {
                    last_success_unix_ms: (NOW - 27 * 3600) * 1000,
                    ..BackupStatus::default()
                });
            },
            Level::Watch,
            "27 hours old",
        ),
        (
            |s| {
                s.backup = Some(BackupStatus {
                    last_success_unix_ms: NOW * 1000,
                    verify_error: "hash".into(),
                    ..BackupStatus::default()
                });
            },
            Level::Act,
            "damaged",
        ),
        (
            |s| s.alarms = ["old", "new"].map(|text| proto::Alarm { at_unix: 1, text: text.into() }).into(),
            Level::Watch,
            "2 alarms, the newest: new",
        ),
        (|s| s.quarantined = 3, Level::Watch, "3 replicated entries"),
        (|s| s.conflicts = 2, Level::Watch, "2 payloads lost"),
        (
            |s| s.tasks.push(Task { name: "sweeper".into(), last_error: "io".into(), ..Task::default() }),
            Level::Watch,
            "its sweeper has an error: io",
        ),
    ];
    for (change, level, part) in cases {
        let verdict = of(&[node("a"), with("b", change)], NOW);
        let [finding] = verdict.findings.as_slice() else { panic!("{part}: {verdict:?}") };
        assert_eq!((finding.level(), verdict.level()), (level, level), "{part}");
        assert!(finding.what.contains(part) && !finding.todo.is_empty(), "{part}: {finding:?}");
        assert!(verdict.sentence.contains(part), "{}", verdict.sentence);
    }
}

#[test]
fn what_is_usual_is_no_finding() {
    use proto::{BackupStatus, Certificate, Task};
    let mut usual = with("b", |s| {
        s.certificates.push(Certificate {
            file: "short.crt".into(),
            not_after_unix: NOW + 20_000,
            lifetime_seconds: 40_000,
        });
        s.backup =
            Some(BackupStatus { last_success_unix_ms: (NOW - 3600) * 1000, ..BackupStatus::default() });
        s.tasks.push(Task { name: "puller c:1".into(), last_error: "refused".into(), ..Task::default() });
    });
    let entries = [("a".to_owned(), limits::LAG_NOTABLE_ENTRIES)].into();
    usual.lags = Some(proto::cluster_response::Lags { entries });
    let verdict = of(&[node("a"), usual.clone()], NOW);
    assert_eq!(verdict.findings, []);
    assert_eq!(
        verdict.sentence,
        "All 2 nodes are well; none lacks more than 1000 of the others' operations."
    );
    let entries = [("a".to_owned(), limits::LAG_NOTABLE_ENTRIES + 1)].into();
    usual.lags = Some(proto::cluster_response::Lags { entries });
    assert!(of(&[node("a"), usual], NOW).sentence.contains("it lacks 1001 operations"));
}

#[test]
fn the_worst_comes_first_and_the_rest_is_counted() {
    let old = with("b", |s| s.version = "0".to_owned());
    let verdict = of(&[node("a"), old, dead("c")], NOW);
    assert_eq!(verdict.findings[0].node, "c");
    assert!(verdict.sentence.ends_with("refused, and one thing more."), "{}", verdict.sentence);
    assert!(verdict.findings[1].what.contains("0, 1"), "{verdict:?}");
}

#[test]
fn whoever_was_not_given_the_newest_list_of_revoked_certificates_is_named() {
    let knows = |key: &str, revoked| proto::Authority {
        key: key.to_owned(),
        name: "CN=Brock CA".to_owned(),
        revoked,
    };
    let trusts =
        |name, authorities: &[proto::Authority]| with(name, |s| s.authorities = authorities.to_vec());
    let verdict = of(&[trusts("a", &[knows("1", 2)]), trusts("b", &[knows("1", 1)]), dead("c")], NOW);
    let found: Vec<_> = verdict.findings.iter().map(|finding| finding.node.as_str()).collect();
    assert_eq!(found, ["b", "c"], "{verdict:?}");
    assert!(
        verdict.findings[0].what.contains("1 revoked certificates of CN=Brock CA, and another node of 2")
    );
    assert_eq!(verdict.findings[0].level(), Level::Act);
    // While a CA is exchanged for another, not all trust both; and an older version says nothing.
    let older = with("c", |_| {});
    let verdict =
        of(&[trusts("a", &[knows("1", 2), knows("2", 0)]), trusts("b", &[knows("2", 0)]), older], NOW);
    assert_eq!(verdict.findings, []);
}
