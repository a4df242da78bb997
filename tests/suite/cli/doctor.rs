//! `doctor` and `debug bundle`: every wrong step that is easily made is named with what to do about it.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::harness::{
    admin::Admin,
    certs::Certs,
    cluster::Cluster,
    eventually,
    fake_peer::{FakePeer, Script},
    faketime::faketime,
    free_port,
    node::{TestNode, compacts_on_command, config},
    own_ca::{Leaf, OwnCa},
    process::{Launch, NODE_ADMIN, run_with},
    random_key,
    wire::{at, batch, create, origin},
};
use brock::{config::validate::Config, node::Node};
use brock_core::base::id::sha256;
use brock_net::pki::issue::LeafKind;
use data_encoding::{BASE64, HEXLOWER, HEXUPPER};
use serde_json::Value;

/// What it says: level, check, subject, what, fix of each line; and its exit code.
struct Said {
    lines: Vec<Value>,
    code: Option<i32>,
}

fn address_of(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

fn doctor(certs_dir: &Path, address: &str, more: &[&str], env: &[(&str, &str)]) -> Said {
    let arguments =
        ["--certs-dir", certs_dir.to_str().unwrap(), "--node-addresses", address, "doctor", "-o", "json"];
    let output = tokio::task::block_in_place(|| run_with(NODE_ADMIN, &[&arguments, more].concat(), "", env));
    let told = String::from_utf8_lossy(&output.stderr);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{told}"));
    Said { lines: report["lines"].as_array().unwrap().clone(), code: output.status.code() }
}

impl Said {
    /// There is a line of this check at this level that says this, and a remedy that says that.
    fn has(&self, level: &str, check: &str, what: &str, fix: &str) {
        let contains = |value: &Value, part: &str| value.as_str().unwrap().contains(part);
        let found = self.lines.iter().any(|line| {
            line["level"] == level
                && line["check"] == check
                && contains(&line["what"], what)
                && contains(&line["fix"], fix)
        });
        assert!(found, "{level} {check}: {what} -> {fix} is not in {:#?}", self.lines);
    }

    fn fails(&self, check: &str, what: &str, fix: &str) {
        self.has("fail", check, what, fix);
        assert_eq!(self.code, Some(9));
    }
}

async fn ram_node(certs: &Certs, change: impl FnOnce(Config) -> Config) -> TestNode {
    TestNode::start(certs, change(config(certs, "node-1", free_port(), &[]))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_wrong_with_a_cluster_in_order_and_a_dead_peer_is_named() {
    let mut cluster = Cluster::start_with(2, compacts_on_command).await;
    let certs = cluster.certs.admin();
    let address = cluster.node(0).address();
    let said = eventually("all is well", || async {
        let said = doctor(&certs, &address, &[], &[]);
        (said.code == Some(0)).then_some(said)
    })
    .await;
    for (check, what) in [
        ("certificates", "admin ops"),
        ("expiry", "ends in"),
        ("dns", "127.0.0.1"),
        ("tcp", "connected"),
        ("tls", "TLS 1.3 with node node-0"),
        ("call", "node-0 answers, version"),
        ("clock", "the same as here"),
        ("peer", "up, "),
        ("cluster", "All 2 nodes are well"),
    ] {
        said.has("ok", check, what, "");
    }
    let text = tokio::task::block_in_place(|| {
        Admin::new(&certs, std::slice::from_ref(&address)).run(&["doctor"], "")
    });
    assert!(String::from_utf8_lossy(&text.stdout).ends_with(" ok, 0 warn, 0 fail\n"));
    let port = cluster.ports[1];
    cluster.stop_node(1).await;
    let said = eventually("the dead peer is missed", || async {
        let said = doctor(&certs, &address, &[], &[]);
        let missed = said.lines.iter().any(|line| line["check"] == "peer" && line["level"] == "fail");
        missed.then_some(said)
    })
    .await;
    said.fails("peer", "refused", "node-admin doctor --config");
    said.fails("cluster", &format!("does not answer at 127.0.0.1:{port}"), "brock health");
    // One that was given up, and not removed from node.join, is no failure.
    tokio::task::block_in_place(|| {
        Admin::new(&certs, std::slice::from_ref(&address)).json(&["member", "retire", "node-1", "--yes"], "")
    });
    let said = eventually("no failure is left", || async {
        let said = doctor(&certs, &address, &[], &[]);
        (!said.lines.iter().any(|line| line["level"] == "fail")).then_some(said)
    })
    .await;
    said.has(
        "note",
        "peer",
        "node-1 is retired",
        &format!("remove 127.0.0.1:{port} from node.join of node-0"),
    );
    // It works although nothing answers.
    cluster.stop_node(0).await;
    let said = doctor(&certs, &address, &[], &[]);
    said.fails("tcp", "refused", "does the node run");
    said.fails("cluster", "its state is unknown", "");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_certificates_are_named_with_the_command_that_mends_them() {
    let (certs, others) = (Certs::new(), Certs::new());
    let elsewhere =
        LeafKind::Node { node_id: "node-1".parse().unwrap(), hosts: vec!["elsewhere.example".to_owned()] };
    let certs_dir = certs.leaf("elsewhere", elsewhere);
    let misnamed = Config { certs_dir, ..config(&certs, "node-1", free_port(), &[]) };
    let misnamed = Node::start(misnamed, None).await.unwrap();
    let address = misnamed.address().to_string();
    let said = doctor(&certs.admin(), &address, &[], &[]);
    said.fails("tls", "is not for 127.0.0.1: it names elsewhere.example", "--host 127.0.0.1");
    assert!(misnamed.stop().await.closed);

    let node = ram_node(&certs, |config| config).await;
    let address = node.address();
    let none = certs.path("none");
    doctor(&none, &address, &[], &[]).fails(
        "certificates",
        "there is no certificates directory",
        "brock cert admin",
    );
    let nobody = run_with(NODE_ADMIN, &["doctor"], "", &[]);
    let text = String::from_utf8_lossy(&nobody.stdout).into_owned();
    assert_eq!(nobody.status.code(), Some(9));
    assert!(text.contains("no certificates directory is named") && text.contains("context set"), "{text}");
    doctor(&others.admin(), &address, &[], &[]).fails(
        "tls",
        "not signed by a CA that we trust",
        "copy ca.crt",
    );
    // It is trusted by us, and does not trust us.
    let mixed = others.admin();
    fs::copy(certs.path("ca/ca.crt"), mixed.join("ca-other.crt")).unwrap();
    let said = doctor(&mixed, &address, &[], &[]);
    // In TLS 1.3 the refusal comes after our end is done, with the handshake of HTTP/2 or the first call.
    let refused =
        said.lines.iter().find(|line| line["what"].as_str().unwrap().contains("refused our certificate"));
    let refused = refused.unwrap_or_else(|| panic!("{:#?}", said.lines));
    assert!(refused["fix"].as_str().unwrap().contains("brock cert admin"), "{refused}");
    assert_eq!((refused["level"].as_str(), said.code), (Some("fail"), Some(9)));
    let said = doctor(&certs.client(), &address, &[], &[]);
    said.fails("certificates", "the role client may not do", "brock cert admin");
    said.fails("call", "not for the role client", "brock cert admin");
    let key = certs.admin().join("client.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    doctor(&certs.admin(), &address, &[], &[]).fails("certificates", "chmod 400", "");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o400)).unwrap();
    fs::write(certs.admin().join("ca.key"), "").unwrap();
    let said = doctor(&certs.admin(), &address, &[], &[]);
    said.has("warn", "certificates", "a CA's key lies among", "safe place");
    assert_eq!(said.code, Some(8));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_off_and_what_has_expired_by_it_are_named() {
    let Some(library) = faketime() else { return };
    let certs = Certs::new();
    let node = ram_node(&certs, |config| config).await;
    let at = |offset| [("LD_PRELOAD", library), ("FAKETIME", offset), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")];
    let said = doctor(&certs.admin(), &node.address(), &[], &at("+2h"));
    said.fails("clock", "s behind this machine's", "chrony");
    let said = doctor(&certs.admin(), &node.address(), &[], &at("+60s"));
    said.has("warn", "clock", "s behind this machine's", "date -u");
    let said = doctor(&certs.admin(), &node.address(), &[], &at("+2d"));
    said.fails("certificates", "it has expired", "brock cert admin");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_places_that_are_wrong_are_named() {
    let certs = Certs::new();
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).display().to_string();
    let said = doctor(&certs.admin(), "no-such-host.invalid:20004", &["--node.path", &at("none")], &[]);
    said.fails("dns", "no-such-host.invalid", "getent hosts");
    said.fails("path", "no such directory", "is the disk mounted");
    doctor(&certs.admin(), "nonsense", &[], &[]).fails("address", "names no port", "HOST:PORT");
    fs::create_dir(at("open")).unwrap();
    fs::set_permissions(at("open"), fs::Permissions::from_mode(0o755)).unwrap();
    doctor(&certs.admin(), "127.0.0.1:1", &["--node.path", &at("open")], &[]).has(
        "warn",
        "path",
        "others may read it",
        "chmod 700",
    );
    fs::write(at("file"), "").unwrap();
    let said = doctor(&certs.admin(), "127.0.0.1:1", &["--node.path", &at("file")], &[]);
    said.fails("path", "not a directory", "node.path");

    let port = free_port();
    let text = format!(
        "[node]\nid = \"node-1\"\npath = \"{}\"\ncerts-dir = \"{}\"\naddress = \"127.0.0.1:{port}\"\njoin = \"127.0.0.1:1\"\n",
        at("open"),
        certs.node("node-1").display()
    );
    fs::write(at("good.toml"), &text).unwrap();
    let address = format!("127.0.0.1:{port}");
    let said = doctor(&certs.admin(), &address, &["--config", &at("good.toml")], &[]);
    said.has("ok", "config", "valid: node node-1", "");
    said.has("ok", "certificates", "node node-1", "");
    said.has("note", "port", "nothing listens there", "");
    // Which node has the port is asked, not supposed.
    for (id, level, what) in
        [("node-1", "ok", "in use, by node-1"), ("node-3", "fail", "in use, by node node-3")]
    {
        let holder = TestNode::start(&certs, config(&certs, id, port, &[])).await;
        let said = doctor(&certs.admin(), &address_of(port), &["--config", &at("good.toml")], &[]);
        said.has(level, "port", what, if level == "ok" { "" } else { "ss -ltnp" });
        holder.stop().await;
    }
    let squatter = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let said =
        doctor(&certs.admin(), &address_of(port), &["--timeout", "300ms", "--config", &at("good.toml")], &[]);
    said.has("fail", "port", "in use, and not by the node", "ss -ltnp");
    drop(squatter);
    said.has("note", "hosts", "localhost, 127.0.0.1", "");
    assert!(said.lines.iter().any(|line| line["check"] == "tcp" && line["subject"] == "127.0.0.1:1"));
    // An address that is named, but blank, is none: the node of the file is asked.
    let arguments = ["--certs-dir", certs.admin().to_str().unwrap(), "doctor", "--config", &at("good.toml")]
        .map(str::to_owned);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let blank = run_with(NODE_ADMIN, &arguments, "", &[("NODE_ADMIN_NODE_ADDRESSES", "")]);
    let shown = String::from_utf8_lossy(&blank.stdout).into_owned();
    assert!(shown.contains(&address) && !shown.contains("no node is named"), "{shown}");
    // On a node's machine there is no operator's certificate, and none is missed.
    let alone = run_with(NODE_ADMIN, &["doctor", "--config", &at("good.toml"), "-o", "json"], "", &[]);
    let report: Value = serde_json::from_slice(&alone.stdout).unwrap();
    let own = |line: &&Value| line["check"] == "certificates";
    let levels: Vec<_> =
        report["lines"].as_array().unwrap().iter().filter(own).map(|l| &l["level"]).collect();
    assert_eq!(levels, ["note", "ok"], "{report:#}");
    // What a node that is started here would have.
    let good = at("good.toml");
    let few = ["-c", "ulimit -n 1024; exec \"$0\" doctor --config \"$1\"", NODE_ADMIN, &good];
    let few = run_with("sh", &few, "", &[]);
    let shown = String::from_utf8_lossy(&few.stdout).into_owned();
    assert!(shown.contains("1024: a node started from here accepts at most 448 connections"), "{shown}");
    fs::write(at("bad.toml"), format!("{text}adress = \"x\"\n")).unwrap();
    let said = doctor(&certs.admin(), &address, &["--config", &at("bad.toml")], &[]);
    said.fails("config", "did you mean 'node.address'", "brock config check --config");
    let other = text.replace("id = \"node-1\"", "id = \"node-2\"");
    fs::write(at("other.toml"), other).unwrap();
    let said = doctor(&certs.admin(), &address, &["--config", &at("other.toml")], &[]);
    said.fails("certificates", "that of node node-1, and node.id is node-2", "--node-id node-2");
    let ca = OwnCa::new();
    let nameless = ca.directory("node", &Leaf { uris: Vec::new(), ..Leaf::node("") });
    let certs_dir = certs.node("node-1").display().to_string();
    let proving = text.replace(&certs_dir, &nameless.display().to_string()) + "trust = \"distributed\"\n";
    fs::write(at("proving.toml"), proving).unwrap();
    let said = doctor(&certs.admin(), &address, &["--config", &at("proving.toml")], &[]);
    said.fails("certificates", "no SPIFFE URI, and with node.trust=distributed", "brock cert node");
    let operator = ca.directory("operator", &Leaf { uris: Vec::new(), ..Leaf::admin("") });
    let said = doctor(&operator, &address, &[], &[]);
    said.has(
        "note",
        "certificates",
        "cannot revoke or delete where node.trust is distributed",
        "brock cert admin",
    );
    let lists = text.replace("[node]\n", &format!("[node]\ncrl-dir = \"{}\"\n", at("lists")));
    fs::write(at("lists.toml"), lists).unwrap();
    let said = doctor(&certs.admin(), &address, &["--config", &at("lists.toml")], &[]);
    said.fails("certificates", "no directory of revocation lists", "node.crl-dir names a directory");
    fs::create_dir(at("lists")).unwrap();
    fs::write(at("lists/ca.crl"), "half of a list").unwrap();
    let said = doctor(&certs.admin(), &address, &["--config", &at("lists.toml")], &[]);
    said.fails("certificates", "lists/ca.crl holds no PEM list", "brock cert revoke");
    doctor(&certs.admin(), &address, &["--config", &at("none.toml")], &[]).fails(
        "config",
        "cannot be read",
        "",
    );
}

/// Reads a tar file with the `tar` program.
fn unpacked(file: &Path, into: &Path) -> Vec<String> {
    let listed = Command::new("tar")
        .args(["--extract", "--verbose", "--file"])
        .arg(file)
        .arg("--directory")
        .arg(into)
        .output()
        .unwrap();
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    String::from_utf8(listed.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_holds_what_helps_and_nothing_that_is_secret() {
    let certs = Certs::new();
    let directory = tempfile::tempdir().unwrap();
    let (twice, poisoned, deleted) = (random_key(), random_key(), random_key());
    let mut unknown = create(2, &poisoned, b"SECRETPOISON");
    unknown.operation = vec![8, 99].into();
    let entries = vec![create(1, &twice, b"SECRETLOSER"), unknown];
    let batches = vec![batch(origin("peer", 1), 0, 2, entries)];
    let peer = FakePeer::start(
        &certs,
        "peer",
        Script { heads: at(origin("peer", 1), 2), batches, ..Script::new("peer") },
    )
    .await;
    let mut launch = Launch::new(&certs, "node-1", &directory.path().join("node-1"));
    let backups = directory.path().join("backups");
    fs::create_dir(&backups).unwrap();
    launch.more.extend([
        "--node.backup.enabled=true".to_owned(),
        format!("--node.backup.bucket=file://{}", backups.display()),
    ]);
    launch.env.push(("BROCK_NODE_BACKUP_SECRET_ACCESS_KEY".to_owned(), PathBuf::from("SECRETS3KEY")));
    launch.env.push(("BROCK_NODE_BACKUP_ACCESS_KEY_ID".to_owned(), PathBuf::from("id")));
    let (process, client) = launch.start(&certs).await;
    client.put(&twice, b"SECRETWINNER").await.unwrap();
    client.put(&deleted, b"SECRETDELETED").await.unwrap();
    client.delete(&deleted, None).await.unwrap();
    // It learns of the other payload only after its own.
    drop(client);
    tokio::task::spawn_blocking(move || process.terminate()).await.unwrap();
    launch.join = vec![peer.port];
    launch.more.retain(|argument| !argument.starts_with("--node.first-start"));
    let (process, client) = launch.start(&certs).await;
    eventually("there is a conflict, and something in quarantine", || async {
        let status = client.status().await;
        (status.conflicts == 1 && status.quarantined == 1).then_some(())
    })
    .await;
    let admin = Admin::new(&certs.admin(), &[format!("127.0.0.1:{}", launch.port)]);
    let file = directory.path().join("bundle.tar");
    // The HTTP server of another node speaks TLS.
    let over_tls = Config {
        http_tls: true,
        http_address: Some("127.0.0.1:0".parse().unwrap()),
        ..config(&certs, "node-2", 0, &[])
    };
    let over_tls = TestNode::start(&certs, over_tls).await;
    let tls_port = over_tls.node.http_address().unwrap().port();
    let http = format!("127.0.0.1:{},127.0.0.1:1,127.0.0.1:{tls_port}", launch.http_port);
    let made = admin.run(&["debug", "bundle", "-f", file.to_str().unwrap(), "--http.address", &http], "");
    let told = String::from_utf8_lossy(&made.stderr).into_owned();
    assert!(made.status.success() && told.contains("Look into it"), "{told}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    admin.fails(2, "name another file", &["debug", "bundle", "-f", file.to_str().unwrap()], "");

    let into = directory.path().join("out");
    fs::create_dir(&into).unwrap();
    let names = unpacked(&file, &into);
    let read = |name: &str| fs::read_to_string(into.join("brock-debug").join(name)).unwrap();
    let manifest: Value = serde_json::from_str(&read("MANIFEST.json")).unwrap();
    for entry in manifest["files"].as_array().unwrap() {
        let name = entry["name"].as_str().unwrap();
        if name == format!("metrics-127-0-0-1-{tls_port}.txt") {
            // It answers; a node in this process has no metrics of its own.
            assert!(entry["error"].as_str().unwrap().ends_with("the answer is 404 Not Found"), "{entry}");
            continue;
        }
        let is_there = names.iter().any(|listed| listed.ends_with(name));
        assert_eq!(is_there, entry["error"] == "", "{entry}");
        assert_eq!(is_there, name != "metrics-127-0-0-1-1.txt", "{entry}");
    }
    let conflicts = read("conflicts.json");
    let quarantine = read("quarantine.json");
    assert!(
        conflicts.contains("\"key_hash\": \"[") && quarantine.contains("\"key_hash\": \"["),
        "{conflicts}{quarantine}"
    );
    assert!(read("configuration.json").contains("\"***\""), "the secret is there, and not shown");
    assert!(read(&format!("metrics-127-0-0-1-{}.txt", launch.http_port)).contains("brock_conflicts_total"));
    assert!(read("certificates.json").contains("admin ops") && read("doctor.json").contains("\"lines\""));
    assert!(read("cluster.json").contains("\"verdict\""));

    let bytes = fs::read(&file).unwrap();
    let holds = |secret: &[u8]| bytes.windows(secret.len()).any(|window| window == secret);
    for secret in ["SECRETS3KEY", "SECRETPOISON", "SECRETLOSER", "SECRETWINNER", "SECRETDELETED"] {
        assert!(!holds(secret.as_bytes()), "{secret}");
        assert!(!holds(HEXLOWER.encode(secret.as_bytes()).as_bytes()), "{secret} in hex");
        assert!(!holds(HEXUPPER.encode(secret.as_bytes()).as_bytes()), "{secret} in hex");
        // Wherever it begins in what is encoded.
        for before in 0..3 {
            let encoded = BASE64.encode(&[&vec![0; before], secret.as_bytes()].concat());
            let own = (before * 8).div_ceil(6)..(before + secret.len()) * 8 / 6;
            assert!(!holds(encoded[own].as_bytes()), "{secret} in base64");
        }
    }
    for key in [&twice, &poisoned, &deleted] {
        for form in [HEXLOWER.encode(key), HEXUPPER.encode(key), BASE64.encode(key)] {
            assert!(!holds(form.as_bytes()), "a key hash");
        }
        assert!(!holds(&HEXLOWER.encode(&key[..8]).into_bytes()), "the beginning of a key hash");
        assert!(!holds(HEXLOWER.encode(&sha256(key)).as_bytes()), "a hash of a key hash can be tried");
    }
    for dir in [certs.admin(), certs.node("node-1"), certs.path("safe")] {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "key") {
                let key = fs::read_to_string(path).unwrap();
                assert!(key.lines().all(|line| !holds(line.as_bytes())), "a private key");
            }
        }
    }
    assert!(!holds(b"PRIVATE KEY"));
    drop(client);
    tokio::task::spawn_blocking(move || process.terminate()).await.unwrap();
}
