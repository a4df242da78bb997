//! Peers that lie about records when they are asked: by a read, by the comparison that nodes make themselves, and by a
//! repair. The node that asks believes only what is proven.

use std::collections::HashMap;

use crate::harness::{
    certs::Certs,
    eventually,
    fake_peer::{FakePeer, Script},
    free_port,
    identity::TestOrigin,
    node::{TestNode, config},
    random_key,
    wire::{at, create, held, key_hash, origin, payload, stamp},
};
use brock::{config::validate::Config, transfer::keyed_state};
use brock_core::{
    base::{claims::ClaimKind, id::KeyHash, trust::TrustMode, vector::Stamp},
    domain::{
        codec::{state_to_proto, vector_to_proto},
        digest::BUCKETS,
        record::{Invalidation, RecordState},
    },
    proto::{self, list_bucket_response::Item},
};
use tonic::Code;

async fn node(certs: &Certs, id: &str, join: &[u16]) -> TestNode {
    let config = config(certs, id, free_port(), join);
    TestNode::start(certs, Config { trust: TrustMode::Distributed, ..config }).await
}

/// Records that all are in one bucket, as a node has them that has taken the logs of their origins.
struct Truth {
    certs: Certs,
    /// Writes all but the last.
    owner: TestOrigin,
    log: proto::Batch,
    /// Writes the last.
    other: TestOrigin,
    keys: Vec<Vec<u8>>,
    states: Vec<RecordState>,
    bundles: Vec<proto::Leaves>,
}

const BUCKET: u8 = 7;

impl Truth {
    async fn new() -> Self {
        let certs = Certs::new();
        let [owner, other] = ["owner", "other"].map(|id| TestOrigin::certified(&certs, origin(id, 1)));
        let in_bucket = |mut key: Vec<u8>| {
            key[0] = BUCKET;
            key
        };
        let mut keys: Vec<Vec<u8>> = (0..6).map(|_| in_bucket(random_key())).collect();
        keys.sort();
        let creates = (1..5).zip(&keys).map(|(clock, key)| create(clock, key, b"grant")).collect();
        let log = owner.sign_each(0, creates);
        let others = other.sign(0, vec![create(1, &keys[5], b"grant")]);
        let batches = vec![log.clone(), others];
        let relay = FakePeer::start(&certs, "relay", Script { batches, ..Script::new("relay") }).await;
        let source = node(&certs, "source", &[relay.port]).await;
        eventually("the records are there", || source.client.has_local(&keys[5])).await;
        let mut states = Vec::new();
        for key in &keys {
            states.push(source.node.store().get(key_hash(key)).await.unwrap().unwrap_or_default());
        }
        let bundles = source.node.store().bundles_of(states.iter()).await.unwrap();
        source.stop().await;
        Self { certs, owner, log, other, keys, states, bundles }
    }

    /// What a liar says of each record: one of another key hash, an invented revocation, an earlier expiry, an
    /// invented unpublication, and a record without any evidence. Of the last one, the truth.
    fn lies(&self) -> Vec<RecordState> {
        let [first, second, third, fourth, _, last] = &self.states[..] else { panic!("six records") };
        let stamp = Stamp { clock: self.owner.stamp(5).clock, ..self.owner.stamp(1) };
        let invalidation = Some(Invalidation { at: 1_700_000_001, reason: "leaked".to_owned(), stamp });
        vec![
            second.clone(),
            RecordState { invalidation, ..second.clone() },
            RecordState { expires_at: Some(1), expiry: Some(self.owner.stamp(3)), ..third.clone() },
            RecordState { unpublished: true, unpublication: Some(stamp), ..fourth.clone() },
            RecordState { evidence: Default::default(), ..first.clone() },
            last.clone(),
        ]
    }

    fn births(&self) -> Vec<proto::Birth> {
        vec![self.owner.birth(), self.other.birth()]
    }

    fn hashes(&self) -> Vec<KeyHash> {
        self.keys.iter().map(|key| key_hash(key)).collect()
    }

    /// A peer that has applied the owner's log, and answers this about the records, whose digests differ.
    fn answers(&self, states: Vec<RecordState>) -> Script {
        let heads = at(self.owner.origin, 4);
        let digest = proto::Digest {
            records: vec![1; 32].into(),
            tombstones: vec![0; 32].into(),
            ..Default::default()
        };
        let item =
            |key: &Vec<u8>| Item { key_hash: key.clone().into(), digest: vec![1; 16].into(), deleted: false };
        let listed = proto::ListBucketResponse { items: self.keys.iter().map(item).collect(), more: false };
        let mut record_buckets = vec![0; BUCKETS * 32];
        record_buckets[usize::from(BUCKET) * 32] = 1;
        let summary = proto::SummaryResponse {
            node_id: "liar".to_owned(),
            incarnation: 1,
            vector: Some(vector_to_proto(&heads)),
            digest: Some(digest.clone()),
            record_buckets: record_buckets.into(),
            tombstone_buckets: vec![0; BUCKETS * 32].into(),
            records: 6,
            ..Default::default()
        };
        let states = self.hashes().into_iter().zip(states);
        let states = proto::FetchStatesResponse {
            states: states.map(|(key_hash, state)| keyed_state(key_hash, &state)).collect(),
            looked_at: 6,
            births: self.births(),
            bundles: self.bundles.clone(),
            ..Default::default()
        };
        Script {
            batches: vec![self.log.clone()],
            heads,
            digest: Some(digest),
            summary: Some(summary),
            buckets: [(BUCKET.into(), listed)].into(),
            states: Some(states),
            ..Script::new("liar")
        }
    }
}

/// The reader has none of the records.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_is_answered_with_no_record_that_a_peer_has_not_proven() {
    let truth = Truth::new().await;
    let lies = truth.lies();
    let mut holds: HashMap<Vec<u8>, proto::RecordState> =
        truth.keys.iter().cloned().zip(lies.iter().map(state_to_proto)).collect();
    // Of an origin that nobody knows.
    let invented = random_key();
    holds.insert(invented.clone(), state_to_proto(&held(b"x")));
    assert_ne!(stamp().origin, truth.owner.origin);
    let proofs =
        proto::PeekResponse { births: truth.births(), bundles: truth.bundles.clone(), ..Default::default() };
    let script = Script { holds, proofs, ..Script::new("liar") };
    let liar = FakePeer::start(&truth.certs, "liar", script).await;
    let victim = node(&truth.certs, "victim", &[liar.port]).await;
    let proven = truth.keys.last().unwrap();
    let read = || async { victim.client.get(proven).await.ok() };
    assert_eq!(eventually("the peer is asked", read).await.encrypted_access_grant, "grant");
    assert_eq!(liar.refused(ClaimKind::State), 0, "what is proven is no lie");
    let lied: Vec<&Vec<u8>> = truth.keys[..5].iter().chain([&invented]).collect();
    for (number, key) in lied.iter().enumerate() {
        let shown = victim.client.get(key).await;
        let code = shown.as_ref().map_err(tonic::Status::code).map(drop);
        assert_eq!(code, Err(Code::Unavailable), "lie {number}: {shown:?}");
        assert_eq!(liar.refused(ClaimKind::State), number as u64 + 1);
    }
    assert_eq!(victim.node.store().records(), 0, "what a read was answered is not kept");
    victim.stop().await;
}

/// The victim has applied what the liar claims to have, and the digests differ.
#[tokio::test(flavor = "multi_thread")]
async fn of_what_a_comparison_or_a_repair_finds_at_a_liar_only_what_is_proven_is_joined() {
    let truth = Truth::new().await;
    let liar = FakePeer::start(&truth.certs, "liar", truth.answers(truth.lies())).await;
    let victim = node(&truth.certs, "victim", &[liar.port]).await;
    let proven = truth.keys.last().unwrap();
    eventually("of the answer, what is proven arrives", || victim.client.has_local(proven)).await;
    let refused = liar.refused(ClaimKind::State);
    assert!(refused >= 5, "{refused}");
    let repaired = victim.admin.admin.clone().repair(proto::RepairRequest {}).await.unwrap().into_inner();
    let [peer] = &repaired.peers[..] else { panic!("{repaired:?}") };
    assert_eq!((peer.differing, peer.repaired), (6, 0), "{peer:?}");
    assert!(liar.refused(ClaimKind::State) >= refused + 5);
    let here = victim.node.store().get_many(truth.hashes()).await.unwrap();
    for (number, (state, genuine)) in here.into_iter().zip(&truth.states).enumerate() {
        assert_eq!(state.unwrap_or_default(), *genuine, "lie {number}");
    }
    victim.stop().await;
}

/// The payload is not the one whose digest the record states.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_makes_no_sense_is_counted_and_nothing_of_it_is_joined() {
    let truth = Truth::new().await;
    let mut states = truth.lies();
    states[4].creation.as_mut().unwrap().payload = Some(payload(b"forged"));
    let holds = [(truth.keys[4].clone(), state_to_proto(&states[4]))].into();
    let script = Script { holds, ..truth.answers(states) };
    let liar = FakePeer::start(&truth.certs, "liar", script).await;
    let victim = node(&truth.certs, "victim", &[liar.port]).await;
    eventually("a comparison has met it", || async { (liar.refused(ClaimKind::State) > 0).then_some(()) })
        .await;
    let before = liar.refused(ClaimKind::State);
    let repaired = victim.admin.admin.clone().repair(proto::RepairRequest {}).await.unwrap().into_inner();
    assert!(repaired.peers[0].error.contains("makes no sense"), "{repaired:?}");
    let unsure = victim.client.get(&truth.keys[4]).await.unwrap_err();
    assert_eq!(unsure.code(), Code::Unavailable, "{unsure}");
    assert!(liar.refused(ClaimKind::State) >= before + 2);
    assert_eq!(victim.node.store().records(), 4);
    victim.stop().await;
}
