//! Invalidate, unpublish, delete: what they do to a record on every node, and the receipts for them.

use crate::harness::{
    certs::Certs,
    client::{all_within, nodes_within, put_request, record},
    cluster::Cluster,
    eventually,
    fake_peer::{FakePeer, Script},
    free_port,
    node::{TestNode, config},
    random_key,
    wire::{held, stamp},
};
use brock_core::{
    domain::record::RecordState,
    proto::{self, record::State},
};
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_is_refused_on_every_node_that_the_receipt_names() {
    let cluster = Cluster::start(3).await;
    let key = random_key();
    cluster.node(0).client.put(&key, b"grant").await.unwrap();
    cluster.converged().await;
    let done = cluster.node(1).admin.invalidate(&key, "leaked", all_within(20_000)).await.unwrap();
    let receipt = done.receipt.unwrap();
    let mut holders: Vec<&str> = receipt.holders.iter().map(|holder| holder.node.as_str()).collect();
    holders.sort_unstable();
    assert_eq!(holders, ["node-0", "node-2"]);
    assert!(receipt.missing.is_empty());
    // At once, without waiting for anything.
    for node in cluster.running() {
        let refused = node.client.get_local(&key).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{}", node.id);
        assert!(refused.message().contains("leaked"), "{refused}");
        let shown = node.admin.show(&key).await.unwrap();
        assert_eq!((shown.state(), shown.invalidation_reason.as_str()), (State::Invalidated, "leaked"));
        assert!(shown.invalidated_at_unix > 0);
        assert_eq!(shown.encrypted_access_grant.as_ref(), b"grant", "operators still see it");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_record_is_gone_everywhere_and_stays_so() {
    let cluster = Cluster::start(3).await;
    let key = random_key();
    cluster.node(0).client.put(&key, b"grant").await.unwrap();
    cluster.converged().await;
    let done = cluster.node(2).admin.delete(&key, all_within(20_000)).await.unwrap();
    assert!(!done.already && done.receipt.unwrap().missing.is_empty());
    for node in cluster.running() {
        assert_eq!(node.client.get(&key).await.unwrap_err().code(), Code::NotFound);
        assert_eq!(node.admin.show(&key).await.unwrap_err().code(), Code::NotFound);
        assert_eq!(node.client.put(&key, b"again").await.unwrap_err().code(), Code::AlreadyExists);
        assert_eq!(node.admin.invalidate(&key, "late", None).await.unwrap_err().code(), Code::NotFound);
        let again = node.admin.delete(&key, None).await.unwrap();
        assert!(again.already && again.stamp == done.stamp, "the delete that did it is named");
        let status = node.admin.status().await;
        assert_eq!((status.records, status.tombstones), (0, 1));
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unpublished_record_is_public_nowhere() {
    let cluster = Cluster::start(2).await;
    let key = random_key();
    let public = proto::Record { public: true, ..record(b"grant") };
    cluster.node(0).client.put_record(&key, public).await.unwrap();
    cluster.converged().await;
    assert!(cluster.node(1).client.get_local(&key).await.unwrap().public);
    let done = cluster.node(1).admin.unpublish(&key).await.unwrap();
    cluster.converged().await;
    for node in cluster.running() {
        assert!(!node.client.get_local(&key).await.unwrap().public);
        let again = node.admin.unpublish(&key).await.unwrap();
        assert!(again.already && again.stamp == done.stamp);
    }
    let (private, create) = (random_key(), cluster.node(0).client.put(&random_key(), b"g").await.unwrap());
    let create = proto::Stamp { clock: create.clock + 1, ..create };
    cluster.node(0).client.put(&private, b"g").await.unwrap();
    let done = cluster.node(0).admin.unpublish(&private).await.unwrap();
    assert!(done.already && done.stamp == Some(create), "its create made it so");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_made_twice_is_logged_once_and_its_receipt_is_about_the_first() {
    let cluster = Cluster::start(2).await;
    let key = random_key();
    cluster.node(0).client.put(&key, b"grant").await.unwrap();
    let first = cluster.node(0).admin.invalidate(&key, "leaked", None).await.unwrap();
    let before = cluster.converged().await;
    for node in cluster.running() {
        let again = node.admin.invalidate(&key, "another reason", all_within(20_000)).await.unwrap();
        assert!(again.already && again.stamp == first.stamp);
        assert!(again.receipt.unwrap().missing.is_empty());
        assert_eq!(node.admin.show(&key).await.unwrap().invalidation_reason, "leaked");
    }
    assert_eq!(cluster.converged().await, before, "nothing was logged");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_that_makes_no_sense_is_refused_and_changes_nothing() {
    let certs = Certs::new();
    let node = TestNode::start(&certs, config(&certs, "node-1", 0, &[])).await;
    let key = random_key();
    node.client.put(&key, b"grant").await.unwrap();
    let before = node.vector();
    let refused = |outcome: Result<proto::OperationResponse, tonic::Status>, part: &str| {
        let status = outcome.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().contains(part), "{status}");
    };
    refused(node.admin.invalidate(&key, "", None).await, "reason: is empty");
    refused(node.admin.invalidate(&key, &"x".repeat(1025), None).await, "reason: is 1025 bytes");
    refused(node.admin.invalidate(&key[1..], "leaked", None).await, "key_hash: is 31 bytes");
    refused(
        node.admin.invalidate(&key, "leaked", nodes_within(1, 0)).await,
        "waits for other members, 1 of them, and this node knows 0",
    );
    refused(node.admin.invalidate(&key, "leaked", all_within(300_001)).await, "acks.timeout_ms");
    let put = proto::PutRequest { acks: nodes_within(1, 0), ..put_request(&random_key(), b"g") };
    assert_eq!(node.client.kv.clone().put(put).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(node.vector(), before);
    assert_eq!(
        node.admin.invalidate(&random_key(), "leaked", None).await.unwrap_err().code(),
        Code::NotFound
    );
    let alone = node.admin.invalidate(&key, "leaked", all_within(0)).await.unwrap().receipt.unwrap();
    assert!(alone.holders.is_empty() && alone.missing.is_empty(), "there is nobody to wait for");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_only_a_peer_knows_can_be_revoked_here() {
    let certs = Certs::new();
    let keys: Vec<Vec<u8>> = (0..3).map(|_| random_key()).collect();
    let state = |state| brock_core::domain::codec::state_to_proto(&state);
    let mut script = Script::new("peer");
    script.holds.insert(keys[0].clone(), state(held(b"grant")));
    script
        .holds
        .insert(keys[1].clone(), state(RecordState { deletion: Some(stamp()), ..RecordState::default() }));
    let peer = FakePeer::start(&certs, "peer", script).await;
    let node = TestNode::start(&certs, config(&certs, "node-1", 0, &[peer.port])).await;
    // The refusal a moment ago must not be believed.
    node.admin.invalidate(&keys[0], "leaked", None).await.unwrap();
    let refused = node.client.get(&keys[0]).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    for key in &keys[1..] {
        let status = node.admin.invalidate(key, "leaked", None).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound, "{status}");
    }
    node.stop().await;

    let nobody = free_port();
    let node = TestNode::start(&certs, config(&certs, "node-2", 0, &[nobody])).await;
    let status = node.admin.invalidate(&keys[0], "leaked", None).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "nobody could say: {status}");
    assert!(node.vector().is_empty());
    node.admin.invalidate_ahead(&keys[0], "leaked").await;
    assert_eq!(node.vector().len(), 1);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_comes_first_operation_or_create_the_outcome_is_the_same() {
    let mut cluster = Cluster::start_some(2, 1, |config| config).await;
    let (revoked, deleted) = (random_key(), random_key());
    cluster.node(0).admin.invalidate_ahead(&revoked, "leaked before it was seen").await;
    cluster.node(0).admin.delete_ahead(&deleted).await;
    assert_eq!(cluster.node(0).client.get_local(&revoked).await.unwrap_err().code(), Code::NotFound);
    cluster.stop_node(0).await;
    // Cut off, the other region knows nothing of it yet, and accepts both.
    cluster.start_node(1).await;
    cluster.node(1).client.put(&revoked, b"grant").await.unwrap();
    cluster.node(1).client.put(&deleted, b"grant").await.unwrap();
    cluster.node(1).client.get_local(&revoked).await.unwrap();
    cluster.start_node(0).await;
    cluster.converged().await;
    for node in cluster.running() {
        let status = node.client.get_local(&revoked).await.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition, "{}: {status}", node.id);
        assert_eq!(node.client.get_local(&deleted).await.unwrap_err().code(), Code::NotFound);
    }
    // Where the operation is known, a put is accepted and is dead at once, or refused.
    let (revoked, deleted) = (random_key(), random_key());
    cluster.node(0).admin.invalidate_ahead(&revoked, "again").await;
    cluster.node(0).admin.delete_ahead(&deleted).await;
    cluster.node(0).client.put(&revoked, b"grant").await.unwrap();
    let status = cluster.node(0).client.get_local(&revoked).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(cluster.node(0).client.put(&deleted, b"g").await.unwrap_err().code(), Code::AlreadyExists);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_that_runs_out_of_time_names_who_is_missing_and_the_operation_stands() {
    let mut cluster = Cluster::start(3).await;
    let key = random_key();
    cluster.node(0).client.put(&key, b"grant").await.unwrap();
    cluster.acknowledged().await;
    cluster.stop_node(2).await;
    let done = cluster.node(0).admin.invalidate(&key, "leaked", all_within(1_500)).await.unwrap();
    let receipt = done.receipt.unwrap();
    assert_eq!(receipt.missing, ["node-2"]);
    assert_eq!(receipt.holders.len(), 1);
    assert_eq!(receipt.holders[0].node, "node-1");
    let one = cluster.node(0).admin.invalidate(&key, "leaked", nodes_within(1, 20_000)).await.unwrap();
    assert!(one.already && one.receipt.unwrap().missing.is_empty(), "one was enough");
    let put = proto::PutRequest { acks: nodes_within(1, 20_000), ..put_request(&random_key(), b"g") };
    let receipt = cluster.node(0).client.kv.clone().put(put).await.unwrap().into_inner().receipt.unwrap();
    assert_eq!((receipt.holders.len(), receipt.missing.len()), (1, 0));
    cluster.start_node(2).await;
    eventually("the key is dead at the one that was missing", || async {
        let outcome = cluster.node(2).client.get_local(&key).await;
        outcome.is_err_and(|status| status.code() == Code::FailedPrecondition).then_some(())
    })
    .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_tells_for_every_node_what_it_has_and_when_or_that_it_could_not_be_asked() {
    use proto::{operation::Kind, record_trace};
    let mut cluster = Cluster::start(3).await;
    let key = random_key();
    cluster.node(0).client.put(&key, b"grant").await.unwrap();
    cluster.converged().await;
    cluster.node(1).admin.invalidate(&key, "leaked", all_within(20_000)).await.unwrap();
    let traced = cluster.node(0).admin.trace(&key).await;
    assert_eq!(traced.nodes.len(), 3);
    assert_eq!(traced.nodes[0].node, "node-0", "the one that was asked comes first");
    for node in &traced.nodes {
        let trace = node.trace.as_ref().unwrap();
        assert_eq!(node.error, "");
        assert_eq!(trace.state(), record_trace::State::Invalidated);
        assert_eq!(trace.payload(), record_trace::Payload::Present);
        let kinds: Vec<Kind> = trace.operations.iter().map(record_trace::Operation::kind).collect();
        assert_eq!(kinds, [Kind::Create, Kind::Invalidate], "{}", node.node);
        assert!(trace.operations.iter().all(|operation| operation.applied_unix_ms > 1_600_000_000_000));
        assert_eq!(trace.operations[1].reason, "leaked");
        assert!(trace.operations[1].stamp.as_ref().unwrap().origin.starts_with(b"node-1"));
    }
    cluster.stop_node(2).await;
    let deleted = cluster.node(0).admin.delete(&key, nodes_within(1, 20_000)).await.unwrap();
    let traced = cluster.node(1).admin.trace(&key).await;
    let by_name = |name: &str| traced.nodes.iter().find(|node| node.node == name).unwrap();
    let trace = by_name("node-0").trace.as_ref().unwrap();
    assert_eq!(trace.state(), record_trace::State::Deleted);
    assert_eq!(trace.payload(), record_trace::Payload::RemovalPending, "its bytes are still in a file");
    let delete = trace.operations.iter().find(|operation| operation.stamp == deleted.stamp).unwrap();
    assert!(delete.at_unix > 1_600_000_000, "the operator has signed when: {trace:?}");
    assert_ne!(by_name("node-2").error, "", "it is down");
    let nothing = cluster.node(0).admin.trace(&random_key()).await;
    assert_eq!(nothing.nodes[0].trace.as_ref().unwrap().state(), record_trace::State::Absent);
    cluster.stop().await;
}
