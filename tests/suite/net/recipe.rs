//! The openssl recipe in `certs-example/` makes certificates that a cluster runs on.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use brock_net::tls::{
    credentials::{ClientIdentity, Identity},
    roles::RolePolicy,
};
use serde_json::Value;

use crate::harness::{
    brock::{assert_fails, brock},
    certs::Certs,
    client::Client,
    eventually, free_port,
    process::{BROCK, Launch, NODE_ADMIN, run},
    random_key,
};

/// Runs the script as its README says.
fn make_certs(directory: &Path, hosts: &[&str]) -> std::process::Output {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/certs-example/make-certs.sh");
    Command::new("sh").arg(script).arg(directory).args(hosts).output().unwrap()
}

/// Moves what was made for one node, and `ca.crt`, to its own directory.
fn take(from: &Path, to: &Path, stem: &str) -> PathBuf {
    std::fs::create_dir_all(to).unwrap();
    std::fs::copy(from.join("certs/ca.crt"), to.join("ca.crt")).unwrap();
    for end in ["crt", "key"] {
        std::fs::rename(from.join(format!("certs/{stem}.{end}")), to.join(format!("{stem}.{end}"))).unwrap();
    }
    to.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_runs_on_the_openssl_recipes_certificates() {
    let home = tempfile::tempdir().unwrap();
    let ca = home.path().join("ca");
    let mut directories = Vec::new();
    for (i, hosts) in [&["localhost", "127.0.0.1"][..], &[]].iter().enumerate() {
        let made = make_certs(&ca, hosts);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        directories.push(take(&ca, &home.path().join(format!("node-{i}")), "node"));
        let admin = take(&ca, &home.path().join(format!("admin-{i}")), "client");
        assert!(admin.join("client.key").exists());
    }
    let admin_dir = home.path().join("admin-0");

    let ports = [free_port(), free_port()];
    let launch = |i: usize| Launch {
        id: format!("node-{i}"),
        path: home.path().join(format!("data-{i}")),
        certs_dir: directories[i].clone(),
        port: ports[i],
        http_port: free_port(),
        join: vec![ports[1 - i]],
        env: Vec::new(),
        open_files: None,
        more: vec!["--node.first-start=true".to_owned()],
    };
    let processes = [launch(0).spawn(), launch(1).spawn()];
    let mut clients = Vec::new();
    for port in ports {
        let address = format!("127.0.0.1:{port}").parse().unwrap();
        let config = Certs::config(&admin_dir);
        eventually("the node answers", || async {
            brock_net::channel::open_channel(&address, config.clone()).await.ok()
        })
        .await;
        clients.push(Client::connect(&address.to_string(), &admin_dir).await);
    }

    // A client's certificate without a URI is an administrator's: it writes, reads and operates.
    let addresses = [0, 1].map(|i: usize| format!("127.0.0.1:{}", ports[i]));
    let key = data_encoding::HEXLOWER.encode(&random_key());
    let admin = |address: &str, arguments: &[&str], input: &str| {
        let certs_dir = admin_dir.to_str().unwrap();
        let common = ["--certs-dir", certs_dir, "--node-addresses", address, "-o", "json"];
        run(NODE_ADMIN, &[&common, arguments].concat(), input)
    };
    let put = admin(&addresses[0], &["record", "put", &key], r#"{"encrypted_access_grant":"Z3JhbnQ="}"#);
    assert!(put.status.success(), "{}", String::from_utf8_lossy(&put.stderr));
    let shown = eventually("the other node holds it", || async {
        let shown = admin(&addresses[1], &["record", "show", &key, "--local"], "");
        shown.status.success().then_some(shown)
    })
    .await;
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown["encrypted_access_grant"], "Z3JhbnQ=");
    let status = admin(&addresses[1], &["status"], "");
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!((&status["node_id"], &status["peers"][0]["node_id"]), (&"node-1".into(), &"node-0".into()));

    drop(clients);
    for process in processes {
        let (status, log) = process.terminate();
        assert!(status.success(), "{log:?}");
        assert!(
            log.iter().any(|line| line.contains("states no role (it has no SPIFFE URI)")),
            "a certificate without a role draws no warning: {log:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_uris_the_recipe_is_enough_for_distributed_trust_and_without_them_a_start_says_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    let hosts = ["localhost", "127.0.0.1", "spiffe://brock/node/node-1", "spiffe://brock/admin/ops"];
    let [named, nameless] = [("named", &hosts[..]), ("nameless", &hosts[..2])].map(|(name, hosts)| {
        let made = make_certs(&home.path().join(name), hosts);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        home.path().join(name).join("certs")
    });
    let launch = |certs_dir: &Path, more: &[&str]| Launch {
        id: "node-1".to_owned(),
        path: home.path().join("data"),
        certs_dir: certs_dir.to_owned(),
        port: free_port(),
        http_port: free_port(),
        join: Vec::new(),
        env: Vec::new(),
        open_files: None,
        more: [&["--node.first-start", "--node.trust=distributed"], more]
            .concat()
            .iter()
            .map(ToString::to_string)
            .collect(),
    };
    let roles = "--node.require-uri-roles";
    let ways = [
        "no SPIFFE URI",
        "brock cert node --node-id node-1",
        "URI:spiffe://DOMAIN/node/node-1",
        "to centralized",
    ];
    let refused = [
        "no spiffe URI",
        "(node.require-uri-roles)",
        "`brock cert`",
        "URI:spiffe://DOMAIN/node|client|admin/NAME",
    ];
    for (more, parts) in [(&[][..], ways), (&[roles], refused)] {
        let arguments = launch(&nameless, more).arguments();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let parts = [&parts[..], &["docs/guides/certificates.md"]].concat();
        assert_fails(&brock(&arguments), 1, &parts);
        assert_fails(&brock(&[&["config", "check"], &arguments[1..]].concat()), 1, &parts);
    }
    assert!(!home.path().join("data").exists(), "a start that failed made a database");

    let launch = launch(&named, &[roles]);
    let process = launch.spawn();
    let address = format!("127.0.0.1:{}", launch.port);
    let operate = |arguments: &[&str], input: &str| {
        let common = ["--certs-dir", named.to_str().unwrap(), "--node-addresses", &address];
        run(NODE_ADMIN, &[&common, arguments].concat(), input)
    };
    let key = data_encoding::HEXLOWER.encode(&random_key());
    eventually("a record is written", || async {
        let put = operate(&["record", "put", &key], r#"{"encrypted_access_grant":"Z3JhbnQ="}"#);
        assert!(process.is_running(), "{:?}", process.log());
        put.status.success().then_some(())
    })
    .await;
    for arguments in [&["record", "invalidate", &key, "leaked"][..], &["record", "delete", &key, "--yes"]] {
        let done = operate(arguments, "");
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    }
    assert!(process.terminate().0.success());
}

#[test]
fn the_recipe_replaces_no_key_and_refuses_strange_hosts() {
    let home = tempfile::tempdir().unwrap();
    assert!(make_certs(home.path(), &["localhost"]).status.success());
    let key = std::fs::read(home.path().join("certs/node.key")).unwrap();
    let again = make_certs(home.path(), &["localhost"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("exists already"));
    assert_eq!(std::fs::read(home.path().join("certs/node.key")).unwrap(), key);
    for strange in ["a,URI:spiffe://brock/admin/x", "spiffe://brock/node/n,DNS:x", "spiffe://brock/nodes/n"] {
        assert_eq!(make_certs(&home.path().join("other"), &[strange]).status.code(), Some(2), "{strange}");
    }
    assert!(!home.path().join("other").exists());
}

#[test]
fn the_recipes_ca_revokes_with_openssl_and_with_brock() {
    let home = tempfile::tempdir().unwrap();
    assert!(make_certs(home.path(), &["localhost"]).status.success());
    let (certs, list) = (home.path().join("certs"), home.path().join("certs/ca.crl"));
    let openssl = |arguments: &[&str]| {
        let common =
            ["ca", "-config", "ca.cnf", "-keyfile", "safe-directory/ca.key", "-cert", "certs/ca.crt"];
        let mut command = Command::new("openssl");
        let output = command.args(common).args(arguments).current_dir(home.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let load = || Identity::load(&certs, RolePolicy::default()).unwrap();
    assert_eq!(load().authorities()[0].revoked, 0);
    openssl(&["-revoke", "certs/client.crt"]);
    // Without a section of extensions, openssl writes a list of version 1.
    openssl(&["-gencrl", "-crldays", "30", "-out", "certs/ca.crl"]);
    assert_eq!(load().authorities()[0].revoked, 1);
    let refused = || ClientIdentity::load(&certs).unwrap_err().to_string();
    assert!(refused().contains("it has been revoked"), "{}", refused());

    std::fs::remove_file(&list).unwrap();
    assert!(ClientIdentity::load(&certs).is_ok());
    let [certs_dir, key, client] = ["certs", "safe-directory/ca.key", "certs/client.crt"]
        .map(|path| home.path().join(path).to_str().unwrap().to_owned());
    let output = run(BROCK, &["cert", "revoke", "--certs-dir", &certs_dir, "--ca-key", &key, &client], "");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(load().authorities()[0].revoked, 1);
    assert!(refused().contains("it has been revoked"), "{}", refused());
}
