//! Starts of `brock run` that must fail: the message says why, and what to do.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    time::{Duration, Instant},
};

use crate::harness::{
    brock::{Home, assert_fails, assert_succeeds, brock},
    free_port,
    process::Launch,
    store::{close, node_id, open, options},
};

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

#[tokio::test]
async fn what_operators_have_closed_or_paused_is_not_forgotten_because_its_note_is_damaged() {
    let (home, flags) = home();
    let options = brock::store::Options { node_id: node_id("n1"), ..options(&home.path("data")) };
    for (note, told) in [(b"closed", "closings"), (b"paused", "paused logs")] {
        let store = open(&options).await;
        store.keep_note(note, b"garbage".to_vec()).await.unwrap();
        close(store).await;
        start_fails(&flags, &[], 1, &[told]);
        let store = open(&options).await;
        store.keep_note(note, Vec::new()).await.unwrap();
        close(store).await;
    }
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
        open_files: None,
        more: vec!["--node.first-start=true".to_owned()],
    };
    let process = launch.spawn();
    process.ready().await;
    // A second process on the same directory is refused while the first one runs.
    start_fails(&flags, &[], 1, &["is in use by another process: is this node already running?"]);
    let (status, log) = process.terminate();
    assert!(status.success(), "{log:?}");
    let other = ["node", "--node-id", "n2", "--host", "localhost"];
    let replaced = home.cert(&[&other[..], &["--overwrite"]].concat());
    assert_fails(&replaced, 1, &["holds the certificate of node n1", "move both files away"]);
    for name in ["node.crt", "node.key"] {
        fs::remove_file(home.path("certs").join(name)).unwrap();
    }
    assert_succeeds(&home.cert(&other));
    start_fails(
        &flags,
        &["--node.id=n2", "--node.first-start"],
        1,
        &["belongs to node n1, but node.id is n2", "Give the node its own directory, or its own id back"],
    );
}
