//! The record as a join semilattice: its state is the fold of all operations on a key hash, in
//! any order, with any repetition.

use std::cmp::Ordering;

use bytes::Bytes;

use crate::ground::{clock::Stamp, id::sha256};

/// Seconds since the Unix epoch.
pub type UnixSeconds = i64;

/// SHA-256 of an encoded payload.
pub type PayloadDigest = [u8; 32];

/// Where one key hash stands. The default is "nothing is known": the neutral element of [`join`].
///
/// [`join`]: RecordState::join
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecordState {
    /// The winning create.
    pub creation: Option<Creation>,
    /// From this second on the record is absent; `None` = never. The minimum of all creates.
    pub expires_at: Option<UnixSeconds>,
    /// Whether anybody unpublished it or created it unpublished.
    pub unpublished: bool,
    /// The earliest invalidation.
    pub invalidation: Option<Invalidation>,
    /// The earliest delete. It absorbs everything else.
    pub deletion: Option<Stamp>,
}

/// A create: the payload is write-once, so of several creates one wins, by
/// (created at, digest, stamp).
#[derive(Clone, PartialEq, Eq)]
pub struct Creation {
    /// When it was created, as its origin saw it.
    pub created_at: UnixSeconds,
    /// The digest of its payload.
    pub digest: PayloadDigest,
    /// Which operation it was.
    pub stamp: Stamp,
    /// The encoded payload. `None`: known of, but not here (yet, or any more).
    pub payload: Option<Bytes>,
}

/// An invalidation: of several the earliest stands, ties broken by reason.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Invalidation {
    /// When, as its origin saw it.
    pub at: UnixSeconds,
    /// Why. Shown to clients.
    pub reason: String,
}

/// What a reader sees of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visibility {
    /// The record is there.
    Valid,
    /// The record is there and must not be used.
    Invalidated,
    /// Deleted or expired: absent, and no peer can know better.
    Gone,
    /// Not all of it is here: a peer may have it.
    Incomplete,
}

impl Creation {
    /// Digest and payload together.
    pub fn new(created_at: UnixSeconds, stamp: Stamp, payload: Bytes) -> Self {
        Self { created_at, digest: sha256(&payload), stamp, payload: Some(payload) }
    }

    fn rank(&self) -> (UnixSeconds, &PayloadDigest, Stamp) {
        (self.created_at, &self.digest, self.stamp)
    }

    fn join(self, other: Self) -> Self {
        let (mut winner, loser) = match self.rank().cmp(&other.rank()) {
            Ordering::Less | Ordering::Equal => (self, other),
            Ordering::Greater => (other, self),
        };
        if winner.payload.is_none() && winner.digest == loser.digest {
            winner.payload = loser.payload;
        }
        winner
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
    /// The least state that is at least both: commutative, associative and idempotent, as long
    /// as a creation comes with its payload somewhere. The one function by which states merge,
    /// whatever path they took.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        if self.deletion.is_some() || other.deletion.is_some() {
            return Self { deletion: least(self.deletion, other.deletion, Stamp::min), ..Self::default() };
        }
        Self {
            creation: least(self.creation, other.creation, Creation::join),
            expires_at: least(self.expires_at, other.expires_at, UnixSeconds::min),
            unpublished: self.unpublished || other.unpublished,
            invalidation: least(self.invalidation, other.invalidation, Invalidation::min),
            deletion: None,
        }
    }

    /// Whether the two were created with different payloads: one of them loses.
    pub fn conflicts_with(&self, other: &Self) -> bool {
        match (&self.creation, &other.creation) {
            (Some(mine), Some(theirs)) => mine.digest != theirs.digest,
            _ => false,
        }
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

    /// What is kept of an expired record once it is removed: when it expired, so that a create of
    /// the same key hash that turns up later joins to the same outcome on every node.
    #[must_use]
    pub fn remnant(&self) -> Self {
        Self { expires_at: self.expires_at, deletion: self.deletion, ..Self::default() }
    }

    /// When there will be something to remove; `None` = never.
    pub fn due_at(&self) -> Option<UnixSeconds> {
        self.expires_at.filter(|_| *self != self.remnant())
    }

    /// Whether the record is expired at `now`: an expiry of now is in the past.
    pub fn is_expired(&self, now: UnixSeconds) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}

fn least<T>(a: Option<T>, b: Option<T>, join: impl FnOnce(T, T) -> T) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(join(a, b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};

    use super::*;
    use crate::ground::{
        clock::Clock,
        id::{Incarnation, Origin},
    };

    fn stamp() -> impl Strategy<Value = Stamp> {
        (0..3u32, 1..4u64).prop_map(|(incarnation, clock)| Stamp {
            origin: Origin::new(&"a".parse().unwrap(), Incarnation(incarnation)),
            clock: Clock(clock),
        })
    }

    fn state() -> impl Strategy<Value = RecordState> {
        let creation = (0..3i64, stamp(), 0..3u8)
            .prop_map(|(at, stamp, payload)| Creation::new(at, stamp, Bytes::from(vec![payload])));
        let invalidation = (0..3i64, "[ab]").prop_map(|(at, reason)| Invalidation { at, reason });
        (
            proptest::option::of(creation),
            proptest::option::of(1..4i64),
            any::<bool>(),
            proptest::option::of(invalidation),
            prop_oneof![4 => Just(None), 1 => stamp().prop_map(Some)],
        )
            .prop_map(|(creation, expires_at, unpublished, invalidation, deletion)| {
                let state = RecordState { creation, expires_at, unpublished, invalidation, deletion: None };
                // Through `join`, so that a deleted state has the one form that occurs.
                state.join(RecordState { deletion, ..RecordState::default() })
            })
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
        fn join_never_goes_back(a in state(), b in state()) {
            let joined = a.clone().join(b);
            prop_assert!(a.deletion.is_none() || joined.deletion.is_some());
            prop_assert!(a.invalidation.is_none() || joined.invalidation.is_some() || joined.deletion.is_some());
            prop_assert!(!a.is_expired(2) || joined.is_expired(2) || joined.deletion.is_some());
            prop_assert!(!a.unpublished || joined.unpublished || joined.deletion.is_some());
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

    #[test]
    fn visibility_follows_the_state() {
        let stamp = Stamp { origin: Origin::new(&"a".parse().unwrap(), Incarnation(1)), clock: Clock(1) };
        let creation = Some(Creation::new(5, stamp, Bytes::from_static(b"p")));
        let valid = RecordState { creation, expires_at: Some(10), ..RecordState::default() };
        assert_eq!(valid.visibility(9), Visibility::Valid);
        assert_eq!(valid.visibility(10), Visibility::Gone);
        let invalidation = Some(Invalidation { at: 6, reason: "leaked".into() });
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
