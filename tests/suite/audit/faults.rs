//! The audit log when something is wrong: with its disk, with the process, with the caller, with the
//! files.

use std::{fs, path::Path, time::Duration};

use crate::harness::{
    audit::{Audited, audit, kinds, lines, log_of, of, on_disk, start, verify},
    certs::Certs,
    client::{Client, all_within},
    eventually, free_port,
    node::TestNode,
    process::{Launch, Process},
    random_key,
    small_disk::SmallDisk,
};
use brock_core::proto;
use tonic::Code;

/// Every operator's call is refused, says why, and has done nothing; clients notice nothing.
async fn assert_closed(node: &TestNode, key: &[u8]) {
    let admin = &node.admin;
    // Who may not does not wait for a log. It comes first, so that nothing is on its way to the log at the end.
    let denied = node.client.admin.clone().compact(proto::CompactRequest {}).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    let refused = [
        admin.invalidate(key, "leaked", None).await.unwrap_err(),
        admin.delete(key, None).await.unwrap_err(),
        admin.show(key).await.unwrap_err(),
        admin.admin.clone().compact(proto::CompactRequest {}).await.unwrap_err(),
        admin.admin.clone().status(proto::StatusRequest::default()).await.unwrap_err(),
        // Counted only, a moment ago.
        admin.admin.clone().status(proto::StatusRequest::default()).await.unwrap_err(),
    ];
    for status in refused {
        assert_eq!(status.code(), Code::Unavailable, "{status}");
        assert!(status.message().contains("the audit log of this node cannot be written"), "{status}");
    }
    assert_eq!(node.client.get(key).await.unwrap().encrypted_access_grant, "g".as_bytes());
    node.client.put(&random_key(), b"g").await.unwrap();
}

async fn assert_open(node: &TestNode, log: &Path, key: &[u8]) {
    // No caller has to try: the node does, and logs what was refused meanwhile.
    eventually("the node writes again", || async {
        let is_there = log.is_dir() && lines(log).iter().any(|line| line["kind"] == "gap");
        is_there.then_some(())
    })
    .await;
    eventually("operators are served again", || async {
        node.admin.admin.clone().status(proto::StatusRequest::default()).await.ok()
    })
    .await;
    node.admin.invalidate(key, "leaked", None).await.unwrap();
    let alarms = node.admin.status().await.alarms;
    assert_eq!(
        alarms.iter().filter(|alarm| alarm.text.contains("cannot be written")).count(),
        1,
        "{alarms:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_recorded_is_not_done_until_it_can_be() {
    let audited = Audited::start().await;
    let key = random_key();
    audited.node.client.put(&key, b"g").await.unwrap();
    audited.node.admin.status().await;
    let (log, moved) = (audited.log(), audited.directory.path().join("moved"));
    fs::rename(&log, &moved).unwrap();
    fs::write(&log, "in the way").unwrap();
    assert_closed(&audited.node, &key).await;
    fs::remove_file(&log).unwrap();
    fs::create_dir(&log).unwrap();
    assert_open(&audited.node, &log, &key).await;
    let (written, directory) = audited.stop().await;
    let gap = written.iter().find(|line| line["kind"] == "gap").unwrap();
    assert!(gap["what"]["refused"].as_u64().unwrap() >= 6, "{gap}");
    assert!(written.iter().any(|line| line["kind"] == "damaged"), "its directory was taken away");
    // Both together are whole.
    let (code, _, stderr) =
        audit(&["verify", moved.to_str().unwrap(), log_of(directory.path()).to_str().unwrap()]);
    assert_eq!(code, 0, "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_closes_it_and_room_opens_it_again() {
    let Some(disk) = SmallDisk::mount("an audit log on a full disk", "size=2m") else { return };
    let (certs, directory, key) = (Certs::new(), tempfile::tempdir().unwrap(), random_key());
    let mut config = on_disk(&certs, directory.path());
    let log = disk.path().join("audit");
    config.audit.path = Some(log.clone());
    let node = TestNode::start(&certs, config).await;
    node.client.put(&key, b"g").await.unwrap();
    let filler = disk.take_the_rest();
    // A line takes what is left of the last page; the next one, with a word about the gap, does not fit.
    eventually("the disk is full for the log, too", || async {
        node.admin
            .invalidate(&random_key(), "x", None)
            .await
            .is_err_and(|status| status.code() == Code::Unavailable)
            .then_some(())
    })
    .await;
    assert_closed(&node, &key).await;
    fs::remove_file(filler).unwrap();
    assert_open(&node, &log, &key).await;
    node.stop().await;
    let verified = verify(&log);
    assert_eq!(verified["torn_bytes"], 0);
    assert_eq!(of(&lines(&log), "Delete").len(), 0, "what was refused is not in it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_log_cannot_be_written_at_the_start_serves_its_clients() {
    let (certs, directory, key) = (Certs::new(), tempfile::tempdir().unwrap(), random_key());
    let mut config = on_disk(&certs, directory.path());
    let log = directory.path().join("log");
    config.audit.path = Some(log.clone());
    fs::write(&log, "in the way").unwrap();
    let node = TestNode::start(&certs, config).await;
    node.client.put(&key, b"g").await.unwrap();
    assert_closed(&node, &key).await;
    fs::remove_file(&log).unwrap();
    assert_open(&node, &log, &key).await;
    node.stop().await;
    verify(&log);
}

/// A process whose operations no other node will ever hold, and a call that waits for that.
async fn waiting(certs: &Certs, path: &Path) -> (Launch, Process, Client) {
    let mut launch = Launch::new(certs, "node-1", path);
    launch.join = vec![free_port()];
    let (process, client) = launch.start(certs).await;
    (launch, process, client)
}

async fn intent_is_there(log: &Path) {
    eventually("the intent is in the log", || async {
        (!of(&lines(log), "Invalidate").is_empty()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_a_crash_broke_off_is_in_it_without_an_outcome() {
    let (certs, directory) = (Certs::new(), tempfile::tempdir().unwrap());
    let path = directory.path().join("data");
    let (launch, process, client) = waiting(&certs, &path).await;
    let (key, log) = (random_key(), path.join("audit"));
    client.put(&key, b"g").await.unwrap();
    let call = {
        let (client, key) = (client.clone(), key.clone());
        tokio::spawn(async move { client.invalidate(&key, "leaked", all_within(60_000)).await })
    };
    intent_is_there(&log).await;
    process.kill();
    assert!(call.await.unwrap().is_err());
    // As if the machine had stopped in the middle of the next line.
    let file = log.join("audit-00000001.jsonl");
    let mut bytes = fs::read(&file).unwrap();
    bytes.extend(b"{\"sequence\":4,\"previous\":\"");
    fs::write(&file, bytes).unwrap();

    let (process, client) = launch.start(&certs).await;
    assert_eq!(client.status().await.alarms.iter().filter(|alarm| alarm.text.contains("audit")).count(), 0);
    drop(client);
    let (status, _) = tokio::task::spawn_blocking(move || process.terminate()).await.unwrap();
    assert!(status.success());
    let verified = verify(&log);
    assert_eq!(verified["unfinished"][0]["method"], "Invalidate");
    assert_eq!(verified["unfinished"].as_array().unwrap().len(), 1);
    assert_eq!(verified["remarks"][0]["kind"], "torn");
    let (_, text, _) = audit(&["verify", log.to_str().unwrap()]);
    assert!(text.contains("may or may not have been carried out"), "{text}");
    let written = lines(&log);
    let incarnations: Vec<_> =
        written.iter().filter(|line| line["kind"] == "start").map(|line| &line["incarnation"]).collect();
    assert!(incarnations.len() == 2 && incarnations[0] != incarnations[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_caller_has_gone_is_in_it_as_cancelled() {
    let (certs, directory) = (Certs::new(), tempfile::tempdir().unwrap());
    let path = directory.path().join("data");
    let (_launch, process, client) = waiting(&certs, &path).await;
    let (key, log) = (random_key(), path.join("audit"));
    client.put(&key, b"g").await.unwrap();
    let call = tokio::spawn(async move { client.invalidate(&key, "leaked", all_within(60_000)).await });
    intent_is_there(&log).await;
    call.abort();
    let found = eventually("its outcome is there", || async {
        let written = lines(&log);
        let found: Vec<_> = of(&written, "Invalidate").into_iter().cloned().collect();
        (found.len() == 2).then_some(found)
    })
    .await;
    assert_eq!(kinds(&found.iter().collect::<Vec<_>>()), ["intent", "outcome"]);
    assert_eq!((&found[1]["outcome"], &found[1]["call"]), (&"Cancelled".into(), &found[0]["call"]));
    process.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_notices_at_its_start_that_its_log_was_cut_or_replaced() {
    let audited = Audited::start().await;
    audited.node.admin.invalidate_ahead(&random_key(), "leaked").await;
    let (log, file) = (audited.log(), audited.log().join("audit-00000001.jsonl"));
    let Audited { certs, node, directory } = audited;
    node.stop().await;
    let whole = fs::read_to_string(&file).unwrap();
    fs::write(&file, whole.split_inclusive('\n').take(2).collect::<String>()).unwrap();
    assert_eq!(verify(&log)["lines"], 2, "the files alone do not show it");
    for start_again in [true, false] {
        let node = start(&certs, directory.path()).await;
        let alarms = node.admin.status().await.alarms;
        let told = alarms.iter().any(|alarm| alarm.text.contains("lines were removed"));
        assert_eq!(told, start_again, "said once, and in the log for good: {alarms:?}");
        node.stop().await;
    }
    let written = lines(&log);
    assert!(written.iter().any(|line| line["kind"] == "damaged"));
    let (code, _, stderr) = audit(&["verify", log.to_str().unwrap()]);
    assert!(code == 1 && stderr.contains("lines 3 to") && stderr.contains("are missing"), "{stderr}");

    // A log that is whole in itself, and another node's.
    let other = Audited::start().await;
    for _ in 0..20 {
        other.node.admin.invalidate_ahead(&random_key(), "leaked").await;
    }
    let theirs = other.log().join("audit-00000001.jsonl");
    let (_, kept) = other.stop().await;
    for entry in fs::read_dir(&log).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    fs::copy(theirs, &file).unwrap();
    drop(kept);
    verify(&log);
    let node = start(&certs, directory.path()).await;
    let alarms = node.admin.status().await.alarms;
    assert!(alarms.iter().any(|alarm| alarm.text.contains("the log was replaced")), "{alarms:?}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_of_it_is_kept_than_the_setting_says() {
    let (certs, directory) = (Certs::new(), tempfile::tempdir().unwrap());
    let mut config = on_disk(&certs, directory.path());
    config.audit.max_bytes = 64 * 1024;
    let node = TestNode::start(&certs, config).await;
    let reason = "r".repeat(1000);
    let calls = (0..100).map(|_| {
        let (admin, reason) = (node.admin.clone(), reason.clone());
        async move { admin.invalidate_ahead(&random_key(), &reason).await }
    });
    tokio::time::timeout(Duration::from_secs(60), futures::future::join_all(calls)).await.unwrap();
    let log = log_of(directory.path());
    // Calls at the same time may fill files of any size with what is written together. One by one they fill files of
    // a quarter of the bound, and after as many bytes as are kept, all there is are such.
    for _ in 0..50 {
        node.admin.invalidate_ahead(&random_key(), &reason).await;
    }
    let kept: u64 = fs::read_dir(&log).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(kept <= 64 * 1024, "{kept} bytes");
    node.stop().await;
    let verified = verify(&log);
    assert_eq!(verified["begins"], "dropped");
    assert!(verified["first_sequence"].as_u64().unwrap() > 50, "{verified}");
    let (code, text, _) = audit(&["verify", log.to_str().unwrap()]);
    assert!(code == 0 && text.contains("the node dropped what came before"), "{text}");
    // One file alone does not say so.
    let mut files: Vec<_> = fs::read_dir(&log).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 2);
    fs::remove_file(&files[0]).unwrap();
    let (code, _, stderr) = audit(&["verify", log.to_str().unwrap()]);
    assert!(code == 5 && stderr.contains("were removed"), "{stderr}");
}
