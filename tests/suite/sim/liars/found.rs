//! What liars could do before the simulation had any, each in its smallest form; and the breaker, which it does not
//! run.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::Operator;
use crate::harness::{
    identity::{TestIdentity, TestOrigin},
    own_ca::{Leaf, OwnCa},
    snapshot::{end, header, page},
    store::{NOW, batch, created, creation, entry, key, new_record, node_id, origin, payload, ram},
};
use brock::{
    membership::{members::Members, peer::PeerKey, roster::Roster},
    replication::breaker::Breaker,
    runtime::alarms::Alarms,
    store::{Options, Store},
    transfer::{
        bundles::Bundles,
        join::{JoinError, Joiner, Terms},
        proof::{ProofError, Verifier},
    },
};
use brock_core::{
    base::{
        time::WallClock,
        vector::{Clock, Stamp, Vector},
    },
    domain::{operation::Operation, segment::Segment},
    proto::{self, snapshot_response::Message},
};
use brock_net::tls::{credentials::Identity, roles::RolePolicy};
use bytes::Bytes;

/// A store that believes only what is proven.
fn store() -> (Store, Verifier) {
    let identity = Some(Arc::new(TestIdentity::new(node_id("here"))) as Arc<dyn brock::store::Identity>);
    let store = Store::open(&Options { identity, ..ram("here") }).unwrap();
    let verifier = Operator::get().verifier(&store, &clock());
    (store, verifier)
}

fn clock() -> WallClock {
    WallClock::new(|| NOW.unsigned_abs() * 1000)
}

fn create(clock: u64, grant: &[u8]) -> proto::Entry {
    let payload = payload(grant);
    entry(clock, key(clock), &creation(NOW, &payload), Some(&payload))
}

/// A relay cannot make a node set an operation aside by another payload, which no signature covers.
#[tokio::test]
async fn a_payload_that_is_not_the_operations_is_its_senders_fault() {
    let (store, verifier) = store();
    let signer = TestOrigin::new(origin("signer", 1));
    let genuine = signer.sign(0, vec![create(1, b"grant")]);
    let check = |payload: Option<Bytes>| {
        let mut batch = genuine.clone();
        batch.entries[0].payload = payload;
        verifier.check_segment(&node_id("relay"), Segment::check(batch).unwrap()).map(drop)
    };
    assert_eq!(check(Some(payload(b"other"))), Err(ProofError::Payload(signer.origin)));
    assert_eq!(check(Some(payload(b"grant"))), Ok(()));
    assert_eq!(check(None), Ok(()), "a payload that is gone is none that is forged");
    let deleted = entry(1, key(1), &Operation::Delete, Some(&payload(b"grant")));
    let deleted = Segment::check(signer.sign(0, vec![deleted])).unwrap();
    let refused = verifier.check_segment(&node_id("relay"), deleted).map(drop);
    assert_eq!(refused, Err(ProofError::Payload(signer.origin)));
    drop(store);
}

/// A donor cannot make a node refuse an origin for ever by claiming its clocks before the node knows its birth.
#[tokio::test]
async fn a_birth_is_learnt_after_a_donor_has_claimed_clocks_of_its_origin() {
    let (store, verifier) = store();
    let signer = TestOrigin::new(origin("signer", 1));
    let claimed: Vector = [(signer.origin, Clock(7))].into_iter().collect();
    let mut joiner = Joiner::new(store.clone(), node_id("donor"), Terms::default(), Some(verifier.clone()));
    let nothing = page(Vec::new(), 0xff, None);
    for message in [header("donor", &claimed, &Vector::default(), 0), nothing, end(None)] {
        joiner.take(proto::SnapshotResponse { message: Some(message) }).await.unwrap();
    }
    assert_eq!(store.clock(&signer.origin), Clock(7));
    for clock in 1..=7 {
        signer.sign(clock - 1, vec![proto::Entry { clock, ..create(1, b"earlier") }]);
    }
    let later = signer.sign(7, vec![proto::Entry { clock: 8, ..create(1, b"grant") }]);
    let segment = verifier.check_segment(&node_id("relay"), Segment::check(later).unwrap()).unwrap();
    store.apply(segment).await.unwrap();
    assert!(store.born(&signer.origin).is_some());
    let state = store.get(key(1)).await.unwrap().unwrap();
    assert_eq!(verifier.believe(&key(1), state, &Bundles::default(), &[]).unproven, Default::default());
}

/// A donor whose records do not show a delete that no operator has ordered cannot make a node relay it.
#[tokio::test]
async fn the_log_of_a_snapshot_destroys_nothing_without_an_order() {
    let (store, verifier) = store();
    let signer = TestOrigin::new(origin("signer", 1));
    let delete = entry(2, key(1), &Operation::Delete, None);
    let log = signer.sign(0, vec![create(1, b"grant"), delete]);
    verifier.learn(vec![log.birth.clone().unwrap()], &Vector::default()).await.unwrap();
    let claimed: Vector = [(signer.origin, Clock(2))].into_iter().collect();
    let mut joiner = Joiner::new(store.clone(), node_id("donor"), Terms::default(), Some(verifier));
    let nothing = page(Vec::new(), 0xff, None);
    for message in [header("donor", &claimed, &Vector::default(), 0), nothing] {
        joiner.take(proto::SnapshotResponse { message: Some(message) }).await.unwrap();
    }
    let log = Message::Log(proto::LogPage { batch: Some(log) });
    let refused = joiner.take(proto::SnapshotResponse { message: Some(log) }).await;
    assert!(matches!(refused, Err(JoinError::Order(_))), "{refused:?}");
    assert_eq!(store.totals().log_entries, 0);
}

const DESTRUCTION_LIMIT: u64 = 10;

/// The breaker of a node without peers, which has these records.
async fn breaker(records: u64) -> (Store, Breaker) {
    let (store, _) = store();
    for number in 1..=records {
        created(&store, new_record(key(number), b"grant")).await;
    }
    let directory = OwnCa::new();
    let directory = directory.directory("node", &Leaf::node("here"));
    let identity = Identity::load(&directory, RolePolicy { require_uri: true }).unwrap();
    let members = Members::new(node_id("here"), (&[], false), Vec::new(), Duration::from_secs(60)).unwrap();
    let roster = Roster::new(&[], std::iter::empty(), identity.dialler(), members, NOW);
    let context = (clock(), Alarms::new(clock()));
    let breaker = Breaker::new(Some(DESTRUCTION_LIMIT), (store.clone(), roster), context).await.unwrap();
    (store, breaker)
}

#[tokio::test]
async fn a_log_that_destroys_more_than_the_limit_is_paused() {
    let (_store, breaker) = breaker(20).await;
    let deletes = (1..=20).map(|clock| entry(clock, key(clock), &Operation::Delete, None)).collect();
    let segment = Segment::check(batch(origin("evil", 1), 0, deletes)).unwrap();
    let (address, evil) = (PeerKey::from("evil:20000"), node_id("evil"));
    let admitted = breaker.admit((&address, &evil), segment).await.unwrap();
    assert!(admitted.is_paused);
    assert_eq!(admitted.segment.map(|segment| segment.covered_through), Some(Clock(DESTRUCTION_LIMIT)));
    assert_eq!(breaker.paused().len(), 1);
}

#[tokio::test]
async fn states_that_destroy_more_than_the_limit_are_not_admitted() {
    let (_store, breaker) = breaker(20).await;
    let (address, evil) = (PeerKey::from("evil:20000"), node_id("evil"));
    let delete =
        |clock| Operation::Delete.state(Stamp { origin: origin("evil", 1), clock: Clock(clock) }, None);
    let states: BTreeMap<_, _> = (1..=20).map(|clock| (key(clock), delete(clock))).collect();
    let states: Vec<_> = states.into_iter().collect();
    let few = &states[..usize::try_from(DESTRUCTION_LIMIT).unwrap()];
    assert!(breaker.admit_states((&address, &evil), few).await.unwrap());
    assert!(!breaker.admit_states((&address, &evil), &states).await.unwrap());
}
