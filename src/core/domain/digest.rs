//! Digests of record sets. They do not depend on the order, so the writer updates them record by
//! record, and two nodes find their differences without a scan.

use prost::Message;

use super::{codec, record::RecordState};
use crate::base::id::{KeyHash, sha256};

/// Buckets, by the first byte of the key hash.
pub const BUCKETS: usize = 256;

/// The digest of one record: its key hash, and all of its state but the payload and what differs between
/// nodes that have applied the same: evidence, and whether a node has seen the create of a tombstone. Whether
/// the payload is present counts only for records that never expire: an expired payload is removed sooner on
/// one node than on another.
pub fn of_record(key_hash: &KeyHash, state: &RecordState) -> [u8; 32] {
    let must_have_payload = state.creation.is_some() && state.expires_at.is_none();
    let mut compared = codec::unproven_to_proto(state);
    compared.was_created = false;
    if let Some(creation) = &mut compared.creation {
        creation.payload = None;
    }
    let mut bytes = codec::versioned(&compared.encode_to_vec());
    bytes.push(u8::from(must_have_payload && !state.has_payload()));
    bytes.extend_from_slice(&key_hash.0);
    sha256(&bytes)
}

/// The sum of the digests of a set of records: adding and removing commute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum([u64; 4]);

impl Sum {
    /// Adds a record to the set.
    pub fn add(&mut self, digest: &[u8; 32]) {
        self.change(digest, u64::wrapping_add);
    }

    /// Removes a record from the set.
    pub fn remove(&mut self, digest: &[u8; 32]) {
        self.change(digest, u64::wrapping_sub);
    }

    fn change(&mut self, digest: &[u8; 32], change: fn(u64, u64) -> u64) {
        let (lanes, _) = digest.as_chunks::<8>();
        for (sum, lane) in self.0.iter_mut().zip(lanes) {
            *sum = change(*sum, u64::from_be_bytes(*lane));
        }
    }

    /// 32 bytes.
    pub fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (chunk, lane) in bytes.chunks_exact_mut(8).zip(self.0) {
            chunk.copy_from_slice(&lane.to_be_bytes());
        }
        bytes
    }

    /// Reads [`Sum::to_bytes`].
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        let mut sum = Self::default();
        sum.add(bytes);
        sum
    }
}

/// How many records, tombstones and conflicts there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Present records.
    pub records: u64,
    /// Deleted records that are remembered.
    pub tombstones: u64,
    /// Payloads that lost against another one of the same key hash.
    pub conflicts: u64,
    /// Records and tombstones of which an operation is not proven: no origin has signed it, or it destroys and no
    /// operator has.
    pub unproven: u64,
}

impl Counts {
    fn of(state: &RecordState) -> Self {
        Self {
            records: state.is_record().into(),
            tombstones: state.deletion.is_some().into(),
            conflicts: state.losers.len() as u64,
            unproven: (!state.is_proven()).into(),
        }
    }

    /// Both together. Wraps, so that a difference can be added too.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        self.combine(other, u64::wrapping_add)
    }

    /// What must be added to `other` to have this.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        self.combine(other, u64::wrapping_sub)
    }

    fn combine(self, other: Self, combine: fn(u64, u64) -> u64) -> Self {
        Self {
            records: combine(self.records, other.records),
            tombstones: combine(self.tombstones, other.tombstones),
            conflicts: combine(self.conflicts, other.conflicts),
            unproven: combine(self.unproven, other.unproven),
        }
    }
}

/// One bucket: records and tombstones apart, because tombstones may be collected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bucket {
    /// Of records that are not deleted.
    pub records: Sum,
    /// Of tombstones.
    pub tombstones: Sum,
    /// How many there are.
    pub counts: Counts,
}

impl Bucket {
    /// Replaces one record's state by another; `None` = nothing is known.
    pub fn replace(&mut self, key_hash: &KeyHash, before: Option<&RecordState>, after: Option<&RecordState>) {
        if let Some(before) = before {
            self.of(before).remove(&of_record(key_hash, before));
            self.counts = self.counts.minus(Counts::of(before));
        }
        if let Some(after) = after {
            self.of(after).add(&of_record(key_hash, after));
            self.counts = self.counts.plus(Counts::of(after));
        }
    }

    fn of(&mut self, state: &RecordState) -> &mut Sum {
        if state.deletion.is_some() { &mut self.tombstones } else { &mut self.records }
    }

    /// What must be added to `other` to have this.
    #[must_use]
    pub fn minus(mut self, other: Self) -> Self {
        self.records.remove(&other.records.to_bytes());
        self.tombstones.remove(&other.tombstones.to_bytes());
        self.counts = self.counts.minus(other.counts);
        self
    }

    /// Both together.
    #[must_use]
    pub fn plus(mut self, other: Self) -> Self {
        self.records.add(&other.records.to_bytes());
        self.tombstones.add(&other.tombstones.to_bytes());
        self.counts = self.counts.plus(other.counts);
        self
    }
}

/// A whole record set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetDigest(Vec<Bucket>);

impl Default for SetDigest {
    fn default() -> Self {
        Self(vec![Bucket::default(); BUCKETS])
    }
}

impl SetDigest {
    /// The bucket that a key hash belongs to.
    pub fn bucket_of(key_hash: &KeyHash) -> u8 {
        key_hash.0[0]
    }

    /// The key hashes of a bucket: above the first (`None` = from the first there is), up to the second.
    pub fn bounds(bucket: u8) -> (Option<KeyHash>, KeyHash) {
        let last_of = |bucket| {
            let mut last = [0xff; 32];
            last[0] = bucket;
            KeyHash(last)
        };
        (bucket.checked_sub(1).map(last_of), last_of(bucket))
    }

    /// One bucket.
    pub fn get(&self, bucket: u8) -> Bucket {
        self.0[usize::from(bucket)]
    }

    /// Replaces one bucket.
    pub fn set(&mut self, bucket: u8, to: Bucket) {
        self.0[usize::from(bucket)] = to;
    }

    /// The counts of all buckets together.
    pub fn counts(&self) -> Counts {
        self.0.iter().fold(Counts::default(), |sum, bucket| sum.plus(bucket.counts))
    }

    /// All buckets' digests of records, 32 bytes each.
    pub fn record_buckets(&self) -> Vec<u8> {
        self.0.iter().flat_map(|bucket| bucket.records.to_bytes()).collect()
    }

    /// All buckets' digests of tombstones, 32 bytes each.
    pub fn tombstone_buckets(&self) -> Vec<u8> {
        self.0.iter().flat_map(|bucket| bucket.tombstones.to_bytes()).collect()
    }

    /// One digest of all records and one of all tombstones.
    pub fn roots(&self) -> ([u8; 32], [u8; 32]) {
        (sha256(&self.record_buckets()), sha256(&self.tombstone_buckets()))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::{any, prop_assert_eq, prop_assert_ne, proptest};

    use super::*;
    use crate::{
        base::{
            id::{Incarnation, Origin},
            vector::{Clock, Stamp},
        },
        domain::record::Creation,
    };

    fn stamp() -> Stamp {
        Stamp { origin: Origin::new(&"a".parse().unwrap(), Incarnation(1)), clock: Clock(1) }
    }

    fn record(expires_at: Option<i64>) -> RecordState {
        let creation = Some(Creation::new(1, stamp(), Bytes::from_static(b"p")));
        RecordState { creation, expires_at, ..RecordState::default() }
    }

    proptest! {
        #[test]
        fn a_sum_does_not_depend_on_the_order(digests in proptest::collection::vec(any::<[u8; 32]>(), 1..20)) {
            let (mut forwards, mut backwards) = (Sum::default(), Sum::default());
            digests.iter().for_each(|digest| forwards.add(digest));
            digests.iter().rev().for_each(|digest| backwards.add(digest));
            prop_assert_eq!(forwards, backwards);
            prop_assert_eq!(Sum::from_bytes(&forwards.to_bytes()), forwards);
            let whole = forwards;
            forwards.remove(&digests[0]);
            if digests[0] != [0; 32] {
                prop_assert_ne!(forwards, whole);
            }
            forwards.add(&digests[0]);
            prop_assert_eq!(forwards, whole);
        }
    }

    #[test]
    fn a_payload_that_is_missing_shows_unless_it_may_be_swept() {
        let key = KeyHash([7; 32]);
        let lasting = record(None);
        assert_ne!(of_record(&key, &lasting), of_record(&key, &lasting.without_payload()));
        let expiring = record(Some(9));
        assert_eq!(of_record(&key, &expiring), of_record(&key, &expiring.without_payload()));
        assert_ne!(of_record(&key, &expiring), of_record(&KeyHash([8; 32]), &expiring));
    }

    #[test]
    fn tombstones_are_summed_apart() {
        let key = KeyHash([7; 32]);
        let deleted = RecordState { deletion: Some(stamp()), ..RecordState::default() };
        let mut bucket = Bucket::default();
        bucket.replace(&key, None, Some(&record(None)));
        assert_eq!(bucket.tombstones, Sum::default());
        bucket.replace(&key, Some(&record(None)), Some(&deleted));
        assert_eq!(bucket.records, Sum::default());
        assert_ne!(bucket.tombstones, Sum::default());
        let counts = Counts { tombstones: 1, unproven: 1, ..Counts::default() };
        assert_eq!(bucket.counts, counts);
        let (mut other, mut more) = (Bucket::default(), bucket);
        other.replace(&KeyHash([9; 32]), None, Some(&record(None)));
        more.replace(&KeyHash([9; 32]), None, Some(&record(None)));
        assert_eq!(more.minus(bucket), other);
        assert_eq!(bucket.plus(other), more);
        bucket.replace(&key, Some(&deleted), None);
        assert_eq!(bucket, Bucket::default());
    }
}
