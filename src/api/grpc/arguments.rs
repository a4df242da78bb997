//! What the audit log shows of operators' calls: of what they ask for, and of what was done.
//!
//! Nothing is shown that is not named here. A key hash never is: its mark is (`audit::entry::key_mark`).

use prost::{DecodeError, Message};
use serde_json::Value;

use crate::audit::entry::{What, key_mark};
use brock_core::{
    base::limits,
    domain::codec,
    proto::{self, acks::From},
};

/// Calls that change nothing: they take one line, with their outcome. Every other takes a line before it is
/// carried out, and one after.
pub(crate) const READS: &[&str] = &[
    "Status",
    "Cluster",
    "ShowConfiguration",
    "ShowRecord",
    "TraceRecord",
    "Members",
    "Verify",
    "ListConflicts",
    "ListQuarantine",
    "ShowQuarantined",
    "ListBackups",
    "TailLog",
    "AuditHead",
];

/// What is shown of a request. Requests without fields need not be named.
pub(crate) fn request(method: &str, message: &[u8]) -> What {
    match named(method, message) {
        Ok(Some(what)) => what,
        Ok(None) if message.is_empty() => What::new(),
        Ok(None) => remark("not shown"),
        Err(_) => remark("malformed"),
    }
}

/// A request that could not be read.
pub(crate) fn remark(text: &str) -> What {
    std::iter::once(("request".to_owned(), text.into())).collect()
}

/// `None` = nobody has said what may be shown. Every field is named, so that a new one is a decision.
fn named(method: &str, message: &[u8]) -> Result<Option<What>, DecodeError> {
    let mut what = What::new();
    let mut show = |name: &str, value: Value| {
        if !matches!(&value, Value::Null | Value::Bool(false)) {
            what.insert(name.to_owned(), value);
        }
    };
    match method {
        "Status" => {
            let proto::StatusRequest { history } = Message::decode(message)?;
            show("history", history.into());
        }
        "Cluster" => {
            let proto::ClusterRequest { history } = Message::decode(message)?;
            show("history", history.into());
        }
        "TailLog" => {
            let proto::TailLogRequest { last, follow } = Message::decode(message)?;
            show("last", last.into());
            show("follow", follow.into());
        }
        "ShowRecord" => {
            let proto::ShowRecordRequest { key_hash, local } = Message::decode(message)?;
            show("key", key(&key_hash));
            show("local", local.into());
        }
        "Invalidate" => {
            let proto::InvalidateRequest { key_hash, reason, ahead, acks } = Message::decode(message)?;
            show("key", key(&key_hash));
            show("reason", text(&reason, limits::REASON_MAX_BYTES));
            show("ahead", ahead.into());
            show("wait", wait(acks));
        }
        "Unpublish" => {
            let proto::UnpublishRequest { key_hash, ahead, acks } = Message::decode(message)?;
            show("key", key(&key_hash));
            show("ahead", ahead.into());
            show("wait", wait(acks));
        }
        "Delete" => {
            let proto::DeleteRequest { key_hash, ahead, acks } = Message::decode(message)?;
            show("key", key(&key_hash));
            show("ahead", ahead.into());
            show("wait", wait(acks));
        }
        "TraceRecord" => {
            let proto::TraceRecordRequest { key_hash } = Message::decode(message)?;
            show("key", key(&key_hash));
        }
        "RetireMember" => {
            let proto::RetireMemberRequest { member } = Message::decode(message)?;
            show("member", text(&member, limits::AUDIT_TEXT_MAX_BYTES));
        }
        "ListConflicts" => {
            let proto::ListConflictsRequest { after, limit } = Message::decode(message)?;
            show("after_key", if after.is_empty() { Value::Null } else { key(&after) });
            show("limit", number(limit.into()));
        }
        "ListQuarantine" => {
            let proto::ListQuarantineRequest { after, limit } = Message::decode(message)?;
            show("after", stamp(after));
            show("limit", number(limit.into()));
        }
        "ShowQuarantined" | "RetryQuarantined" | "DropQuarantined" => {
            let proto::QuarantinedRequest { stamp: which } = Message::decode(message)?;
            show("stamp", stamp(which));
        }
        "BackupNow" => {
            let proto::BackupNowRequest { full } = Message::decode(message)?;
            show("full", full.into());
        }
        _ => return Ok(None),
    }
    Ok(Some(what))
}

/// What is shown of the answer to a call that changed something.
pub(crate) fn answer(method: &str, message: &[u8]) -> What {
    done(method, message).unwrap_or_default()
}

fn done(method: &str, message: &[u8]) -> Result<What, DecodeError> {
    let mut what = What::new();
    let mut show = |name: &str, value: Value| {
        if !value.is_null() {
            what.insert(name.to_owned(), value);
        }
    };
    match method {
        "Invalidate" | "Unpublish" | "Delete" => {
            let answer = proto::OperationResponse::decode(message)?;
            show("stamp", stamp(answer.stamp));
            show("already", answer.already.into());
        }
        "RetireMember" => {
            let outcomes = proto::RetireMemberResponse::decode(message)?.outcomes;
            let failed = outcomes.iter().filter(|outcome| !outcome.error.is_empty()).count();
            show("nodes", outcomes.len().into());
            show("failed", failed.into());
        }
        "Compact" => {
            let answer = proto::CompactResponse::decode(message)?;
            show("entries_removed", answer.entries_removed.into());
            show("payloads_removed", answer.payloads_removed.into());
            show("tombstones_collected", answer.tombstones_collected.into());
        }
        "Repair" => {
            let peers = proto::RepairResponse::decode(message)?.peers;
            show("repaired", peers.iter().map(|peer| peer.repaired).sum::<u64>().into());
        }
        "BackupNow" => {
            let backup = proto::BackupNowResponse::decode(message)?.backup;
            show("backup", backup.map_or(Value::Null, |made| text(&made.key, limits::OBJECT_KEY_MAX_BYTES)));
        }
        _ => {}
    }
    Ok(what)
}

/// Only what is as long as a hash is one: anything shorter could be guessed from its mark.
fn key(key_hash: &[u8]) -> Value {
    match key_hash.len() {
        32 => key_mark(key_hash).into(),
        bytes => format!("{bytes} bytes").into(),
    }
}

fn text(text: &str, longest: usize) -> Value {
    let mut end = text.len().min(longest);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].into()
}

fn number(number: u64) -> Value {
    if number == 0 { Value::Null } else { number.into() }
}

fn stamp(stamp: Option<proto::Stamp>) -> Value {
    match stamp.map(|stamp| codec::stamp_from_proto(&stamp)) {
        None => Value::Null,
        Some(Ok(stamp)) => format!("{}:{}", stamp.origin, stamp.clock.0).into(),
        Some(Err(_)) => "malformed".into(),
    }
}

fn wait(acks: Option<proto::Acks>) -> Value {
    match acks.and_then(|acks| acks.from) {
        Some(From::All(true)) => "all".into(),
        Some(From::Nodes(nodes)) => number(nodes.into()),
        Some(From::All(false)) | None => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Somebody has said of every operator's call what the audit log shows of it.
    #[test]
    fn every_request_of_the_admin_service_with_fields_is_named() {
        let set = prost_types::FileDescriptorSet::decode(proto::DESCRIPTORS).unwrap();
        let messages: Vec<_> = set.file.iter().flat_map(|file| &file.message_type).collect();
        let services = set.file.iter().flat_map(|file| &file.service);
        let admin = services.filter(|service| service.name() == "AdminService");
        let mut methods: Vec<&str> = Vec::new();
        for method in admin.flat_map(|service| &service.method) {
            let input = method.input_type().rsplit('.').next().unwrap();
            let message = messages.iter().find(|message| message.name() == input).unwrap();
            let is_named = named(method.name(), &[]).unwrap().is_some();
            assert!(
                is_named || message.field.is_empty(),
                "{}: say in src/api/grpc/arguments.rs what of its request the audit log shows",
                method.name()
            );
            methods.push(method.name());
        }
        assert!(methods.len() >= 21);
        assert!(READS.iter().all(|read| methods.contains(read)), "a read that does not exist");
    }

    #[test]
    fn what_is_shown_holds_no_key_hash_and_is_bounded() {
        let key_hash = vec![0xab; 32];
        let request_of = |reason: String, key_hash: Vec<u8>| {
            let acks = Some(proto::Acks { from: Some(From::All(true)), timeout_ms: 5 });
            let request = proto::InvalidateRequest { key_hash: key_hash.into(), reason, ahead: true, acks };
            request.encode_to_vec()
        };
        let what = request("Invalidate", &request_of("leaked".to_owned(), key_hash.clone()));
        let shown = serde_json::to_string(&what).unwrap();
        assert_eq!(
            shown,
            format!(r#"{{"ahead":true,"key":"{}","reason":"leaked","wait":"all"}}"#, key_mark(&key_hash))
        );
        assert!(!shown.contains(&"ab".repeat(32)));
        let long = request("Invalidate", &request_of("é".repeat(5000), b"guess".to_vec()));
        assert_eq!(long["reason"].as_str().unwrap().len(), limits::REASON_MAX_BYTES);
        assert_eq!(long["key"], "5 bytes");
        assert_eq!(request("Invalidate", b"\xff"), remark("malformed"));
        assert_eq!(request("Unheard", b"\x08\x01"), remark("not shown"));
        assert_eq!(request("Status", b""), What::new());
    }
}
