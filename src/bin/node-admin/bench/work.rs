//! What is written and read: keys, payloads, and whether an answer is the right one.

use brock_core::proto;
use bytes::{Bytes, BytesMut};
use rand::{Rng, RngCore, SeedableRng, rngs::SmallRng};

const KEY_BYTES: usize = 32;
/// Fresh keys are made in blocks, so that one costs a reference and no allocation.
const BLOCK_BYTES: usize = 1024 * KEY_BYTES;
/// Payloads are windows into this much random data: large enough that the windows in one block of the store
/// hardly overlap, so that compression does not make the disk look faster than it is.
const POOL_BYTES: usize = 1024 * 1024;

/// The payload of every key, as a function of the key: so an answer can be checked to the byte.
pub(super) struct Payloads {
    pool: Bytes,
    size: usize,
}

impl Payloads {
    pub(super) fn random(size: usize) -> Self {
        let mut pool = vec![0; POOL_BYTES + size];
        SmallRng::from_os_rng().fill_bytes(&mut pool);
        Self { pool: pool.into(), size }
    }

    /// The same payloads in a buffer of their own: threads that share a buffer contend for its reference
    /// count.
    pub(super) fn copy(&self) -> Self {
        Self { pool: Bytes::copy_from_slice(&self.pool), size: self.size }
    }

    /// The same payloads from the same memory, within a thread.
    pub(super) fn share(&self) -> Self {
        Self { pool: self.pool.clone(), size: self.size }
    }

    fn start_of(key_hash: &[u8]) -> usize {
        let number = key_hash.iter().take(4).fold(0, |number, byte| number << 8 | usize::from(*byte));
        number % POOL_BYTES
    }

    /// The request that creates the record of `key_hash`.
    pub(super) fn put(&self, key_hash: Bytes) -> proto::PutRequest {
        let start = Self::start_of(&key_hash);
        let record = proto::Record {
            encrypted_access_grant: self.pool.slice(start..start + self.size),
            ..proto::Record::default()
        };
        proto::PutRequest { key_hash, record: Some(record), acks: None, import: false }
    }

    /// Whether this is the record that was put under `key_hash`.
    pub(super) fn are_in(&self, key_hash: &[u8], answer: &proto::GetResponse) -> bool {
        let start = Self::start_of(key_hash);
        let expected = &self.pool[start..start + self.size];
        answer.record.as_ref().is_some_and(|record| record.encrypted_access_grant == expected)
    }

    /// How many of these records go into one BatchPut or BatchGet, up to `max`.
    pub(super) fn per_batch(&self, max: usize, bytes: usize) -> usize {
        (bytes / (self.size + super::RECORD_OVERHEAD_BYTES)).clamp(1, max)
    }
}

/// `count` random keys, end to end.
pub(super) fn random_keys(count: usize, rng: &mut impl RngCore) -> Bytes {
    let mut keys = BytesMut::zeroed(count * KEY_BYTES);
    rng.fill_bytes(&mut keys);
    keys.freeze()
}

/// The keys in a buffer of keys.
pub(super) fn keys_in(keys: &Bytes) -> impl Iterator<Item = Bytes> + '_ {
    (0..keys.len() / KEY_BYTES).map(|index| key_at(keys, index))
}

fn key_at(keys: &Bytes, index: usize) -> Bytes {
    keys.slice(index * KEY_BYTES..(index + 1) * KEY_BYTES)
}

/// One client's source of operations.
pub(super) struct Work {
    payloads: Payloads,
    /// The share of operations that read.
    reads: f64,
    /// Keys of the records that are there to be read, end to end.
    known: Bytes,
    /// Unused keys, end to end.
    fresh: Bytes,
    rng: SmallRng,
}

/// What an operation's answer must fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    Written,
    /// The record with this index among the known ones.
    Known(usize),
}

impl Work {
    pub(super) fn new(payloads: Payloads, known: Bytes, reads: f64) -> Self {
        Self { payloads, reads, known, fresh: Bytes::new(), rng: SmallRng::from_os_rng() }
    }

    /// Whether the next operation reads.
    pub(super) fn next_reads(&mut self) -> bool {
        self.reads >= 1.0 || (self.reads > 0.0 && self.rng.random::<f64>() < self.reads)
    }

    /// Creates a new record.
    pub(super) fn put(&mut self) -> proto::PutRequest {
        if self.fresh.is_empty() {
            self.fresh = random_keys(BLOCK_BYTES / KEY_BYTES, &mut self.rng);
        }
        let key_hash = self.fresh.split_to(KEY_BYTES);
        self.payloads.put(key_hash)
    }

    /// Reads one of the known records.
    pub(super) fn get(&mut self) -> (usize, proto::GetRequest) {
        let index = self.rng.random_range(0..self.known.len() / KEY_BYTES);
        (index, proto::GetRequest { key_hash: key_at(&self.known, index), local: false })
    }

    /// Whether this is the known record with that index.
    pub(super) fn is_known(&self, index: usize, answer: &proto::GetResponse) -> bool {
        self.payloads.are_in(&self.known[index * KEY_BYTES..(index + 1) * KEY_BYTES], answer)
    }
}
