//! Random mutations of what nodes tell each other of logs beside the logs: nothing of it is believed.

use crate::harness::{
    certs::Certs,
    identity::{TestOrigin, signing, strict, take},
    pen::Pen,
    store::{NOW, close, creation, entry, key, open, origin, payload, ram},
};
use brock::{
    runtime::alarms::Alarms,
    store::Store,
    transfer::{closings::Learnt, orders::Orders},
};
use brock_core::{
    base::{
        id::{ClusterId, Origin},
        time::{WallClock, unix_now},
        trust::TrustMode,
        vector::{Clock, Vector},
    },
    domain::{
        acknowledgement::Acknowledgement,
        birth::SignedBirth,
        order::{ClosedLog, Subject},
    },
    proto,
};
use prost::Message;
use rand::{Rng, SeedableRng, rngs::StdRng};

/// Of each kind of statement.
const MUTATIONS: u64 = 5_000;
const NOW_MS: u64 = 1_900_000_000_000;

/// Mutations of a message that still decode, and say something else.
fn mutations<M: Message + Default + PartialEq>(genuine: M) -> impl Iterator<Item = M> {
    let bytes = genuine.encode_to_vec();
    let mut random = StdRng::seed_from_u64(MUTATIONS);
    let mutate = move |_| {
        let mut mutated = bytes.clone();
        let (at, other) = (random.random_range(0..bytes.len()), random.random_range(0..bytes.len()));
        match random.random_range(0..8) {
            0 => mutated.truncate(at),
            1 => mutated[at] = random.random(),
            2 => mutated.swap(at, other),
            _ => mutated[at] ^= 1 << random.random_range(0..8),
        }
        M::decode(mutated.as_slice()).ok().filter(|mutated| *mutated != genuine)
    };
    let mut all = (0..MUTATIONS).map(mutate);
    let mut decoded = 0;
    std::iter::from_fn(move || match all.by_ref().flatten().next() {
        Some(mutated) => {
            decoded += 1;
            Some(mutated)
        }
        None => {
            assert!(decoded > MUTATIONS / 4, "{decoded} of {MUTATIONS} say something");
            None
        }
    })
}

fn step(own: &TestOrigin, clock: u64, number: u64) -> proto::Batch {
    let grant = payload(b"g");
    own.sign(clock - 1, vec![entry(clock, key(number), &creation(NOW, &grant), Some(&grant))])
}

/// A store that has the first operation of an origin.
async fn with_log() -> (Store, TestOrigin) {
    let store = open(&signing(ram("here"))).await;
    let own = TestOrigin::new(origin("own", 1));
    take(&store, step(&own, 1, 1)).await.unwrap();
    (store, own)
}

fn is_untouched(store: &Store, own: Origin) -> bool {
    store.clock(&own) == Clock(1)
        && store.head(&own).is_none()
        && store.forks().is_empty()
        && !store.is_frozen(&own)
        && store.records() == 1
}

#[tokio::test]
async fn of_mutated_heads_and_tips_nothing_is_believed() {
    let (store, own) = with_log().await;
    let verifier = strict(&store);
    let head = own.head(&step(&own, 2, 2), NOW_MS);
    for mutated in mutations(head.to_proto()) {
        verifier.take_heads(vec![mutated.clone()], NOW_MS).await.unwrap();
        assert!(is_untouched(&store, own.origin), "{mutated:?}");
    }
    assert_eq!(verifier.take_heads(vec![head.to_proto()], NOW_MS).await.unwrap(), 0);
    assert_eq!(store.head(&own.origin), Some(head));
    close(store).await;

    let (store, own) = with_log().await;
    let verifier = strict(&store);
    // Of the last bundle here, which every other root contradicts.
    let tip = store.tips(&store.vector())[0].1.of_origin(&own.origin);
    for mutated in mutations(tip.clone()) {
        verifier.compare_tips(vec![mutated.clone()]).await.unwrap();
        assert!(is_untouched(&store, own.origin), "{mutated:?}");
    }
    assert_eq!(verifier.compare_tips(vec![tip]).await.unwrap(), 0);
    close(store).await;
}

/// What a birth says, without the certificates and the scheme: the CA of these stores looks at neither.
fn core(birth: &Option<proto::Birth>) -> Option<proto::Birth> {
    birth.clone().map(|birth| proto::Birth { certificates: Vec::new(), scheme: 0, ..birth })
}

#[tokio::test]
async fn of_mutated_forks_and_births_nothing_is_believed() {
    let (store, own) = with_log().await;
    let verifier = strict(&store);
    // Another history of the same origin, whose birth is known here.
    let here = own.head(&step(&own, 2, 2), NOW_MS).tip;
    let there = own.head(&step(&own, 2, 3), NOW_MS).tip;
    let fork = proto::Fork {
        birth: Some(own.birth()),
        one: here.of_origin(&own.origin).tip,
        other: there.of_origin(&own.origin).tip,
        ..Default::default()
    };
    // The birth is known here: of what the proof says of it, only whose key it states counts.
    let is_another = |mutated: &proto::Fork| {
        let key = |birth: &Option<proto::Birth>| {
            birth.as_ref().map(|birth| (birth.origin.clone(), birth.key.clone()))
        };
        let said = |fork: &proto::Fork| (key(&fork.birth), fork.one.clone(), fork.other.clone());
        said(mutated) != said(&fork)
    };
    for mutated in mutations(fork.clone()).filter(is_another) {
        verifier.take_forks(vec![mutated.clone()]).await.unwrap();
        assert!(is_untouched(&store, own.origin), "{mutated:?}");
    }
    assert_eq!(verifier.take_forks(vec![fork]).await.unwrap(), 0);
    assert!(store.is_frozen(&own.origin));

    let another = TestOrigin::new(origin("another", 1));
    let expected: Vector = [(another.origin, Clock(1))].into_iter().collect();
    let genuine = Some(another.birth());
    for mutated in mutations(another.birth()) {
        let mutated = Some(mutated);
        let vouched = mutated.as_ref().is_some_and(|birth| birth.vouched_at_unix_ms != 0);
        if core(&mutated) == core(&genuine) || vouched {
            continue;
        }
        verifier.learn(Vec::from_iter(mutated.clone()), &expected).await.unwrap();
        assert_eq!(store.born(&another.origin), None, "{mutated:?}");
    }
    verifier.learn(vec![another.birth()], &expected).await.unwrap();
    assert!(store.born(&another.origin).is_some());
    close(store).await;
}

#[tokio::test]
async fn of_mutated_closings_and_acknowledgements_nothing_is_believed() {
    let (certs, store) = (Certs::new(), open(&signing(ram("here"))).await);
    let identity = certs.node_identity("here");
    let clock = WallClock::system();
    let context = (clock.clone(), Alarms::new(clock));
    let mode = TrustMode::Distributed;
    let cluster = identity.peer().trust_domain.as_deref().map(ClusterId::of);
    let orders = Orders::new(mode, cluster, identity.statement_verifier(), store.clone(), context);
    let (own, id) = (origin("own", 1), "own".parse().unwrap());
    let logs = [ClosedLog { origin: own, end: Clock(7), birth: Some([3; 32]) }];
    let pen = Pen { at_unix_ms: unix_now() * 1000, ..Pen::of(&certs.admin()) };
    let closing = proto::Closing {
        node_id: "own".to_owned(),
        logs: logs.iter().map(ClosedLog::to_proto).collect(),
        order: Some(pen.sign(Subject::Close(&id, &logs)).to_proto()),
    };
    for mutated in mutations(closing.clone()) {
        orders.learn_closings(vec![mutated.clone()]).await.unwrap();
        assert!(orders.known_closings().is_empty(), "{mutated:?}");
    }
    assert_eq!(orders.learn_closings(vec![closing]).await.unwrap(), Learnt { taken: 1, refused: 0 });
    assert_eq!(orders.closed(&own), Some(Clock(7)));
    close(store).await;

    let (member, log) = (TestOrigin::new(origin("member", 1)), TestOrigin::new(own));
    let (cluster, key) = (ClusterId::of("test"), SignedBirth::from_proto(member.birth()).unwrap().birth.key);
    let is_genuine = |acknowledgement: &proto::Acknowledgement| {
        let read = Acknowledgement::from_proto(acknowledgement);
        read.is_ok_and(|acknowledgement| acknowledgement.is_genuine(&cluster, &key))
    };
    let acknowledgement = member.acknowledge(log.stamp(9), [5; 32]);
    assert!(is_genuine(&acknowledgement));
    for mutated in mutations(acknowledgement) {
        assert!(!is_genuine(&mutated), "{mutated:?}");
    }
}
