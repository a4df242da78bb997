//! Mutations of the real code, each of which the simulation must find: what finds nothing proves
//! nothing.

use std::{
    env,
    process::{Command, Output},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use brock::ground::planted::{Bug, VARIABLE};

use super::{
    THREADS, number,
    profile::{self, Focus},
    simulate_all,
};

/// The seeds of a hunt: always the same, so that one that finds nothing does so for everybody.
const FIRST: u64 = 1;
const SEEDS: u64 = 250;
/// Those that these seeds are known to find. The others are rarer: `BROCK_HUNT=all` hunts them too.
const COMMON: &[Bug] = &[
    Bug::ReuseClock,
    Bug::SkipVectorUpdate,
    Bug::AcceptGap,
    Bug::OverwriteInsteadOfJoin,
    Bug::SkipDelete,
    Bug::AckBeforeSync,
    Bug::CompactUnstable,
    Bug::KeepIncarnation,
    Bug::CollectEarly,
    Bug::IgnoreFloor,
    Bug::AdoptNothing,
    Bug::AdoptFirst,
    Bug::CollectWithoutWaiting,
    Bug::DropUncovered,
    Bug::ForgiveRetired,
];
/// In which a bug must be found.
const HUNT: &str = "a_hunt_by_somebody_who_chose_the_bug";

/// Which worlds show a bug soonest.
fn focus(bug: Bug) -> Focus {
    match bug {
        Bug::KeepIncarnation | Bug::AckBeforeSync | Bug::LowerClock => Focus::Disks,
        Bug::CollectEarly | Bug::CollectWithoutWaiting => Focus::Collection,
        Bug::KeepUnlisted | Bug::DropUncovered | Bug::ForgetCollected => Focus::Oblivion,
        Bug::ResumeAnyway | Bug::HelloJoins | Bug::TakeForgotten => Focus::Oblivion,
        _ => Focus::Any,
    }
}

/// The same seeds in a process of its own, because a bug is awake in a whole process.
fn hunt(bug: Option<Bug>, focus: Focus) -> Output {
    let binary = env::current_exe().expect("this binary has a path");
    let module = module_path!().split_once("::").map_or(module_path!(), |(_, module)| module);
    Command::new(binary)
        .args([&format!("{module}::{HUNT}"), "--exact", "--ignored", "--nocapture"])
        .env(VARIABLE, bug.map_or("none", Bug::name))
        .env(profile::VARIABLE, focus.name())
        .env("BROCK_SIM_SEEDS", SEEDS.to_string())
        .env("RUST_BACKTRACE", "0")
        .output()
        .expect("this binary runs")
}

/// What a hunt failed on: the first line of the panic.
fn finding(output: &Output) -> Option<String> {
    let text = String::from_utf8_lossy(&output.stderr);
    let mut lines = text.lines().skip_while(|line| !line.contains("panicked at tests/suite/sim/"));
    let place = lines.next()?.rsplit("panicked at ").next()?.to_owned();
    let claim: String = lines.next()?.chars().take(120).collect();
    let seed = text.lines().find_map(|line| line.split_once("repeat with ")).map_or("", |(_, seed)| seed);
    Some(format!("{place} {claim} [{seed}]"))
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
#[ignore = "run by the tests that plant a bug"]
fn a_hunt_by_somebody_who_chose_the_bug() {
    simulate_all(FIRST, number("BROCK_SIM_SEEDS").unwrap_or(SEEDS), Focus::from_environment());
}

#[test]
fn every_planted_bug_is_found() {
    let survivors = Mutex::new(Vec::new());
    let hunted = if env::var("BROCK_HUNT").is_ok_and(|hunt| hunt == "all") { Bug::ALL } else { COMMON };
    run_all(hunted, |bug| {
        let output = hunt(Some(bug), focus(bug));
        let found = finding(&output).filter(|_| !output.status.success());
        eprintln!("{}: {}", bug.name(), found.as_deref().unwrap_or("NOT FOUND"));
        if found.is_none() {
            survivors.lock().expect("no test panics with it").push(bug.name());
        }
    });
    let survivors = survivors.into_inner().expect("no test panics with it");
    assert!(survivors.is_empty(), "not found in {SEEDS} seeds: {survivors:?}");
}

#[test]
fn where_no_bug_is_planted_none_is_found() {
    run_all(&Focus::ALL, |focus| {
        let output = hunt(None, focus);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    });
}
