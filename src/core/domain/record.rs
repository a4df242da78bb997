//! The record as a join semilattice: its state is the fold of all operations on a key hash, in
//! any order, with any repetition.

use std::mem::take;

use bytes::Bytes;

use super::{
    evidence::Evidence,
    proofs::{EvidenceList, Lack, Part, Proofs},
};
use crate::base::{
    id::sha256,
    limits,
    vector::{Stamp, Vector},
};

/// Seconds since the Unix epoch.
pub type UnixSeconds = i64;

/// SHA-256 of an encoded payload.
pub type PayloadDigest = [u8; 32];

/// All that is known of one key hash. The default is "nothing": the neutral element of [`join`].
///
/// [`join`]: RecordState::join
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecordState {
    /// The winning create.
    pub creation: Option<Creation>,
    /// Creates with other payloads that lost: the best of each payload, best first, at most
    /// [`limits::LOSERS_MAX`], without the payloads.
    pub losers: Vec<Creation>,
    /// From this second on the record is absent; `None` = never. The minimum of all creates.
    pub expires_at: Option<UnixSeconds>,
    /// The create with that expiry; of several the one with the least stamp.
    pub expiry: Option<Stamp>,
    /// Whether it was unpublished, or created unpublished.
    pub unpublished: bool,
    /// The create with the least stamp among those that were unpublished from the beginning.
    pub unpublished_create: Option<Stamp>,
    /// The unpublish operation with the least stamp.
    pub unpublication: Option<Stamp>,
    /// The earliest invalidation.
    pub invalidation: Option<Invalidation>,
    /// The earliest delete. It absorbs everything else.
    pub deletion: Option<Stamp>,
    /// Of a deleted record: whether its create was seen too. Until then the create may still arrive, and
    /// the tombstone must wait for it.
    pub was_created: bool,
    /// What proves the operations that the state consists of, and no others: for each part of the state the least
    /// evidence of it. A part without evidence was taken on trust.
    pub evidence: EvidenceList,
}

/// A create: the payload is write-once, so of several creates one wins, by
/// (created at, digest, proven or not, stamp).
#[derive(Clone, PartialEq, Eq)]
pub struct Creation {
    /// When it was created, as its origin saw it.
    pub created_at: UnixSeconds,
    /// The digest of its payload.
    pub digest: PayloadDigest,
    /// The operation.
    pub stamp: Stamp,
    /// The encoded payload. `None` = not here (yet, or any more).
    pub payload: Option<Bytes>,
}

/// An invalidation. Of several the earliest takes effect; ties are broken by reason, then one that is proven takes
/// precedence, then by stamp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalidation {
    /// When, as its origin saw it.
    pub at: UnixSeconds,
    /// Why. Shown to clients.
    pub reason: String,
    /// The operation.
    pub stamp: Stamp,
}

/// What a reader sees of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visibility {
    /// The record is present.
    Valid,
    /// The record is present and must not be used.
    Invalidated,
    /// Deleted or expired: absent, and no peer can have it.
    Gone,
    /// Not all of it is here: a peer may have it.
    Incomplete,
}

impl Creation {
    /// With the digest of its payload.
    pub fn new(created_at: UnixSeconds, stamp: Stamp, payload: Bytes) -> Self {
        Self { created_at, digest: sha256(&payload), stamp, payload: Some(payload) }
    }

    /// What it contributes to a state.
    pub fn part(&self) -> Part<'_> {
        Part::Creation(self.created_at, &self.digest)
    }

    fn rank(&self) -> (UnixSeconds, &PayloadDigest) {
        (self.created_at, &self.digest)
    }

    fn without_payload(mut self) -> Self {
        self.payload = None;
        self
    }
}

impl Invalidation {
    /// What it contributes to a state.
    pub fn part(&self) -> Part<'_> {
        Part::Invalidation(self.at, &self.reason)
    }
}

impl std::fmt::Debug for Creation {
    /// Never shows the payload.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Creation")
            .field("created_at", &self.created_at)
            .field("digest", &data_encoding::HEXLOWER.encode(&self.digest[..4]))
            .field("stamp", &self.stamp)
            .field("payload_bytes", &self.payload.as_ref().map(Bytes::len))
            .finish()
    }
}

impl RecordState {
    /// The least state that is at least both: commutative, associative and idempotent, as long as a
    /// creation comes with its payload somewhere. All states merge by this one function.
    ///
    /// Of operations that say the same, one that is proven takes precedence; then one that is signed and lacks only its
    /// operator's order; then the least stamp. So what is not proven can be logged again by an origin that signs, and
    /// is proven from then on.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        if self == Self::default() {
            return other.canonical();
        }
        if other == Self::default() {
            return self.canonical();
        }
        self.merge(other)
    }

    fn merge(mut self, mut other: Self) -> Self {
        let (mine, theirs) = (take(&mut self.evidence), take(&mut other.evidence));
        let both = Proofs::of_both(&mine, &theirs);
        let (mine, theirs) = (Proofs::of(&mine), Proofs::of(&theirs));
        let by = |part: Part<'static>| {
            move |stamp: &Stamp, proofs: &Proofs<'_>| (proofs.lack(*stamp, part), *stamp)
        };
        if self.deletion.is_some() || other.deletion.is_some() {
            let was_created = |state: &Self| state.was_created || state.is_created();
            let joined = Self {
                was_created: was_created(&self) || was_created(&other),
                deletion: least((self.deletion, &mine), (other.deletion, &theirs), by(Part::Deletion)),
                ..Self::default()
            };
            return joined.with_evidence(&both);
        }
        let expiry = |at: Option<UnixSeconds>, by: Option<Stamp>| at.map(|at| (at, by));
        let (my_expiry, their_expiry) =
            (expiry(self.expires_at, self.expiry), expiry(other.expires_at, other.expiry));
        // Of two at the same second, one without a create comes last.
        let by_second = |(at, by): &(UnixSeconds, Option<Stamp>), proofs: &Proofs<'_>| {
            (*at, by.is_none(), by.map(|by| (proofs.lack(by, Part::Expiry(*at)), by)))
        };
        let first = least((my_expiry, &mine), (their_expiry, &theirs), by_second);
        let by_time = |one: &Invalidation, proofs: &Proofs<'_>| {
            (one.at, one.reason.clone(), proofs.lack(one.stamp, one.part()), one.stamp)
        };
        let invalidation = least((self.invalidation, &mine), (other.invalidation, &theirs), by_time);
        let create = (self.unpublished_create, other.unpublished_create);
        let unpublication = (self.unpublication, other.unpublication);
        let created = |creation: Option<Creation>, losers: Vec<Creation>| creation.into_iter().chain(losers);
        let (creation, losers) = rank_creations(
            (created(self.creation, self.losers), &mine),
            (created(other.creation, other.losers), &theirs),
        );
        let joined = Self {
            creation,
            losers,
            expires_at: first.map(|(at, _)| at),
            expiry: first.and_then(|(_, by)| by),
            unpublished: self.unpublished || other.unpublished,
            unpublished_create: least((create.0, &mine), (create.1, &theirs), by(Part::CreatedUnpublished)),
            unpublication: least(
                (unpublication.0, &mine),
                (unpublication.1, &theirs),
                by(Part::Unpublication),
            ),
            invalidation,
            ..Self::default()
        };
        joined.with_evidence(&both)
    }

    /// The join of this state with nothing: the one form that states have.
    #[must_use]
    pub fn canonical(mut self) -> Self {
        if self.deletion.is_some() || !self.losers.is_empty() {
            return self.merge(Self::default());
        }
        // As most states are: nothing to rank.
        self.expiry = self.expiry.filter(|_| self.expires_at.is_some());
        self.was_created = false;
        if self.evidence.len() > 1 {
            let evidence = take(&mut self.evidence);
            return self.with_evidence(&Proofs::of(&evidence));
        }
        if !self.is_evidence_needed() {
            self.evidence.clear();
        }
        self
    }

    /// Whether it has that form.
    pub fn is_canonical(&self) -> bool {
        if self.deletion.is_some() || !self.losers.is_empty() || self.evidence.len() > 1 {
            return self.clone().canonical() == *self;
        }
        !self.was_created
            && (self.expiry.is_none() || self.expires_at.is_some())
            && (self.evidence.is_empty() || self.is_evidence_needed())
    }

    /// Whether the evidence proves any part of it.
    fn is_evidence_needed(&self) -> bool {
        let proofs = Proofs::of(&self.evidence);
        self.parts().any(|(stamp, part)| proofs.prove(stamp, part))
    }

    /// Adds the evidence of an operation, as the join with the operation's state would, if the state consists of that
    /// operation alone and nothing proves it yet, as it is after most creates. Gives it back otherwise. IMPORTANT: the
    /// operation is the one that was joined under that stamp.
    pub fn prove_alone(&mut self, stamp: Stamp, evidence: Evidence) -> Option<Evidence> {
        let mut stamps = self.stamps();
        let is_alone = stamps.next() == Some(stamp) && stamps.all(|other| other == stamp);
        drop(stamps);
        if !is_alone || !self.evidence.is_empty() {
            return Some(evidence);
        }
        self.evidence.push((stamp, evidence));
        None
    }

    /// With the least evidence of each of its parts, and no other.
    fn with_evidence(mut self, proofs: &Proofs<'_>) -> Self {
        let least =
            self.parts().filter_map(|(stamp, part)| Some((stamp, proofs.proof(stamp, part)?.clone())));
        let mut evidence: EvidenceList = least.collect();
        evidence.sort_unstable();
        evidence.dedup();
        self.evidence = evidence;
        self
    }

    /// What the state consists of, each with the operation that has contributed it. The states of these operations join
    /// to this one.
    pub fn parts(&self) -> impl Iterator<Item = (Stamp, Part<'_>)> {
        let creations = self.creation.iter().chain(&self.losers);
        let expiry = self.expiry.zip(self.expires_at).map(|(stamp, at)| (stamp, Part::Expiry(at)));
        let invalidation = self.invalidation.as_ref();
        let others = [
            expiry,
            self.unpublished_create.map(|stamp| (stamp, Part::CreatedUnpublished)),
            self.unpublication.map(|stamp| (stamp, Part::Unpublication)),
            invalidation.map(|invalidation| (invalidation.stamp, invalidation.part())),
            self.deletion.map(|stamp| (stamp, Part::Deletion)),
        ];
        creations.map(|creation| (creation.stamp, creation.part())).chain(others.into_iter().flatten())
    }

    /// The operations that the state consists of; one may be named several times.
    pub fn stamps(&self) -> impl Iterator<Item = Stamp> + '_ {
        self.parts().map(|(stamp, _)| stamp)
    }

    /// The parts that are not proven: without evidence, or without an operator's order if they destroy. Nothing has
    /// verified the order.
    pub fn unproven(&self) -> Vec<(Stamp, Part<'_>)> {
        let proofs = Proofs::of(&self.evidence);
        self.parts().filter(|(stamp, part)| proofs.lack(*stamp, *part) != Lack::Nothing).collect()
    }

    /// Whether everything that the state consists of is proven.
    pub fn is_proven(&self) -> bool {
        self.unproven().is_empty()
    }

    /// This state without everything that a node has deleted and forgotten. `forgotten` is the vector up
    /// to which that node has collected tombstones, `kept` its state of this key hash: what lies at or
    /// below `forgotten` and is not in `kept`, it had deleted. Creates are compared by their payload,
    /// because of two with the same payload only the better is remembered.
    #[must_use]
    pub fn without_forgotten(self, forgotten: &Vector, kept: Option<&Self>) -> Self {
        if forgotten.is_empty() || self.deletion.is_some() {
            return self;
        }
        let keeps = |digest: &PayloadDigest| {
            kept.is_some_and(|kept| {
                kept.creation.iter().chain(&kept.losers).any(|creation| creation.digest == *digest)
            })
        };
        let is_left = |creation: &Creation| !forgotten.has(creation.stamp) || keeps(&creation.digest);
        let created: Vec<Creation> = self.creation.into_iter().chain(self.losers).collect();
        let count = created.len();
        let left: Vec<Creation> = created.into_iter().filter(is_left).collect();
        // Operations on a create that is not forgotten are not forgotten either.
        let is_untouched = count > 0 && left.len() == count;
        let (creation, losers) = winner_and_losers(left);
        let is_forgotten =
            |stamp: Option<Stamp>| !is_untouched && stamp.is_some_and(|stamp| forgotten.has(stamp));
        let invalidation = self.invalidation.filter(|invalidation| {
            kept.is_some_and(|kept| kept.invalidation.is_some()) || !is_forgotten(Some(invalidation.stamp))
        });
        let unpublication = self.unpublication.filter(|stamp| {
            kept.is_some_and(|kept| kept.unpublication.is_some()) || !is_forgotten(Some(*stamp))
        });
        let is_created = creation.is_some();
        let left = Self {
            creation,
            losers,
            // These came with the creates.
            expires_at: self.expires_at.filter(|_| is_created),
            expiry: self.expiry.filter(|_| is_created),
            unpublished: (self.unpublished && is_created) || unpublication.is_some(),
            unpublished_create: self.unpublished_create.filter(|_| is_created),
            unpublication,
            invalidation,
            ..Self::default()
        };
        left.with_evidence(&Proofs::of(&self.evidence))
    }

    /// This state with those of its operations that `keeps` allows, and without evidence. An expiry and an
    /// unpublication that name no operation, as in backups of format 1, stay as long as a create does.
    #[must_use]
    pub fn only(self, keeps: impl Fn(&Stamp) -> bool) -> Self {
        let created = self.creation.into_iter().chain(self.losers);
        let (creation, losers) =
            winner_and_losers(created.filter(|creation| keeps(&creation.stamp)).collect());
        let is_named = self.unpublished_create.is_some() || self.unpublication.is_some();
        let stays = |stamp: Option<Stamp>| stamp.as_ref().map_or(creation.is_some(), &keeps);
        let expires_at = self.expires_at.filter(|_| stays(self.expiry));
        let unpublished_create = self.unpublished_create.filter(&keeps);
        let unpublication = self.unpublication.filter(&keeps);
        let is_unnamed = self.unpublished && !is_named && creation.is_some();
        let deletion = self.deletion.filter(&keeps);
        Self {
            creation,
            losers,
            expires_at,
            expiry: self.expiry.filter(|_| expires_at.is_some()),
            unpublished: is_unnamed || unpublished_create.is_some() || unpublication.is_some(),
            unpublished_create,
            unpublication,
            invalidation: self.invalidation.filter(|invalidation| keeps(&invalidation.stamp)),
            deletion,
            was_created: self.was_created && deletion.is_some(),
            evidence: EvidenceList::new(),
        }
    }

    /// What of this state takes something away: without its creates, of which a part may have been left out.
    #[must_use]
    pub fn without_creates(self) -> Self {
        if self.deletion.is_some() {
            return self;
        }
        let left = Self {
            unpublished: self.unpublication.is_some(),
            unpublication: self.unpublication,
            invalidation: self.invalidation,
            ..Self::default()
        };
        left.with_evidence(&Proofs::of(&self.evidence))
    }

    /// What a reader sees at `now`.
    pub fn visibility(&self, now: UnixSeconds) -> Visibility {
        if self.deletion.is_some() || self.is_expired(now) {
            return Visibility::Gone;
        }
        match &self.creation {
            Some(Creation { payload: Some(_), .. }) if self.invalidation.is_some() => Visibility::Invalidated,
            Some(Creation { payload: Some(_), .. }) => Visibility::Valid,
            _ => Visibility::Incomplete,
        }
    }

    /// The same without the payload. Sweeping leaves this of an expired record, so that later operations
    /// join to the same outcome on every node; and nodes compare this.
    #[must_use]
    pub fn without_payload(&self) -> Self {
        Self { creation: self.creation.clone().map(Creation::without_payload), ..self.clone() }
    }

    /// Whether the payload is here.
    pub fn has_payload(&self) -> bool {
        self.creation.as_ref().is_some_and(|creation| creation.payload.is_some())
    }

    /// The size of the payload, if it is here.
    pub fn payload_bytes(&self) -> usize {
        self.creation.as_ref().and_then(|creation| creation.payload.as_ref()).map_or(0, Bytes::len)
    }

    /// When its payload may be removed; `None` = never.
    pub fn due_at(&self) -> Option<UnixSeconds> {
        self.expires_at.filter(|_| self.has_payload())
    }

    /// Whether it counts as a present record: created, not deleted, not swept.
    pub fn is_record(&self) -> bool {
        self.creation.is_some() && (self.expires_at.is_none() || self.has_payload())
    }

    /// Whether a create of it is known.
    pub fn is_created(&self) -> bool {
        // A backup of format 1 may hold the expiry of an expired record without its creation.
        self.creation.is_some() || self.expires_at.is_some()
    }

    /// Whether the record is expired at `now`: an expiry of now is in the past.
    pub fn is_expired(&self, now: UnixSeconds) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}

/// The best create of each payload, best first: the winner keeps its payload, and as many losers
/// are kept as are allowed. Cutting the worst off commutes with joining: a create that is cut has that
/// many better ones, and joining only makes those better.
fn rank_creations(
    (mine, my_proofs): (impl Iterator<Item = Creation>, &Proofs<'_>),
    (theirs, their_proofs): (impl Iterator<Item = Creation>, &Proofs<'_>),
) -> (Option<Creation>, Vec<Creation>) {
    let lack = |creation: &Creation, proofs: &Proofs<'_>| proofs.lack(creation.stamp, creation.part());
    let mine = mine.map(|creation| (lack(&creation, my_proofs), creation));
    let theirs = theirs.map(|creation| (lack(&creation, their_proofs), creation));
    let mut all: Vec<(Lack, Creation)> = mine.chain(theirs).collect();
    all.sort_by(|(a_lacks, a), (b_lacks, b)| {
        a.rank().cmp(&b.rank()).then(a_lacks.cmp(b_lacks)).then(a.stamp.cmp(&b.stamp))
    });
    let mut ranked: Vec<Creation> = Vec::with_capacity(all.len());
    for (_, creation) in all {
        match ranked.iter_mut().find(|better| better.digest == creation.digest) {
            Some(better) => better.payload = better.payload.take().or(creation.payload),
            None => ranked.push(creation),
        }
    }
    ranked.truncate(1 + limits::LOSERS_MAX);
    winner_and_losers(ranked)
}

/// Of creates in their order, best first.
fn winner_and_losers(mut ranked: Vec<Creation>) -> (Option<Creation>, Vec<Creation>) {
    let losers = ranked.split_off(ranked.len().min(1)).into_iter().map(Creation::without_payload).collect();
    (ranked.pop(), losers)
}

/// The lesser of two by a key, which may depend on what is proven on its side; the one that there is, if there is one
/// only.
fn least<T, K: Ord>(
    (mine, my_proofs): (Option<T>, &Proofs<'_>),
    (theirs, their_proofs): (Option<T>, &Proofs<'_>),
    key: impl Fn(&T, &Proofs<'_>) -> K,
) -> Option<T> {
    match (mine, theirs) {
        (Some(mine), Some(theirs)) if key(&mine, my_proofs) <= key(&theirs, their_proofs) => Some(mine),
        (Some(_), Some(theirs)) => Some(theirs),
        (mine, theirs) => mine.or(theirs),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};

    use super::*;
    use crate::{
        base::{
            id::{Incarnation, Origin},
            vector::Clock,
        },
        domain::{
            codec::{decode_state, encode_state},
            evidence::Evidence,
            operation::Operation,
            order::OrderProof,
        },
    };

    /// Few, so that some origins sign several operations under one: a fork.
    fn stamp() -> impl Strategy<Value = Stamp> {
        (0..3u32, 1..4u64).prop_map(|(incarnation, clock)| Stamp {
            origin: Origin::new(&"a".parse().unwrap(), Incarnation(incarnation)),
            clock: Clock(clock),
        })
    }

    /// Of an operation in one of several bundles, with an operator's order or without.
    fn evidence(operation: &Operation, stamp: Stamp, (bundle, is_ordered): (u8, bool)) -> Evidence {
        let order =
            OrderProof { at_unix_ms: 9000, certificate: [1; 32], scheme: 1, signature: vec![1].into() };
        let order = Some(&order).filter(|_| is_ordered && operation.destroys());
        Evidence::new(operation.encode_with(order), (stamp.clock, 1), [bundle; 32])
    }

    fn operation() -> impl Strategy<Value = (Operation, Option<Bytes>)> {
        let create = (0..3i64, any::<bool>(), proptest::option::of(1..4i64), 0..12u8);
        let create = create.prop_map(|(created_at, public, expires_at, content)| {
            let payload = Bytes::from(vec![content]);
            let digest = sha256(&payload);
            (Operation::Create { created_at, expires_at, public, digest }, Some(payload))
        });
        let invalidate =
            (0..3i64, "[ab]").prop_map(|(at, reason)| (Operation::Invalidate { at, reason }, None));
        let [unpublish, delete] = [Operation::Unpublish, Operation::Delete].map(|one| Just((one, None)));
        // A delete absorbs the rest: few of them.
        prop_oneof![12 => create, 6 => invalidate, 3 => unpublish, 1 => delete]
    }

    /// The states of single operations, with and without evidence.
    fn operations() -> impl Strategy<Value = Vec<RecordState>> {
        let proven = proptest::option::of((0..2u8, any::<bool>()));
        let one = (operation(), stamp(), proven).prop_map(|((operation, payload), stamp, proven)| {
            let evidence = proven.map(|bundle| (stamp, evidence(&operation, stamp, bundle)));
            RecordState { evidence: evidence.into_iter().collect(), ..operation.state(stamp, payload) }
        });
        proptest::collection::vec(one, 0..8)
    }

    fn fold(all: &[RecordState]) -> RecordState {
        all.iter().cloned().fold(RecordState::default(), RecordState::join)
    }

    fn state() -> impl Strategy<Value = RecordState> {
        operations().prop_map(|all| fold(&all))
    }

    proptest! {
        #[test]
        fn join_is_commutative(a in state(), b in state()) {
            prop_assert_eq!(a.clone().join(b.clone()), b.join(a));
        }

        #[test]
        fn join_is_associative(a in state(), b in state(), c in state()) {
            prop_assert_eq!(a.clone().join(b.clone()).join(c.clone()), a.join(b.join(c)));
        }

        #[test]
        fn join_is_idempotent_and_nothing_is_neutral(a in state(), b in state()) {
            prop_assert_eq!(a.clone().join(a.clone()), a.clone());
            prop_assert_eq!(a.clone().join(RecordState::default()), a.clone());
            let joined = a.clone().join(b.clone());
            prop_assert_eq!(joined.clone().join(a), joined.clone());
            prop_assert_eq!(joined.clone().join(b), joined);
        }

        #[test]
        fn the_join_with_nothing_is_the_join_of_a_state_with_itself_whatever_its_form(a in state(), b in state()) {
            let mut states = vec![a.clone()];
            states.push(RecordState { evidence: [a.evidence.clone(), b.evidence.clone()].concat(), ..a.clone() });
            states.push(RecordState { losers: [a.losers.clone(), b.losers.clone()].concat(), ..a.clone() });
            states.push(RecordState { expiry: b.unpublication, was_created: true, ..a.clone() });
            states.push(RecordState { evidence: b.evidence.clone(), ..a.clone() });
            states.push(RecordState { deletion: b.deletion, ..a });
            for state in states {
                let joined = state.clone().join(state.clone());
                let is_canonical = state.clone().canonical() == state;
                prop_assert_eq!(state.is_canonical(), is_canonical, "{:?}", state);
                prop_assert_eq!(state.clone().join(RecordState::default()), joined.clone());
                prop_assert_eq!(RecordState::default().join(state), joined);
            }
        }

        #[test]
        fn join_never_goes_back(a in state(), b in state()) {
            let joined = a.clone().join(b);
            prop_assert!(a.deletion.is_none() || joined.deletion.is_some());
            prop_assert!(a.invalidation.is_none() || joined.invalidation.is_some() || joined.deletion.is_some());
            prop_assert!(!a.is_expired(2) || joined.is_expired(2) || joined.deletion.is_some());
            prop_assert!(!a.unpublished || joined.unpublished || joined.deletion.is_some());
        }

        #[test]
        fn what_is_left_of_a_state_is_less_and_of_the_kept_operations(a in state(), from in 0..3u32) {
            let keeps = |stamp: &Stamp| stamp.origin.incarnation().0 >= from;
            let left = a.clone().only(keeps);
            prop_assert!(left.stamps().all(|stamp| keeps(&stamp)));
            prop_assert_eq!(left.clone().join(a.clone()), a.clone());
            prop_assert_eq!(left.clone().join(RecordState::default()), left);
            if from == 0 {
                let bare = RecordState { evidence: EvidenceList::new(), ..a.clone() };
                prop_assert_eq!(a.only(keeps), bare);
            }
        }

        #[test]
        fn a_missing_payload_changes_nothing_else(a in state(), b in state()) {
            let strip = |mut state: RecordState| {
                if let Some(creation) = &mut state.creation {
                    creation.payload = None;
                }
                state
            };
            prop_assert_eq!(strip(a.clone().join(b.clone())), strip(a.clone()).join(strip(b.clone())));
            prop_assert_eq!(strip(a.clone()).join(a.clone()), a);
        }
    }

    proptest! {
        #[test]
        fn operations_make_one_state_whichever_are_proven_and_in_whatever_order_and_groups(
            (operations, mut shuffled) in operations().prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
            cut in 0..8usize,
        ) {
            let rest = shuffled.split_off(cut.min(shuffled.len()));
            prop_assert_eq!(fold(&rest).join(fold(&shuffled)), fold(&operations));
        }

        #[test]
        fn to_prove_a_state_of_one_operation_is_the_join_with_the_proof(
            operations in operations(), proven in 0..8usize,
        ) {
            let Some(one) = operations.get(proven) else { return Ok(()) };
            let Some((stamp, evidence)) = one.evidence.first() else { return Ok(()) };
            // Under one stamp there is one operation.
            let others: Vec<RecordState> =
                operations.iter().filter(|other| other.stamps().all(|other| other != *stamp)).cloned().collect();
            let bare = RecordState { evidence: EvidenceList::new(), ..one.clone() };
            for state in [bare.clone(), bare.join(fold(&others)), fold(&others), one.clone()] {
                let mut proven = state.clone();
                match proven.prove_alone(*stamp, evidence.clone()) {
                    None => prop_assert_eq!(proven, state.join(one.clone())),
                    Some(back) => prop_assert_eq!((&back, proven), (evidence, state)),
                }
            }
        }

        #[test]
        fn evidence_proves_what_its_operation_says_and_there_is_one_for_each_part(operations in operations()) {
            let state = fold(&operations);
            prop_assert!(state.evidence.len() <= state.parts().count());
            for (stamp, part) in state.parts() {
                let said = |one: &RecordState| one.parts().any(|said| said == (stamp, part));
                let is_whole = |(_, one): &(Stamp, Evidence)| {
                    let (operation, order) = Operation::decode_with(one.operation()).unwrap();
                    !operation.destroys() || order.is_some()
                };
                let proven = operations.iter().any(|one| said(one) && one.evidence.iter().any(is_whole));
                prop_assert_eq!(!state.unproven().contains(&(stamp, part)), proven, "{:?}", part);
            }
            let genuine = |one: &(Stamp, Evidence)| operations.iter().any(|state| state.evidence.contains(one));
            prop_assert!(state.evidence.iter().all(genuine));
            prop_assert_eq!(decode_state(encode_state(&state).into()).unwrap(), state);
        }
    }

    #[test]
    fn what_another_has_deleted_and_forgotten_is_taken_away_create_by_create() {
        let at =
            |clock| Stamp { origin: Origin::new(&"a".parse().unwrap(), Incarnation(1)), clock: Clock(clock) };
        let created = |clock, payload: &'static [u8]| RecordState {
            creation: Some(Creation::new(1, at(clock), Bytes::from_static(payload))),
            expires_at: Some(9),
            unpublished: true,
            ..RecordState::default()
        };
        let forgotten: Vector = [(at(1).origin, Clock(5))].into_iter().collect();
        assert_eq!(created(5, b"p").without_forgotten(&forgotten, None), RecordState::default());
        assert_eq!(created(6, b"p").without_forgotten(&forgotten, None), created(6, b"p"));
        assert_eq!(created(5, b"p").without_forgotten(&Vector::default(), None), created(5, b"p"));
        let kept = created(3, b"p");
        assert_eq!(created(5, b"p").without_forgotten(&forgotten, Some(&kept)), created(5, b"p"));
        let other = created(3, b"another");
        assert_eq!(created(5, b"p").without_forgotten(&forgotten, Some(&other)), RecordState::default());
        let revoked = |clock| RecordState {
            invalidation: Some(Invalidation { at: 2, reason: "r".into(), stamp: at(clock) }),
            ..RecordState::default()
        };
        let both = created(5, b"p").join(revoked(7));
        let known = created(6, b"p").join(revoked(5));
        assert_eq!(known.clone().without_forgotten(&forgotten, None), known, "its create is not forgotten");
        assert_eq!(revoked(5).without_forgotten(&forgotten, None), RecordState::default());
        assert_eq!(both.clone().without_forgotten(&forgotten, Some(&revoked(7))), revoked(7));
        assert_eq!(both.without_forgotten(&forgotten, None), revoked(7));
        let two = created(4, b"p").join(created(7, b"later"));
        let left = two.without_forgotten(&forgotten, None);
        assert_eq!(left.creation.unwrap().stamp, at(7));
        assert!(left.losers.is_empty());
    }

    #[test]
    fn a_tombstone_knows_whether_a_create_was_seen_whichever_came_first() {
        let stamp = Stamp { origin: Origin::new(&"a".parse().unwrap(), Incarnation(1)), clock: Clock(1) };
        let deleted = RecordState { deletion: Some(stamp), ..RecordState::default() };
        let creation = Some(Creation::new(5, stamp, Bytes::from_static(b"p")));
        let created = RecordState { creation, ..RecordState::default() };
        assert!(!deleted.clone().join(deleted.clone()).was_created);
        assert!(deleted.clone().join(created.clone()).was_created);
        assert!(created.join(deleted.clone()).join(deleted).was_created);
    }

    #[test]
    fn visibility_follows_the_state() {
        let stamp = Stamp { origin: Origin::new(&"a".parse().unwrap(), Incarnation(1)), clock: Clock(1) };
        let creation = Some(Creation::new(5, stamp, Bytes::from_static(b"p")));
        let valid = RecordState { creation, expires_at: Some(10), ..RecordState::default() };
        assert_eq!(valid.visibility(9), Visibility::Valid);
        assert_eq!(valid.visibility(10), Visibility::Gone);
        let invalidation = Some(Invalidation { at: 6, reason: "leaked".into(), stamp });
        assert_eq!(RecordState { invalidation, ..valid.clone() }.visibility(9), Visibility::Invalidated);
        let mut stub = valid.clone();
        stub.creation.as_mut().unwrap().payload = None;
        assert_eq!(stub.visibility(9), Visibility::Incomplete);
        assert_eq!(RecordState::default().visibility(9), Visibility::Incomplete);
        let deleted = valid.join(RecordState { deletion: Some(stamp), ..RecordState::default() });
        assert_eq!(deleted.visibility(9), Visibility::Gone);
        assert_eq!(deleted.creation, None);
    }
}
