//! Backups of nodes as processes, in an S3-compatible store, with the commands that operators use.

use std::{fs, path::PathBuf, process::Output};

use crate::harness::{
    admin::Admin,
    brock::{assert_fails, assert_succeeds, brock_with, stderr},
    certs::Certs,
    client::Client,
    eventually,
    files::{flip_bit, tree},
    free_port,
    process::{Launch, Process},
    random_key,
    s3::{ACCESS_KEY, BUCKET, Fault, Op, S3Server, SECRET},
};
use age::{secrecy::ExposeSecret, x25519};
use brock_core::proto::{BackupNowRequest, BackupStatus, verify_response::Verdict};
use serde_json::Value;
use tempfile::TempDir;
use tonic::Code;

const SECRET_ENV: &str = "BROCK_NODE_BACKUP_SECRET_ACCESS_KEY";
const CANARY: &[u8] = b"canary-in-a-coal-mine";

/// A store for backups, a CA, and the identity that decrypts.
struct Site {
    certs: Certs,
    home: TempDir,
    server: S3Server,
    identity: x25519::Identity,
}

impl Site {
    async fn new() -> Self {
        let (certs, home) = (Certs::new(), tempfile::tempdir().unwrap());
        let (server, identity) = (S3Server::start().await, x25519::Identity::generate());
        fs::write(home.path().join("identity"), identity.to_string().expose_secret()).unwrap();
        Self { certs, home, server, identity }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// A node that ships what is done at once.
    fn launch(&self, id: &str) -> Launch {
        let mut launch = Launch::new(&self.certs, id, &self.path(id));
        let recipient = self.identity.to_public().to_string();
        let endpoint = self.server.endpoint();
        for (flag, value) in [
            ("enabled", "true"),
            ("endpoint", &endpoint),
            ("bucket", BUCKET),
            ("prefix", "brock"),
            ("sync-interval", "200ms"),
            ("recipient", &recipient),
            ("access-key-id", ACCESS_KEY),
        ] {
            launch.more.push(format!("--node.backup.{flag}={value}"));
        }
        launch.env.push((SECRET_ENV.to_owned(), SECRET.into()));
        launch
    }

    fn admin(&self, launch: &Launch) -> Admin {
        Admin::new(&self.certs.admin(), &[format!("127.0.0.1:{}", launch.port)])
    }

    /// `brock backup …` at the store.
    fn backup(&self, command: &str, more: &[&str]) -> Output {
        let (url, endpoint) = (format!("s3://{BUCKET}/brock"), self.server.endpoint());
        let place = ["backup", command, "--from", &url, "--node.backup.endpoint", &endpoint];
        let who = ["--node.backup.access-key-id", ACCESS_KEY];
        let arguments = [&place[..], &who, more].concat();
        tokio::task::block_in_place(|| brock_with(&arguments, &[(SECRET_ENV, SECRET)]))
    }

    fn verify(&self, more: &[&str]) -> Output {
        let identity = self.path("identity");
        self.backup("verify", &[&["--identity", identity.to_str().unwrap()], more].concat())
    }

    fn restore(&self, more: &[&str]) -> Output {
        let identity = self.path("identity");
        self.backup("restore", &[&["--identity", identity.to_str().unwrap()], more].concat())
    }
}

async fn backup_of(client: &Client) -> BackupStatus {
    client.status().await.backup.unwrap()
}

/// Waits until everything that the node has applied is in the store.
async fn shipped(client: &Client) {
    eventually("all is backed up", || async {
        let made = client.admin.clone().backup_now(BackupNowRequest { full: false }).await.unwrap();
        made.into_inner().backup.is_none().then_some(())
    })
    .await;
    assert_eq!(backup_of(client).await.last_error, "");
}

async fn stopped(process: Process) {
    let (status, log) = tokio::task::spawn_blocking(move || process.terminate()).await.unwrap();
    assert!(status.success(), "{log:?}");
}

/// Everything that lies in the store, manifests included.
fn objects(site: &Site) -> Vec<PathBuf> {
    let is_object = |path: &PathBuf| {
        path.is_file()
            && path.extension().is_some_and(|end| end == "age" || end == "json")
            && !path.file_name().unwrap().to_string_lossy().starts_with('.')
    };
    let mut found: Vec<PathBuf> = tree(&site.server.bucket()).into_keys().filter(is_object).collect();
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_of_a_node_in_an_s3_store_verify_restore_and_hide_what_they_hold() {
    let site = Site::new().await;
    let launch = site.launch("node-1");
    let (process, client) = launch.start(&site.certs).await;
    let admin = site.admin(&launch);
    let keys: Vec<Vec<u8>> = (0..40).map(|_| random_key()).collect();
    for key in &keys[..20] {
        client.put(key, CANARY).await.unwrap();
    }
    let full = admin.json(&["backup", "now", "--full"], "");
    assert_eq!((&full["backup"]["kind"], &full["backup"]["records"]), (&"full".into(), &20.into()));
    for key in &keys[20..] {
        client.put(key, CANARY).await.unwrap();
    }
    client.delete(&keys[0], None).await.unwrap();
    client.invalidate(&keys[1], "leaked", None).await.unwrap();
    eventually("it is shipped without being asked for", || async {
        backup_of(&client).await.last_key.contains("incremental").then_some(())
    })
    .await;
    shipped(&client).await;
    let backup = eventually("it has read again what it made", || async {
        Some(backup_of(&client).await).filter(|backup| backup.last_verified_unix_ms > 0)
    })
    .await;
    assert_eq!((backup.verify_error.as_str(), backup.failures), ("", 0));
    assert!(backup.place.starts_with("s3://backups/brock"), "{}", backup.place);
    let listed = admin.json(&["backup", "list"], "")["backups"].as_array().unwrap().clone();
    assert_eq!(listed[0]["kind"], "full");
    let signer = client.status().await.backup_public_key;
    assert!(listed.iter().all(|backup| backup["public_key"] == signer.as_str()));
    assert_eq!(process.complaints(&[]), [""; 0]);
    assert!(process.log().iter().all(|line| !line.contains(SECRET)));
    stopped(process).await;
    for path in objects(&site) {
        let bytes = fs::read(&path).unwrap();
        let shows = bytes.windows(CANARY.len()).any(|window| window == CANARY);
        assert!(!shows, "{} shows a record", path.display());
    }

    assert_fails(&site.verify(&["--signer", &signer[..16]]), 2, &["a whole public key", "64 hex digits"]);
    assert_fails(
        &site.verify(&["--node-id", "node-9"]),
        1,
        &["there is no backup of node-9 at", "there are backups of node-1"],
    );
    let verified = site.verify(&["--signer", &signer]);
    assert_succeeds(&verified);
    assert!(String::from_utf8_lossy(&verified.stdout).contains("39 records, 1 tombstone,"), "{verified:?}");
    // Single records, without a storage for them.
    let hex = |key: &[u8]| data_encoding::HEXLOWER.encode(key);
    let one = site.restore(&["--key", &hex(&keys[30]), "--key", &hex(&keys[1])]);
    assert_succeeds(&one);
    let lines: Vec<Value> = one
        .stdout
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect();
    assert_eq!(lines.len(), 2);
    for line in &lines {
        assert_eq!(line["encrypted_access_grant"], data_encoding::BASE64.encode(CANARY));
        let expected = if line["key_hash"] == hex(&keys[1]) { "INVALIDATED" } else { "CREATED" };
        assert_eq!(line["state"], expected);
    }
    let all = site.restore(&["--key", "*"]);
    assert_succeeds(&all);
    assert_eq!(String::from_utf8_lossy(&all.stdout).lines().count(), 40);
    assert!(
        !String::from_utf8_lossy(&all.stdout).contains("encrypted_access_grant"),
        "a list has no secrets"
    );
    let missing = site.restore(&["--key", &hex(&[0; 32])]);
    assert_fails(&missing, 1, &["no record for 1 of the requested keys"]);

    let restored = site.path("restored");
    assert_succeeds(&site.restore(&["--node.path", restored.to_str().unwrap()]));
    assert_fails(&site.restore(&["--node.path", restored.to_str().unwrap()]), 1, &["is not empty"]);
    let mut launch = site.launch("node-1");
    (launch.path, launch.more[0]) = (restored, "--node.first-start=false".to_owned());
    let (process, client) = launch.start(&site.certs).await;
    let code = async |key: &[u8]| client.get_local(key).await.err().map(|status| status.code());
    assert_eq!(code(&keys[0]).await, Some(Code::NotFound));
    assert_eq!(code(&keys[1]).await, Some(Code::FailedPrecondition));
    for key in &keys[2..] {
        assert_eq!(client.get_local(key).await.unwrap().encrypted_access_grant, CANARY);
    }
    // A new life, with a key and full backups of its own.
    assert_ne!(client.status().await.backup_public_key, signer);
    let again = site.admin(&launch).json(&["backup", "now", "--full"], "");
    assert_eq!(again["backup"]["records"], 39);
    assert_eq!(process.complaints(&[]), [""; 0]);
    stopped(process).await;
    assert_succeeds(&site.verify(&[]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_for_a_while_delays_nothing_and_is_tried_again() {
    let site = Site::new().await;
    site.server.fault(Op::List, 2, Fault::Answer(503, "SlowDown"));
    site.server.fault(Op::Put, usize::MAX, Fault::Answer(403, "AccessDenied"));
    let launch = site.launch("node-1");
    let (process, client) = launch.start(&site.certs).await;
    client.put(&random_key(), b"grant").await.unwrap();
    let failing = eventually("the failure shows", || async {
        Some(backup_of(&client).await).filter(|backup| backup.failures > 1)
    })
    .await;
    assert!(failing.last_error.contains("access denied"), "{}", failing.last_error);
    assert_eq!((failing.last_key.as_str(), failing.last_success_unix_ms), ("", 0));
    let key = random_key();
    client.put(&key, b"grant").await.unwrap();
    assert!(client.status().await.ready, "a node without backups serves all the same");
    site.admin(&launch).fails(5, "give the access key the permission", &["backup", "now"], "");
    // Told once, however often it is tried.
    assert_eq!(process.complaints(&[]).len(), 1, "{:?}", process.complaints(&[]));
    site.server.heal();
    eventually("it is made without being asked for", || async {
        let backup = backup_of(&client).await;
        (!backup.last_key.is_empty() && backup.last_error.is_empty()).then_some(())
    })
    .await;
    stopped(process).await;
    assert_succeeds(&site.verify(&[]));
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_are_told_and_never_shown() {
    let site = Site::new().await;
    let mut launch = site.launch("node-1");
    let wrong = "not-the-secret-of-anybody";
    launch.env = vec![(SECRET_ENV.to_owned(), wrong.into())];
    let (process, client) = launch.start(&site.certs).await;
    let told = format!("does not accept access key {ACCESS_KEY}");
    site.admin(&launch).fails(5, &told, &["backup", "now"], "");
    assert!(backup_of(&client).await.last_error.contains(&told));
    assert!(process.log().iter().any(|line| line.contains(&told)));
    assert!(process.log().iter().all(|line| !line.contains(wrong)));
    stopped(process).await;
    let shown = brock_with(&["config", "show"], &[(SECRET_ENV, wrong)]);
    assert!(!String::from_utf8_lossy(&shown.stdout).contains(wrong));
    let listed = site.backup("list", &["--node.backup.secret-access-key", SECRET]);
    assert_fails(&listed, 1, &["other users of this machine can read the command line"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn encryption_that_cannot_be_honoured_stops_the_start() {
    let site = Site::new().await;
    for (flag, value, part) in [
        ("recipient", "age1nonsense", "which is not an age recipient"),
        ("recipient", site.identity.to_string().expose_secret(), "contains a private key"),
        ("bucket", "", "node.backup.bucket"),
        ("bucket", "No_Such Bucket", "is not the name of a bucket"),
        ("prefix", "../up", "cannot be a prefix"),
        ("endpoint", "ftp://store", "endpoint"),
        ("retention", "1h", "is not a retention"),
        ("secret-access-key", "in-plain-sight", "other users of this machine can read the command line"),
        ("secret-access-key", "@/nowhere/at/all", "cannot be read"),
    ] {
        let mut launch = site.launch("node-1");
        launch.more.retain(|argument| !argument.starts_with(&format!("--node.backup.{flag}=")));
        launch.more.push(format!("--node.backup.{flag}={value}"));
        let arguments = launch.arguments();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let env: &[(&str, &str)] = if flag == "secret-access-key" { &[] } else { &[(SECRET_ENV, SECRET)] };
        let output = tokio::task::block_in_place(|| brock_with(&arguments, env));
        let told = stderr(&output);
        assert!(matches!(output.status.code(), Some(code) if code != 0), "{flag}={value}: {told}");
        assert!(told.contains(part), "{flag}={value}: {told}");
        assert!(!told.contains("AGE-SECRET-KEY-1") && !told.contains("in-plain-sight"), "{told}");
    }
    assert!(objects(&site).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_killed_while_it_backs_up_leaves_what_was_there_and_goes_on() {
    let site = Site::new().await;
    let launch = site.launch("node-1");
    let mut keys = Vec::new();
    // Killed while the part, then while the manifest is under way.
    for (round, passes) in [0, 1].into_iter().enumerate() {
        let mut launch = site.launch("node-1");
        (launch.port, launch.http_port) = (free_port(), free_port());
        if round > 0 {
            launch.more[0] = "--node.first-start=false".to_owned();
        }
        let (process, client) = launch.start(&site.certs).await;
        keys.push(random_key());
        client.put(keys.last().unwrap(), b"grant").await.unwrap();
        shipped(&client).await;
        let held = keys.len();
        site.server.take_seen();
        site.server.fault(Op::Put, passes, Fault::Pass);
        site.server.fault(Op::Put, usize::MAX, Fault::Stall);
        keys.push(random_key());
        client.put(keys.last().unwrap(), b"grant").await.unwrap();
        eventually("it is under way", || async { (site.server.count(Op::Put) > passes).then_some(()) }).await;
        process.kill();
        site.server.heal();
        let verified = site.verify(&[]);
        assert_succeeds(&verified);
        let told = String::from_utf8_lossy(&verified.stdout).into_owned();
        assert!(told.contains(&format!("good, {held} record")), "round {round}: {told}");
    }
    let mut launch = launch;
    launch.more[0] = "--node.first-start=false".to_owned();
    let (process, client) = launch.start(&site.certs).await;
    shipped(&client).await;
    stopped(process).await;
    let verified = site.verify(&[]);
    assert!(String::from_utf8_lossy(&verified.stdout).contains(&format!("good, {} records", keys.len())));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_missing_or_forged_is_named() {
    let site = Site::new().await;
    let launch = site.launch("node-1");
    let (process, client) = launch.start(&site.certs).await;
    client.put(&random_key(), b"grant").await.unwrap();
    let admin = site.admin(&launch);
    admin.json(&["backup", "now", "--full"], "");
    client.put(&random_key(), b"grant").await.unwrap();
    shipped(&client).await;
    stopped(process).await;
    assert_succeeds(&site.verify(&[]));
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    // The chain of the newest one.
    let all = objects(&site);
    let from =
        all.iter().rposition(|path| name(path).contains("-full-") && name(path).contains(".00001.")).unwrap();
    let chain: Vec<&PathBuf> = all[from..].iter().collect();
    assert!(chain.len() >= 4, "{chain:?}");
    for path in chain {
        let good = fs::read(path).unwrap();
        flip_bit(path, good.len() / 2);
        assert_fails(&site.verify(&[]), 1, &[&name(path)]);
        // A newest manifest that is gone is a backup that never was.
        if Some(path) != all.last() {
            fs::remove_file(path).unwrap();
            assert_fails(&site.verify(&[]), 1, &[&name(path)]);
        }
        fs::write(path, &good).unwrap();
    }
    let manifest = all.iter().rfind(|path| name(path).ends_with(".manifest.json")).unwrap();
    let good = fs::read_to_string(manifest).unwrap();
    let forged = good.replace("\\\"records\\\":2", "\\\"records\\\":3");
    assert_ne!(forged, good);
    fs::write(manifest, forged).unwrap();
    assert_fails(&site.verify(&[]), 1, &["signature", &name(manifest)]);
    fs::write(manifest, good).unwrap();
    assert_succeeds(&site.verify(&[]));
    // In all of that nothing was left behind, and a damaged one installs nothing.
    flip_bit(&all[from], 100);
    let path = site.path("restored");
    assert_fails(&site.restore(&["--node.path", path.to_str().unwrap()]), 1, &[&name(&all[from])]);
    assert!(!path.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_cluster_that_is_lost_comes_back_from_its_newest_backups() {
    let site = Site::new().await;
    let ids = ["node-1", "node-2", "node-3"];
    let mut launches: Vec<Launch> = ids.iter().map(|id| site.launch(id)).collect();
    let ports: Vec<u16> = launches.iter().map(|launch| launch.port).collect();
    for (i, launch) in launches.iter_mut().enumerate() {
        launch.join = ports.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, port)| *port).collect();
    }
    let mut nodes = Vec::new();
    for launch in &launches {
        nodes.push(launch.start(&site.certs).await);
    }
    let keys: Vec<Vec<u8>> = (0..30).map(|_| random_key()).collect();
    for (i, key) in keys.iter().enumerate() {
        nodes[i % 3].1.put(key, b"grant").await.unwrap();
    }
    converged(&nodes, 30).await;
    nodes[1].1.delete(&keys[0], None).await.unwrap();
    nodes[2].1.invalidate(&keys[1], "leaked", None).await.unwrap();
    // The last one is known to one node alone when it goes.
    let (last, alone) = (random_key(), nodes.pop().unwrap());
    converged(&nodes, 29).await;
    for (process, client) in nodes {
        shipped(&client).await;
        process.kill();
    }
    alone.1.put(&last, b"grant").await.unwrap();
    shipped(&alone.1).await;
    alone.0.kill();
    for id in ids {
        fs::remove_dir_all(site.path(id)).unwrap();
    }

    let path = site.path("node-1");
    let several = site.restore(&["--node.path", path.to_str().unwrap()]);
    assert_fails(&several, 1, &["--node-id", "node-1, node-2, node-3"]);
    let mut nodes = Vec::new();
    for (id, launch) in ids.iter().zip(&mut launches) {
        let path = site.path(id);
        assert_succeeds(&site.restore(&["--node-id", id, "--node.path", path.to_str().unwrap()]));
        launch.more[0] = "--node.first-start=false".to_owned();
        nodes.push(launch.start(&site.certs).await);
    }
    converged(&nodes, 30).await;
    for (_, client) in &nodes {
        let code = async |key: &[u8]| client.get_local(key).await.err().map(|status| status.code());
        assert_eq!(code(&keys[0]).await, Some(Code::NotFound));
        assert_eq!(code(&keys[1]).await, Some(Code::FailedPrecondition));
        for key in keys[2..].iter().chain([&last]) {
            assert_eq!(code(key).await, None);
        }
    }
    eventually("all hold the same", || async {
        (nodes[0].1.verify().await.verdict() == Verdict::Converged).then_some(())
    })
    .await;
}

/// Claim: however often the log is compacted, what lies in it is backed up first: between full backups
/// only what is new is shipped. A node that has nothing makes no backup at all.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_compacted_all_the_time_makes_no_backup_a_full_one() {
    let site = Site::new().await;
    let mut launch = site.launch("node-1");
    launch.more.extend(["--compact-mode=timer".to_owned(), "--compact-timer=1".to_owned()]);
    let (process, client) = launch.start(&site.certs).await;
    let admin = site.admin(&launch);
    assert_eq!(admin.json(&["backup", "list"], "")["backups"], Value::Array(Vec::new()));
    let mut compacted = 0;
    eventually("the log was compacted several times between backups", || {
        let client = &client;
        compacted += 1;
        async move {
            client.put(&random_key(), b"grant").await.unwrap();
            let removed = client.status().await.log_entries < client.status().await.records;
            (compacted > 300 && removed).then_some(())
        }
    })
    .await;
    shipped(&client).await;
    let listed = admin.json(&["backup", "list"], "")["backups"].as_array().unwrap().clone();
    let fulls = listed.iter().filter(|backup| backup["kind"] == "full").count();
    assert!(fulls == 1 && listed.len() > 3, "{fulls} of {} are full", listed.len());
    stopped(process).await;
    assert_succeeds(&site.verify(&[]));
}

/// Waits until every node holds so many records, and lacks nothing of the others.
async fn converged(nodes: &[(Process, Client)], records: u64) {
    eventually("all nodes hold the same", || async {
        for (_, client) in nodes {
            if client.status().await.records != records {
                return None;
            }
        }
        Some(())
    })
    .await;
}
