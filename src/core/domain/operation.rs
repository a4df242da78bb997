//! Operations: the only things that are logged and replicated.

use bytes::Bytes;
use prost::Message;

use super::{
    order::OrderProof,
    record::{Creation, Invalidation, PayloadDigest, RecordState, UnixSeconds},
};
use crate::{
    base::{
        id::{KeyHash, sha256},
        limits,
        vector::{Clock, Stamp},
    },
    proto,
};

/// One change to a key hash, without the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Creates the record.
    Create {
        /// When, by the origin's clock.
        created_at: UnixSeconds,
        /// When it expires; `None` = never.
        expires_at: Option<UnixSeconds>,
        /// Whether it may be used without authentication.
        public: bool,
        /// SHA-256 of its payload.
        digest: PayloadDigest,
    },
    /// The record must not be used any more.
    Invalidate {
        /// When, by the origin's clock.
        at: UnixSeconds,
        /// Why.
        reason: String,
    },
    /// The record is not public any more.
    Unpublish,
    /// Deletes the record for ever.
    Delete,
}

/// An operation as it stands in the log: its place, and the exact bytes that its origin wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number at its origin.
    pub clock: Clock,
    /// What it changes.
    pub key_hash: KeyHash,
    /// The encoded operation, verbatim.
    pub encoded: Bytes,
    /// The operation.
    pub operation: Operation,
    /// The operator's signature in those bytes. Nothing has verified it yet.
    pub order: Option<OrderProof>,
}

/// Why an entry cannot be applied. It is then quarantined. Never quotes what the entry carries.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// The key hash has the wrong length.
    #[error("the key hash is {0} bytes instead of 32")]
    KeyHash(usize),
    /// The operation is larger than any of a known kind.
    #[error("the operation is {0} bytes, more than the {max} that are kept", max = limits::OPERATION_MAX_BYTES)]
    OperationSize(usize),
    /// The operation is not protobuf.
    #[error("the operation does not decode")]
    Undecodable,
    /// The operation is of a kind that this version does not know.
    #[error("operation kind {0} is not known to this version")]
    UnknownKind(i32),
    /// A field has a value that no origin writes.
    #[error("the operation's {0} is not valid")]
    Field(&'static str),
    /// The payload is larger than any node accepts.
    #[error("the payload is {0} bytes, more than the {max} that any node accepts", max = limits::PAYLOAD_MAX_BYTES)]
    PayloadSize(usize),
    /// The payload does not match the operation's digest.
    #[error("the payload does not match the operation's digest")]
    PayloadDigest,
    /// The payload is not protobuf, or the operation has none.
    #[error("the payload does not belong to the operation")]
    Payload,
}

impl Operation {
    /// The bytes in the log, of an operation without an order.
    pub fn encode(&self) -> Bytes {
        self.encode_with(None)
    }

    /// The bytes in the log.
    pub fn encode_with(&self, order: Option<&OrderProof>) -> Bytes {
        use proto::operation::Kind;
        let operation = match self {
            Self::Create { created_at, expires_at, public, digest } => proto::Operation {
                kind: Kind::Create.into(),
                at_unix: *created_at,
                expires_at_unix: expires_at.unwrap_or_default(),
                public: *public,
                payload_digest: Bytes::copy_from_slice(digest),
                ..Default::default()
            },
            Self::Invalidate { at, reason } => proto::Operation {
                kind: Kind::Invalidate.into(),
                at_unix: *at,
                reason: reason.clone(),
                ..Default::default()
            },
            Self::Unpublish => proto::Operation { kind: Kind::Unpublish.into(), ..Default::default() },
            Self::Delete => proto::Operation { kind: Kind::Delete.into(), ..Default::default() },
        };
        proto::Operation { order: order.map(OrderProof::to_proto), ..operation }.encode_to_vec().into()
    }

    /// Reads bytes of the log, and refuses operations that no origin writes.
    pub fn decode(bytes: &[u8]) -> Result<Self, EntryError> {
        Ok(Self::decode_with(bytes)?.0)
    }

    /// The same, and the operator's signature. Nothing has verified that.
    pub fn decode_with(bytes: &[u8]) -> Result<(Self, Option<OrderProof>), EntryError> {
        use proto::operation::Kind;
        if bytes.len() > limits::OPERATION_MAX_BYTES {
            return Err(EntryError::OperationSize(bytes.len()));
        }
        let operation = proto::Operation::decode(bytes).map_err(|_| EntryError::Undecodable)?;
        let order = operation.order.as_ref().map(OrderProof::from_proto).transpose()?;
        let decoded = match operation.kind() {
            Kind::Create if order.is_some() => Err(EntryError::Field("order")),
            Kind::Create => Ok(Self::Create {
                created_at: operation.at_unix,
                expires_at: match operation.expires_at_unix {
                    0 => None,
                    at if at > 0 => Some(at),
                    _ => return Err(EntryError::Field("expires_at_unix")),
                },
                public: operation.public,
                digest: operation
                    .payload_digest
                    .as_ref()
                    .try_into()
                    .map_err(|_| EntryError::Field("payload_digest"))?,
            }),
            Kind::Invalidate
                if operation.reason.is_empty() || operation.reason.len() > limits::REASON_MAX_BYTES =>
            {
                Err(EntryError::Field("reason"))
            }
            // The order is of then, or names the earlier time.
            Kind::Invalidate if order.as_ref().is_some_and(|order| order.at() < operation.at_unix) => {
                Err(EntryError::Field("at_unix"))
            }
            Kind::Invalidate => Ok(Self::Invalidate { at: operation.at_unix, reason: operation.reason }),
            Kind::Unpublish => Ok(Self::Unpublish),
            Kind::Delete => Ok(Self::Delete),
            Kind::Unspecified => Err(EntryError::UnknownKind(operation.kind)),
        };
        Ok((decoded?, order))
    }

    /// Whether it takes something away from the users of a record.
    pub fn destroys(&self) -> bool {
        !matches!(self, Self::Create { .. })
    }

    /// The state that this operation alone makes.
    pub fn state(&self, stamp: Stamp, payload: Option<Bytes>) -> RecordState {
        let nothing = RecordState::default();
        match self {
            Self::Create { created_at, expires_at, public, digest } => RecordState {
                creation: Some(Creation { created_at: *created_at, digest: *digest, stamp, payload }),
                expires_at: *expires_at,
                expiry: expires_at.map(|_| stamp),
                unpublished: !public,
                unpublished_create: (!public).then_some(stamp),
                ..nothing
            },
            Self::Invalidate { at, reason } => {
                let invalidation = Invalidation { at: *at, reason: reason.clone(), stamp };
                RecordState { invalidation: Some(invalidation), ..nothing }
            }
            Self::Unpublish => RecordState { unpublished: true, unpublication: Some(stamp), ..nothing },
            Self::Delete => RecordState { deletion: Some(stamp), ..nothing },
        }
    }

    /// Its name, as commands and receipts have it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Create { .. } => "create",
            Self::Invalidate { .. } => "invalidate",
            Self::Unpublish => "unpublish",
            Self::Delete => "delete",
        }
    }

    /// The record state in the key of a log entry, as badgerauth's schema has it.
    pub fn resulting_state(&self) -> proto::record::State {
        match self {
            Self::Create { .. } | Self::Unpublish => proto::record::State::Created,
            Self::Invalidate { .. } => proto::record::State::Invalidated,
            Self::Delete => proto::record::State::Deleted,
        }
    }
}

/// Checks an entry from a peer, which may be hostile.
pub fn check_entry(entry: &proto::Entry) -> Result<(Entry, Option<Bytes>), EntryError> {
    let key_hash =
        KeyHash::try_from(entry.key_hash.as_ref()).map_err(|_| EntryError::KeyHash(entry.key_hash.len()))?;
    let (operation, order) = Operation::decode_with(&entry.operation)?;
    if let Some(payload) = &entry.payload {
        check_payload(&operation, payload)?;
    }
    let (clock, encoded) = (Clock(entry.clock), entry.operation.clone());
    let checked = Entry { clock, key_hash, encoded, operation, order };
    Ok((checked, entry.payload.clone()))
}

/// Whether an entry has a payload that its operation does not name. The operation is signed and its payload is not, so
/// that is its sender's work.
pub fn has_foreign_payload(entry: &proto::Entry) -> bool {
    let Some(payload) = &entry.payload else { return false };
    match Operation::decode(&entry.operation) {
        Ok(Operation::Create { digest, .. }) => sha256(payload) != digest,
        Ok(_) => true,
        // Perhaps another version knows what belongs to it.
        Err(_) => false,
    }
}

fn check_payload(operation: &Operation, payload: &[u8]) -> Result<(), EntryError> {
    let Operation::Create { digest, .. } = operation else {
        return Err(EntryError::Payload);
    };
    if payload.len() > limits::PAYLOAD_MAX_BYTES {
        return Err(EntryError::PayloadSize(payload.len()));
    }
    if sha256(payload) != *digest {
        return Err(EntryError::PayloadDigest);
    }
    proto::Payload::decode(payload).map_err(|_| EntryError::Payload)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Just, Strategy, any, prop_assert_eq, prop_oneof, proptest};

    use super::*;

    fn operation() -> impl Strategy<Value = Operation> {
        let create = (any::<i64>(), proptest::option::of(1..i64::MAX), any::<bool>(), any::<[u8; 32]>())
            .prop_map(|(created_at, expires_at, public, digest)| Operation::Create {
                created_at,
                expires_at,
                public,
                digest,
            });
        let invalidate =
            (any::<i64>(), ".{1,20}").prop_map(|(at, reason)| Operation::Invalidate { at, reason });
        prop_oneof![create, invalidate, Just(Operation::Unpublish), Just(Operation::Delete)]
    }

    proptest! {
        #[test]
        fn operations_round_trip(operation in operation()) {
            prop_assert_eq!(Operation::decode(&operation.encode()), Ok(operation));
        }

        #[test]
        fn decoding_never_panics(bytes in any::<Vec<u8>>()) {
            let _ = Operation::decode(&bytes);
        }
    }

    #[test]
    fn entries_that_no_origin_writes_are_refused() {
        let payload = Bytes::from(proto::Payload::default().encode_to_vec());
        let create =
            Operation::Create { created_at: 1, expires_at: None, public: true, digest: sha256(&payload) };
        let good = proto::Entry {
            clock: 1,
            key_hash: vec![7; 32].into(),
            operation: create.encode(),
            payload: Some(payload),
        };
        assert!(check_entry(&good).is_ok());
        let check = |change: &dyn Fn(&mut proto::Entry)| {
            let mut entry = good.clone();
            change(&mut entry);
            check_entry(&entry).unwrap_err()
        };
        assert_eq!(check(&|e| e.key_hash = vec![7; 31].into()), EntryError::KeyHash(31));
        assert_eq!(check(&|e| e.operation = vec![0xff; 9].into()), EntryError::Undecodable);
        assert_eq!(check(&|e| e.operation = vec![0; 9000].into()), EntryError::OperationSize(9000));
        assert_eq!(check(&|e| e.operation = Bytes::new()), EntryError::UnknownKind(0));
        assert_eq!(check(&|e| e.operation = vec![8, 9].into()), EntryError::UnknownKind(9));
        assert_eq!(check(&|e| e.payload = Some(vec![1].into())), EntryError::PayloadDigest);
        assert_eq!(check(&|e| e.operation = Operation::Delete.encode()), EntryError::Payload);
        let large = vec![0; limits::PAYLOAD_MAX_BYTES + 1];
        assert_eq!(check(&|e| e.payload = Some(large.clone().into())), EntryError::PayloadSize(large.len()));
        let endless = Operation::Invalidate { at: 1, reason: "x".repeat(1025) };
        assert_eq!(Operation::decode(&endless.encode()), Err(EntryError::Field("reason")));
    }
}
