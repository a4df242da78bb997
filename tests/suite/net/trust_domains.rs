//! A certificate of another trust domain than the cluster's: it is named, and no one is taken for a forger.

use std::path::PathBuf;

use crate::harness::{
    admin::Admin,
    certs::Certs,
    client::Client,
    eventually, free_port,
    node::config,
    own_ca::{Leaf, OwnCa},
    random_key,
};
use brock::{config::validate::Config, node::Node};
use brock_core::base::trust::TrustMode;
use data_encoding::HEXLOWER;

fn of(ca: &OwnCa, domain: &str, id: &str) -> PathBuf {
    let uris = vec![format!("spiffe://{domain}/node/{id}")];
    ca.directory(&format!("{domain}-{id}"), &Leaf { uris, ..Leaf::node(id) })
}

fn operator_of(ca: &OwnCa, domain: &str) -> PathBuf {
    let uris = vec![format!("spiffe://{domain}/admin/ops")];
    ca.directory(&format!("{domain}-ops"), &Leaf { uris, ..Leaf::admin("ops") })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_with_a_certificate_of_another_cluster_than_the_storage_is_refused_with_the_reason() {
    let (ca, certs, storage) = (OwnCa::new(), Certs::new(), tempfile::tempdir().unwrap());
    let peer = config(&certs, "node-2", free_port(), &[]);
    let peer = Config { certs_dir: of(&ca, "prod", "node-2"), trust: TrustMode::Distributed, ..peer };
    let peer = Node::start(peer, None).await.unwrap();
    let port = peer.address().port();
    let at = |certs_dir: PathBuf, trust| {
        let path = Some(storage.path().join("node-1"));
        Config { certs_dir, trust, path, ..config(&certs, "node-1", free_port(), &[port]) }
    };
    let (own, wrong) = (of(&ca, "prod", "node-1"), of(&ca, "brock", "node-1"));
    let node = Node::start(at(own.clone(), TrustMode::Distributed), None).await.unwrap();
    let origin = peer.store().origin();
    let writer = Client::lasting(&peer.address().to_string(), &operator_of(&ca, "prod")).await;
    writer.put(&random_key(), b"grant").await.unwrap();
    eventually("it knows the birth of the other node", || async { node.store().born(&origin).map(drop) })
        .await;
    assert!(node.stop().await.closed);
    let refused =
        Node::start(at(wrong, TrustMode::Distributed), None).await.err().expect("it must not start");
    for part in ["is of the trust domain brock", "are of prod", "--trust-domain prod --overwrite"] {
        assert!(refused.to_string().contains(part), "{refused}");
    }
    let node = Node::start(at(own, TrustMode::Distributed), None).await.unwrap();
    assert!(node.stop().await.closed && peer.stop().await.closed);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_signed_for_another_cluster_is_refused_by_that_name_and_no_one_is_accused() {
    let (ca, certs) = (OwnCa::new(), Certs::new());
    let [right, wrong] =
        [("node-1", "prod"), ("node-2", "brock")].map(|(id, domain)| (id, of(&ca, domain, id)));
    let start = async |(id, certs_dir): (&str, PathBuf), join: &[u16]| {
        let config =
            Config { certs_dir, trust: TrustMode::Distributed, ..config(&certs, id, free_port(), join) };
        Node::start(config, None).await.unwrap()
    };
    let stray = start(wrong, &[]).await;
    let strays = operator_of(&ca, "brock");
    Client::lasting(&stray.address().to_string(), &strays).await.put(&random_key(), b"grant").await.unwrap();
    let node = start(right, &[stray.address().port()]).await;
    let operator = Client::lasting(&node.address().to_string(), &operator_of(&ca, "prod")).await;
    let alarm = eventually("an alarm", || async { operator.status().await.alarms.pop() }).await;
    assert!(alarm.text.contains("its certificate is of the trust domain brock"), "{alarm:?}");
    assert!(!alarm.text.contains("who controls"), "{alarm:?}");
    // An operator of the other one hears the same.
    let tool = Admin::new(&strays, &[node.address().to_string()]);
    let key = HEXLOWER.encode(&random_key());
    let words = "signed with a certificate of the trust domain brock";
    tool.fails(2, words, &["record", "invalidate", &key, "leaked", "--ahead"], "");
    assert!(node.stop().await.closed && stray.stop().await.closed);
}

/// Nothing that it has signed verifies in the cluster, whatever an operator says of its birth.
#[tokio::test(flavor = "multi_thread")]
async fn no_operator_can_vouch_for_what_was_born_in_another_cluster() {
    let (ca, certs, storage) = (OwnCa::new(), Certs::new(), tempfile::tempdir().unwrap());
    let start = async |certs_dir: PathBuf| {
        let path = Some(storage.path().join("node-1"));
        let config = config(&certs, "node-1", free_port(), &[]);
        Node::start(Config { certs_dir, trust: TrustMode::Distributed, path, ..config }, None).await.unwrap()
    };
    let node = start(of(&ca, "brock", "node-1")).await;
    let stray = node.store().origin().to_string();
    let writer = Client::lasting(&node.address().to_string(), &operator_of(&ca, "brock")).await;
    let key = random_key();
    writer.put(&key, b"grant").await.unwrap();
    assert!(node.stop().await.closed);
    let node = start(of(&ca, "prod", "node-1")).await;
    let operator = operator_of(&ca, "prod");
    let tool = Admin::new(&operator, &[node.address().to_string()]);
    let listed = tool.json(&["origin", "list"], "");
    let known = listed["origins"].as_array().unwrap().iter().find(|known| known["origin"] == stray.as_str());
    assert!(known.unwrap()["problem"].as_str().unwrap().contains("of the trust domain brock"), "{listed}");
    tool.fails(5, "no word of an operator makes that valid", &["origin", "vouch", &stray, "--yes"], "");
    // The way out: a node that takes what is not proven logs it again.
    let certs_dir = of(&ca, "prod", "node-2");
    let other = Config { certs_dir, ..config(&certs, "node-2", free_port(), &[node.address().port()]) };
    let other = Node::start(other, None).await.unwrap();
    let reader = Client::lasting(&other.address().to_string(), &operator).await;
    eventually("it takes it", || reader.has_local(&key)).await;
    let tool = Admin::new(&operator, &[other.address().to_string()]);
    let migrated = tool.json(&["trust", "migrate", "--yes"], "");
    assert_eq!((&migrated["records"], &migrated["unproven_records"]), (&1.into(), &0.into()), "{migrated}");
    assert!(node.stop().await.closed && other.stop().await.closed);
}
