use brock_client::{ClientError, Miss};
use tonic::Status;

use super::*;

fn stamp_of(written: &str) -> proto::Stamp {
    stamp::to_wire(&stamp::parse(written).unwrap())
}

fn response() -> proto::ShowRecordResponse {
    let record = proto::Record {
        created_at_unix: 1_777_636_800,
        public: true,
        satellite_address: "sat:7777".to_owned(),
        macaroon_head: Bytes::from_static(&[0xde, 0xad]),
        expires_at_unix: 0,
        encrypted_secret_key: Bytes::from_static(b"key"),
        encrypted_access_grant: Bytes::from_static(b"grant"),
        invalidation_reason: "leaked".to_owned(),
        invalidated_at_unix: 1_777_636_801,
        state: proto::record::State::Invalidated.into(),
        public_project_id: Bytes::from_static(&[1]),
    };
    proto::ShowRecordResponse { record: Some(record), stamp: Some(stamp_of("node-1/9f3c2a10:42")) }
}

#[test]
fn a_shown_record_is_this_json() {
    let shown = Shown::new(KeyHash([0xab; 32]), response()).unwrap();
    let expected = r#"{
  "key_hash": "abababababababababababababababababababababababababababababababab",
  "state": "INVALIDATED",
  "created_at_unix": 1777636800,
  "public": true,
  "satellite_address": "sat:7777",
  "macaroon_head": "dead",
  "public_project_id": "01",
  "expires_at_unix": 0,
  "encrypted_secret_key": "a2V5",
  "encrypted_access_grant": "Z3JhbnQ=",
  "invalidation_reason": "leaked",
  "invalidated_at_unix": 1777636801,
  "origin": "node-1/9f3c2a10",
  "clock": 42
}
"#;
    assert_eq!(output::json(&shown).unwrap(), expected);
    let text = shown.text();
    assert!(text.contains("expires_at              never\n"), "{text}");
    assert!(text.contains("created_at              2026-05-01T12:00:00Z (1777636800)\n"), "{text}");
}

#[test]
fn an_answer_without_sense_is_an_error_and_no_panic() {
    let key = KeyHash([0; 32]);
    assert!(Shown::new(key, proto::ShowRecordResponse::default()).is_err());
    assert!(Shown::new(key, proto::ShowRecordResponse { stamp: None, ..response() }).is_err());
}

#[test]
fn a_put_that_broke_off_is_remembered_when_the_next_node_knows_the_record() {
    let (address, reason) = ("a:1".to_owned(), "reset".to_owned());
    let broke = Miss { address, reason, is_refusal: false, may_be_done: true, has_answered: false };
    let answered = |outcome| Answered { outcome, misses: vec![broke.clone()] };
    let exists = || ClientError::Status(Status::already_exists("exists"));
    let clean = Answered { outcome: Err(exists()), misses: Vec::new() };
    assert_eq!(put_outcome(clean), Err(Failure::Exists("exists".to_owned())));
    let exists = put_outcome(answered(Err(exists()))).unwrap_err();
    assert!(matches!(&exists, Failure::Exists(text) if text.contains("a:1 may have created it")), "{exists}");
    let none = put_outcome(answered(Err(ClientError::NoAnswer(Vec::new())))).unwrap_err();
    assert!(matches!(&none, Failure::NoAnswer(text) if text.contains("a:1 may have created")), "{none}");
    assert!(put_outcome(answered(Ok(proto::PutResponse::default()))).is_ok());
}

#[test]
fn a_put_shows_holders_only_when_they_were_asked_for() {
    let written = |acks: Option<&proto::Acks>, receipt| {
        let stamp = Some(stamp_of("node-1/9f3c2a10:42"));
        let written = Written::new(KeyHash([0xab; 32]), acks, proto::PutResponse { stamp, receipt });
        written.map(|written| output::json(&written).unwrap())
    };
    let expected = r#"{
  "key_hash": "abababababababababababababababababababababababababababababababab",
  "origin": "node-1/9f3c2a10",
  "clock": 42
}
"#;
    assert_eq!(written(None, None).unwrap(), expected);
    let holder = proto::receipt::Holder { node: "node-2".to_owned(), after_ms: 3, ..Default::default() };
    let receipt = proto::Receipt { holders: vec![holder], missing: vec!["node-3".to_owned()], proof: None };
    let acks = proto::Acks { from: Some(proto::acks::From::Nodes(2)), timeout_ms: 1000 };
    let expected = r#"{
  "key_hash": "abababababababababababababababababababababababababababababababab",
  "origin": "node-1/9f3c2a10",
  "clock": 42,
  "holders": [
    {
      "node": "node-2",
      "after_ms": 3
    }
  ],
  "missing": [
    "node-3"
  ]
}
"#;
    assert_eq!(written(Some(&acks), Some(receipt)).unwrap(), expected);
    assert!(written(Some(&acks), None).is_err(), "silence is no success");
}
