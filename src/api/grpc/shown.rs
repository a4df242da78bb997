//! What the audit log shows of the messages of operators' calls.
//!
//! Nothing is shown but the fields that `calls` names. A key hash never is: its mark is
//! (`audit::entry::key_mark`).

use bytes::Bytes;
use prost::{DecodeError, Message};
use serde_json::Value;

use crate::audit::entry::{What, key_mark, sha256};
use brock_core::{
    base::{id::Origin, limits},
    domain::codec,
    proto::{self, acks::From},
};

/// Reads an encoded message and returns what the audit log shows of it.
pub(super) type Show = fn(&[u8]) -> Result<What, DecodeError>;

/// A [`Show`] for a request: every field of the message with the function that shows it, and the name in
/// the log if it differs. A new field does not compile until it is named here.
macro_rules! request {
    ($message:ident {}) => {
        |bytes| {
            let brock_core::proto::$message {} = Default::default();
            Ok(if bytes.is_empty() { Default::default() } else { $crate::api::grpc::shown::remark("not shown") })
        }
    };
    ($message:ident { $($field:ident: $show:ident $(as $name:literal)?),+ }) => {
        |bytes| {
            let brock_core::proto::$message { $($field),+ } = prost::Message::decode(bytes)?;
            Ok($crate::api::grpc::shown::named([
                $(($crate::api::grpc::shown::name!($field $($name)?), $crate::api::grpc::shown::$show(&$field))),+
            ]))
        }
    };
}

macro_rules! name {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $name:literal) => {
        $name
    };
}

pub(super) use {name, request};

/// What is shown of a message; a malformed one is only called so.
pub(super) fn message(show: Show, bytes: &[u8]) -> What {
    show(bytes).unwrap_or_else(|_| remark("malformed"))
}

/// What is shown of a request that cannot be read.
pub(super) fn remark(text: &str) -> What {
    std::iter::once(("request".to_owned(), text.into())).collect()
}

/// Leaves out what is not set.
pub(super) fn named<const N: usize>(fields: [(&str, Value); N]) -> What {
    let is_set = |(_, value): &(&str, Value)| !matches!(value, Value::Null | Value::Bool(false));
    fields.into_iter().filter(is_set).map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Only bytes of the length of a hash have a mark: from a shorter text's mark the text could be guessed.
pub(super) fn key(key_hash: &Bytes) -> Value {
    match key_hash.len() {
        32 => key_mark(key_hash).into(),
        bytes => format!("{bytes} bytes").into(),
    }
}

pub(super) fn optional_key(key_hash: &Bytes) -> Value {
    if key_hash.is_empty() { Value::Null } else { key(key_hash) }
}

/// The mark of the only key, or how many there are: a line has room for few.
pub(super) fn keys(key_hashes: &[Bytes]) -> Value {
    match key_hashes {
        [one] => key(one),
        many => many.len().into(),
    }
}

pub(super) fn flag(flag: &bool) -> Value {
    (*flag).into()
}

pub(super) fn count(count: &u32) -> Value {
    (*count).into()
}

/// 0 = the default.
pub(super) fn limit(limit: &u32) -> Value {
    if *limit == 0 { Value::Null } else { (*limit).into() }
}

pub(super) fn reason(reason: &str) -> Value {
    cut(reason, limits::REASON_MAX_BYTES)
}

pub(super) fn text(text: &str) -> Value {
    cut(text, limits::AUDIT_TEXT_MAX_BYTES)
}

pub(super) fn stamp(stamp: &Option<proto::Stamp>) -> Value {
    match stamp.as_ref().map(codec::stamp_from_proto) {
        None => Value::Null,
        Some(Ok(stamp)) => format!("{}:{}", stamp.origin, stamp.clock.0).into(),
        Some(Err(_)) => "malformed".into(),
    }
}

pub(super) fn acks(acks: &Option<proto::Acks>) -> Value {
    match acks.as_ref().and_then(|acks| acks.from) {
        Some(From::All(true)) => "all".into(),
        Some(From::Nodes(nodes)) => limit(&nodes),
        Some(From::All(false)) | None => Value::Null,
    }
}

/// By the name of its certificate alone: whether that is an operator's is verified later.
pub(super) fn order(order: &Option<proto::Order>) -> Value {
    match order.as_ref().map(|order| order.chain.first().map(|der| sha256(der).to_string())) {
        None => Value::Null,
        Some(Some(certificate)) => certificate.into(),
        Some(None) => "without a certificate".into(),
    }
}

pub(super) fn origin(origin: &Bytes) -> Value {
    match Origin::try_from(origin.as_ref()) {
        _ if origin.is_empty() => Value::Null,
        Ok(origin) => origin.to_string().into(),
        Err(_) => "malformed".into(),
    }
}

pub(super) fn closing(closing: &Option<proto::Closing>) -> Value {
    let Some(closing) = closing else { return Value::Null };
    let logs = closing.logs.len();
    format!("{}, {logs} logs, ordered by {}", closing.node_id, order(&closing.order)).into()
}

/// The answer to an operator who vouches for a birth.
pub(super) fn vouched(bytes: &[u8]) -> Result<What, DecodeError> {
    let outcomes = proto::VouchOriginResponse::decode(bytes)?.outcomes;
    let failed = outcomes.iter().filter(|outcome| !outcome.error.is_empty()).count();
    Ok(answers([("nodes", outcomes.len().into()), ("failed", failed.into())]))
}

/// How many there are.
pub(super) fn destructions(orders: &[proto::UnprovenDestruction]) -> Value {
    if orders.is_empty() { Value::Null } else { orders.len().into() }
}

/// The answer to a step of a migration.
pub(super) fn migration(bytes: &[u8]) -> Result<What, DecodeError> {
    let answer = proto::MigrateTrustResponse::decode(bytes)?;
    Ok(answers([("operations", answer.operations.into()), ("waiting", answer.waiting.len().into())]))
}

/// The answer to a call whose answer says nothing more than its code.
pub(super) fn nothing(_: &[u8]) -> Result<What, DecodeError> {
    Ok(What::new())
}

/// The answer to an invalidate, unpublish or delete.
pub(super) fn operation(bytes: &[u8]) -> Result<What, DecodeError> {
    let answer = proto::OperationResponse::decode(bytes)?;
    let mut what = answers([("stamp", stamp(&answer.stamp)), ("already", answer.already.into())]);
    // Of a call that waits for members.
    if let Some(proto::Receipt { holders, missing, .. }) = answer.receipt {
        what.insert("holders".to_owned(), holders.len().into());
        what.insert("missing".to_owned(), missing.into_iter().take(limits::AUDIT_MISSING_MAX).collect());
    }
    Ok(what)
}

/// The answer to the acknowledgement of conflicts.
pub(super) fn acknowledgement(bytes: &[u8]) -> Result<What, DecodeError> {
    let answer = proto::AcknowledgeConflictsResponse::decode(bytes)?;
    Ok(answers([("acknowledged", answer.acknowledged.into())]))
}

/// The answer to the acknowledgement of a fork.
pub(super) fn frozen(bytes: &[u8]) -> Result<What, DecodeError> {
    let answer = proto::AcknowledgeForkResponse::decode(bytes)?;
    Ok(answers([("frozen", answer.frozen.into())]))
}

/// The answer to the retirement of a member.
pub(super) fn retirement(bytes: &[u8]) -> Result<What, DecodeError> {
    let outcomes = proto::RetireMemberResponse::decode(bytes)?.outcomes;
    let failed = outcomes.iter().filter(|outcome| !outcome.error.is_empty()).count();
    Ok(answers([("nodes", outcomes.len().into()), ("failed", failed.into())]))
}

/// The answer to the resumption of a paused log.
pub(super) fn resumed(bytes: &[u8]) -> Result<What, DecodeError> {
    let answer = proto::ResumeOriginResponse::decode(bytes)?;
    Ok(answers([("resumed", answer.resumed.len().into())]))
}

/// The answer to a compaction.
pub(super) fn compaction(bytes: &[u8]) -> Result<What, DecodeError> {
    let answer = proto::CompactResponse::decode(bytes)?;
    Ok(answers([
        ("entries_removed", answer.entries_removed.into()),
        ("payloads_removed", answer.payloads_removed.into()),
        ("tombstones_collected", answer.tombstones_collected.into()),
    ]))
}

/// The answer to a repair.
pub(super) fn repair(bytes: &[u8]) -> Result<What, DecodeError> {
    let peers = proto::RepairResponse::decode(bytes)?.peers;
    Ok(answers([(
        "repaired",
        peers.iter().fold(0, |sum: u64, peer| sum.saturating_add(peer.repaired)).into(),
    )]))
}

/// The answer to a request for a backup.
pub(super) fn backup(bytes: &[u8]) -> Result<What, DecodeError> {
    let backup = proto::BackupNowResponse::decode(bytes)?.backup;
    let key = backup.map_or(Value::Null, |made| cut(&made.key, limits::OBJECT_KEY_MAX_BYTES));
    Ok(answers([("backup", key)]))
}

/// Leaves out what is absent; a `false` in an answer says something.
fn answers<const N: usize>(fields: [(&str, Value); N]) -> What {
    let fields = fields.into_iter().filter(|(_, value)| !value.is_null());
    fields.map(|(name, value)| (name.to_owned(), value)).collect()
}

fn cut(text: &str, longest: usize) -> Value {
    let mut end = text.len().min(longest);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::grpc::calls::{Recorded, TABLE};

    fn shown(method: &str, bytes: &[u8]) -> What {
        let path = format!("/brock.v1.AdminService/{method}");
        let Some(call) = TABLE.iter().find(|call| call.path == path) else {
            panic!("{path} is not in TABLE")
        };
        match call.recorded {
            Recorded::Read(show) | Recorded::Change(show, _) | Recorded::Stream(show) => message(show, bytes),
            Recorded::No => panic!("{method} is not recorded"),
        }
    }

    #[test]
    fn the_answer_to_a_revocation_shows_who_did_not_confirm_it() {
        let receipt = proto::Receipt {
            holders: vec![proto::receipt::Holder::default(); 2],
            missing: (0..40).map(|node| format!("node-{node}")).collect(),
            proof: None,
        };
        let answer = proto::OperationResponse { receipt: Some(receipt), ..Default::default() };
        let what = operation(&answer.encode_to_vec()).unwrap();
        assert_eq!((&what["already"], &what["holders"]), (&false.into(), &2.into()));
        let missing = what["missing"].as_array().unwrap();
        assert_eq!((missing.len(), &missing[0]), (limits::AUDIT_MISSING_MAX, &"node-0".into()));
        let without = operation(&proto::OperationResponse::default().encode_to_vec()).unwrap();
        assert!(!without.contains_key("holders") && !without.contains_key("missing"));
    }

    #[test]
    fn every_request_of_the_admin_service_with_fields_is_named() {
        let set = prost_types::FileDescriptorSet::decode(proto::DESCRIPTORS).unwrap();
        let messages: Vec<_> = set.file.iter().flat_map(|file| &file.message_type).collect();
        let services = set.file.iter().flat_map(|file| &file.service);
        let admin = services.filter(|service| service.name() == "AdminService");
        // Field 15, which no request has.
        let unknown = b"\x78\x01";
        let mut methods = 0;
        for method in admin.flat_map(|service| &service.method) {
            let input = method.input_type().rsplit('.').next().unwrap();
            let message = messages.iter().find(|message| message.name() == input).unwrap();
            let is_named = shown(method.name(), unknown) != remark("not shown");
            assert_eq!(
                is_named,
                !message.field.is_empty(),
                "the table names another request: {}",
                method.name()
            );
            methods += 1;
        }
        assert!(methods >= 21);
    }

    #[test]
    fn what_is_shown_holds_no_key_hash_and_is_bounded() {
        let key_hash = vec![0xab; 32];
        let request_of = |reason: String, key_hash: Vec<u8>| {
            let acks = Some(proto::Acks { from: Some(From::All(true)), timeout_ms: 5 });
            let request = proto::InvalidateRequest {
                key_hash: key_hash.into(),
                reason,
                ahead: true,
                acks,
                order: None,
            };
            request.encode_to_vec()
        };
        let what = shown("Invalidate", &request_of("leaked".to_owned(), key_hash.clone()));
        let text = serde_json::to_string(&what).unwrap();
        assert_eq!(
            text,
            format!(r#"{{"ahead":true,"key":"{}","reason":"leaked","wait":"all"}}"#, key_mark(&key_hash))
        );
        assert!(!text.contains(&"ab".repeat(32)));
        let long = shown("Invalidate", &request_of("é".repeat(5000), b"guess".to_vec()));
        assert_eq!(long["reason"].as_str().unwrap().len(), limits::REASON_MAX_BYTES);
        assert_eq!(long["key"], "5 bytes");
        assert_eq!(shown("Invalidate", b"\xff"), remark("malformed"));
        assert_eq!(shown("Members", b"\x08\x01"), remark("not shown"));
        assert_eq!(shown("Status", b""), What::new());
    }
}
