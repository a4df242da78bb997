//! Building one group commit; what several kinds of change do alike is here, the rest is in `change`.
//!
//! A change sees the changes of its group before it in the states, the vectors and the totals of [`Commit`].
//! IMPORTANT: the view shows the database before the group. A change that reads a value there, and writes
//! another one that depends on it, would lose the changes before it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use prost::Message;
use rocksdb::WriteBatch;

use super::{
    batch::Batch,
    database::Database,
    error::StoreError,
    fills::Fill,
    held::Amount,
    losers::{self, Seen},
    marks::{Marks, Unneeded},
    published::{Published, Raised, Totals},
    schema,
    signing::{Originated, Signer},
    tally::Tally,
    view::{Logged, UNLOGGED, View},
};
use crate::runtime::planted::{self, Bug};
use brock_core::{
    base::{
        id::{ClusterId, KeyHash, NodeId, Origin},
        limits,
        vector::{Clock, Stamp},
    },
    domain::{
        birth::Birth,
        bundle::Tip,
        codec::{self, LogKey, QUARANTINED_STATE},
        digest::{Bucket, SetDigest},
        evidence::Evidence,
        operation::Operation,
        order::OrderProof,
        quarantined,
        record::RecordState,
        segment::Segment,
    },
    proto,
};

/// A group commit in the making. Dropping it changes nothing.
pub(super) struct Commit<'a> {
    database: &'a Database,
    pub(super) batch: Batch<'a>,
    /// The records that this commit has loaded.
    records: HashMap<KeyHash, Touched>,
    /// What becomes visible with it.
    pub(super) raised: Raised,
    pub(super) totals: Totals,
    pub(super) tally: Tally,
    /// What is visible before it, which is what the database holds.
    pub(super) before: &'a Published,
    /// This node's origin and its last clock there, this commit included.
    pub(super) own: Stamp,
    pub(super) now_unix_ms: u64,
    /// What must be added to buckets that do not match their records.
    pub(super) bucket_repairs: Vec<(u8, Bucket)>,
    /// Whether records change in a way that the log does not show.
    pub(super) is_unlogged: bool,
    /// The cluster that this node's certificate is for.
    pub(super) cluster: Option<ClusterId>,
    /// `None` = this node does not sign.
    pub(super) signer: Option<&'a Signer>,
    /// Its operations in this commit.
    pub(super) originated: Vec<Originated>,
    /// Where to mark the bundles that its records name; `None` = no others are searched for.
    pub(super) marks: Option<Arc<Marks>>,
    /// Bundles to remove unless something has marked them.
    pub(super) unneeded: Vec<Unneeded>,
}

/// A commit that is ready to be written.
pub(super) struct Finished {
    /// `None` = nothing changed.
    pub writes: Option<WriteBatch>,
    pub raised: Raised,
    pub totals: Totals,
    pub tally: Tally,
    /// This node's origin and its last clock after the commit.
    pub own: Stamp,
}

struct Touched {
    stored: Option<RecordState>,
    now: Option<RecordState>,
    changed: bool,
    /// What an operator had seen of its losers before this commit.
    seen: Option<Seen>,
    /// The same, if this commit says so.
    now_seen: Option<Seen>,
}

/// How a commit begins and ends.
impl<'a> Commit<'a> {
    pub(super) fn new(
        database: &'a Database,
        before: &'a Published,
        (own, signer, cluster): (Stamp, Option<&'a Signer>, Option<ClusterId>),
        now_unix_ms: u64,
    ) -> Self {
        Self {
            database,
            batch: Batch::new(database),
            records: HashMap::new(),
            raised: Raised::default(),
            totals: before.totals,
            tally: Tally::default(),
            before,
            own,
            now_unix_ms,
            bucket_repairs: Vec::new(),
            is_unlogged: false,
            cluster,
            signer,
            originated: Vec::new(),
            marks: None,
            unneeded: Vec::new(),
        }
    }

    /// Adds what follows from the changes: states, indexes, digests, clocks, totals.
    pub(super) fn finish(mut self) -> Finished {
        let totals_before = self.before.totals;
        self.sign();
        self.finish_records();
        self.remove_unneeded();
        for (bucket, delta) in std::mem::take(&mut self.bucket_repairs) {
            let before = self.before.digest.get(bucket);
            let digest = self.raised.buckets.entry(bucket).or_insert(before);
            *digest = digest.plus(delta);
        }
        for (bucket, digest) in &self.raised.buckets {
            self.totals.add(digest.counts.minus(self.before.digest.get(*bucket).counts));
            self.batch.put_bucket(*bucket, *digest);
        }
        if self.is_unlogged {
            self.batch.put_meta(UNLOGGED, &rand::random::<[u8; 8]>());
        }
        for (origin, clock) in self.raised.vector.iter() {
            self.batch.put_head(origin, clock, self.raised.tips.get(&origin));
        }
        if !self.batch.is_empty() {
            if self.totals != totals_before {
                self.batch.put_totals(self.totals);
            }
            self.tally.conflicts = self.totals.conflicts.saturating_sub(totals_before.conflicts);
        }
        let Self { batch, raised, totals, tally, own, .. } = self;
        let writes = (!batch.is_empty()).then(|| batch.into_writes());
        Finished { writes, raised, totals, tally, own }
    }

    fn finish_records(&mut self) {
        let mut buckets: BTreeMap<u8, Bucket> = BTreeMap::new();
        for (key_hash, touched) in self.records.iter().filter(|(_, touched)| touched.changed) {
            let (stored, now) = (touched.stored.as_ref(), touched.now.as_ref());
            if let (Some(marks), Some(now)) = (&self.marks, now) {
                marks.add(now);
            }
            let bucket = SetDigest::bucket_of(key_hash);
            let overlooked =
                planted::is(Bug::DigestIgnoresDeletes) && now.is_some_and(|now| now.deletion.is_some());
            if !overlooked {
                buckets
                    .entry(bucket)
                    .or_insert_with(|| self.before.digest.get(bucket))
                    .replace(key_hash, stored, now);
            }
            let had = stored.is_some_and(RecordState::has_payload);
            let has = now.is_some_and(RecordState::has_payload);
            if had && !has {
                // Its bytes are in some file until compaction has rewritten that file.
                let at = self.now_unix_ms.to_be_bytes();
                let is_marked =
                    self.database.view().mark(schema::REMOVAL, key_hash).is_ok_and(|mark| mark.is_some());
                self.batch.mark(schema::REMOVAL, key_hash, &at);
                self.totals.removals += u64::from(!is_marked);
            }
            self.batch.put_state(key_hash, stored, now);
        }
        self.raised.buckets = buckets;
        self.finish_acknowledged();
    }

    /// After the states, which begin and end the marks of conflicts.
    fn finish_acknowledged(&mut self) {
        for (key_hash, touched) in &self.records {
            let (lost, loses) = (losers::of(touched.stored.as_ref()), losers::of(touched.now.as_ref()));
            if let Some(seen) =
                touched.now_seen.filter(|seen| !loses.is_empty() && touched.seen != Some(*seen))
            {
                self.batch.mark(schema::CONFLICT, key_hash, seen.bytes());
            }
            let (before, after) =
                (Seen::count(touched.seen, lost), Seen::count(touched.now_seen.or(touched.seen), loses));
            self.totals.acknowledged = (self.totals.acknowledged + after).saturating_sub(before);
        }
    }
}

/// What the changes read.
impl<'a> Commit<'a> {
    /// The database as it was before this commit.
    pub(super) fn view(&self) -> View<'a> {
        self.database.view()
    }

    /// The highest clock of `origin` that is applied, this commit included.
    pub(super) fn applied(&self, origin: &Origin) -> Clock {
        let raised = self.raised.vector.get(origin);
        if self.raised.retracted.contains(origin) { raised } else { self.before.clock(origin).max(raised) }
    }

    /// The last bundle of `origin` up to what is applied, this commit included, if it is known.
    pub(super) fn tip(&self, origin: &Origin) -> Option<Tip> {
        match self.raised.vector.lists(origin) || self.raised.retracted.contains(origin) {
            true => self.raised.tips.get(origin).copied(),
            false => self.before.tips.get(origin).copied(),
        }
    }

    /// The fills that wait for confirmation, this commit included.
    pub(super) fn fills(&self) -> &[Fill] {
        self.raised.fills.as_ref().unwrap_or(&self.before.fills)
    }

    /// Whether the origin has signed two histories, this commit included.
    pub(super) fn is_frozen(&self, origin: &Origin) -> bool {
        self.before.forks.contains_key(origin) || self.raised.forks.contains_key(origin)
    }

    /// The birth of an origin that signs, this commit included.
    pub(super) fn born(&self, origin: &Origin) -> Option<Birth> {
        self.raised.births.get(origin).or_else(|| self.before.births.get(origin)).copied()
    }

    /// How far the log of `origin` is compacted, this commit included.
    pub(super) fn floor(&self, origin: &Origin) -> Clock {
        let raised = self.raised.floors.get(origin);
        if self.raised.retracted.contains(origin) { raised } else { self.before.floor(origin).max(raised) }
    }

    /// Reads the states of these key hashes at once.
    pub(super) fn load(&mut self, key_hashes: &[KeyHash]) -> Result<(), StoreError> {
        for (key_hash, state) in key_hashes.iter().zip(self.database.view().states(key_hashes)) {
            let state = state?;
            let seen = match losers::of(state.as_ref()) {
                [] => None,
                _ => self.database.view().seen(key_hash)?,
            };
            self.records.entry(*key_hash).or_insert_with(|| Touched {
                now: state.clone(),
                stored: state,
                changed: false,
                seen,
                now_seen: None,
            });
        }
        Ok(())
    }

    /// The state of a loaded key hash, this commit included.
    pub(super) fn state(&self, key_hash: &KeyHash) -> Option<&RecordState> {
        self.records.get(key_hash).and_then(|touched| touched.now.as_ref())
    }

    /// Only this node makes operations of its own incarnation: more of them at a peer than here
    /// means that the storage was rolled back.
    pub(super) fn check_own(&self, origin: Origin, theirs: Clock) -> Result<(), StoreError> {
        if origin == self.own.origin && theirs > self.own.clock {
            return Err(StoreError::RolledBack { origin, theirs, ours: self.own.clock });
        }
        Ok(())
    }

    /// Fails if listing `more` origins would make this node's vectors longer than every node reads.
    pub(super) fn check_origins(&self, more: usize) -> Result<(), StoreError> {
        let raised = self.raised.vector.iter().chain(self.raised.folds.iter());
        let fresh = raised.filter(|(origin, _)| self.before.clock(origin) == Clock::default()).count();
        let listed = self.before.vector.len() + self.before.folds.len();
        if more > 0 && listed + fresh + more > limits::ORIGINS_MAX {
            return Err(StoreError::TooManyOrigins(listed));
        }
        Ok(())
    }

    /// Whether the quarantine has room for what of a segment must go there. Entries at or below
    /// `applied` are here already. The origins of one node may take a share of it, so that they cannot
    /// stop the logs of other nodes.
    pub(super) fn check_quarantine(&self, segment: &Segment, applied: Clock) -> Result<(), StoreError> {
        let (entries, bytes) = segment.quarantined_above(applied);
        if entries == 0 {
            return Ok(());
        }
        let more = Amount { entries, bytes };
        let node_id = segment.origin.node_id();
        let its = self.held_of(&node_id).plus(more);
        let all = Amount { entries: self.totals.quarantined, bytes: self.totals.quarantine_bytes }.plus(more);
        let is_too_much = |amount: Amount, parts: u64| {
            amount.entries > limits::QUARANTINE_MAX / parts
                || amount.bytes > limits::QUARANTINE_MAX_BYTES / parts
        };
        if is_too_much(its, limits::QUARANTINE_SHARES) || is_too_much(all, 1) {
            return Err(StoreError::QuarantineFull(node_id));
        }
        Ok(())
    }

    fn held_of(&self, node_id: &NodeId) -> Amount {
        self.raised.held.get(node_id).copied().unwrap_or_else(|| self.before.held.of(node_id))
    }
}

/// Records and log entries.
impl Commit<'_> {
    /// Joins a state to what is known of a loaded key hash. Returns whether its state changed.
    pub(super) fn merge(&mut self, key_hash: KeyHash, with: RecordState) -> bool {
        let Some(touched) = self.records.get_mut(&key_hash) else { return false };
        let before = touched.now.clone();
        let with_bug = planted::is(Bug::OverwriteInsteadOfJoin);
        let joined = if with_bug { with } else { touched.now.take().unwrap_or_default().join(with) };
        let changed = before.as_ref() != Some(&joined);
        touched.now = Some(joined);
        touched.changed |= changed;
        changed
    }

    /// Keeps the evidence of an operation that was joined to the state of a loaded key hash without it. What says the
    /// same, is proven and came later in this commit may have displaced it: then the stamps decide.
    pub(super) fn prove(&mut self, key_hash: &KeyHash, stamp: Stamp, evidence: Evidence) {
        let Some(touched) = self.records.get_mut(key_hash) else { return };
        let evidence = match touched.now.as_mut() {
            Some(now) => now.prove_alone(stamp, evidence),
            None => Some(evidence),
        };
        let Some(evidence) = evidence else {
            touched.changed = true;
            return;
        };
        if let Some(operation) = evidence.says().cloned() {
            let evidence = [(stamp, evidence)].into();
            self.merge(*key_hash, RecordState { evidence, ..operation.state(stamp, None) });
        }
    }

    /// Replaces the state of a loaded key hash; `None` = nothing is known of it any more. Returns
    /// whether its state changed.
    pub(super) fn replace(&mut self, key_hash: &KeyHash, with: Option<RecordState>) -> bool {
        let Some(touched) = self.records.get_mut(key_hash) else { return false };
        let changed = touched.now != with;
        touched.now = with;
        touched.changed |= changed;
        changed
    }

    /// Notes that an operator has dealt with the losers that a loaded key hash has by now, this commit included.
    /// Returns whether it has any.
    pub(super) fn acknowledge(&mut self, key_hash: &KeyHash) -> bool {
        let Some(touched) = self.records.get_mut(key_hash) else { return false };
        let losers = losers::of(touched.now.as_ref());
        touched.now_seen = Some(Seen::all(losers));
        !losers.is_empty()
    }

    /// An operation of this node: the next clock, the log entry, the joined state.
    pub(super) fn originate(
        &mut self,
        key_hash: KeyHash,
        operation: &Operation,
        order: Option<&OrderProof>,
        payload: Option<Bytes>,
    ) -> Stamp {
        if !planted::is(Bug::ReuseClock) || self.own.clock.0 % 3 != 2 {
            self.own.clock = self.own.clock.next();
        }
        let stamp = self.own;
        let encoded = operation.encode_with(order);
        if self.signer.is_some() {
            let payload_bytes = payload.as_ref().map_or(0, Bytes::len);
            self.originated.push(Originated {
                clock: stamp.clock,
                key_hash,
                operation: encoded.clone(),
                payload_bytes,
            });
        }
        self.log(stamp, key_hash, operation.resulting_state().into(), encoded);
        self.merge(key_hash, operation.state(stamp, payload));
        self.raised.vector.raise(stamp.origin, stamp.clock);
        stamp
    }

    pub(super) fn log(&mut self, stamp: Stamp, key_hash: KeyHash, state: i32, operation: Bytes) {
        let key = LogKey { stamp, key_hash, state };
        let entry = Logged { key, applied_unix_ms: self.now_unix_ms, operation };
        self.batch.put_log(&entry);
        self.totals.log_entries += 1;
        self.totals.log_bytes += entry.bytes();
        self.tally.operations += 1;
    }

    /// Removes one entry from the log.
    pub(super) fn unlog(&mut self, entry: &Logged) {
        self.batch.delete_log_entry(entry.key);
        self.totals.log_entries = self.totals.log_entries.saturating_sub(1);
        self.totals.log_bytes = self.totals.log_bytes.saturating_sub(entry.bytes());
    }

    /// Keeps an entry that cannot be applied.
    pub(super) fn quarantine(
        &mut self,
        stamp: Stamp,
        (entry, tip): (proto::Entry, Option<&Tip>),
        reason: String,
    ) {
        // In the log too, so that it is relayed in its place: another node may understand it.
        // [`Segment::check`] has refused all others.
        let key_hash = KeyHash::try_from(entry.key_hash.as_ref()).unwrap_or(KeyHash([0; 32]));
        // The operation too, which the origin has signed: it stays when the entry is dropped from quarantine.
        self.log(stamp, key_hash, QUARANTINED_STATE, entry.operation.clone());
        if let (Some(marks), Some(tip)) = (&self.marks, tip) {
            marks.add_root(&tip.root);
        }
        let at_unix = i64::try_from(self.now_unix_ms / 1000).unwrap_or(i64::MAX);
        let quarantined = quarantined::to_keep(entry, (reason, at_unix), tip);
        self.batch.put_quarantined(stamp, &quarantined);
        let (node_id, amount) = (stamp.origin.node_id(), held_by(&quarantined));
        self.totals.quarantined += 1;
        self.totals.quarantine_bytes = self.totals.quarantine_bytes.saturating_add(amount.bytes);
        let held = self.held_of(&node_id).plus(amount);
        self.raised.held.insert(node_id, held);
        self.tally.quarantined += 1;
    }

    /// `kept` is what the quarantine holds at that stamp.
    pub(super) fn leave_quarantine(&mut self, stamp: Stamp, kept: &proto::QuarantinedEntry) {
        self.batch.delete_quarantined(stamp);
        let (node_id, amount) = (stamp.origin.node_id(), held_by(kept));
        self.totals.quarantined = self.totals.quarantined.saturating_sub(1);
        self.totals.quarantine_bytes = self.totals.quarantine_bytes.saturating_sub(amount.bytes);
        let held = self.held_of(&node_id).minus(amount);
        self.raised.held.insert(node_id, held);
    }
}

/// As the database counts it when it is opened.
fn held_by(kept: &proto::QuarantinedEntry) -> Amount {
    Amount::one(codec::versioned(&[]).len() + kept.encoded_len())
}
