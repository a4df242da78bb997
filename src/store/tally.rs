//! What a commit did, for the metrics.

use brock_core::base::metrics as names;

/// Counts of one commit. They are recorded only once it is durable.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub operations: u64,
    pub creates: u64,
    pub expiring_creates: u64,
    pub invalidates: u64,
    pub unpublishes: u64,
    pub deletes: u64,
    pub duplicates_equal: u64,
    pub duplicates_unequal: u64,
    pub conflicts: u64,
    pub quarantined: u64,
    pub expired: u64,
    pub compacted: u64,
    pub collected: u64,
    pub folded: u64,
}

impl Tally {
    pub(super) fn record(&self) {
        let count = |name, value| {
            if value > 0 {
                metrics::counter!(name).increment(value);
            }
        };
        let labelled = |name: &'static str, label: &'static str, flag: &'static str, value| {
            if value > 0 {
                metrics::counter!(name, label => flag).increment(value);
            }
        };
        metrics::histogram!(names::COMMIT_OPERATIONS).record(self.operations as f64);
        labelled(names::CREATES, "expiring", "true", self.expiring_creates);
        labelled(names::CREATES, "expiring", "false", self.creates - self.expiring_creates);
        labelled(names::OPERATIONS, "kind", "invalidate", self.invalidates);
        labelled(names::OPERATIONS, "kind", "unpublish", self.unpublishes);
        labelled(names::OPERATIONS, "kind", "delete", self.deletes);
        labelled(names::DUPLICATE_KEYS, "values_equal", "true", self.duplicates_equal);
        labelled(names::DUPLICATE_KEYS, "values_equal", "false", self.duplicates_unequal);
        count(names::CONFLICTS, self.conflicts);
        count(names::QUARANTINED, self.quarantined);
        count(names::EXPIRED, self.expired);
        count(names::COMPACTED, self.compacted);
        count(names::COLLECTED, self.collected);
        count(names::FOLDED, self.folded);
    }
}
