//! `node-admin` for the life cycle: the JSON and the exit codes that scripts rely on.

use crate::harness::{
    admin::{Admin, GRANT, hex_key},
    certs::Certs,
    cluster::Cluster,
    eventually,
    fake_peer::{FakePeer, Script},
    node::{TestNode, compacts_on_command, config},
    random_key, store,
};
use brock_core::domain::operation::Operation;
use data_encoding::HEXLOWER;
use serde_json::{Value, json};

/// This exit code, and JSON on stdout all the same.
fn json_with(code: i32, admin: &Admin, arguments: &[&str]) -> Value {
    let output = admin.run(&[arguments, &["-o", "json"]].concat(), "");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {told}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn fields(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_revoked_with_a_receipt_and_the_cluster_is_verified_from_the_command_line() {
    let mut cluster = Cluster::start_with(2, compacts_on_command).await;
    let here = Admin::of(&cluster, 0);
    let (key, other) = (hex_key(), hex_key());
    let put = here.json(&["record", "put", &key, "--wait", "all", "--timeout", "20s"], GRANT);
    assert_eq!(put["missing"], json!([]));
    assert_eq!(put["holders"][0]["node"], "node-1");
    assert!(put["holders"][0]["after_ms"].is_u64());
    here.json(&["record", "put", &other], GRANT);

    let done = here.json(&["record", "invalidate", &key, "leaked", "--wait", "all", "--timeout", "20s"], "");
    let mut expected =
        ["key_hash", "operation", "origin", "clock", "already", "holders", "missing", "proof"].to_vec();
    let mut found = fields(&done);
    expected.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, expected);
    assert_eq!((&done["operation"], &done["already"]), (&json!("invalidate"), &json!(false)));
    let there = Admin::of(&cluster, 1);
    let shown = there.json(&["record", "show", &key], "");
    assert_eq!((&shown["state"], &shown["invalidation_reason"]), (&json!("INVALIDATED"), &json!("leaked")));
    let again = there.json(&["record", "invalidate", &key, "again"], "");
    assert_eq!((&again["already"], &again["clock"]), (&json!(true), &done["clock"]));
    assert_eq!(here.json(&["record", "unpublish", &other], "")["operation"], "unpublish");
    here.json(&["record", "delete", &other, "--wait", "1", "--timeout", "20s"], "");
    there.fails(3, "", &["record", "show", &other], "");
    there.fails(3, "deleted", &["record", "invalidate", &other, "late"], "");
    // A deleted key stays deleted: neither waiting for it nor another create helps.
    let late = there.run(&["record", "unpublish", &other], "");
    let told = String::from_utf8_lossy(&late.stderr).into_owned();
    assert!(
        late.status.code() == Some(3) && told.contains("is deleted") && !told.contains("ahead"),
        "{told}"
    );
    there.fails(7, "can never be used again", &["record", "put", &other], GRANT);
    here.fails(3, "--ahead", &["record", "delete", &hex_key()], "");
    here.fails(
        2,
        "waits for other members, 9 of them, and this node knows 1",
        &["record", "put", &hex_key(), "--wait", "9"],
        GRANT,
    );
    here.fails(2, "REASON: it is empty", &["record", "invalidate", &key, " \t"], "");
    let nobody = here.run(&["record", "delete", &hex_key(), "--ahead"], "").stdout;
    assert!(
        String::from_utf8(nobody).unwrap().contains("missing    not waited for"),
        "nothing is known of others"
    );
    assert_eq!(here.json(&["record", "show", "-"], &key)["key_hash"], json!(key));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{key}\n")).unwrap();
    let from_file = ["record", "invalidate", "--key-file", file.path().to_str().unwrap(), "leaked"];
    assert_eq!(here.json(&from_file, "")["already"], true);
    here.fails(2, "cannot both be read from standard input", &["record", "put", "-"], GRANT);
    here.fails(2, "KEY", &["record", "delete", "nonsense"], "");
    assert_eq!(here.json(&["record", "delete", &hex_key(), "--ahead"], "")["already"], false);

    let verified = here.json(&["verify"], "");
    assert_eq!(verified["verdict"], "converged");
    assert_eq!(verified["nodes"].as_array().unwrap().len(), 2);
    let traced = here.json(&["record", "trace", &key], "");
    for node in traced["nodes"].as_array().unwrap() {
        assert_eq!((&node["state"], &node["payload"]), (&json!("INVALIDATED"), &json!("PRESENT")));
        assert_eq!(node["operations"].as_array().unwrap().len(), 2, "{node}");
    }
    assert_eq!(json_with(3, &here, &["record", "trace", &hex_key()])["nodes"][0]["state"], "ABSENT");

    cluster.stop_node(1).await;
    let more = hex_key();
    here.json(&["record", "put", &more], GRANT);
    let waited = ["record", "invalidate", &more, "leaked", "--wait", "all", "--timeout", "500ms"];
    let missed = json_with(5, &here, &waited);
    assert_eq!((&missed["missing"], &missed["holders"]), (&json!(["node-1"]), &json!([])));
    assert_eq!(json_with(5, &here, &["verify"])["verdict"], "not_yet");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_listed_and_retired_and_the_log_is_compacted_from_the_command_line() {
    let mut cluster = Cluster::start_with(2, compacts_on_command).await;
    let here = Admin::of(&cluster, 0);
    let key = hex_key();
    here.json(&["record", "put", &key], GRANT);
    cluster.acknowledged().await;
    cluster.stop_node(1).await;
    here.json(&["record", "delete", &key], "");
    let listed = here.json(&["members"], "");
    assert_eq!(listed["node_id"], "node-0");
    let member = &listed["members"][0];
    assert_eq!((&member["node_id"], &member["lag_entries"]), (&json!("node-1"), &json!(1)));
    assert_eq!((&member["retired"], &member["connected"]), (&json!(false), &json!(false)));
    assert!(listed["stable"].as_object().unwrap().values().all(|clock| clock == 1), "{listed}");
    let compacted = here.json(&["compact"], "");
    assert_eq!(compacted["node_id"], "node-0");
    assert_eq!((&compacted["entries_removed"], &compacted["entries_kept"]), (&json!(1), &json!(1)));
    assert_eq!(compacted["payloads_removed"], 1);
    here.fails(2, "--yes", &["member", "retire", "node-1"], "");
    here.fails(3, "", &["member", "retire", "node-7", "--yes"], "");
    here.fails(2, "--yes", &["origin", "resume", "node-1"], "");
    let resumed = here.json(&["origin", "resume", "node-1", "--yes"], "");
    let outcome = json!({ "node": "node-0", "resumed": [], "error": "" });
    assert_eq!(resumed, json!({ "origin": "node-1", "outcomes": [outcome] }));
    assert_eq!(here.run(&["origin", "resume", "node-7", "--yes"], "").status.code(), Some(3));
    let retired = here.json(&["member", "retire", "node-1", "--yes"], "");
    assert_eq!(retired["outcomes"], json!([{ "node": "node-0", "error": "" }]));
    assert_eq!(here.json(&["members"], "")["members"][0]["retired"], true);
    assert_eq!(here.json(&["compact"], "")["entries_kept"], 0);
    assert_eq!(here.json(&["status"], "")["tombstones"], 1);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn alarms_are_listed_until_somebody_clears_them() {
    let cluster = Cluster::start_with(1, compacts_on_command).await;
    let here = Admin::of(&cluster, 0);
    assert_eq!(here.json(&["alarms", "list"], ""), json!({ "node_id": "node-0", "alarms": [] }));
    let node = &cluster.node(0).node;
    node.alarms().raise("the disk is odd".to_owned());
    let listed = here.json(&["alarms", "list"], "");
    assert_eq!(listed["alarms"][0]["text"], "the disk is odd");
    assert_eq!((&listed["alarms"][0]["count"], &listed["alarms"][0]["source"]), (&json!(1), &json!("")));
    assert!(
        (listed["alarms"][0]["at_unix"].as_i64().unwrap() - brock_core::base::time::unix_now()).abs() < 60
    );
    let todo = || json_with(8, &here, &["status", "--cluster"])["verdict"]["findings"][0]["todo"].clone();
    assert!(todo().as_str().unwrap().contains("node-admin alarms clear"), "{}", todo());
    assert_eq!(here.json(&["alarms", "clear"], ""), listed, "it says what it has cleared");
    assert_eq!(here.json(&["alarms", "clear"], "")["alarms"], json!([]));
    assert_eq!(node.alarms().list(), []);
    let text = here.run(&["alarms", "list"], "").stdout;
    assert_eq!(String::from_utf8(text).unwrap(), "alarms at node-0: none\n");
    let well = eventually("all is well", || async {
        let output = here.run(&["status", "--cluster"], "");
        output.status.success().then_some(String::from_utf8(output.stdout).unwrap())
    })
    .await;
    assert!(well.contains("The only node is well."), "{well}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_runs_is_not_retired_by_mistake() {
    let cluster = Cluster::start_with(2, compacts_on_command).await;
    let here = Admin::of(&cluster, 0);
    here.json(&["record", "put", &hex_key()], GRANT);
    cluster.acknowledged().await;
    for name in ["node-1", cluster.node(1).address().as_str()] {
        let said = format!("{name} runs and is connected, so it was not retired");
        here.fails(5, &said, &["member", "retire", name, "--yes"], "");
    }
    assert_eq!(here.json(&["members"], "")["members"][0]["retired"], false);
    let retired = here.json(&["member", "retire", "node-1", "--yes", "--connected"], "");
    assert_eq!(retired["outcomes"][0], json!({ "node": "node-0", "error": "" }));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledgers_are_listed_and_a_quarantined_entry_is_shown_retried_and_dropped() {
    let certs = Certs::new();
    let (origin, key) = (store::origin("peer", 1), random_key());
    let payload = store::payload(b"late");
    let hash = brock_core::base::id::KeyHash::try_from(key.as_slice()).unwrap();
    let create = Operation::Create {
        created_at: 9_000,
        expires_at: None,
        public: true,
        digest: brock_core::base::id::sha256(&payload),
    };
    let entries = vec![store::poison(1, store::key(7)), store::entry(2, hash, &create, Some(&payload))];
    let script = Script { batches: vec![store::batch(origin, 0, entries)], ..Script::new("peer") };
    let peer = FakePeer::start(&certs, "peer", script).await;
    let node = TestNode::start(&certs, config(&certs, "node-1", 0, &[peer.port])).await;
    eventually("the peer's log has come", || async { (node.vector().get(&origin).0 == 2).then_some(()) })
        .await;
    let admin = Admin::new(&certs.admin(), &[node.address()]);
    // The same key was created here earlier, with another payload.
    let early = store::payload(b"early");
    let earlier = Operation::Create {
        created_at: 1_000,
        expires_at: None,
        public: true,
        digest: brock_core::base::id::sha256(&early),
    };
    let elsewhere = store::origin("elsewhere", 1);
    let batch = store::batch(elsewhere, 0, vec![store::entry(1, hash, &earlier, Some(&early))]);
    store::deliver(node.node.store(), batch).await.unwrap();

    let listed = admin.json(&["conflicts", "list"], "");
    let conflict = &listed["conflicts"][0];
    assert_eq!(conflict["key_hash"], json!(HEXLOWER.encode(&key)));
    assert_eq!(conflict["winner"]["created_at_unix"], 1_000);
    assert_eq!(conflict["losers"][0]["origin"], json!(origin.to_string()));
    assert_eq!((&listed["node_id"], &conflict["acknowledged"]), (&json!("node-1"), &json!(false)));

    // Once it is dealt with, it is no finding any more, until another payload of the key loses.
    let counted = async |open: u64, acknowledged: u64| {
        let status = admin.json(&["status"], "");
        assert_eq!(
            (&status["conflicts"], &status["conflicts_acknowledged"]),
            (&json!(open), &json!(acknowledged))
        );
    };
    counted(1, 0).await;
    admin.fails(3, "no node that was asked has a conflict", &["conflicts", "ack", &hex_key()], "");
    let hex = HEXLOWER.encode(&key);
    let acknowledged = json!({ "outcomes": [{ "node": "node-1", "acknowledged": 1, "error": "" }] });
    assert_eq!(admin.json(&["conflicts", "ack", &hex], ""), acknowledged);
    assert_eq!(admin.json(&["conflicts", "ack", &hex], ""), acknowledged, "twice is harmless");
    counted(1, 1).await;
    assert_eq!(admin.json(&["conflicts", "list"], "")["conflicts"][0]["acknowledged"], true);
    let third = store::payload(b"third");
    let again = Operation::Create {
        created_at: 2_000,
        expires_at: None,
        public: true,
        digest: brock_core::base::id::sha256(&third),
    };
    let batch = store::batch(elsewhere, 1, vec![store::entry(2, hash, &again, Some(&third))]);
    store::deliver(node.node.store(), batch).await.unwrap();
    counted(2, 0).await;
    let all = admin.json(&["conflicts", "ack", "--all"], "");
    assert_eq!(all["outcomes"][0]["acknowledged"], 1, "one key");
    counted(2, 2).await;

    let listed = admin.json(&["quarantine", "list"], "");
    let stamp = format!("{origin}:1");
    assert_eq!(listed["entries"][0]["stamp"], json!(stamp));
    assert!(listed["entries"][0]["reason"].as_str().unwrap().contains("does not decode"), "{listed}");
    assert_eq!(admin.json(&["quarantine", "show", &stamp], "")["operation"], "fffefd");
    let retried = json_with(5, &admin, &["quarantine", "retry", &stamp]);
    assert_eq!(retried["failed"][0]["stamp"], json!(stamp));
    admin.fails(2, "--yes", &["quarantine", "drop", &stamp], "");
    admin.fails(2, "", &["quarantine", "show", "nonsense"], "");
    let dropped = admin.json(&["quarantine", "drop", &stamp, "--yes"], "");
    assert_eq!(dropped["done"], json!([stamp]));
    assert_eq!(dropped["node_id"], "node-1");
    assert_eq!(admin.json(&["quarantine", "list"], ""), json!({ "node_id": "node-1", "entries": [] }));
    admin.fails(3, "", &["quarantine", "show", &stamp], "");
    assert_eq!(admin.json(&["status"], "")["quarantined"], 0);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_bench_gives_figures_for_every_reader() {
    let cluster = Cluster::start_with(2, compacts_on_command).await;
    let readers = cluster.node(1).address();
    let arguments =
        ["bench", "revoke", "--count", "20", "--rate", "100", "--readers", &readers, "-o", "json"];
    let output = Admin::of(&cluster, 0).run(&arguments, "");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let figures: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&figures["revoked"], &figures["errors"]), (&json!(20), &json!(0)));
    assert!(
        figures["everywhere"]["p99_ms"].as_f64().unwrap()
            >= figures["everywhere"]["p50_ms"].as_f64().unwrap()
    );
    cluster.stop().await;
}
