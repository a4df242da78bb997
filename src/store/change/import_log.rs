//! Keeping a stretch of a donor's log for when its vector is adopted.

use super::{Change, Weight, apply::remove_imported};
use crate::store::{commit::Commit, error::StoreError, handle::Store};
use brock_core::{
    base::vector::Stamp,
    domain::segment::{Segment, SegmentEntry},
};

impl Store {
    /// Keeps a stretch of a donor's log for when its vector is adopted. Idempotent.
    pub async fn import_log(&self, segment: Segment) -> Result<(), StoreError> {
        self.change(ImportLog(segment)).await
    }
}

struct ImportLog(Segment);

impl Change for ImportLog {
    type Outcome = ();

    fn weight(&self) -> Weight {
        Weight { operations: self.0.entries.len(), bytes: self.0.bytes() }
    }

    /// Contract: only log entries above what is applied here are added. They become visible when the
    /// donor's vector is adopted, and not before. They replace what an earlier donor said of these clocks.
    fn build(self, commit: &mut Commit<'_>) -> Result<(), StoreError> {
        let segment = self.0;
        if commit.is_frozen(&segment.origin) {
            return Ok(());
        }
        commit.check_own(segment.origin, segment.covered_through)?;
        let applied = commit.applied(&segment.origin);
        commit.check_quarantine(&segment, applied)?;
        remove_imported(commit, segment.origin, applied.max(segment.after), segment.covered_through)?;
        if commit.take_birth(segment.birth, segment.covered_through) {
            // All of the log comes again.
            return Ok(());
        }
        let (proof, place) = (segment.proof.as_ref(), (segment.origin, segment.covered_through));
        commit.take_bundles(place, proof, applied.max(segment.after))?;
        for entry in segment.entries {
            let stamp = Stamp { origin: segment.origin, clock: entry.clock() };
            if stamp.clock <= applied {
                continue;
            }
            // The pages have brought the evidence of what is in records.
            let tip = proof.and_then(|proof| proof.bundle_of(stamp.clock));
            match entry {
                SegmentEntry::Applicable(entry, _) => {
                    let state = entry.operation.resulting_state().into();
                    commit.log(stamp, entry.key_hash, state, entry.encoded);
                }
                SegmentEntry::Quarantined(entry, reason) => {
                    commit.quarantine(stamp, (entry, tip), reason.to_string());
                }
            }
        }
        Ok(())
    }
}
