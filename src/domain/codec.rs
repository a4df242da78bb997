//! The bytes of every key and value in the store, and the conversions to and from the wire.
//!
//! Keys are fixed-width and big-endian, so that byte order is the order that scans want. Every
//! value begins with a format version. The golden tests below pin both.

use bytes::Bytes;
use prost::Message;

use super::record::{Creation, Invalidation, PayloadDigest, RecordState, UnixSeconds};
use crate::{
    ground::{
        clock::{Clock, Stamp, Vector},
        id::{IdError, KeyHash, Origin},
        limits,
    },
    proto,
};

/// The first byte of every value that this version writes.
pub const VALUE_VERSION: u8 = 1;

/// The state in the key of a log entry that is quarantined.
pub const QUARANTINED_STATE: i32 = -1;

/// Bytes on disk or on the wire that are not what they must be. Never quotes them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// A value is empty.
    #[error("a {0} has no bytes at all")]
    Empty(&'static str),
    /// A value has a format version that this binary does not know.
    #[error("a {what} has format version {version}; this version of brock reads {VALUE_VERSION}")]
    Version {
        /// What was read.
        what: &'static str,
        /// The version found.
        version: u8,
    },
    /// The bytes are not of the right form.
    #[error("a {0} does not decode")]
    Malformed(&'static str),
    /// A vector lists more origins than are allowed.
    #[error("a vector lists {0} origins, more than the {max} that are allowed", max = limits::VECTOR_MAX_ORIGINS)]
    VectorSize(usize),
}

/// Prefixes a value with its format version.
pub fn versioned(body: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(1 + body.len());
    value.push(VALUE_VERSION);
    value.extend_from_slice(body);
    value
}

/// Strips and checks the format version of a value.
pub fn unversioned<'a>(what: &'static str, value: &'a [u8]) -> Result<&'a [u8], CodecError> {
    match value.split_first() {
        Some((&VALUE_VERSION, body)) => Ok(body),
        Some((&version, _)) => Err(CodecError::Version { what, version }),
        None => Err(CodecError::Empty(what)),
    }
}

/// A clock value: version, then 8 bytes.
pub fn encode_clock(clock: Clock) -> [u8; 9] {
    let mut value = [VALUE_VERSION; 9];
    value[1..].copy_from_slice(&clock.0.to_be_bytes());
    value
}

/// Reads [`encode_clock`].
pub fn decode_clock(value: &[u8]) -> Result<Clock, CodecError> {
    let body = unversioned("clock value", value)?;
    let bytes = body.try_into().map_err(|_| CodecError::Malformed("clock value"))?;
    Ok(Clock(u64::from_be_bytes(bytes)))
}

/// The key of a replication log entry: origin (32), clock (8), key hash (32), state (4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogKey {
    /// Where the operation was made, and its number there.
    pub stamp: Stamp,
    /// What it changes.
    pub key_hash: KeyHash,
    /// The state it results in, or [`QUARANTINED_STATE`].
    pub state: i32,
}

impl LogKey {
    /// The length of every log key.
    pub const BYTES: usize = 76;

    /// The 76 bytes.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut key = [0; Self::BYTES];
        key[..40].copy_from_slice(&stamp_key(self.stamp));
        key[40..72].copy_from_slice(&self.key_hash.0);
        key[72..].copy_from_slice(&self.state.to_be_bytes());
        key
    }

    /// Reads [`LogKey::encode`].
    pub fn decode(key: &[u8]) -> Result<Self, CodecError> {
        let malformed = CodecError::Malformed("replication log key");
        if key.len() != Self::BYTES {
            return Err(malformed);
        }
        let (stamp, rest) = key.split_at(40);
        let (key_hash, state) = rest.split_at(32);
        Ok(Self {
            stamp: decode_stamp_key(stamp)?,
            key_hash: KeyHash::try_from(key_hash).map_err(|_| malformed.clone())?,
            state: i32::from_be_bytes(state.try_into().map_err(|_| malformed)?),
        })
    }
}

/// Origin (32) and clock (8): the prefix of a log key, and the key of a quarantined entry.
pub fn stamp_key(stamp: Stamp) -> [u8; 40] {
    let mut key = [0; 40];
    key[..32].copy_from_slice(stamp.origin.as_bytes());
    key[32..].copy_from_slice(&stamp.clock.0.to_be_bytes());
    key
}

/// Reads [`stamp_key`].
pub fn decode_stamp_key(key: &[u8]) -> Result<Stamp, CodecError> {
    let malformed = CodecError::Malformed("origin and clock");
    let (origin, clock) = key.split_at_checked(32).ok_or(malformed.clone())?;
    Ok(Stamp {
        origin: Origin::try_from(origin).map_err(|_| malformed.clone())?,
        clock: Clock(u64::from_be_bytes(clock.try_into().map_err(|_| malformed)?)),
    })
}

/// The key of the expiry index: when (8), then key hash (32).
pub fn expiry_key(at: UnixSeconds, key_hash: &KeyHash) -> [u8; 40] {
    let mut key = [0; 40];
    key[..8].copy_from_slice(&at.to_be_bytes());
    key[8..].copy_from_slice(&key_hash.0);
    key
}

/// Reads [`expiry_key`].
pub fn decode_expiry_key(key: &[u8]) -> Result<(UnixSeconds, KeyHash), CodecError> {
    let malformed = CodecError::Malformed("expiry key");
    let (at, key_hash) = key.split_at_checked(8).ok_or(malformed.clone())?;
    Ok((
        i64::from_be_bytes(at.try_into().map_err(|_| malformed.clone())?),
        KeyHash::try_from(key_hash).map_err(|_| malformed)?,
    ))
}

/// A record's value in the store.
pub fn encode_state(state: &RecordState) -> Vec<u8> {
    let message = state_to_proto(state);
    let mut value = Vec::with_capacity(1 + message.encoded_len());
    value.push(VALUE_VERSION);
    // A Vec grows as needed: this cannot fail.
    let _ = message.encode(&mut value);
    value
}

/// Reads [`encode_state`]. The payload shares the memory of `value`.
pub fn decode_state(value: Bytes) -> Result<RecordState, CodecError> {
    unversioned("record", &value)?;
    let message =
        proto::RecordState::decode(value.slice(1..)).map_err(|_| CodecError::Malformed("record"))?;
    state_from_proto(message)
}

/// To the wire.
pub fn state_to_proto(state: &RecordState) -> proto::RecordState {
    proto::RecordState {
        creation: state.creation.as_ref().map(|creation| proto::record_state::Creation {
            created_at_unix: creation.created_at,
            payload_digest: Bytes::copy_from_slice(&creation.digest),
            stamp: Some(stamp_to_proto(creation.stamp)),
            payload: creation.payload.clone(),
        }),
        expires_at_unix: state.expires_at.unwrap_or_default(),
        unpublished: state.unpublished,
        invalidation: state.invalidation.as_ref().map(|invalidation| proto::record_state::Invalidation {
            at_unix: invalidation.at,
            reason: invalidation.reason.clone(),
        }),
        deletion: state.deletion.map(stamp_to_proto),
    }
}

/// From the wire or the store. Does not check that a payload matches its digest.
pub fn state_from_proto(state: proto::RecordState) -> Result<RecordState, CodecError> {
    let malformed = CodecError::Malformed("record");
    let creation = match state.creation {
        None => None,
        Some(creation) => Some(Creation {
            created_at: creation.created_at_unix,
            digest: PayloadDigest::try_from(creation.payload_digest.as_ref())
                .map_err(|_| malformed.clone())?,
            stamp: stamp_from_proto(&creation.stamp.ok_or(malformed.clone())?)
                .map_err(|_| malformed.clone())?,
            payload: creation.payload,
        }),
    };
    Ok(RecordState {
        creation,
        expires_at: (state.expires_at_unix != 0).then_some(state.expires_at_unix),
        unpublished: state.unpublished,
        invalidation: state
            .invalidation
            .map(|invalidation| Invalidation { at: invalidation.at_unix, reason: invalidation.reason }),
        deletion: state.deletion.as_ref().map(stamp_from_proto).transpose().map_err(|_| malformed)?,
    })
}

/// To the wire.
pub fn stamp_to_proto(stamp: Stamp) -> proto::Stamp {
    proto::Stamp { origin: Bytes::copy_from_slice(stamp.origin.as_bytes()), clock: stamp.clock.0 }
}

/// From the wire.
pub fn stamp_from_proto(stamp: &proto::Stamp) -> Result<Stamp, IdError> {
    Ok(Stamp { origin: Origin::try_from(stamp.origin.as_ref())?, clock: Clock(stamp.clock) })
}

/// To the wire.
pub fn vector_to_proto(vector: &Vector) -> proto::Vector {
    proto::Vector {
        clocks: vector.iter().map(|(origin, clock)| stamp_to_proto(Stamp { origin, clock })).collect(),
    }
}

/// From the wire. An origin listed twice counts with its highest clock.
pub fn vector_from_proto(vector: &proto::Vector) -> Result<Vector, CodecError> {
    if vector.clocks.len() > limits::VECTOR_MAX_ORIGINS {
        return Err(CodecError::VectorSize(vector.clocks.len()));
    }
    vector
        .clocks
        .iter()
        .map(|stamp| stamp_from_proto(stamp).map(|stamp| (stamp.origin, stamp.clock)))
        .collect::<Result<_, _>>()
        .map_err(|_| CodecError::Malformed("vector"))
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::*;
    use crate::{domain::operation::Operation, ground::id::Incarnation};

    fn stamp(clock: u64) -> Stamp {
        Stamp {
            origin: Origin::new(&"eu1-1".parse().unwrap(), Incarnation(0x0102_0304)),
            clock: Clock(clock),
        }
    }

    const ORIGIN_HEX: &str = "6575312d31000000000000000000000000000000000000000000000001020304";

    #[test]
    fn the_bytes_on_disk_are_these() {
        let hash = KeyHash([0xab; 32]);
        let log_key = LogKey { stamp: stamp(258), key_hash: hash, state: 1 };
        assert_eq!(
            HEXLOWER.encode(&log_key.encode()),
            format!("{ORIGIN_HEX}0000000000000102{}00000001", "ab".repeat(32))
        );
        assert_eq!(HEXLOWER.encode(&stamp_key(stamp(1))), format!("{ORIGIN_HEX}0000000000000001"));
        assert_eq!(HEXLOWER.encode(&encode_clock(Clock(258))), "010000000000000102");
        assert_eq!(
            HEXLOWER.encode(&expiry_key(1_700_000_000, &hash)),
            format!("000000006553f100{}", "ab".repeat(32))
        );
        let create =
            Operation::Create { created_at: 1, expires_at: Some(2), public: true, digest: [0xcd; 32] };
        assert_eq!(HEXLOWER.encode(&create.encode()), format!("08011001180220012a20{}", "cd".repeat(32)));
        let state = RecordState {
            creation: Some(Creation {
                created_at: 1,
                digest: [0xcd; 32],
                stamp: stamp(3),
                payload: Some(Bytes::from_static(b"p")),
            }),
            expires_at: Some(2),
            unpublished: true,
            invalidation: Some(Invalidation { at: 4, reason: "r".into() }),
            deletion: None,
        };
        let golden = format!(
            "010a4d08011220{}1a240a20{ORIGIN_HEX}1003220170100218012205080412{}",
            "cd".repeat(32),
            "0172"
        );
        assert_eq!(HEXLOWER.encode(&encode_state(&state)), golden);
        assert_eq!(decode_state(HEXLOWER.decode(golden.as_bytes()).unwrap().into()), Ok(state));
        let tombstone = RecordState { deletion: Some(stamp(3)), ..RecordState::default() };
        assert_eq!(HEXLOWER.encode(&encode_state(&tombstone)), format!("012a240a20{ORIGIN_HEX}1003"));
    }

    #[test]
    fn an_unknown_format_version_is_refused_by_name() {
        assert_eq!(
            decode_state(Bytes::from_static(&[2, 0])),
            Err(CodecError::Version { what: "record", version: 2 })
        );
        assert_eq!(decode_clock(&[]), Err(CodecError::Empty("clock value")));
        assert_eq!(decode_clock(&[1, 0]), Err(CodecError::Malformed("clock value")));
    }

    proptest! {
        #[test]
        fn log_keys_round_trip_and_sort_by_origin_then_clock(
            a in any::<u64>(), b in any::<u64>(), hash_a in any::<[u8; 32]>(), hash_b in any::<[u8; 32]>(),
            state in any::<i32>(),
        ) {
            let key = LogKey { stamp: stamp(a), key_hash: KeyHash(hash_a), state };
            prop_assert_eq!(LogKey::decode(&key.encode()), Ok(key));
            let other = LogKey { stamp: stamp(b), key_hash: KeyHash(hash_b), state };
            if a != b {
                prop_assert_eq!(key.encode() < other.encode(), a < b);
            }
        }

        #[test]
        fn expiry_keys_round_trip_and_sort_by_time(a in 0..i64::MAX, b in 0..i64::MAX, hash in any::<[u8; 32]>()) {
            let key = expiry_key(a, &KeyHash(hash));
            prop_assert_eq!(decode_expiry_key(&key), Ok((a, KeyHash(hash))));
            if a != b {
                prop_assert_eq!(key < expiry_key(b, &KeyHash(hash)), a < b);
            }
        }

        #[test]
        fn decoding_never_panics(bytes in any::<Vec<u8>>()) {
            let _ = (decode_state(bytes.clone().into()), decode_clock(&bytes), LogKey::decode(&bytes));
            let _ = (decode_expiry_key(&bytes), decode_stamp_key(&bytes));
            let _ = decode_state(versioned(&bytes).into());
        }
    }
}
