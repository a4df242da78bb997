//! The world of one seed: its nodes, what is on its way between them, and one source of chance.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    clients::ghost_log,
    history::History,
    liars::Liars,
    network::Flight,
    node::{Node, Running},
    profile::{Focus, Profile, Step},
    tally::Tally,
    watch::Told,
};
use crate::harness::store::{NOW, origin};
use brock::store::Store;
use brock_core::{
    base::{
        id::{Incarnations, KeyHash, Origin},
        limits,
    },
    proto,
};
use rand::{Rng, SeedableRng, rngs::StdRng};

/// Everything that a seed decides and what came of it.
pub struct World {
    pub random: StdRng,
    pub profile: Profile,
    /// The true time, in seconds.
    pub now: u64,
    /// How many there were.
    pub steps: u64,
    pub nodes: Vec<Node>,
    /// Whether a node hears another.
    pub hears: Vec<Vec<bool>>,
    pub flights: Vec<Flight>,
    pub history: History,
    /// The log of an origin that has no store here: poison, and gaps.
    pub ghost: Vec<proto::Entry>,
    pub ghost_origin: Origin,
    pub liars: Liars,
    /// What clients were told is deleted.
    pub deleted: BTreeSet<KeyHash>,
    /// What a node was told of another's disks.
    pub told: Vec<Vec<Told>>,
    /// Nodes that have changed since they were last looked at.
    pub touched: BTreeSet<usize>,
    pub tally: Tally,
    pub trace: Vec<String>,
    /// Whether the trace is shown as it grows.
    pub is_loud: bool,
}

impl World {
    pub async fn new(seed: u64, focus: Focus, home: &Path, is_loud: bool) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let profile = Profile::of(&mut random, focus);
        let incarnations = incarnations(random.random());
        let home = profile.on_disk.then_some(home);
        let nodes: Vec<Node> =
            (0..profile.stores).map(|index| Node::new(index, home, incarnations.clone())).collect();
        let ghost = ghost_log(&mut random, &profile);
        let liars = match profile.has_liars {
            true => Liars::of(&mut random, &profile, NOW.unsigned_abs()),
            false => Liars::default(),
        };
        let mut world = Self {
            random,
            liars,
            now: NOW.unsigned_abs(),
            steps: 0,
            hears: vec![vec![true; nodes.len()]; nodes.len()],
            flights: Vec::new(),
            history: History::default(),
            ghost,
            ghost_origin: origin("ghost", 1),
            deleted: BTreeSet::new(),
            told: vec![vec![Told::default(); nodes.len()]; nodes.len()],
            touched: BTreeSet::new(),
            tally: Tally::default(),
            trace: Vec::new(),
            is_loud,
            nodes,
            profile,
        };
        world.note(format!("{:?}", world.profile));
        if world.is_strict() {
            world.note(world.liars.describe());
            let World { liars, history, .. } = &mut world;
            liars.note_two_faced(history);
        }
        let ghost = world.ghost_batch(0, u64::MAX);
        world.history.note_batch(&ghost);
        for node in 0..world.nodes.len() {
            world.start(node).await;
        }
        world
    }

    /// Adds to what a run is compared and explained by.
    pub fn note(&mut self, line: String) {
        if self.is_loud {
            eprintln!("{} {line}", self.now - NOW.unsigned_abs());
        }
        self.trace.push(line);
    }

    pub fn any_node(&mut self) -> usize {
        self.random.random_range(0..self.nodes.len())
    }

    /// Two different ones.
    pub fn any_pair(&mut self) -> (usize, usize) {
        let one = self.any_node();
        let other = (one + self.random.random_range(1..self.nodes.len())) % self.nodes.len();
        (one, other)
    }

    pub fn any_running(&mut self) -> Option<usize> {
        Some(self.any_node()).filter(|node| self.nodes[*node].running.is_some())
    }

    pub fn running(&self, node: usize) -> Option<&Running> {
        self.nodes[node].running.as_ref()
    }

    pub fn running_mut(&mut self, node: usize) -> Option<&mut Running> {
        self.nodes[node].running.as_mut()
    }

    pub fn store(&self, node: usize) -> Option<Store> {
        self.running(node).map(|running| running.store.clone())
    }

    /// Whether two nodes that are up hear each other.
    pub fn are_connected(&self, one: usize, other: usize) -> bool {
        let up = self.running(one).is_some() && self.running(other).is_some();
        up && self.hears[one][other] && self.hears[other][one]
    }

    /// Whether a node would say that its clock is right: it has moved as time does since the start,
    /// and the donors that are up agree.
    pub fn trusts_its_clock(&self, node: usize) -> bool {
        let Some(running) = self.running(node) else { return false };
        let (truth, own) = running.began;
        let expected = i64::try_from(own + (self.now - truth)).expect("a time in this era");
        let jumped = self.nodes[node].wall_clock().abs_diff(expected) > limits::CLOCK_SKEW_MAX_SECONDS;
        let is_off = |(donor, skew): (&usize, &i64)| {
            self.are_connected(node, *donor) && skew.unsigned_abs() > limits::CLOCK_SKEW_MAX_SECONDS
        };
        !jumped && !running.skews.iter().any(is_off)
    }

    pub fn pass_time(&mut self, seconds: u64) {
        self.now += seconds;
        for node in &mut self.nodes {
            node.set_time(self.now);
        }
    }

    pub async fn step(&mut self) {
        let seconds = self.random.random_range(0..20);
        self.pass_time(seconds);
        self.steps += 1;
        let step = self.profile.step(&mut self.random);
        match step {
            Step::Create => self.create().await,
            Step::Change => self.change().await,
            Step::HearTheGhost => self.hear_the_ghost(),
            Step::Hello => {
                let (puller, donor) = self.any_pair();
                self.say_hello(puller, donor);
            }
            Step::Serve => {
                let (donor, puller) = self.any_pair();
                self.serve(donor, puller).await;
            }
            Step::Arrive => self.arrive().await,
            Step::Snapshot => self.go_on_with_resyncs().await,
            Step::BreakSnapshot => self.break_a_resync(),
            Step::Compact => self.compact_somewhere().await,
            Step::Mark => self.mark_somewhere().await,
            Step::Remember => self.remember_somewhere().await,
            Step::Sweep => self.sweep_somewhere().await,
            Step::Repair => self.repair_somewhere().await,
            Step::Peek => self.peek_somewhere().await,
            Step::Part => self.part(),
            Step::Stop => self.stop_somewhere().await,
            Step::Start => self.start_somewhere().await,
            Step::Lose => self.lose_a_disk().await,
            Step::Copy => self.copy_a_disk().await,
            Step::Restore => self.restore_a_disk().await,
            Step::Retire => self.retire_somebody().await,
            Step::Jump => self.jump(),
            Step::SetClock => self.set_a_clock(),
            Step::Rumour => self.spread_a_rumour().await,
            Step::Calm => self.be_calm().await,
        }
        self.look_at_what_changed().await;
    }
}

/// A source that never gives the same twice, so that only a store that does not ask reuses one.
fn incarnations(seed: u32) -> Incarnations {
    let next = Arc::new(AtomicU64::new(seed.into()));
    Incarnations::new(move || {
        let drawn = next.fetch_add(1, Ordering::SeqCst);
        u32::try_from(drawn & u64::from(u32::MAX)).unwrap_or_default().wrapping_mul(0x9e37_79b1)
    })
}
