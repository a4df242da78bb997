//! `verify`: whether all nodes hold the same records.

use crate::{
    answer,
    cli::Format,
    failure::Failure,
    output::{self, headed, known, section},
    paint,
    progress::Progress,
};
use brock_client::Client;
use brock_core::proto::{self, verify_response};
use data_encoding::HEXLOWER;
use serde::Serialize;

/// Compares the first node that answers with its peers.
pub(crate) async fn run(client: &Client, format: Format) -> Result<(), Failure> {
    let progress = Progress::spinner("comparing the nodes");
    let fetched = fetch(client).await;
    drop(progress);
    let verified = fetched?;
    output::data(format, &verified, Verified::text)?;
    verified.outcome()
}

/// The same as a value.
pub(crate) async fn value(client: &Client) -> Result<serde_json::Value, Failure> {
    output::value(&fetch(client).await?)
}

async fn fetch(client: &Client) -> Result<Verified, Failure> {
    Verified::try_from(answer::reported(client.verify(proto::VerifyRequest {}).await)?)
}

/// What `verify` prints.
#[derive(Debug, Serialize)]
struct Verified {
    verdict: Verdict,
    /// The node that was asked comes first.
    nodes: Vec<Node>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Converged,
    NotYet,
    Diverged,
}

/// One node. All `null` if it could not be asked.
#[derive(Debug, Default, Serialize)]
struct Node {
    node: String,
    /// Empty if the node could be asked.
    error: String,
    lag_entries: Option<u64>,
    records: Option<u64>,
    tombstones: Option<u64>,
    equal: Option<bool>,
    /// Some of the key hashes that differ.
    differing: Vec<String>,
    differing_total: u64,
}

impl TryFrom<proto::VerifyResponse> for Verified {
    type Error = Failure;

    fn try_from(response: proto::VerifyResponse) -> Result<Self, Failure> {
        let proto::VerifyResponse { verdict, nodes } = response;
        // An empty answer would otherwise look like success.
        if nodes.is_empty() {
            return Err(Failure::nonsense("it names no node, not even itself"));
        }
        let verdict = match verify_response::Verdict::try_from(verdict).map_err(Failure::nonsense)? {
            verify_response::Verdict::Unspecified => return Err(Failure::nonsense("it has no verdict")),
            verify_response::Verdict::Converged => Verdict::Converged,
            verify_response::Verdict::NotYet => Verdict::NotYet,
            verify_response::Verdict::Diverged => Verdict::Diverged,
        };
        Ok(Self { verdict, nodes: nodes.into_iter().map(Node::from).collect() })
    }
}

impl From<verify_response::Node> for Node {
    fn from(node: verify_response::Node) -> Self {
        let verify_response::Node {
            node,
            error,
            lag_entries,
            records,
            tombstones,
            equal,
            differing,
            differing_total,
        } = node;
        if !error.is_empty() {
            return Self { node, error, ..Self::default() };
        }
        Self {
            node,
            error,
            lag_entries: Some(lag_entries),
            records: Some(records),
            tombstones: Some(tombstones),
            equal: Some(equal),
            differing: differing.iter().map(|key_hash| HEXLOWER.encode(key_hash)).collect(),
            differing_total,
        }
    }
}

impl Verified {
    /// The exit code of the verdict. The text has nodes and counts, never a key hash.
    fn outcome(&self) -> Result<(), Failure> {
        match self.verdict {
            Verdict::Converged => Ok(()),
            Verdict::NotYet => {
                Err(Failure::Precondition(format!("not converged yet: {}", self.list(Node::delay))))
            }
            Verdict::Diverged => Err(Failure::Error(format!(
                "diverged: the same operations are applied, and the records differ: {}",
                self.list(Node::difference)
            ))),
        }
    }

    fn list(&self, what: impl Fn(&Node) -> Option<String>) -> String {
        match self.nodes.iter().filter_map(what).collect::<Vec<_>>() {
            // Records changed during the comparison.
            named if named.is_empty() => "it did not hold still; try again".to_owned(),
            named => named.join("; "),
        }
    }

    fn text(&self) -> String {
        let verdict = match self.verdict {
            Verdict::Converged => paint::good("converged"),
            Verdict::NotYet => paint::warn("not yet"),
            Verdict::Diverged => paint::bad("diverged"),
        };
        let mut text = output::fields(&[("verdict", verdict)]);
        let here = self.nodes.first().and_then(|node| node.lag_entries);
        let rows = self.nodes.iter().map(|node| node.row(here));
        let heading = ["NODE", "LAG", "RECORDS", "TOMBSTONES", "EQUAL", "DIFFERING", "ERROR"];
        section(&mut text, "nodes", &headed(&heading, rows));
        for node in self.nodes.iter().filter(|node| !node.differing.is_empty()) {
            let title = format!(
                "differing at {} ({} of {})",
                output::printable(&node.node),
                node.differing.len(),
                node.differing_total
            );
            let rows: Vec<_> = node.differing.iter().map(|key_hash| vec![key_hash.clone()]).collect();
            section(&mut text, &title, &rows);
        }
        text
    }
}

impl Node {
    /// Why the comparison must wait for this node.
    fn delay(&self) -> Option<String> {
        let name = output::printable(&self.node);
        match self.lag_entries {
            None => Some(format!("{name} could not be asked ({})", output::printable(&self.error))),
            Some(0) => None,
            Some(lag) => Some(format!("{name} lags by {}", output::count(lag, "operation"))),
        }
    }

    fn difference(&self) -> Option<String> {
        let count = self.differing_total;
        (count > 0).then(|| {
            format!(
                "{} ({})",
                output::printable(&self.node),
                match count {
                    1 => "1 key hash".to_owned(),
                    _ => format!("{count} key hashes"),
                }
            )
        })
    }

    /// `lag_here` is the lag of the node that was asked: records are comparable when neither lags.
    fn row(&self, lag_here: Option<u64>) -> Vec<String> {
        let comparable = lag_here == Some(0) && self.lag_entries == Some(0);
        let equal = match self.equal {
            Some(true) if comparable => "yes",
            Some(false) if comparable => "no",
            _ => "-",
        };
        vec![
            output::printable(&self.node),
            known(self.lag_entries),
            known(self.records),
            known(self.tombstones),
            equal.to_owned(),
            self.differing_total.to_string(),
            output::printable(&self.error),
        ]
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::*;
    use crate::failure::Exit;

    fn node(name: &str, lag_entries: u64, differing: u8) -> verify_response::Node {
        verify_response::Node {
            node: name.to_owned(),
            error: String::new(),
            lag_entries,
            records: 10,
            tombstones: 1,
            equal: differing == 0,
            differing: (0..differing).map(|byte| Bytes::from(vec![byte; 32])).collect(),
            differing_total: u64::from(differing) * 100,
        }
    }

    fn unasked(name: &str) -> verify_response::Node {
        verify_response::Node { node: name.to_owned(), error: "refused\x07".to_owned(), ..Default::default() }
    }

    fn verified(verdict: verify_response::Verdict, nodes: Vec<verify_response::Node>) -> Verified {
        Verified::try_from(proto::VerifyResponse { verdict: verdict.into(), nodes }).unwrap()
    }

    #[test]
    fn an_answer_without_a_verdict_is_no_success() {
        let answer = proto::VerifyResponse { nodes: vec![node("node-1", 0, 0)], ..Default::default() };
        assert!(Verified::try_from(answer).unwrap_err().to_string().contains("no verdict"));
    }

    #[test]
    fn a_comparison_is_this_json() {
        let nodes = vec![node("node-1", 0, 0), node("node-2", 0, 1), unasked("c:1")];
        let verified = verified(verify_response::Verdict::NotYet, nodes);
        let json: serde_json::Value = serde_json::from_str(&output::json(&verified).unwrap()).unwrap();
        let expected = json!({
            "verdict": "not_yet",
            "nodes": [
                {"node": "node-1", "error": "", "lag_entries": 0, "records": 10, "tombstones": 1, "equal": true,
                 "differing": [], "differing_total": 0},
                {"node": "node-2", "error": "", "lag_entries": 0, "records": 10, "tombstones": 1, "equal": false,
                 "differing": ["00".repeat(32)], "differing_total": 100},
                {"node": "c:1", "error": "refused\u{7}", "lag_entries": null, "records": null,
                 "tombstones": null, "equal": null, "differing": [], "differing_total": 0},
            ],
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn every_verdict_has_its_exit_code() {
        use verify_response::Verdict::{Converged, Diverged, NotYet};
        assert_eq!(verified(Converged, vec![node("a", 0, 0)]).outcome(), Ok(()));

        let failure = verified(NotYet, vec![node("a", 0, 0), node("b", 7, 0), unasked("c")]).outcome();
        let failure = failure.unwrap_err();
        assert_eq!(failure.exit(), Exit::Precondition);
        let text = "not converged yet: b lags by 7 operations; c could not be asked (refused\u{fffd})";
        assert_eq!(failure.to_string(), text);

        let diverged = verified(Diverged, vec![node("a", 0, 0), node("b", 0, 2)]);
        let failure = diverged.outcome().unwrap_err();
        assert_eq!(failure.exit(), Exit::Error);
        let told = failure.to_string();
        assert!(told.ends_with("differ: b (200 key hashes)"), "{told}");
        assert!(!told.contains(&"01".repeat(32)), "key hashes are data, not messages");
        let text = diverged.text();
        assert!(text.contains(&format!("\ndiffering at b (2 of 200):\n  {}\n", "00".repeat(32))), "{text}");
        assert!(text.contains(&"01".repeat(32)), "{text}");

        assert_eq!(verified(NotYet, vec![node("a", 0, 0)]).outcome().unwrap_err().exit(), Exit::Precondition);
        assert!(Verified::try_from(proto::VerifyResponse::default()).is_err(), "silence is no agreement");
        let unknown = proto::VerifyResponse { verdict: 9, nodes: vec![node("a", 0, 0)] };
        assert!(Verified::try_from(unknown).is_err());
    }

    #[test]
    fn nodes_are_only_called_equal_when_neither_lags() {
        let equal = |here: u64, there: u64| {
            let row = Node::from(node("b", there, 0)).row(Some(here));
            row[4].clone()
        };
        assert_eq!((equal(0, 0), equal(0, 1), equal(1, 0)), ("yes".into(), "-".into(), "-".into()));
    }
}
