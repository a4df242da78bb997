//! The claims.

use std::{collections::BTreeSet, time::Instant};

use stateright::{Checker, CheckerBuilder, Expectation, HasDiscoveries, Model, UniformChooser};

use super::{Flaw, Lifecycle, state::Budget, worlds};

/// Set for a longer run: how many states each search of a configuration generates.
const STATES_VARIABLE: &str = "BROCK_MODEL_STATES";
const SEARCH_STATES: usize = 900_000;
const WALK_STATES: usize = 400_000;
/// Of each of the four configurations in which all nodes are honest: more than a million together.
const UNIQUE_STATES_MIN: usize = 300_000;
/// Where one was taken over, there are more steps from each state, and each is followed to its end in more ways.
const TAKEN_OVER_PART: usize = 6;
/// Enough for each planted flaw, several times over.
const FLAW_STATES: usize = 3_000_000;
const SEED: u64 = 1;

/// Tombstones are kept for ever.
fn for_ever() -> Lifecycle {
    let budget = Budget {
        creates: 2,
        invalidates: 1,
        deletes: 1,
        restarts: 1,
        losses: 1,
        copies: 1,
        restores: 1,
        late: 1,
        compactions: 2,
        ..Budget::default()
    };
    Lifecycle { budget, concurrent_creates: true, ..Lifecycle::default() }
}

/// Tombstones are collected, disks are lost and old copies come back. A key is created at one node
/// only: of several concurrent creates, one that all disks had lost cannot be told from a new one.
fn collection() -> Lifecycle {
    let Lifecycle { budget, .. } = for_ever();
    Lifecycle { budget: Budget { collections: 2, ..budget }, ..Lifecycle::default() }
}

/// Tombstones are collected while keys are created at several nodes; no node loses anything.
fn concurrent_collection() -> Lifecycle {
    let budget = Budget {
        creates: 2,
        deletes: 2,
        restarts: 1,
        late: 1,
        compactions: 2,
        collections: 2,
        ..Budget::default()
    };
    Lifecycle { budget, concurrent_creates: true, ..Lifecycle::default() }
}

/// As `collection`, and nodes are retired and return.
fn retirement() -> Lifecycle {
    let Lifecycle { budget, .. } = collection();
    Lifecycle { budget: Budget { retirements: 2, invalidates: 0, ..budget }, ..Lifecycle::default() }
}

/// A node that was taken over, and whose creates win against all others, beside two of which one loses what it has.
fn taken_over() -> Lifecycle {
    let budget = Budget {
        creates: 1,
        invalidates: 1,
        deletes: 1,
        restarts: 1,
        losses: 1,
        compactions: 1,
        signs: 3,
        forks: 1,
        brings: 1,
        stubs: 1,
        fills: 2,
        ..Budget::default()
    };
    Lifecycle { budget, byzantine: Some(0), ..Lifecycle::default() }
}

/// Another one, whose creates lose, and that signs three histories; old copies of the others come back.
fn equivocation() -> Lifecycle {
    let Lifecycle { budget, .. } = taken_over();
    let budget =
        Budget { invalidates: 0, losses: 0, copies: 1, restores: 1, signs: 4, forks: 2, stubs: 0, ..budget };
    Lifecycle { budget, byzantine: Some(2), ..Lifecycle::default() }
}

/// Searches the states near the beginnings completely, and walks at random far away from them.
fn check(name: &str, model: &Lifecycle) {
    let asked = std::env::var(STATES_VARIABLE).ok().map(|states| states.parse().unwrap());
    let started = Instant::now();
    let mut seen = BTreeSet::new();
    let builder = || model.clone().checker().threads(2).finish_when(HasDiscoveries::AnyFailures);

    let part = if model.byzantine.is_some() { TAKEN_OVER_PART } else { 1 };
    let search = builder().target_state_count(asked.unwrap_or(SEARCH_STATES / part)).spawn_bfs().join();
    expect_no_violation(&search, &mut seen);
    let unique = search.unique_state_count();
    let walk = builder()
        .target_state_count(asked.unwrap_or(WALK_STATES / part))
        .spawn_simulation(SEED, UniformChooser)
        .join();
    expect_no_violation(&walk, &mut seen);
    eprintln!(
        "{name}: {unique} unique states to depth {}, {} on walks to depth {}, {:.1} s",
        search.max_depth(),
        walk.state_count(),
        walk.max_depth(),
        started.elapsed().as_secs_f32(),
    );

    assert!(asked.is_some() || unique >= UNIQUE_STATES_MIN / part, "{name}: only {unique} unique states");
    for property in model.properties() {
        let is_missed = is_sight(model, property.name) && !seen.contains(property.name);
        assert!(!is_missed, "{name}: never {}", property.name);
    }
}

fn expect_no_violation(checker: &impl Checker<Lifecycle>, seen: &mut BTreeSet<&'static str>) {
    let model = checker.model();
    for (name, path) in checker.discoveries() {
        if is_sight(model, name) {
            seen.insert(name);
            continue;
        }
        let first = path.clone().into_states().swap_remove(0);
        let steps = worlds::shrink(model, &first, path.into_actions(), name);
        panic!("not {name}: {steps:#?}\nafter {first:#?}");
    }
}

/// Plants a flaw and expects that walks find one of these properties violated; the same each time.
#[track_caller]
fn finds(flaw: Flaw, model: Lifecycle, properties: &[&str]) {
    let checker =
        planted(flaw, model).target_state_count(FLAW_STATES).spawn_simulation(SEED, UniformChooser).join();
    expect_violation(flaw, &checker, properties);
}

fn planted(flaw: Flaw, model: Lifecycle) -> CheckerBuilder<Lifecycle> {
    Lifecycle { flaw: Some(flaw), ..model }.checker().finish_when(HasDiscoveries::AnyFailures)
}

#[track_caller]
fn expect_violation(flaw: Flaw, checker: &impl Checker<Lifecycle>, properties: &[&str]) {
    let mut found: BTreeSet<_> = checker.discoveries().into_keys().collect();
    found.retain(|name| !is_sight(checker.model(), name));
    eprintln!("{flaw:?}: violates {found:?} after {} states", checker.state_count());
    assert!(
        properties.iter().any(|property| found.contains(property)),
        "{flaw:?} does not violate {properties:?}"
    );
}

fn is_sight(model: &Lifecycle, name: &str) -> bool {
    model.properties().iter().any(|p| p.name == name && p.expectation == Expectation::Sometimes)
}

#[test]
fn tombstones_for_ever_hold_in_every_state() {
    check("tombstones for ever", &for_ever());
}

#[test]
fn tombstone_collection_holds_in_every_state() {
    check("collection", &collection());
}

#[test]
fn collection_among_concurrent_creates_holds_in_every_state() {
    check("collection, concurrent creates", &concurrent_collection());
}

#[test]
fn retirement_and_return_hold_in_every_state() {
    check("retirement", &retirement());
}

#[test]
fn a_node_that_was_taken_over_harms_no_other() {
    check("taken over", &taken_over());
}

#[test]
fn three_histories_of_one_node_end_as_one_set_of_records() {
    check("equivocation", &equivocation());
}

#[test]
fn flaws_towards_a_node_that_was_taken_over_are_found() {
    finds(Flaw::OverwriteInsteadOfJoin, taken_over(), &["kept", "deleted", "converges"]);
    finds(Flaw::ForgetOnWord, taken_over(), &["kept"]);
    finds(Flaw::CompareNothing, taken_over(), &["converges"]);
    finds(Flaw::CompareCovered, taken_over(), &["converges"]);
    finds(Flaw::FreezeNothing, taken_over(), &["converges"]);
    finds(Flaw::KeepForks, taken_over(), &["converges"]);
    finds(Flaw::ImportAnyHistory, taken_over(), &["whole logs"]);
}

#[test]
fn flaws_of_the_log_are_found() {
    finds(Flaw::KeepIncarnationOnRestore, for_ever(), &["one value per stamp"]);
    finds(Flaw::AcknowledgeBeforeSync, for_ever(), &["kept"]);
    finds(Flaw::SkipVectorUpdate, for_ever(), &["converges"]);
    finds(Flaw::CompactUnstable, for_ever(), &["served"]);
    finds(Flaw::ReturnRetiredWithoutResync, retirement(), &["converges"]);
}

#[test]
fn flaws_of_resync_are_found() {
    finds(Flaw::AdoptVectorFirst, for_ever(), &["kept"]);
    finds(Flaw::OverwriteInsteadOfJoin, for_ever(), &["kept", "converges"]);
    finds(Flaw::DropUncovered, for_ever(), &["kept", "converges"]);
    finds(Flaw::FloorOfBeginning, retirement(), &["whole logs"]);
    finds(Flaw::ApplyDuringResync, collection(), &["deleted"]);
}

#[test]
fn flaws_of_collection_are_found() {
    finds(Flaw::CollectWithoutJoin, concurrent_collection(), &["deleted"]);
    finds(Flaw::CollectUnseen, retirement(), &["deleted"]);
    finds(Flaw::HorizonOfBeginning, collection(), &["deleted"]);
    finds(Flaw::HorizonNotAdopted, collection(), &["converges"]);
    finds(Flaw::ReviveFromPage, retirement(), &["deleted", "converges"]);
    finds(Flaw::DropWholeRecords, collection(), &["converges"]);
}
