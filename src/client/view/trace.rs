//! A record's trace as JSON, with one set of names for the tools and the console.

use std::collections::BTreeMap;

use serde::Serialize;

use brock_core::{
    base::vector::Stamp,
    domain::codec,
    proto::{self, operation::Kind, record_trace},
};

/// What one node knows of a record. `null` and empty if the node could not be asked.
#[derive(Debug, Default, Serialize)]
pub struct TracedNode {
    /// Its node id or address.
    pub node: String,
    /// Why the node could not be asked; otherwise empty.
    pub error: String,
    /// The state, named as in `proto/brock/v1/admin.proto`.
    pub state: Option<&'static str>,
    /// Where the payload is.
    pub payload: Option<&'static str>,
    /// When it expires, seconds since the Unix epoch; 0 for never.
    pub expires_at_unix: Option<i64>,
    /// Whether it is public.
    pub public: Option<bool>,
    /// How many creates with other payloads lost against it.
    pub conflicts: Option<u32>,
    /// The highest clock that the node has applied, by origin.
    pub applied: BTreeMap<String, u64>,
    /// The operations on the record in the node's log.
    pub operations: Vec<TracedOperation>,
}

/// An operation on the record.
#[derive(Debug, Serialize)]
pub struct TracedOperation {
    /// `create` and so on; `unknown` if this version does not know it.
    pub operation: &'static str,
    /// The origin that made it.
    pub origin: String,
    /// Its clock at that origin.
    pub clock: u64,
    /// When it was made, seconds since the Unix epoch; `null` if not known.
    pub at_unix: Option<i64>,
    /// When the node applied it, milliseconds since the Unix epoch; `null` if its log entry was compacted.
    pub applied_unix_ms: Option<i64>,
    /// Whether the node quarantined it, because it could not be applied.
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
        // One malformed answer must not hide the others.
        match trace.ok_or_else(|| "it is empty".to_owned()).and_then(Self::known) {
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
        if state == record_trace::State::Unspecified || payload == record_trace::Payload::Unspecified {
            return Err("it has no state".to_owned());
        }
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

    /// Whether the node has, or had, the record or an operation on it.
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
        let known = |time: i64| Some(time).filter(|time| *time != 0);
        let (at_unix, applied_unix_ms) = (known(at_unix), known(applied_unix_ms));
        Ok(Self { operation, origin, clock, at_unix, applied_unix_ms, quarantined, reason })
    }

    /// Its stamp: origin and clock.
    pub fn place(&self) -> (&str, u64) {
        (&self.origin, self.clock)
    }
}

/// The name of a kind of operation.
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
