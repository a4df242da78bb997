//! What can be wrong with a request, and how it is told: one exhaustive match for all services.

use tonic::{Code, Status};

use crate::{
    backup::error::BackupError,
    membership::{members::NoSuchMember, peer::RemoteError},
    store::StoreError,
};
use brock_core::{
    base::{id::Origin, limits, vector::Clock},
    domain::operation::EntryError,
    proto,
};

/// Why a request is not answered with what it asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A field of the request is not valid. Never quotes its value.
    #[error("{field}: {problem}")]
    Field {
        /// The field's path in the request.
        field: &'static str,
        /// What is wrong with it, and what would be right.
        problem: String,
    },
    /// A batch with too many items.
    #[error("items: {0} of them, more than the {max} that a batch may have", max = limits::BATCH_ITEMS_MAX)]
    BatchSize(usize),
    /// A batch answer would become too large.
    #[error(
        "the answer would exceed {} bytes: ask for this record again in a smaller batch",
        limits::BATCH_GET_ANSWER_BYTES
    )]
    AnswerSize,
    /// The key hash exists here.
    #[error("a record with this key hash already exists")]
    Exists,
    /// Nobody has the record.
    #[error("no record has this key hash")]
    Absent,
    /// The record is not here, and not everybody could be asked.
    #[error(
        "the record is not on this node, and {unanswered} of {peers} peers could not be asked: it may exist. Try \
         again, or ask another node"
    )]
    NotEveryoneAsked {
        /// Peers in all.
        peers: usize,
        /// Those that did not answer.
        unanswered: usize,
    },
    /// The record is not here, and too many reads are asking the peers already.
    #[error(
        "the record is not on this node, and too many reads are asking the peers already: try again in a moment"
    )]
    TooManyPeeks,
    /// The record must not be used any more.
    #[error("the record is invalidated: {reason}")]
    Invalidated {
        /// Why.
        reason: String,
    },
    /// The store could not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What the caller asked for can only be answered by a peer that does not make sense, or cannot
    /// be asked.
    #[error(transparent)]
    Remote(RemoteError),
    /// There is no such member.
    #[error(transparent)]
    Member(#[from] NoSuchMember),
    /// More members are to be waited for than there are.
    #[error("acks.nodes: {asked} are to be waited for, and there are only {members} other members")]
    TooManyAcks {
        /// How many were asked for.
        asked: u32,
        /// How many there are.
        members: usize,
    },
    /// An operation on a record that is here only as a tombstone.
    #[error("the record with this key hash is deleted")]
    Deleted,
    /// There is no such entry in the quarantine.
    #[error("no entry of that origin and clock is in quarantine")]
    NotQuarantined,
    /// A quarantined entry still cannot be applied.
    #[error("the entry still cannot be applied: {0}")]
    StillQuarantined(EntryError),
    /// Too many traces at once.
    #[error("other traces are reading this node's log already: try again in a moment")]
    TooManyTraces,
    /// Too many follow the log.
    #[error("{max} readers follow this node's log already: end one of them", max = limits::TAILS_MAX)]
    TooManyTails,
    /// The node cannot go on with the stream.
    #[error("this node stops, or was given new certificates, so it ended the stream: begin anew")]
    TailStopped,
    /// Whoever follows the log does not read it.
    #[error(
        "you did not read for {} s, so this node ended the stream: begin anew, and read faster or less",
        limits::TAIL_PATIENCE.as_secs()
    )]
    TailNotRead,
    /// Entries went before whoever follows the log had read them.
    #[error(
        "entries of {origin} up to {floor} went from this node's log, or came without it, before you had read them: \
         begin anew"
    )]
    TailOvertaken {
        /// Whose entries.
        origin: Origin,
        /// Up to where they are gone.
        floor: Clock,
    },
    /// This node makes no backups.
    #[error("this node has no place for backups: set node.backup.enabled and node.backup.bucket")]
    NoBackups,
    /// A backup was not made, or the backups could not be listed; the same may succeed later.
    #[error("{0}")]
    BackupFailed(String),
    /// The same, and somebody must change something first.
    #[error("{0}")]
    BackupRefused(String),
    /// This node keeps no audit log.
    #[error("this node keeps no audit log: set audit.path or node.path")]
    NoAuditLog,
    /// A session's request is empty.
    #[error("request: neither a put nor a get")]
    EmptyRequest,
}

impl Problem {
    /// The gRPC code.
    pub fn code(&self) -> Code {
        match self {
            Self::Field { .. } | Self::BatchSize(_) | Self::EmptyRequest => Code::InvalidArgument,
            Self::TooManyAcks { .. } => Code::InvalidArgument,
            Self::Exists => Code::AlreadyExists,
            Self::Absent | Self::Deleted | Self::Member(_) | Self::NotQuarantined => Code::NotFound,
            Self::StillQuarantined(_) | Self::NoBackups | Self::BackupRefused(_) => Code::FailedPrecondition,
            Self::NoAuditLog => Code::FailedPrecondition,
            Self::BackupFailed(_) | Self::TailStopped => Code::Unavailable,
            Self::TooManyTraces | Self::TooManyTails | Self::TailNotRead => Code::ResourceExhausted,
            Self::TailOvertaken { .. } => Code::Aborted,
            Self::Remote(RemoteError::Nonsense(_)) => Code::InvalidArgument,
            Self::Remote(_) => Code::Unavailable,
            Self::NotEveryoneAsked { .. } | Self::TooManyPeeks => Code::Unavailable,
            Self::Invalidated { .. } => Code::FailedPrecondition,
            Self::AnswerSize => Code::ResourceExhausted,
            Self::Store(error) => match error {
                StoreError::QueueFull | StoreError::DiskFull { .. } | StoreError::QuarantineFull => {
                    Code::ResourceExhausted
                }
                StoreError::Stopped(_) => Code::Unavailable,
                StoreError::Gap { .. }
                | StoreError::BelowFloor { .. }
                | StoreError::NotInLog
                | StoreError::RolledBack { .. } => Code::FailedPrecondition,
                StoreError::Read(_) | StoreError::Damaged(_) => Code::Internal,
            },
        }
    }

    /// What the caller is told. Internal detail goes to the log instead.
    fn message(&self) -> String {
        match self {
            Self::Store(error @ (StoreError::Read(_) | StoreError::Damaged(_))) => {
                tracing::error!(%error, "a request failed");
                "this node could not read its storage; its log has the details".to_owned()
            }
            Self::Store(StoreError::Stopped(_)) => {
                "this node's store has stopped; its log has the details".to_owned()
            }
            problem => problem.to_string(),
        }
    }
}

impl From<BackupError> for Problem {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::Store(error) => Self::Store(error),
            other if other.is_retryable() => Self::BackupFailed(other.to_string()),
            other => Self::BackupRefused(other.to_string()),
        }
    }
}

impl From<RemoteError> for Problem {
    fn from(error: RemoteError) -> Self {
        match error {
            RemoteError::Store(error) => Self::Store(error),
            other => Self::Remote(other),
        }
    }
}

impl From<Problem> for Status {
    fn from(problem: Problem) -> Self {
        Self::new(problem.code(), problem.message())
    }
}

impl From<Problem> for proto::ItemError {
    fn from(problem: Problem) -> Self {
        Self { code: problem.code().into(), message: problem.message() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_has_its_status() {
        let field = Problem::Field { field: "key_hash", problem: "is 3 bytes instead of 32".into() };
        for (problem, code) in [
            (field.clone(), Code::InvalidArgument),
            (Problem::BatchSize(1001), Code::InvalidArgument),
            (Problem::EmptyRequest, Code::InvalidArgument),
            (Problem::AnswerSize, Code::ResourceExhausted),
            (Problem::Exists, Code::AlreadyExists),
            (Problem::Absent, Code::NotFound),
            (Problem::NotEveryoneAsked { peers: 2, unanswered: 1 }, Code::Unavailable),
            (Problem::TooManyPeeks, Code::Unavailable),
            (Problem::Invalidated { reason: "leaked".into() }, Code::FailedPrecondition),
            (StoreError::QueueFull.into(), Code::ResourceExhausted),
            (StoreError::DiskFull { free: 1 }.into(), Code::ResourceExhausted),
            (StoreError::Stopped("x".into()).into(), Code::Unavailable),
            (StoreError::Read("x".into()).into(), Code::Internal),
        ] {
            assert_eq!(Status::from(problem.clone()).code(), code, "{problem}");
        }
        assert_eq!(Status::from(field).message(), "key_hash: is 3 bytes instead of 32");
        let leak = Status::from(Problem::from(StoreError::Read("/secret/path".into())));
        assert!(!leak.message().contains("secret"));
    }
}
