//! Segments: contiguous stretches of one origin's log, as nodes exchange them.

use bytes::Bytes;

use super::{
    birth::SignedBirth,
    bundle::{self, Bundle, Hash, OriginKey, Tip},
    codec::CodecError,
    operation::{Entry, EntryError, check_entry},
};
use crate::{
    base::{
        id::{ClusterId, KeyHash, Origin},
        limits,
        planted::{self, Bug},
        vector::{Clock, Stamp},
    },
    proto,
};

/// One origin's log after `after`, up to and including `covered_through`: an entry for every clock.
#[derive(Debug, Clone)]
pub struct Segment {
    /// The origin of the log.
    pub origin: Origin,
    /// The clock before the segment.
    pub after: Clock,
    /// The clock of the last entry.
    pub covered_through: Clock,
    /// In clock order, without a gap.
    pub entries: Vec<SegmentEntry>,
    /// The origin's signatures; `None` = it does not sign.
    pub proof: Option<Proof>,
    /// The origin's birth, if the sender sent it. Its signature is not verified yet.
    pub birth: Option<SignedBirth>,
}

/// The signatures under which an origin has put all entries of a segment.
#[derive(Debug, Clone)]
pub struct Proof {
    bundles: Vec<Tip>,
    /// One for each entry.
    hashes: Vec<Hash>,
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

    /// Its bytes, payload included.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Applicable(entry, payload) => {
                entry.key_hash.0.len() + entry.encoded.len() + payload.as_ref().map_or(0, Bytes::len)
            }
            Self::Quarantined(entry, _) => entry_bytes(entry),
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
    /// Its signatures are not those of its entries.
    #[error("a batch of {0} has signatures that do not belong to its entries")]
    Bundles(Origin),
    /// The birth of another origin, or a malformed one.
    #[error("a batch of {0} has a birth that is malformed or another origin's")]
    Birth(Origin),
    /// The batch has no entry for a clock that it covers, so the puller would never ask for that operation.
    #[error("a batch of {0} covers clocks that it has no entry for")]
    Gap(Origin),
    /// An entry is larger than any that an origin writes.
    #[error("a batch of {0} has an entry of {1} bytes, more than the {max} that any has", max = limits::ENTRY_MAX_BYTES)]
    EntrySize(Origin, usize),
    /// An entry's key hash has the wrong length. No node writes one, and it could not be relayed in its place.
    #[error("a batch of {0} has an entry with a key hash of {1} bytes instead of 32")]
    KeyHash(Origin, usize),
    /// More entries than were requested.
    #[error("a batch has {0} entries, more than were asked for")]
    Entries(usize),
}

impl Segment {
    /// Checks a batch from a peer. Entries that cannot be applied are marked one by one, for the
    /// quarantine; a batch that lies about its own range, leaves out a clock, or has an entry that is larger than
    /// any honest one or on something that is no key hash is refused as a whole.
    pub fn check(batch: proto::Batch) -> Result<Self, SegmentError> {
        let origin = Origin::try_from(batch.origin.as_ref()).map_err(|_| SegmentError::Origin)?;
        let (after, covered_through) = (Clock(batch.after), Clock(batch.covered_through));
        if covered_through < after {
            return Err(SegmentError::Range { origin, after, through: covered_through });
        }
        if batch.entries.len() > limits::BATCH_ENTRIES_MAX {
            return Err(SegmentError::Entries(batch.entries.len()));
        }
        let birth = batch.birth.map(SignedBirth::from_proto).transpose();
        let birth = birth.map_err(|_: CodecError| SegmentError::Birth(origin))?;
        if birth.as_ref().is_some_and(|signed| signed.birth.origin != origin) {
            return Err(SegmentError::Birth(origin));
        }
        let proof = match batch.bundles.as_slice() {
            [] => None,
            bundles => {
                let before = batch.chain.as_ref().try_into();
                let before = before.map_err(|_| SegmentError::Bundles(origin))?;
                let range = (after, covered_through);
                let proof = Proof::of((origin, before), range, bundles, &batch.entries);
                Some(proof.ok_or(SegmentError::Bundles(origin))?)
            }
        };
        let mut last = after;
        let mut entries = Vec::with_capacity(batch.entries.len());
        for entry in batch.entries {
            let clock = Clock(entry.clock);
            if clock <= last || clock > covered_through {
                return Err(SegmentError::Order(origin));
            }
            last = clock;
            let bytes = entry_bytes(&entry);
            if bytes > limits::ENTRY_MAX_BYTES {
                return Err(SegmentError::EntrySize(origin, bytes));
            }
            if KeyHash::try_from(entry.key_hash.as_ref()).is_err() {
                return Err(SegmentError::KeyHash(origin, entry.key_hash.len()));
            }
            entries.push(match check_entry(&entry) {
                Ok((checked, payload)) => SegmentEntry::Applicable(checked, payload),
                Err(reason) => SegmentEntry::Quarantined(entry, reason),
            });
        }
        // The clocks rise and lie in the range: as many entries as clocks are one for each.
        let is_whole = covered_through.0 - after.0 == entries.len() as u64;
        if !is_whole && !planted::is(Bug::AcceptGapInBatch) {
            return Err(SegmentError::Gap(origin));
        }
        Ok(Self { origin, after, covered_through, entries, proof, birth })
    }

    /// Cuts the segment off before its entry at `clock`, or before the bundle which that is in: what is left can be
    /// relayed with its signatures.
    pub fn cut_before(&mut self, clock: Clock) {
        let end = match &mut self.proof {
            None => Clock(clock.0.saturating_sub(1)),
            Some(proof) => {
                proof.bundles.retain(|tip| tip.bundle.last() < clock);
                proof.bundles.last().map_or(self.after, |tip| tip.bundle.last())
            }
        };
        self.covered_through = self.covered_through.min(end).max(self.after);
        self.entries.retain(|entry| entry.clock() <= end);
        if let Some(proof) = &mut self.proof {
            proof.hashes.truncate(self.entries.len());
        }
    }

    /// The bytes of its entries, payloads included.
    pub fn bytes(&self) -> usize {
        self.entries.iter().map(SegmentEntry::bytes).sum()
    }

    /// How many entries above `applied` cannot be applied, and their bytes.
    pub fn quarantined_above(&self, applied: Clock) -> (u64, u64) {
        let is_new =
            |entry: &&SegmentEntry| matches!(entry, SegmentEntry::Quarantined(..)) && entry.clock() > applied;
        let new = self.entries.iter().filter(is_new);
        new.fold((0, 0), |(count, bytes), entry| (count + 1, bytes + entry.bytes() as u64))
    }

    /// The same up to the entry before the first that is above `applied` and cannot be applied; `None` if all
    /// can.
    #[must_use]
    pub fn before_quarantined(&self, applied: Clock) -> Option<Self> {
        let is_new =
            |entry: &SegmentEntry| matches!(entry, SegmentEntry::Quarantined(..)) && entry.clock() > applied;
        let first = self.entries.iter().find(|entry| is_new(entry))?.clock();
        let mut before = self.clone();
        before.cut_before(first);
        Some(before)
    }
}

/// The bytes of an entry as it came, payload included.
pub fn entry_bytes(entry: &proto::Entry) -> usize {
    entry.key_hash.len() + entry.operation.len() + entry.payload.as_ref().map_or(0, Bytes::len)
}

impl Proof {
    /// Of the entries of a batch, which must fill the bundles exactly; `None` = they do not.
    fn of(
        (origin, mut before): (Origin, Hash),
        (after, through): (Clock, Clock),
        bundles: &[proto::Bundle],
        mut entries: &[proto::Entry],
    ) -> Option<Self> {
        let mut proof =
            Self { bundles: Vec::with_capacity(bundles.len()), hashes: Vec::with_capacity(entries.len()) };
        let mut last = after;
        for bundle in bundles {
            let bundle = Bundle::from_proto(last.next(), before, bundle)?;
            let (own, rest) = entries.split_at_checked(bundle.count.into())?;
            let begin = proof.hashes.len();
            for entry in own {
                last = last.next();
                if entry.clock != last.0 {
                    return None;
                }
                let stamp = Stamp { origin, clock: last };
                proof.hashes.push(bundle::leaf(stamp, &entry.key_hash, &entry.operation));
            }
            let tip = Tip { bundle, root: bundle::root(&proof.hashes[begin..]) };
            before = tip.chain();
            proof.bundles.push(tip);
            entries = rest;
        }
        (last == through && entries.is_empty()).then_some(proof)
    }

    /// Whether the origin of this key signed all of it.
    pub fn is_genuine(&self, cluster: &ClusterId, origin: &Origin, key: &OriginKey) -> bool {
        let genuine = bundle::verify_each(&self.bundles, |tip| tip.is_genuine(cluster, origin, key));
        genuine.into_iter().all(|is_genuine| is_genuine)
    }

    /// The bundles, in order.
    pub fn bundles(&self) -> &[Tip] {
        &self.bundles
    }

    /// The bundle with that clock.
    pub fn bundle_of(&self, clock: Clock) -> Option<&Tip> {
        let at = self.bundles.partition_point(|tip| tip.bundle.last() < clock);
        self.bundles.get(at).filter(|tip| tip.bundle.first <= clock)
    }

    /// The bundles, in order, each with the hashes of its operations.
    pub fn leaves(&self) -> impl Iterator<Item = (&Tip, &[Hash])> {
        let mut rest = self.hashes.as_slice();
        self.bundles.iter().map(move |tip| {
            let (own, left) = rest.split_at(rest.len().min(tip.bundle.count.into()));
            rest = left;
            (tip, own)
        })
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
            ..proto::Batch::default()
        }
    }

    #[test]
    fn a_batch_must_tell_the_truth_about_its_range() {
        assert!(Segment::check(batch(3, 5, &[4, 5])).is_ok());
        assert!(Segment::check(batch(3, 3, &[])).is_ok());
        for (after, through, clocks) in
            [(3, 5, vec![3]), (3, 5, vec![6]), (3, 5, vec![5, 4]), (3, 5, vec![4, 4]), (5, 3, vec![])]
        {
            assert!(Segment::check(batch(after, through, &clocks)).is_err(), "{after} {through} {clocks:?}");
        }
        let max = u64::MAX;
        for (after, through, clocks) in [
            (3, 9, vec![5]),
            (3, 6, vec![4, 6]),
            (3, 6, vec![4, 5]),
            (3, 4, vec![]),
            (0, max, vec![1]),
            (0, max, vec![max]),
        ] {
            let checked = Segment::check(batch(after, through, &clocks));
            assert!(matches!(checked, Err(SegmentError::Gap(_))), "{after} {through} {clocks:?}");
        }
        assert!(Segment::check(batch(max - 1, max, &[max])).is_ok());
        let malformed = proto::Batch { origin: Bytes::from_static(b"x"), ..batch(0, 0, &[]) };
        assert!(matches!(Segment::check(malformed), Err(SegmentError::Origin)));
    }

    #[test]
    fn the_entries_of_a_signed_batch_fill_its_bundles_exactly() {
        let signed = |after, through, clocks: &[u64], counts: &[u32]| {
            let bundle = |count: &u32| proto::Bundle { count: *count, signature: vec![0; 64].into() };
            let bundles = counts.iter().map(bundle).collect();
            let chain = vec![1; 32].into();
            Segment::check(proto::Batch { bundles, chain, ..batch(after, through, clocks) })
        };
        let proof = signed(3, 6, &[4, 5, 6], &[1, 2]).unwrap().proof.unwrap();
        assert_eq!(proof.bundles().iter().map(|tip| tip.bundle.first.0).collect::<Vec<_>>(), [4, 5]);
        assert_eq!(proof.bundles()[0].bundle.before, [1; 32]);
        assert_eq!(proof.bundles()[1].bundle.before, proof.bundles()[0].chain());
        assert_eq!(proof.leaves().map(|(_, hashes)| hashes.len()).sum::<usize>(), 3);
        for (through, clocks, counts) in [
            (6, vec![4, 5, 6], vec![1, 1]),
            (6, vec![4, 5, 6], vec![1, 3]),
            (6, vec![4, 6], vec![2]),
            (6, vec![4, 5], vec![2]),
            (5, vec![4, 5], vec![2, 0]),
            (5, vec![4, 5], vec![65]),
            (5, vec![5], vec![1]),
        ] {
            assert!(signed(3, through, &clocks, &counts).is_err(), "{through} {clocks:?} {counts:?}");
        }
        assert!(signed(u64::MAX - 1, u64::MAX, &[u64::MAX], &[1]).is_err(), "a clock that no origin reaches");
    }

    #[test]
    fn a_poison_entry_is_set_aside_alone() {
        let mut poisoned = batch(0, 2, &[1, 2]);
        poisoned.entries[0].operation = Bytes::from_static(&[0xff]);
        let segment = Segment::check(poisoned).unwrap();
        assert!(matches!(segment.entries[0], SegmentEntry::Quarantined(..)));
        assert!(matches!(segment.entries[1], SegmentEntry::Applicable(..)));
        assert_eq!(segment.quarantined_above(Clock(0)), (1, 33));
        assert_eq!(segment.quarantined_above(Clock(1)), (0, 0));
        assert_eq!(segment.before_quarantined(Clock(0)).unwrap().covered_through, Clock(0));
        assert!(segment.before_quarantined(Clock(1)).is_none());
    }

    #[test]
    fn an_entry_larger_than_any_honest_one_is_the_senders_fault() {
        let mut large = batch(0, 1, &[1]);
        let most = limits::ENTRY_MAX_BYTES - entry_bytes(&large.entries[0]);
        large.entries[0].payload = Some(vec![1; most].into());
        assert!(Segment::check(large.clone()).is_ok());
        large.entries[0].payload = Some(vec![1; most + 1].into());
        assert!(matches!(Segment::check(large), Err(SegmentError::EntrySize(..))));
    }
}
