//! The audit log: what is in it, who finds what, and what `node-admin audit` makes of it.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use crate::harness::{
    admin::{Admin, hex_key},
    audit::{Audited, audit, kinds, lines, log_of, of, verify},
    calls::call_any,
    certs::Certs,
    client::Client,
    eventually, files,
    node::{TestNode, config},
    process::run,
    random_key,
};
use brock::{api::grpc::calls::TABLE, config::validate::Config};
use brock_core::proto;
use data_encoding::HEXLOWER;
use prost::Message;
use serde_json::Value;
use tonic::Code;

/// Calls that change nothing take one line. Every other one is in the log before it is carried out.
const READS: &[&str] = &[
    "Status",
    "Cluster",
    "ShowConfiguration",
    "ShowRecord",
    "TraceRecord",
    "Members",
    "ListOrigins",
    "Verify",
    "ListConflicts",
    "ListQuarantine",
    "ShowQuarantined",
    "ListBackups",
    "TailLog",
    "AuditHead",
];

/// What openssl says that the fingerprint of a certificate is.
fn fingerprint(certificate: &Path) -> String {
    let arguments = ["x509", "-noout", "-fingerprint", "-sha256", "-in", certificate.to_str().unwrap()];
    let output = run("openssl", &arguments, "");
    let text = String::from_utf8(output.stdout).unwrap();
    text.trim().rsplit_once('=').unwrap().1.replace(':', "").to_lowercase()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operators_call_leaves_its_lines_and_every_attempt_of_a_client_is_in_it_as_denied() {
    let audited = Audited::start().await;
    let paths = TABLE.iter().map(|call| call.path).filter(|path| path.contains("AdminService"));
    let set = prost_types::FileDescriptorSet::decode(proto::DESCRIPTORS).unwrap();
    let services = set.file.iter().flat_map(|file| &file.service);
    let methods: Vec<_> =
        services.filter(|service| service.name() == "AdminService").flat_map(|s| &s.method).collect();
    let mut called = Vec::new();
    for path in paths {
        // Whatever it answers: no backups are configured, and no record is there.
        let answer = call_any(&audited.node.admin.channel, path).await;
        let denied = call_any(&audited.node.client.channel, path).await.unwrap_err();
        assert_eq!(denied.code(), Code::PermissionDenied);
        called
            .push((path.rsplit('/').next().unwrap(), answer.err().map_or(Code::Ok, |status| status.code())));
    }
    assert_eq!(called.len(), methods.len());
    let key = random_key();
    audited.node.client.put(&key, b"g").await.unwrap();
    audited.node.client.get(&key).await.unwrap();
    let admins = fingerprint(&audited.certs.admin().join("client.crt"));
    let log = audited.log();
    let (written, _directory) = audited.stop().await;
    for (method, code) in called {
        let found = of(&written, method);
        let (denied, found): (Vec<_>, Vec<_>) = found.into_iter().partition(|line| line["kind"] == "denied");
        let code = format!("{code:?}");
        match kinds(&found).iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["read"] => {
                assert!(
                    READS.contains(&method),
                    "{method} is recorded as Read, so it is carried out before it is in the log: add it to READS if it \
                     changes nothing, otherwise make it Change in api/grpc/calls.rs"
                );
                assert_eq!(found[0]["outcome"], code, "{method}");
            }
            ["intent", "outcome"] => {
                assert!(!READS.contains(&method) || method == "TailLog", "{method}");
                assert_eq!(found[0]["call"], found[1]["call"], "{method}");
                assert!(found[0]["outcome"].is_null());
                assert_eq!(found[1]["outcome"], code, "{method}");
            }
            ref other => panic!("{method}: {other:?}"),
        }
        for line in found {
            let who = &line["who"];
            assert_eq!(
                (&who["role"], &who["name"], &who["domain"]),
                (&"admin".into(), &"ops".into(), &"brock".into())
            );
            assert_eq!(who["certificate"], admins);
            assert!(who["from"].as_str().unwrap().starts_with("127.0.0.1:"), "{who}");
            assert_eq!(line["node"], "node-1");
        }
        assert_eq!(denied.len(), 1, "{method}");
        assert_eq!(denied[0]["outcome"], "PermissionDenied");
        assert_eq!((&denied[0]["who"]["role"], &denied[0]["who"]["name"]), (&"client".into(), &"app".into()));
    }
    assert!(written.iter().all(|line| line["method"] != "Put" && line["method"] != "Get"));
    assert_eq!(kinds(&written.iter().collect::<Vec<_>>()[..2]), ["file", "start"]);
    assert_eq!(written.last().unwrap()["kind"], "stop");
    let verified = verify(&log);
    assert_eq!((&verified["begins"], verified["unfinished"].as_array().unwrap().len()), (&"first".into(), 0));
    assert_eq!(verified["lines"], written.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_secret_is_in_it_and_whoever_has_the_key_finds_its_entries() {
    let audited = Audited::start().await;
    let (key, other, grant) = (hex_key(), hex_key(), b"grant-that-nobody-may-see".to_vec());
    let key_hash = HEXLOWER.decode(key.as_bytes()).unwrap();
    let Client { .. } = &audited.node.client;
    audited.node.client.put(&key_hash, &grant).await.unwrap();
    let admin = Admin::new(&audited.certs.admin(), &[audited.node.address()]);
    admin.json(&["record", "show", &key], "");
    admin.json(&["record", "trace", &key], "");
    let done = admin.json(&["record", "invalidate", &key, "leaked on a forum"], "");
    admin.json(&["record", "delete", &key], "");
    admin.fails(3, "", &["record", "delete", &other], "");
    let denied = Admin::new(&audited.certs.client(), &[audited.node.address()]);
    denied.fails(6, "", &["record", "delete", &other], "");
    let log = audited.log();
    let (written, directory) = audited.stop().await;
    for (path, bytes) in files::tree(&log) {
        let holds = |secret: &[u8]| bytes.windows(secret.len()).any(|window| window == secret);
        let base64 = data_encoding::BASE64.encode(&key_hash);
        for secret in [key.as_bytes(), key.to_uppercase().as_bytes(), &key_hash, &grant, base64.as_bytes()] {
            assert!(!holds(secret), "{}: {:?}", path.display(), String::from_utf8_lossy(secret));
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert_eq!(fs::metadata(&log).unwrap().permissions().mode() & 0o777, 0o700);
    let place = log.to_str().unwrap();
    let found = |arguments: &[&str]| -> Vec<Value> {
        let (code, stdout, stderr) = audit(&[&["list", place, "-o", "json"], arguments].concat());
        let note = if stdout.is_empty() { "note: nothing in these logs is what was asked for\n" } else { "" };
        assert_eq!((code, stderr.as_str()), (0, note), "{arguments:?}");
        stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let about = found(&["--key", &key]);
    let told: Vec<_> =
        about.iter().map(|line| (line["kind"].as_str().unwrap(), line["method"].as_str().unwrap())).collect();
    assert_eq!(
        told,
        [
            ("read", "ShowRecord"),
            ("read", "TraceRecord"),
            ("intent", "Invalidate"),
            ("outcome", "Invalidate"),
            ("intent", "Delete"),
            ("outcome", "Delete")
        ]
    );
    assert_eq!(about[2]["what"]["reason"], "leaked on a forum");
    // What came of it: the stamp that the log of operations knows.
    let outcome = of(&written, "Invalidate")[1];
    let stamp = format!("{}:{}", done["origin"].as_str().unwrap(), done["clock"]);
    assert_eq!((&outcome["what"]["stamp"], &outcome["what"]["already"]), (&stamp.into(), &false.into()));
    assert_eq!(of(&written, "Delete")[3]["outcome"], "NotFound");

    // The lines come as they are in the files.
    assert_eq!(found(&[]), written);
    assert_eq!(found(&["--since", "1h"]), written);
    assert_eq!(found(&["--until", "1h"]), [Value::Null; 0]);
    assert_eq!(found(&["--method", "invalidate", "--who", "ops"]).len(), 2);
    assert_eq!(found(&["--who", "nobody"]), [Value::Null; 0]);
    let refused = found(&["--denied"]);
    assert_eq!((refused.len(), &refused[0]["who"]["name"]), (1, &"app".into()), "{refused:?}");
    let (code, _, stderr) = audit(&["list", place, "--key", "tooshort"]);
    assert!(code == 2 && stderr.contains("--key") && !stderr.contains("tooshort"), "{stderr}");
    let (_, text, _) = audit(&["list", place, "--key", &key]);
    assert!(
        text.contains("admin ops from 127.0.0.1:") && text.contains("reason=\"leaked on a forum\""),
        "{text}"
    );
    drop(directory);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_denied_calls_takes_two_lines() {
    let audited = Audited::start().await;
    let (client, admin) = (audited.node.client.clone(), audited.node.admin.clone());
    let flood = tokio::spawn(async move {
        let calls = (0..3000).map(|_| {
            let mut admin = client.admin.clone();
            async move { admin.compact(proto::CompactRequest {}).await.unwrap_err().code() }
        });
        futures::future::join_all(calls).await
    });
    let key = random_key();
    for _ in 0..20 {
        audited.node.client.put(&random_key(), b"g").await.unwrap();
        admin.invalidate_ahead(&key, "leaked").await;
        admin.status().await;
    }
    assert!(flood.await.unwrap().iter().all(|code| *code == Code::PermissionDenied));
    let (written, _directory) = audited.stop().await;
    let denied = of(&written, "Compact");
    assert_eq!(kinds(&denied), ["denied", "denied"]);
    assert!(denied[0]["more"].is_null());
    assert_eq!(denied[1]["more"]["count"], 2999);
    // Looking again and again is counted, too; changing again and again is not.
    let looks = of(&written, "Status");
    assert_eq!((kinds(&looks), &looks[1]["more"]["count"]), (vec!["read".to_owned(); 2], &19.into()));
    assert_eq!(of(&written, "Invalidate").len(), 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_a_place_for_it_keeps_none_and_does_what_it_is_told() {
    let certs = Certs::new();
    let node = TestNode::start(&certs, config(&certs, "node-1", 0, &[])).await;
    node.admin.invalidate_ahead(&random_key(), "leaked").await;
    let admin = Admin::new(&certs.admin(), &[node.address()]);
    admin.fails(5, "keeps no audit log: set audit.path", &["audit", "head"], "");
    node.stop().await;

    // In RAM, with a place for the log all the same.
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("deep/log");
    let mut with_log = config(&certs, "node-1", 0, &[]);
    with_log.audit.path = Some(log.clone());
    for _ in 0..2 {
        let node = TestNode::start(&certs, with_log.clone()).await;
        node.admin.invalidate_ahead(&random_key(), "leaked").await;
        assert_eq!(node.admin.status().await.alarms, []);
        node.stop().await;
    }
    assert_eq!(of(&lines(&log), "Invalidate").len(), 4);
    verify(&log);
}

#[tokio::test(flavor = "multi_thread")]
async fn verification_says_where_a_log_is_not_what_was_written_and_what_a_noted_head_adds() {
    let audited = Audited::start().await;
    let admin = Admin::new(&audited.certs.admin(), &[audited.node.address()]);
    audited.node.admin.invalidate_ahead(&random_key(), "leaked").await;
    let noted = admin.json(&["audit", "head"], "");
    let head = noted["head"].as_str().unwrap().to_owned();
    assert_eq!(noted["path"], audited.log().to_str().unwrap());
    audited.node.admin.delete_ahead(&random_key()).await;
    let log = audited.log();
    // While the node writes to it.
    eventually("the outcome is durable", || async { (of(&lines(&log), "Delete").len() == 2).then_some(()) })
        .await;
    verify(&log);
    let audited_certs = Certs::new();
    let (written, _directory) = audited.stop().await;
    let place = log.to_str().unwrap();
    let file = log.join("audit-00000001.jsonl");
    let whole = fs::read_to_string(&file).unwrap();
    let check = |arguments: &[&str]| audit(&[&["verify", place], arguments].concat());

    let (code, text, _) = check(&["--head", &head]);
    assert!(code == 0 && text.contains("the noted line is there"), "{text}");
    let (code, text, _) = check(&[]);
    assert!(code == 0 && text.contains("would not show: compare with a noted --head"), "{text}");
    assert!(text.contains(&format!(
        "head     {}:{}",
        written.len(),
        written.last().unwrap()["hash"].as_str().unwrap()
    )));

    // Two nodes: each log is a chain of its own, and nothing is wrong with either.
    let other = tempfile::tempdir().unwrap();
    let second = config(&audited_certs, "node-2", 0, &[]);
    let second = Config { path: Some(other.path().join("data")), ..second };
    TestNode::start(&audited_certs, second).await.stop().await;
    let theirs = log_of(other.path()).display().to_string();
    let (code, _, stderr) = check(&[&theirs]);
    assert!(
        code == 2
            && stderr.contains("several nodes (node-1, node-2)")
            && stderr.contains("one node at a time"),
        "{stderr}"
    );
    // Who: one character of a name.
    fs::write(&file, whole.replacen("\"ops\"", "\"oqs\"", 1)).unwrap();
    let (code, stdout, stderr) = check(&[]);
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(stderr.contains("audit-00000001.jsonl, line 3: it is not what was written"), "{stderr}");
    let (code, stdout, stderr) = audit(&["list", place]);
    assert!(code == 1 && stdout.lines().count() == 2 && stderr.contains("`audit verify`"), "{stderr}");
    // A line in the middle.
    let without = |gone: usize| {
        whole
            .split_inclusive('\n')
            .enumerate()
            .filter(|(i, _)| *i != gone)
            .map(|(_, l)| l)
            .collect::<String>()
    };
    fs::write(&file, without(3)).unwrap();
    let (code, _, stderr) = check(&[]);
    assert!(code == 1 && stderr.contains("line 4: it is line 5 of the log, and 4 is due"), "{stderr}");
    // The end: whole in itself, but not what was noted.
    fs::write(&file, whole.split_inclusive('\n').take(2).collect::<String>()).unwrap();
    assert_eq!(check(&[]).0, 0);
    let (code, _, stderr) = check(&["--head", &head]);
    assert!(code == 1 && stderr.contains("the log ends with line 2, but line"), "{stderr}");
    // The beginning.
    fs::write(&file, whole.split_inclusive('\n').skip(1).collect::<String>()).unwrap();
    let (code, _, stderr) = check(&[]);
    assert!(code == 1 && stderr.contains("the beginning of this file was removed"), "{stderr}");
    // None.
    fs::remove_file(&file).unwrap();
    assert_eq!(check(&[]).0, 3);
    assert_eq!(audit(&["verify", "/does/not/exist"]).0, 3);
    assert_eq!(check(&["--head", "7"]).0, 2);
}
