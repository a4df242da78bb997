//! What goes into a write batch: every key and value that the store changes.

use prost::Message;
use rocksdb::WriteBatch;

use super::{
    database::{COLLECTED, Database, Logged, TOTALS, Totals},
    schema,
};
use brock_core::{
    base::{
        id::{KeyHash, Origin},
        vector::{Clock, Stamp, Vector},
    },
    domain::{
        codec::{self, LogKey},
        digest::Bucket,
        record::{RecordState, UnixSeconds},
    },
    proto,
};

impl Database {
    pub(super) fn put_meta(&self, batch: &mut WriteBatch, key: &[u8], value: &[u8]) {
        batch.put_cf(self.family(schema::META), key, codec::versioned(value));
    }

    pub(super) fn put_totals(&self, batch: &mut WriteBatch, counters: Totals) {
        self.put_meta(batch, TOTALS, &counters.fields().map(u64::to_be_bytes).concat());
    }

    pub(super) fn put_collected(&self, batch: &mut WriteBatch, collected: &Vector) {
        self.put_meta(batch, COLLECTED, &codec::vector_to_proto(collected).encode_to_vec());
    }

    pub(super) fn put_floor(&self, batch: &mut WriteBatch, origin: Origin, clock: Clock) {
        batch.put_cf(self.family(schema::FLOOR), origin.as_bytes(), codec::encode_clock(clock));
    }

    /// The origin is not listed any more; its last clock is kept apart.
    pub(super) fn put_fold(&self, batch: &mut WriteBatch, origin: Origin, clock: Clock) {
        batch.put_cf(self.family(schema::FOLDED), origin.as_bytes(), codec::encode_clock(clock));
        batch.delete_cf(self.family(schema::CLOCK_VALUE), origin.as_bytes());
        batch.delete_cf(self.family(schema::FLOOR), origin.as_bytes());
    }

    /// Removes the log entries of `origin` up to and including `through`.
    pub(super) fn delete_log(&self, batch: &mut WriteBatch, origin: Origin, through: Clock) {
        let key = |clock| codec::stamp_key(Stamp { origin, clock });
        let family = self.family(schema::REPLICATION_LOG);
        batch.delete_range_cf(family, key(Clock::default()), key(through.next()));
    }

    pub(super) fn put_bucket(&self, batch: &mut WriteBatch, bucket: u8, digest: Bucket) {
        batch.put_cf(self.family(schema::DIGEST), [bucket], codec::encode_bucket(&digest));
    }

    pub(super) fn put_member(&self, batch: &mut WriteBatch, member: &proto::MemberState) {
        let value = codec::versioned(&member.encode_to_vec());
        batch.put_cf(self.family(schema::MEMBER), member_key(member), value);
    }

    pub(super) fn delete_member(&self, batch: &mut WriteBatch, member: &proto::MemberState) {
        batch.delete_cf(self.family(schema::MEMBER), member_key(member));
    }

    pub(super) fn mark(
        &self,
        batch: &mut WriteBatch,
        family: &'static str,
        key_hash: &KeyHash,
        value: &[u8],
    ) {
        batch.put_cf(self.family(family), key_hash.0, codec::versioned(value));
    }

    pub(super) fn unmark(&self, batch: &mut WriteBatch, family: &'static str, key_hash: &KeyHash) {
        batch.delete_cf(self.family(family), key_hash.0);
    }

    pub(super) fn delete_quarantined(&self, batch: &mut WriteBatch, stamp: Stamp) {
        batch.delete_cf(self.family(schema::QUARANTINE), codec::stamp_key(stamp));
    }

    pub(super) fn delete_log_entry(&self, batch: &mut WriteBatch, key: LogKey) {
        batch.delete_cf(self.family(schema::REPLICATION_LOG), key.encode());
    }

    pub(super) fn put_clock(&self, batch: &mut WriteBatch, origin: Origin, clock: Clock) {
        batch.put_cf(self.family(schema::CLOCK_VALUE), origin.as_bytes(), codec::encode_clock(clock));
    }

    pub(super) fn put_log(&self, batch: &mut WriteBatch, entry: &Logged) {
        let value = codec::encode_log_value(entry.applied_unix_ms, &entry.operation);
        batch.put_cf(self.family(schema::REPLICATION_LOG), entry.key.encode(), value);
    }

    pub(super) fn put_quarantined(
        &self,
        batch: &mut WriteBatch,
        stamp: Stamp,
        entry: &proto::QuarantinedEntry,
    ) {
        let value = codec::versioned(&entry.encode_to_vec());
        batch.put_cf(self.family(schema::QUARANTINE), codec::stamp_key(stamp), value);
    }

    /// Replaces a record's state, its place in the indexes included. `None` = nothing is known.
    pub(super) fn put_state(
        &self,
        batch: &mut WriteBatch,
        key_hash: &KeyHash,
        before: Option<&RecordState>,
        after: Option<&RecordState>,
    ) {
        match after {
            Some(after) => batch.put_cf(self.family(schema::RECORD), key_hash.0, codec::encode_state(after)),
            None => batch.delete_cf(self.family(schema::RECORD), key_hash.0),
        }
        let (old, new) = (before.and_then(RecordState::due_at), after.and_then(RecordState::due_at));
        if old != new {
            if let Some(at) = old {
                self.delete_expiry(batch, at, key_hash);
            }
            if let Some(at) = new {
                let key = codec::expiry_key(at, key_hash);
                batch.put_cf(self.family(schema::EXPIRY), key, [codec::VALUE_VERSION]);
            }
        }
        let lost = |state: Option<&RecordState>| state.is_some_and(|state| !state.losers.is_empty());
        match (lost(before), lost(after)) {
            (false, true) => self.mark(batch, schema::CONFLICT, key_hash, &[]),
            (true, false) => self.unmark(batch, schema::CONFLICT, key_hash),
            _ => {}
        }
    }

    pub(super) fn delete_expiry(&self, batch: &mut WriteBatch, at: UnixSeconds, key_hash: &KeyHash) {
        batch.delete_cf(self.family(schema::EXPIRY), codec::expiry_key(at, key_hash));
    }
}

/// Node ids have no colon, addresses have one.
fn member_key(member: &proto::MemberState) -> &[u8] {
    if member.node_id.is_empty() { member.address.as_bytes() } else { member.node_id.as_bytes() }
}
