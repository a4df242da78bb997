//! Everything that was ever done: who did what under which stamp, and what is known to be lost.

use std::collections::{BTreeMap, BTreeSet};

use brock_core::{
    base::{
        id::{KeyHash, Origin, sha256},
        vector::{Clock, Stamp, Vector},
    },
    domain::{
        evidence::Evidence,
        operation::Operation,
        proofs::Part,
        record::{PayloadDigest, RecordState},
    },
    proto,
};
use bytes::Bytes;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Done {
    key_hash: Bytes,
    encoded: Bytes,
}

/// All operations that were acknowledged or seen on their way.
#[derive(Debug, Default)]
pub struct History {
    /// One of each stamp, unless its origin is two-faced.
    operations: BTreeMap<Stamp, Vec<Done>>,
    two_faced: BTreeSet<Origin>,
    by_key: BTreeMap<KeyHash, Vec<Stamp>>,
    payloads: BTreeMap<PayloadDigest, Bytes>,
    /// By clients.
    acknowledged: Vec<Stamp>,
    /// Acknowledged, and then lost with the only disk that had them.
    lost: BTreeSet<Stamp>,
    /// Destruction that no operator has ordered.
    unordered: BTreeSet<Stamp>,
}

impl History {
    /// Notes what stands under a stamp.
    ///
    /// Claim: one value per stamp, whichever node shows it, unless the origin has signed two histories.
    pub fn note(&mut self, stamp: Stamp, key_hash: &Bytes, encoded: &Bytes, payload: Option<&Bytes>) {
        if let Some(payload) = payload {
            self.payloads.entry(sha256(payload)).or_insert_with(|| payload.clone());
        }
        let done = Done { key_hash: key_hash.clone(), encoded: encoded.clone() };
        let known = self.operations.entry(stamp).or_default();
        if known.contains(&done) {
            return;
        }
        let may_differ = known.is_empty() || self.two_faced.contains(&stamp.origin);
        assert!(may_differ, "{stamp:?} stands for two different operations");
        known.push(done);
        if let Ok(key_hash) = KeyHash::try_from(key_hash.as_ref()) {
            let stamps = self.by_key.entry(key_hash).or_default();
            if !stamps.contains(&stamp) {
                stamps.push(stamp);
            }
        }
    }

    /// This origin signs two histories.
    pub fn note_two_faced(&mut self, origin: Origin) {
        self.two_faced.insert(origin);
    }

    pub fn is_two_faced(&self, origin: &Origin) -> bool {
        self.two_faced.contains(origin)
    }

    /// Notes what a batch on its way holds.
    pub fn note_batch(&mut self, batch: &proto::Batch) {
        let origin = Origin::try_from(batch.origin.as_ref()).expect("stores send well-formed origins");
        for entry in &batch.entries {
            let stamp = Stamp { origin, clock: Clock(entry.clock) };
            self.note(stamp, &entry.key_hash, &entry.operation, entry.payload.as_ref());
        }
    }

    /// Notes what a client was told is done.
    pub fn acknowledge(&mut self, stamp: Stamp, key: KeyHash, encoded: &Bytes, payload: Option<&Bytes>) {
        self.acknowledge_doubtful(stamp, key, encoded, payload);
        self.acknowledged.push(stamp);
    }

    /// The same by a node that may withhold it.
    pub fn acknowledge_doubtful(
        &mut self,
        stamp: Stamp,
        key: KeyHash,
        encoded: &Bytes,
        payload: Option<&Bytes>,
    ) {
        assert!(!self.operations.contains_key(&stamp), "{stamp:?} was given to two operations");
        self.note(stamp, &Bytes::copy_from_slice(&key.0), encoded, payload);
    }

    pub fn note_unordered(&mut self, stamp: Stamp) {
        self.unordered.insert(stamp);
    }

    pub fn is_unordered(&self, stamp: Stamp) -> bool {
        self.unordered.contains(&stamp)
    }

    /// The last operation of each origin.
    pub fn signed(&self) -> Vector {
        self.operations.keys().map(|stamp| (stamp.origin, stamp.clock)).collect()
    }

    pub fn knows(&self, stamp: Stamp) -> bool {
        self.operations.contains_key(&stamp)
    }

    pub fn acknowledged(&self) -> &[Stamp] {
        &self.acknowledged
    }

    fn done(&self, stamp: Stamp) -> &[Done] {
        self.operations.get(&stamp).map_or(&[], Vec::as_slice)
    }

    /// What was done to a key hash under its stamps.
    fn operations(&self, key: &KeyHash) -> impl Iterator<Item = (Stamp, Operation)> + '_ {
        let stamps = self.by_key.get(key).map_or(&[] as &[Stamp], Vec::as_slice);
        let key = *key;
        stamps.iter().flat_map(move |stamp| {
            let of_key = self.done(*stamp).iter().filter(move |done| done.key_hash == key.0[..]);
            of_key.filter_map(|done| Some((*stamp, Operation::decode(&done.encoded).ok()?)))
        })
    }

    /// Whether an entry of a node's log is what stands under its stamp.
    pub fn is_verbatim(&self, stamp: Stamp, entry: &proto::Entry) -> bool {
        let is_it = |done: &Done| done.key_hash == entry.key_hash && done.encoded == entry.operation;
        self.done(stamp).iter().any(is_it)
    }

    pub fn keys(&self) -> impl Iterator<Item = KeyHash> + '_ {
        self.by_key.keys().copied()
    }

    /// The deletes of a key hash.
    pub fn deletes(&self, key: &KeyHash) -> impl Iterator<Item = Stamp> + '_ {
        let deletes = self.operations(key).filter(|(_, operation)| *operation == Operation::Delete);
        deletes.map(|(stamp, _)| stamp)
    }

    /// Whether a client was told that it was created.
    pub fn was_created(&self, key: &KeyHash) -> bool {
        self.operations(key).any(|(_, operation)| matches!(operation, Operation::Create { .. }))
    }

    /// What a key hash is once the operations that are `among` the known ones have met, in any order.
    pub fn state(&self, key: &KeyHash, among: impl Fn(Stamp) -> bool) -> RecordState {
        let known = self.operations(key).filter(|(stamp, _)| among(*stamp));
        known.fold(RecordState::default(), |state, (stamp, operation)| {
            state.join(proven(operation.state(stamp, self.payload_of(&operation))))
        })
    }

    fn payload_of(&self, operation: &Operation) -> Option<Bytes> {
        match operation {
            Operation::Create { digest, .. } => self.payloads.get(digest).cloned(),
            _ => None,
        }
    }

    /// After a disk went: what no node has any more is lost. Returns how many operations that were.
    pub fn note_losses(&mut self, missing: Vec<Stamp>) -> u64 {
        let before = self.lost.len();
        self.lost.extend(missing);
        (self.lost.len() - before) as u64
    }

    /// What was acknowledged and no node has.
    pub fn missing(&self, has: impl Fn(Stamp) -> bool) -> Vec<Stamp> {
        self.acknowledged.iter().copied().filter(|stamp| !has(*stamp)).collect()
    }

    /// Whether a state of its record has an operation in it.
    pub fn is_in(&self, stamp: Stamp, states: &BTreeMap<KeyHash, RecordState>) -> bool {
        let has = |done: &Done| {
            let key_hash = KeyHash::try_from(done.key_hash.as_ref()).ok()?;
            let (state, operation) = (states.get(&key_hash)?, Operation::decode(&done.encoded).ok()?);
            let bare = RecordState { evidence: Default::default(), ..state.without_payload() };
            // Of a tombstone that came alone it is not known whether its create was seen.
            let joined = bare.clone().join(operation.state(stamp, None));
            Some(RecordState { was_created: bare.was_created, ..joined } == bare)
        };
        let done = self.done(stamp);
        !done.is_empty() && done.iter().all(|done| has(done) == Some(true))
    }

    /// How many operations lie above what is applied.
    pub fn operations_above(&self, applied: &Vector) -> u64 {
        self.operations.keys().filter(|stamp| !applied.has(**stamp)).count() as u64
    }

    pub fn is_lost(&self, stamp: Stamp) -> bool {
        self.lost.contains(&stamp)
    }
}

/// With evidence for every part but the ghost's, which signs nothing: what is proven takes precedence in a join.
pub fn proven(mut state: RecordState) -> RecordState {
    let evidence =
        |stamp: Stamp, part: Part<'_>| Evidence::new(saying(part).encode(), (stamp.clock, 1), [0; 32]);
    let signed = state.parts().filter(|(stamp, _)| stamp.origin.node_id().as_str() != "ghost");
    state.evidence = signed.map(|(stamp, part)| (stamp, evidence(stamp, part))).collect();
    state.canonical()
}

/// An operation that says it.
pub fn saying(part: Part<'_>) -> Operation {
    let create =
        |created_at, expires_at, public, digest| Operation::Create { created_at, expires_at, public, digest };
    match part {
        Part::Creation(at, digest) => create(at, None, true, *digest),
        Part::Expiry(at) => create(0, Some(at), true, [0; 32]),
        Part::CreatedUnpublished => create(0, None, false, [0; 32]),
        Part::Unpublication => Operation::Unpublish,
        Part::Invalidation(at, reason) => Operation::Invalidate { at, reason: reason.to_owned() },
        Part::Deletion => Operation::Delete,
    }
}
