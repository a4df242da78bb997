//! What became of a command at each of several nodes.

use crate::{
    failure::Failure,
    output::{self, headed, section},
};
use brock_client::{Client, Connection};
use serde::Serialize;

/// At one node.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) node: String,
    /// Empty if done.
    pub(crate) error: String,
}

impl Outcome {
    pub(crate) fn done(node: String) -> Self {
        Self { node, error: String::new() }
    }
}

/// Adds the table of them to a text.
pub(crate) fn show(text: &mut String, outcomes: &[Outcome]) {
    let rows = outcomes.iter().map(|Outcome { node, error }| {
        let done = if error.is_empty() { "done" } else { error };
        vec![output::printable(node), output::printable(done)]
    });
    section(text, "outcomes", &headed(&["NODE", "OUTCOME"], rows));
}

/// Asks every node that is named, one after the other: what it answers, or why it was not done there. A refusal is that
/// of all.
pub(crate) async fn at_each<T, E: Into<Failure>>(
    client: &Client,
    ask: impl AsyncFn(Connection) -> Result<T, E>,
) -> Result<Vec<Result<T, Outcome>>, Failure> {
    let mut answers = Vec::new();
    for address in client.addresses() {
        answers.push(match ask(client.connection(address)).await.map_err(Into::into) {
            Ok(answer) => Ok(answer),
            Err(failure @ Failure::Denied(_)) => return Err(failure),
            Err(failure) => Err(Outcome { node: address.to_string(), error: failure.on_one_line() }),
        });
    }
    Ok(answers)
}
