//! Why a request is not answered as asked: one enum for all protocols. Each protocol maps it to its own
//! codes by one exhaustive match (gRPC: `api::grpc::status`).

use crate::{
    backup::error::BackupError,
    membership::{members::NoSuchMember, peer::RemoteError},
    store::StoreError,
    transfer::orders::OrderError,
};
use brock_core::{
    base::{id::Origin, limits, vector::Clock},
    domain::{codec::CodecError, operation::EntryError},
};

/// Why a request is not answered as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// A field of the request is not valid. The text never quotes the value.
    #[error("{field}: {problem}")]
    Field {
        /// The field's path in the request.
        field: &'static str,
        /// What is wrong with the value, and what would be right.
        problem: String,
    },
    /// What destroys needs an operator's order here.
    #[error(
        "this node takes nothing destructive without an operator's signed order (node.trust distributed): `node-admin` and \
         brock-client sign one if the operator's certificate has a SPIFFE URI, as those of `brock cert admin` have; other \
         clients send the output of `node-admin order sign`"
    )]
    OrderRequired,
    /// An operator's order is not valid.
    #[error("order: {0}")]
    Order(OrderError),
    /// This node's operations are not signed.
    #[error(
        "this node does not sign what it logs, so nothing would be proven: if its certificate does not name it, give it one \
         that does (`brock cert node`); then restart it, because it signs from its next start on"
    )]
    DoesNotSign,
    /// No birth of that origin is known.
    #[error(
        "this node knows no birth of {0}, so there is nothing to vouch for: ask a node that has it (`node-admin origin list`)"
    )]
    NoBirth(Origin),
    /// The certificate of a birth is of another cluster.
    #[error(
        "{origin} was born, and signed all that it logged, with a certificate of the trust domain {domain}, and this cluster's \
         is another one: no word of an operator makes that valid here. What only that node has of it reaches the others while \
         they run with node.trust=centralized (docs/guides/troubleshooting.md, A certificate of another trust domain)"
    )]
    OtherDomain {
        /// The origin.
        origin: Origin,
        /// Of its certificate.
        domain: String,
    },
    /// The certificate of a birth is accepted.
    #[error(
        "the certificate of the birth of {0} is accepted at this node, so nothing needs to be vouched for"
    )]
    IsBelieved(Origin),
    /// A batch has too many items.
    #[error("items: {0} of them, more than the {max} that a batch may have", max = limits::BATCH_ITEMS_MAX)]
    BatchSize(usize),
    /// The answer to a batch would become too large.
    #[error(
        "the answer would exceed {} bytes: ask for this record again in a smaller batch",
        limits::BATCH_GET_ANSWER_BYTES
    )]
    AnswerSize,
    /// This node knows the key hash already.
    #[error("a record with this key hash already exists")]
    Exists,
    /// A create of a key hash whose record was deleted.
    #[error(
        "the record with this key hash was deleted, so this key can never be used again: create the record under \
         another key"
    )]
    WasDeleted,
    /// An operation on a record that is not known here; with `ahead` it is accepted.
    #[error(
        "{0}. With `ahead` (node-admin: --ahead) the operation is accepted all the same, and takes effect when the \
         record arrives"
    )]
    NotAhead(Box<Self>),
    /// No node has the record.
    #[error("no record has this key hash")]
    Absent,
    /// This node does not have the record, and some peers could not be asked.
    #[error(
        "the record is not on this node, and {unanswered} of {peers} peers could not be asked: it may exist. Try \
         again, or ask another node"
    )]
    NotEveryoneAsked {
        /// All peers.
        peers: usize,
        /// The peers that did not answer.
        unanswered: usize,
    },
    /// This node does not have the record, and too many reads ask the peers already.
    #[error(
        "the record is not on this node, and too many reads ask the peers already: try again in a moment"
    )]
    TooManyPeeks,
    /// The record is revoked.
    #[error("the record is invalidated: {reason}")]
    Invalidated {
        /// The operator's reason.
        reason: String,
    },
    /// The store refused the request or could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A peer could not be asked, or sent an answer that does not decode.
    #[error(transparent)]
    Remote(RemoteError),
    /// No member has the name.
    #[error(transparent)]
    Member(#[from] NoSuchMember),
    /// The request asks to wait for more members than there are.
    #[error(
        "the request waits for other members, {asked} of them, and this node knows {members} (`node-admin members`): \
         nothing was done"
    )]
    TooManyAcks {
        /// How many the request asks for.
        asked: usize,
        /// How many members there are.
        members: usize,
    },
    /// Of the record, only the tombstone is left.
    #[error("the record with this key hash is deleted")]
    Deleted,
    /// None of the keys has a conflict.
    #[error("there is no conflict of that key at this node")]
    NoConflict,
    /// The quarantine has no such entry.
    #[error("no entry of that origin and clock is in quarantine")]
    NotQuarantined,
    /// A quarantined entry still cannot be applied.
    #[error("the entry still cannot be applied: {0}")]
    StillQuarantined(EntryError),
    /// Too many traces at once.
    #[error("other traces are reading this node's log already: try again in a moment")]
    TooManyTraces,
    /// Too many readers follow the log.
    #[error("{max} readers follow this node's log already: end one of them", max = limits::TAILS_MAX)]
    TooManyTails,
    /// The node cannot continue the stream.
    #[error("this node stops, or has reloaded its certificates, so it ended the stream: begin again")]
    TailStopped,
    /// A reader of the log does not read.
    #[error(
        "you did not read for {} s, so this node ended the stream: begin again, and read faster or less",
        limits::TAIL_PATIENCE.as_secs()
    )]
    TailNotRead,
    /// Compaction removed entries before a reader of the log had read them.
    #[error(
        "entries of {origin} up to {floor} were compacted away, or arrived without their log, before you had read \
         them: begin again"
    )]
    TailOvertaken {
        /// Whose entries.
        origin: Origin,
        /// Up to which clock they are gone.
        floor: Clock,
    },
    /// This node makes no backups.
    #[error("this node has no place for backups: set node.backup.enabled and node.backup.bucket")]
    NoBackups,
    /// A backup was not made, or the backups could not be listed; a retry may succeed.
    #[error("{0}")]
    BackupFailed(String),
    /// A backup was not made, and a retry fails until the operator changes something.
    #[error("{0}")]
    BackupRefused(String),
    /// This node keeps no audit log.
    #[error("this node keeps no audit log: set audit.path or node.path")]
    NoAuditLog,
    /// A request of a session is empty.
    #[error("request: neither a put nor a get")]
    EmptyRequest,
}

impl RequestError {
    /// An invalid field.
    pub fn field(field: &'static str, problem: impl ToString) -> Self {
        Self::Field { field, problem: problem.to_string() }
    }

    /// The text for the caller. Internal detail goes to the log instead.
    pub fn message(&self) -> String {
        match self {
            Self::Store(error @ (StoreError::Read(_) | StoreError::Damaged(_))) => {
                tracing::error!(%error, "a request failed");
                "this node could not read its storage; its log has the details".to_owned()
            }
            Self::Store(StoreError::Stopped(_)) => {
                "this node's store has stopped; its log has the details".to_owned()
            }
            error => error.to_string(),
        }
    }
}

impl From<CodecError> for RequestError {
    fn from(error: CodecError) -> Self {
        Self::Store(error.into())
    }
}

impl From<OrderError> for RequestError {
    fn from(error: OrderError) -> Self {
        match error {
            OrderError::Store(error) => Self::Store(error),
            other => Self::Order(other),
        }
    }
}

impl From<BackupError> for RequestError {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::Store(error) => Self::Store(error),
            other if other.is_retryable() => Self::BackupFailed(other.to_string()),
            other => Self::BackupRefused(other.to_string()),
        }
    }
}

impl From<RemoteError> for RequestError {
    fn from(error: RemoteError) -> Self {
        match error {
            RemoteError::Store(error) => Self::Store(error),
            other => Self::Remote(other),
        }
    }
}
