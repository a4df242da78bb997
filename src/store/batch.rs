//! A write in the making: every key and value that the store changes.

use prost::Message;
use rocksdb::WriteBatch;

use super::{
    database::Database,
    losers,
    published::Totals,
    schema,
    view::{COLLECTED, Logged, TOTALS},
};
use brock_core::{
    base::{
        id::{KeyHash, Origin},
        vector::{Clock, Stamp, Vector},
    },
    domain::{
        birth::SignedBirth,
        bundle::{Hash, Tip},
        codec::{self, LogKey},
        digest::Bucket,
        fork::Fork,
        leaves::{BundleId, Leaves},
        order::Chain,
        record::{RecordState, UnixSeconds},
    },
    proto,
};

/// What one write changes. Dropping it changes nothing.
pub(super) struct Batch<'a> {
    database: &'a Database,
    writes: WriteBatch,
}

/// The raw writes. IMPORTANT: no value is stored in any other place.
impl Batch<'_> {
    fn put(&mut self, family: &'static str, key: &[u8], value: &[u8]) {
        self.writes.put_cf(self.database.family(family), key, value);
    }

    fn delete(&mut self, family: &'static str, key: &[u8]) {
        self.writes.delete_cf(self.database.family(family), key);
    }
}

impl<'a> Batch<'a> {
    pub(super) fn new(database: &'a Database) -> Self {
        Self { database, writes: WriteBatch::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// For [`Database::write`].
    pub(super) fn into_writes(self) -> WriteBatch {
        self.writes
    }

    pub(super) fn put_meta(&mut self, key: &[u8], value: &[u8]) {
        self.put(schema::META, key, &codec::versioned(value));
    }

    pub(super) fn delete_meta(&mut self, key: &[u8]) {
        self.delete(schema::META, key);
    }

    pub(super) fn put_totals(&mut self, totals: Totals) {
        self.put_meta(TOTALS, &totals.encode());
    }

    pub(super) fn put_collected(&mut self, collected: &Vector) {
        self.put_meta(COLLECTED, &codec::vector_to_proto(collected).encode_to_vec());
    }

    pub(super) fn put_head(&mut self, origin: Origin, clock: Clock, tip: Option<&Tip>) {
        self.put(schema::CLOCK_VALUE, origin.as_bytes(), &codec::encode_head(clock, tip));
    }

    pub(super) fn put_birth(&mut self, birth: &SignedBirth) {
        let value = codec::versioned(&birth.to_proto().encode_to_vec());
        self.put(schema::BIRTH, birth.birth.origin.as_bytes(), &value);
    }

    /// A bundle of a log that is here, with the hashes of its operations.
    pub(super) fn put_bundle(&mut self, origin: Origin, tip: &Tip, hashes: &[Hash]) {
        let key = codec::stamp_key(Stamp { origin, clock: tip.bundle.last() });
        self.put(schema::BUNDLE, &key, &codec::encode_bundle(tip, hashes));
    }

    /// A bundle for the records that it proves, apart from its log.
    pub(super) fn keep_bundle(&mut self, origin: Origin, leaves: &Leaves) {
        let value = codec::encode_bundle(leaves.tip(), leaves.hashes());
        self.put(schema::KEPT_BUNDLE, &codec::bundle_key(&leaves.id(origin)), &value);
    }

    /// Takes a bundle out of its log.
    pub(super) fn delete_bundle(&mut self, stamp: Stamp) {
        self.delete(schema::BUNDLE, &codec::stamp_key(stamp));
    }

    pub(super) fn delete_kept_bundle(&mut self, id: &BundleId) {
        self.delete(schema::KEPT_BUNDLE, &codec::bundle_key(id));
    }

    pub(super) fn put_floor(&mut self, origin: Origin, clock: Clock) {
        self.put(schema::FLOOR, origin.as_bytes(), &codec::encode_clock(clock));
    }

    /// Vectors do not list the origin any more; its last clock is kept apart, with its last bundle if that is known.
    pub(super) fn put_fold(&mut self, origin: Origin, clock: Clock, tip: Option<&Tip>) {
        self.put(schema::FOLDED, origin.as_bytes(), &codec::encode_head(clock, tip));
        self.delete(schema::CLOCK_VALUE, origin.as_bytes());
        self.delete(schema::FLOOR, origin.as_bytes());
    }

    /// Nothing of the origin is applied.
    pub(super) fn delete_head(&mut self, origin: Origin) {
        for family in [schema::CLOCK_VALUE, schema::FLOOR, schema::FOLDED] {
            self.delete(family, origin.as_bytes());
        }
    }

    /// The origin is in no vector any more.
    pub(super) fn put_fork(&mut self, fork: &Fork) {
        self.put(schema::FORK, fork.origin().as_bytes(), &fork.encode());
        self.delete_head(fork.origin());
    }

    pub(super) fn put_bucket(&mut self, bucket: u8, digest: Bucket) {
        self.put(schema::DIGEST, &[bucket], &codec::encode_bucket(&digest));
    }

    pub(super) fn put_chain(&mut self, chain: &Chain) {
        self.put(schema::CERTIFICATE, &chain.id(), &chain.encode());
    }

    pub(super) fn put_member(&mut self, member: &proto::MemberState) {
        self.put(schema::MEMBER, member_key(member), &codec::versioned(&member.encode_to_vec()));
    }

    pub(super) fn delete_member(&mut self, member: &proto::MemberState) {
        self.delete(schema::MEMBER, member_key(member));
    }

    pub(super) fn put_log(&mut self, entry: &Logged) {
        let value = codec::encode_log_value(entry.applied_unix_ms, &entry.operation);
        self.put(schema::REPLICATION_LOG, &entry.key.encode(), &value);
    }

    pub(super) fn delete_log_entry(&mut self, key: LogKey) {
        self.delete(schema::REPLICATION_LOG, &key.encode());
    }

    /// Removes the log entries of `origin` up to and including `through`. Their bundles stay, for the records that they
    /// prove.
    pub(super) fn delete_log(&mut self, origin: Origin, through: Clock) {
        let key = |clock| codec::stamp_key(Stamp { origin, clock });
        let family = self.database.family(schema::REPLICATION_LOG);
        self.writes.delete_range_cf(family, key(Clock::default()), key(through.next()));
    }

    pub(super) fn put_quarantined(&mut self, stamp: Stamp, entry: &proto::QuarantinedEntry) {
        let value = codec::versioned(&entry.encode_to_vec());
        self.put(schema::QUARANTINE, &codec::stamp_key(stamp), &value);
    }

    pub(super) fn delete_quarantined(&mut self, stamp: Stamp) {
        self.delete(schema::QUARANTINE, &codec::stamp_key(stamp));
    }

    /// Adds a key hash to a family that is keyed by them.
    pub(super) fn mark(&mut self, family: &'static str, key_hash: &KeyHash, value: &[u8]) {
        self.put(family, &key_hash.0, &codec::versioned(value));
    }

    pub(super) fn unmark(&mut self, family: &'static str, key_hash: &KeyHash) {
        self.delete(family, &key_hash.0);
    }

    /// Replaces a record's state and its places in the indexes. `None` = nothing is known.
    pub(super) fn put_state(
        &mut self,
        key_hash: &KeyHash,
        before: Option<&RecordState>,
        after: Option<&RecordState>,
    ) {
        match after {
            Some(after) => self.put(schema::RECORD, &key_hash.0, &codec::encode_state(after)),
            None => self.delete(schema::RECORD, &key_hash.0),
        }
        let (old, new) = (before.and_then(RecordState::due_at), after.and_then(RecordState::due_at));
        if old != new {
            if let Some(at) = old {
                self.delete_expiry(at, key_hash);
            }
            if let Some(at) = new {
                self.put(schema::EXPIRY, &codec::expiry_key(at, key_hash), &[codec::VALUE_VERSION]);
            }
        }
        match (losers::of(before), losers::of(after)) {
            ([], [_, ..]) => self.mark(schema::CONFLICT, key_hash, &[]),
            ([_, ..], []) => self.unmark(schema::CONFLICT, key_hash),
            _ => {}
        }
    }

    pub(super) fn delete_expiry(&mut self, at: UnixSeconds, key_hash: &KeyHash) {
        self.delete(schema::EXPIRY, &codec::expiry_key(at, key_hash));
    }
}

/// Node ids have no colon, addresses have one.
fn member_key(member: &proto::MemberState) -> &[u8] {
    if member.node_id.is_empty() { member.address.as_bytes() } else { member.node_id.as_bytes() }
}
