//! What a command can end with, and the exit code that tells scripts which it was.

use std::{fmt::Display, process::ExitCode};

use tonic::{Code, Status};

use crate::output;

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
    /// Something deserves a look.
    Watch = 8,
    /// Something needs somebody.
    Act = 9,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not do what it was asked to. The text is for the operator and never holds
/// anything that a record keeps secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{0}")]
    Error(String),
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Unreachable(String),
    #[error("{0}")]
    Precondition(String),
    #[error("{0}")]
    Denied(String),
    #[error("{0}")]
    Exists(String),
    /// The data says what deserves a look.
    #[error("")]
    Watch,
    /// The data says what needs somebody.
    #[error("")]
    Act,
}

impl Failure {
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Error(_) => Exit::Error,
            Self::Usage(_) => Exit::Usage,
            Self::NotFound(_) => Exit::NotFound,
            Self::Unreachable(_) => Exit::Unreachable,
            Self::Precondition(_) => Exit::Precondition,
            Self::Denied(_) => Exit::Denied,
            Self::Exists(_) => Exit::Exists,
            Self::Watch => Exit::Watch,
            Self::Act => Exit::Act,
        }
    }

    /// The failure that a node answered with.
    pub(crate) fn answered(status: &Status) -> Self {
        let text = describe(status);
        match exit_of(status.code()) {
            // A status is only looked at when a call failed; an Ok in it is a broken node.
            Exit::Ok | Exit::Error | Exit::Watch | Exit::Act => Self::Error(text),
            Exit::Usage => Self::Usage(text),
            Exit::NotFound => Self::NotFound(text),
            Exit::Unreachable => Self::Unreachable(text),
            Exit::Precondition => Self::Precondition(text),
            Exit::Denied => Self::Denied(text),
            Exit::Exists => Self::Exists(text),
        }
    }

    /// A node's answer that cannot be.
    pub(crate) fn nonsense(why: impl Display) -> Self {
        Self::Error(format!("the node's answer makes no sense: {why}"))
    }

    /// The same kind of failure with a remark behind its text.
    pub(crate) fn with_remark(self, remark: &str) -> Self {
        let add = |text: String| format!("{text}\n{remark}");
        match self {
            Self::Error(text) => Self::Error(add(text)),
            Self::Usage(text) => Self::Usage(add(text)),
            Self::NotFound(text) => Self::NotFound(add(text)),
            Self::Unreachable(text) => Self::Unreachable(add(text)),
            Self::Precondition(text) => Self::Precondition(add(text)),
            Self::Denied(text) => Self::Denied(add(text)),
            Self::Exists(text) => Self::Exists(add(text)),
            Self::Watch | Self::Act => self,
        }
    }
}

/// The exit code for a gRPC code, spelled out so that a new code cannot slip through.
pub(crate) fn exit_of(code: Code) -> Exit {
    match code {
        Code::InvalidArgument => Exit::Usage,
        Code::NotFound => Exit::NotFound,
        Code::Unavailable | Code::DeadlineExceeded => Exit::Unreachable,
        Code::FailedPrecondition => Exit::Precondition,
        Code::PermissionDenied | Code::Unauthenticated => Exit::Denied,
        Code::AlreadyExists => Exit::Exists,
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::DataLoss => Exit::Error,
    }
}

/// A node's answer as a line of text. The node wrote the message, so it is made printable first.
pub(crate) fn describe(status: &Status) -> String {
    match status.message() {
        "" => status.code().description().to_owned(),
        message => output::printable(message),
    }
}

#[cfg(test)]
mod tests {
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
            assert_eq!(exit_of(code) as u8, exit, "{code:?}");
            let failure = Failure::answered(&Status::new(code, "why"));
            assert_eq!(failure.exit() as u8, exit, "{code:?}");
            assert_eq!(failure.with_remark("so").exit() as u8, exit, "{code:?}");
        }
    }

    #[test]
    fn a_nodes_message_cannot_drive_the_terminal() {
        let failure = Failure::answered(&Status::internal("bad\x1b[2Jness\n"));
        assert_eq!(failure.to_string(), "bad\u{fffd}[2Jness\u{fffd}");
        assert!(!Failure::answered(&Status::internal("")).to_string().is_empty());
    }
}
