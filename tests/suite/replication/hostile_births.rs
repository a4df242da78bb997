//! Births that another certificate has signed than the one of the origin's node. Each is correctly signed: what is
//! wrong is who has signed it.

use std::{fs, path::PathBuf};

use crate::harness::{
    certs::{Certs, revoke_at},
    eventually,
    fake_peer::{FakePeer, Script},
    free_port,
    identity::{Hand, TestOrigin},
    node::{TestNode, config},
    own_ca::{Leaf, OwnCa},
    random_key,
    snapshot::{end, forces, header, page},
    wire::{create, origin},
};
use brock::config::validate::Config;
use brock_core::{
    base::{
        claims::ClaimKind,
        time::unix_now,
        trust::TrustMode,
        vector::{Clock, Vector},
    },
    proto::{self, out_of_sync::Reason, snapshot_response::Message},
};

/// Origins of node `writer`, each with what is to be thought of its birth.
struct Births {
    certs: Certs,
    believed: Vec<(&'static str, TestOrigin)>,
    refused: Vec<(&'static str, TestOrigin)>,
}

impl Births {
    fn new() -> Self {
        let (certs, ca, foreign) = (Certs::new(), OwnCa::new(), Certs::new());
        let (now, hour) = (unix_now(), 3600);
        let revoked = certs.node_of("brock", "writer");
        let expired = ca.directory("expired", &Leaf { valid: (-180, -60), ..Leaf::node("writer") });
        let genuine = certs.node("writer");
        let elsewhere = certs.node_of("elsewhere", "writer");
        let relay = certs.node("relay");
        let of = |(what, certs_dir, trust_domain, born_at): (&'static str, &PathBuf, &str, i64),
                  incarnation| {
            let hand = Hand::of(certs_dir, trust_domain);
            (what, TestOrigin::signed_by(&hand, origin("writer", incarnation), born_at))
        };
        let refused = [
            ("the relay's own certificate", &relay, "brock", now),
            ("another node's", &certs.node("other"), "brock", now),
            ("an operator's", &certs.admin(), "brock", now),
            ("a client's", &certs.client(), "brock", now),
            ("that of such a node in another cluster", &elsewhere, "brock", now),
            ("all of another cluster", &elsewhere, "elsewhere", now),
            ("the node's own, for another cluster", &genuine, "elsewhere", now),
            ("another CA's", &foreign.node("writer"), "brock", now),
            ("an expired one", &expired, "brock", now),
            ("one that had not begun", &expired, "brock", now - 4 * hour),
            ("a revoked one", &revoked, "brock", now),
            ("a revoked one, dated back", &revoked, "brock", now - hour),
        ];
        let believed = [
            ("the node's", &genuine, "brock", now),
            // An incarnation may outlive its certificate. docs/explanation/security.md says what that permits.
            ("an expired one, of its time", &expired, "brock", now - 2 * hour),
        ];
        let refused = refused.into_iter().zip(1..).map(|(case, number)| of(case, number)).collect();
        let believed = believed.into_iter().zip(100..).map(|(case, number)| of(case, number)).collect();
        let victim = certs.node("victim");
        revoke_at(&certs, &revoked.join("node.crt"), &victim.join("ca.crl"));
        let both = fs::read_to_string(victim.join("ca.crt")).unwrap() + ca.pem();
        fs::write(victim.join("ca.crt"), both).unwrap();
        Self { certs, believed, refused }
    }

    async fn victim(&self, donor: &FakePeer) -> TestNode {
        let config = config(&self.certs, "victim", free_port(), &[donor.port]);
        TestNode::start(&self.certs, Config { trust: TrustMode::Distributed, ..config }).await
    }
}

/// A relay passes on their logs: first those that nobody should believe.
#[tokio::test(flavor = "multi_thread")]
async fn an_origin_is_born_by_a_certificate_of_its_node_in_this_cluster_alone() {
    let births = Births::new();
    let keys: Vec<Vec<u8>> = births.believed.iter().map(|_| random_key()).collect();
    let forged = births.refused.iter().map(|(_, one)| one.sign(0, vec![create(1, &random_key(), b"x")]));
    let genuine =
        births.believed.iter().zip(&keys).map(|((_, one), key)| one.sign(0, vec![create(1, key, b"x")]));
    let batches: Vec<proto::Batch> = forged.chain(genuine).collect();
    let relay = FakePeer::start(&births.certs, "relay", Script { batches, ..Script::new("relay") }).await;
    let victim = births.victim(&relay).await;
    for ((what, _), key) in births.believed.iter().zip(&keys) {
        eventually(&format!("signed by {what}, it is believed"), || victim.client.has_local(key)).await;
    }
    let (declined, store) = (relay.declined.lock().unwrap().clone(), victim.node.store());
    for (what, forged) in &births.refused {
        assert!(declined.contains(&forged.origin), "signed by {what}, it is declined");
        assert_eq!(store.clock(&forged.origin), Clock(0), "signed by {what}");
        assert!(store.born(&forged.origin).is_none(), "signed by {what}");
    }
    assert_eq!(declined.len(), births.refused.len());
    assert_eq!((store.records(), store.quarantined()), (keys.len() as u64, 0));
    assert_eq!(relay.refused(ClaimKind::Forged), births.refused.len() as u64);
    victim.stop().await;
}

/// The births that come with the records of a donor say whose signatures count in those.
#[tokio::test(flavor = "multi_thread")]
async fn a_donors_records_bring_no_birth_that_another_certificate_has_signed() {
    let births = Births::new();
    let all = || births.refused.iter().chain(&births.believed);
    let vector: Vector = all().map(|(_, one)| (one.origin, Clock(1))).collect();
    let said = vec![
        header("donor", &vector, &Vector::default(), 0),
        Message::Births(proto::Births {
            births: all().map(|(_, one)| one.birth()).collect(),
            tips: Vec::new(),
        }),
        page(Vec::new(), 0xff, None),
        end(None),
    ];
    let donor = FakePeer::start(&births.certs, "donor", forces("donor", Reason::BelowFloor, said)).await;
    let victim = births.victim(&donor).await;
    let store = victim.node.store();
    for (what, one) in &births.believed {
        let is_known = || async { store.born(&one.origin).map(drop) };
        eventually(&format!("signed by {what}, it is believed"), is_known).await;
    }
    for (what, one) in &births.refused {
        assert!(store.born(&one.origin).is_none(), "signed by {what}");
    }
    victim.stop().await;
}
