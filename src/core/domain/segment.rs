//! Segments: contiguous stretches of one origin's log, as nodes exchange them.

use bytes::Bytes;

use super::operation::{Entry, EntryError, check_entry};
use crate::{
    base::{id::Origin, limits, vector::Clock},
    proto,
};

/// All that an origin's log holds after `after`, up to and including `covered_through`.
#[derive(Debug, Clone)]
pub struct Segment {
    /// The origin of the log.
    pub origin: Origin,
    /// The clock before the segment.
    pub after: Clock,
    /// The last clock that the segment covers, whether there is an entry for it or not.
    pub covered_through: Clock,
    /// In clock order.
    pub entries: Vec<SegmentEntry>,
}

/// One entry of a segment: checked, or found to be inapplicable.
#[derive(Debug, Clone)]
pub enum SegmentEntry {
    /// An entry that can be applied, with its payload if the sender had it.
    Applicable(Entry, Option<Bytes>),
    /// An entry that cannot be applied, verbatim, and the reason.
    Quarantined(proto::Entry, EntryError),
}

impl SegmentEntry {
    /// The entry's number at its origin.
    pub fn clock(&self) -> Clock {
        match self {
            Self::Applicable(entry, _) => entry.clock,
            Self::Quarantined(entry, _) => Clock(entry.clock),
        }
    }
}

/// Why a batch is refused as a whole. The sender is at fault, not an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    /// The origin is not well-formed.
    #[error("a batch names an origin that is not well-formed")]
    Origin,
    /// The batch ends before it begins.
    #[error("a batch of {origin} covers {after} to {through}: it ends before it begins")]
    Range {
        /// The origin of the log.
        origin: Origin,
        /// Where it begins.
        after: Clock,
        /// Where it ends.
        through: Clock,
    },
    /// An entry lies outside of the batch's range, or is out of order.
    #[error("a batch of {0} has an entry out of order or outside of its range")]
    Order(Origin),
    /// More entries than were requested.
    #[error("a batch has {0} entries, more than were asked for")]
    Entries(usize),
}

impl Segment {
    /// Checks a batch from a peer. Entries that cannot be applied are marked one by one, for the
    /// quarantine; only a batch that lies about its own range is refused as a whole.
    pub fn check(batch: proto::Batch) -> Result<Self, SegmentError> {
        let origin = Origin::try_from(batch.origin.as_ref()).map_err(|_| SegmentError::Origin)?;
        let (after, covered_through) = (Clock(batch.after), Clock(batch.covered_through));
        if covered_through < after {
            return Err(SegmentError::Range { origin, after, through: covered_through });
        }
        if batch.entries.len() > limits::BATCH_ENTRIES_MAX {
            return Err(SegmentError::Entries(batch.entries.len()));
        }
        let mut last = after;
        let mut entries = Vec::with_capacity(batch.entries.len());
        for entry in batch.entries {
            let clock = Clock(entry.clock);
            if clock <= last || clock > covered_through {
                return Err(SegmentError::Order(origin));
            }
            last = clock;
            entries.push(match check_entry(&entry) {
                Ok((checked, payload)) => SegmentEntry::Applicable(checked, payload),
                Err(reason) => SegmentEntry::Quarantined(entry, reason),
            });
        }
        Ok(Self { origin, after, covered_through, entries })
    }

    /// The bytes of its payloads, and of the operations that cannot be applied.
    pub fn payload_bytes(&self) -> usize {
        let bytes = self.entries.iter().map(|entry| match entry {
            SegmentEntry::Applicable(_, payload) => payload.as_ref().map_or(0, Bytes::len),
            SegmentEntry::Quarantined(entry, _) => entry.operation.len(),
        });
        bytes.sum()
    }

    /// How many entries above `applied` cannot be applied.
    pub fn quarantined_above(&self, applied: Clock) -> usize {
        let is_new =
            |entry: &&SegmentEntry| matches!(entry, SegmentEntry::Quarantined(..)) && entry.clock() > applied;
        self.entries.iter().filter(is_new).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{base::id::Incarnation, domain::operation::Operation};

    fn batch(after: u64, through: u64, clocks: &[u64]) -> proto::Batch {
        let origin = Origin::new(&"a".parse().unwrap(), Incarnation(1));
        let entry = |clock: &u64| proto::Entry {
            clock: *clock,
            key_hash: vec![1; 32].into(),
            operation: Operation::Delete.encode(),
            payload: None,
        };
        proto::Batch {
            origin: Bytes::copy_from_slice(origin.as_bytes()),
            after,
            covered_through: through,
            entries: clocks.iter().map(entry).collect(),
            ages_ms: Vec::new(),
        }
    }

    #[test]
    fn a_batch_must_tell_the_truth_about_its_range() {
        assert!(Segment::check(batch(3, 5, &[4, 5])).is_ok());
        assert!(Segment::check(batch(3, 9, &[5])).is_ok(), "gaps are covered");
        assert!(Segment::check(batch(3, 3, &[])).is_ok());
        for (after, through, clocks) in
            [(3, 5, vec![3]), (3, 5, vec![6]), (3, 5, vec![5, 4]), (3, 5, vec![4, 4]), (5, 3, vec![])]
        {
            assert!(Segment::check(batch(after, through, &clocks)).is_err(), "{after} {through} {clocks:?}");
        }
        let malformed = proto::Batch { origin: Bytes::from_static(b"x"), ..batch(0, 0, &[]) };
        assert!(matches!(Segment::check(malformed), Err(SegmentError::Origin)));
    }

    #[test]
    fn a_poison_entry_is_set_aside_alone() {
        let mut poisoned = batch(0, 2, &[1, 2]);
        poisoned.entries[0].operation = Bytes::from_static(&[0xff]);
        let segment = Segment::check(poisoned).unwrap();
        assert!(matches!(segment.entries[0], SegmentEntry::Quarantined(..)));
        assert!(matches!(segment.entries[1], SegmentEntry::Applicable(..)));
    }
}
