//! Several stores over a network that loses, repeats, reorders and parts: whatever it does, they
//! converge once it is healed. Every decision comes from a seed; time stands still.

use std::env;

use brock::{
    domain::{
        operation::Operation,
        record::{RecordState, Visibility},
    },
    ground::{
        clock::{Clock, Stamp, Vector},
        id::{KeyHash, Origin},
    },
    proto,
    store::{CreateOutcome, NewRecord, Store, StoreError},
};
use proptest::prelude::{Just, Strategy, any, prop_assert_eq};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};

use crate::harness::store::{
    NOW, batch, contiguous_log, creation, deliver, entry, key, log_of, new_record, open, origin, payload,
    poison, ram,
};

/// Seeds of one run, unless `BROCK_SIM_SEEDS` says otherwise.
const SEEDS: u64 = 200;
const STEPS: usize = 120;
/// Few, so that nodes often create the same ones.
const KEYS: u64 = 25;

/// A batch on its way.
struct Flight {
    to: usize,
    batch: proto::Batch,
}

struct Simulation {
    random: StdRng,
    stores: Vec<Store>,
    flights: Vec<Flight>,
    /// Vectors that each store once had: what a puller may still believe of itself.
    remembered: Vec<Vec<Vector>>,
    /// Whether a store hears another.
    hears: Vec<Vec<bool>>,
    /// What was acknowledged.
    acknowledged: Vec<(Stamp, KeyHash)>,
    /// The log of an origin that has no store here: operations that clients of this version
    /// cannot make yet, poison, and gaps.
    ghost: Vec<proto::Entry>,
    ghost_origin: Origin,
    gaps_refused: usize,
}

impl Simulation {
    async fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let count = random.random_range(3..=5);
        let mut stores = Vec::new();
        for i in 0..count {
            stores.push(open(&ram(&format!("store-{i}"))).await);
        }
        let ghost = ghost_log(&mut random);
        Self {
            random,
            flights: Vec::new(),
            remembered: vec![vec![Vector::default()]; count],
            hears: vec![vec![true; count]; count],
            acknowledged: Vec::new(),
            ghost,
            ghost_origin: origin("ghost", 1),
            gaps_refused: 0,
            stores,
        }
    }

    fn any_store(&mut self) -> usize {
        self.random.random_range(0..self.stores.len())
    }

    async fn step(&mut self) {
        match self.random.random_range(0..100) {
            0..25 => self.create().await,
            25..30 => self.hear_the_ghost().await,
            30..60 => self.pull().await,
            60..97 => self.arrive().await,
            _ => self.part(),
        }
    }

    /// A client creates one to four records; some of them exist somewhere.
    async fn create(&mut self) {
        let at = self.any_store();
        let records: Vec<NewRecord> = (0..self.random.random_range(1..=4))
            .map(|_| {
                let expires_at = match self.random.random_range(0..8) {
                    0 => Some(NOW - self.random.random_range(0..100)),
                    1 => Some(NOW + self.random.random_range(1..100)),
                    _ => None,
                };
                let created_at = NOW - self.random.random_range(0..3);
                let grant = [self.random.random_range(0..3)];
                let key = key(self.random.random_range(0..KEYS));
                NewRecord { created_at, expires_at, public: self.random.random(), ..new_record(key, &grant) }
            })
            .collect();
        let keys: Vec<KeyHash> = records.iter().map(|record| record.key_hash).collect();
        for (outcome, key) in self.stores[at].create(records).await.unwrap().into_iter().zip(keys) {
            if let CreateOutcome::Created(stamp) = outcome {
                self.acknowledged.push((stamp, key));
            }
        }
    }

    /// A store pulls a stretch of the ghost's log, from about where it stands.
    async fn hear_the_ghost(&mut self) {
        let to = self.any_store();
        let after = self.stores[to].clock(&self.ghost_origin).0;
        let after = after.saturating_sub(self.random.random_range(0..4));
        let length = self.random.random_range(1..8);
        self.flights.push(Flight { to, batch: self.ghost_batch(after, after + length) });
    }

    fn ghost_batch(&self, after: u64, through: u64) -> proto::Batch {
        let within = |entry: &&proto::Entry| entry.clock > after && entry.clock <= through;
        let entries = self.ghost.iter().filter(within).cloned().collect();
        let end = self.ghost.last().unwrap().clock;
        let covered_through = through.min(end).max(after);
        proto::Batch { covered_through, ..batch(self.ghost_origin, after, entries) }
    }

    /// A store pulls from another, by the vector it has or one it once had. Several batches may
    /// be on their way at once.
    async fn pull(&mut self) {
        let (to, from) = (self.any_store(), self.any_store());
        if to == from || !self.hears[to][from] {
            return;
        }
        let now = self.stores[to].vector();
        let known = if self.random.random_bool(0.7) {
            now.clone()
        } else {
            let past = &self.remembered[to];
            past[self.random.random_range(0..past.len())].clone()
        };
        self.remembered[to].push(now);
        let limit = self.random.random_range(1..12);
        for (origin, _) in self.stores[from].above(&known).iter() {
            let mut after = known.get(&origin);
            for _ in 0..self.random.random_range(1..=3) {
                let Some(changes) = self.stores[from].changes_since(origin, after, limit).await.unwrap()
                else {
                    break;
                };
                after = Clock(changes.batch.covered_through);
                self.flights.push(Flight { to, batch: changes.batch });
            }
        }
    }

    /// Some flight arrives, is lost, or arrives and comes once more.
    async fn arrive(&mut self) {
        if self.flights.is_empty() {
            return;
        }
        let flight = self.flights.swap_remove(self.random.random_range(0..self.flights.len()));
        let fate = self.random.random_range(0..10);
        if fate == 0 {
            return;
        }
        match deliver(&self.stores[flight.to], flight.batch.clone()).await {
            Ok(()) => {}
            Err(StoreError::Gap { .. }) => self.gaps_refused += 1,
            Err(error) => panic!("{error}"),
        }
        if fate < 3 {
            self.flights.push(flight);
        }
    }

    /// The network parts in two, or every link for itself fails or works, or all is well.
    fn part(&mut self) {
        let kind = self.random.random_range(0..3);
        let side: Vec<bool> = self.stores.iter().map(|_| self.random.random()).collect();
        for to in 0..self.stores.len() {
            for from in 0..self.stores.len() {
                self.hears[to][from] = match kind {
                    0 => side[to] == side[from],
                    1 => self.random.random_bool(0.4),
                    _ => true,
                };
            }
        }
    }

    /// Everybody hears everybody until nobody has anything new.
    async fn heal(&mut self) {
        let end = self.ghost.last().unwrap().clock;
        deliver(&self.stores[0], self.ghost_batch(0, end)).await.unwrap();
        let mut rounds = 0;
        while self.stores.iter().any(|store| store.vector() != self.stores[0].vector()) {
            rounds += 1;
            assert!(rounds < 20, "the stores do not converge");
            for to in &self.stores {
                for from in &self.stores {
                    for (origin, _) in from.above(&to.vector()).iter() {
                        while let Some(changes) =
                            from.changes_since(origin, to.clock(&origin), 50).await.unwrap()
                        {
                            deliver(to, changes.batch).await.unwrap();
                        }
                    }
                }
            }
        }
        // Whatever is still under way changes nothing any more.
        for flight in std::mem::take(&mut self.flights) {
            deliver(&self.stores[flight.to], flight.batch).await.unwrap();
        }
    }

    async fn check(&self) {
        let vector = self.stores[0].vector();
        for (origin, _) in vector.iter().filter(|(origin, _)| *origin != self.ghost_origin) {
            let mut reference: Option<Vec<proto::Entry>> = None;
            for store in &self.stores {
                let log = contiguous_log(store, origin).await;
                for (stamp, key) in self.acknowledged.iter().filter(|(stamp, _)| stamp.origin == origin) {
                    let index = usize::try_from(stamp.clock.0).unwrap() - 1;
                    assert_eq!(log[index].key_hash.as_ref(), key.0, "{stamp:?} at {}", store.node_id());
                }
                match &reference {
                    None => reference = Some(log),
                    Some(reference) => assert!(log == *reference, "logs of {origin} differ"),
                }
            }
        }
        for store in &self.stores {
            assert_eq!(log_of(store, self.ghost_origin, 50).await.len(), self.ghost.len());
        }
        for number in 0..KEYS {
            let mut reference: Option<RecordState> = None;
            for store in &self.stores {
                let state = store.get(key(number)).await.unwrap().unwrap_or_default();
                let state = without_expired_payload(state);
                match &reference {
                    None => reference = Some(state),
                    Some(reference) => assert_eq!(state, *reference, "key {number} at {}", store.node_id()),
                }
            }
            let state = reference.unwrap();
            let whole = state.creation.as_ref().is_none_or(|creation| creation.payload.is_some());
            assert!(whole || state.is_expired(NOW), "key {number}: nobody has the payload: {state:?}");
            let created = self.acknowledged.iter().any(|(_, created)| *created == key(number));
            assert!(
                !created || state.visibility(NOW) != Visibility::Incomplete,
                "key {number} is there or gone"
            );
        }
        let digest = self.stores[0].summary().digest.roots();
        assert!(self.stores.iter().all(|store| store.summary().digest.roots() == digest));
        let poison = self.ghost.iter().filter(|entry| entry.operation.first() == Some(&0xff)).count() as u64;
        assert!(self.stores.iter().all(|store| store.quarantined() == poison));
    }
}

/// An expired record's payload stays where it was accepted, until it is swept there.
fn without_expired_payload(mut state: RecordState) -> RecordState {
    if state.is_expired(NOW)
        && let Some(creation) = &mut state.creation
    {
        creation.payload = None;
    }
    state
}

/// Thirty operations of every kind on the same keys, with poison between them and gaps.
fn ghost_log(random: &mut StdRng) -> Vec<proto::Entry> {
    let mut clock = 0;
    let entries = (0..30).map(|_| {
        clock += if random.random_bool(0.1) { 3 } else { 1 };
        let key = key(random.random_range(0..KEYS));
        let at = NOW - random.random_range(0..3);
        match random.random_range(0..8) {
            0 => entry(clock, key, &Operation::Delete, None),
            1 => poison(clock, key),
            2 | 3 => {
                let reason = format!("reason {}", random.random_range(0..3));
                entry(clock, key, &Operation::Invalidate { at, reason }, None)
            }
            4 => entry(clock, key, &Operation::Unpublish, None),
            _ => {
                let payload = payload(&[random.random_range(0..3)]);
                entry(clock, key, &creation(at, &payload), Some(&payload))
            }
        }
    });
    entries.collect()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Prints the seed when a run does not end well.
struct SeedOnPanic(u64);

impl Drop for SeedOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the simulation failed: repeat it with BROCK_SIM_SEED={}", self.0);
        }
    }
}

/// Runs one seed. Returns gaps refused, conflicts, and a trace by which two runs are compared.
async fn simulate(seed: u64) -> (usize, u64, Vec<(String, u64, KeyHash)>) {
    let _seed = SeedOnPanic(seed);
    let mut simulation = Simulation::new(seed).await;
    for _ in 0..STEPS {
        simulation.step().await;
    }
    simulation.heal().await;
    simulation.check().await;
    let conflicts = simulation.stores.iter().map(Store::conflicts).sum();
    let place = |(stamp, key): &(Stamp, KeyHash)| (stamp.origin.node_id().to_string(), stamp.clock.0, *key);
    (simulation.gaps_refused, conflicts, simulation.acknowledged.iter().map(place).collect())
}

#[test]
fn stores_converge_over_a_network_that_loses_repeats_reorders_and_parts() {
    if let Ok(seed) = env::var("BROCK_SIM_SEED") {
        runtime().block_on(simulate(seed.parse().unwrap()));
        return;
    }
    let count = env::var("BROCK_SIM_SEEDS").map_or(SEEDS, |count| count.parse().unwrap());
    let first: u64 = rand::random::<u32>().into();
    eprintln!("seeds {first} to {}", first + count - 1);
    let (mut gaps, mut conflicts, mut acknowledged) = (0, 0, 0);
    for seed in first..first + count {
        let outcome = runtime().block_on(simulate(seed));
        gaps += outcome.0;
        conflicts += outcome.1;
        acknowledged += outcome.2.len();
    }
    eprintln!("{acknowledged} creates acknowledged, {gaps} gaps refused, {conflicts} conflicts");
    assert!(gaps > 0 && conflicts > 0 && acknowledged > 0, "the network was too kind");
}

#[test]
fn a_simulation_is_the_same_each_time_for_a_seed() {
    let run = || runtime().block_on(simulate(42));
    assert_eq!(run(), run());
}

#[test]
fn any_order_of_delivery_gives_the_same_states() {
    let runtime = runtime();
    let store = runtime.block_on(open(&ram("a")));
    let next = std::cell::Cell::new(0u32);
    // Five origins with three operations each on one key; the order in which they are heard.
    let operation = (0..7u8, 0..3u8, 0..3i64);
    let logs = proptest::collection::vec(proptest::collection::vec(operation, 3), 5);
    let orders = Just((0..5usize).flat_map(|i| [i; 3]).collect::<Vec<_>>()).prop_shuffle();
    let config =
        proptest::test_runner::Config { cases: 200, failure_persistence: None, ..Default::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    runner
        .run(&(logs, orders, any::<u64>()), |(logs, order, shuffle)| {
            let mut other = order.clone();
            other.shuffle(&mut StdRng::seed_from_u64(shuffle));
            let hear = |order: &[usize]| {
                // A key and origins of its own for each hearing, in the same store.
                next.set(next.get() + 1);
                let key = key(next.get().into());
                let mut clocks = [0u64; 5];
                for &i in order {
                    clocks[i] += 1;
                    let (kind, payload_number, at) = logs[i][usize::try_from(clocks[i]).unwrap() - 1];
                    let payload = payload(&[payload_number]);
                    let reason = format!("reason {payload_number}");
                    let entry = match kind {
                        0 => entry(clocks[i], key, &Operation::Delete, None),
                        1 => entry(clocks[i], key, &Operation::Unpublish, None),
                        2 | 3 => entry(clocks[i], key, &Operation::Invalidate { at, reason }, None),
                        _ => entry(clocks[i], key, &creation(at, &payload), Some(&payload)),
                    };
                    let origin = origin(&format!("peer-{i}"), next.get());
                    runtime.block_on(deliver(&store, batch(origin, clocks[i] - 1, vec![entry]))).unwrap();
                }
                let mut state = runtime.block_on(store.get(key)).unwrap().unwrap();
                // The incarnations differ by construction; node id and clock say who won.
                let place = |stamp: Stamp| (stamp.origin.node_id(), stamp.clock);
                let deletion = state.deletion.take().map(place);
                state.unpublication = None;
                if let Some(invalidation) = &mut state.invalidation {
                    invalidation.stamp = None;
                }
                state
                    .losers
                    .iter_mut()
                    .for_each(|loser| loser.stamp = Stamp { origin: origin("peer", 0), ..loser.stamp });
                let creation = state.creation.take().map(|c| (place(c.stamp), c.created_at, c.payload));
                (state, deletion, creation)
            };
            prop_assert_eq!(hear(&order), hear(&other));
            Ok(())
        })
        .unwrap();
}
