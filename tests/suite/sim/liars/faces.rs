//! An origin that signs two histories and shows each node one of them, on the way as it pleases: the honest stores
//! freeze it, no other, and end with the same records, each proven.

use std::collections::BTreeSet;

use super::two_faced::log;
use crate::{
    harness::{
        identity::{TestOrigin, signing, strict},
        store::{close, create, key, new_record, node_id, open, origin, ram},
    },
    sim::node::states,
};
use brock::{
    replication::repair::repair,
    store::{Store, StoreError},
    transfer::{bundles::Bundles, proof::ProofError},
};
use brock_core::{
    base::vector::{Clock, Stamp},
    domain::{record::RecordState, segment::Segment},
    proto,
};
use rand::{Rng, SeedableRng, rngs::StdRng};

const SEEDS: u64 = 150;
const STORES: usize = 3;
const STEPS: usize = 60;
/// Records that both histories are about.
const KEYS: u64 = 4;
/// More than enough for a few stores.
const ROUNDS: usize = 12;

struct World {
    random: StdRng,
    stores: Vec<Store>,
    /// The batches of each history, in order. The first ones may be those of both.
    faces: [Vec<proto::Batch>; 2],
    /// Up to here the two histories are one.
    common: Clock,
    two_faced: brock_core::base::id::Origin,
    /// Which history was shown to some store, and of which some store has taken more than what both have.
    shown: BTreeSet<usize>,
    taken: BTreeSet<usize>,
    /// What the honest stores have written.
    written: Vec<Stamp>,
}

impl World {
    async fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let mut stores = Vec::new();
        for id in ["a", "b", "c"] {
            stores.push(open(&signing(ram(id))).await);
        }
        let two_faced = origin("two", 1);
        let (one, other) = (TestOrigin::new(two_faced), TestOrigin::new(two_faced));
        let has_two_births = random.random_bool(0.3);
        let common = if has_two_births { 0 } else { random.random_range(0..3) };
        let first = log(&mut random, &one, (0, 100), common, (KEYS, None));
        let mut faces = [first.clone(), first];
        let signers = [&one, if has_two_births { &other } else { &one }];
        for ((face, signer), mark) in faces.iter_mut().zip(signers).zip(101..) {
            let length = random.random_range(1..5);
            face.extend(log(&mut random, signer, (common, mark), length, (KEYS, None)));
        }
        let common = Clock(common);
        let [shown, taken] = [BTreeSet::new(), BTreeSet::new()];
        Self { random, stores, faces, common, two_faced, shown, taken, written: Vec::new() }
    }

    fn any(&mut self) -> usize {
        self.random.random_range(0..STORES)
    }

    async fn step(&mut self) {
        let (to, from) = (self.any(), self.any());
        match self.random.random_range(0..8) {
            0 => self.write(to).await,
            1 | 2 => self.hear(to).await,
            3 => self.meet(to, from).await,
            4 => drop(self.fix(to, from).await),
            _ => self.pull(to, from).await,
        }
    }

    async fn write(&mut self, at: usize) {
        let number = self.random.random_range(0..KEYS * 2);
        let before = self.stores[at].clock(&self.stores[at].origin());
        create(&self.stores[at], new_record(key(number), &[self.random.random_range(0..3)])).await;
        let origin = self.stores[at].origin();
        let clock = self.stores[at].clock(&origin);
        self.written.extend((clock > before).then_some(Stamp { origin, clock }));
    }

    /// Shows a store the next part of one of the histories.
    async fn hear(&mut self, at: usize) {
        let face = self.random.random_range(0..2);
        let clock = self.stores[at].clock(&self.two_faced);
        let Some(batch) = self.faces[face].iter().find(|batch| batch.after == clock.0).cloned() else {
            return;
        };
        self.take(at, batch).await;
        self.shown.insert(face);
        if self.stores[at].clock(&self.two_faced) > clock.max(self.common) {
            self.taken.insert(face);
        }
    }

    /// As in a round.
    async fn take(&self, at: usize, batch: proto::Batch) {
        let (store, verifier) = (&self.stores[at], strict(&self.stores[at]));
        let segment = match verifier.check_segment(&node_id("relay"), Segment::check(batch).unwrap()) {
            Ok(segment) => segment,
            Err(ProofError::TwoBirths(other)) => {
                assert!(verifier.prove_two_births(*other).await.unwrap());
                return;
            }
            Err(error) => panic!("{error}"),
        };
        let origin = segment.origin;
        match store.apply(segment).await {
            Ok(_) | Err(StoreError::Gap { .. } | StoreError::Frozen(_)) => {}
            Err(StoreError::Forked { pair: Some(pair), .. }) => {
                assert!(verifier.prove_fork(origin, pair.0, pair.1).await.unwrap());
            }
            Err(StoreError::Forked { pair: None, .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }

    /// The heads of a stream.
    async fn meet(&self, to: usize, from: usize) {
        let (store, donor, verifier) = (&self.stores[to], &self.stores[from], strict(&self.stores[to]));
        let forks = donor.forks().iter().map(|fork| fork.to_proto()).collect();
        assert_eq!(verifier.take_forks(forks).await.unwrap(), 0);
        let tips =
            donor.tips(&donor.vector()).into_iter().map(|(origin, tip)| tip.of_origin(&origin)).collect();
        let refused = verifier.compare_tips(tips).await.unwrap();
        // Of two births, the heads show only that the histories differ.
        assert!(refused == 0 || !store.is_frozen(&self.two_faced), "{refused}");
    }

    async fn pull(&self, to: usize, from: usize) {
        let donor = &self.stores[from];
        for (origin, after) in
            donor.vector().iter().map(|(origin, _)| (origin, self.stores[to].clock(&origin)))
        {
            if let Ok(Some(mut changes)) = donor.changes_since(origin, after, 2).await {
                changes.batch.birth = donor.birth(origin).await.unwrap();
                self.take(to, changes.batch).await;
            }
        }
    }

    /// Returns whether that changed anything.
    async fn fix(&self, to: usize, from: usize) -> bool {
        let (store, before) = (&self.stores[to], self.stores[to].summary().digest);
        repair((store, &strict(store)), &self.stores[from], None).await.unwrap();
        store.summary().digest != before
    }

    async fn heal(&self) {
        for _ in 0..ROUNDS {
            for (to, from) in (0..STORES).flat_map(|to| (0..STORES).map(move |from| (to, from))) {
                self.meet(to, from).await;
                self.pull(to, from).await;
                self.fix(to, from).await;
            }
        }
    }

    /// Claim: the stores agree, on what is proven, and nothing that an honest one has written is frozen or missing.
    async fn check(&self, seed: u64) {
        let reference = &self.stores[0];
        let expected = states(reference).await;
        for store in &self.stores {
            let frozen: Vec<_> = store.forks().iter().map(|fork| fork.origin()).collect();
            assert!(frozen.iter().all(|origin| *origin == self.two_faced), "seed {seed}: {frozen:?}");
            assert_eq!(frozen.len(), reference.forks().len(), "seed {seed}");
            assert!(frozen.is_empty() || self.shown.len() == 2, "seed {seed}: {:?} were shown", self.shown);
            assert!(!frozen.is_empty() || self.taken.len() < 2, "seed {seed}: two histories go on");
            assert_eq!(store.vector(), reference.vector(), "seed {seed}");
            let lacks = self.written.iter().find(|stamp| !store.applied().has(**stamp));
            assert_eq!(lacks, None, "seed {seed}");
            let found = states(store).await;
            for key in found.keys().chain(expected.keys()) {
                let [one, other] = [&found, &expected].map(|states| states.get(key).cloned().map(but_proofs));
                assert_eq!(one, other, "seed {seed}: {}", store.node_id());
            }
            for (key, state) in found {
                let believed = strict(store).believe(&key, state.clone(), &Bundles::default(), &[]);
                assert_eq!(
                    (believed.unproven.len(), but_seen(believed.state)),
                    (0, but_seen(state)),
                    "seed {seed}"
                );
            }
        }
    }
}

/// Whether its create was seen is not known of a tombstone that came alone.
fn but_seen(state: RecordState) -> RecordState {
    RecordState { was_created: false, ..state }
}

/// Of what both histories say, each proves it.
fn but_proofs(state: RecordState) -> RecordState {
    RecordState { evidence: Default::default(), ..but_seen(state) }
}

#[tokio::test]
async fn honest_stores_freeze_a_two_faced_origin_and_agree_on_what_it_signed() {
    let mut frozen = 0;
    for seed in 1..=SEEDS {
        let mut world = World::new(seed).await;
        for _ in 0..STEPS {
            world.step().await;
        }
        world.heal().await;
        world.check(seed).await;
        frozen += usize::from(world.taken.len() == 2);
        for store in world.stores {
            close(store).await;
        }
    }
    assert!(frozen > 50, "only {frozen} forks were shown");
}
