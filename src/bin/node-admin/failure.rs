//! How a command can fail, and the exit code that tells scripts why.

use std::{fmt::Display, process::ExitCode};

use brock_client::{
    CallError, ClientError,
    error::{describe, printable},
};
use tonic::{Code, Status};

/// The exit codes. Scripts rely on the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Ok = 0,
    Error = 1,
    Usage = 2,
    NotFound = 3,
    Unreachable = 4,
    Precondition = 5,
    Denied = 6,
    Exists = 7,
    /// A warning: something deserves a look.
    Warning = 8,
    /// Something is critical: an operator must act.
    Critical = 9,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed. The text is for the operator and never holds a secret of a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{0}")]
    Error(String),
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    NotFound(String),
    /// No node answered; the text lists why each did not.
    #[error("{0}")]
    NoAnswer(String),
    /// A node answered that it cannot tell, or stopped answering.
    #[error("{0}")]
    Unreachable(String),
    #[error("{0}")]
    Precondition(String),
    #[error("{0}")]
    Denied(String),
    #[error("{0}")]
    Exists(String),
    /// The printed data contains a warning.
    #[error("")]
    Warning,
    /// The printed data contains a critical finding.
    #[error("")]
    Critical,
}

impl Failure {
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Error(_) => Exit::Error,
            Self::Usage(_) => Exit::Usage,
            Self::NotFound(_) => Exit::NotFound,
            Self::NoAnswer(_) | Self::Unreachable(_) => Exit::Unreachable,
            Self::Precondition(_) => Exit::Precondition,
            Self::Denied(_) => Exit::Denied,
            Self::Exists(_) => Exit::Exists,
            Self::Warning => Exit::Warning,
            Self::Critical => Exit::Critical,
        }
    }

    /// The text in one line, for a cell of a table.
    pub(crate) fn on_one_line(&self) -> String {
        self.to_string().lines().map(str::trim).collect::<Vec<_>>().join(": ")
    }

    /// Of a command that each node carries out for itself; `outcomes`: each node with its error, empty if it has done
    /// it; `verb`: what it was to do.
    pub(crate) fn at_some<'a>(
        outcomes: impl ExactSizeIterator<Item = (&'a str, &'a str)>,
        verb: &str,
    ) -> Result<(), Self> {
        let all = outcomes.len();
        let failed: Vec<_> =
            outcomes.filter(|(_, error)| !error.is_empty()).map(|(node, _)| printable(node)).collect();
        match failed.len() {
            0 => Ok(()),
            count if count == all => Err(Self::Unreachable(format!("no node {verb} it"))),
            _ => Err(Self::Precondition(format!(
                "not {verb} at {}. Repeat this when they can be reached; repeating it is harmless",
                failed.join(", ")
            ))),
        }
    }

    /// A node's error, by its gRPC code. The codes are spelled out, so that a new one cannot slip through.
    pub(crate) fn answered(status: &Status) -> Self {
        let text = describe(status);
        match status.code() {
            Code::InvalidArgument => Self::Usage(text),
            Code::NotFound => Self::NotFound(text),
            Code::Unavailable | Code::DeadlineExceeded => Self::Unreachable(text),
            Code::FailedPrecondition => Self::Precondition(text),
            Code::PermissionDenied | Code::Unauthenticated => Self::Denied(text),
            Code::AlreadyExists => Self::Exists(text),
            // A failed call with the code Ok comes from a broken node.
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::ResourceExhausted
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Internal
            | Code::DataLoss => Self::Error(text),
        }
    }

    /// A node's answer is malformed.
    pub(crate) fn nonsense(why: impl Display) -> Self {
        Self::Error(format!("the node's answer makes no sense: {why}"))
    }

    /// The same failure with a remark on the next line.
    pub(crate) fn with_remark(self, remark: &str) -> Self {
        let add = |text: String| format!("{text}\n{remark}");
        match self {
            Self::Error(text) => Self::Error(add(text)),
            Self::Usage(text) => Self::Usage(add(text)),
            Self::NotFound(text) => Self::NotFound(add(text)),
            Self::NoAnswer(text) => Self::NoAnswer(add(text)),
            Self::Unreachable(text) => Self::Unreachable(add(text)),
            Self::Precondition(text) => Self::Precondition(add(text)),
            Self::Denied(text) => Self::Denied(add(text)),
            Self::Exists(text) => Self::Exists(add(text)),
            Self::Warning | Self::Critical => self,
        }
    }
}

impl From<&ClientError> for Failure {
    fn from(error: &ClientError) -> Self {
        match error {
            ClientError::Status(status) => Self::answered(status),
            // A retry does not help against a refusal, so scripts must see the refusal.
            ClientError::NoAnswer(_) if error.is_refusal() => Self::Denied(error.to_string()),
            ClientError::NoAnswer(misses) if misses.iter().any(|miss| miss.has_answered) => {
                Self::Unreachable(error.to_string())
            }
            ClientError::NoAnswer(_) => Self::NoAnswer(error.to_string()),
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::from(&error)
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        Self::from(ClientError::from(error))
    }
}

#[cfg(test)]
mod tests {
    use brock_client::Miss;

    use super::*;

    #[test]
    fn every_code_has_its_exit_code() {
        let table = [
            (Code::Ok, 1),
            (Code::Cancelled, 1),
            (Code::Unknown, 1),
            (Code::InvalidArgument, 2),
            (Code::DeadlineExceeded, 4),
            (Code::NotFound, 3),
            (Code::AlreadyExists, 7),
            (Code::PermissionDenied, 6),
            (Code::ResourceExhausted, 1),
            (Code::FailedPrecondition, 5),
            (Code::Aborted, 1),
            (Code::OutOfRange, 1),
            (Code::Unimplemented, 1),
            (Code::Internal, 1),
            (Code::Unavailable, 4),
            (Code::DataLoss, 1),
            (Code::Unauthenticated, 6),
        ];
        for (number, (code, exit)) in table.into_iter().enumerate() {
            assert_eq!(code as usize, number, "the table lists every code in order");
            let failure = Failure::answered(&Status::new(code, "why"));
            assert_eq!(failure.exit() as u8, exit, "{code:?}");
            assert_eq!(failure.with_remark("so").exit() as u8, exit, "{code:?}");
        }
    }

    #[test]
    fn one_refusal_decides_when_no_node_answers() {
        let miss = |is_refusal| {
            let (address, reason) = ("a:1".to_owned(), "down".to_owned());
            Miss { address, reason, is_refusal, may_be_done: false, has_answered: false }
        };
        let failure = |misses| Failure::from(ClientError::NoAnswer(misses));
        assert_eq!(failure(vec![miss(false)]).exit(), Exit::Unreachable);
        assert_eq!(failure(vec![miss(false), miss(true)]).exit(), Exit::Denied);
    }

    #[test]
    fn a_nodes_message_cannot_drive_the_terminal() {
        let failure = Failure::answered(&Status::internal("bad\x1b[2Jness\n"));
        assert_eq!(failure.to_string(), "bad\u{fffd}[2Jness\u{fffd}");
        assert!(!Failure::answered(&Status::internal("")).to_string().is_empty());
    }
}
