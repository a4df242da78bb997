//! What must hold once everything is healed.

use std::collections::BTreeMap;

use super::{
    clients::comparable,
    history::proven,
    node::{states, verifier},
    world::World,
};
use brock::{store::Store, transfer::bundles::Bundles};
use brock_core::{
    base::{
        id::{KeyHash, Origin},
        trust::TrustMode,
        vector::{Clock, Stamp, Vector},
    },
    domain::{
        codec::{LOG_VALUE_HEAD_BYTES, LogKey},
        digest::SetDigest,
        record::{PayloadDigest, RecordState, Visibility},
        segment::{Segment, SegmentEntry},
    },
    proto,
};

/// A record with several payloads: the winner's digest, and the losers'.
pub type Ledger = Vec<(KeyHash, PayloadDigest, Vec<PayloadDigest>)>;

impl World {
    pub async fn check(&mut self) {
        if self.is_strict() {
            return self.check_honest().await;
        }
        let stores: Vec<Store> = (0..self.nodes.len()).filter_map(|node| self.store(node)).collect();
        let applied = stores[0].applied();
        let mut ledgers = Vec::new();
        let mut all = Vec::new();
        for store in &stores {
            assert!(store.applied() == applied, "{} has applied something else", store.node_id());
            let states = states(store).await;
            check_digest(store, &states);
            self.check_logs(store, &applied).await;
            check_totals(store, &states).await;
            ledgers.push(ledger(store, &states).await);
            all.push(states);
        }
        for (store, ledger) in stores.iter().zip(&ledgers) {
            assert!(*ledger == ledgers[0], "{} has another ledger of conflicts", store.node_id());
            self.check_roots(store, &stores[0]);
        }
        self.check_records(&stores, &all, &applied);
        self.check_acknowledged(&applied);
        self.tally.add("conflicts", ledgers[0].len() as u64);
        self.tally.add("quarantined", stores[0].quarantined());
    }

    fn check_roots(&self, store: &Store, reference: &Store) {
        let (mine, theirs) = (store.summary().digest.roots(), reference.summary().digest.roots());
        assert!(mine.0 == theirs.0, "{} has another digest of records", store.node_id());
        assert!(mine.1 == theirs.1 || self.profile.collects(), "{} has other tombstones", store.node_id());
    }

    /// Claim: every log is what its origin wrote, without gaps, above the floor.
    pub async fn check_logs(&self, store: &Store, applied: &Vector) {
        let (mut entries, mut bytes) = (0, 0);
        for (origin, last) in applied.iter() {
            let floor = store.floors().get(&origin).max(store.folds().get(&origin));
            let mut expected = floor;
            for entry in log_above(store, origin, floor, last).await {
                expected = if origin == self.ghost_origin { Clock(entry.clock) } else { expected.next() };
                let stamp = Stamp { origin, clock: Clock(entry.clock) };
                assert!(
                    stamp.clock == expected,
                    "{}'s log of {origin} has a gap at {expected}",
                    store.node_id()
                );
                let verbatim = self.history.is_verbatim(stamp, &entry);
                assert!(verbatim, "{} has something else at {stamp:?}", store.node_id());
                let is_ordered = !self.history.is_unordered(stamp);
                assert!(is_ordered, "{}'s log destroys at {stamp:?} without an order", store.node_id());
                entries += 1;
                bytes += (LogKey::BYTES + LOG_VALUE_HEAD_BYTES) as u64 + logged_bytes(entry);
            }
            let whole = origin == self.ghost_origin || expected == last;
            assert!(whole, "{}'s log of {origin} ends at {expected}, not at {last}", store.node_id());
        }
        let totals = store.totals();
        let counted = (totals.log_entries, totals.log_bytes);
        // Of a lost origin, a resync that broke off may have left entries that no node applies any more.
        let lost = self.history.operations_above(applied);
        let is_true = counted == (entries, bytes) || (entries < counted.0 && counted.0 <= entries + lost);
        assert!(is_true, "{} counts {counted:?}, not {entries} {bytes}", store.node_id());
    }

    /// Claim: every record is the join of the operations that were applied, and of what was lost with
    /// a disk at most: the same on every node, and with its payload unless that may be gone.
    fn check_records(&self, stores: &[Store], all: &[BTreeMap<KeyHash, RecordState>], applied: &Vector) {
        let now = i64::try_from(self.now).expect("a time in this era");
        let nothing = RecordState::default();
        for key in self.history.keys() {
            let least = self.history.state(&key, |stamp| applied.has(stamp)).without_payload();
            let most = self.history.state(&key, |_| true).without_payload();
            let may_be_forgotten = self.profile.collects() && most.deletion.is_some();
            let reference = all[0].get(&key).unwrap_or(&nothing);
            for (store, states) in stores.iter().zip(all) {
                let state = states.get(&key).unwrap_or(&nothing);
                let place = format!("{key:?} at {}: {state:?}", store.node_id());
                if may_be_forgotten && state.creation.is_none() {
                    continue;
                }
                // A delete that was lost with the only disk that had it took the payload along, there and where the
                // create came from there. Whether an expiring record has its payload is not compared between
                // nodes, so that is not mended: who is asked for it asks the others.
                let excused = least != most;
                let comparable = |state: &RecordState| match excused && state.expires_at.is_some() {
                    true => state.without_payload(),
                    false => comparable(state, now),
                };
                assert_eq!(comparable(state), comparable(reference), "{place}");
                self.check_proofs(store, &key, state);
                // The history has other evidence.
                let bare = proven(state.without_payload());
                assert!(least.clone().join(bare.clone()) == bare, "{place} lacks something of {least:?}");
                assert!(most.clone().join(bare) == most, "{place} is more than {most:?}");
                let whole =
                    state.creation.is_none() || state.has_payload() || excused || state.is_expired(now);
                assert!(whole, "{place} has lost its payload");
            }
        }
    }

    /// Claim: every operation that a state consists of is proven, but those of the ghost, which signs nothing.
    fn check_proofs(&self, store: &Store, key: &KeyHash, state: &RecordState) {
        let believed =
            verifier(store, TrustMode::Distributed).believe(key, state.clone(), &Bundles::default(), &[]);
        let unproven = believed.unproven.iter().find(|stamp| stamp.origin != self.ghost_origin);
        assert!(unproven.is_none(), "{key:?} at {}: nothing proves {unproven:?}", store.node_id());
        if believed.unproven.is_empty() {
            let proven = RecordState { was_created: state.was_created, ..believed.state };
            assert!(proven == *state, "{key:?} at {}: {proven:?} is proven, not {state:?}", store.node_id());
        }
    }

    /// Claim: what was acknowledged is applied everywhere, unless the only disk that had it was lost.
    fn check_acknowledged(&self, applied: &Vector) {
        for stamp in self.history.acknowledged() {
            assert!(applied.has(*stamp) || self.history.is_lost(*stamp), "{stamp:?} is nowhere");
        }
    }

    /// Claim: once the tombstones are collected as well, what was deleted is nowhere, and what was not
    /// is everywhere.
    pub async fn check_what_is_left(&self) {
        let now = i64::try_from(self.now).expect("a time in this era");
        for node in 0..self.nodes.len() {
            let Some(store) = self.store(node) else { continue };
            for (key, state) in states(&store).await {
                let deleted = self.history.deletes(&key).find(|stamp| store.applied().has(*stamp));
                let visible = matches!(state.visibility(now), Visibility::Valid | Visibility::Invalidated);
                assert!(deleted.is_none() || !visible, "{key:?} is deleted by {deleted:?} and is at {node}");
            }
        }
    }
}

async fn log_above(store: &Store, origin: Origin, floor: Clock, last: Clock) -> Vec<proto::Entry> {
    let (mut entries, mut after) = (Vec::new(), floor);
    while after < last {
        let changes = store.changes_since(origin, after, 50).await.expect("the log above the floor is there");
        let Some(changes) = changes else { break };
        after = Clock(changes.batch.covered_through);
        entries.extend(changes.batch.entries);
    }
    entries
}

fn logged_bytes(entry: proto::Entry) -> u64 {
    let batch = proto::Batch {
        origin: bytes::Bytes::copy_from_slice(crate::harness::store::origin("any", 1).as_bytes()),
        after: entry.clock - 1,
        covered_through: entry.clock,
        entries: vec![entry],
        ..proto::Batch::default()
    };
    let segment = Segment::check(batch).expect("an entry of a log");
    segment.entries.iter().fold(0, |sum, entry| match entry {
        SegmentEntry::Applicable(entry, _) => sum + entry.encoded.len() as u64,
        SegmentEntry::Quarantined(entry, _) => sum + entry.operation.len() as u64,
    })
}

/// Claim: the digest that is kept record by record is that of the records.
pub fn check_digest(store: &Store, states: &BTreeMap<KeyHash, RecordState>) {
    let mut digest = SetDigest::default();
    for (key, state) in states {
        let bucket = SetDigest::bucket_of(key);
        let mut changed = digest.get(bucket);
        changed.replace(key, None, Some(state));
        digest.set(bucket, changed);
    }
    assert!(digest == store.summary().digest, "{}'s digest is not that of its records", store.node_id());
}

/// Claim: the totals are what counting gives.
pub async fn check_totals(store: &Store, states: &BTreeMap<KeyHash, RecordState>) {
    let is_record = |state: &&RecordState| {
        state.creation.is_some() && (state.expires_at.is_none() || state.has_payload())
    };
    let totals = store.totals();
    let (quarantined, _) = store.quarantine_page(None, 10_000).await.expect("the store reads");
    let kept = (totals.records, totals.tombstones, totals.conflicts, totals.quarantined);
    let counted = (
        states.values().filter(is_record).count() as u64,
        states.values().filter(|state| state.deletion.is_some()).count() as u64,
        states.values().map(|state| state.losers.len() as u64).sum::<u64>(),
        quarantined.len() as u64,
    );
    assert!(kept == counted, "{} keeps the totals {kept:?}, and there are {counted:?}", store.node_id());
}

/// Claim: the ledger of conflicts has exactly the records with losers.
pub async fn ledger(store: &Store, states: &BTreeMap<KeyHash, RecordState>) -> Ledger {
    let (conflicts, _) = store.conflict_page(None, 10_000).await.expect("the store reads");
    let digests =
        |losers: &[brock_core::domain::record::Creation]| losers.iter().map(|loser| loser.digest).collect();
    let ledger: Ledger = conflicts
        .iter()
        .map(|conflict| (conflict.key_hash, conflict.winner.digest, digests(&conflict.losers)))
        .collect();
    let counted: Ledger = states
        .iter()
        .filter(|(_, state)| !state.losers.is_empty())
        .filter_map(|(key, state)| Some((*key, state.creation.as_ref()?.digest, digests(&state.losers))))
        .collect();
    assert!(ledger == counted, "{}'s ledger of conflicts is not that of its records", store.node_id());
    ledger
}
