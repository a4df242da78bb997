//! `record trace`: what each node knows of one record.

use std::collections::BTreeMap;

use crate::{cli::Format, failure::Failure, output, stamp};
use brock_client::{
    Client,
    view::trace::{TracedNode, TracedOperation},
};
use brock_core::{base::id::KeyHash, proto};
use bytes::Bytes;
use serde::Serialize;

/// A terminal with fewer columns gets shorter times.
const WIDE: usize = 130;

/// Asks the first node that answers, which asks all others.
pub(crate) async fn run(client: &Client, key: KeyHash, format: Format) -> Result<(), Failure> {
    let request = proto::TraceRecordRequest { key_hash: Bytes::copy_from_slice(&key.0) };
    let trace = Trace::new(key, client.trace_record(request).await.outcome?)?;
    output::data(format, &trace, Trace::text)?;
    trace.verdict()
}

/// What `record trace` prints.
#[derive(Debug, Serialize)]
struct Trace {
    key_hash: String,
    /// The node that was asked comes first.
    nodes: Vec<TracedNode>,
}

impl Trace {
    fn new(key: KeyHash, response: proto::TraceRecordResponse) -> Result<Self, Failure> {
        if response.nodes.is_empty() {
            return Err(Failure::nonsense("it names no node, not even itself"));
        }
        Ok(Self { key_hash: key.to_hex(), nodes: response.nodes.into_iter().map(TracedNode::from).collect() })
    }

    /// Fails if no node knows anything of the key.
    fn verdict(&self) -> Result<(), Failure> {
        if self.nodes.iter().any(TracedNode::knows_something) {
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
            text.push_str(&node_text(node, &all, output::terminal_columns()));
        }
        text
    }

    /// All operations that any node lists, by origin and clock.
    fn operations(&self) -> BTreeMap<(&str, u64), &TracedOperation> {
        let mut all = BTreeMap::new();
        for operation in self.nodes.iter().flat_map(|node| &node.operations) {
            // A node that applied the operation describes it best.
            let told = all.entry(operation.place()).or_insert(operation);
            if told.quarantined || (told.at_unix.is_none() && !operation.quarantined) {
                *told = operation;
            }
        }
        all
    }
}

/// A node's block of text, with a line for each operation that any node lists.
fn node_text(
    node: &TracedNode,
    all: &BTreeMap<(&str, u64), &TracedOperation>,
    columns: Option<usize>,
) -> String {
    let name = output::printable(&node.node);
    if !node.error.is_empty() {
        return format!("{name}: could not be asked: {}\n", output::printable(&node.error));
    }
    let field = |name: &str, value: String| vec![name.to_owned(), value];
    let mut text = format!("{name}:\n");
    text.push_str(&output::table(&[
        field("state", node.state.unwrap_or_default().to_owned()),
        field("payload", node.payload.unwrap_or_default().to_owned()),
        field("expires_at", output::moment(node.expires_at_unix.unwrap_or_default())),
        field("public", if node.public == Some(true) { "yes" } else { "no" }.to_owned()),
        field("conflicts", node.conflicts.unwrap_or_default().to_string()),
    ]));
    let is_narrow = columns.is_some_and(|columns| columns < WIDE);
    let rows = all.iter().map(|(place, told)| {
        let own = node.operations.iter().find(|operation| operation.place() == *place);
        let applied = own.and_then(|own| own.applied_unix_ms);
        let applied = applied.map_or_else(|| "-".to_owned(), output::moment_to_the_millisecond);
        let made = told.at_unix.map_or_else(|| "unknown".to_owned(), output::moment);
        let (made, applied) = if is_narrow { shortened(&made, &applied) } else { (made, applied) };
        let note = own.map_or_else(|| why_absent(node, told), note);
        vec![told.operation.to_owned(), stamp::text(&told.origin, told.clock), made, applied, note]
    });
    let rows = output::headed(&["OPERATION", "STAMP", "MADE", "APPLIED HERE", "NOTE"], rows);
    text.push_str(&output::table(&rows));
    text
}

/// The two times of an operation without the number of seconds, and without a date that both have.
fn shortened(made: &str, applied: &str) -> (String, String) {
    let made = made.split(' ').next().unwrap_or_default();
    let applied = match (made.split_once('T'), applied.split_once('T')) {
        (Some((day, _)), Some((same, time))) if day == same => time,
        _ => applied,
    };
    (made.to_owned(), applied.to_owned())
}

/// Why a node does not list an operation that another node lists.
fn why_absent(node: &TracedNode, operation: &TracedOperation) -> String {
    let TracedOperation { origin, clock, .. } = operation;
    match node.applied.get(origin).copied().unwrap_or_default() {
        applied if applied < *clock => {
            format!("not applied yet: has {origin} up to {applied}, it is at {clock}")
        }
        _ => COMPACTED.to_owned(),
    }
}

/// The version vector covers it, and the log no longer has it.
const COMPACTED: &str = "applied; its log entry is compacted";

/// The note on an operation that the node lists.
fn note(operation: &TracedOperation) -> String {
    let what = match (operation.quarantined, operation.applied_unix_ms) {
        (true, _) => "quarantined",
        (false, None) => COMPACTED,
        (false, _) => "",
    };
    match (what, output::printable(&operation.reason)) {
        (what, reason) if reason.is_empty() => what.to_owned(),
        ("", reason) => reason,
        (what, reason) => format!("{what}: {reason}"),
    }
}

#[cfg(test)]
mod tests;
