//! `repair`: merging differing records of the peers now.

use crate::{
    answer,
    cli::Format,
    failure::Failure,
    output::{self, headed, known, section},
    progress::Progress,
};
use brock_client::Client;
use brock_core::proto::{self, repair_response};
use serde::Serialize;

/// Merges the peers' records at the first node that answers.
pub(crate) async fn run(client: &Client, format: Format) -> Result<(), Failure> {
    let progress = Progress::spinner("repairing");
    let answered = client.repair(proto::RepairRequest {}).await;
    drop(progress);
    let repaired = Repaired::from(answer::reported_change(answered)?);
    output::data(format, &repaired, Repaired::text)?;
    repaired.outcome()
}

/// What `repair` prints.
#[derive(Debug, Serialize)]
struct Repaired {
    /// The node that answered.
    node_id: String,
    peers: Vec<Peer>,
}

/// The result for one peer. All `null` if the peer could not be asked.
#[derive(Debug, Default, Serialize)]
struct Peer {
    node: String,
    /// Empty if the peer could be asked.
    error: String,
    differing: Option<u64>,
    repaired: Option<u64>,
    /// Not merged: they may have been deleted here, and it is no longer known.
    ambiguous: Option<u64>,
    /// Records that had lost what proves them to other nodes, and for which the peer had it.
    proven: Option<u64>,
}

impl From<proto::RepairResponse> for Repaired {
    fn from(response: proto::RepairResponse) -> Self {
        let peer = |repair_response::Peer { node, error, differing, repaired, ambiguous, proven }| {
            let known = |count| error.is_empty().then_some(count);
            let (differing, repaired) = (known(differing), known(repaired));
            let (ambiguous, proven) = (known(ambiguous), known(proven));
            Peer { node, error, differing, repaired, ambiguous, proven }
        };
        Self { node_id: response.node_id, peers: response.peers.into_iter().map(peer).collect() }
    }
}

impl Repaired {
    fn outcome(&self) -> Result<(), Failure> {
        let problems: Vec<_> = self.peers.iter().filter_map(Peer::problem).collect();
        match problems.is_empty() {
            true => Ok(()),
            false => {
                Err(Failure::Precondition(format!("not everything was joined: {}", problems.join("; "))))
            }
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let rows = self.peers.iter().map(|peer| {
            let mut row = vec![output::printable(&peer.node)];
            row.extend([peer.differing, peer.repaired, peer.ambiguous, peer.proven].map(known));
            row.push(output::printable(&peer.error));
            row
        });
        let title = format!("repaired at {} from its peers", output::printable(&self.node_id));
        let columns = ["NODE", "DIFFERING", "REPAIRED", "AMBIGUOUS", "PROVEN", "ERROR"];
        section(&mut text, &title, &headed(&columns, rows));
        text.trim_start().to_owned()
    }
}

impl Peer {
    fn problem(&self) -> Option<String> {
        let name = output::printable(&self.node);
        match self.ambiguous {
            None => Some(format!("{name} could not be asked ({})", output::printable(&self.error))),
            Some(0) => None,
            Some(count) => Some(format!(
                "{} that only {name} has were left alone, because they may have been deleted",
                output::count(count, "record")
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Exit;

    fn peer(name: &str, error: &str, ambiguous: u64) -> repair_response::Peer {
        let (node, error) = (name.to_owned(), error.to_owned());
        repair_response::Peer { node, error, differing: 3, repaired: 2, ambiguous, proven: 5 }
    }

    fn repaired(peers: Vec<repair_response::Peer>) -> Repaired {
        Repaired::from(proto::RepairResponse { node_id: "a".to_owned(), peers })
    }

    #[test]
    fn a_repair_is_this_json() {
        let repaired = repaired(vec![peer("node-2", "", 1), peer("c:1", "refused", 0)]);
        let expected = r#"{
  "node_id": "a",
  "peers": [
    {
      "node": "node-2",
      "error": "",
      "differing": 3,
      "repaired": 2,
      "ambiguous": 1,
      "proven": 5
    },
    {
      "node": "c:1",
      "error": "refused",
      "differing": null,
      "repaired": null,
      "ambiguous": null,
      "proven": null
    }
  ]
}
"#;
        assert_eq!(output::json(&repaired).unwrap(), expected);
    }

    #[test]
    fn what_was_not_joined_shows_in_the_exit_code() {
        assert_eq!(repaired(vec![peer("b", "", 0)]).outcome(), Ok(()));
        assert_eq!(repaired(Vec::new()).outcome(), Ok(()), "a node without peers has nothing to repair");
        for (peers, part) in [
            (vec![peer("b", "", 0), peer("c", "refused\x07", 0)], "c could not be asked (refused\u{fffd})"),
            (vec![peer("b", "", 4)], "4 records that only b has"),
        ] {
            let failure = repaired(peers).outcome().unwrap_err();
            assert_eq!(failure.exit(), Exit::Precondition);
            assert!(failure.to_string().contains(part), "{failure}");
        }
    }

    #[test]
    fn a_repair_is_a_table_for_people() {
        let text = repaired(vec![peer("b\x07", "", 1), peer("c", "refused", 0)]).text();
        let expected = "repaired at a from its peers:\n  NODE  DIFFERING  REPAIRED  AMBIGUOUS  PROVEN   ERROR\n  \
                        b\u{fffd}    3          2         1          5\n  \
                        c     unknown    unknown   unknown    unknown  refused\n";
        assert_eq!(text, expected);
    }
}
