//! Filling a node from another's records: broken off and resumed, and from donors that lie.

use crate::harness::{
    client::put_request,
    cluster::Cluster,
    eventually,
    node::{TestNode, compacts_on_command, config},
    proxy::{Mode, Proxy},
    random_key,
    store::{NOW, batch, creation, deliver, entry, node_id, origin, payload, ram},
};
use brock::{
    store::Store,
    transfer::{
        join::{Joiner, Terms},
        proof::Verifier,
    },
};
use brock_core::{
    base::{
        id::{KeyHash, Origin},
        trust::TrustMode,
        vector::{Clock, Vector},
    },
    domain::codec,
    proto::{self, snapshot_response::Message},
};
use bytes::Bytes;
use prost::Message as _;

const RECORDS: usize = 20_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_resync_that_breaks_off_goes_on_where_it_was() {
    let cluster = Cluster::start_with(1, compacts_on_command).await;
    let donor = cluster.node(0);
    let mut keys = Vec::new();
    for _ in 0..RECORDS / 1000 {
        let chunk: Vec<Vec<u8>> = (0..1000).map(|_| random_key()).collect();
        let items = chunk.iter().map(|key| put_request(key, &[7; 600])).collect();
        donor.client.kv.clone().batch_put(proto::BatchPutRequest { items }).await.unwrap();
        keys.extend(chunk);
    }
    assert_eq!(cluster.compact().await[0].entries_kept, 0, "there is nobody to wait for");

    let proxy = Proxy::start(donor.port).await;
    proxy.set(Mode::Delay(std::time::Duration::from_millis(10)));
    let config = config(&cluster.certs, "late", 0, &[proxy.port]);
    let config =
        brock::config::validate::Config { replication_interval: std::time::Duration::from_secs(1), ..config };
    let late = TestNode::start(&cluster.certs, config).await;
    let progress = async || late.admin.status().await.resync.map(|resync| resync.records_joined);
    let reached =
        eventually("a part of it has come", || async { progress().await.filter(|joined| *joined >= 4_000) })
            .await;
    assert!(reached < RECORDS as u64, "it was over before it could be cut");
    assert_eq!(late.vector().len(), 0, "nothing counts as applied yet");
    proxy.set(Mode::Cut);
    eventually("it is broken off", || async { progress().await.is_none().then_some(()) }).await;
    proxy.set(Mode::Delay(std::time::Duration::from_millis(10)));
    let resumed = eventually("it goes on", || async { progress().await.filter(|joined| *joined > 0) }).await;
    assert!(resumed >= reached, "it began anew: {resumed} after {reached}");
    proxy.set(Mode::Pass);
    eventually("all has come", || async { (late.vector() == donor.vector()).then_some(()) }).await;
    let status = late.admin.status().await;
    assert_eq!((status.records, status.log_entries), (RECORDS as u64, 0));
    for key in keys.iter().step_by(97) {
        late.client.get_local(key).await.unwrap();
    }
    // From now on by the log.
    let key = random_key();
    donor.client.put(&key, b"grant").await.unwrap();
    eventually("it follows", || late.client.has_local(&key)).await;
    late.stop().await;
    cluster.stop().await;
}

/// While one peer fills the node, the others have not failed.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_filled_by_one_peer_complains_of_no_other() {
    let cluster = Cluster::start_with(2, compacts_on_command).await;
    let items = (0..1000).map(|_| put_request(&random_key(), &[7; 600])).collect();
    cluster.node(0).client.kv.clone().batch_put(proto::BatchPutRequest { items }).await.unwrap();
    cluster.acknowledged().await;
    cluster.compact().await;
    let mut proxies = Vec::new();
    for i in 0..2 {
        let proxy = Proxy::start(cluster.node(i).port).await;
        proxy.set(Mode::Delay(std::time::Duration::from_millis(50)));
        proxies.push(proxy);
    }
    let join: Vec<u16> = proxies.iter().map(|proxy| proxy.port).collect();
    let late = TestNode::start(&cluster.certs, config(&cluster.certs, "late", 0, &join)).await;
    eventually("all has come", || async { (late.vector() == cluster.node(0).vector()).then_some(()) }).await;
    for peer in late.admin.status().await.peers {
        let failed: Vec<_> =
            peer.recent_rounds.iter().map(|round| &round.error).filter(|e| !e.is_empty()).collect();
        assert!(failed.is_empty() && peer.last_error.is_empty(), "{}: {failed:?}", peer.address);
    }
    late.stop().await;
    cluster.stop().await;
}

/// A log with several operations on each record, none of them compacted.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_node_starts_with_the_records_when_that_is_cheaper_than_the_log() {
    use brock::store::NewOperation;
    use brock_core::{base::limits, domain::operation::Operation};

    use crate::harness::store::{key, new_record};
    let records = limits::RESYNC_CHEAPER_ENTRIES / 3;
    let cluster = Cluster::start_with(1, compacts_on_command).await;
    let store = cluster.node(0).node.store();
    for chunk in 0..=records / 500 {
        let numbers = chunk * 500..(chunk + 1) * 500;
        store.create(numbers.clone().map(|number| new_record(key(number), b"g")).collect()).await.unwrap();
        let operations = numbers.flat_map(|number| {
            let revoke = Operation::Invalidate { at: 1, reason: "leaked".to_owned() };
            [Operation::Unpublish, revoke].map(|operation| {
                store.operate(NewOperation { key_hash: key(number), operation, ahead: false })
            })
        });
        futures::future::try_join_all(operations).await.unwrap();
    }
    let late =
        TestNode::start(&cluster.certs, config(&cluster.certs, "late", 0, &[cluster.node(0).port])).await;
    eventually("all has come", || async { (late.vector() == cluster.node(0).vector()).then_some(()) }).await;
    let received: u64 = late.admin.status().await.peers.iter().map(|peer| peer.entries_received).sum();
    assert_eq!(received, 0, "nothing came as a batch of the log");
    let status = late.admin.status().await;
    assert_eq!(status.records, store.records());
    assert_eq!(status.log_entries, store.totals().log_entries, "what the donor's log has is copied too");
    late.stop().await;
    cluster.stop().await;
}

/// Claim: what a page has taken away, because its donor had deleted and forgotten it, may come back
/// from elsewhere while the resync is broken off. So the resync restarts, and takes it away again.
#[tokio::test]
async fn a_resync_from_a_donor_that_has_forgotten_begins_anew() {
    let store = Store::open(&ram("puller")).unwrap();
    let (creator, payload) = (origin("creator", 1), payload(b"grant"));
    let known: Vector = [(creator, Clock(1)), (origin("deleter", 1), Clock(1))].into_iter().collect();
    let low = KeyHash([0x10; 32]);
    let header = Message::Header(proto::SnapshotHeader {
        node_id: "donor".to_owned(),
        incarnation: 1,
        vector: Some(codec::vector_to_proto(&known)),
        ..Default::default()
    });
    let page = |through: u8| {
        Message::Records(proto::RecordPage {
            records: Vec::new(),
            through: Bytes::copy_from_slice(&[through; 32]),
            collected: Some(codec::vector_to_proto(&known)),
            ..Default::default()
        })
    };
    let end = Message::End(proto::SnapshotEnd { collected: Some(codec::vector_to_proto(&known)) });
    let take = async |joiner: &mut Joiner, message: &Message| {
        joiner.take(proto::SnapshotResponse { message: Some(message.clone()) }).await.unwrap()
    };

    let terms = Terms { may_drop: Some(100), ..Terms::default() };
    let mut broken = Joiner::new(store.clone(), node_id("donor"), terms.clone(), None);
    take(&mut broken, &header).await;
    assert!(broken.is_resumable(), "nothing was taken away yet");
    take(&mut broken, &page(0x80)).await;
    assert!(!broken.is_resumable(), "it has passed the key hash, which may come back");

    let create = entry(1, low, &creation(NOW, &payload), Some(&payload));
    deliver(&store, batch(creator, 0, vec![create])).await.unwrap();
    assert!(store.get(low).await.unwrap().is_some(), "somebody else knew of no delete");

    let mut anew = Joiner::new(store.clone(), node_id("donor"), terms.clone(), None);
    for message in [&header, &page(0x80), &page(0xff)] {
        assert!(!take(&mut anew, message).await);
    }
    assert!(take(&mut anew, &end).await);
    assert_eq!(store.get(low).await.unwrap(), None, "it was deleted, and that is applied now");
    assert!(store.applied().covers(&known));
}

/// Claim: a resync continues although this node declines some of the donor's origins, and one that the donor calls over
/// is present: the donor knows the snapshot by its own words.
#[tokio::test]
async fn a_resync_continues_with_what_is_declined_and_present() {
    let store = Store::open(&ram("puller")).unwrap();
    let [kept, declined, present] = ["kept", "declined", "present"].map(|id| origin(id, 1));
    let vector: Vector = [(kept, Clock(2)), (declined, Clock(3))].into_iter().collect();
    let folds: Vector = [(present, Clock(4))].into_iter().collect();
    let verifier = Verifier::new(store.clone(), TrustMode::Centralized, None);
    let declines = Box::new(move |origins: Vec<Origin>, _| {
        origins.into_iter().filter(|origin| *origin == declined).collect()
    });
    let terms = Terms { present: vec![present], ..Terms::default() };
    let mut joiner =
        Joiner::from_peer(store.clone(), (node_id("donor"), "donor".to_owned()), terms, verifier, declines);
    let mut header = proto::SnapshotHeader {
        node_id: "donor".to_owned(),
        incarnation: 1,
        vector: Some(codec::vector_to_proto(&vector)),
        folds: Some(codec::folds_to_proto(&folds)),
        ..Default::default()
    };
    let first = Message::Header(header.clone());
    joiner.take(proto::SnapshotResponse { message: Some(first) }).await.unwrap();
    let cursor = joiner.request().cursor.unwrap();
    // As a donor continues: with the vector of the beginning.
    header.vector = cursor.vector;
    assert_eq!(header.vector, Some(codec::vector_to_proto(&vector)));
    let page = proto::RecordPage { through: vec![0xff; 32].into(), ..Default::default() };
    for message in
        [Message::Header(header), Message::Records(page), Message::End(proto::SnapshotEnd::default())]
    {
        joiner.take(proto::SnapshotResponse { message: Some(message) }).await.unwrap();
    }
    assert!(store.applied().lists(&kept) && !store.applied().lists(&declined));
}

/// Claim: the end of a full backup of format 1, which has the donor's floors in its first field, says nothing of
/// collected tombstones: peers without --tombstone-grace would take nothing from the restored node.
#[tokio::test]
async fn the_end_of_an_old_backup_collects_nothing() {
    let store = Store::open(&ram("restored")).unwrap();
    let floors: Vector = [(origin("writer", 1), Clock(5))].into_iter().collect();
    let floors = codec::vector_to_proto(&floors).encode_to_vec();
    let old = [&[0x0a, u8::try_from(floors.len()).unwrap()][..], &floors].concat();
    let end = proto::SnapshotEnd::decode(old.as_slice()).unwrap();
    let header = proto::SnapshotHeader {
        node_id: "restored".to_owned(),
        vector: Some(codec::vector_to_proto(&[(origin("writer", 1), Clock(9))].into_iter().collect())),
        ..Default::default()
    };
    let page = proto::RecordPage { through: vec![0xff; 32].into(), ..Default::default() };
    let mut joiner = Joiner::new(store.clone(), node_id("restored"), Terms::own_backup(), None);
    for message in [Message::Header(header), Message::Records(page), Message::End(end)] {
        joiner.take(proto::SnapshotResponse { message: Some(message) }).await.unwrap();
    }
    assert!(store.collected().is_empty(), "{:?}", store.collected());
}
