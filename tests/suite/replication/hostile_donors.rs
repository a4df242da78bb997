//! Donors that show what was true once.

use std::time::Duration;

use crate::harness::{
    certs::Certs,
    client::all_within,
    eventually,
    fake_peer::FakePeer,
    free_port,
    node::{TestNode, compacts_on_command, config},
    proxy::{Mode, Proxy},
    random_key,
    snapshot::{births, forces},
    stays,
};
use brock::{config::validate::Config, store::Store, transfer::feed::SnapshotFeed};
use brock_core::{
    base::trust::TrustMode,
    domain::codec,
    proto::{self, out_of_sync::Reason, snapshot_response::Message},
};
use tonic::Code;

async fn node(certs: &Certs, id: &str, join: &[u16]) -> TestNode {
    let config = compacts_on_command(config(certs, id, free_port(), join));
    TestNode::start(certs, Config { trust: TrustMode::Distributed, ..config }).await
}

/// All that a node shows an empty one.
async fn snapshot(store: &Store) -> Vec<Message> {
    let request = proto::SnapshotRequest { node_id: "victim".to_owned(), ..Default::default() };
    let mut feed = SnapshotFeed::begin(store.clone(), request).unwrap();
    let mut messages = Vec::new();
    while let Some(response) = feed.next().await.unwrap() {
        messages.extend(response.message);
    }
    messages
}

/// Every signature in it is genuine, and of before a revocation. The donor claims what was applied then, or what is
/// applied now, with the last signature of now.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_snapshot_is_confirmed_by_nobody_before_what_it_lacks_is_there() {
    for claims_now in [false, true] {
        let certs = Certs::new();
        let writer = node(&certs, "writer", &[]).await;
        let member = node(&certs, "member", &[writer.port]).await;
        let keys: Vec<Vec<u8>> = (0..3).map(|_| random_key()).collect();
        for key in &keys {
            writer.client.put(key, b"grant").await.unwrap();
        }
        eventually("the log is compacted away", || async {
            let compacted = writer.admin.admin.clone().compact(proto::CompactRequest {}).await.unwrap();
            (compacted.into_inner().entries_kept == 0).then_some(())
        })
        .await;
        let store = writer.node.store();
        let (mut said, then) = (snapshot(store).await, writer.vector());
        writer.admin.invalidate(&keys[1], "leaked", all_within(20_000)).await.unwrap();
        let now = writer.vector();
        let birth = store.birth(store.origin()).await.unwrap().unwrap();
        for message in &mut said {
            match message {
                Message::Header(header) => {
                    (header.node_id, header.incarnation) = ("donor".to_owned(), 1);
                    if claims_now {
                        header.vector = Some(codec::vector_to_proto(&now));
                    }
                }
                Message::Births(_) if claims_now => *message = births(vec![birth.clone()], store),
                _ => {}
            }
        }
        let donor = FakePeer::start(&certs, "donor", forces("donor", Reason::BelowFloor, said)).await;
        let link = Proxy::start(member.port).await;
        link.set(Mode::Cut);
        let victim = node(&certs, "victim", &[donor.port, link.port]).await;
        let filled_from = || async {
            let trust = victim.admin.status().await.trust.unwrap();
            trust.unconfirmed_fills.into_iter().map(|fill| fill.donor).collect::<Vec<_>>()
        };
        let expected = if claims_now { &now } else { &then };
        eventually(&format!("it is filled, claims_now: {claims_now}"), || async {
            (victim.vector() == *expected && filled_from().await == ["donor"]).then_some(())
        })
        .await;
        assert_eq!(victim.client.get_local(&keys[1]).await.unwrap().encrypted_access_grant, "grant");
        stays("the donor confirms nothing of its own", Duration::from_secs(2), || async {
            filled_from().await == ["donor"]
        })
        .await;
        link.set(Mode::Pass);
        eventually(&format!("it is confirmed, claims_now: {claims_now}"), || async {
            filled_from().await.is_empty().then_some(())
        })
        .await;
        // By then the revocation is there, and not some time later.
        let refused = victim.client.get_local(&keys[1]).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "claims_now: {claims_now}");
        for node in [victim, member, writer] {
            node.stop().await;
        }
    }
}
