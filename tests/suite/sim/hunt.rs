//! Mutations of the real code, each of which the simulation must find: what finds nothing proves
//! nothing.

use std::{
    env,
    process::{Command, Output},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use super::{
    ALONE, THREADS, number,
    profile::{self, Focus},
    simulate_all,
};
use brock::runtime::planted::{Bug, VARIABLE};

/// The seeds of a hunt: always the same, so that one that finds nothing does so on every machine.
const SEEDS: u64 = 250;
const FIRST_SEED: &str = "BROCK_SIM_FIRST_SEED";
/// In which a bug must be found.
const HUNT: &str = "a_hunt_by_somebody_who_chose_the_bug";

/// Which worlds show a bug soonest, and the first seed of its hunt: not the first of all where it
/// takes hundreds to meet it. After a change of the simulation those are to be found again.
fn hunting_ground(bug: Bug) -> (Focus, u64) {
    match bug {
        Bug::KeepIncarnation | Bug::AckBeforeSync | Bug::LowerClock => (Focus::Disks, 1),
        Bug::CollectEarly => (Focus::Collection, 1),
        Bug::CollectWithoutWaiting => (Focus::Collection, 170),
        Bug::DropUncovered | Bug::HelloJoins => (Focus::Oblivion, 1),
        Bug::KeepUnlisted => (Focus::Oblivion, 500),
        Bug::SkipVerifyRelay
        | Bug::SkipVerifyPage
        | Bug::SkipVerifyBundle
        | Bug::SkipVerifyRepair
        | Bug::SkipVerifyPeek
        | Bug::AcceptGapInBatch
        | Bug::AcceptOverlap
        | Bug::AcceptUnsignedDelete
        | Bug::ForgetBirth
        | Bug::SkipVerifyHead
        | Bug::IgnoreOtherHead
        | Bug::FreezeNothing
        | Bug::FollowFrozen
        | Bug::AdoptUnsigned => (Focus::Liars, 1),
        _ => (Focus::Any, 1),
    }
}

/// The tests, each of which finds a bug that no seed shows: because nodes compare their records, or because the
/// simulation does not run what is mutated.
fn tests_of(bug: Bug) -> &'static [&'static str] {
    match bug {
        Bug::TakeForgotten => &[
            "forgotten::a_comparison_brings_back_nothing_forgotten",
            "forgotten::a_repair_brings_back_nothing_forgotten",
            "forgotten::a_page_brings_back_nothing_forgotten",
        ],
        Bug::AcceptFork | Bug::ProveByStamp => {
            &["liars::faces::honest_stores_freeze_a_two_faced_origin_and_agree_on_what_it_signed"]
        }
        Bug::ConfirmBlindly | Bug::ConfirmByDependent => {
            &["forgotten::nodes_that_the_same_donor_has_filled_confirm_nothing_to_each_other"]
        }
        Bug::IgnoreDestructionLimit => &[
            "liars::found::a_log_that_destroys_more_than_the_limit_is_paused",
            "liars::found::states_that_destroy_more_than_the_limit_are_not_admitted",
        ],
        _ => &[],
    }
}

/// A test of the simulation's in a process of its own, because a bug is awake in a whole process.
fn run(bug: Option<Bug>, test: &str) -> Command {
    let mut command = Command::new(env::current_exe().expect("this binary has a path"));
    let module = module_path!().split_once("::").map_or(module_path!(), |(_, module)| module);
    let module = module.rsplit_once("::").map_or(module, |(above, _)| above);
    command
        .args([&format!("{module}::{test}"), "--exact", "--include-ignored", "--nocapture"])
        .env(VARIABLE, bug.map_or("none", Bug::name))
        .env("RUST_BACKTRACE", "0");
    command
}

/// The same seeds, or one of them.
fn hunt(bug: Option<Bug>, focus: Focus, first: u64, count: u64) -> Output {
    run(bug, &format!("hunt::{HUNT}"))
        .env(profile::VARIABLE, focus.name())
        .env(FIRST_SEED, first.to_string())
        .env("BROCK_SIM_SEEDS", count.to_string())
        .output()
        .expect("this binary runs")
}

/// What a hunt failed on: the first line of the panic, and its seed.
fn finding(output: &Output) -> Option<(u64, String)> {
    let text = String::from_utf8_lossy(&output.stderr);
    let claim = claim(&text)?;
    let seed = text.lines().find_map(|line| line.split_once("BROCK_SIM_SEED="))?.1;
    let seed = seed.split_whitespace().next()?.parse().ok()?;
    Some((seed, claim))
}

/// Where a claim of the simulation did not hold, and what was seen.
fn claim(text: &str) -> Option<String> {
    let mut lines = text.lines().skip_while(|line| !line.contains("panicked at tests/suite/sim/"));
    let place = lines.next()?.rsplit("panicked at ").next()?.to_owned();
    let claim: String = lines.next()?.chars().take(120).collect();
    Some(format!("{place} {claim}"))
}

fn run_all<T: Copy + Sync>(tasks: &[T], run: impl Fn(T) + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(task) = tasks.get(next.fetch_add(1, Ordering::SeqCst)) {
                    run(*task);
                }
            });
        }
    });
}

#[test]
#[ignore = "run by the test that plants bugs"]
fn a_hunt_by_somebody_who_chose_the_bug() {
    let first = number(FIRST_SEED).unwrap_or(1);
    simulate_all(first, number("BROCK_SIM_SEEDS").unwrap_or(SEEDS), Focus::from_environment());
}

/// Claim: each bug is found, and its seed finds nothing where no bug is planted.
#[test]
fn every_planted_bug_is_found() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let survivors = Mutex::new(Vec::new());
    run_all(Bug::ALL, |bug| {
        for test in tests_of(bug) {
            let output = run(Some(bug), test).output().expect("this binary runs");
            match claim(&String::from_utf8_lossy(&output.stderr)) {
                Some(found) => eprintln!("{}: {test}: {found}", bug.name()),
                None => survivors.lock().expect("no test panics with it").push(bug.name()),
            }
        }
        if !tests_of(bug).is_empty() {
            return;
        }
        let (focus, first) = hunting_ground(bug);
        let Some((seed, found)) = finding(&hunt(Some(bug), focus, first, SEEDS)) else {
            eprintln!("{}: NOT FOUND", bug.name());
            survivors.lock().expect("no test panics with it").push(bug.name());
            return;
        };
        eprintln!("{}: seed {seed} of {}: {found}", bug.name(), focus.name());
        let without = hunt(None, focus, seed, 1);
        assert!(without.status.success(), "{}", String::from_utf8_lossy(&without.stderr));
    });
    let survivors = survivors.into_inner().expect("no test panics with it");
    assert!(survivors.is_empty(), "not found in {SEEDS} seeds: {survivors:?}");
}
