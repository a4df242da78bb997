//! `record trace`: where every node has come with one record.

use std::collections::BTreeMap;

use brock::{
    ground::{clock::Stamp, id::KeyHash},
    proto::{self, operation::Kind, record_trace},
};
use bytes::Bytes;
use serde::Serialize;

use crate::{
    cli::Format,
    client::{self, Access},
    failure::Failure,
    output, stamp,
};

/// Asks the first node that answers; it asks all the others.
pub(crate) async fn run(access: &Access, key: KeyHash, format: Format) -> Result<(), Failure> {
    let request = proto::TraceRecordRequest { key_hash: Bytes::copy_from_slice(&key.0) };
    let answered = access
        .first_answer(async |channel| {
            Ok(client::admin(channel).trace_record(request.clone()).await?.into_inner())
        })
        .await;
    let trace = Trace::new(key, answered.outcome?)?;
    output::data(format, &trace, Trace::text)?;
    trace.verdict()
}

/// What `record trace` prints.
#[derive(Debug, Serialize)]
struct Trace {
    key_hash: String,
    /// The node that was asked comes first.
    nodes: Vec<Node>,
}

/// What one node knows. All `null` and empty if it could not be asked.
#[derive(Debug, Default, Serialize)]
struct Node {
    node: String,
    /// Empty: it could be asked.
    error: String,
    state: Option<&'static str>,
    payload: Option<&'static str>,
    expires_at_unix: Option<i64>,
    public: Option<bool>,
    conflicts: Option<u32>,
    applied: BTreeMap<String, u64>,
    operations: Vec<Operation>,
}

#[derive(Debug, Serialize)]
struct Operation {
    operation: &'static str,
    origin: String,
    clock: u64,
    /// 0: not known any more.
    at_unix: i64,
    /// 0: its log entry is compacted.
    applied_unix_ms: i64,
    quarantined: bool,
    reason: String,
}

impl Trace {
    fn new(key: KeyHash, response: proto::TraceRecordResponse) -> Result<Self, Failure> {
        if response.nodes.is_empty() {
            return Err(Failure::nonsense("it names no node, not even itself"));
        }
        Ok(Self { key_hash: key.to_hex(), nodes: response.nodes.into_iter().map(Node::new).collect() })
    }

    /// Fails when nobody knows anything of the key.
    fn verdict(&self) -> Result<(), Failure> {
        if self.nodes.iter().any(Node::knows_something) {
            return Ok(());
        }
        match self.nodes.iter().filter(|node| !node.error.is_empty()).count() {
            0 => Err(Failure::NotFound("no node knows anything of this key".to_owned())),
            unasked => Err(Failure::Unreachable(format!(
                "no node that could be asked knows anything of this key, but {unasked} of {} could not be asked",
                self.nodes.len()
            ))),
        }
    }

    fn text(&self) -> String {
        let mut text = output::fields(&[("key_hash", self.key_hash.clone())]);
        let all = self.operations();
        for node in &self.nodes {
            text.push('\n');
            text.push_str(&node.text(&all));
        }
        text
    }

    /// Every operation that some node lists, by origin and clock.
    fn operations(&self) -> BTreeMap<(&str, u64), &Operation> {
        let mut all = BTreeMap::new();
        for operation in self.nodes.iter().flat_map(|node| &node.operations) {
            // What a node could not apply is told best by one that could.
            let told = all.entry(operation.place()).or_insert(operation);
            if told.quarantined || (told.at_unix == 0 && !operation.quarantined) {
                *told = operation;
            }
        }
        all
    }
}

impl Node {
    fn new(node: proto::trace_record_response::Node) -> Self {
        let proto::trace_record_response::Node { node, error, trace } = node;
        if !error.is_empty() {
            return Self { node, error, ..Self::default() };
        }
        // One node that talks nonsense does not spoil what the others say.
        let known = trace.ok_or_else(|| Failure::nonsense("it says nothing")).and_then(Self::known);
        match known {
            Ok(known) => Self { node, ..known },
            Err(failure) => Self { node, error: failure.to_string(), ..Self::default() },
        }
    }

    fn known(trace: proto::RecordTrace) -> Result<Self, Failure> {
        // Destructured, so that a new field cannot be forgotten here.
        let proto::RecordTrace { state, payload, expires_at_unix, public, operations, conflicts, applied } =
            trace;
        let state = record_trace::State::try_from(state).map_err(Failure::nonsense)?;
        let payload = record_trace::Payload::try_from(payload).map_err(Failure::nonsense)?;
        Ok(Self {
            node: String::new(),
            error: String::new(),
            state: Some(state.as_str_name()),
            payload: Some(payload.as_str_name()),
            expires_at_unix: Some(expires_at_unix),
            public: Some(public),
            conflicts: Some(conflicts),
            applied: stamp::clocks(applied.unwrap_or_default().clocks)?,
            operations: operations.into_iter().map(Operation::new).collect::<Result<_, _>>()?,
        })
    }

    fn knows_something(&self) -> bool {
        let absent = record_trace::State::Absent.as_str_name();
        self.state.is_some_and(|state| state != absent) || !self.operations.is_empty()
    }

    /// A block for people, with a line for every operation that any node lists.
    fn text(&self, all: &BTreeMap<(&str, u64), &Operation>) -> String {
        let name = output::printable(&self.node);
        if !self.error.is_empty() {
            return format!("{name}: could not be asked: {}\n", output::printable(&self.error));
        }
        let field = |name: &str, value: String| vec![name.to_owned(), value];
        let mut text = format!("{name}:\n");
        text.push_str(&output::table(&[
            field("state", self.state.unwrap_or_default().to_owned()),
            field("payload", self.payload.unwrap_or_default().to_owned()),
            field("expires_at", output::moment(self.expires_at_unix.unwrap_or_default())),
            field("public", if self.public == Some(true) { "yes" } else { "no" }.to_owned()),
            field("conflicts", self.conflicts.unwrap_or_default().to_string()),
        ]));
        let rows = all.iter().map(|(place, told)| {
            let own = self.operations.iter().find(|operation| operation.place() == *place);
            let applied = match own {
                Some(own) if own.applied_unix_ms != 0 => {
                    output::moment_to_the_millisecond(own.applied_unix_ms)
                }
                _ => "-".to_owned(),
            };
            let made = match told.at_unix {
                0 => "unknown".to_owned(),
                unix => output::moment(unix),
            };
            let note = own.map_or_else(|| self.why_absent(told), Operation::note);
            vec![told.operation.to_owned(), stamp::text(&told.origin, told.clock), made, applied, note]
        });
        let rows = output::headed(&["OPERATION", "STAMP", "MADE", "APPLIED HERE", "NOTE"], rows);
        text.push_str(&output::table(&rows));
        text
    }

    /// Why an operation that another node lists is not listed here.
    fn why_absent(&self, operation: &Operation) -> String {
        let Operation { origin, clock, .. } = operation;
        match self.applied.get(origin).copied().unwrap_or_default() {
            applied if applied < *clock => {
                format!("not applied yet: has {origin} up to {applied}, it is at {clock}")
            }
            _ => COMPACTED.to_owned(),
        }
    }
}

/// The vector covers it, and the log does not have it any more.
const COMPACTED: &str = "applied; its log entry is compacted";

impl Operation {
    fn new(operation: record_trace::Operation) -> Result<Self, Failure> {
        let record_trace::Operation { kind, stamp, at_unix, applied_unix_ms, quarantined, reason } =
            operation;
        let Stamp { origin, clock } = stamp::from_wire(stamp)?;
        let operation = match Kind::try_from(kind) {
            Ok(Kind::Create) => "create",
            Ok(Kind::Invalidate) => "invalidate",
            Ok(Kind::Unpublish) => "unpublish",
            Ok(Kind::Delete) => "delete",
            // A quarantined one may be of any kind.
            Ok(Kind::Unspecified) | Err(_) => "unknown",
        };
        let (origin, clock) = (origin.to_string(), clock.0);
        Ok(Self { operation, origin, clock, at_unix, applied_unix_ms, quarantined, reason })
    }

    fn place(&self) -> (&str, u64) {
        (&self.origin, self.clock)
    }

    /// What there is to say of it where it is listed.
    fn note(&self) -> String {
        let what = match (self.quarantined, self.applied_unix_ms) {
            (true, _) => "quarantined",
            (false, 0) => COMPACTED,
            (false, _) => "",
        };
        match (what, output::printable(&self.reason)) {
            (what, reason) if reason.is_empty() => what.to_owned(),
            ("", reason) => reason,
            (what, reason) => format!("{what}: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests;
