//! What the operators' tools and the console show of a record's trace, as JSON has it: one set of names for
//! both.

use std::collections::BTreeMap;

use serde::Serialize;

use brock_core::{
    base::vector::Stamp,
    domain::codec,
    proto::{self, operation::Kind, record_trace},
};

/// What one node knows of a record. All `null` and empty if it could not be asked.
#[derive(Debug, Default, Serialize)]
pub struct TracedNode {
    /// Its node id or address.
    pub node: String,
    /// Why it could not be asked; empty: it could.
    pub error: String,
    /// `CREATED` and so on, as in `proto/brock/v1/admin.proto`.
    pub state: Option<&'static str>,
    /// Where the payload is.
    pub payload: Option<&'static str>,
    /// When it expires, seconds since the Unix epoch; 0: never.
    pub expires_at_unix: Option<i64>,
    /// Whether it is public.
    pub public: Option<bool>,
    /// Creates with other payloads that lost against it.
    pub conflicts: Option<u32>,
    /// How far the node has applied each origin.
    pub applied: BTreeMap<String, u64>,
    /// What the node's log tells of the record.
    pub operations: Vec<TracedOperation>,
}

/// An operation on the record.
#[derive(Debug, Serialize)]
pub struct TracedOperation {
    /// `create` and so on; `unknown`: this version does not know it.
    pub operation: &'static str,
    /// Where it was made.
    pub origin: String,
    /// Which one of there.
    pub clock: u64,
    /// When it was made, seconds since the Unix epoch; 0: not known any more.
    pub at_unix: i64,
    /// When the node applied it, milliseconds since the Unix epoch; 0: its log entry is compacted.
    pub applied_unix_ms: i64,
    /// Whether it could not be applied.
    pub quarantined: bool,
    /// Why the record was invalidated.
    pub reason: String,
}

impl From<proto::trace_record_response::Node> for TracedNode {
    fn from(node: proto::trace_record_response::Node) -> Self {
        let proto::trace_record_response::Node { node, error, trace } = node;
        if !error.is_empty() {
            return Self { node, error, ..Self::default() };
        }
        // One node that talks nonsense does not spoil what the others say.
        match trace.ok_or_else(|| "it says nothing".to_owned()).and_then(Self::known) {
            Ok(known) => Self { node, ..known },
            Err(nonsense) => {
                let error = format!("the node's answer makes no sense: {nonsense}");
                Self { node, error, ..Self::default() }
            }
        }
    }
}

impl TracedNode {
    fn known(trace: proto::RecordTrace) -> Result<Self, String> {
        // Destructured, so that a new field cannot be forgotten here.
        let proto::RecordTrace { state, payload, expires_at_unix, public, operations, conflicts, applied } =
            trace;
        let state = record_trace::State::try_from(state).map_err(|error| error.to_string())?;
        let payload = record_trace::Payload::try_from(payload).map_err(|error| error.to_string())?;
        let applied = codec::vector_from_proto(&applied.unwrap_or_default()).map_err(|e| e.to_string())?;
        Ok(Self {
            state: Some(state.as_str_name()),
            payload: Some(payload.as_str_name()),
            expires_at_unix: Some(expires_at_unix),
            public: Some(public),
            conflicts: Some(conflicts),
            applied: applied.iter().map(|(origin, clock)| (origin.to_string(), clock.0)).collect(),
            operations: operations.into_iter().map(TracedOperation::new).collect::<Result<_, _>>()?,
            ..Self::default()
        })
    }

    /// Whether it has, or had, anything of the record.
    pub fn knows_something(&self) -> bool {
        let absent = record_trace::State::Absent.as_str_name();
        self.state.is_some_and(|state| state != absent) || !self.operations.is_empty()
    }
}

impl TracedOperation {
    fn new(operation: record_trace::Operation) -> Result<Self, String> {
        let record_trace::Operation { kind, stamp, at_unix, applied_unix_ms, quarantined, reason } =
            operation;
        let stamp = stamp.ok_or("a stamp is missing")?;
        let Stamp { origin, clock } = codec::stamp_from_proto(&stamp).map_err(|error| error.to_string())?;
        let operation = operation_name(kind);
        let (origin, clock) = (origin.to_string(), clock.0);
        Ok(Self { operation, origin, clock, at_unix, applied_unix_ms, quarantined, reason })
    }

    /// Its stamp, in two parts.
    pub fn place(&self) -> (&str, u64) {
        (&self.origin, self.clock)
    }
}

/// What a kind of operation is called wherever people see it.
pub fn operation_name(kind: i32) -> &'static str {
    match Kind::try_from(kind) {
        Ok(Kind::Create) => "create",
        Ok(Kind::Invalidate) => "invalidate",
        Ok(Kind::Unpublish) => "unpublish",
        Ok(Kind::Delete) => "delete",
        // A quarantined one may be of any kind.
        Ok(Kind::Unspecified) | Err(_) => "unknown",
    }
}
