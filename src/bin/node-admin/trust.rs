//! `trust`: what the nodes believe each other, and what of their records is not proven.

use crate::{
    cli::{Format, TrustCommand},
    cluster::{self, number},
    failure::Failure,
    output::{self, headed, section},
};
use brock_client::{
    Client,
    view::{Node, Trust},
};
use serde::Serialize;

/// Runs the command.
pub(crate) async fn run(client: &Client, command: TrustCommand, format: Format) -> Result<(), Failure> {
    match command {
        TrustCommand::Status => status(client, format).await,
    }
}

/// Asks the first node that answers, which asks the others.
async fn status(client: &Client, format: Format) -> Result<(), Failure> {
    let cluster = cluster::view(client, false).await?;
    let nodes = cluster.nodes.into_iter().filter(|node| !node.retired).map(NodeTrust::from);
    output::data(format, &Trusts { nodes: nodes.collect() }, Trusts::text)
}

/// What `trust status` prints.
#[derive(Debug, Serialize)]
struct Trusts {
    nodes: Vec<NodeTrust>,
}

#[derive(Debug, Serialize)]
struct NodeTrust {
    node: String,
    /// Empty if the node answered.
    error: String,
    /// `null` if not known.
    trust: Option<Trust>,
}

impl From<Node> for NodeTrust {
    fn from(node: Node) -> Self {
        let trust = node.status.and_then(|status| status.trust);
        Self { node: node.node, error: node.error, trust }
    }
}

impl Trusts {
    fn text(&self) -> String {
        let rows = self.nodes.iter().map(|node| {
            let trust = node.trust.as_ref();
            vec![
                output::printable(&node.node),
                number(trust.map(|trust| output::printable(&trust.mode))),
                number(trust.map(|trust| trust.unproven_records)),
                number(trust.map(|trust| trust.unborn_origins)),
                output::printable(&node.error),
            ]
        });
        let heading = ["NODE", "TRUST", "UNPROVEN RECORDS", "UNBORN ORIGINS", "ERROR"];
        let mut text = String::new();
        section(&mut text, "nodes", &headed(&heading, rows));
        text.trim_start().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_learned_is_unknown_and_never_zero() {
        let trust = Trust { mode: "distributed".to_owned(), unproven_records: 0, unborn_origins: 2 };
        let known = NodeTrust { node: "a".to_owned(), error: String::new(), trust: Some(trust) };
        let silent = NodeTrust { node: "b".to_owned(), error: "refused".to_owned(), trust: None };
        let text = Trusts { nodes: vec![known, silent] }.text();
        let words: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert!(words.contains(&vec!["a", "distributed", "0", "2"]), "{text}");
        assert!(words.contains(&vec!["b", "?", "?", "?", "refused"]), "{text}");
    }
}
