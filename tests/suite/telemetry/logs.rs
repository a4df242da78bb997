//! What the log says, how often, and how it is chosen.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use crate::harness::{
    certs::Certs,
    eventually,
    fake_peer::{FakePeer, Script},
    metrics::Page,
    process::{BROCK, Launch, Process, run},
    random_key,
    wire::{at, origin},
};
use brock_core::{
    domain::codec,
    proto::{self, replicate_response},
};

fn count(process: &Process, text: &str) -> usize {
    process.log().iter().filter(|line| line.contains(text)).count()
}

/// Another content in one step, with the permissions of the old one.
fn replace(path: &Path, content: &[u8]) {
    let next = path.with_extension("next");
    fs::copy(path, &next).unwrap();
    fs::set_permissions(&next, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&next, content).unwrap();
    fs::rename(&next, path).unwrap();
}

/// Levels and modules of the lines so far.
fn lines(process: &Process) -> Vec<(String, String)> {
    let parse = |line: String| {
        let line: serde_json::Value =
            serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        (line["level"].as_str().unwrap().to_owned(), line["target"].as_str().unwrap().to_owned())
    };
    process.log().into_iter().map(parse).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_module_is_logged_in_detail_and_the_others_are_not() {
    let (certs, home) = (Certs::new(), tempfile::tempdir().unwrap());
    let mut launch = Launch::new(&certs, "n1", &home.path().join("n1"));
    launch.more.push("--log.level=info,brock::tls=debug".to_owned());
    let (process, client) = launch.start(&certs).await;
    client.put(&random_key(), b"g").await.unwrap();
    eventually("the connection is in the log", || async {
        (count(&process, "accepted a connection") > 0).then_some(())
    })
    .await;
    let lines = lines(&process);
    assert!(lines.iter().any(|(level, target)| level == "DEBUG" && target.starts_with("brock::tls")));
    assert!(lines.iter().any(|(level, target)| level == "INFO" && target.starts_with("brock::node")));
    let others = lines.iter().filter(|(level, target)| level == "DEBUG" && !target.starts_with("brock::tls"));
    assert_eq!(others.count(), 0, "{lines:?}");
    assert!(process.terminate().0.success());
}

#[test]
fn a_filter_that_would_log_nothing_is_refused_with_one_that_works() {
    let certs = Certs::new();
    let certs_dir = format!("--node.certs-dir={}", certs.node("n1").display());
    for filter in ["inof", "info,brock::replication=loud", "info,,"] {
        let level = format!("--log.level={filter}");
        let output = run(BROCK, &["run", "--node.id=n1", &certs_dir, &level], "");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{filter}: {said}");
        assert!(
            said.contains("log.level") && said.contains("info,brock::replication=debug"),
            "{filter}: {said}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clocks_of_a_peer_are_logged_when_they_are_first_heard_and_not_at_every_heartbeat() {
    let (certs, home) = (Certs::new(), tempfile::tempdir().unwrap());
    let mut launches = ["n1", "n2"].map(|id| Launch::new(&certs, id, &home.path().join(id)));
    launches[0].join = vec![launches[1].port];
    launches[1].join = vec![launches[0].port];
    // A heartbeat comes with every round too.
    launches.iter_mut().for_each(|launch| launch.more.push("--node.replication-interval=100ms".to_owned()));
    let (second, other) = launches[1].start(&certs).await;
    other.put(&random_key(), b"g").await.unwrap();
    let (first, writer) = launches[0].start(&certs).await;
    eventually("they were heard", || async { (count(&first, "heard a peer's clocks") > 0).then_some(()) })
        .await;
    let ok =
        format!("brock_replication_rounds_total{{address=\"127.0.0.1:{}\",outcome=\"ok\"}}", second.port);
    eventually("ten rounds", || async {
        (Page::of(first.http_port).await?.value(&ok)? >= 10.0).then_some(())
    })
    .await;
    assert_eq!(count(&first, "heard a peer's clocks"), 1);
    assert_eq!(count(&first, "a peer has heard of new origins"), 0);
    // The first operation of this node is news of the other: it lists another origin now.
    writer.put(&random_key(), b"g").await.unwrap();
    eventually("a new origin is news", || async {
        (count(&first, "a peer has heard of new origins") == 1).then_some(())
    })
    .await;
    for process in [first, second] {
        assert!(process.terminate().0.success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_the_certificates_is_said_once_however_long_it_stays() {
    let (certs, home) = (Certs::new(), tempfile::tempdir().unwrap());
    let launch = Launch::new(&certs, "n1", &home.path().join("n1"));
    fs::copy(certs.ca_key(), launch.certs_dir.join("ca.key")).unwrap();
    let (process, _) = launch.start(&certs).await;
    let warned = || count(&process, "a CA's key lies in the certificates directory");
    assert_eq!(warned(), 1);
    // From now on every look at the directory reads it as a whole, and refuses it. One problem after
    // the other shows that it looks again and again.
    let refused = async |times: usize| {
        eventually("the directory is refused", || async {
            (count(&process, "rejected the rotated certificates") == times).then_some(())
        })
        .await;
    };
    let [certificate, key] = ["node.crt", "node.key"].map(|name| launch.certs_dir.join(name));
    let (right_certificate, right_key) = (fs::read(&certificate).unwrap(), fs::read(&key).unwrap());
    replace(&certificate, b"no certificate");
    refused(1).await;
    replace(&certificate, &right_certificate);
    eventually("the repair is said", || async {
        (count(&process, "the certificates directory is in order again") == 1).then_some(())
    })
    .await;
    replace(&key, b"no key");
    refused(2).await;
    replace(&key, &right_key);
    fs::copy(launch.certs_dir.join("ca.crt"), launch.certs_dir.join("ca-next.crt")).unwrap();
    eventually("what is there now is used", || async {
        (count(&process, "reloaded the rotated certificates") == 1).then_some(())
    })
    .await;
    assert_eq!(warned(), 1);
    let (status, log) = process.terminate();
    assert!(status.success());
    assert_eq!(log.iter().filter(|line| line.contains("\"stopped\"")).count(), 1, "{log:?}");
}

/// A peer that always has news, and ends every round with an error.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_peer_causes_again_and_again_is_logged_now_and_then() {
    let (certs, home) = (Certs::new(), tempfile::tempdir().unwrap());
    let now = brock_core::base::time::unix_now();
    let news = |i: u32| {
        let vector = codec::vector_to_proto(&at(origin("invented", i), 1));
        let now_unix = if i.is_multiple_of(2) { now } else { now - 1000 };
        let heads = proto::Heads {
            node_id: "noisy".to_owned(),
            incarnation: 1,
            vector: Some(vector),
            now_unix,
            digest: None,
            birth: None,
            closings: Vec::new(),
        };
        replicate_response::Message::Heads(heads)
    };
    let script = Script { then: (0..300).map(news).collect(), hang_up: true, ..Script::new("noisy") };
    let noisy = FakePeer::start(&certs, "noisy", script).await;
    let mut launch = Launch::new(&certs, "n1", &home.path().join("n1"));
    launch.join = vec![noisy.port];
    let (process, _) = launch.start(&certs).await;
    eventually("five rounds have ended", || async { (*noisy.streams.lock().unwrap() > 5).then_some(()) })
        .await;
    let (status, log) = process.terminate();
    assert!(status.success());
    assert!(log.len() < 40, "{} lines, such as {:#?}", log.len(), &log[..40]);
}
