//! `trust`: what the nodes believe each other, and what of their records is not proven; and logging that again.

use crate::{
    answer,
    cli::{Format, TrustCommand},
    cluster::{self, number},
    failure::Failure,
    order,
    output::{self, headed, section},
    progress::Progress,
};
use brock_client::{
    Answered, Client, ClientError,
    view::{ForkedOrigin, Node, Trust},
};
use brock_core::{
    base::{id::KeyHash, time::unix_now},
    domain::{operation::Operation, order::Subject},
    proto,
};
use bytes::Bytes;
use serde::Serialize;
use tonic_types::StatusExt as _;

/// Runs the command.
pub(crate) async fn run(client: &Client, command: TrustCommand, format: Format) -> Result<(), Failure> {
    match command {
        TrustCommand::Status => status(client, format).await,
        TrustCommand::Migrate { yes: _ } => migrate(client, format).await,
    }
}

/// Asks the first node that answers, which asks the others.
async fn status(client: &Client, format: Format) -> Result<(), Failure> {
    let cluster = cluster::view(client, false).await?;
    let nodes = cluster.nodes.into_iter().filter(|node| !node.retired).map(NodeTrust::from);
    let trusts = Trusts { nodes: nodes.collect() };
    output::data(format, &trusts, Trusts::text)?;
    trusts.judged()
}

/// Printed before records are logged again.
pub(crate) const MIGRATE_WARNING: &str = "Logging records again: your certificate signs an order for each record that the node shows as \
     invalidated, unpublished or deleted without proof. Do this only at a node that you trust, once `node-admin verify` says \
     that all nodes have converged.";

/// Logs again what is not proven, at the first node that answers, step by step. Repeating it is harmless.
async fn migrate(client: &Client, format: Format) -> Result<(), Failure> {
    let progress = Progress::spinner("logging records again");
    let mut done = Migrated::default();
    let (mut after, mut orders, mut is_signed) = (Bytes::new(), Vec::new(), false);
    loop {
        let request =
            proto::MigrateTrustRequest { after: after.clone(), orders: std::mem::take(&mut orders) };
        let answer = migrated(client.migrate_trust(request).await)?;
        let proto::MigrateTrustResponse { node_id, records, operations, waiting, next, unproven_records } =
            answer;
        done = Migrated {
            node_id,
            records: done.records + records,
            operations: done.operations + operations,
            orders: done.orders,
            unproven_records,
        };
        if waiting.is_empty() {
            if next.is_empty() {
                break;
            }
            (after, is_signed) = (next, false);
            continue;
        }
        if is_signed && records == 0 {
            return Err(Failure::Error("the node asks again for orders that it was given".to_owned()));
        }
        done.orders += waiting.len() as u64;
        let signed = waiting.into_iter().map(|one| signed(client, one)).collect::<Result<_, _>>();
        orders = signed.map_err(|failure| failure.with_remark(&done.remark()))?;
        is_signed = true;
    }
    drop(progress);
    output::data(format, &done, Migrated::text)?;
    match done.unproven_records {
        0 => Ok(()),
        left => Err(Failure::Precondition(format!(
            "{left} records are not proven at {} yet: others came meanwhile, from a node that does not sign or from an \
             operator without orders (`node-admin trust status`). Repeat this",
            output::printable(&done.node_id)
        ))),
    }
}

/// A node that does not sign will not do so when the command is repeated: not exit code 5.
fn migrated(answered: Answered<proto::MigrateTrustResponse>) -> Result<proto::MigrateTrustResponse, Failure> {
    let is_unable = match &answered.outcome {
        Err(ClientError::Status(status)) => {
            status.get_details_error_info().is_some_and(|info| info.reason == "DOES_NOT_SIGN")
        }
        _ => false,
    };
    match answer::reported_change(answered) {
        Err(Failure::Precondition(text)) if is_unable => Err(Failure::Usage(text)),
        outcome => outcome,
    }
}

/// The same with the operator's order.
fn signed(
    client: &Client,
    destruction: proto::UnprovenDestruction,
) -> Result<proto::UnprovenDestruction, Failure> {
    let key_hash = KeyHash::try_from(destruction.key_hash.as_ref()).map_err(Failure::nonsense)?;
    let operation = Operation::decode(&destruction.operation).map_err(Failure::nonsense)?;
    let order = loop {
        let now = unix_now();
        let subject = match &operation {
            // In the second of the order it is an order like any other.
            Operation::Invalidate { at, reason } if *at == now => Subject::Invalidate(&key_hash, reason),
            Operation::Invalidate { at, reason } => Subject::InvalidateAsOf(&key_hash, reason, *at),
            Operation::Unpublish => Subject::Unpublish(&key_hash),
            Operation::Delete => Subject::Delete(&key_hash),
            Operation::Create { .. } => {
                return Err(Failure::Error(
                    "the node asks for an order for what destroys nothing".to_owned(),
                ));
            }
        };
        let what = "logging again what is invalidated, unpublished or deleted";
        let order = order::required(client, subject, what)?;
        if order.at_unix_ms.div_euclid(1000) == now {
            break order;
        }
    };
    Ok(proto::UnprovenDestruction { order: Some(order), ..destruction })
}

/// What `trust migrate` prints.
#[derive(Debug, Default, Serialize)]
struct Migrated {
    /// The node that answered last.
    node_id: String,
    /// Records that are proven now.
    records: u64,
    /// Operations that were logged for that.
    operations: u64,
    /// Orders that were signed.
    orders: u64,
    /// Records there that are not proven yet.
    unproven_records: u64,
}

impl Migrated {
    /// Of what was done before a failure.
    fn remark(&self) -> String {
        let Self { records, operations, .. } = self;
        format!(
            "{operations} operations of {records} records, which need no order, were logged again before; that is kept"
        )
    }

    fn text(&self) -> String {
        output::fields(&[
            ("node_id", output::printable(&self.node_id)),
            ("records", self.records.to_string()),
            ("operations", self.operations.to_string()),
            ("orders", self.orders.to_string()),
            ("unproven_records", self.unproven_records.to_string()),
        ])
    }
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
                number(trust.map(|trust| if trust.signs { "yes" } else { "no" })),
                number(trust.map(|trust| trust.unproven_records)),
                number(trust.map(|trust| trust.unborn_origins)),
                number(trust.map(|trust| trust.unbelieved_origins)),
                output::printable(&node.error),
            ]
        });
        let heading = ["NODE", "TRUST", "SIGNS", "UNPROVEN", "UNBORN", "UNBELIEVED", "ERROR"];
        let mut text = String::new();
        section(&mut text, "nodes", &headed(&heading, rows));
        let frozen: Vec<_> = self.nodes.iter().flat_map(frozen).collect();
        if !frozen.is_empty() {
            section(
                &mut text,
                "frozen origins",
                &headed(&["NODE", "ORIGIN", "HAS SIGNED"], frozen.into_iter()),
            );
        }
        text.trim_start().to_owned()
    }

    /// For scripts that wait until everything is proven: a node that does not answer may have more.
    fn judged(&self) -> Result<(), Failure> {
        let named = |nodes: Vec<&NodeTrust>| {
            nodes.iter().map(|node| output::printable(&node.node)).collect::<Vec<_>>().join(", ")
        };
        let has_unproven =
            |node: &&NodeTrust| node.trust.as_ref().is_some_and(|trust| trust.unproven_records > 0);
        let unproven: Vec<_> = self.nodes.iter().filter(has_unproven).collect();
        let silent: Vec<_> = self.nodes.iter().filter(|node| node.trust.is_none()).collect();
        match (unproven.is_empty(), silent.is_empty()) {
            (false, _) => {
                Err(Failure::Precondition(format!("records are not proven at {}", named(unproven))))
            }
            (true, false) => {
                let silent = named(silent);
                Err(Failure::Unreachable(format!(
                    "no answer of {silent}: whether all records are proven there is not known"
                )))
            }
            (true, true) => Ok(()),
        }
    }
}

fn frozen(node: &NodeTrust) -> impl Iterator<Item = Vec<String>> {
    let forks = node.trust.iter().flat_map(|trust| &trust.forks);
    forks.map(|fork| vec![output::printable(&node.node), fork.origin.clone(), forked(fork)])
}

/// What a frozen origin has signed.
pub(crate) fn forked(fork: &ForkedOrigin) -> String {
    let acknowledged = if fork.acknowledged { ", acknowledged" } else { "" };
    format!("{}{acknowledged}", output::printable(&fork.kind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Exit;

    #[test]
    fn what_could_not_be_learned_is_unknown_and_never_zero() {
        let trust = Trust {
            mode: "distributed".to_owned(),
            unproven_records: 0,
            unborn_origins: 2,
            unconfirmed_fills: Vec::new(),
            heads: Vec::new(),
            unbelieved_origins: 3,
            signs: true,
            forks: vec![ForkedOrigin {
                origin: "c/00000001".to_owned(),
                kind: "two births".to_owned(),
                acknowledged: true,
            }],
        };
        let known = NodeTrust { node: "a".to_owned(), error: String::new(), trust: Some(trust) };
        let silent = NodeTrust { node: "b".to_owned(), error: "refused".to_owned(), trust: None };
        let trusts = Trusts { nodes: vec![known, silent] };
        let text = trusts.text();
        let words: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert!(words.contains(&vec!["a", "distributed", "yes", "0", "2", "3"]), "{text}");
        assert!(words.contains(&vec!["a", "c/00000001", "two", "births,", "acknowledged"]), "{text}");
        assert!(words.contains(&vec!["b", "?", "?", "?", "?", "?", "refused"]), "{text}");
        let code = |trusts: &Trusts| trusts.judged().map_err(|failure| failure.exit());
        assert_eq!(code(&trusts), Err(Exit::Unreachable));
        let mut trusts = trusts;
        trusts.nodes[0].trust.as_mut().unwrap().unproven_records = 1;
        assert_eq!(code(&trusts), Err(Exit::Precondition));
        trusts.nodes.clear();
        assert_eq!(code(&trusts), Ok(()));
    }
}
