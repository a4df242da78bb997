//! Evidence: what a record keeps, and nodes send with it, to prove an operation that its state consists of.
//!
//! It names the bundle that the operation is in. The bundle with the hashes of its operations ([`Leaves`]) is kept and
//! sent once, for all records that consist of its operations.

use std::cmp::Ordering;

use bytes::Bytes;

use super::{
    bundle::{self, Hash, is_count},
    leaves::{BundleId, Leaves},
    operation::Operation,
    record::RecordState,
};
use crate::{
    base::{
        id::Origin,
        limits,
        vector::{Clock, Stamp},
    },
    proto,
};

/// The bytes of an operation, and the bundle that it is in.
#[derive(Clone)]
pub struct Evidence {
    operation: Bytes,
    said: Option<Said>,
    /// The clock of the first operation in its bundle.
    pub first: Clock,
    /// How many operations the bundle has.
    pub count: u8,
    /// The root of the tree over these.
    pub root: Hash,
}

/// What the bytes of an operation say.
#[derive(Debug, Clone)]
struct Said {
    operation: Operation,
    has_order: bool,
    /// Whether this version writes the operation like that.
    is_as_written: bool,
}

impl Evidence {
    /// Of the encoded operation, in the exact bytes that its origin wrote, in the bundle of `count` operations from
    /// `first` on with that root.
    pub fn new(operation: Bytes, (first, count): (Clock, u8), root: Hash) -> Self {
        let said = Operation::decode_with(&operation).ok().map(|(said, order)| Said {
            is_as_written: order.is_none() && said.encode() == operation,
            has_order: order.is_some(),
            operation: said,
        });
        Self { operation, said, first, count, root }
    }

    /// The encoded operation, in the exact bytes that its origin wrote.
    pub fn operation(&self) -> &Bytes {
        &self.operation
    }

    /// What that says; `None`: it does not decode, and proves nothing.
    pub fn says(&self) -> Option<&Operation> {
        self.said.as_ref().map(|said| &said.operation)
    }

    /// Whether it destroys, and no operator has signed it. Nothing has verified the order.
    pub fn lacks_order(&self) -> bool {
        self.said.as_ref().is_some_and(|said| said.operation.destroys() && !said.has_order)
    }

    /// What its bundle is found by.
    pub fn bundle_id(&self, origin: Origin) -> BundleId {
        let last = Clock(self.first.0.saturating_add(u64::from(self.count).saturating_sub(1)));
        BundleId { origin, last, count: self.count, root: self.root }
    }

    /// Whether that bundle has this operation at that place.
    pub fn is_in(&self, leaves: &Leaves, stamp: Stamp, key_hash: &[u8]) -> bool {
        let leaf = || bundle::leaf(stamp, key_hash, &self.operation);
        leaves.id(stamp.origin) == self.bundle_id(stamp.origin)
            && leaves.at(stamp.clock).is_some_and(|known| *known == leaf())
    }

    /// To the wire and the store, as part of a state that names the operation's stamp in this place. An operation that
    /// follows from the state is left out.
    pub(super) fn to_proto(&self, state: &RecordState, stamp: Stamp, place: u32) -> proto::Evidence {
        let said = self.said.as_ref().filter(|said| said.is_as_written).map(|said| &said.operation);
        let follows = said.is_some() && created(state, stamp).as_ref() == said;
        proto::Evidence {
            operation: if follows { Bytes::new() } else { self.operation.clone() },
            before: u32::try_from(stamp.clock.0.saturating_sub(self.first.0)).unwrap_or(u32::MAX),
            count: self.count.into(),
            root: Bytes::copy_from_slice(&self.root),
            place,
        }
    }

    /// Reads [`Evidence::to_proto`]; `None` = malformed.
    pub(super) fn from_proto(state: &RecordState, stamp: Stamp, evidence: proto::Evidence) -> Option<Self> {
        let proto::Evidence { operation, before, count, root, .. } = evidence;
        let first = Clock(stamp.clock.0.checked_sub(before.into())?);
        let count = u8::try_from(count).ok().filter(|count| is_count(*count))?;
        let is_well_formed = first.0 > 0
            && before < u32::from(count)
            && first.0.checked_add(count.into()).is_some()
            && operation.len() <= limits::OPERATION_MAX_BYTES;
        let root = root.as_ref().try_into().ok().filter(|_| is_well_formed)?;
        if !operation.is_empty() {
            return Some(Self::new(operation, (first, count), root));
        }
        let create = created(state, stamp)?;
        let operation = create.encode();
        let said = Said { operation: create, has_order: false, is_as_written: true };
        Some(Self { operation, said: Some(said), first, count, root })
    }

    fn parts(&self) -> (&Bytes, Clock, u8, &Hash) {
        (&self.operation, self.first, self.count, &self.root)
    }
}

// What it says follows from the bytes.
impl PartialEq for Evidence {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for Evidence {}

impl PartialOrd for Evidence {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Evidence {
    fn cmp(&self, other: &Self) -> Ordering {
        self.parts().cmp(&other.parts())
    }
}

impl std::fmt::Debug for Evidence {
    /// Never shows the operation.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Evidence")
            .field("first", &self.first)
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

/// The winning create as the state says it, if it is under that stamp. Its origin may have written other bytes.
fn created(state: &RecordState, stamp: Stamp) -> Option<Operation> {
    let creation = state.creation.as_ref().filter(|creation| creation.stamp == stamp)?;
    Some(Operation::Create {
        created_at: creation.created_at,
        expires_at: state.expires_at.filter(|_| state.expiry == Some(stamp)),
        public: state.unpublished_create != Some(stamp),
        digest: creation.digest,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::id::{Incarnation, sha256},
        domain::{bundle::Hash, codec},
    };

    const ROOT: Hash = [7; 32];

    fn stamp(clock: u64) -> Stamp {
        let origin = Origin::new(&"a".parse().unwrap(), Incarnation(1));
        Stamp { origin, clock: Clock(clock) }
    }

    fn proven(operation: &Operation, clock: u64, encoded: Bytes) -> RecordState {
        let mut state = operation.state(stamp(clock), Some(Bytes::from_static(b"p")));
        state.evidence = vec![(stamp(clock), Evidence::new(encoded, (Clock(2), 9), ROOT))];
        state
    }

    fn create(created_at: i64, expires_at: Option<i64>, public: bool) -> Operation {
        Operation::Create { created_at, expires_at, public, digest: sha256(b"p") }
    }

    #[test]
    fn a_create_that_follows_from_the_state_is_not_repeated_and_other_bytes_are() {
        for (expires_at, public) in [(None, true), (Some(9), true), (None, false), (Some(9), false)] {
            let operation = create(1, expires_at, public);
            let state = proven(&operation, 3, operation.encode());
            let sent = codec::state_to_proto(&state);
            assert_eq!(sent.evidence[0].operation, Bytes::new(), "{operation:?}");
            assert_eq!(codec::state_from_proto(sent), Ok(state.clone()));
            // What a later version writes.
            let other = [&operation.encode()[..], &[0x78, 1]].concat();
            let state = proven(&operation, 3, other.clone().into());
            let sent = codec::state_to_proto(&state);
            assert_eq!(sent.evidence[0].operation, other);
            assert_eq!(codec::state_from_proto(sent), Ok(state));
        }
    }

    #[test]
    fn what_other_operations_have_changed_is_written_in_full() {
        let (first, second) = (create(1, Some(90), true), create(2, Some(50), true));
        let joined = proven(&first, 3, first.encode()).join(proven(&second, 4, second.encode()));
        assert_eq!((joined.expires_at, joined.evidence.len()), (Some(50), 2));
        let sent = codec::state_to_proto(&joined);
        assert!(sent.evidence.iter().all(|evidence| !evidence.operation.is_empty()), "{sent:?}");
        assert_eq!(codec::state_from_proto(sent), Ok(joined));
    }

    #[test]
    fn evidence_without_an_operation_of_a_state_without_a_create_is_malformed() {
        let state = RecordState { deletion: Some(stamp(3)), ..RecordState::default() };
        let evidence = proto::Evidence {
            count: 1,
            root: Bytes::copy_from_slice(&ROOT),
            before: 0,
            place: 0,
            operation: Bytes::new(),
        };
        let sent = proto::RecordState { evidence: vec![evidence.clone()], ..codec::state_to_proto(&state) };
        assert!(codec::state_from_proto(sent).is_err());
        let operation = Operation::Delete.encode();
        for evidence in [
            proto::Evidence { before: 1, operation: operation.clone(), ..evidence.clone() },
            proto::Evidence { count: 0, operation: operation.clone(), ..evidence.clone() },
            proto::Evidence { count: 65, operation: operation.clone(), ..evidence.clone() },
            proto::Evidence { root: Bytes::from_static(b"short"), operation, ..evidence },
        ] {
            let sent = proto::RecordState { evidence: vec![evidence], ..codec::state_to_proto(&state) };
            assert!(codec::state_from_proto(sent.clone()).is_err(), "{sent:?}");
        }
    }
}
