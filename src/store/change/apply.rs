//! A segment of another origin's log, from a peer.

use super::{Change, Weight};
use crate::{
    runtime::planted::{self, Bug},
    store::{commit::Commit, error::StoreError, handle::Store},
};
use brock_core::{
    base::{
        id::{KeyHash, Origin},
        vector::{Clock, Stamp},
    },
    domain::{
        codec::QUARANTINED_STATE,
        operation::Operation,
        segment::{Segment, SegmentEntry},
    },
};

impl Store {
    /// Applies a segment of a peer's log. Durable when it returns. Idempotent. Returns up to where
    /// the origin had been applied before: entries above that are new here.
    pub async fn apply(&self, segment: Segment) -> Result<Clock, StoreError> {
        self.change(Apply(segment)).await
    }
}

struct Apply(Segment);

impl Change for Apply {
    type Outcome = Clock;

    fn weight(&self) -> Weight {
        Weight { operations: self.0.entries.len(), bytes: self.0.bytes() }
    }

    fn key_hashes(&self, needed: &mut Vec<KeyHash>) {
        needed.extend(self.0.entries.iter().filter_map(|entry| match entry {
            SegmentEntry::Applicable(entry, _) => Some(entry.key_hash),
            SegmentEntry::Quarantined(..) => None,
        }));
    }

    /// Contract: log entries, record states and the origin's clock become durable together. Entries
    /// that are applied already are skipped. An entry that cannot be applied is quarantined and never
    /// blocks the entries after it.
    fn build(self, commit: &mut Commit<'_>) -> Result<Clock, StoreError> {
        let segment = self.0;
        if commit.is_frozen(&segment.origin) && !planted::is(Bug::FollowFrozen) {
            return Err(StoreError::Frozen(segment.origin));
        }
        commit.check_own(segment.origin, segment.covered_through)?;
        let applied = commit.applied(&segment.origin);
        if segment.after > applied && !planted::is(Bug::AcceptGap) {
            return Err(StoreError::Gap { origin: segment.origin, after: segment.after, applied });
        }
        commit.check_origins(usize::from(applied == Clock::default()))?;
        commit.check_quarantine(&segment, applied)?;
        let tip = commit.continued(&segment, applied)?;
        if segment.covered_through > applied {
            remove_imported(commit, segment.origin, applied, segment.covered_through)?;
        }
        let straddling = straddling(&segment, applied);
        let proven = if straddling.is_none() { segment.covered_through } else { Clock::default() };
        if commit.take_birth(segment.birth, proven) {
            // All of the log comes again.
            return Ok(applied);
        }
        // The rest of a bundle whose beginning is not here could not be passed on.
        let unlogged = straddling.unwrap_or_default();
        let proof = segment.proof.as_ref();
        commit.take_bundles((segment.origin, segment.covered_through), proof, applied)?;
        for entry in segment.entries {
            let stamp = Stamp { origin: segment.origin, clock: entry.clock() };
            if stamp.clock <= applied && !planted::is(Bug::AcceptOverlap) {
                continue;
            }
            let tip = proof.and_then(|proof| proof.bundle_of(stamp.clock));
            match entry {
                SegmentEntry::Applicable(entry, payload) => {
                    let state = entry.operation.resulting_state().into();
                    if stamp.clock > unlogged {
                        commit.log(stamp, entry.key_hash, state, entry.encoded.clone());
                    }
                    let skipped = planted::is(Bug::SkipDelete) && entry.operation == Operation::Delete;
                    if !skipped {
                        let mut state = entry.operation.state(stamp, payload);
                        state.evidence.extend(tip.map(|tip| (stamp, tip.evidence(entry.encoded))));
                        commit.merge(entry.key_hash, state);
                    }
                }
                SegmentEntry::Quarantined(..) if stamp.clock <= unlogged => {}
                SegmentEntry::Quarantined(entry, reason) => {
                    commit.quarantine(stamp, (entry, tip), reason.to_string());
                }
            }
        }
        // A repetition must not lower the clock on disk.
        let rises = segment.covered_through > applied || planted::is(Bug::LowerClock);
        if rises && !planted::is(Bug::SkipVectorUpdate) {
            commit.raise(segment.origin, segment.covered_through, tip);
        }
        if unlogged > applied {
            commit.raise_floor(segment.origin, unlogged);
        }
        Ok(applied)
    }
}

/// The end of a bundle of which only the beginning is applied: on a donor's word, because all others apply whole
/// bundles.
fn straddling(segment: &Segment, applied: Clock) -> Option<Clock> {
    let bundles = segment.proof.as_ref()?.bundles();
    let bundle = bundles.iter().find(|tip| tip.bundle.last() > applied)?.bundle;
    (bundle.first <= applied).then(|| bundle.last())
}

/// Removes what an interrupted resync has left in the log above `applied`, up to `through`: the segment is
/// about to log that. What another donor said of those clocks must not stand beside it.
pub(super) fn remove_imported(
    commit: &mut Commit<'_>,
    origin: Origin,
    applied: Clock,
    through: Clock,
) -> Result<(), StoreError> {
    let view = commit.view();
    for entry in view.log(origin, applied, through) {
        let entry = entry?;
        commit.unlog(&entry);
        if entry.key.state == QUARANTINED_STATE
            && let Some(kept) = view.quarantined(entry.key.stamp)?
        {
            commit.leave_quarantine(entry.key.stamp, &kept);
        }
    }
    Ok(())
}
