//! From errors to gRPC statuses: one exhaustive match for each error enum.

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{
    app::error::RequestError, membership::peer::RemoteError, replication::donor::error::DonorError,
    store::StoreError,
};
use brock_core::{
    base::{duration::milliseconds, limits},
    proto,
};

/// The domain of the reasons in `google.rpc.ErrorInfo`.
const DOMAIN: &str = "brock";

impl From<RequestError> for Status {
    fn from(error: RequestError) -> Self {
        let Kind { code, reason, retry_after } = kind(&error);
        let mut details = ErrorDetails::new();
        details.set_error_info(reason, DOMAIN, metadata(&error));
        if retry_after.is_some() {
            details.set_retry_info(retry_after);
        }
        Self::with_error_details(code, error.message(), details)
    }
}

impl From<RequestError> for proto::ItemError {
    fn from(error: RequestError) -> Self {
        let Kind { code, reason, retry_after } = kind(&error);
        let retry_after_ms =
            retry_after.map_or(0, |after| u32::try_from(milliseconds(after)).unwrap_or(u32::MAX));
        Self { code: code.into(), message: error.message(), reason: reason.to_owned(), retry_after_ms }
    }
}

impl From<DonorError> for Status {
    fn from(error: DonorError) -> Self {
        let code = match error {
            DonorError::Store(error) => return RequestError::from(error).into(),
            DonorError::Version(_) | DonorError::OwnId(_) => Code::FailedPrecondition,
            DonorError::OtherId { .. } => Code::PermissionDenied,
            DonorError::NoHello
            | DonorError::NodeId(_)
            | DonorError::HelloVector(_)
            | DonorError::Applied(_)
            | DonorError::Cursor(_)
            | DonorError::Protocol(_) => Code::InvalidArgument,
            DonorError::Stopping => Code::Unavailable,
            DonorError::Restarted => Code::Aborted,
            DonorError::TooManyFeeds
            | DonorError::TooManySnapshots
            | DonorError::TooManyCalls
            | DonorError::Replaced => Code::ResourceExhausted,
        };
        Self::new(code, error.to_string())
    }
}

/// What a program learns of an error.
struct Kind {
    code: Code,
    /// Stable, unlike the message.
    reason: &'static str,
    /// Set if the same call may succeed at this node after that time.
    retry_after: Option<Duration>,
}

/// What the reason is about, beside the message.
fn metadata(error: &RequestError) -> HashMap<String, String> {
    let pair = |name: &str, value: &str| HashMap::from([(name.to_owned(), value.to_owned())]);
    match error {
        RequestError::Field { field, .. } => pair("field", field),
        RequestError::Invalidated { reason } => pair("invalidation_reason", reason),
        _ => HashMap::new(),
    }
}

fn kind(error: &RequestError) -> Kind {
    let last = |code, reason| Kind { code, reason, retry_after: None };
    let again = |code, reason, after| Kind { code, reason, retry_after: Some(after) };
    let (soon, later) = (limits::RETRY_SOON, limits::RETRY_LATER);
    match error {
        RequestError::Field { .. } => last(Code::InvalidArgument, "FIELD_INVALID"),
        RequestError::OrderRequired => last(Code::FailedPrecondition, "ORDER_REQUIRED"),
        RequestError::DoesNotSign => last(Code::FailedPrecondition, "DOES_NOT_SIGN"),
        RequestError::NoBirth(_) => last(Code::NotFound, "NO_BIRTH"),
        RequestError::OtherDomain { .. } => last(Code::FailedPrecondition, "OTHER_TRUST_DOMAIN"),
        RequestError::IsBelieved(_) => last(Code::FailedPrecondition, "IS_BELIEVED"),
        RequestError::Order(_) => last(Code::InvalidArgument, "ORDER_INVALID"),
        RequestError::BatchSize(_) => last(Code::InvalidArgument, "BATCH_TOO_LARGE"),
        RequestError::EmptyRequest => last(Code::InvalidArgument, "REQUEST_EMPTY"),
        RequestError::TooManyAcks { .. } => last(Code::InvalidArgument, "TOO_FEW_MEMBERS"),
        RequestError::Exists => last(Code::AlreadyExists, "RECORD_EXISTS"),
        RequestError::WasDeleted => last(Code::AlreadyExists, "RECORD_WAS_DELETED"),
        RequestError::NotAhead(error) => kind(error),
        RequestError::Absent => last(Code::NotFound, "RECORD_ABSENT"),
        RequestError::Deleted => last(Code::NotFound, "RECORD_DELETED"),
        RequestError::Member(_) => last(Code::NotFound, "MEMBER_UNKNOWN"),
        RequestError::NoConflict => last(Code::NotFound, "NO_CONFLICT"),
        RequestError::NotQuarantined => last(Code::NotFound, "NOT_QUARANTINED"),
        RequestError::Invalidated { .. } => last(Code::FailedPrecondition, "RECORD_INVALIDATED"),
        RequestError::StillQuarantined(_) => last(Code::FailedPrecondition, "STILL_QUARANTINED"),
        RequestError::NoBackups => last(Code::FailedPrecondition, "BACKUPS_DISABLED"),
        RequestError::BackupRefused(_) => last(Code::FailedPrecondition, "BACKUP_REFUSED"),
        RequestError::NoAuditLog => last(Code::FailedPrecondition, "AUDIT_DISABLED"),
        RequestError::NotEveryoneAsked { .. } => again(Code::Unavailable, "PEERS_NOT_ASKED", later),
        RequestError::TooManyPeeks => again(Code::Unavailable, "READS_OVERLOADED", soon),
        RequestError::BackupFailed(_) => again(Code::Unavailable, "BACKUP_FAILED", later),
        RequestError::TailStopped => again(Code::Unavailable, "STREAM_ENDED", soon),
        RequestError::AnswerSize => last(Code::ResourceExhausted, "ANSWER_TOO_LARGE"),
        RequestError::TooManyTraces => again(Code::ResourceExhausted, "TRACES_OVERLOADED", later),
        RequestError::TooManyTails => last(Code::ResourceExhausted, "TOO_MANY_READERS"),
        RequestError::TailNotRead => last(Code::ResourceExhausted, "READER_TOO_SLOW"),
        RequestError::TailOvertaken { .. } => last(Code::Aborted, "READER_OVERTAKEN"),
        RequestError::Remote(RemoteError::Nonsense(_)) => last(Code::InvalidArgument, "PEER_ANSWER_INVALID"),
        RequestError::Remote(_) => again(Code::Unavailable, "PEER_UNREACHABLE", later),
        RequestError::Store(error) => match error {
            StoreError::QueueFull => again(Code::ResourceExhausted, "WRITES_OVERLOADED", soon),
            StoreError::DiskFull { .. } | StoreError::NoInodes { .. } | StoreError::NoSpace => {
                last(Code::ResourceExhausted, "DISK_FULL")
            }
            StoreError::QuarantineFull(_) => last(Code::ResourceExhausted, "QUARANTINE_FULL"),
            StoreError::ChainsFull => last(Code::ResourceExhausted, "CERTIFICATES_FULL"),
            // Another node answers; this one must be restarted first.
            StoreError::Stopped(_) | StoreError::Signing(_) => last(Code::Unavailable, "STORE_STOPPED"),
            StoreError::ReadOnly => last(Code::Unavailable, "DISK_READ_ONLY"),
            StoreError::Gap { .. }
            | StoreError::BelowFloor { .. }
            | StoreError::Forked { .. }
            | StoreError::Frozen(_)
            | StoreError::NotInLog
            | StoreError::TooManyOrigins(_)
            | StoreError::TooManyDrops { .. }
            | StoreError::RolledBack { .. } => last(Code::FailedPrecondition, "LOG_MISMATCH"),
            StoreError::Read(_) | StoreError::Damaged(_) => last(Code::Internal, "STORAGE_UNREADABLE"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use brock_core::{
        base::{
            id::{IdError, Incarnation, Origin},
            vector::Clock,
        },
        domain::codec::CodecError,
    };

    #[test]
    fn every_error_has_its_status() {
        let field = RequestError::field("key_hash", "is 3 bytes instead of 32");
        let origin = Origin::new(&"node-1".parse().unwrap(), Incarnation(7));
        for (error, code) in [
            (field.clone(), Code::InvalidArgument),
            (RequestError::BatchSize(1001), Code::InvalidArgument),
            (RequestError::EmptyRequest, Code::InvalidArgument),
            (RequestError::AnswerSize, Code::ResourceExhausted),
            (RequestError::Exists, Code::AlreadyExists),
            (RequestError::WasDeleted, Code::AlreadyExists),
            (RequestError::NotAhead(RequestError::Absent.into()), Code::NotFound),
            (RequestError::Absent, Code::NotFound),
            (RequestError::NotEveryoneAsked { peers: 2, unanswered: 1 }, Code::Unavailable),
            (RequestError::TooManyPeeks, Code::Unavailable),
            (RequestError::Invalidated { reason: "leaked".into() }, Code::FailedPrecondition),
            (RequestError::TailOvertaken { origin, floor: Clock(41) }, Code::Aborted),
            (RequestError::TailNotRead, Code::ResourceExhausted),
            (StoreError::QueueFull.into(), Code::ResourceExhausted),
            (StoreError::DiskFull { free: 1 }.into(), Code::ResourceExhausted),
            (StoreError::NoInodes { free: 1 }.into(), Code::ResourceExhausted),
            (StoreError::NoSpace.into(), Code::ResourceExhausted),
            (StoreError::ReadOnly.into(), Code::Unavailable),
            (StoreError::Stopped("x".into()).into(), Code::Unavailable),
            (StoreError::Read("x".into()).into(), Code::Internal),
        ] {
            assert_eq!(Status::from(error.clone()).code(), code, "{error}");
        }
        assert_eq!(Status::from(field).message(), "key_hash: is 3 bytes instead of 32");
        let details = |error: RequestError| Status::from(error).get_error_details();
        let full = details(StoreError::DiskFull { free: 1 }.into());
        let busy = details(StoreError::QueueFull.into());
        assert_eq!(full.error_info().unwrap().reason, "DISK_FULL");
        assert_eq!(full.error_info().unwrap().domain, "brock");
        assert!(full.retry_info().is_none());
        assert_eq!(busy.error_info().unwrap().reason, "WRITES_OVERLOADED");
        assert_eq!(busy.retry_info().unwrap().retry_delay, Some(limits::RETRY_SOON));
        let revoked = details(RequestError::Invalidated { reason: "leaked".into() });
        assert_eq!(revoked.error_info().unwrap().metadata["invalidation_reason"], "leaked");
        let item = proto::ItemError::from(RequestError::TooManyPeeks);
        assert_eq!((item.reason.as_str(), item.retry_after_ms), ("READS_OVERLOADED", 100));
        let leak = Status::from(RequestError::from(StoreError::Read("/secret/path".into())));
        assert!(!leak.message().contains("secret"));
    }

    #[test]
    fn every_error_of_a_donor_has_its_status() {
        let id = || "node-1".parse().unwrap();
        for (error, code, part) in [
            (DonorError::Version(3), Code::FailedPrecondition, "replication protocol 3"),
            (DonorError::OwnId(id()), Code::FailedPrecondition, "this node's own id"),
            (
                DonorError::OtherId { certified: id(), said: "node-2".parse().unwrap() },
                Code::PermissionDenied,
                "may not act as node-2",
            ),
            (DonorError::NoHello, Code::InvalidArgument, "must begin with a hello"),
            (DonorError::NodeId(IdError::NodeIdEmpty), Code::InvalidArgument, "hello.node_id: "),
            (DonorError::HelloVector(CodecError::VectorSize(9)), Code::InvalidArgument, "hello.vector: "),
            (DonorError::Applied(CodecError::VectorSize(9)), Code::InvalidArgument, "applied: "),
            (DonorError::Protocol("a second hello".into()), Code::InvalidArgument, "a second hello"),
            (DonorError::Restarted, Code::Aborted, "restarted"),
            (DonorError::Cursor(CodecError::Malformed("cursor")), Code::InvalidArgument, "cursor: "),
            (DonorError::TooManyFeeds, Code::ResourceExhausted, ""),
            (DonorError::TooManySnapshots, Code::ResourceExhausted, ""),
            (DonorError::TooManyCalls, Code::ResourceExhausted, "try again"),
            (DonorError::Replaced, Code::ResourceExhausted, "newer ones"),
            (StoreError::QueueFull.into(), Code::ResourceExhausted, ""),
            (StoreError::Read("/secret/path".into()).into(), Code::Internal, "its log has the details"),
        ] {
            let status = Status::from(error);
            assert_eq!(status.code(), code, "{status}");
            assert!(status.message().contains(part), "{status}");
        }
    }
}
