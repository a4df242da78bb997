//! Records that are not proven to a node that believes only what is: it says so, and shows none of them as valid.

use std::fs;

use crate::harness::{
    certs::Certs,
    client::Client,
    eventually, free_port,
    node::{TestNode, compacts_on_command, config},
    random_key,
};
use brock::config::validate::Config;
use brock_core::{base::trust::TrustMode, proto};
use brock_net::pki::{
    issue::LeafKind,
    revoke::{Revoke, revoke},
};
use tonic::Code;

async fn node(certs: &Certs, id: &str, join: &[u16]) -> TestNode {
    let config = compacts_on_command(config(certs, id, free_port(), join));
    TestNode::start(certs, Config { trust: TrustMode::Distributed, ..config }).await
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
    let compacted = donor.admin.admin.clone().compact(proto::CompactRequest {}).await.unwrap().into_inner();
    assert_eq!(compacted.entries_kept, 0);
    let request = Revoke {
        certs_dir: certs.path("ca"),
        ca_key: certs.ca_key(),
        certificates: vec![gone.join("client.crt")],
    };
    let (list, late_list) = (revoke(&request).unwrap().list, certs.node("late").join("ca.crl"));
    fs::copy(list, &late_list).unwrap();

    let late = node(&certs, "late", &[donor.port]).await;
    let alarm = eventually("an alarm says what is missing", || async {
        let alarms = late.admin.status().await.alarms;
        alarms.into_iter().find(|alarm| alarm.text.contains("are not proven here"))
    })
    .await;
    assert!(alarm.text.contains("1 operations") && alarm.text.contains("troubleshooting.md"), "{alarm:?}");
    eventually("it is not ready", || async { (!late.admin.status().await.ready).then_some(()) }).await;
    late.client.has_local(&valid).await.unwrap();
    assert_eq!(late.client.get_local(&revoked).await.unwrap_err().code(), Code::NotFound);
    let unsure = late.client.get(&revoked).await.unwrap_err();
    assert_eq!(unsure.code(), Code::Unavailable, "the peer has it, and not all of it is proven: {unsure}");
    let verdict = late.admin.admin.clone().cluster(proto::ClusterRequest::default()).await.unwrap();
    let findings = verdict.into_inner().verdict.unwrap().findings;
    assert!(findings.iter().any(|finding| finding.what.contains("are not proven here")), "{findings:?}");

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
