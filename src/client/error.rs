//! Why a call failed: a node answered with an error, or no node answered.

use std::{error::Error, fmt};

use tonic::{Code, Status};

use brock_net::{dial::DialError, tls::errors};

/// Why a call to one node failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The node answered with this status. Other nodes are not asked.
    #[error("{}", describe(.0))]
    Status(Status),
    /// The node did not answer. Another node may.
    #[error(transparent)]
    Miss(Miss),
}

/// Why a call to a cluster failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A node answered with this status.
    #[error("{}", describe(.0))]
    Status(Status),
    /// No node answered, or none that answered could tell; the misses are in the order of the attempts.
    #[error("{}{}", none(.0), Lines(.0))]
    NoAnswer(Vec<Miss>),
}

/// One node that did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{address}: {reason}")]
pub struct Miss {
    /// The node's address.
    pub address: String,
    /// Why, as a printable sentence.
    pub reason: String,
    /// The node refused the client's certificate. A retry does not help.
    pub is_refusal: bool,
    /// The request may have reached the node, so the node may have carried it out.
    pub may_be_done: bool,
    /// The node answered that it cannot tell, or cannot do it now.
    pub has_answered: bool,
}

impl Miss {
    /// The time-out passed before or after the request was sent.
    pub(crate) fn late(address: &impl fmt::Display, was_sent: bool) -> Self {
        let reason = match was_sent {
            true => "connected, but no answer within the time-out",
            false => "no connection within the time-out",
        };
        let reason = reason.to_owned();
        Self::of(address, reason, false, was_sent)
    }

    /// The time-out passed on a connection that connects by itself: it is unknown whether the request was sent.
    pub(crate) fn unanswered(address: &impl fmt::Display) -> Self {
        let reason = "no answer within the time-out".to_owned();
        Self::of(address, reason, false, true)
    }

    /// The node could not be dialled, so no request was sent.
    pub(crate) fn unreached(address: &impl fmt::Display, error: &DialError) -> Self {
        Self::of(address, explain(error), errors::is_refusal(error), false)
    }

    /// The node said nothing.
    fn of(address: &impl fmt::Display, reason: String, is_refusal: bool, may_be_done: bool) -> Self {
        Self { address: address.to_string(), reason, is_refusal, may_be_done, has_answered: false }
    }
}

impl CallError {
    /// Classifies the status of a call to `address`: either the node's answer, or a miss.
    pub fn new(address: &impl fmt::Display, status: Status) -> Self {
        let answered = |may_be_done| {
            let miss = Miss::of(address, describe(&status), false, may_be_done);
            Self::Miss(Miss { has_answered: true, ..miss })
        };
        // Only an error of the connection has a source.
        if let Some(source) = status.source() {
            let is_refusal = errors::is_refusal(source);
            // A connection that was never established carried no request.
            let may_be_done = !is_refusal && !is_dial_error(source);
            return Self::Miss(Miss::of(address, explain(source), is_refusal, may_be_done));
        }
        match status.code() {
            // The node did not carry out the request.
            Code::Unavailable => answered(false),
            // The node does not know whether it carried out the request.
            Code::DeadlineExceeded => answered(true),
            _ => Self::Status(status),
        }
    }
}

impl ClientError {
    /// Whether one of the nodes refused the client's certificate.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Status(_) => false,
            Self::NoAnswer(misses) => misses.iter().any(|miss| miss.is_refusal),
        }
    }
}

impl From<CallError> for ClientError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Status(status) => Self::Status(status),
            CallError::Miss(miss) => Self::NoAnswer(vec![miss]),
        }
    }
}

/// The message of a node's status, or the name of its code, without control characters.
pub fn describe(status: &Status) -> String {
    match status.message() {
        "" => status.code().description().to_owned(),
        message => printable(message),
    }
}

/// Why a call failed: the node's message, or the error of the connection.
pub fn reason_of(status: &Status) -> String {
    status.source().map_or_else(|| describe(status), explain)
}

/// Replaces control characters: the text may come from another machine, and may go to a terminal.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// The error and its causes on one line. A layer that only repeats its cause is left out.
pub fn chain_of(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    for error in causes(error) {
        let line = error.to_string();
        if !text.contains(&line) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&line);
        }
    }
    text
}

/// What TLS says about the error, or the error with its causes.
fn explain(error: &(dyn Error + 'static)) -> String {
    printable(&errors::explain(error).unwrap_or_else(|| chain_of(error)))
}

fn is_dial_error(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(|error| error.is::<DialError>())
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// A node that answers "I cannot tell" has answered.
fn none(misses: &[Miss]) -> &'static str {
    match misses.iter().any(|miss| miss.has_answered) {
        true => "no node could tell or do it",
        false => "no node answered",
    }
}

/// Each miss on a line of its own.
struct Lines<'a>(&'a [Miss]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str(": the client was given no address");
        }
        self.0.iter().try_for_each(|miss| write!(f, "\n  {miss}"))
    }
}

#[cfg(test)]
mod tests {
    use std::{io, sync::Arc};

    use super::*;

    #[test]
    fn a_broken_connection_is_a_miss_that_may_be_done() {
        let mut status = Status::unknown("transport error");
        status.set_source(Arc::new(io::Error::other("reset")));
        let CallError::Miss(miss) = CallError::new(&"a:1", status) else { panic!("no miss") };
        assert_eq!((miss.is_refusal, miss.may_be_done), (false, true));
        assert_eq!(miss.to_string(), "a:1: reset");
    }

    #[test]
    fn a_refused_certificate_is_a_miss_that_is_not_done() {
        let mut status = Status::unknown("transport error");
        status.set_source(Arc::new(io::Error::other("received fatal alert: UnknownCA")));
        let CallError::Miss(miss) = CallError::new(&"a:1", status) else { panic!("no miss") };
        assert_eq!((miss.is_refusal, miss.may_be_done), (true, false));
        assert!(ClientError::NoAnswer(vec![miss]).is_refusal());
    }

    #[test]
    fn only_a_status_that_promises_nothing_is_a_miss() {
        for (code, may_be_done) in [(Code::Unavailable, false), (Code::DeadlineExceeded, true)] {
            let error = CallError::new(&"a:1", Status::new(code, "why"));
            assert!(matches!(error, CallError::Miss(miss) if miss.may_be_done == may_be_done), "{code:?}");
        }
        assert!(matches!(CallError::new(&"a:1", Status::not_found("why")), CallError::Status(_)));
    }

    #[test]
    fn a_nodes_message_cannot_drive_the_terminal() {
        assert_eq!(describe(&Status::internal("bad\x1b[2Jness\n")), "bad\u{fffd}[2Jness\u{fffd}");
        assert!(!describe(&Status::internal("")).is_empty());
        assert_eq!(printable("a\x1b[1mb\u{7}"), "a\u{fffd}[1mb\u{fffd}");
    }
}
