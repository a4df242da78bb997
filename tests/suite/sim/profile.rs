//! What kind of world a seed makes: how many stores, on what, with which faults.

use std::{env, time::Duration};

use rand::{Rng, rngs::StdRng};

/// Says which worlds a hunt looks at: the name of a [`Focus`].
pub const VARIABLE: &str = "BROCK_SIM_FOCUS";

/// Which worlds to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Focus {
    /// Every kind, as often as it deserves.
    Any,
    /// Stores in directories: crashes, losses, old copies.
    Disks,
    /// Tombstones are collected.
    Collection,
    /// Tombstones are collected, and disks are lost and restored.
    Oblivion,
    /// Two of five nodes lie, and the others believe only what is proven.
    Liars,
}

impl Focus {
    pub const ALL: [Self; 5] = [Self::Any, Self::Disks, Self::Collection, Self::Oblivion, Self::Liars];

    pub fn name(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Disks => "disks",
            Self::Collection => "collection",
            Self::Oblivion => "oblivion",
            Self::Liars => "liars",
        }
    }

    pub fn from_environment() -> Self {
        let Ok(name) = env::var(VARIABLE) else { return Self::Any };
        Self::ALL.into_iter().find(|focus| focus.name() == name).expect("a focus has one of the known names")
    }
}

/// What may happen in one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Create,
    Change,
    HearTheGhost,
    Hello,
    Serve,
    Arrive,
    Snapshot,
    BreakSnapshot,
    Compact,
    Mark,
    Remember,
    Sweep,
    Repair,
    Peek,
    Part,
    Stop,
    Start,
    Lose,
    Copy,
    Restore,
    Retire,
    Jump,
    SetClock,
    Rumour,
    Calm,
}

/// What a seed's world is like.
#[derive(Debug, Clone)]
pub struct Profile {
    pub stores: usize,
    /// In directories, or in RAM, where a store that stops has lost everything.
    pub on_disk: bool,
    pub steps: usize,
    /// Few, so that several nodes often create the same ones.
    pub keys: u64,
    /// For how long tombstones are kept; `None` = for ever.
    pub grace: Option<Duration>,
    pub retires: bool,
    /// Whether some operations of the ghost cannot be applied. A node that has such operations collects nothing.
    pub has_poison: bool,
    /// A few fill a page of a snapshot.
    pub large_payloads: bool,
    /// Whether some nodes lie, and the others believe only what is proven.
    pub has_liars: bool,
    weights: Vec<(Step, u32)>,
}

impl Profile {
    pub fn of(random: &mut StdRng, focus: Focus) -> Self {
        let collects = match focus {
            Focus::Any => random.random_bool(0.4),
            Focus::Disks => random.random_bool(0.2),
            Focus::Collection | Focus::Oblivion => true,
            Focus::Liars => false,
        };
        let on_disk = match focus {
            Focus::Any => random.random_bool(0.25),
            Focus::Disks => true,
            Focus::Collection => false,
            Focus::Oblivion => random.random_bool(0.7),
            Focus::Liars => random.random_bool(0.2),
        };
        let grace = collects.then(|| Duration::from_secs([0, 0, 120][random.random_range(0..3)]));
        let has_liars = focus == Focus::Liars;
        let retires = random.random_bool(0.5) && focus != Focus::Collection && !has_liars;
        let has_poison = !collects || random.random_bool(0.1);
        let large_payloads = random.random_bool(0.15);
        let stores = if has_liars { 5 } else { random.random_range(3..=4) };
        let keys = if collects { 10 } else { 14 };
        let (steps, losses) = match focus {
            Focus::Collection => (220, 2),
            Focus::Oblivion => (220, 16),
            Focus::Any | Focus::Disks => (150, 8),
            Focus::Liars => (150, 4),
        };
        let losses = if random.random_bool(0.5) { losses } else { 1 };
        let mut weights = weights(losses, on_disk, collects, retires);
        if focus == Focus::Collection {
            // Much is under way while much is collected.
            weights.retain(|(step, _)| *step != Step::Calm);
            weights.extend([(Step::Calm, 5), (Step::Compact, 60)]);
        }
        if has_liars {
            // No ghost, which signs nothing; no clocks in doubt; and rumours are the liars' matter.
            let left_out = [Step::HearTheGhost, Step::Jump, Step::SetClock, Step::Rumour, Step::Repair];
            weights.retain(|(step, _)| !left_out.contains(step));
            weights.extend([(Step::Peek, 60), (Step::Repair, 50)]);
        }
        let has_poison = has_poison && !has_liars;
        Self { stores, on_disk, steps, keys, grace, retires, has_poison, large_payloads, has_liars, weights }
    }

    pub fn collects(&self) -> bool {
        self.grace.is_some()
    }

    pub fn step(&self, random: &mut StdRng) -> Step {
        let all: u32 = self.weights.iter().map(|(_, weight)| weight).sum();
        let mut point = random.random_range(0..all);
        for (step, weight) in &self.weights {
            if point < *weight {
                return *step;
            }
            point -= weight;
        }
        Step::Arrive
    }
}

/// In tenths of a percent, roughly.
fn weights(losses: u32, on_disk: bool, collects: bool, retires: bool) -> Vec<(Step, u32)> {
    let disk = u32::from(on_disk);
    vec![
        (Step::Create, 110),
        (Step::Change, 110),
        (Step::HearTheGhost, 25),
        (Step::Hello, 120),
        (Step::Serve, 150),
        (Step::Arrive, 260),
        (Step::Snapshot, 100),
        (Step::BreakSnapshot, 10),
        (Step::Compact, 50),
        (Step::Mark, if collects { 20 } else { 0 }),
        (Step::Remember, 15),
        (Step::Sweep, 15),
        (Step::Repair, 15),
        (Step::Part, 15),
        (Step::Stop, if on_disk { 2 * losses } else { losses / 2 }),
        (Step::Start, 40),
        (Step::Lose, losses),
        (Step::Copy, (10 + losses) * disk),
        (Step::Restore, 2 * losses * disk),
        (Step::Retire, if retires { 8 } else { 0 }),
        (Step::Jump, 4),
        (Step::SetClock, 12),
        (Step::Rumour, 2),
        (Step::Calm, if collects { 14 } else { 3 }),
    ]
}
