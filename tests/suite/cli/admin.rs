//! `node-admin` against real nodes: its data, its messages and its exit codes.

use crate::harness::{
    admin::{Admin, GRANT, hex_key},
    certs::Certs,
    cluster::Cluster,
    eventually,
    fake_peer::{FakePeer, Script},
    free_port,
    node::{TestNode, config},
    random_key,
};
use brock_core::{
    base::{
        id::{Incarnation, Origin, sha256},
        vector::{Clock, Vector},
    },
    proto::{self, operation::Kind},
};
use data_encoding::{BASE32_NOPAD, BASE64, HEXLOWER};
use prost::Message;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_record_put_on_one_node_is_shown_by_another_with_every_field() {
    let cluster = Cluster::start(2).await;
    let admin = |i: usize| Admin::new(&cluster.certs.admin(), &[cluster.node(i).address()]);
    let key = hex_key();
    let expires = brock_core::base::time::unix_now() + 3600;
    let record = json!({
        "public": true, "satellite_address": "sat.example:7777", "macaroon_head": "00ff10",
        "public_project_id": "0123456789abcdef", "expires_at_unix": expires,
        "encrypted_secret_key": BASE64.encode(b"secret"), "encrypted_access_grant": BASE64.encode(b"grant"),
    });
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), record.to_string()).unwrap();
    let written = admin(0).json(&["record", "put", &key, "--file", file.path().to_str().unwrap()], "");
    assert_eq!((&written["key_hash"], &written["clock"]), (&json!(key), &json!(1)));
    assert!(written["origin"].as_str().unwrap().starts_with("node-0/"));

    let shown = admin(1).json(&["record", "show", &key], "");
    for (field, value) in record.as_object().unwrap() {
        assert_eq!(&shown[field], value, "{field}");
    }
    let rest = json!({
        "key_hash": key, "state": "CREATED", "origin": written["origin"], "clock": 1,
        "invalidation_reason": "", "invalidated_at_unix": 0,
    });
    for (field, value) in rest.as_object().unwrap() {
        assert_eq!(&shown[field], value, "{field}");
    }
    let created = shown["created_at_unix"].as_i64().unwrap();
    assert!((expires - 3700..expires - 3500).contains(&created));
    cluster.converged().await;
    assert_eq!(admin(1).json(&["record", "show", &key, "--local"], ""), shown);
    let text = admin(1).run(&["record", "show", &key], "");
    let text = String::from_utf8(text.stdout).unwrap();
    for part in [&key, "CREATED", "sat.example:7777", "00ff10", &format!("({expires})")] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_access_key_id_is_the_key_whose_hash_it_is() {
    let cluster = Cluster::start(1).await;
    let admin = Admin::new(&cluster.certs.admin(), &[cluster.node(0).address()]);
    let access_key: [u8; 16] = rand::random();
    let id = BASE32_NOPAD.encode(&[&[0x4d], &access_key[..]].concat()).to_lowercase();
    assert_eq!(id.len(), 28);
    let key_hash = HEXLOWER.encode(&sha256(&access_key));
    // As an argument it is visible to other users: it works, with a warning.
    let put = admin.run(&["record", "put", &id, "-o", "json"], GRANT);
    let warned = String::from_utf8_lossy(&put.stderr).into_owned();
    assert!(
        warned.contains("warning: an access key id opens its record") && !warned.contains(&id),
        "{warned}"
    );
    assert_eq!(serde_json::from_slice::<Value>(&put.stdout).unwrap()["key_hash"], json!(key_hash));
    let by_hash = admin.json(&["record", "show", &key_hash], "");
    assert_eq!(admin.json(&["record", "show", "-"], &id), by_hash);
    assert_eq!(admin.json(&["record", "show", &key_hash.to_uppercase()], ""), by_hash);
    let wrong_version = BASE32_NOPAD.encode(&[&[0x4e], &access_key[..]].concat()).to_lowercase();
    // 28 characters carry 4 bits more than 17 bytes: with one of them set it is another spelling.
    let last = id.chars().last().unwrap() as u8;
    let other_spelling = format!("{}{}", &id[..27], char::from(last + 1));
    for wrong in [&id.to_uppercase(), &wrong_version, &other_spelling, "", "abc", &key_hash[1..]] {
        admin.fails(2, "KEY", &["record", "show", wrong], "");
    }
    let told = admin.run(&["record", "show", &wrong_version], "");
    assert!(!String::from_utf8_lossy(&told.stderr).contains(&wrong_version), "a message shows an access key");
    cluster.stop().await;
}

/// A peer with one record that is invalidated.
async fn peer_with_invalidated(certs: &Certs, key_hash: &[u8]) -> FakePeer {
    let origin = Origin::new(&"peer".parse().unwrap(), Incarnation(1));
    let payload = proto::Payload { encrypted_access_grant: "g".into(), ..Default::default() };
    let payload = payload.encode_to_vec();
    let create = proto::Operation {
        kind: Kind::Create.into(),
        at_unix: 1000,
        payload_digest: sha256(&payload).to_vec().into(),
        ..Default::default()
    };
    let invalidate = proto::Operation {
        kind: Kind::Invalidate.into(),
        at_unix: 2000,
        reason: "leaked in a repository".to_owned(),
        ..Default::default()
    };
    let entry = |clock, operation: proto::Operation, payload: Option<Vec<u8>>| proto::Entry {
        clock,
        key_hash: key_hash.to_vec().into(),
        operation: operation.encode_to_vec().into(),
        payload: payload.map(Into::into),
    };
    let mut heads = Vector::default();
    heads.raise(origin, Clock(2));
    let batch = proto::Batch {
        origin: origin.as_bytes().to_vec().into(),
        after: 0,
        covered_through: 2,
        entries: vec![entry(1, create, Some(payload)), entry(2, invalidate, None)],
        ..proto::Batch::default()
    };
    FakePeer::start(certs, "peer", Script { heads, batches: vec![batch], ..Script::new("peer") }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_exit_code_means_what_it_says() {
    let certs = Certs::new();
    let revoked = random_key();
    let peer = peer_with_invalidated(&certs, &revoked).await;
    let node = TestNode::start(&certs, config(&certs, "node-1", 0, &[peer.port])).await;
    let here = [node.address()];
    let (admin, client) = (Admin::new(&certs.admin(), &here), Admin::new(&certs.client(), &here));
    let (key, absent) = (hex_key(), hex_key());
    admin.json(&["record", "put", &key], GRANT);

    let none = certs.path("none");
    let homeless = Admin::new(&none, &here);
    homeless.fails(1, "none", &["status"], "");
    admin.fails(2, "--file", &["record", "put", &key, "--file"], "");
    admin.fails(2, "encrypted_access_grant", &["record", "put", &absent], "{}");
    for (input, part) in [
        ("not json", "standard input"),
        (r#"{"encrypted_access_grant":"not base64!"}"#, "encrypted_access_grant"),
        (r#"{"encrypted_access_grant":"Z3JhbnQ=","macaroon_head":"xyz"}"#, "macaroon_head"),
        (r#"{"encrypted_access_grant":"Z3JhbnQ=","expires_at":5}"#, "expires_at"),
        (r#"{"encrypted_access_grant":"Z3JhbnQ=","expires_at_unix":-5}"#, "expires_at_unix"),
        (r#"{"encrypted_access_grant":"Z3JhbnQ="} {}"#, "standard input"),
    ] {
        admin.fails(2, part, &["record", "put", &absent], input);
    }
    admin.fails(2, "/does/not/exist", &["record", "put", &absent, "--file", "/does/not/exist"], "");
    admin.fails(3, "no record has this key hash", &["record", "show", &absent, "--local"], "");
    let dead = format!("127.0.0.1:{}", free_port());
    let nobody = Admin::new(&certs.admin(), std::slice::from_ref(&dead));
    nobody.fails(4, &dead, &["record", "show", &key], "");
    nobody.fails(4, &dead, &["status"], "");
    client.fails(6, "not for the role client", &["status"], "");
    Admin::new(&certs.node("node-9"), &here).fails(
        6,
        "not for the role node",
        &["record", "put", &absent],
        GRANT,
    );
    admin.fails(7, "already exists", &["record", "put", &key], GRANT);

    // 5: revoked elsewhere, replicated here. Operators see it; clients do not.
    let revoked_hex = HEXLOWER.encode(&revoked);
    eventually("the invalidated record is here", || async {
        let found = node.client.get_local(&revoked).await.unwrap_err();
        (found.code() == tonic::Code::FailedPrecondition).then_some(())
    })
    .await;
    let shown = admin.json(&["record", "show", &revoked_hex], "");
    assert_eq!(
        (&shown["state"], &shown["invalidation_reason"], &shown["invalidated_at_unix"]),
        (&json!("INVALIDATED"), &json!("leaked in a repository"), &json!(2000))
    );
    client.fails(5, "leaked in a repository", &["record", "show", &revoked_hex], "");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_addresses_the_first_that_answers_does_it() {
    let cluster = Cluster::start(2).await;
    let dead = format!("127.0.0.1:{}", free_port());
    let [first, second] = [0, 1].map(|i: usize| cluster.node(i).address());
    let admin = Admin::new(&cluster.certs.admin(), &[dead.clone(), second.clone(), first]);
    let key = hex_key();
    let written = admin.json(&["record", "put", &key], GRANT);
    assert!(written["origin"].as_str().unwrap().starts_with("node-1/"), "{written}");
    assert_eq!(admin.json(&["record", "show", &key], "")["key_hash"], json!(key));
    // A status is of one node, so it says that it is not of the one named first.
    let status = admin.run(&["status", "-o", "json"], "");
    let told = String::from_utf8_lossy(&status.stderr).into_owned();
    assert!(status.status.success() && told.contains(&dead), "{told}");
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["node_id"], "node-1");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_shows_the_node_its_clocks_and_its_peers() {
    let cluster = Cluster::start(2).await;
    cluster.node(0).client.put(&random_key(), b"g").await.unwrap();
    cluster.node(1).client.put(&random_key(), b"g").await.unwrap();
    cluster.converged().await;
    let admin = Admin::new(&cluster.certs.admin(), &[cluster.node(0).address()]);
    let status = eventually("the peer is level", || async {
        let status = admin.json(&["status"], "");
        (status["peers"][0]["lag_entries"] == 0 && status["peers"][0]["up"] == true).then_some(status)
    })
    .await;
    assert_eq!(
        (&status["node_id"], &status["version"]),
        (&json!("node-0"), &json!(env!("CARGO_PKG_VERSION")))
    );
    assert_eq!((&status["records"], &status["writes_refused"]), (&json!(2), &json!("")));
    let own = format!("node-0/{}", status["incarnation"].as_str().unwrap());
    let clocks = status["clocks"].as_object().unwrap();
    assert_eq!(clocks[&own], 1);
    assert!(clocks.len() == 2 && clocks.values().all(|clock| clock == 1), "{clocks:?}");
    let peer = &status["peers"][0];
    assert_eq!(peer["address"], json!(cluster.node(1).address()));
    assert_eq!((&peer["node_id"], &peer["last_error"]), (&json!("node-1"), &json!("")));
    let text = admin.run(&["status"], "");
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains(&own) && text.contains(&cluster.node(1).address()), "{text}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bench_of_every_kind_gives_figures_and_no_errors() {
    let cluster = Cluster::start(1).await;
    let admin = Admin::new(&cluster.certs.client(), &[cluster.node(0).address()]);
    for (kind, how) in [
        ("put", &[][..]),
        ("put", &["--batch", "50"]),
        ("put", &["--session", "--depth", "16"]),
        ("get", &["--batch", "50", "--keys", "100"]),
        ("get", &["--session", "--keys", "100"]),
        ("mixed", &["--keys", "100"]),
    ] {
        let common = ["bench", kind, "--duration", "500ms", "--clients", "4", "--size", "100"];
        let output = admin.run(&[&common[..], how, &["-o", "json"]].concat(), "");
        // What is read is put first, which may take a while.
        let told = if kind == "put" { "" } else { "putting 100 records to read\n" };
        assert_eq!(String::from_utf8_lossy(&output.stderr), told);
        assert!(output.status.success());
        let figures: Value = serde_json::from_slice(&output.stdout).unwrap();
        let at = |field: &str| figures[field].as_f64().unwrap_or_else(|| panic!("{field}: {figures}"));
        assert_eq!(at("errors"), 0.0, "{kind} {how:?}: {figures}");
        assert!(at("ops_per_second") > 0.0, "{figures}");
        let quantiles = ["p50_ms", "p90_ms", "p99_ms", "p999_ms"].map(at);
        assert!(quantiles[0] > 0.0 && quantiles.is_sorted(), "{figures}");
    }
    admin.fails(2, "--batch", &["bench", "put", "--batch", "1001"], "");
    let text = admin.run(&["bench", "put", "--duration", "100ms", "--clients", "1"], "");
    assert!(String::from_utf8_lossy(&text.stdout).contains("p999_ms"));
    cluster.stop().await;
}
