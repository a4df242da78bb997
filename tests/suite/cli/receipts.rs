//! Receipts: what members have signed of an operation that they hold, verified without any node.

use std::{collections::BTreeMap, fs, path::Path};

use crate::harness::{
    admin::{Admin, GRANT, hex_key},
    certs::Certs,
    cluster::Cluster,
    free_port,
    node::{compacts_on_command, config},
    own_ca::{Leaf, OwnCa},
};
use brock::config::validate::Config;
use brock_core::base::trust::TrustMode;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A certificates directory with nothing but the CA of another one.
fn ca_of(certs_dir: &Path) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::copy(certs_dir.join("ca.crt"), directory.path().join("ca.crt")).unwrap();
    directory
}

/// Verifies without a certificate, and without a node.
struct Auditor {
    admin: Admin,
    directory: TempDir,
}

impl Auditor {
    fn new(certs_dir: &Path) -> Self {
        let directory = ca_of(certs_dir);
        Self { admin: Admin::new(directory.path(), &[]), directory }
    }

    fn verified(&self, receipt: &Value) -> Value {
        self.admin.json(&["receipt", "verify", "-"], &receipt.to_string())
    }

    /// What it prints although not every holder is proven.
    fn partly(&self, receipt: &Value) -> Value {
        let output = self.admin.run(&["receipt", "verify", "-", "-o", "json"], &receipt.to_string());
        assert_eq!(output.status.code(), Some(5), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn refuses(&self, part: &str, receipt: &Value) {
        self.admin.fails(1, part, &["receipt", "verify", "-"], &receipt.to_string());
    }
}

const WAIT: [&str; 4] = ["--wait", "all", "--timeout", "20s"];

fn proven(verified: &Value) -> BTreeMap<&str, bool> {
    let holders = verified["holders"].as_array().unwrap().iter();
    holders.map(|holder| (holder["node"].as_str().unwrap(), holder["proven"].as_bool().unwrap())).collect()
}

/// Every change of one value of a document, and every value left out or said twice, with the place.
fn mutations(document: &Value) -> Vec<(String, Value)> {
    let mut mutations = Vec::new();
    let mut places = vec![String::new()];
    while let Some(place) = places.pop() {
        let value = document.pointer(&place).unwrap();
        let mut mutate = |what: &str, changed: Value| {
            let mut mutated = document.clone();
            *mutated.pointer_mut(&place).unwrap() = changed;
            mutations.push((format!("{place} {what}"), mutated));
        };
        match value {
            Value::Null => unreachable!("a receipt has no null"),
            Value::Bool(value) => mutate("otherwise", json!(!value)),
            Value::Number(value) => mutate("plus one", json!(value.as_u64().unwrap() + 1)),
            Value::String(text) => {
                for at in [0, text.len() / 2, text.len() - 1] {
                    let mut bytes = text.clone().into_bytes();
                    bytes[at] = if bytes[at] == b'1' { b'2' } else { b'1' };
                    mutate(&format!("byte {at}"), json!(String::from_utf8(bytes).unwrap()));
                }
                mutate("cut", json!(text[1..]));
            }
            Value::Array(values) => {
                places.extend((0..values.len()).map(|index| format!("{place}/{index}")));
                if let Some(first) = values.first() {
                    mutate("one less", json!(values[1..]));
                    mutate("one twice", json!([std::slice::from_ref(first), &values[..]].concat()));
                } else {
                    mutate("one more", json!(["node-9"]));
                }
            }
            Value::Object(fields) => {
                places.extend(fields.keys().map(|name| format!("{place}/{name}")));
                for name in fields.keys() {
                    let mut fewer = fields.clone();
                    fewer.remove(name);
                    mutate(&format!("without {name}"), fewer.into());
                }
                let mut more = fields.clone();
                more.insert("more".to_owned(), json!(1));
                mutate("with more", more.into());
            }
        }
    }
    mutations
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_proves_which_members_hold_a_revocation_and_no_byte_of_it_can_be_changed() {
    let mut cluster = Cluster::start(3).await;
    let here = Admin::of(&cluster, 0);
    let (key, other) = (hex_key(), hex_key());
    for key in [&key, &other] {
        here.json(&["record", "put", key], GRANT);
    }
    let receipt = here.json(&[&["record", "invalidate", &key, "leaked"], &WAIT[..]].concat(), "");
    let auditor = Auditor::new(&cluster.certs.admin());
    let unwaited = here.json(&["record", "invalidate", &key, "leaked"], "");
    cluster.stop_node(2).await;
    let missed = ["record", "delete", &other, "--wait", "all", "--timeout", "2s", "-o", "json"];
    let missed = here.run(&missed, "");
    assert_eq!(missed.status.code(), Some(5));
    cluster.stop().await;

    let of_one = auditor.partly(&serde_json::from_slice(&missed.stdout).unwrap());
    assert_eq!((&of_one["verdict"], &of_one["missing"]), (&json!("partly"), &json!(["node-2"])));
    assert_eq!(proven(&of_one), [("node-1", true)].into());
    let verified = auditor.verified(&receipt);
    assert_eq!(proven(&verified), [("node-1", true), ("node-2", true)].into());
    let expected = json!({
        "verdict": "proven", "trust_domain": "brock", "key_hash": key, "operation": "invalidate",
        "clock": receipt["clock"], "origin": receipt["origin"], "stated_by": receipt["origin"], "already": false,
        "missing": [],
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&verified[name], value, "{name}");
    }
    assert_eq!(verified["logged"]["reason"], "leaked");
    assert!(verified["logged"]["ordered_at_unix_ms"].as_i64() > Some(0), "{verified}");
    assert_eq!(verified["logged"]["operator"].as_str().unwrap().len(), 64);
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), serde_json::to_string_pretty(&receipt).unwrap()).unwrap();
    let text = auditor.admin.run(&["receipt", "verify", file.path().to_str().unwrap()], "");
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.starts_with("verdict    proven\n") && text.contains("node-2  yes"), "{text}");

    let mutations = mutations(&receipt);
    assert!(mutations.len() > 200, "{}", mutations.len());
    for (what, mutated) in mutations {
        let output = auditor.admin.run(&["receipt", "verify", "-"], &mutated.to_string());
        let told = String::from_utf8_lossy(&output.stderr);
        // 2: it is no receipt any more, so that nothing of it was verified.
        let is_refused = matches!(output.status.code(), Some(1 | 2)) && told.starts_with("error: ");
        assert!(is_refused && output.stdout.is_empty(), "{what}: {told}");
    }
    for (what, part, change) in changes() {
        let mut changed = receipt.clone();
        change(&mut changed);
        auditor.admin.fails(1, part, &["receipt", "verify", "-"], &changed.to_string());
        assert_ne!(changed, receipt, "{what}");
    }
    // Another CA, as after a change, and with the one of before.
    let other = Auditor::new(&Certs::new().admin());
    let verify = ["receipt", "verify", "-"];
    other.admin.fails(5, "ca-history.pem", &verify, &receipt.to_string());
    fs::copy(auditor.directory.path().join("ca.crt"), other.directory.path().join("ca-history.pem")).unwrap();
    assert_eq!(other.verified(&receipt)["verdict"], "proven");
    auditor.admin.fails(2, "could not read", &["receipt", "verify", "/nowhere"], "");
    auditor.admin.fails(2, "it is not JSON (line 1", &verify, "nonsense");
    auditor.admin.fails(2, "without --wait", &verify, &unwaited.to_string());
    let nothing = tempfile::tempdir().unwrap();
    Admin::new(nothing.path(), &[]).fails(2, "ca", &verify, &receipt.to_string());
}

type Change = fn(&mut Value);

/// What a person would try, and what the refusal says.
fn changes() -> [(&'static str, &'static str, Change); 7] {
    fn holder(receipt: &mut Value, index: usize) -> &mut Value {
        &mut receipt["holders"][index]
    }
    [
        ("another record", "not one that its origin has signed", |receipt| {
            receipt["key_hash"] = hex_key().into();
        }),
        ("another operation", "not that of such an operation", |receipt| {
            receipt["operation"] = "delete".into();
        }),
        ("another node's signature", "another node's, or is about another log", |receipt| {
            let other = receipt["holders"][1]["acknowledgement"].clone();
            holder(receipt, 0)["acknowledgement"] = other;
        }),
        ("a member with another clock", "does not match what it is said to have acknowledged", |receipt| {
            let clock = receipt["clock"].as_u64().unwrap() + 7;
            holder(receipt, 0)["acknowledgement"]["clock"] = clock.into();
        }),
        ("another history", "not one that its origin has signed", |receipt| {
            receipt["proof"]["evidence"]["before"] = "00".repeat(32).into();
        }),
        ("a member that was faster", "something in it was changed", |receipt| {
            holder(receipt, 0)["after_ms"] = 999_999.into();
        }),
        ("a member that is missing", "something in it was changed", |receipt| {
            receipt["missing"] = json!(["node-9"]);
        }),
    ]
}

fn distributed(config: Config) -> Config {
    Config { trust: TrustMode::Distributed, ..compacts_on_command(config) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_has_restarted_signs_as_its_new_incarnation_and_an_old_operation_is_not_proven() {
    let mut cluster = Cluster::start_with(2, distributed).await;
    let here = Admin::of(&cluster, 0);
    let auditor = Auditor::new(&cluster.certs.admin());
    let (first, second, third) = (hex_key(), hex_key(), hex_key());
    for key in [&first, &second, &third] {
        here.json(&["record", "put", key], GRANT);
    }
    let before = here.json(&[&["record", "delete", &first], &WAIT[..]].concat(), "");
    cluster.stop_node(1).await;
    // While it is away, so that its hello has everything but this.
    here.json(&["record", "unpublish", &third], "");
    cluster.start_node(1).await;
    let after = here.json(&[&["record", "delete", &second], &WAIT[..]].concat(), "");
    let members = [&before, &after].map(|receipt| {
        let verified = auditor.verified(receipt);
        assert_eq!(proven(&verified), [("node-1", true)].into());
        verified["holders"][0]["member"].clone()
    });
    assert_ne!(members[0], members[1], "it signs with the key of its present incarnation");
    // What was done before is proven by what is signed now.
    let again = here.json(&[&["record", "invalidate", &third, "leaked"], &WAIT[..]].concat(), "");
    let repeated = here.json(&[&["record", "invalidate", &third, "leaked"], &WAIT[..]].concat(), "");
    assert_eq!((&again["already"], &repeated["already"]), (&json!(false), &json!(true)));
    assert_eq!(repeated["clock"], again["clock"]);
    assert_eq!(auditor.verified(&repeated)["verdict"], "proven");

    // It was made at another node, so what members sign of the log of the node that answers does not cover it.
    let there = Admin::of(&cluster, 1);
    let foreign = there.json(&[&["record", "invalidate", &third, "leaked"], &WAIT[..]].concat(), "");
    let verified = auditor.partly(&foreign);
    assert_eq!((&verified["verdict"], proven(&verified)), (&json!("unproven"), [("node-0", false)].into()));
    let reason = verified["holders"][0]["unproven"].as_str().unwrap();
    assert!(reason.contains("not in the log of the node that answered"), "{reason}");
    // Such a receipt is signed by the node that answers all the same.
    let mut changed = foreign.clone();
    changed["holders"][0]["after_ms"] = json!(999_999);
    auditor.refuses("something in it was changed", &changed);

    cluster.stop_node(0).await;
    let missed =
        there.run(&["record", "delete", &third, "--wait", "all", "--timeout", "300ms", "-o", "json"], "");
    assert_eq!(missed.status.code(), Some(5));
    let verified = auditor.partly(&serde_json::from_slice(&missed.stdout).unwrap());
    assert_eq!((&verified["verdict"], &verified["missing"]), (&json!("unproven"), &json!(["node-0"])));
    cluster.stop().await;
}

/// Certificates without URIs, as OpenSSL makes them by the old recipe.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_certificate_names_no_node_is_listed_and_not_proven() {
    let (ca, certs) = (OwnCa::new(), Certs::new());
    let (named, other) = (ca.directory("a", &Leaf::node("a")), ca.directory("c", &Leaf::node("c")));
    let nameless = ca.directory("b", &Leaf { uris: Vec::new(), ..Leaf::node("b") });
    let ports = [free_port(), free_port(), free_port()];
    let mut nodes = Vec::new();
    for (i, (id, directory)) in [("a", &named), ("b", &nameless), ("c", &other)].into_iter().enumerate() {
        let join: Vec<u16> = ports.iter().copied().filter(|port| *port != ports[i]).collect();
        let config = config(&certs, id, ports[i], &join);
        nodes.push(
            brock::node::Node::start(Config { certs_dir: directory.clone(), ..config }, None).await.unwrap(),
        );
    }
    let admin_dir = ca.directory("admin", &Leaf::admin("ops"));
    let auditor = Auditor::new(&admin_dir);
    let at = |port: u16| Admin::new(&admin_dir, &[format!("127.0.0.1:{port}")]);
    let invalidate = |port: u16| {
        let key = hex_key();
        let done = [&["record", "invalidate", &key, "leaked", "--ahead"], &WAIT[..]].concat();
        at(port).json(&done, "")
    };
    let verified = auditor.partly(&invalidate(ports[0]));
    assert_eq!(
        (&verified["verdict"], proven(&verified)),
        (&json!("partly"), [("b", false), ("c", true)].into())
    );
    let nameless =
        verified["holders"].as_array().unwrap().iter().find(|holder| holder["node"] == "b").unwrap();
    let reason = nameless["unproven"].as_str().unwrap();
    assert!(reason.contains("names no node"), "{reason}");
    // The node that answers signs nothing itself.
    let unsigned = invalidate(ports[1]);
    assert_eq!(unsigned["holders"].as_array().unwrap().len(), 2);
    let verify = ["receipt", "verify", "-"];
    auditor.admin.fails(2, "the receipt has no proof", &verify, &unsigned.to_string());
    for node in nodes {
        node.stop().await;
    }
}
