//! Levels of wire encryption: which ends come together, with what, and what those that do not are told.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use brock::{config::validate::Config, node::Node};
use brock_client::calls;
use brock_core::proto;
use brock_net::{
    channel::open_channel,
    dial::dial_in_halves,
    pki::{
        issue::{LeafKind, MakeError, MakeLeaf, make_leaf},
        revoke::{Revoke, revoke},
    },
    tls::{
        TlsError,
        credentials::{ClientIdentity, Identity},
        level::{
            WireLevel::{self, Bits128, Bits192, Bits256, Default as AnyLevel},
            WireLevels,
        },
        roles::RolePolicy,
    },
};
use tokio::task::spawn_blocking;

use crate::harness::{
    certs::Certs,
    eventually, free_port,
    metrics::Page,
    node::{config, node_with},
    process::{Launch, NODE_ADMIN, run},
    wire_levels::{Acceptor, Authorities, Tap, attempt, extension, identity, shares},
};

const KINDS: [&str; 5] = ["ecdsa-p256", "ecdsa-p384", "ed25519", "ml-dsa-65", "ml-dsa-87"];
const STRONG: [&str; 2] = ["ecdsa-p384", "ml-dsa-87"];

fn load(directory: &Path, level: WireLevel) -> Result<Identity, TlsError> {
    Identity::load_at(directory, None, RolePolicy::default(), level.into())
}

/// Every level and kind of certificate dials every level and kind: 289 pairs, as three
/// kinds are too weak for 256.
#[tokio::test(flavor = "multi_thread")]
async fn two_ends_come_together_exactly_if_level_and_certificates_allow_it() {
    let authorities = Authorities::new(&KINDS);
    let mut ends = Vec::new();
    for kind in KINDS {
        let directory = authorities.trusting(&format!("node-{kind}"), &KINDS);
        authorities.issue(&directory, "node-1", kind, false);
        for level in WireLevel::ALL {
            match load(&directory, level) {
                Ok(identity) => ends.push((kind, level, Acceptor::start(&identity).await, identity)),
                Err(error) => {
                    assert!(level == Bits256 && !STRONG.contains(&kind), "{kind} at {level}: {error}");
                    let text = error.to_string();
                    assert!(matches!(error, TlsError::TooWeak { .. }) && text.contains(kind), "{text}");
                }
            }
        }
    }
    assert_eq!(ends.len(), 5 * 4 - 3);
    let mut together = 0;
    for (kind, level, _, dialling) in &ends {
        for (other_kind, other_level, acceptor, _) in &ends {
            let what = format!("{kind} at {level} dials {other_kind} at {other_level}");
            let levels = [*level, *other_level];
            let is_possible = level == other_level || levels.contains(&AnyLevel);
            let is_strong = [kind, other_kind].iter().all(|kind| STRONG.contains(kind));
            let outcome = attempt(&dialling.dialler(), &acceptor.address).await;
            if !is_possible || levels.contains(&Bits256) && !is_strong {
                let refusal = outcome.expect_err(&what);
                let part = if is_possible { "256" } else { "requires wire encryption" };
                assert!(
                    refusal.contains(part) || refusal.contains("none that it takes"),
                    "{what}: {refusal}"
                );
                continue;
            }
            let negotiated = outcome.unwrap_or_else(|error| panic!("{what}: {error}"));
            let group = if levels.contains(&Bits256) { "SecP384r1MLKEM1024" } else { "X25519MLKEM768" };
            let suite =
                if levels.contains(&Bits128) { "TLS_AES_128_GCM_SHA256" } else { "TLS_AES_256_GCM_SHA384" };
            assert_eq!(negotiated.to_string(), format!("{group}, {suite}, {other_kind}"), "{what}");
            together += 1;
        }
    }
    // Default with all three, and each level with itself; at 256 two kinds by two.
    assert_eq!(together, 5 * 5 * (1 + 2 + 2 + 1 + 1) + 2 * 2 * 3);
    for (.., acceptor, _) in ends {
        acceptor.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_ends_are_told_in_words_what_is_missing() {
    let authorities = Authorities::new(&["ecdsa-p256", "ecdsa-p384"]);
    let directory = |id: &str, kind: &str| {
        let directory = authorities.trusting(id, &["ecdsa-p256", "ecdsa-p384"]);
        authorities.issue(&directory, id, kind, false);
        directory
    };
    let (strong, weak) = (directory("strong", "ecdsa-p384"), directory("weak", "ecdsa-p256"));
    let [at_128, at_256] = [Bits128, Bits256].map(|level| identity(&strong, level));
    let (low, high) = (Acceptor::start(&at_128).await, Acceptor::start(&at_256).await);
    let told = async |dialling: &Identity, to: &Acceptor, parts: &[&str]| {
        let told = attempt(&dialling.dialler(), &to.address).await.unwrap_err();
        for part in parts {
            assert!(told.contains(part), "{told} lacks {part}");
        }
    };
    let requires = "requires wire encryption 256 (SecP384r1MLKEM1024 with TLS_AES_256_GCM_SHA384)";
    told(&at_256, &low, &[requires, "has X25519MLKEM768, TLS_AES_128_GCM_SHA256, ecdsa-p384"]).await;
    told(&at_128, &high, &["requires wire encryption 128", "has SecP384r1MLKEM1024"]).await;
    // The certificate is too weak: of the caller, and of the one that is called.
    let weak_caller = identity(&weak, AnyLevel);
    told(&weak_caller, &high, &["refused our certificate as too weak", "P-384", "ML-DSA-87"]).await;
    let weak_called = Acceptor::start(&weak_caller).await;
    told(&at_256, &weak_called, &["too weak for wire encryption 256", "P-384"]).await;
    // A leaf of P-384 under a CA of P-256 is no stronger than that.
    let mixed = authorities.trusting("mixed", &["ecdsa-p256", "ecdsa-p384"]);
    let kind = LeafKind::Node { node_id: "mixed".parse().unwrap(), hosts: vec!["127.0.0.1".to_owned()] };
    let leaf = MakeLeaf {
        certs_dir: mixed.clone(),
        ca_key: authorities.key("ecdsa-p256"),
        kind,
        trust_domain: "brock".to_owned(),
        lifetime: Duration::from_secs(3600),
        overwrite: false,
        algorithm: Some("ecdsa-p384".parse().unwrap()),
        second: false,
    };
    make_leaf(&leaf).unwrap();
    let error = load(&mixed, Bits256).unwrap_err().to_string();
    assert!(error.contains("a certificate above it is too weak"), "{error}");
    told(&identity(&mixed, AnyLevel), &high, &["refused our certificate as too weak"]).await;
    // The level of one peer: this node is at the default, and dials one peer at 256 and one at 192.
    let levels = |address: &str, level| WireLevels {
        node: AnyLevel,
        peers: BTreeMap::from([(address.to_owned(), level)]),
    };
    let open = Acceptor::start(&identity(&strong, AnyLevel)).await;
    let dialling = identity(&strong, levels(&open.address, Bits256));
    let negotiated = attempt(&dialling.dialler(), &open.address).await.unwrap();
    assert_eq!(negotiated.group, "SecP384r1MLKEM1024");
    assert!(attempt(&dialling.dialler(), &low.address).await.is_ok());
    // The doctor's handshake in two packets takes the level of the peer too.
    let peers = BTreeMap::from([(high.address.clone(), Bits256)]);
    let dialling = identity(&strong, WireLevels { node: Bits192, peers }).dialler();
    dial_in_halves(&high.address.parse().unwrap(), &dialling).await.unwrap();
    told(&identity(&strong, levels(&low.address, Bits192)), &low, &["requires wire encryption 192"]).await;
    let error = Identity::load_at(&weak, None, RolePolicy::default(), levels("a:1", Bits256)).unwrap_err();
    assert!(matches!(error, TlsError::TooWeak { .. }), "{error}");
    assert!(error.to_string().contains("256 (node.wire-encryption-peers)"), "{error}");
    for acceptor in [low, high, weak_called, open] {
        acceptor.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_chain_is_shown_to_those_that_can_read_it() {
    let (classical, pq) = ("ecdsa-p256", "ml-dsa-87");
    let authorities = Authorities::new(&[classical, pq]);
    let directory = |name: &str, trusted: &[&str]| {
        let directory = authorities.trusting(name, trusted);
        authorities.issue(&directory, "node-1", classical, false);
        directory
    };
    let (old, both) = (directory("old", &[classical]), directory("both", &[classical, pq]));
    let [older, newer] = [&old, &both].map(|directory| identity(directory, AnyLevel));
    let acceptor = Acceptor::start(&newer).await;
    let signature = async |dialling: &Identity| {
        attempt(&dialling.dialler(), &acceptor.address).await.unwrap().signature.as_str()
    };
    assert_eq!([signature(&older).await, signature(&newer).await], [classical, classical]);
    assert_eq!(newer.expiries().len(), 3);
    // The second chain arrives while the node runs; at 256 it is the one that counts.
    assert!(matches!(load(&both, Bits256), Err(TlsError::TooWeak { .. })));
    authorities.issue(&both, "node-1", pq, true);
    newer.refresh(&"node-1".parse().unwrap()).unwrap();
    assert_eq!([signature(&older).await, signature(&newer).await], [classical, pq]);
    assert_eq!(newer.expiries().len(), 4);
    let seen = eventually("the caller's certificate is seen as post-quantum", || async {
        newer
            .negotiated()
            .keys()
            .find(|(end, wire)| *end == "accepted" && wire.signature.as_str() == pq)
            .cloned()
    });
    let (kept, seen) = tokio::join!(keep(&newer, &acceptor), seen);
    drop((kept, seen));
    let high = identity(&both, Bits256);
    assert!(attempt(&high.dialler(), &acceptor.address).await.is_ok());
    let high_acceptor = Acceptor::start(&high).await;
    assert!(attempt(&newer.dialler(), &high_acceptor.address).await.is_ok());
    assert!(attempt(&older.dialler(), &high_acceptor.address).await.is_err());
    // Tools have one too.
    let tool = authorities.trusting("tool", &[classical, pq]);
    for (algorithm, second) in [(classical, false), (pq, true)] {
        authorities.issue_as(&tool, LeafKind::Admin { name: "ops".to_owned() }, algorithm, second);
    }
    assert!(attempt(&ClientIdentity::load(&tool).unwrap().dialler(), &high_acceptor.address).await.is_ok());
    acceptor.stop().await;
    high_acceptor.stop().await;

    // What cannot be a second chain is refused by name.
    let refused = |id: &str, algorithm: &str, second: bool, part: &str| {
        let directory = directory(&format!("{id}-{algorithm}-{second}"), &[classical, pq]);
        authorities.issue(&directory, id, algorithm, second);
        let error = load(&directory, AnyLevel).unwrap_err();
        assert!(matches!(error, TlsError::SecondChain { .. }) && error.to_string().contains(part), "{error}");
    };
    refused("node-2", pq, true, "it is that of node node-2");
    refused("node-1", classical, true, "of the kind ecdsa-p256");
    fs::remove_file(both.join("ca-ml-dsa-87.crt")).unwrap();
    assert!(load(&both, AnyLevel).is_err());
    let kind = LeafKind::Client { name: "app".to_owned() };
    let under_classical = MakeLeaf {
        certs_dir: old,
        ca_key: authorities.key(classical),
        kind,
        trust_domain: "brock".to_owned(),
        lifetime: Duration::from_secs(3600),
        overwrite: false,
        algorithm: Some(pq.parse().unwrap()),
        second: false,
    };
    assert!(matches!(make_leaf(&under_classical), Err(MakeError::ClassicalCa { .. })));
}

/// A connection that stays open.
async fn keep(dialling: &Identity, acceptor: &Acceptor) -> brock_net::dial::Dialled {
    brock_net::dial::dial(&acceptor.address.parse().unwrap(), dialling.dialler()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_ml_dsa_ca_revokes_is_refused_and_a_changed_list_is_not_used() {
    for algorithm in ["ml-dsa-44", "ml-dsa-65", "ml-dsa-87"] {
        let authorities = Authorities::new(&[algorithm]);
        let [victim, thief] = ["node-1", "node-2"].map(|id| {
            let directory = authorities.trusting(id, &[algorithm]);
            authorities.issue(&directory, id, algorithm, false);
            directory
        });
        let (accepting, dialling) = (identity(&victim, AnyLevel), identity(&thief, AnyLevel));
        let acceptor = Acceptor::start(&accepting).await;
        assert!(attempt(&dialling.dialler(), &acceptor.address).await.is_ok(), "{algorithm}");
        let request = |certificate: &Path| Revoke {
            certs_dir: authorities.path(algorithm),
            ca_key: authorities.key(algorithm),
            certificates: vec![certificate.to_owned()],
        };
        let list = revoke(&request(&thief.join("node.crt"))).unwrap().list;
        // A second call reads the first list, which ML-DSA has signed.
        assert_eq!(revoke(&request(&thief.join("node.crt"))).unwrap().total, 1);
        fs::copy(&list, victim.join("ca.crl")).unwrap();
        accepting.refresh(&"node-1".parse().unwrap()).unwrap();
        let told = attempt(&dialling.dialler(), &acceptor.address).await.unwrap_err();
        assert!(told.contains("has been revoked"), "{algorithm}: {told}");
        assert_eq!(accepting.authorities()[0].revoked, 1);
        // Of another CA with another key: the certificate is not its own.
        let strangers = Authorities::new(&[algorithm]);
        let foreign = Revoke {
            certs_dir: strangers.path(algorithm),
            ca_key: strangers.key(algorithm),
            certificates: vec![thief.join("node.crt")],
        };
        assert!(matches!(revoke(&foreign), Err(MakeError::OfAnotherCa { .. })));
        let text = fs::read_to_string(&list).unwrap();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let middle = lines.len() / 2;
        lines[middle] = lines[middle].chars().rev().collect();
        fs::write(victim.join("ca.crl"), lines.join("\n") + "\n").unwrap();
        assert!(matches!(load(&victim, AnyLevel), Err(TlsError::RevocationList { .. })), "{algorithm}");
        acceptor.stop().await;
    }
}

/// The groups that stand for themselves in the messages.
const HELLO_RETRY: [u8; 8] = [0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11];

#[tokio::test(flavor = "multi_thread")]
async fn the_pinned_share_is_sent_at_once_and_a_proxy_that_strips_it_gets_no_connection() {
    let authorities = Authorities::new(&["ecdsa-p384"]);
    let directory = authorities.trusting("node-1", &["ecdsa-p384"]);
    authorities.issue(&directory, "node-1", "ecdsa-p384", false);
    let at = |level| identity(&directory, level);
    for (level, expected) in [
        (AnyLevel, vec![0x11ec, 0x001d]),
        (Bits128, vec![0x11ec, 0x001d]),
        (Bits192, vec![0x11ec]),
        (Bits256, vec![0x11ed]),
    ] {
        let acceptor = Acceptor::start(&at(level)).await;
        let tap = Tap::start(&acceptor.address, |hello| vec![hello.to_vec()]).await;
        attempt(&at(level).dialler(), &tap.address).await.unwrap();
        let (hello, answer) = tap.seen.lock().unwrap().clone();
        assert_eq!(shares(&hello), expected, "{level}");
        let has_retry = |answer: &[u8]| answer.windows(8).any(|window| window == HELLO_RETRY);
        assert!(!has_retry(&answer), "{level} needs a second round trip");
        // An end at the default needs one with 256, and no other.
        let tap = Tap::start(&acceptor.address, |hello| vec![hello.to_vec()]).await;
        attempt(&at(AnyLevel).dialler(), &tap.address).await.unwrap();
        assert_eq!(has_retry(&tap.seen.lock().unwrap().1), level == Bits256, "{level}");

        // In pieces, as a network with small packets or a proxy delivers it.
        let tap = Tap::start(&acceptor.address, |hello| {
            hello.chunks(hello.len() / 2 + 1).map(<[u8]>::to_vec).collect()
        })
        .await;
        attempt(&at(level).dialler(), &tap.address).await.unwrap();
        let tap = Tap::start(&acceptor.address, |hello| {
            vec![hello[..1].to_vec(), hello[1..6].to_vec(), hello[6..].to_vec()]
        })
        .await;
        attempt(&at(level).dialler(), &tap.address).await.unwrap();

        // The post-quantum offers are stripped, in the list and in the shares; then only the first of the suites stays.
        let tap = Tap::start(&acceptor.address, |hello| vec![stripped(hello)]).await;
        let told = attempt(&at(level).dialler(), &tap.address).await.expect_err("a downgrade");
        assert!(!told.contains("no reason"), "{level}: {told}");
        let tap = Tap::start(&acceptor.address, |hello| vec![reordered(hello)]).await;
        assert!(attempt(&at(level).dialler(), &tap.address).await.is_err(), "{level}");
        acceptor.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_finds_a_proxy_that_loses_the_second_half_of_the_first_message() {
    let (certs, node) = node_with(|config| config).await;
    let admin = certs.admin();
    let doctor = async |address: String| {
        let admin = admin.clone();
        let output = spawn_blocking(move || {
            let arguments = ["--certs-dir", admin.to_str().unwrap(), "--node-addresses", &address, "doctor"];
            run(NODE_ADMIN, &arguments, "")
        });
        String::from_utf8(output.await.unwrap().stdout).unwrap()
    };
    let fault = "a handshake fails if its first message arrives in two packets";
    let told = doctor(node.address()).await;
    assert!(!told.contains(fault), "{told}");
    let proxy = Tap::impatient(&node.address()).await;
    let told = doctor(proxy.address.clone()).await;
    assert!(told.contains(fault) && told.contains("update the proxy"), "{told}");
    node.stop().await;
}

/// Replaces the post-quantum groups by one that nobody has.
fn stripped(hello: &[u8]) -> Vec<u8> {
    let mut changed = hello.to_vec();
    let groups = extension(hello, 10).unwrap();
    let replace = |changed: &mut Vec<u8>, at: usize| {
        if changed[at] == 0x11 {
            changed[at..at + 2].copy_from_slice(&[0x0a, 0x0a]);
        }
    };
    for at in (groups.start + 2..groups.end).step_by(2) {
        replace(&mut changed, at);
    }
    // The first share is the post-quantum one.
    replace(&mut changed, extension(hello, 51).unwrap().start + 2);
    changed
}

/// Exchanges the first two groups, or alters the only one's share.
fn reordered(hello: &[u8]) -> Vec<u8> {
    let mut changed = hello.to_vec();
    let groups = extension(hello, 10).unwrap();
    if groups.len() >= 6 {
        let at = groups.start + 2;
        let second = [changed[at + 2], changed[at + 3]];
        let first = [changed[at], changed[at + 1]];
        changed[at..at + 2].copy_from_slice(&second);
        changed[at + 2..at + 4].copy_from_slice(&first);
    } else {
        let last = extension(hello, 51).unwrap().end - 1;
        changed[last] ^= 1;
    }
    changed
}

/// OpenSSL has the post-quantum groups from 3.5 on.
fn openssl_is_post_quantum() -> bool {
    let output = std::process::Command::new("openssl").arg("version").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut numbers = text.split(' ').nth(1).unwrap().split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(3), Some(5))
}

#[tokio::test(flavor = "multi_thread")]
async fn openssl_as_the_other_end_gets_what_it_has_and_no_more() {
    let kinds = ["ecdsa-p256", "ecdsa-p384", "ed25519"];
    let authorities = Authorities::new(&kinds);
    for kind in kinds {
        let directory = authorities.trusting(&format!("node-{kind}"), &kinds);
        authorities.issue(&directory, "node-1", kind, false);
        let file = |name: &str| directory.join(name).display().to_string();
        let ca = file(&format!("ca-{kind}.crt"));
        let pair = ["-cert", &file("node.crt"), "-key", &file("node.key"), "-CAfile", &ca, "-alpn", "h2"];
        let pq = openssl_is_post_quantum();
        // Pinned to AES-256 alone, OpenSSL finds no suite in common with 128.
        let expected = |level| match level {
            AnyLevel | Bits128 => true,
            Bits192 => pq,
            Bits256 => pq && kind == "ecdsa-p384",
        };
        for level in WireLevel::ALL {
            let Ok(own) = load(&directory, level) else { continue };
            let acceptor = Acceptor::start(&own).await;
            let mut client = Command::new("openssl");
            client.args([
                "s_client",
                "-tls1_3",
                "-brief",
                "-verify_return_error",
                "-connect",
                &acceptor.address,
            ]);
            client.args(pair).stdin(Stdio::null());
            let output = spawn_blocking(move || client.output()).await.unwrap().unwrap();
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.success(), expected(level), "{kind} at {level}: {text}");
            acceptor.stop().await;

            let port = free_port().to_string();
            let mut server = Command::new("openssl")
                .args(["s_server", "-tls1_3", "-Verify", "1", "-verify_return_error", "-accept", &port])
                .args(pair)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let lines = BufReader::new(server.stdout.take().unwrap()).lines();
            spawn_blocking(|| lines.map_while(Result::ok).find(|line| line == "ACCEPT"))
                .await
                .unwrap()
                .unwrap();
            let address = format!("127.0.0.1:{port}").parse().unwrap();
            let dialled = brock_net::dial::dial(&address, own.dialler()).await;
            server.kill().unwrap();
            server.wait().unwrap();
            assert_eq!(dialled.is_ok(), expected(level), "{kind} at {level}: {dialled:?}");
            if let Err(error) = dialled {
                assert!(error.to_string().contains("requires wire encryption"), "{error}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_show_what_they_have_agreed_on_and_name_a_mismatch() {
    let authorities = Authorities::new(&["ecdsa-p384"]);
    let directory = |id: &str| {
        let directory = authorities.trusting(id, &["ecdsa-p384"]);
        authorities.issue(&directory, id, "ecdsa-p384", false);
        directory
    };
    let ops = authorities.trusting("ops", &["ecdsa-p384"]);
    authorities.issue_as(&ops, LeafKind::Admin { name: "ops".to_owned() }, "ecdsa-p384", false);
    let certs = Certs::new();
    let data = tempfile::tempdir().unwrap();
    // The first one is a process, because metrics are of a whole process.
    let mut launch = Launch::new(&certs, "node-0", data.path());
    launch.certs_dir = directory("node-0");
    let ports = [launch.port, free_port(), free_port()];
    launch.join = vec![ports[1], ports[2]];
    launch.more.push("--wire-encryption=256".to_owned());
    let process = launch.spawn();
    let start = async |index: usize, level: WireLevel| {
        let id = format!("node-{index}");
        let config = config(&certs, &id, ports[index], &[ports[0]]);
        let (certs_dir, wire_levels) = (directory(&id), level.into());
        Node::start(Config { certs_dir, wire_levels, ..config }, None).await.unwrap()
    };
    let nodes = [start(1, Bits256).await, start(2, Bits128).await];
    let shown = async |from: usize, to: usize| {
        let address = format!("127.0.0.1:{}", ports[from]).parse().unwrap();
        let (channel, _) = open_channel(&address, Certs::config(&ops)).await.ok()?;
        let status = calls::admin(channel).status(proto::StatusRequest::default()).await.ok()?.into_inner();
        status.peers.into_iter().find(|peer| peer.address == format!("127.0.0.1:{}", ports[to]))
    };
    let peer = eventually("node-0 pulls from node-1", || async {
        assert!(process.is_running(), "{:?}", process.log());
        shown(0, 1).await.filter(|peer| peer.up)
    })
    .await;
    assert_eq!(
        [peer.group, peer.suite, peer.signature],
        ["SecP384r1MLKEM1024", "TLS_AES_256_GCM_SHA384", "ecdsa-p384"]
    );
    for (from, to, level) in [(0, 2, 256), (2, 0, 128)] {
        let part = format!("requires wire encryption {level}");
        let peer = eventually("the mismatch is named", || async {
            shown(from, to).await.filter(|peer| peer.last_error.contains(&part))
        })
        .await;
        assert!(!peer.up && peer.group.is_empty(), "{peer:?}");
    }
    let told = "this node requires wire encryption 256, and the caller offers no SecP384r1MLKEM1024, only X25519MLKEM768";
    assert!(process.log().iter().any(|line| line.contains(told)), "{:?}", process.log());
    let wire = |end: &str| {
        format!(
            "brock_wire_connections{{end=\"{end}\",group=\"SecP384r1MLKEM1024\",suite=\"TLS_AES_256_GCM_SHA384\",\
             signature=\"ecdsa-p384\"}}"
        )
    };
    eventually("the metrics show both directions, and the refused callers", || async {
        let page = Page::of(process.http_port).await?;
        let is_up = |series: &str| page.value(series).is_some_and(|value| value >= 1.0);
        let refused = "brock_handshake_failures_total{reason=\"wire_encryption\"}";
        [&wire("dialled"), &wire("accepted"), refused].into_iter().all(is_up).then_some(())
    })
    .await;
    for node in nodes {
        assert!(node.stop().await.closed);
    }
    process.terminate();
}
