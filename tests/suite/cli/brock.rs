//! The `brock` command as its users meet it: certificates, configuration, and starts that fail.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
};

use crate::harness::{
    brock::{Home, assert_fails, assert_succeeds, brock, brock_with, stderr, stdout},
    process::BROCK,
};
use brock::config::settings::SETTINGS;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn cert_makes_what_a_cluster_needs_and_no_key_is_readable_by_others() {
    let home = Home::new();
    let node = ["node", "--node-id", "n1", "--host", "localhost", "--host", "127.0.0.1", "--host", "::1"];
    assert_succeeds(&home.cert(&node));
    assert_succeeds(&home.cert(&["client", "--name", "app"]));
    for key in ["certs/node.key", "certs/client.key", "safe/ca.key"] {
        assert_eq!(mode(&home.path(key)), 0o400, "{key}");
    }
    for certificate in ["certs/ca.crt", "certs/node.crt", "certs/client.crt"] {
        assert_eq!(mode(&home.path(certificate)) & 0o022, 0, "{certificate} may be changed by others");
    }
    assert!(!home.path("certs/ca.key").exists());
    // Another program reads the same in it.
    let read = |file: &str| {
        let path = home.path(file);
        let output = Command::new("openssl").args(["x509", "-noout", "-text", "-in"]).arg(path).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    let node = read("certs/node.crt");
    for part in [
        "URI:spiffe://brock/node/n1",
        "DNS:localhost",
        "IP Address:127.0.0.1",
        "IP Address:0:0:0:0:0:0:0:1",
        "TLS Web Server Authentication",
        "TLS Web Client Authentication",
        "prime256v1",
    ] {
        assert!(node.contains(part), "{part} is not in\n{node}");
    }
    assert!(read("certs/client.crt").contains("URI:spiffe://brock/client/app"));
    let verified = Command::new("openssl")
        .args(["verify", "-CAfile"])
        .args([home.path("certs/ca.crt"), home.path("certs/node.crt"), home.path("certs/client.crt")])
        .output()
        .unwrap();
    assert!(verified.status.success(), "{verified:?}");
}

#[test]
fn cert_overwrites_only_when_told_to() {
    let home = Home::new();
    let admin = ["admin", "--name", "ops"];
    assert_succeeds(&home.cert(&admin));
    let files = ["certs/ca.crt", "safe/ca.key", "certs/client.crt", "certs/client.key"];
    let before = files.map(|file| fs::read(home.path(file)).unwrap());
    assert_fails(&home.cert(&["ca"]), 1, &["ca.crt exists already and was left as it is", "--overwrite"]);
    assert_fails(&home.cert(&admin), 1, &["client.crt exists already", "--overwrite"]);
    assert_eq!(files.map(|file| fs::read(home.path(file)).unwrap()), before);
    assert_succeeds(&home.cert(&["admin", "--name", "ops", "--overwrite"]));
    assert_ne!(fs::read(home.path(files[3])).unwrap(), before[3]);
    assert_eq!(mode(&home.path(files[3])), 0o400);
    // One of the pair is enough to stop it.
    fs::remove_file(home.path(files[2])).unwrap();
    assert_fails(&home.cert(&admin), 1, &["client.key exists already"]);
}

/// Nodes refuse what is signed with a certificate of another trust domain: the last place to look for the reason.
#[test]
fn cert_keeps_the_trust_domain_and_the_holder_of_what_it_replaces() {
    let home = Home::new();
    let node = ["node", "--node-id", "n1", "--host", "localhost"];
    assert_succeeds(&home.cert(&[&node[..], &["--trust-domain", "prod"]].concat()));
    let domain = || {
        let path = format!("--node.certs-dir={}", home.certs);
        let checked = brock(&["config", "check", "--node.id=n1", "--node.path=ram:", &path]);
        assert_succeeds(&checked);
        let said = stdout(&checked);
        let (_, domain) = said.split_once("of the trust domain ").unwrap();
        domain.split(';').next().unwrap().to_owned()
    };
    assert_eq!(domain(), "prod");
    let again = home.cert(&[&node[..], &["--overwrite"]].concat());
    assert_succeeds(&again);
    assert!(
        stderr(&again).contains("of the trust domain prod, as the certificate before"),
        "{}",
        stderr(&again)
    );
    assert_eq!(domain(), "prod");
    let other = home.cert(&[&node[..], &["--overwrite", "--trust-domain", "brock"]].concat());
    assert_succeeds(&other);
    for part in [
        "warning: the certificate before was of the trust domain prod",
        "repeat this with --trust-domain prod",
    ] {
        assert!(stderr(&other).contains(part), "{part}: {}", stderr(&other));
    }
    assert_eq!(domain(), "brock");
    // Another holder's key is not thrown away.
    let key = fs::read(home.path("certs/node.key")).unwrap();
    let stranger = ["node", "--node-id", "n2", "--host", "localhost", "--overwrite"];
    assert_fails(&home.cert(&stranger), 1, &["holds the certificate of node n1", "name another directory"]);
    assert_eq!(fs::read(home.path("certs/node.key")).unwrap(), key);
    assert_succeeds(&home.cert(&["client", "--name", "app"]));
    // A person's may be replaced, with a word.
    let renamed = home.cert(&["admin", "--name", "app", "--overwrite"]);
    assert_succeeds(&renamed);
    assert!(stderr(&renamed).contains("this replaces the certificate of client app"), "{}", stderr(&renamed));
}

#[test]
fn cert_says_which_files_to_copy_those_of_the_second_chain_too() {
    let node = ["node", "--node-id", "n1", "--host", "localhost"];
    let second = ["--post-quantum", "ml-dsa-44"];
    let said = |home: &Home, arguments: &[&str]| {
        let made = home.cert(arguments);
        assert_succeeds(&made);
        stderr(&made)
    };
    let one = Home::new();
    let first = said(&one, &node);
    let start = "--node.trust distributed --node.require-uri-roles --node.join HOST:20004";
    assert!(first.contains("Copy ca.crt, node.crt and node.key to the node, and start"), "{first}");
    assert!(first.contains(start), "{first}");
    // The second chain comes later.
    let authority = said(&one, &[&["ca"], &second[..]].concat());
    let to_all = format!("Now copy {}/ca-pq.crt into the certificates directory of every node", one.certs);
    assert!(authority.contains(&to_all) && !authority.contains("mkdir"), "{authority}");
    let later = said(&one, &[&node, &second[..]].concat());
    assert!(later.contains("Once all others have ca-pq.crt, copy node-pq.crt and node-pq.key to"), "{later}");
    // Or both at once.
    let both = Home::new();
    let authorities = said(&both, &[&["ca", "--overwrite"], &second[..]].concat());
    let copies = format!("cp {0}/ca.crt {0}/ca-pq.crt pki/ID/\n", both.certs);
    assert!(authorities.contains(&copies), "{authorities}");
    assert!(authorities.contains("--host HOST --post-quantum ml-dsa-44\n"), "{authorities}");
    let pair = said(&both, &[&node, &second[..]].concat());
    let files =
        "Copy ca.crt, ca-pq.crt, node.crt, node.key, node-pq.crt and node-pq.key to the node, and start";
    assert!(pair.contains(files), "{pair}");
    let again = said(&both, &[&node, &second[..], &["--overwrite"]].concat());
    let files = "Copy node.crt, node.key, node-pq.crt and node-pq.key to the node: it reloads";
    assert!(again.contains(files), "{again}");
    // Both of a stolen pair must be revoked.
    let revoke = |home: &Home, names: &[&str]| {
        let files = names.iter().map(|name| format!("{}/{name}.crt", home.certs));
        let files: Vec<String> = files.collect();
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        said(home, &[&["revoke"][..], &files].concat())
    };
    let one_left = revoke(&both, &["node"]);
    assert!(one_left.contains("node-pq.crt is the same holder's and is not revoked"), "{one_left}");
    assert!(
        one_left.contains("1 revoked in all of CN=Brock CA ") && one_left.contains("/ca-pq.key"),
        "{one_left}"
    );
    let second_key = both.path("safe/ca-pq.key").display().to_string();
    let second_certificate = format!("{}/node-pq.crt", both.certs);
    let second = ["cert", "revoke", "--certs-dir", &both.certs, "--ca-key", &second_key, &second_certificate];
    let second = brock(&second);
    assert_succeeds(&second);
    assert!(!stderr(&second).contains("same holder"), "the first one is on the list: {}", stderr(&second));
    let key = format!("{}/node.key", both.certs);
    assert_fails(&both.cert(&["revoke", &key]), 1, &["it is a key. Name the file of the certificate"]);
    let other = Home::new();
    let strong = said(&other, &["ca", "--overwrite", "--algorithm", "ecdsa-p384"]);
    assert!(strong.ends_with("--host HOST\n"), "the certificates follow the CA: {strong}");
}

#[test]
fn cert_says_what_is_wrong_and_what_would_be_right() {
    let home = Home::new();
    let elsewhere = home.path("none").display().to_string();
    let cases: [(&[&str], i32, &[&str]); 8] = [
        (&["node", "--node-id", "n1"], 2, &["--host"]),
        (&["node", "--node-id", "n 1", "--host", "a"], 2, &["--node-id"]),
        (&["node", "--node-id", "n1", "--host", "a:20004"], 1, &["a:20004", "without port"]),
        (&["client", "--name", "no/slash"], 1, &["no/slash", "letters, digits"]),
        (&["client", "--name", "a", "--lifetime", "0s"], 1, &["choose a lifetime of at least 1m"]),
        (&["client", "--name", "a", "--lifetime", "200000h"], 1, &["beyond the CA's end", "--lifetime"]),
        (&["client", "--name", "a", "--lifetime", "1 year"], 2, &["--lifetime"]),
        (&["admin"], 2, &["--name"]),
    ];
    for (arguments, code, parts) in cases {
        assert_fails(&home.cert(arguments), code, parts);
    }
    let no_key =
        brock(&["cert", "client", "--name", "a", "--certs-dir", &home.certs, "--ca-key", &elsewhere]);
    assert_fails(&no_key, 1, &["there is no CA key", "brock cert ca"]);
    let inside = format!("{}/ca.key", home.certs);
    let output = brock(&["cert", "ca", "--certs-dir", &home.certs, "--ca-key", &inside, "--overwrite"]);
    assert_fails(&output, 1, &["would lie inside the certificates directory", "Keep it elsewhere"]);
    let other = Home::new();
    let mixed = brock(&["cert", "client", "--name", "a", "--certs-dir", &home.certs, "--ca-key", &other.key]);
    assert_fails(&mixed, 1, &["is not the key of any CA certificate"]);
    assert!(!home.path("certs/client.key").exists(), "a failure left a key behind");
}

#[test]
fn config_shows_where_every_value_came_from() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("brock.toml");
    fs::write(&file, "[node]\nid = \"from-file\"\ncerts-dir = \"c\"\npath = \"d\"\nreplication-limit = 7\n")
        .unwrap();
    let file = file.display().to_string();
    let env = [("BROCK_NODE_ID", "from-env"), ("BROCK_NODE_CERTS_DIR", "from-env"), ("BROCK_NODE_PATH", "")];
    let flags = ["config", "show", "-o", "json", "--config", &file, "--node.id", "from-flag"];
    let output = brock_with(&flags, &env);
    assert_succeeds(&output);
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let at = |key: &str| [shown[key]["value"].clone(), shown[key]["source"].clone()];
    assert_eq!(at("node.id"), ["from-flag", "flag"]);
    assert_eq!(at("node.certs-dir"), ["from-env", "environment BROCK_NODE_CERTS_DIR"]);
    assert_eq!(at("node.replication-limit"), ["7".to_owned(), format!("{file}:5")]);
    // An empty variable counts as not set: before, it put the data into RAM.
    assert_eq!(at("node.path"), ["d".to_owned(), format!("{file}:4")]);
    assert_eq!(at("node.replication-interval"), ["30s", "default"]);
    assert_eq!(shown.as_object().unwrap().len(), SETTINGS.len());
    // The file may be named by the environment, too, and text names the same sources.
    let output = brock_with(&["config", "show"], &[("BROCK_CONFIG", &file)]);
    assert!(stdout(&output).lines().any(|line| line.starts_with("node.id") && line.ends_with(":2")));
    let output = brock_with(&["config", "check"], &[("BROCK_CONFIG", &file)]);
    assert_succeeds(&output);
    assert_eq!(
        stdout(&output),
        "the settings are valid, the certificates were not looked at (there is no c here); `node-admin doctor --config FILE` \
         also checks other files, ports and peers\n"
    );
    // What it shows as TOML is a configuration with the same values.
    let toml = brock(&["config", "show", "-o", "toml", "--config", &file]);
    let copy = home.path().join("copy.toml");
    fs::write(&copy, &toml.stdout).unwrap();
    assert_succeeds(&brock(&["config", "check", "--config", copy.to_str().unwrap()]));
}

#[test]
fn config_names_every_mistake_at_once_with_key_source_and_fix() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("brock.toml");
    fs::write(&file, "[node]\nreplication_limit = 5\njoin = 7\n[http]\naddress = \"nowhere\"\n").unwrap();
    let file = file.display().to_string();
    let flags = ["--config", &file, "--node.payload-limit=2MiB", "--node.id=a b", "--node.join=host"];
    let env = [("BROCK_NODE_REPLICATION_INTERVAL", "soon"), ("BROCK_NODE_PATHH", "x")];
    for command in [&["config", "check"][..], &["run"]] {
        let output = brock_with(&[command, &flags].concat(), &env);
        assert_fails(
            &output,
            2,
            &[
                &format!("{file}:2: there is no setting 'node.replication_limit'"),
                "did you mean 'node.replication-limit'",
                &format!("http.address: the value 'nowhere' ({file}:5)"),
                "write HOST:PORT",
                "node.payload-limit: the value '2MiB' (flag) is out of bounds; write a value from 1 to 1048576",
                "node.id: the value 'a b' (flag)",
                "node.join",
                "node.replication-interval: the value 'soon' (environment BROCK_NODE_REPLICATION_INTERVAL)",
                "environment BROCK_NODE_PATHH: there is no such setting; did you mean BROCK_NODE_PATH",
                "node.certs-dir is required: pass --node.certs-dir or set BROCK_NODE_CERTS_DIR",
            ],
        );
    }
    let output = brock(&["config", "check", "--config", "/does/not/exist.toml"]);
    assert_fails(&output, 2, &["/does/not/exist.toml", "check --config"]);
    fs::write(&file, "node = [").unwrap();
    assert_fails(&brock(&["config", "check", "--config", &file]), 2, &[&file, "this is not TOML"]);
}

#[test]
fn a_command_line_that_makes_no_sense_exits_with_2_and_names_it() {
    let cases: [(&[&str], &str); 6] = [
        (&[], "Usage"),
        (&["dance"], "dance"),
        (&["run", "--node.idd=a"], "--node.idd"),
        (&["run", "--node.id", "a", "--node.id", "b"], "--node.id"),
        (&["cert"], "Usage"),
        (&["dev", "--nodes", "0"], "--nodes"),
    ];
    for (arguments, part) in cases {
        assert_fails(&brock(arguments), 2, &[part]);
    }
}

#[test]
fn config_check_finds_certificates_with_which_the_node_would_not_start() {
    let home = Home::new();
    assert_succeeds(&home.cert(&["node", "--node-id", "n1", "--host", "localhost"]));
    let check = |id: &str| {
        let id = format!("--node.id={id}");
        brock(&["config", "check", &id, "--node.path=ram:", "--node.certs-dir", &home.certs])
    };
    let output = check("n1");
    assert_succeeds(&output);
    assert!(stdout(&output).contains("and so are the certificates in"), "{}", stdout(&output));
    assert_fails(&check("n2"), 1, &["that of node n1, but node.id is n2"]);
    fs::remove_file(home.path("certs/node.key")).unwrap();
    assert_fails(&check("n1"), 1, &["node.key"]);
}

#[test]
fn config_check_names_a_level_for_a_peer_that_is_not_joined() {
    let check = |join: &str| {
        let join = format!("--node.join={join}");
        let level = "--node.wire-encryption-peers=node-3:20004=128";
        brock(&["config", "check", "--node.id=a", "--node.path=ram:", "--node.certs-dir=/none", &join, level])
    };
    let output = check("node-2:20004");
    assert_succeeds(&output);
    for part in ["warning: node.wire-encryption-peers names node-3:20004", "not in node.join"] {
        assert!(stderr(&output).contains(part), "{part}: {}", stderr(&output));
    }
    // What DNS lists, only the running node learns.
    for join in ["node-2:20004,node-3:20004", "dns+nodes:20004"] {
        assert_eq!(stderr(&check(join)), "", "{join}");
    }
}

#[test]
fn a_path_that_no_shell_has_expanded_and_a_directory_with_two_uses_are_refused() {
    let check = |path: &str, certs: &str| {
        brock(&[
            "config",
            "check",
            "--node.id=a",
            &format!("--node.path={path}"),
            &format!("--node.certs-dir={certs}"),
        ])
    };
    assert_succeeds(&check("/srv/brock", "/etc/brock"));
    assert_fails(&check("~/data", "/etc/brock"), 2, &["node.path", "~/data", "only a shell replaces"]);
    assert_fails(&check("/srv/${NODE}", "certs"), 2, &["node.path", "contains a variable"]);
    assert_fails(&check("/srv/brock", "~brock"), 2, &["node.certs-dir", "~brock"]);
    assert_fails(&check("same", "./same/"), 2, &["node.path", "is also node.certs-dir"]);
    let lists =
        ["config", "check", "--node.id=a", "--node.certs-dir=c", "--node.path=l", "--node.crl-dir=l/"];
    assert_fails(&brock(&lists), 2, &["node.path", "is also node.crl-dir"]);
    for bucket in ["file://~/b", "file:///srv/${HOME}/b"] {
        let backup = ["--node.backup.enabled", &format!("--node.backup.bucket={bucket}")];
        let line = [&["config", "check", "--node.id=a", "--node.certs-dir=c", "--node.path=d"][..], &backup];
        assert_fails(&brock(&line.concat()), 2, &["node.backup.bucket", "only a shell replaces"]);
    }
    assert_fails(
        &brock(&["cert", "ca", "--certs-dir=~/pki", "--ca-key=k"]),
        2,
        &["--certs-dir", "only a shell"],
    );
}

#[test]
fn a_name_in_a_certificate_has_no_dot_at_the_end() {
    let home = Home::new();
    let made = home.cert(&["node", "--node-id=a", "--host=n2.test.", "--lifetime=2h"]);
    assert_succeeds(&made);
    // The end of two hours is a time, not only a day.
    let told = stderr(&made);
    assert!(told.contains(", valid until 20") && told.contains("Z\n"), "{told}");
    let names = Command::new("openssl")
        .args(["x509", "-noout", "-ext", "subjectAltName", "-in"])
        .arg(home.path("certs/node.crt"))
        .output()
        .unwrap();
    let names: Vec<String> = stdout(&names).split([',', '\n', ' ']).map(str::to_owned).collect();
    assert!(names.contains(&"DNS:n2.test".to_owned()), "{names:?}");
}

#[test]
fn a_key_for_backups_is_confirmed_or_not_made_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("key");
    let keygen = format!("{BROCK} backup keygen --out {}", out.display());
    let sh = |line: String| Command::new("bash").args(["-c", &line]).output().unwrap();
    let refused = sh(format!("{keygen} < /dev/null"));
    assert_fails(&refused, 1, &["use --yes", "Nothing was written"]);
    assert!(!stderr(&refused).contains("holds the only key") && !out.exists(), "{}", stderr(&refused));
    // A reader that closes the pipe makes no panic, and the key is there.
    let piped = sh(format!("{keygen} --yes | true; exit ${{PIPESTATUS[0]}}"));
    assert_succeeds(&piped);
    assert!(out.exists() && !stderr(&piped).contains("panicked"), "{}", stderr(&piped));
}

#[test]
fn help_lists_every_setting_with_its_variable_and_default() {
    let help = brock(&["run", "--help"]);
    assert_succeeds(&help);
    let text = stdout(&help).split_whitespace().collect::<Vec<_>>().join(" ");
    for setting in SETTINGS {
        let default = if setting.default.is_empty() { "empty" } else { setting.default };
        let parts = [format!("--{}", setting.key), format!("[env: {}] [default: {default}]", setting.env())];
        for part in parts {
            assert!(text.contains(&part), "{part} is not in\n{text}");
        }
    }
    for command in [&["--help"][..], &["cert", "--help"], &["cert", "node", "--help"], &["dev", "--help"]] {
        let output = brock(command);
        assert_succeeds(&output);
        assert_eq!(stderr(&output), "");
    }
    assert_eq!(stdout(&brock(&["--version"])), format!("brock {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_node_is_healthy_although_its_answer_cannot_be_printed() {
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    let answers = std::thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        let mut request = [0; 1024];
        let _ = stream.read(&mut request).unwrap();
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 6\r\n\r\nready\n")
            .unwrap();
    });
    let line = format!("{BROCK} health --http-address={address} > /dev/full");
    let output = Command::new("bash").args(["-c", &line]).output().unwrap();
    assert_succeeds(&output);
    assert!(stderr(&output).contains("the node is healthy; its answer could not be printed"), "{output:?}");
    answers.join().unwrap();
}

#[test]
fn a_node_that_does_not_answer_is_not_healthy() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("--http-address={}", silent.local_addr().unwrap());
    let output = brock(&["health", "--timeout=200ms", &address]);
    assert_fails(&output, 1, &["the node does not answer at http://127.0.0.1:", "is it running"]);
    drop(silent);
    assert_fails(&brock(&["health", &address]), 1, &["the node does not answer", "refused"]);
    assert_fails(&brock_with(&["health"], &[("BROCK_HTTP_ADDRESS", "off")]), 1, &["http.address is off"]);
    assert_fails(&brock(&["health", "--http-address=20005"]), 1, &["it has no port"]);
    let empty = brock_with(&["health", &address], &[("BROCK_HTTP_ADDRESS", "")]);
    assert_fails(&empty, 1, &["the node does not answer at http://127.0.0.1:"]);
    assert!(
        stdout(&brock_with(&["health", "--help"], &[("BROCK_HTTP_ADDRESS", "")])).contains("127.0.0.1:20005")
    );
}
