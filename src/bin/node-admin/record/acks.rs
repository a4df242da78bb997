//! `--wait`: how many other members must hold an operation, and which of them do.

use std::time::Duration;

use crate::{
    access::CALL_TIMEOUT,
    cli::{Global, Wait},
    failure::Failure,
    output,
    receipt::{Holder, Proof},
};
use brock_core::{
    base::{duration, id::KeyHash, vector::Stamp},
    domain::receipt,
    proto,
};
use serde::Serialize;

/// How long to wait for others without --timeout.
const WAIT_DEFAULT: Duration = Duration::from_secs(10);
/// The longest that a node waits for others.
const WAIT_MAX: Duration = Duration::from_secs(5 * 60);
/// How long the call itself may take in addition to the wait.
const WAIT_MARGIN: Duration = Duration::from_secs(5);

/// The acknowledgements that a write waits for, and the time-out of its call.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    pub(crate) acks: Option<proto::Acks>,
    pub(crate) call_timeout: Duration,
}

/// Reads --wait and --timeout. With --wait, --timeout bounds the wait.
pub(crate) fn plan(wait: Option<Wait>, global: &Global) -> Result<Plan, Failure> {
    let Some(wait) = wait else {
        return Ok(Plan { acks: None, call_timeout: global.timeout.unwrap_or(CALL_TIMEOUT) });
    };
    let time = global.timeout.unwrap_or(WAIT_DEFAULT);
    if time > WAIT_MAX {
        return Err(Failure::Usage(format!(
            "--timeout: with --wait at most {}, because no node waits longer",
            duration::format(WAIT_MAX)
        )));
    }
    let from = match wait {
        Wait::Nodes(nodes) => proto::acks::From::Nodes(nodes),
        Wait::All => proto::acks::From::All(true),
    };
    // Rounded up: 0 would mean the node's own default.
    let timeout_ms = u32::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX);
    let acks = proto::Acks { from: Some(from), timeout_ms };
    Ok(Plan { acks: Some(acks), call_timeout: time + WAIT_MARGIN })
}

/// The members that hold an operation, besides the node that made it.
#[derive(Debug, Default, Serialize)]
pub(super) struct Receipt {
    /// Without a wait nothing is known of the others.
    #[serde(skip)]
    is_of_a_wait: bool,
    holders: Vec<Holder>,
    /// The members that did not confirm in time.
    missing: Vec<String>,
    /// What proves the holders' signatures.
    #[serde(skip_serializing_if = "Option::is_none")]
    proof: Option<Proof>,
}

/// The receipt in an answer; it is required if acknowledgements were requested. `subject` and `stamp`: of the operation
/// that it is about, and whether that was in effect already.
pub(super) fn receipt(
    asked: Option<&proto::Acks>,
    subject: (KeyHash, &str),
    stamp: (Stamp, bool),
    receipt: Option<proto::Receipt>,
) -> Result<Option<Receipt>, Failure> {
    match (asked, receipt) {
        (None, _) => Ok(None),
        (Some(_), Some(receipt)) => {
            let receipt = receipt::Receipt::from_proto(subject, stamp, receipt);
            let receipt::Receipt { holders, missing, proof, .. } = receipt.map_err(|error| {
                Failure::Error(format!("the operation stands, but its receipt is malformed: {error}"))
            })?;
            let holders = holders.into_iter().map(Holder::from).collect();
            Ok(Some(Receipt { is_of_a_wait: true, holders, missing, proof: proof.map(Proof::from) }))
        }
        // The node does not know the field. An empty receipt would look like success.
        (Some(_), None) => Err(Failure::Error(
            "the operation stands, but the node did not say who else holds it: it may run an older version"
                .to_owned(),
        )),
    }
}

impl Receipt {
    /// The rows of the text.
    pub(super) fn fields(&self) -> [(&'static str, String); 2] {
        if !self.is_of_a_wait {
            return [("holders", NOT_WAITED.to_owned()), ("missing", NOT_WAITED.to_owned())];
        }
        let holders = self.holders.iter();
        let signed = |holder: &Holder| if holder.is_signed() { " (signed)" } else { "" };
        let holders = holders.map(|holder| {
            format!("{} after {} ms{}", output::printable(&holder.node), holder.after_ms, signed(holder))
        });
        [
            ("holders", list(holders)),
            ("missing", list(self.missing.iter().map(|node| output::printable(node)))),
        ]
    }

    /// Fails if a member did not confirm in time.
    pub(super) fn verdict(&self, asked: Option<&proto::Acks>) -> Result<(), Failure> {
        if self.missing.is_empty() {
            return Ok(());
        }
        let time = Duration::from_millis(asked.map_or(0, |acks| acks.timeout_ms).into());
        Err(Failure::Precondition(format!(
            "not confirmed within {}: {}\nThe operation stands, and reaches them when they return. One that is up and does \
             not take it says why: `node-admin alarms list` there",
            duration::format(time),
            list(self.missing.iter().map(|node| output::printable(node)))
        )))
    }
}

const NOT_WAITED: &str = "not waited for (--wait)";

fn list(names: impl Iterator<Item = String>) -> String {
    match names.collect::<Vec<_>>() {
        names if names.is_empty() => "none".to_owned(),
        names => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Exit;

    fn global(timeout: Option<Duration>) -> Global {
        Global { timeout, ..Global::default() }
    }

    fn about(asked: Option<&proto::Acks>, told: Option<proto::Receipt>) -> Result<Option<Receipt>, Failure> {
        let stamp = crate::stamp::parse("node-1/9f3c2a10:42").unwrap();
        receipt(asked, (KeyHash([0xab; 32]), "delete"), (stamp, false), told)
    }

    #[test]
    fn a_time_out_means_the_waiting_if_there_is_any() {
        const S: Duration = Duration::from_secs(1);
        let all = Some(proto::acks::From::All(true));
        let two = Some(proto::acks::From::Nodes(2));
        for (wait, timeout, acks, call_timeout) in [
            (None, None, None, 5 * S),
            (None, Some(400 * S), None, 400 * S),
            (Some(Wait::All), None, Some((all, 10_000)), 15 * S),
            (Some(Wait::Nodes(2)), Some(300 * S), Some((two, 300_000)), 305 * S),
            (Some(Wait::Nodes(2)), Some(S / 1_000_000), Some((two, 1)), 5 * S + S / 1_000_000),
        ] {
            let planned = plan(wait, &global(timeout)).unwrap();
            let acks = acks.map(|(from, timeout_ms)| proto::Acks { from, timeout_ms });
            assert_eq!(planned, Plan { acks, call_timeout }, "{wait:?} {timeout:?}");
        }
        let failure = plan(Some(Wait::All), &global(Some(301 * S))).unwrap_err();
        assert_eq!(failure.exit(), Exit::Usage);
        assert!(failure.to_string().contains("at most 5m"), "{failure}");
    }

    #[test]
    fn who_is_missing_is_named_and_the_operation_stands() {
        let asked = proto::Acks { from: Some(proto::acks::From::All(true)), timeout_ms: 1500 };
        let holder = proto::receipt::Holder { node: "node-2".to_owned(), after_ms: 12, ..Default::default() };
        let missing = vec!["node-3\x1b".to_owned(), "d:1".to_owned()];
        let told = proto::Receipt { holders: vec![holder], missing, proof: None };
        let told = about(Some(&asked), Some(told)).unwrap().unwrap();
        assert_eq!(
            told.fields(),
            [("holders", "node-2 after 12 ms".to_owned()), ("missing", "node-3\u{fffd}, d:1".to_owned())]
        );
        let failure = told.verdict(Some(&asked)).unwrap_err();
        assert_eq!(failure.exit(), Exit::Precondition);
        let text = failure.to_string();
        assert!(text.starts_with("not confirmed within 1.5s: node-3\u{fffd}, d:1\n"), "{text}");
        assert!(text.contains("stands"), "{text}");

        let all_there = about(Some(&asked), Some(proto::Receipt::default())).unwrap().unwrap();
        assert_eq!(all_there.verdict(Some(&asked)), Ok(()));
    }

    #[test]
    fn a_node_that_says_nothing_is_no_success() {
        let asked = proto::Acks { from: None, timeout_ms: 1 };
        assert_eq!(about(Some(&asked), None).unwrap_err().exit(), Exit::Error);
        assert!(about(None, None).unwrap().is_none());
    }
}
