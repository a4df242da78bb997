//! `compact`: compacting a node's log now.

use crate::{answer, cli::Format, cluster::bytes, failure::Failure, output, progress::Progress};
use brock_client::Client;
use brock_core::proto;
use serde::Serialize;

/// Compacts the log of the first node that answers.
pub(crate) async fn run(client: &Client, format: Format) -> Result<(), Failure> {
    let progress = Progress::spinner("compacting the log");
    let answered = client.compact(proto::CompactRequest {}).await;
    drop(progress);
    output::data(format, &Compacted::from(answer::reported_change(answered)?), Compacted::text)
}

/// What `compact` prints.
#[derive(Debug, Serialize)]
struct Compacted {
    /// The node that answered.
    node_id: String,
    entries_removed: u64,
    bytes_removed: u64,
    entries_kept: u64,
    bytes_kept: u64,
    payloads_removed: u64,
    tombstones_collected: u64,
    origins_folded: u64,
}

impl From<proto::CompactResponse> for Compacted {
    fn from(response: proto::CompactResponse) -> Self {
        // Destructured, so that a new field cannot be forgotten here.
        let proto::CompactResponse {
            entries_removed,
            bytes_removed,
            entries_kept,
            bytes_kept,
            payloads_removed,
            tombstones_collected,
            origins_folded,
            node_id,
        } = response;
        Self {
            node_id,
            entries_removed,
            bytes_removed,
            entries_kept,
            bytes_kept,
            payloads_removed,
            tombstones_collected,
            origins_folded,
        }
    }
}

impl Compacted {
    fn text(&self) -> String {
        output::fields(&[
            ("node_id", output::printable(&self.node_id)),
            ("entries_removed", self.entries_removed.to_string()),
            ("bytes_removed", bytes(self.bytes_removed)),
            ("entries_kept", self.entries_kept.to_string()),
            ("bytes_kept", bytes(self.bytes_kept)),
            ("payloads_removed", self.payloads_removed.to_string()),
            ("tombstones_collected", self.tombstones_collected.to_string()),
            ("origins_folded", self.origins_folded.to_string()),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compaction_is_this_json() {
        let compacted = Compacted::from(proto::CompactResponse {
            entries_removed: 1,
            bytes_removed: 2,
            entries_kept: 3,
            bytes_kept: 4,
            payloads_removed: 5,
            tombstones_collected: 6,
            origins_folded: 7,
            node_id: "node-1".to_owned(),
        });
        let expected = r#"{
  "node_id": "node-1",
  "entries_removed": 1,
  "bytes_removed": 2,
  "entries_kept": 3,
  "bytes_kept": 4,
  "payloads_removed": 5,
  "tombstones_collected": 6,
  "origins_folded": 7
}
"#;
        assert_eq!(output::json(&compacted).unwrap(), expected);
        assert!(compacted.text().ends_with("\ntombstones_collected  6\norigins_folded        7\n"));
    }
}
