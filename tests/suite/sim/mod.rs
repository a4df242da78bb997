//! Whole stores over a network that loses, repeats, reorders and parts, on disks that fail, with
//! clocks that jump: whatever happens, nothing that was acknowledged is undone, nothing that was
//! deleted comes back, and once it is over all nodes are equal.
//!
//! Every decision comes from a seed, and a seed gives the same run each time: one thread decides,
//! nothing sleeps, and the time is the world's own.
//!
//! - `world`: what a seed makes and decides; `profile`: which kinds of worlds there are.
//! - `clients`, `network`, `resync`, `upkeep`, `disks`: what happens in a step.
//! - `history`: everything that was ever done; `watch`: what must hold at every moment.
//! - `heal`, `check`: what must hold in the end.
//! - `liars`: two of five nodes lie, and the other three converge and say who it was.
//! - `hunt`: mutations of the real code that all this must find.

mod check;
mod clients;
mod disks;
mod forgotten;
mod heal;
mod history;
#[cfg(feature = "planted-bugs")]
mod hunt;
mod liars;
mod network;
mod node;
mod profile;
mod resync;
mod tally;
mod upkeep;
mod watch;
mod world;

use std::{
    env,
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

use self::{profile::Focus, tally::Tally, world::World};

/// Seeds of one run, unless `BROCK_SIM_SEEDS` says otherwise.
const SEEDS: u64 = 2000;
/// The same where two of five nodes lie.
const SEEDS_WITH_LIARS: u64 = 300;
/// More than the machine that tests has cores, because other tests run beside these.
const THREADS: u64 = 3;
/// A run of fewer seeds may miss some fault.
const SEEDS_FOR_EVERY_FAULT: u64 = 1000;

/// Held by what needs the whole machine: one after the other both are done sooner.
static ALONE: Mutex<()> = Mutex::new(());

/// Prints the seed when a run does not end well.
struct SeedOnPanic(u64, Focus);

impl Drop for SeedOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            let focus = self.1.name();
            eprintln!("the simulation failed: repeat with BROCK_SIM_SEED={} BROCK_SIM_FOCUS={focus}", self.0);
        }
    }
}

/// Where stores in directories are put: in memory where that is possible.
fn home() -> tempfile::TempDir {
    let builder = || {
        let mut builder = tempfile::Builder::new();
        builder.prefix("brock-sim-");
        builder
    };
    let in_memory = Path::new("/dev/shm");
    builder().tempdir_in(in_memory).or_else(|_| builder().tempdir()).expect("a directory can be made")
}

/// Runs one seed.
fn simulate(seed: u64, focus: Focus, is_loud: bool) -> (Tally, Vec<String>) {
    let _seed = SeedOnPanic(seed, focus);
    let home = home();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut world = World::new(seed, focus, home.path(), is_loud).await;
        for _ in 0..world.profile.steps {
            world.step().await;
        }
        world.heal().await;
        world.check().await;
        if world.is_strict() {
            world.end().await;
            return (world.tally, world.trace);
        }
        world.drain().await;
        world.check().await;
        world.check_what_is_left().await;
        world.end().await;
        (world.tally, world.trace)
    })
}

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// Runs many seeds, until one fails.
fn simulate_all(first: u64, count: u64, focus: Focus) -> Tally {
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let work = || {
        let mut tally = Tally::default();
        loop {
            let index = next.fetch_add(1, Ordering::SeqCst);
            if index >= count || failed.load(Ordering::SeqCst) {
                return tally;
            }
            failed.fetch_or(thread::panicking(), Ordering::SeqCst);
            let stop = StopOnPanic(&failed);
            tally.join(&simulate(first + index, focus, false).0);
            drop(stop);
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        let mut all = Tally::default();
        for worker in workers {
            all.join(&worker.join().expect("every seed ends well"));
        }
        all
    })
}

/// Tells the other threads to stop when this one fails.
struct StopOnPanic<'a>(&'a AtomicBool);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.store(true, Ordering::SeqCst);
        }
    }
}

#[test]
fn stores_converge_and_undo_nothing_whatever_fails() {
    let focus = Focus::from_environment();
    if let Some(seed) = number("BROCK_SIM_SEED") {
        simulate(seed, focus, true);
        return;
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let began = Instant::now();
    let count = number("BROCK_SIM_SEEDS").unwrap_or(SEEDS);
    let first: u64 = rand::random::<u32>().into();
    eprintln!("seeds {first} to {}", first + count - 1);
    let tally = simulate_all(first, count, focus);
    eprintln!("{tally}; in {} s", began.elapsed().as_secs());
    if count >= SEEDS_FOR_EVERY_FAULT && focus == Focus::Any {
        tally.require();
    }
}

/// Of five nodes that believe only what is proven, two lie: the other three hold the same in the end, all that one of
/// them has acknowledged and nothing that its origin did not do, and each names every liar that sent it a lie.
#[test]
fn honest_stores_converge_and_name_the_liars_whatever_these_send() {
    if number("BROCK_SIM_SEED").is_some() {
        return;
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let began = Instant::now();
    let first: u64 = rand::random::<u32>().into();
    eprintln!("seeds {first} to {}", first + SEEDS_WITH_LIARS - 1);
    let tally = simulate_all(first, SEEDS_WITH_LIARS, Focus::Liars);
    eprintln!("{tally}; in {} s", began.elapsed().as_secs());
    tally.require_all(&liars::required());
}

#[test]
fn a_simulation_is_the_same_each_time_for_a_seed() {
    for focus in Focus::ALL {
        for seed in 1..4 {
            let (one, other) = (simulate(seed, focus, false), simulate(seed, focus, false));
            let differs = one.1.iter().zip(&other.1).find(|(one, other)| one != other);
            assert!(differs.is_none(), "seed {seed}: {differs:#?}");
            assert_eq!(one, other);
        }
    }
}
