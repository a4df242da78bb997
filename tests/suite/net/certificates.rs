//! Certificates that are exchanged and revoked while nodes run.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::harness::{
    certs::{Certs, make_node, presented},
    client::{Client, put_request},
    cluster::Cluster,
    eventually, free_port,
    hanging::fifo,
    metrics::Page,
    node::{TestNode, config},
    process::{Launch, run},
    random_key,
};
use brock::config::validate::Config;
use brock_core::{
    base::{limits, time::unix_now},
    proto,
};
use brock_net::{
    channel::open_channel,
    pki::{
        issue::{LeafKind, MakeCa, MakeLeaf, make_ca, make_leaf},
        key::Algorithm,
        revoke::{Revoke, revoke},
    },
};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Code;

const DAY: Duration = Duration::from_secs(86_400);

fn leaked(certs: &Certs) -> std::path::PathBuf {
    certs.leaf("leaked", LeafKind::Client { name: "leaked".to_owned() })
}

/// The CA revokes a certificate, in the list in its directory.
fn list_with(certs: &Certs, certificate: &Path) -> PathBuf {
    let request = Revoke {
        certs_dir: certs.path("ca"),
        ca_key: certs.ca_key(),
        certificates: vec![certificate.to_owned()],
    };
    revoke(&request).unwrap().list
}

/// The CA revokes a certificate, and the list is copied to a node.
fn revoke_at(certs: &Certs, certificate: &Path, node: &Path) {
    fs::copy(list_with(certs, certificate), node.join("ca.crl")).unwrap();
}

async fn certificates_error(node: &TestNode) -> String {
    // What is exchanged ends the connection that asks, too.
    let status = eventually("it is answered", || async { node.admin.try_status().await.ok() }).await;
    status.tasks.into_iter().find(|task| task.name == "certificates").unwrap().last_error
}

async fn start_one(certs: &Certs) -> TestNode {
    TestNode::start(certs, config(certs, "node-0", free_port(), &[])).await
}

/// Waits until new connections with these certificates are refused, with the reason.
async fn is_refused_as_revoked(node: &TestNode, certs_dir: &Path) {
    // In TLS 1.3 the refusal comes with the first answer, unless the connection is gone before.
    eventually("a new connection is refused, with the reason", || async {
        let dialled = open_channel(&node.address().parse().unwrap(), Certs::config(certs_dir)).await;
        let refusal = match dialled {
            Err(error) => error.to_string(),
            Ok((channel, _)) => {
                let mut kv = brock_core::proto::key_value_service_client::KeyValueServiceClient::new(channel);
                let request =
                    brock_core::proto::GetRequest { key_hash: random_key().into(), ..Default::default() };
                let error = kv.get(request).await.expect_err("it must not get in");
                brock_net::tls::errors::explain(&error).unwrap_or_default()
            }
        };
        refusal.contains("revoked").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_client_is_cut_off_and_refused_while_others_go_on() {
    let certs = Certs::new();
    let node = start_one(&certs).await;
    let thief = Client::connect(&node.address(), &leaked(&certs)).await;
    let key = random_key();
    thief.put(&key, b"grant").await.unwrap();
    let at_work = thief.clone();
    let at_work = tokio::spawn(async move { at_work.never_ending(PUT).await });

    revoke_at(&certs, &leaked(&certs).join("client.crt"), &certs.node("node-0"));
    eventually("the open connection ends", || async {
        (thief.get_local(&key).await.err()?.code() == Code::Unavailable).then_some(())
    })
    .await;
    // Not as late as others end who are only asked to connect again.
    let ended =
        tokio::time::timeout(Duration::from_secs(15), at_work).await.expect("a call goes on").unwrap();
    assert_ne!(ended.code(), Code::Ok);
    is_refused_as_revoked(&node, &leaked(&certs)).await;
    let kept = eventually("the others go on", || async { node.client.get_local(&key).await.ok() }).await;
    assert_eq!(kept.encrypted_access_grant, b"grant"[..]);
    assert_eq!(certificates_error(&node).await, "");
    node.stop().await;
}

/// Opening a FIFO would wait for a writer, and revocations with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_fifo_among_the_certificates_is_refused_by_name_and_stops_no_revocation() {
    let certs = Certs::new();
    let node = start_one(&certs).await;
    let in_the_way = certs.node("node-0").join("ca-x.crt");
    fifo(&in_the_way);
    let error = eventually("it is refused", || async {
        Some(certificates_error(&node).await).filter(|error| !error.is_empty())
    })
    .await;
    assert!(error.contains("ca-x.crt: it is a FIFO"), "{error}");
    fs::remove_file(in_the_way).unwrap();
    revoke_at(&certs, &leaked(&certs).join("client.crt"), &certs.node("node-0"));
    is_refused_as_revoked(&node, &leaked(&certs)).await;
    assert_eq!(certificates_error(&node).await, "");
    node.stop().await;
}

/// Every certificate that any list in the directory names is refused, and `status` counts just those.
#[tokio::test(flavor = "multi_thread")]
async fn of_several_lists_of_one_ca_each_counts() {
    let certs = Certs::new();
    let node = start_one(&certs).await;
    let directory = certs.node("node-0");
    let second = certs.leaf("second", LeafKind::Admin { name: "second".to_owned() });
    revoke_at(&certs, &leaked(&certs).join("client.crt"), &directory);
    fs::rename(directory.join("ca.crl"), directory.join("ca-old.crl")).unwrap();
    revoke_at(&certs, &second.join("client.crt"), &directory);
    is_refused_as_revoked(&node, &second).await;
    is_refused_as_revoked(&node, &leaked(&certs)).await;
    assert_eq!(node.admin.status().await.authorities[0].revoked, 2);
    // Both in one file, the older first.
    let [old, new] = ["ca-old.crl", "ca.crl"].map(|name| fs::read_to_string(directory.join(name)).unwrap());
    fs::write(directory.join("ca.crl"), format!("{old}{new}")).unwrap();
    fs::remove_file(directory.join("ca-old.crl")).unwrap();
    node.node.reload().await;
    is_refused_as_revoked(&node, &second).await;
    is_refused_as_revoked(&node, &leaked(&certs)).await;
    node.stop().await;
}

/// Kubernetes shows a mounted ConfigMap as links into a hidden directory, which it replaces as a whole.
fn project(directory: &Path, version: &str, files: &[(&str, &[u8])]) {
    let hidden = directory.join(version);
    fs::create_dir(&hidden).unwrap();
    let data = directory.join("..data");
    let next = directory.join("..data_tmp");
    std::os::unix::fs::symlink(version, &next).unwrap();
    for (name, content) in files {
        fs::write(hidden.join(name), content).unwrap();
    }
    fs::rename(&next, &data).unwrap();
    for (name, _) in files {
        let link = directory.join(name);
        if !link.is_symlink() {
            std::os::unix::fs::symlink(Path::new("..data").join(name), link).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_in_node_crl_dir_count_like_those_among_the_certificates() {
    let certs = Certs::new();
    let lists = certs.path("lists");
    fs::create_dir(&lists).unwrap();
    let config = Config { crl_dir: Some(lists.clone()), ..config(&certs, "node-0", free_port(), &[]) };
    let node = TestNode::start(&certs, config).await;
    let operator = certs.leaf("second", LeafKind::Admin { name: "second".to_owned() });
    let connected = Client::connect(&node.address(), &operator).await;
    connected.status().await;

    revoke_at(&certs, &leaked(&certs).join("client.crt"), &certs.node("node-0"));
    // The second list does not continue the first.
    fs::remove_file(certs.path("ca").join("ca.crl")).unwrap();
    let list = fs::read(list_with(&certs, &operator.join("client.crt"))).unwrap();
    project(&lists, "..1", &[("ca.crl", &list)]);
    eventually("the operator's open connection ends", || async {
        connected.try_status().await.is_err().then_some(())
    })
    .await;
    is_refused_as_revoked(&node, &operator).await;
    is_refused_as_revoked(&node, &leaked(&certs)).await;
    let status = eventually("both lists count", || async { node.admin.try_status().await.ok() }).await;
    assert_eq!(status.authorities[0].revoked, 2);

    // What would not count is refused by its name, and what was loaded before stays in force.
    for (version, name, content, problem) in [
        ("..2", "ca-crl.pem", &list[..], "ca-crl.pem does not belong in a directory of revocation lists"),
        ("..3", "next.crl", b"half of a list", "next.crl holds no PEM list of revoked certificates"),
    ] {
        project(&lists, version, &[("ca.crl", &list), (name, content)]);
        node.node.reload().await;
        let error = certificates_error(&node).await;
        assert!(error.contains(problem), "{error}");
        is_refused_as_revoked(&node, &operator).await;
        fs::remove_file(lists.join(name)).unwrap();
    }
    node.node.reload().await;
    assert_eq!(certificates_error(&node).await, "");
    fs::remove_dir_all(&lists).unwrap();
    node.node.reload().await;
    let error = certificates_error(&node).await;
    assert!(error.contains("there is no directory of revocation lists"), "{error}");
    is_refused_as_revoked(&node, &operator).await;
    node.stop().await;
}

/// The only alarm.
async fn alarm(node: &TestNode) -> proto::Alarm {
    eventually("there is an alarm", || async {
        let mut alarms = node.admin.try_status().await.ok()?.alarms;
        (alarms.len() == 1).then(|| alarms.remove(0))
    })
    .await
}

/// As after a change of the CA, when the list of the next one has the name that the other one had.
#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_list_that_got_shorter_is_an_alarm_also_after_a_restart() {
    let (certs, next, storage) = (Certs::new(), Certs::new(), tempfile::tempdir().unwrap());
    let start = async || {
        let config = config(&certs, "node-0", free_port(), &[]);
        TestNode::start(&certs, Config { path: Some(storage.path().to_owned()), ..config }).await
    };
    let directory = certs.node("node-0");
    fs::copy(next.path("ca/ca.crt"), directory.join("ca-next.crt")).unwrap();
    let both = [leaked(&certs), certs.leaf("second", LeafKind::Admin { name: "second".to_owned() })];
    both.iter().for_each(|dir| revoke_at(&certs, &dir.join("client.crt"), &directory));
    let node = start().await;
    is_refused_as_revoked(&node, &leaked(&certs)).await;
    // A reload that takes nothing away.
    fs::copy(certs.path("ca/ca.crt"), directory.join("ca-history.pem")).unwrap();
    node.node.reload().await;
    assert_eq!(node.admin.status().await.alarms, []);

    let list = fs::read(directory.join("ca.crl")).unwrap();
    revoke_at(&next, &leaked(&next).join("client.crt"), &directory);
    node.node.reload().await;
    let says_so = |alarm: &proto::Alarm| {
        alarm.text.starts_with("the revocation lists named 2 certificates of CN=Brock CA")
            && alarm.text.contains("and name 0 now")
            && alarm.count == 1
    };
    let said = alarm(&node).await;
    assert!(says_so(&said), "{said:?}");
    node.stop().await;
    let node = start().await;
    assert_eq!(node.admin.status().await.alarms, []);
    fs::write(directory.join("ca-history.crl"), &list).unwrap();
    node.node.reload().await;
    node.stop().await;
    fs::remove_file(directory.join("ca-history.crl")).unwrap();
    let node = start().await;
    let said = alarm(&node).await;
    assert!(says_so(&said), "{said:?}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_node_is_cut_off_by_its_peers_in_both_directions() {
    let often = |config: Config| Config { replication_interval: Duration::from_secs(1), ..config };
    let cluster = Cluster::start_with(2, often).await;
    cluster.converged().await;
    let (good, stolen) = (cluster.node(0), cluster.node(1));
    revoke_at(&cluster.certs, &cluster.certs.node("node-1").join("node.crt"), &cluster.certs.node("node-0"));
    eventually("the good one refuses to pull from it", || async {
        let status = good.admin.try_status().await.ok()?;
        status.peers[0].last_error.contains("revoked").then_some(())
    })
    .await;
    eventually("and it is refused when it pulls", || async {
        let status = stolen.admin.try_status().await.ok()?;
        status.peers[0].last_error.contains("revoked").then_some(())
    })
    .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_not_given_the_newest_list_of_revoked_certificates_is_named() {
    let cluster = Cluster::start(2).await;
    cluster.converged().await;
    let (certs, newest) = (&cluster.certs, cluster.certs.path("ca").join("ca.crl"));
    let named = async || {
        // What is exchanged ends the connection that asks, too.
        let view = eventually("the cluster is seen", || async {
            let mut admin = cluster.node(0).admin.admin.clone();
            Some(admin.cluster(proto::ClusterRequest::default()).await.ok()?.into_inner())
        })
        .await;
        let findings = view.verdict.unwrap().findings.into_iter();
        findings
            .filter(|finding| finding.what.contains("revoked"))
            .map(|finding| (finding.node, finding.what))
            .collect::<Vec<_>>()
    };
    assert_eq!(named().await, []);
    revoke_at(certs, &leaked(certs).join("client.crt"), &certs.node("node-0"));
    let found = eventually("it is named", || async { named().await.pop() }).await;
    assert_eq!(found.0, "node-1");
    assert!(found.1.starts_with("it knows of 0 revoked certificates of CN=Brock CA "), "{}", found.1);
    fs::copy(newest, certs.node("node-1").join("ca.crl")).unwrap();
    eventually("it knows the same", || async { named().await.is_empty().then_some(()) }).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exchanged_certificates_are_used_without_a_restart_and_wrong_ones_are_not() {
    let certs = Certs::new();
    let node = start_one(&certs).await;
    let directory = certs.node("node-0");
    let first = presented(&node.address(), &certs).await;

    make_node(&directory, &certs.ca_key(), "node-0");
    let second = eventually("the new certificate is shown", || async {
        Some(presented(&node.address(), &certs).await).filter(|now| *now != first)
    })
    .await;
    eventually("clients are served under it", || async {
        (node.client.get_local(&random_key()).await.unwrap_err().code() == Code::NotFound).then_some(())
    })
    .await;

    let good = fs::read(directory.join("node.crt")).unwrap();
    fs::write(directory.join("node.crt"), "half of a certifi").unwrap();
    eventually("a damaged file is told", || async {
        certificates_error(&node).await.contains("node.crt holds no PEM certificate").then_some(())
    })
    .await;
    assert_eq!(presented(&node.address(), &certs).await, second, "what was there before is still used");

    let misnamed = directory.join("new-ca.crt");
    fs::write(directory.join("node.crt"), &good).unwrap();
    fs::write(&misnamed, &good).unwrap();
    eventually("one that does not belong there is told", || async {
        certificates_error(&node).await.contains("new-ca.crt does not belong").then_some(())
    })
    .await;
    fs::remove_file(&misnamed).unwrap();

    make_node(&directory, &certs.ca_key(), "node-9");
    eventually("another node's is told", || async {
        certificates_error(&node).await.contains("is now the certificate of node node-9").then_some(())
    })
    .await;
    assert_eq!(presented(&node.address(), &certs).await, second);

    fs::write(directory.join("node.crt"), good).unwrap();
    eventually("a certificate without its key is told", || async {
        certificates_error(&node).await.contains("different pairs").then_some(())
    })
    .await;
    make_node(&directory, &certs.ca_key(), "node-0");
    eventually("all is well again", || async { certificates_error(&node).await.is_empty().then_some(()) })
        .await;
    node.stop().await;
}

/// Nothing is known of the files then: they are not called rejected.
#[tokio::test(flavor = "multi_thread")]
async fn without_descriptors_the_limit_is_named_and_no_certificate_is_blamed() {
    let certs = Certs::new();
    let directory = tempfile::tempdir().unwrap();
    let launch = Launch::new(&certs, "node-0", &directory.path().join("data"));
    let (process, client) = launch.start(&certs).await;
    let limit = |limits| prlimit(Pid::from_raw(process.pid()), Resource::Nofile, limits).unwrap();
    let problem = || async {
        let tasks = client.status().await.tasks;
        tasks.into_iter().find(|task| task.name == "certificates").unwrap().last_error
    };
    let before = limit(Rlimit { current: Some(3), ..getrlimit(Resource::Nofile) });
    eventually("the limit is named", || async {
        problem().await.contains("Too many files and connections are open: raise the limit").then_some(())
    })
    .await;
    limit(before);
    eventually("it is over", || async { problem().await.is_empty().then_some(()) }).await;
    let page = eventually("the metrics are read", || Page::of(launch.http_port)).await;
    assert_eq!(page.value("brock_certificate_reloads_total{outcome=\"error\"}"), Some(0.0));
    drop(client);
    assert!(process.terminate().0.success());
}

const PUT: &str = "/brock.v1.KeyValueService/Put";

/// What the client says of a call that its connection did not take any more.
fn is_unsent(status: &tonic::Status) -> bool {
    let by_goaway = status.code() == Code::Internal && status.message().contains("h2 protocol error");
    by_goaway || matches!(status.code(), Code::Cancelled | Code::Unavailable)
}

/// Puts one record after the other until it is told to stop. What was sent is answered: a call that this
/// client gave up because its connection takes no more was never done, or the key would exist.
async fn writes_without_a_doubt(client: Client, stop: CancellationToken) -> usize {
    let mut written = 0;
    while !stop.is_cancelled() {
        let key = random_key();
        eventually("a call is sent", || async {
            match client.put(&key, b"grant").await {
                Err(status) if is_unsent(&status) => None,
                answered => Some(answered.expect("a call that was not sent was done after all")),
            }
        })
        .await;
        written += 1;
    }
    written
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_connected_when_certificates_are_exchanged_connects_again() {
    let interval = |config: Config| Config { replication_interval: Duration::from_secs(3600), ..config };
    let cluster = Cluster::start_with(2, interval).await;
    cluster.converged().await;
    let (certs, node, peer) = (&cluster.certs, cluster.node(0), cluster.node(1));
    let once = Client::connect(&node.address(), &certs.client()).await;
    let stop = CancellationToken::new();
    let writers: Vec<_> =
        (0..8).map(|_| tokio::spawn(writes_without_a_doubt(node.client.clone(), stop.clone()))).collect();
    let (requests, receiver) = mpsc::channel(1);
    let session = once.kv.clone().session(ReceiverStream::new(receiver)).await.unwrap();
    let mut answers = session.into_inner();
    let ask = |id| proto::SessionRequest {
        id,
        request: Some(proto::session_request::Request::Put(put_request(&random_key(), b"grant"))),
    };
    requests.send(ask(1)).await.unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap().id, 1);
    let begun = Instant::now();
    let (stubborn, other_node) =
        (once.clone(), Client::connect(&node.address(), &certs.node("node-9")).await);
    let stubborn = tokio::spawn(async move { stubborn.never_ending(PUT).await });
    let filled =
        tokio::spawn(async move { other_node.never_ending("/brock.v1.ReplicationService/Ping").await });

    eventually("the peer's round is well under way", || async {
        let since = peer.admin.status().await.peers[0].since_unix;
        (unix_now() >= since + 1 + limits::ROUND_ENDS_EARLY.as_secs() as i64).then_some(())
    })
    .await;

    make_node(&certs.node("node-0"), &certs.ca_key(), "node-0");
    // Ended, not broken off.
    let ended = tokio::time::timeout(Duration::from_secs(20), answers.message()).await;
    assert_eq!(ended.expect("the session goes on").unwrap(), None);
    eventually("its only connection takes nothing more", || async {
        let refused = once.get_local(&random_key()).await.unwrap_err();
        is_unsent(&refused).then_some(())
    })
    .await;
    let rounds = async || {
        let peers = peer.admin.status().await.peers;
        (peers[0].last_error.clone(), peers[0].recent_rounds.clone())
    };
    let round = eventually("the peer's round of an hour is over", || async { rounds().await.1.pop() }).await;
    assert_eq!((round.error, rounds().await.0), (String::new(), String::new()), "it is no failure");
    assert!(!stubborn.is_finished(), "a call that was under way was not left its time");

    let ended =
        tokio::time::timeout(Duration::from_secs(60), stubborn).await.expect("a call goes on for ever");
    assert_ne!(ended.unwrap().code(), Code::Ok);
    assert!(begun.elapsed() >= limits::DRAIN_TIMEOUT);
    assert!(!filled.is_finished(), "a node that is filled anew for a long time must not begin again");
    filled.abort();
    stop.cancel();
    for writer in writers {
        assert!(writer.await.unwrap() > 0);
    }
    // All of it is there in the next round.
    assert_eq!(cluster.converged().await, node.vector());
    assert!(rounds().await.1.iter().all(|round| round.error.is_empty()), "{:?}", rounds().await);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_is_replaced_step_by_step_and_who_only_has_the_old_one_is_cut_off() {
    let certs = Certs::new();
    let node = start_one(&certs).await;
    let directory = certs.node("node-0");
    let (next, next_key) = (certs.path("next"), certs.path("next-safe").join("ca.key"));
    make_ca(&MakeCa {
        certs_dir: next.clone(),
        ca_key: next_key.clone(),
        lifetime: 30 * DAY,
        overwrite: false,
        algorithm: Algorithm::default(),
        second: false,
    })
    .unwrap();
    make_leaf(&MakeLeaf {
        certs_dir: next.clone(),
        ca_key: next_key.clone(),
        kind: LeafKind::Admin { name: "ops".to_owned() },
        trust_domain: "brock".to_owned(),
        lifetime: DAY,
        overwrite: false,
        algorithm: None,
        second: false,
    })
    .unwrap();
    // The new admin trusts both from the beginning.
    fs::copy(certs.path("ca/ca.crt"), next.join("ca-old.crt")).unwrap();
    let answers = async || {
        let address = node.address().parse().unwrap();
        let (channel, _) = open_channel(&address, Certs::config(&next)).await.ok()?;
        let mut admin = brock_core::proto::admin_service_client::AdminServiceClient::new(channel);
        admin.status(brock_core::proto::StatusRequest::default()).await.ok().map(|_| ())
    };
    assert_eq!(answers().await, None, "its CA is not known yet");
    fs::copy(next.join("ca.crt"), directory.join("ca-next.crt")).unwrap();
    eventually("the new CA is trusted", &answers).await;

    // The node's own pair is of the new CA, and the old CA goes, at once.
    fs::rename(directory.join("ca.crt"), certs.path("ca-gone.crt")).unwrap();
    make_node(&directory, &next_key, "node-0");
    eventually("who only has the old one is cut off", || async {
        (node.client.get_local(&random_key()).await.err()?.code() == Code::Unavailable).then_some(())
    })
    .await;
    assert_eq!(answers().await, Some(()));
    assert!(node.node.stop().await.closed);
}

#[test]
fn the_command_revokes_once_and_only_what_its_ca_has_made() {
    let certs = Certs::new();
    let (dir, key) = (certs.path("ca"), certs.ca_key());
    let (dir, key) = (dir.to_str().unwrap(), key.to_str().unwrap());
    let certificate = leaked(&certs).join("client.crt");
    let revoke = |certificate: &Path| {
        let arguments =
            ["cert", "revoke", "--certs-dir", dir, "--ca-key", key, certificate.to_str().unwrap()];
        run(env!("CARGO_BIN_EXE_brock"), &arguments, "")
    };
    for (certificate, total) in [(&certificate, 1), (&certificate, 1), (&certs.admin().join("client.crt"), 2)]
    {
        let output = revoke(certificate);
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{text}");
        assert!(text.contains(&format!("{total} revoked in all")), "{text}");
    }
    // What another implementation reads.
    let list = format!("{dir}/ca.crl");
    let arguments = ["crl", "-in", &list, "-noout", "-text", "-CAfile", &format!("{dir}/ca.crt")];
    let output = run("openssl", &arguments, "");
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.matches("Serial Number:").count(), 2, "{text}");
    assert!(String::from_utf8(output.stderr).unwrap().contains("verify OK"));

    let other = Certs::new();
    let output = revoke(&other.admin().join("client.crt"));
    assert!(!output.status.success());
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("was not made by the CA whose key was given"), "{text}");
}
