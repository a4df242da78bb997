use data_encoding::HEXLOWER;
use proptest::prelude::{any, prop_assert_eq, proptest};

use super::*;
use crate::{domain::operation::Operation, ground::id::Incarnation};

fn stamp(clock: u64) -> Stamp {
    Stamp { origin: Origin::new(&"eu1-1".parse().unwrap(), Incarnation(0x0102_0304)), clock: Clock(clock) }
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
    let create = Operation::Create { created_at: 1, expires_at: Some(2), public: true, digest: [0xcd; 32] };
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
        invalidation: Some(Invalidation { at: 4, reason: "r".into(), stamp: None }),
        ..RecordState::default()
    };
    let golden = format!(
        "010a4d08011220{}1a240a20{ORIGIN_HEX}1003220170100218012205080412{}",
        "cd".repeat(32),
        "0172"
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
    assert_eq!(HEXLOWER.encode(&encode_log_value(258, b"op")), "0200000000000001026f70");
    let sum = |byte| Sum::from_bytes(&[byte; 32]);
    let counts = Counts { records: 1, tombstones: 2, conflicts: 3 };
    let bucket = Bucket { records: sum(0xab), tombstones: sum(0xcd), counts };
    let golden =
        format!("01{}{}000000000000000100000000000000020000000000000003", "ab".repeat(32), "cd".repeat(32));
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
        invalidation: Some(Invalidation { at: 4, reason: "r".into(), stamp: Some(stamp(8)) }),
        deletion: None,
        was_created: false,
    }
}

fn golden_loser() -> String {
    format!("324a08021220{}1a240a20{ORIGIN_HEX}1003", "ef".repeat(32))
}

#[test]
fn a_log_value_of_version_1_is_read_without_its_time() {
    assert_eq!(decode_log_value(versioned(b"op").into()), Ok((0, Bytes::from_static(b"op"))));
    assert_eq!(decode_log_value(encode_log_value(7, b"op").into()), Ok((7, Bytes::from_static(b"op"))));
    assert_eq!(decode_log_value(vec![2, 0].into()), Err(CodecError::Malformed("log entry")));
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
    }
}
