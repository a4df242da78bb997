//! The bytes of every key and value in the store, and the conversions to and from the wire.
//!
//! Keys are fixed-width and big-endian, so that byte order is the order that scans want. Every
//! value begins with a format version. The golden tests below pin both.

use bytes::Bytes;
use prost::Message;

use super::{
    bundle::{Bundle, Hash, Tip},
    digest::{Bucket, Counts, Sum},
    evidence::Evidence,
    leaves::BundleId,
    proofs::EvidenceList,
    record::{Creation, Invalidation, PayloadDigest, RecordState, UnixSeconds},
};
use crate::{
    base::{
        id::{IdError, KeyHash, Origin, sha256},
        limits,
        vector::{Clock, Stamp, Vector},
    },
    proto,
};

/// The first byte of every value that this version writes.
pub const VALUE_VERSION: u8 = 1;

/// The bytes before the operation in a log entry's value: version and time.
pub const LOG_VALUE_HEAD_BYTES: usize = 9;

/// The state in the key of a log entry that is quarantined.
pub const QUARANTINED_STATE: i32 = -1;

/// Malformed bytes on disk or on the wire. Never quotes them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// A value is empty.
    #[error("a {0} has no bytes at all")]
    Empty(&'static str),
    /// A value has a format version that this program does not know.
    #[error("a {what} has format version {version}; this version of brock reads {VALUE_VERSION}")]
    Version {
        /// The kind of value.
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

/// What is applied of an origin: the clock, then the last bundle up to there, if it is known.
pub fn encode_head(clock: Clock, tip: Option<&Tip>) -> Vec<u8> {
    let mut value = encode_clock(clock).to_vec();
    if let Some(tip) = tip {
        value.extend_from_slice(&bundle_bytes(&tip.bundle));
        value.extend_from_slice(&tip.root);
    }
    value
}

/// Reads [`encode_head`].
pub fn decode_head(value: &[u8]) -> Result<(Clock, Option<Tip>), CodecError> {
    let malformed = CodecError::Malformed("clock value");
    match value.split_at_checked(9) {
        Some((clock, [])) => Ok((decode_clock(clock)?, None)),
        Some((clock, tip)) => {
            let (bundle, root) = tip.split_last_chunk::<32>().ok_or(malformed.clone())?;
            let bundle = bundle_from(bundle).ok_or(malformed)?;
            Ok((decode_clock(clock)?, Some(Tip { bundle, root: *root })))
        }
        None => Ok((decode_clock(value)?, None)),
    }
}

/// A bundle's value: first clock (8), count (1), hash of the log before it (32), signature (64), root (32), and the
/// hashes of its operations (32 each), unless it has one only, whose hash is the root.
pub fn encode_bundle(tip: &Tip, hashes: &[Hash]) -> Vec<u8> {
    let hashes = if hashes.len() > 1 { hashes.as_flattened() } else { &[] };
    versioned(&[&bundle_bytes(&tip.bundle)[..], &tip.root, hashes].concat())
}

/// Reads the bundle of [`encode_bundle`].
pub fn decode_bundle(value: &[u8]) -> Result<Tip, CodecError> {
    Ok(decode_hashes(value)?.0)
}

/// Reads [`encode_bundle`].
pub fn decode_hashes(value: &[u8]) -> Result<(Tip, &[Hash]), CodecError> {
    let malformed = || CodecError::Malformed("bundle");
    let body = unversioned("bundle", value)?;
    let (bundle, rest) = body.split_first_chunk::<BUNDLE_BYTES>().ok_or_else(malformed)?;
    let bundle = bundle_from(bundle).ok_or_else(malformed)?;
    let (all, []) = rest.as_chunks::<32>() else { return Err(malformed()) };
    let (root, hashes) = all.split_first().ok_or_else(malformed)?;
    let hashes = if bundle.count == 1 { &all[..1] } else { hashes };
    Ok((Tip { bundle, root: *root }, hashes))
}

const BUNDLE_BYTES: usize = 8 + 1 + 32 + 64;

/// The key of a bundle that is kept apart from its log: origin (32), clock of its last operation (8), how many it has
/// (1), root (32).
pub fn bundle_key(id: &BundleId) -> [u8; 73] {
    let mut key = [0; 73];
    key[..40].copy_from_slice(&stamp_key(Stamp { origin: id.origin, clock: id.last }));
    key[40] = id.count;
    key[41..].copy_from_slice(&id.root);
    key
}

/// Reads [`bundle_key`].
pub fn decode_bundle_key(key: &[u8]) -> Result<BundleId, CodecError> {
    let malformed = || CodecError::Malformed("key of a bundle");
    let (rest, root) = key.split_last_chunk::<32>().ok_or_else(malformed)?;
    let (count, stamp) = rest.split_last().ok_or_else(malformed)?;
    let Stamp { origin, clock: last } = decode_stamp_key(stamp)?;
    Ok(BundleId { origin, last, count: *count, root: *root })
}

fn bundle_bytes(bundle: &Bundle) -> Vec<u8> {
    let Bundle { first, count, before, signature } = bundle;
    [&first.0.to_be_bytes()[..], &[*count], before, signature].concat()
}

fn bundle_from(bytes: &[u8]) -> Option<Bundle> {
    let (first, rest) = bytes.split_first_chunk::<8>()?;
    let (count, rest) = rest.split_first()?;
    let (before, signature) = rest.split_first_chunk::<32>()?;
    let signature = signature.try_into().ok()?;
    Some(Bundle { first: Clock(u64::from_be_bytes(*first)), count: *count, before: *before, signature })
}

/// The value of a log entry: when it was applied here, the operation as its origin wrote it.
pub fn encode_log_value(applied_unix_ms: u64, operation: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(LOG_VALUE_HEAD_BYTES + operation.len());
    value.push(VALUE_VERSION);
    value.extend_from_slice(&applied_unix_ms.to_be_bytes());
    value.extend_from_slice(operation);
    value
}

/// Reads [`encode_log_value`].
pub fn decode_log_value(value: Bytes) -> Result<(u64, Bytes), CodecError> {
    let body = unversioned("log entry", &value)?;
    let (time, _) = body.split_first_chunk::<8>().ok_or(CodecError::Malformed("log entry"))?;
    Ok((u64::from_be_bytes(*time), value.slice(LOG_VALUE_HEAD_BYTES..)))
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

/// A bucket's value in the store: two digests and four counts.
pub fn encode_bucket(bucket: &Bucket) -> Vec<u8> {
    let Counts { records, tombstones, conflicts, unproven } = bucket.counts;
    let counts = [records, tombstones, conflicts, unproven].map(u64::to_be_bytes).concat();
    versioned(&[&bucket.records.to_bytes()[..], &bucket.tombstones.to_bytes(), &counts].concat())
}

/// Reads [`encode_bucket`].
pub fn decode_bucket(value: &[u8]) -> Result<Bucket, CodecError> {
    let malformed = CodecError::Malformed("bucket");
    let body = unversioned("bucket", value)?;
    let (records, rest) = body.split_first_chunk::<32>().ok_or(malformed.clone())?;
    let (tombstones, counts) = rest.split_first_chunk::<32>().ok_or(malformed.clone())?;
    let ([one, two, three, four], []) = counts.as_chunks::<8>() else { return Err(malformed) };
    let [records_count, tombstones_count, conflicts, unproven] =
        [one, two, three, four].map(|bytes| u64::from_be_bytes(*bytes));
    Ok(Bucket {
        records: Sum::from_bytes(records),
        tombstones: Sum::from_bytes(tombstones),
        counts: Counts { records: records_count, tombstones: tombstones_count, conflicts, unproven },
    })
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
    // By its place among the stamps that the state names anyway: a stamp takes 45 bytes.
    let places = places(state);
    let evidence = state.evidence.iter().filter_map(|(stamp, evidence)| {
        let place = places.binary_search(stamp).ok()?.try_into().ok()?;
        Some(evidence.to_proto(state, *stamp, place))
    });
    proto::RecordState { evidence: evidence.collect(), ..unproven_to_proto(state) }
}

/// The stamps that a state names, in order, and each once.
fn places(state: &RecordState) -> Vec<Stamp> {
    let mut stamps: Vec<Stamp> = state.stamps().collect();
    stamps.sort_unstable();
    stamps.dedup();
    stamps
}

/// The same without its evidence.
pub(super) fn unproven_to_proto(state: &RecordState) -> proto::RecordState {
    proto::RecordState {
        creation: state.creation.as_ref().map(creation_to_proto),
        expires_at_unix: state.expires_at.unwrap_or_default(),
        unpublished: state.unpublished,
        invalidation: state.invalidation.as_ref().map(|invalidation| proto::record_state::Invalidation {
            at_unix: invalidation.at,
            reason: invalidation.reason.clone(),
            stamp: Some(stamp_to_proto(invalidation.stamp)),
        }),
        deletion: state.deletion.map(stamp_to_proto),
        losers: state.losers.iter().map(creation_to_proto).collect(),
        unpublication: state.unpublication.map(stamp_to_proto),
        was_created: state.was_created,
        expiry: state.expiry.map(stamp_to_proto),
        unpublished_create: state.unpublished_create.map(stamp_to_proto),
        evidence: Vec::new(),
    }
}

fn creation_to_proto(creation: &Creation) -> proto::record_state::Creation {
    proto::record_state::Creation {
        created_at_unix: creation.created_at,
        payload_digest: Bytes::copy_from_slice(&creation.digest),
        stamp: Some(stamp_to_proto(creation.stamp)),
        payload: creation.payload.clone(),
    }
}

/// From the wire or the store. Does not check whether a payload matches its digest.
pub fn state_from_proto(state: proto::RecordState) -> Result<RecordState, CodecError> {
    let stamp = |stamp: &proto::Stamp| stamp_from_proto(stamp).map_err(|_| CodecError::Malformed("record"));
    let invalidation = match state.invalidation {
        None => None,
        Some(invalidation) => Some(Invalidation {
            at: invalidation.at_unix,
            reason: invalidation.reason,
            stamp: stamp(&invalidation.stamp.ok_or(CodecError::Malformed("record"))?)?,
        }),
    };
    if state.losers.len() > limits::LOSERS_MAX {
        return Err(CodecError::Malformed("record"));
    }
    if state.evidence.len() > limits::EVIDENCE_MAX {
        return Err(CodecError::Malformed("record"));
    }
    let bare = RecordState {
        creation: state.creation.map(creation_from_proto).transpose()?,
        losers: state.losers.into_iter().map(creation_from_proto).collect::<Result<_, _>>()?,
        expires_at: (state.expires_at_unix != 0).then_some(state.expires_at_unix),
        unpublished: state.unpublished,
        unpublication: state.unpublication.as_ref().map(stamp).transpose()?,
        invalidation,
        deletion: state.deletion.as_ref().map(stamp).transpose()?,
        was_created: state.was_created,
        expiry: state.expiry.as_ref().map(stamp).transpose()?,
        unpublished_create: state.unpublished_create.as_ref().map(stamp).transpose()?,
        evidence: EvidenceList::new(),
    };
    let places = places(&bare);
    let evidence = state.evidence.into_iter().map(|evidence| {
        let stamp = places.get(usize::try_from(evidence.place).ok()?)?;
        Some((*stamp, Evidence::from_proto(&bare, *stamp, evidence)?))
    });
    let evidence = evidence.collect::<Option<_>>().ok_or(CodecError::Malformed("record"))?;
    Ok(RecordState { evidence, ..bare })
}

fn creation_from_proto(creation: proto::record_state::Creation) -> Result<Creation, CodecError> {
    let malformed = CodecError::Malformed("record");
    Ok(Creation {
        created_at: creation.created_at_unix,
        digest: PayloadDigest::try_from(creation.payload_digest.as_ref()).map_err(|_| malformed.clone())?,
        stamp: stamp_from_proto(&creation.stamp.ok_or(malformed.clone())?).map_err(|_| malformed)?,
        payload: creation.payload,
    })
}

/// A state from a peer. Refused unless it is well-formed, in the one form that joining makes, and its
/// payload matches its digest.
pub fn foreign_state(state: proto::RecordState) -> Result<RecordState, CodecError> {
    let state = state_from_proto(state)?;
    let reason = state.invalidation.as_ref().map_or(1, |invalidation| invalidation.reason.len());
    let payload = state.creation.as_ref().and_then(|creation| {
        creation.payload.as_ref().map(|payload| (payload.len(), sha256(payload) == creation.digest))
    });
    let genuine = payload.is_none_or(|(size, genuine)| genuine && size <= limits::PAYLOAD_MAX_BYTES);
    let canonical = state.expires_at.is_none_or(|at| at > 0) && state.is_canonical();
    if !genuine || !canonical || !(1..=limits::REASON_MAX_BYTES).contains(&reason) {
        return Err(CodecError::Malformed("record"));
    }
    Ok(state)
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

/// From the wire. Of an origin that is listed twice, the highest clock counts.
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

/// Equal for two nodes that have folded the same origins away.
pub fn folds_digest(folds: &Vector) -> [u8; 32] {
    let bytes: Vec<u8> =
        folds.iter().flat_map(|(origin, clock)| stamp_key(Stamp { origin, clock })).collect();
    sha256(&bytes)
}

/// To the wire.
pub fn folds_to_proto(folds: &Vector) -> proto::Folds {
    proto::Folds { origins: vector_to_proto(folds).clocks }
}

/// From the wire.
pub fn folds_from_proto(folds: proto::Folds) -> Result<Vector, CodecError> {
    vector_from_proto(&proto::Vector { clocks: folds.origins })
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::*;
    use crate::{base::id::Incarnation, domain::operation::Operation};

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
            invalidation: Some(Invalidation { at: 4, reason: "r".into(), stamp: stamp(3) }),
            ..RecordState::default()
        };
        let golden = format!(
            "010a4d08011220{}1a240a20{ORIGIN_HEX}1003220170100218012{}{ORIGIN_HEX}1003",
            "cd".repeat(32),
            "22b08041201721a240a20"
        );
        assert_eq!(HEXLOWER.encode(&encode_state(&state)), golden);
        assert_eq!(decode_state(HEXLOWER.decode(golden.as_bytes()).unwrap().into()), Ok(state));
        let mut full = state_with_everything();
        let golden = format!("010a4d08011220{}1a240a20{ORIGIN_HEX}10032201701002180122", "cd".repeat(32));
        assert!(HEXLOWER.encode(&encode_state(&full)).starts_with(&golden));
        assert_eq!(decode_state(encode_state(&full).into()), Ok(full.clone()));
        full.invalidation = None;
        let after = format!("{}{}", golden_loser(), format_args!("3a240a20{ORIGIN_HEX}1009"));
        assert!(HEXLOWER.encode(&encode_state(&full)).ends_with(&after), "{after}");
        assert_eq!(HEXLOWER.encode(&encode_log_value(258, b"op")), "0100000000000001026f70");
        let sum = |byte| Sum::from_bytes(&[byte; 32]);
        let counts = Counts { records: 1, tombstones: 2, conflicts: 3, unproven: 4 };
        let bucket = Bucket { records: sum(0xab), tombstones: sum(0xcd), counts };
        let golden = format!(
            "01{}{}0000000000000001000000000000000200000000000000030000000000000004",
            "ab".repeat(32),
            "cd".repeat(32)
        );
        assert_eq!(HEXLOWER.encode(&encode_bucket(&bucket)), golden);
        assert_eq!(decode_bucket(&encode_bucket(&bucket)), Ok(bucket));
        assert!(decode_bucket(&encode_bucket(&bucket)[..88]).is_err());
        let tombstone = RecordState { deletion: Some(stamp(3)), ..RecordState::default() };
        assert_eq!(HEXLOWER.encode(&encode_state(&tombstone)), format!("012a240a20{ORIGIN_HEX}1003"));
    }

    fn state_with_everything() -> RecordState {
        let creation = |digest, at, payload| Creation { created_at: at, digest, stamp: stamp(3), payload };
        RecordState {
            creation: Some(creation([0xcd; 32], 1, Some(Bytes::from_static(b"p")))),
            losers: vec![creation([0xef; 32], 2, None)],
            expires_at: Some(2),
            unpublished: true,
            unpublication: Some(stamp(9)),
            invalidation: Some(Invalidation { at: 4, reason: "r".into(), stamp: stamp(8) }),
            ..RecordState::default()
        }
    }

    fn golden_loser() -> String {
        format!("324a08021220{}1a240a20{ORIGIN_HEX}1003", "ef".repeat(32))
    }

    #[test]
    fn a_log_value_has_its_time_in_front() {
        assert_eq!(decode_log_value(encode_log_value(7, b"op").into()), Ok((7, Bytes::from_static(b"op"))));
        assert_eq!(decode_log_value(vec![1, 0].into()), Err(CodecError::Malformed("log entry")));
        assert!(decode_log_value(vec![3].into()).is_err());
    }

    #[test]
    fn a_peers_state_must_be_genuine_and_in_canonical_form() {
        let genuine = |state: &RecordState| foreign_state(state_to_proto(state));
        let stub = state_with_everything().without_payload();
        assert_eq!(genuine(&stub), Ok(stub.clone()));
        assert!(genuine(&state_with_everything()).is_err(), "the payload is not the digest's");
        let deleted_and_more = RecordState { deletion: Some(stamp(1)), ..stub.clone() };
        assert!(genuine(&deleted_and_more).is_err());
        let mut loser_first = stub.clone();
        loser_first.losers[0].created_at = 0;
        assert!(genuine(&loser_first).is_err());
        let mut endless = stub;
        endless.invalidation.as_mut().unwrap().reason = "x".repeat(limits::REASON_MAX_BYTES + 1);
        assert!(genuine(&endless).is_err());
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
            let _ = (decode_hashes(&versioned(&bytes)).is_ok(), decode_bundle_key(&bytes));
        }
    }
}
