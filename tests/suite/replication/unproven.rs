//! Records that are not proven to a node that believes only what is: it says so, and shows none of them as valid.

use std::{fs, time::Duration};

use crate::harness::{
    admin::Admin,
    certs::{Certs, make_node, revoke_at},
    client::Client,
    eventually,
    fake_peer::FakePeer,
    free_port,
    identity::TestOrigin,
    node::{TestNode, compacts_on_command, config},
    own_ca::OwnCa,
    random_key,
    snapshot::{end, forces, header, page},
    stays,
    wire::{create, key_hash, origin},
};
use brock::config::validate::Config;
use brock_core::{
    base::{
        id::ClusterId,
        time::unix_now,
        trust::TrustMode,
        vector::{Clock, Vector},
    },
    domain::order::Subject,
    proto::{
        self, admin_service_client::AdminServiceClient, out_of_sync::Reason, snapshot_response::Message,
    },
};
use brock_net::{
    channel::open_channel,
    pki::issue::LeafKind,
    tls::{
        credentials::{ClientIdentity, Identity},
        roles::RolePolicy,
        statement::Context,
    },
};
use bytes::Bytes;
use tonic::Code;

fn strict(certs: &Certs, id: &str, join: &[u16]) -> Config {
    let config = compacts_on_command(config(certs, id, free_port(), join));
    Config { trust: TrustMode::Distributed, ..config }
}

async fn node(certs: &Certs, id: &str, join: &[u16]) -> TestNode {
    TestNode::start(certs, strict(certs, id, join)).await
}

async fn compact(node: &TestNode) {
    let compacted = node.admin.admin.clone().compact(proto::CompactRequest {}).await.unwrap().into_inner();
    assert_eq!(compacted.entries_kept, 0);
}

async fn alarm(node: &TestNode) -> proto::Alarm {
    eventually("an alarm says what is missing", || async {
        let alarms = node.admin.status().await.alarms;
        alarms.into_iter().find(|alarm| alarm.text.contains("are not proven here"))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fill_that_proves_too_little_is_loud_and_shows_no_revoked_record_as_valid() {
    let certs = Certs::new();
    let donor = node(&certs, "donor", &[]).await;
    let (revoked, valid) = (random_key(), random_key());
    for key in [&revoked, &valid] {
        donor.client.put(key, b"grant").await.unwrap();
    }
    // An operator whose certificate is revoked afterwards.
    let gone = certs.leaf("gone", LeafKind::Admin { name: "gone".to_owned() });
    let operator = Client::lasting(&donor.address(), &gone).await;
    operator.invalidate(&revoked, "leaked", None).await.unwrap();
    compact(&donor).await;
    let late_list = certs.node("late").join("ca.crl");
    revoke_at(&certs, &gone.join("client.crt"), &late_list);

    let late = node(&certs, "late", &[donor.port]).await;
    let alarm = alarm(&late).await;
    assert!(alarm.text.contains("1 operations") && alarm.text.contains("troubleshooting.md"), "{alarm:?}");
    eventually("it is not ready", || async { (!late.admin.status().await.ready).then_some(()) }).await;
    late.client.has_local(&valid).await.unwrap();
    assert_eq!(late.client.get_local(&revoked).await.unwrap_err().code(), Code::NotFound);
    let unsure = late.client.get(&revoked).await.unwrap_err();
    assert_eq!(unsure.code(), Code::Unavailable, "the peer has it, and not all of it is proven: {unsure}");
    let verdict = late.admin.admin.clone().cluster(proto::ClusterRequest::default()).await.unwrap();
    let findings = verdict.into_inner().verdict.unwrap().findings;
    assert!(findings.iter().any(|finding| finding.what.contains("are not proven here")), "{findings:?}");

    // An operator gives the donor up.
    Admin::new(&certs.admin(), &[late.address()]).json(&["member", "retire", "donor", "--yes"], "");
    eventually("it is ready without it", || async { late.admin.status().await.ready.then_some(()) }).await;

    // Once the certificate is accepted again, it is filled.
    fs::remove_file(late_list).unwrap();
    late.node.reload().await;
    eventually("it is filled and ready", || async {
        let refused =
            late.client.get_local(&revoked).await.is_err_and(|e| e.code() == Code::FailedPrecondition);
        (refused && late.admin.status().await.ready).then_some(())
    })
    .await;
    late.stop().await;
    donor.stop().await;
}

/// Each start begins one: no command could end a finding about it.
#[tokio::test(flavor = "multi_thread")]
async fn an_incarnation_that_has_logged_nothing_is_not_counted_as_unbelieved() {
    let (certs, storage) = (Certs::new(), tempfile::tempdir().unwrap());
    let start = async || {
        let path = Some(storage.path().join("a"));
        TestNode::start(&certs, Config { path, ..strict(&certs, "a", &[]) }).await
    };
    let writer = start().await;
    writer.client.put(&random_key(), b"grant").await.unwrap();
    writer.stop().await;
    start().await.stop().await;
    let old = certs.path("old.crt");
    fs::copy(certs.node("a").join("node.crt"), &old).unwrap();
    make_node(&certs.node("a"), &certs.ca_key(), "a");
    revoke_at(&certs, &old, &certs.node("a").join("ca.crl"));
    let node = start().await;
    let unbelieved = async || node.admin.status().await.trust.unwrap().unbelieved_origins;
    eventually("they are counted", || async { (unbelieved().await > 0).then_some(()) }).await;
    assert_eq!(unbelieved().await, 1);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_running_node_has_signed_is_proven_by_its_renewed_certificate() {
    let certs = Certs::new();
    let writer = node(&certs, "writer", &[]).await;
    let relay = node(&certs, "relay", &[writer.port]).await;
    let key = random_key();
    writer.client.put(&key, b"grant").await.unwrap();
    eventually("the relay has it", || relay.client.has_local(&key)).await;
    let (origin, old) = (writer.node.store().origin(), certs.path("old.crt"));
    fs::copy(certs.node("writer").join("node.crt"), &old).unwrap();
    // The new one ends later, by the second.
    let begun = unix_now();
    eventually("a second is over", || async { (unix_now() > begun + 1).then_some(()) }).await;
    make_node(&certs.node("writer"), &certs.ca_key(), "writer");
    writer.node.reload().await;
    let birth = |node: &TestNode| node.node.store().signed_birth(&origin).unwrap().unwrap();
    let renewed = birth(&writer);
    eventually("the relay has the birth as it is signed now", || async {
        (birth(&relay) == renewed).then_some(())
    })
    .await;
    writer.stop().await;
    // A node that does not accept the old certificate, and has never met the writer.
    revoke_at(&certs, &old, &certs.node("late").join("ca.crl"));
    let late = node(&certs, "late", &[relay.port]).await;
    eventually("it takes what the writer has signed", || late.client.has_local(&key)).await;
    assert!(late.node.store().get(key_hash(&key)).await.unwrap().unwrap().is_proven());
    late.stop().await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_signed_under_a_ca_of_before_is_proven_and_its_callers_are_refused() {
    let (before, after, storage) = (Certs::new(), Certs::new(), tempfile::tempdir().unwrap());
    let on_disk = |certs: &Certs| {
        let path = Some(storage.path().join("donor"));
        Config { path, ..strict(certs, "donor", &[]) }
    };
    let donor = TestNode::start(&before, on_disk(&before)).await;
    let (revoked, valid) = (random_key(), random_key());
    for key in [&revoked, &valid] {
        donor.client.put(key, b"grant").await.unwrap();
    }
    donor.admin.invalidate(&revoked, "leaked", None).await.unwrap();
    donor.stop().await;
    let donor = TestNode::start(&after, on_disk(&after)).await;
    compact(&donor).await;

    // Neither the birth nor the order is under a CA that the new node trusts.
    let late = node(&after, "late", &[donor.port]).await;
    alarm(&late).await;
    assert_eq!(late.node.store().records(), 0);
    fs::copy(before.path("ca/ca.crt"), after.node("late").join("ca-history-1.pem")).unwrap();
    late.node.reload().await;
    eventually("it is filled and ready", || async {
        let refused =
            late.client.get_local(&revoked).await.is_err_and(|e| e.code() == Code::FailedPrecondition);
        (refused && late.admin.status().await.ready).then_some(())
    })
    .await;
    late.client.has_local(&valid).await.unwrap();
    assert_eq!(late.node.store().totals().unproven, 0);
    // An operator of before, who knows the new CA.
    let old = OwnCa::careless_config(&after.admin(), Some(&before.admin()), &[&rustls::version::TLS13]);
    let dialled = open_channel(&late.address().parse().unwrap(), old).await;
    let refused = match dialled {
        Err(_) => true,
        Ok((channel, _)) => {
            AdminServiceClient::new(channel).status(proto::StatusRequest::default()).await.is_err()
        }
    };
    assert!(refused, "a connection with a certificate of a CA of before");
    for (name, is_accepted) in
        [("ca-history-1.crt", false), ("ca-history.PEM", false), ("ca-history.pem", true)]
    {
        let path = after.node("name").join(name);
        fs::copy(before.path("ca/ca.crt"), &path).unwrap();
        let loaded = Identity::load(&after.node("name"), RolePolicy::default());
        assert_eq!(loaded.is_ok(), is_accepted, "{name}");
        fs::remove_file(path).unwrap();
    }
    late.stop().await;
    donor.stop().await;
}

/// The donor has its log still, so that nothing has to be filled.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_node_that_believes_no_log_of_its_peers_is_not_ready_and_says_which_file_is_missing() {
    let (before, after, storage) = (Certs::new(), Certs::new(), tempfile::tempdir().unwrap());
    let on_disk = |certs: &Certs| {
        let path = Some(storage.path().join("donor"));
        Config { path, ..strict(certs, "donor", &[]) }
    };
    let donor = TestNode::start(&before, on_disk(&before)).await;
    let key = random_key();
    donor.client.put(&key, b"grant").await.unwrap();
    donor.stop().await;
    let donor = TestNode::start(&after, on_disk(&after)).await;
    let late = node(&after, "late", &[donor.port]).await;
    eventually("an alarm names the remedy", || async {
        let alarms = late.admin.status().await.alarms;
        let is_it = |alarm: &proto::Alarm| alarm.text.contains("ca-history.pem");
        assert!(alarms.iter().all(|alarm| !alarm.text.contains("who controls")), "{alarms:?}");
        (alarms.iter().any(is_it) && !late.admin.status().await.ready).then_some(())
    })
    .await;
    // Its heads go on, and change nothing of that.
    stays("it is not ready", Duration::from_secs(5), || async { !late.admin.status().await.ready }).await;
    eventually("the donor says that it does not believe its own origin of before", || async {
        donor.node.reload().await;
        let verdict = donor.admin.admin.clone().cluster(proto::ClusterRequest::default()).await.unwrap();
        let findings = verdict.into_inner().verdict.unwrap().findings;
        findings.iter().any(|finding| finding.what.contains("1 origin is not believed here")).then_some(())
    })
    .await;
    fs::copy(before.path("ca/ca.crt"), after.node("late").join("ca-history.pem")).unwrap();
    late.node.reload().await;
    eventually("it has the record and is ready", || async {
        (late.client.has_local(&key).await.is_some() && late.admin.status().await.ready).then_some(())
    })
    .await;
    late.stop().await;
    donor.stop().await;
}

/// The records of the donor are proven, and a log that it still has is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_refuses_the_log_of_its_only_donor_is_not_ready_and_accuses_it_of_nothing_else() {
    let certs = Certs::new();
    let unborn = TestOrigin::certified(&Certs::new(), origin("unborn", 1));
    let key = random_key();
    let mut log = unborn.sign_each(0, vec![create(1, &key, b"x")]);
    log.birth = None;
    let vector = [(unborn.origin, Clock(1))].into_iter().collect();
    let said = vec![
        header("donor", &vector, &Vector::default(), 0),
        page(Vec::new(), 0xff, None),
        Message::Log(proto::LogPage { batch: Some(log) }),
        end(None),
    ];
    let donor = FakePeer::start(&certs, "donor", forces("donor", Reason::BelowFloor, said)).await;
    let victim = node(&certs, "victim", &[donor.port]).await;
    let alarm = eventually("an alarm says why it is not ready", || async {
        let alarms = victim.admin.status().await.alarms;
        alarms.into_iter().find(|alarm| alarm.text.contains("could not be filled"))
    })
    .await;
    assert!(alarm.text.contains("without a birth"), "{alarm:?}");
    let status = victim.admin.status().await;
    assert!(!status.ready && victim.vector().is_empty(), "{status:?}");
    victim.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_vouches_for_an_origin_whose_certificate_is_not_accepted_any_more() {
    let (before, after, storage) = (Certs::new(), Certs::new(), tempfile::tempdir().unwrap());
    let ports = [free_port(), free_port()];
    let start = async |certs: &Certs, i: usize| {
        let id = ["donor", "peer"][i];
        let (path, address) = (Some(storage.path().join(id)), format!("127.0.0.1:{}", ports[i]));
        let address = address.parse().unwrap();
        let config = Config { path, address, ..strict(certs, id, &[ports[1 - i]]) };
        TestNode::start(certs, config).await
    };
    let (donor, peer) = (start(&before, 0).await, start(&before, 1).await);
    let (key, origin) = (random_key(), donor.node.store().origin());
    donor.client.put(&key, b"grant").await.unwrap();
    eventually("the peer has it", || peer.client.has_local(&key)).await;
    donor.stop().await;
    peer.stop().await;
    let (donor, peer) = (start(&after, 0).await, start(&after, 1).await);
    eventually("the log is compacted", || async {
        let compacted = donor.admin.admin.clone().compact(proto::CompactRequest {}).await.unwrap();
        (compacted.into_inner().entries_kept == 0).then_some(())
    })
    .await;
    let late = node(&after, "late", &[donor.port]).await;
    alarm(&late).await;

    let tool = Admin::new(&after.admin(), &[donor.address()]);
    let name = origin.to_string();
    let listed = || {
        let all = tool.json(&["origin", "list"], "");
        let origins = all["origins"].as_array().unwrap().clone();
        origins.into_iter().find(|known| known["origin"] == *name).unwrap()
    };
    assert_ne!(listed()["problem"], "");
    tool.fails(2, "--yes", &["origin", "vouch", &name], "");
    tool.fails(3, "no birth", &["origin", "vouch", "node-9/00000001", "--yes"], "");
    tool.fails(2, "NODE/INCARNATION", &["origin", "vouch", "node-9", "--yes"], "");
    let vouched = tool.json(&["origin", "vouch", &name, "--yes"], "");
    let outcomes = vouched["outcomes"].as_array().unwrap();
    assert_eq!(outcomes.len(), 2, "{vouched}");
    assert!(outcomes.iter().all(|outcome| outcome["error"] == ""), "{vouched}");
    assert_eq!(listed()["problem"], "");
    let again = tool.json(&["origin", "vouch", &name, "--yes"], "");
    assert_eq!(again["outcomes"], vouched["outcomes"], "it may be repeated for a node that was down");
    let at_peer = peer.node.store().signed_birth(&origin).unwrap().unwrap();
    assert!(at_peer.vouched_at_unix_ms.is_some());
    eventually("the new node is filled and ready", || async {
        let has = late.client.has_local(&key).await.is_some();
        (has && late.admin.status().await.ready).then_some(())
    })
    .await;
    // A node cannot vouch for itself, nor an operator of another cluster.
    let mut forged = at_peer.clone();
    for certs_dir in [after.node("donor"), after.admin_of("elsewhere")] {
        let signer = match certs_dir.join("client.crt").exists() {
            true => ClientIdentity::load(&certs_dir).unwrap().signer(),
            false => Identity::load(&certs_dir, RolePolicy::default()).unwrap().signer(),
        };
        let (cluster, at) = (ClusterId::of("brock"), forged.vouched_at_unix_ms.unwrap());
        let statement = forged.birth.statement(&cluster);
        let signed =
            signer.sign(Context::OperatorOrder, &Subject::Vouch(&statement).encode(&cluster, at)).unwrap();
        forged.signature = signed.signature.into();
        forged.scheme = signed.scheme;
        forged.certificates = signer.chain().iter().map(|der| Bytes::copy_from_slice(der)).collect();
        let identity = peer.node.store().identity().unwrap();
        assert!(identity.verify(&at_peer).is_ok());
        assert!(identity.verify(&forged).is_err(), "{certs_dir:?}");
    }
    for node in [donor, peer, late] {
        node.stop().await;
    }
}
