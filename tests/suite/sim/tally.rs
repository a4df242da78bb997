//! What really happened in a run: a fault that never struck proves nothing.

use std::{collections::BTreeMap, fmt};

/// What must have happened at least once in a run of some length. Rarer things are left to the hunts
/// for the bugs that only they show.
const REQUIRED: [&str; 39] = [
    "creates",
    "creates refused",
    "invalidations",
    "unpublications",
    "deletes",
    "operations ahead",
    "operations that were in effect already",
    "batches applied",
    "gaps refused",
    "flights lost",
    "flights repeated",
    "acknowledgements late or lost",
    "partitions",
    "compactions",
    "log entries compacted",
    "origins folded",
    "tombstones collected",
    "payloads removed",
    "payloads swept",
    "sweeps held back by a clock in doubt",
    "clock jumps",
    "refused by a floor",
    "refused as folded",
    "refused as retired",
    "retired nodes that came back",
    "resyncs",
    "resyncs broken off",
    "resyncs resumed",
    "resyncs of several pages",
    "resyncs that changed donors",
    "repairs",
    "records repaired",
    "crashes",
    "clean stops",
    "disks lost",
    "old copies restored",
    "operations lost with a disk",
    "conflicts",
    "quarantined",
];

/// Counts by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally(BTreeMap<&'static str, u64>);

impl Tally {
    pub fn add(&mut self, what: &'static str, count: u64) {
        *self.0.entry(what).or_default() += count;
    }

    pub fn get(&self, what: &'static str) -> u64 {
        self.0.get(what).copied().unwrap_or_default()
    }

    pub fn join(&mut self, other: &Self) {
        for (what, count) in &other.0 {
            self.add(what, *count);
        }
    }

    /// Panics if something that the simulation is there for never happened.
    pub fn require(&self) {
        self.require_all(&REQUIRED);
    }

    pub fn require_all(&self, required: &[&'static str]) {
        let missing: Vec<_> = required.iter().filter(|what| self.get(what) == 0).collect();
        assert!(missing.is_empty(), "the network, the disks and the liars were too kind: no {missing:?}");
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts: Vec<String> = self.0.iter().map(|(what, count)| format!("{count} {what}")).collect();
        f.write_str(&counts.join(", "))
    }
}
