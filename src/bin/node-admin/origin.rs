//! `origin resume`: lets a log go on that nodes have paused because it destroyed too much in a short time.
//! `origin ack`: notes that what has frozen an origin is dealt with.

use crate::{
    cli::Format,
    cluster,
    failure::Failure,
    outcome,
    output::{self, headed, section},
};
use brock_client::{
    Client,
    view::{Node, PausedOrigin},
};
use brock_core::{base::id::Origin, proto};
use bytes::Bytes;
use serde::Serialize;

/// Printed before a log is resumed.
pub(crate) const RESUME_WARNING: &str = "Resuming a log: what it has invalidated, unpublished and deleted by now is applied, \
     without a limit. Do this only if operators have done that on purpose.";

/// Resumes the log at every node that is named: each decides for itself.
pub(crate) async fn resume(client: &Client, node_id: String, format: Format) -> Result<(), Failure> {
    let request = proto::ResumeOriginRequest { node_id: node_id.clone() };
    let answers = outcome::at_each(client, async |node| node.resume_origin(request.clone()).await).await?;
    let outcomes = answers.into_iter().map(|answer| match answer {
        Ok(answer) => Outcome::new(answer),
        Err(outcome::Outcome { node, error }) => Ok(Outcome { node, resumed: Vec::new(), error }),
    });
    let outcomes = outcomes.collect::<Result<_, _>>()?;
    let resumed = Resumed { origin: node_id, outcomes };
    output::data(format, &resumed, Resumed::text)?;
    resumed.outcome()?;
    // A misspelt id would otherwise look as if it were done.
    let has_resumed = resumed.outcomes.iter().any(|outcome| !outcome.resumed.is_empty());
    let is_it = |node: &Node| node.node == resumed.origin;
    match has_resumed || cluster::view(client, false).await?.nodes.iter().any(is_it) {
        true => Ok(()),
        false => Err(Failure::NotFound(format!("no node of the cluster is called {}", resumed.origin))),
    }
}

/// Notes at every node that is named that what has frozen an origin is dealt with: each keeps its own note.
pub(crate) async fn acknowledge(client: &Client, origin: Origin, format: Format) -> Result<(), Failure> {
    let request = proto::AcknowledgeForkRequest { origin: Bytes::copy_from_slice(origin.as_bytes()) };
    let answers = outcome::at_each(client, async |node| node.acknowledge_fork(request.clone()).await).await?;
    let outcomes = answers.into_iter().map(|answer| match answer {
        Ok(answer) => Noted { node: answer.node_id, frozen: answer.frozen, error: String::new() },
        Err(outcome::Outcome { node, error }) => Noted { node, frozen: false, error },
    });
    let outcomes = outcomes.collect();
    let acknowledged = Acknowledged { origin: origin.to_string(), outcomes };
    let outcome = acknowledged.outcome();
    if !matches!(outcome, Err(Failure::NotFound(_))) {
        output::data(format, &acknowledged, Acknowledged::text)?;
    }
    outcome
}

/// What `origin ack` prints.
#[derive(Debug, Serialize)]
struct Acknowledged {
    origin: String,
    outcomes: Vec<Noted>,
}

#[derive(Debug, Serialize)]
struct Noted {
    node: String,
    /// Whether the origin is frozen there; otherwise nothing was to be noted.
    frozen: bool,
    /// Empty if the node answered.
    error: String,
}

impl Acknowledged {
    fn outcome(&self) -> Result<(), Failure> {
        if self.outcomes.iter().all(|noted| noted.error.is_empty() && !noted.frozen) {
            return Err(Failure::NotFound(format!("{} is frozen at none of these nodes", self.origin)));
        }
        let outcomes = self.outcomes.iter().map(|noted| (noted.node.as_str(), noted.error.as_str()));
        Failure::at_some(outcomes, "acknowledged")
    }

    fn text(&self) -> String {
        let mut text = output::fields(&[("origin", output::printable(&self.origin))]);
        let rows = self.outcomes.iter().map(|noted| {
            let outcome = match (noted.error.as_str(), noted.frozen) {
                ("", true) => "acknowledged".to_owned(),
                ("", false) => "not frozen there".to_owned(),
                (error, _) => output::printable(error),
            };
            vec![output::printable(&noted.node), outcome]
        });
        section(&mut text, "outcomes", &headed(&["NODE", "OUTCOME"], rows));
        text
    }
}

/// What `origin resume` prints.
#[derive(Debug, Serialize)]
struct Resumed {
    /// The node whose log it is.
    origin: String,
    outcomes: Vec<Outcome>,
}

#[derive(Debug, Serialize)]
struct Outcome {
    node: String,
    /// What was paused there.
    resumed: Vec<PausedOrigin>,
    /// Empty if the node answered.
    error: String,
}

impl Outcome {
    fn new(answer: proto::ResumeOriginResponse) -> Result<Self, Failure> {
        let resumed = answer.resumed.into_iter().map(PausedOrigin::try_from).collect::<Result<_, _>>();
        let resumed = resumed.map_err(Failure::nonsense)?;
        Ok(Self { node: answer.node_id, resumed, error: String::new() })
    }

    fn text(&self) -> String {
        let logs = self.resumed.iter().map(|paused| match &paused.origin {
            Some(origin) => format!("{origin} after {}", paused.clock),
            None => format!("records from {}", paused.by),
        });
        match (self.error.is_empty(), self.resumed.is_empty()) {
            (false, _) => output::printable(&self.error),
            (true, true) => "nothing was paused".to_owned(),
            (true, false) => output::printable(&logs.collect::<Vec<_>>().join(", ")),
        }
    }
}

impl Resumed {
    fn outcome(&self) -> Result<(), Failure> {
        let outcomes = self.outcomes.iter().map(|outcome| (outcome.node.as_str(), outcome.error.as_str()));
        Failure::at_some(outcomes, "resumed")
    }

    fn text(&self) -> String {
        let mut text = output::fields(&[("origin", output::printable(&self.origin))]);
        let rows = self.outcomes.iter().map(|outcome| vec![output::printable(&outcome.node), outcome.text()]);
        section(&mut text, "outcomes", &headed(&["NODE", "RESUMED"], rows));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Exit;

    fn resumed(errors: &[&str]) -> Resumed {
        let origin = Some("b/00000001".to_owned());
        let paused = PausedOrigin {
            node_id: "b".to_owned(),
            by: "b:1\x07".to_owned(),
            origin,
            clock: 7,
            since_unix: 1,
        };
        let outcome = |(i, error): (usize, &&str)| Outcome {
            node: format!("node-{i}"),
            resumed: if i == 0 { vec![paused.clone()] } else { Vec::new() },
            error: (*error).to_owned(),
        };
        Resumed { origin: "b".to_owned(), outcomes: errors.iter().enumerate().map(outcome).collect() }
    }

    #[test]
    fn what_was_resumed_where_is_shown() {
        let text = resumed(&["", "", "ref\x07used"]).text();
        for line in
            ["  node-0  b/00000001 after 7", "  node-1  nothing was paused", "  node-2  ref\u{fffd}used"]
        {
            assert!(text.lines().any(|l| l == line), "{line:?} is missing in\n{text}");
        }
        let json: serde_json::Value = serde_json::from_str(&output::json(&resumed(&[""])).unwrap()).unwrap();
        let paused = serde_json::json!({
            "node_id": "b", "by": "b:1\u{7}", "origin": "b/00000001", "clock": 7, "since_unix": 1,
        });
        assert_eq!(json["outcomes"][0]["resumed"][0], paused);
    }

    #[test]
    fn a_node_that_was_not_asked_shows_in_the_exit_code() {
        assert_eq!(resumed(&["", ""]).outcome(), Ok(()));
        assert_eq!(resumed(&["", "down"]).outcome().unwrap_err().exit(), Exit::Precondition);
        assert_eq!(resumed(&["down"]).outcome().unwrap_err().exit(), Exit::Unreachable);
    }

    #[test]
    fn an_acknowledgement_says_where_the_origin_is_frozen() {
        let acknowledged = |outcomes: &[(bool, &str)]| Acknowledged {
            origin: "b/00000001".to_owned(),
            outcomes: outcomes
                .iter()
                .enumerate()
                .map(|(i, (frozen, error))| Noted {
                    node: format!("node-{i}"),
                    frozen: *frozen,
                    error: (*error).to_owned(),
                })
                .collect(),
        };
        let some = acknowledged(&[(true, ""), (false, ""), (false, "do\x07wn")]);
        for line in ["  node-0  acknowledged", "  node-1  not frozen there", "  node-2  do\u{fffd}wn"] {
            assert!(some.text().lines().any(|l| l == line), "{line:?} is missing in\n{}", some.text());
        }
        let exit = |outcomes| acknowledged(outcomes).outcome().map_err(|failure| failure.exit());
        assert_eq!(exit(&[(true, ""), (false, "")]), Ok(()));
        assert_eq!(exit(&[(false, ""), (false, "")]), Err(Exit::NotFound));
        assert_eq!(exit(&[(true, ""), (false, "down")]), Err(Exit::Precondition));
        assert_eq!(exit(&[(false, "down")]), Err(Exit::Unreachable));
    }
}
