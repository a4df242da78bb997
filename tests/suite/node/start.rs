//! Starts of `brock run` that must fail, and say why and what to do; and what a running one says
//! over HTTP.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    time::{Duration, Instant},
};

use crate::harness::{
    brock::{Home, assert_fails, assert_succeeds, brock, brock_with},
    certs::Certs,
    client::{Client, all_within},
    eventually, free_port,
    http::get,
    process::{Launch, Process},
    random_key,
    store::{close, node_id, open, options},
    within,
};
use brock_core::base::metrics as names;

/// A home with a certificate for n1 and the flags to start it.
fn home() -> (Home, Vec<String>) {
    let home = Home::new();
    assert_succeeds(&home.cert(&["node", "--node-id", "n1", "--host", "localhost"]));
    let flags = flags(&home, "n1", "data");
    (home, flags)
}

fn flags(home: &Home, id: &str, data: &str) -> Vec<String> {
    vec![
        "run".to_owned(),
        format!("--node.id={id}"),
        format!("--node.path={}", home.path(data).display()),
        format!("--node.certs-dir={}", home.certs),
        "--node.address=127.0.0.1:0".to_owned(),
        "--http.address=127.0.0.1:0".to_owned(),
    ]
}

/// Starts brock with these flags and more, which must fail within some time.
#[track_caller]
fn start_fails(flags: &[String], more: &[&str], code: i32, parts: &[&str]) {
    let begun = Instant::now();
    let all: Vec<&str> = flags.iter().map(String::as_str).filter(|flag| !replaced(flag, more)).collect();
    assert_fails(&brock(&[&all, more].concat()), code, parts);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

fn replaced(flag: &str, more: &[&str]) -> bool {
    let key = |flag: &str| flag.split('=').next().unwrap().to_owned();
    more.iter().any(|other| key(other) == key(flag))
}

#[tokio::test]
async fn a_start_that_fails_after_the_storage_has_opened_ends_with_1_and_says_why() {
    let (home, flags) = home();
    let options = brock::store::Options { node_id: node_id("n1"), ..options(&home.path("data")) };
    let store = open(&options).await;
    store.keep_note(b"signing_key", b"garbage".to_vec()).await.unwrap();
    close(store).await;
    // Several times: threads of the storage engine that outlive main crash the process now and then.
    for _ in 0..8 {
        let parts = ["the key that signs this node's backups cannot be used", "--node.first-start=true"];
        start_fails(&flags, &[], 1, &parts);
    }
    let store = open(&brock::store::Options { first_start: false, ..options }).await;
    assert_eq!(store.incarnation_reason(), "start", "the storage was closed in order each time");
    close(store).await;
}

#[test]
fn without_usable_certificates_a_start_fails_and_says_which_command_makes_them() {
    let (home, flags) = home();
    let first = "--node.first-start";
    let nowhere = format!("--node.certs-dir={}", home.path("none").display());
    start_fails(&flags, &[first, &nowhere], 1, &["node n1 cannot start", "none", "brock cert"]);
    let remove = |file: &str, parts: &[&str]| {
        let (path, aside) = (home.path("certs").join(file), home.path("aside"));
        fs::rename(&path, &aside).unwrap();
        start_fails(&flags, &[first], 1, parts);
        fs::rename(&aside, &path).unwrap();
    };
    remove("ca.crt", &["there is no CA certificate (ca*.crt)", "copy the cluster's ca.crt there"]);
    remove("node.crt", &["there is no node certificate (node*.crt)", "brock cert node --certs-dir"]);
    remove("node.key", &["node.key is missing"]);
    let key = home.path("certs/node.key");
    for mode in [0o644, 0o440, 0o604] {
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
        if mode == 0o440 && rustix::process::getuid().is_root() {
            // Root's, and readable by our group: how Kubernetes mounts a secret.
            continue;
        }
        let said = format!("(mode {mode:04o}): run `chmod 400 {}`", key.display());
        start_fails(&flags, &[first], 1, &["may be read or changed by others", &said]);
    }
    fs::set_permissions(&key, fs::Permissions::from_mode(0o400)).unwrap();
    start_fails(
        &flags,
        &[first, "--node.id=n2"],
        1,
        &["that of node n1, but node.id is n2", "brock cert node --node-id n2", "set node.id to n1"],
    );
    assert!(!home.path("data").exists(), "a start that failed made a database");
}

#[test]
fn an_address_that_is_taken_or_is_none_is_named_with_its_setting() {
    let (_home, flags) = home();
    let first = "--node.first-start";
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for setting in ["node.address", "http.address"] {
        let flag = format!("--{setting}={taken}");
        let said = format!("cannot listen on {setting} ({taken})");
        let hint = "Another process listens there: is this node already running?";
        start_fails(&flags, &[first, &flag], 1, &[&said, hint]);
    }
    let foreign = "--node.address=192.0.2.1:20004";
    start_fails(&flags, &[first, foreign], 1, &["node.address", "This machine has no such address"]);
    start_fails(&flags, &[first, "--node.join=peer.example"], 2, &["node.join", "peer.example", "HOST:PORT"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_and_foreign_storage_is_not_taken_for_this_nodes() {
    let (home, flags) = home();
    start_fails(
        &flags,
        &[],
        1,
        &["is empty, and node.first-start is false", "find out why first", "--node.first-start=true"],
    );
    // Run n1 once; then n2 comes with its own certificate and n1's directory.
    let launch = Launch {
        id: "n1".to_owned(),
        path: home.path("data"),
        certs_dir: home.path("certs"),
        port: free_port(),
        http_port: free_port(),
        join: Vec::new(),
        env: Vec::new(),
        more: vec!["--node.first-start=true".to_owned()],
    };
    let process = launch.spawn();
    until_ready(&process).await;
    // A second process on the same directory is refused while the first one runs.
    start_fails(&flags, &[], 1, &["is in use by another process: is this node already running?"]);
    let (status, log) = process.terminate();
    assert!(status.success(), "{log:?}");
    assert_succeeds(&home.cert(&["node", "--node-id", "n2", "--host", "localhost", "--overwrite"]));
    start_fails(
        &flags,
        &["--node.id=n2", "--node.first-start"],
        1,
        &["belongs to node n1, but node.id is n2", "Give the node its own directory, or its own id back"],
    );
}

async fn until_ready(process: &Process) {
    eventually("it is ready", || async {
        assert!(process.is_running(), "{:?}", process.log());
        get(process.http_port, "/readyz").await.filter(|answer| answer.starts_with("HTTP/1.1 200 "))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_only_peer_is_unreachable_starts_and_becomes_ready() {
    let (certs, home) = (Certs::new(), tempfile::tempdir().unwrap());
    let dead = free_port();
    let launch = Launch { join: vec![dead], ..Launch::new(&certs, "n1", &home.path().join("data")) };
    let (process, client) = launch.start(&certs).await;
    client.put(&random_key(), b"g").await.unwrap();
    until_ready(&process).await;
    let status = client.status().await;
    assert!(status.ready && !status.peers[0].up, "{status:?}");
    assert!(status.peers[0].last_error.contains(&format!("127.0.0.1:{dead}")), "{status:?}");
    // Ready, but it keeps up with nobody.
    let answer = get(process.http_port, "/healthz?max_lag=1000").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("no peer has said"), "{answer}");
    let address = format!("--http-address=:{}", process.http_port);
    let health = |more: &[&str]| brock(&[&["health", &address], more].concat());
    assert_succeeds(&health(&[]));
    assert_fails(&health(&["--max-gap=1h"]), 1, &["not healthy: nothing was heard from any peer yet"]);
    assert!(process.terminate().0.success());
}

/// Samples of Prometheus' text format: name, labels as written, value. Panics on any other line.
fn parse_metrics(text: &str) -> Vec<(String, String, f64)> {
    let mut samples = Vec::new();
    let is_name = |name: &str| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
    };
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            assert!(matches!(words.next(), Some("HELP" | "TYPE")), "{line}");
            assert!(is_name(words.next().unwrap()), "{line}");
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
        let value = value.parse().unwrap_or_else(|_| panic!("not a number: {line}"));
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, labels.strip_suffix('}').unwrap_or_else(|| panic!("{line}"))),
            None => (series, ""),
        };
        assert!(is_name(name), "{line}");
        for label in labels.split("\",").filter(|label| !label.is_empty()) {
            let (label, _) =
                label.split_once("=\"").unwrap_or_else(|| panic!("a label without value: {line}"));
            assert!(is_name(label), "{line}");
        }
        samples.push((name.to_owned(), labels.to_owned(), value));
    }
    samples
}

/// The metrics on a page that is in order, all of them known, none with a key in it.
fn check_page(page: &str, keys: &[Vec<u8>]) -> BTreeSet<&'static str> {
    let (head, body) = page.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    for key in keys {
        let hex = data_encoding::HEXLOWER.encode(&key[..4]);
        assert!(!body.to_lowercase().contains(&hex), "a metric shows a key hash");
    }
    let is_seed = |name: &str| names::SEED.iter().any(|seed| seed.name == name);
    let metric_of = |(name, labels, value): (String, String, f64)| {
        assert!(value.is_finite(), "{name}{{{labels}}} {value}");
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let metric = names::ALL.iter().find(|metric| metric.name == name || Some(metric.name) == base);
        metric.unwrap_or_else(|| panic!("{name} is not in the list")).name
    };
    parse_metrics(body).into_iter().filter(|(name, ..)| !is_seed(name)).map(metric_of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_cluster_shows_every_metric_and_never_a_key() {
    let (certs, home) = (Certs::new(), tempfile::tempdir().unwrap());
    let mut launches = ["n1", "n2"].map(|id| Launch::new(&certs, id, &home.path().join(id)));
    launches[0].join = vec![launches[1].port];
    launches[1].join = vec![launches[0].port];
    let bucket = format!("--node.backup.bucket=file://{}", home.path().join("bucket").display());
    launches[0].more.extend(["--node.backup.enabled=true".to_owned(), bucket]);
    let (first, writer) = launches[0].start(&certs).await;
    let (second, reader) = launches[1].start(&certs).await;
    for process in [&first, &second] {
        until_ready(process).await;
    }
    let mut keys = Vec::new();
    for i in 0..20 {
        let key = random_key();
        let expires_at_unix = if i % 2 == 0 { 0 } else { brock_core::base::time::unix_now() + 3600 };
        let record = brock_core::proto::Record { expires_at_unix, ..crate::harness::client::record(b"g") };
        writer.put_record(&key, record).await.unwrap();
        keys.push(key);
    }
    for key in &keys {
        eventually("it is replicated", || reader.has_local(key)).await;
    }
    // Revoked with a receipt, and compacted once both know.
    writer.invalidate(&keys[1], "leaked", all_within(20_000)).await.unwrap();
    eventually("something is compacted", || async {
        let compact = brock_core::proto::CompactRequest {};
        let outcome = writer.admin.clone().compact(compact).await.unwrap().into_inner();
        (outcome.entries_removed > 0).then_some(())
    })
    .await;
    let compact = brock_core::proto::CompactRequest {};
    reader.admin.clone().compact(compact).await.unwrap();
    // Both keep up: by their own word, and by that of a health check.
    for process in [&first, &second] {
        eventually("it keeps up", || async {
            let answer = get(process.http_port, "/healthz?max_lag=1000&max_gap=30s").await?;
            answer.starts_with("HTTP/1.1 200 ").then_some(())
        })
        .await;
        let address = format!("0.0.0.0:{}", process.http_port);
        let environment = [("BROCK_HTTP_ADDRESS", address.as_str())];
        assert_succeeds(&brock_with(&["health", "--max-lag=1000", "--max-gap=30s"], &environment));
    }
    // Missing everywhere, existing already, and denied.
    reader.get(&random_key()).await.unwrap_err();
    reader.put(&keys[0], b"other").await.unwrap_err();
    writer.put(&keys[0], b"other").await.unwrap_err();
    writer.replication.clone().ping(brock_core::proto::PingRequest {}).await.unwrap_err();
    // Faults too: their counters stand at 0 from the start.
    let mut missing: BTreeSet<&str> = names::ALL.iter().map(|metric| metric.name).collect();
    // These nodes do not find their peers by DNS: `joining` sees what counts that.
    missing.retain(|name| !name.starts_with("brock_discovery_"));
    let missing = RefCell::new(missing);
    // What was backed up is read again within a quarter of a minute.
    let all = within(Duration::from_secs(30), || async {
        for process in [&first, &second] {
            let page = get(process.http_port, "/metrics").await.unwrap();
            for name in check_page(&page, &keys) {
                missing.borrow_mut().remove(name);
            }
        }
        missing.borrow().is_empty().then_some(())
    });
    assert!(all.await.is_some(), "never seen: {:?}", missing.borrow());
    let page = eventually("20 records and one revocation are the clock", || async {
        let page = get(first.http_port, "/metrics").await?;
        page.contains("as_badgerauth_current_clock{node_id=\"n1\"} 21").then_some(page)
    })
    .await;
    check_seed_names(&page);
    for process in [first, second] {
        assert!(process.terminate().0.success());
    }
}

/// The page of a node with one peer, after what the test above does, has what a dashboard for badgerauth
/// asks for, with the same values as the metrics of today.
fn check_seed_names(page: &str) {
    let (_, body) = page.split_once("\r\n\r\n").unwrap();
    let samples = parse_metrics(body);
    let value = |name: &str, labels: &str| {
        let sample = samples.iter().find(|sample| sample.0 == name && sample.1.contains(labels));
        sample.unwrap_or_else(|| panic!("{name}{{{labels}}} is not in\n{body}")).2
    };
    for seed in names::SEED {
        value(seed.name, "");
    }
    assert_eq!(value("as_badgerauth_insert", ""), 10.0);
    assert_eq!(value("as_badgerauth_expiring_insert", ""), 10.0);
    assert_eq!(value("as_badgerauth_duplicate_key", "values_equal=\"false\""), 1.0);
    value("as_badgerauth_peer_up", "address=\"127.0.0.1:");
    assert_eq!(
        value("as_badgerauth_backup", "successful=\"true\""),
        value("brock_backup_duration_seconds_count", "")
    );
    assert_eq!(value("as_badgerauth_kv_bytes_lsm", ""), value("brock_storage_bytes", "kind=\"sst\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_node_is_alive_and_says_that_it_is_not_ready() {
    let (certs, home) = (Certs::new(), tempfile::tempdir().unwrap());
    let mut launch = Launch::new(&certs, "n1", &home.path().join("data"));
    launch.more.push("--node.shutdown-timeout=3s".to_owned());
    let (process, client) = launch.start(&certs).await;
    until_ready(&process).await;
    for (path, body) in [("/livez", "ok\n"), ("/readyz", "ok\n"), ("/", "/metrics")] {
        let answer = get(process.http_port, path).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(body), "{answer}");
    }
    assert!(get(process.http_port, "/other").await.unwrap().starts_with("HTTP/1.1 404 "));
    // A replication stream that says no hello is a call under way that does not finish.
    let node =
        crate::harness::raw::channel_of_node(&format!("127.0.0.1:{}", process.port), &certs, "n9").await;
    let call = tokio::spawn(async move {
        let silence = futures::stream::pending();
        let _ =
            crate::harness::raw::call_with(&node, "/brock.v1.ReplicationService/Replicate", silence).await;
    });
    client.status().await;
    process.signal(rustix::process::Signal::TERM);
    let (port, port_http) = (process.port, process.http_port);
    let answer = eventually("it says that it drains", || async move {
        get(port_http, "/readyz").await.filter(|answer| !answer.starts_with("HTTP/1.1 200 "))
    })
    .await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("shutting down"), "{answer}");
    assert!(get(port_http, "/livez").await.unwrap().starts_with("HTTP/1.1 200 "));
    let address = format!("127.0.0.1:{port}").parse().unwrap();
    eventually("it takes no new connections", || async {
        brock_net::tls::channel::open_channel(&address, Certs::config(&certs.admin())).await.err()
    })
    .await;
    call.abort();
    process.wait();
    let _ = Client::clone(&client);
}
