//! From errors to gRPC statuses: one exhaustive match for each error enum.

use tonic::{Code, Status};

use crate::{
    app::error::RequestError, membership::peer::RemoteError, replication::donor::error::DonorError,
    store::StoreError,
};
use brock_core::proto;

impl From<RequestError> for Status {
    fn from(error: RequestError) -> Self {
        Self::new(code(&error), error.message())
    }
}

impl From<RequestError> for proto::ItemError {
    fn from(error: RequestError) -> Self {
        Self { code: code(&error).into(), message: error.message() }
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
            DonorError::TooManyFeeds | DonorError::TooManySnapshots => Code::ResourceExhausted,
        };
        Self::new(code, error.to_string())
    }
}

fn code(error: &RequestError) -> Code {
    match error {
        RequestError::Field { .. }
        | RequestError::BatchSize(_)
        | RequestError::EmptyRequest
        | RequestError::TooManyAcks { .. } => Code::InvalidArgument,
        RequestError::Exists => Code::AlreadyExists,
        RequestError::Absent
        | RequestError::Deleted
        | RequestError::Member(_)
        | RequestError::NotQuarantined => Code::NotFound,
        RequestError::Invalidated { .. }
        | RequestError::StillQuarantined(_)
        | RequestError::NoBackups
        | RequestError::BackupRefused(_)
        | RequestError::NoAuditLog => Code::FailedPrecondition,
        RequestError::NotEveryoneAsked { .. }
        | RequestError::TooManyPeeks
        | RequestError::BackupFailed(_)
        | RequestError::TailStopped => Code::Unavailable,
        RequestError::AnswerSize
        | RequestError::TooManyTraces
        | RequestError::TooManyTails
        | RequestError::TailNotRead => Code::ResourceExhausted,
        RequestError::TailOvertaken { .. } => Code::Aborted,
        RequestError::Remote(RemoteError::Nonsense(_)) => Code::InvalidArgument,
        RequestError::Remote(_) => Code::Unavailable,
        RequestError::Store(error) => match error {
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
            (RequestError::Absent, Code::NotFound),
            (RequestError::NotEveryoneAsked { peers: 2, unanswered: 1 }, Code::Unavailable),
            (RequestError::TooManyPeeks, Code::Unavailable),
            (RequestError::Invalidated { reason: "leaked".into() }, Code::FailedPrecondition),
            (RequestError::TailOvertaken { origin, floor: Clock(41) }, Code::Aborted),
            (RequestError::TailNotRead, Code::ResourceExhausted),
            (StoreError::QueueFull.into(), Code::ResourceExhausted),
            (StoreError::DiskFull { free: 1 }.into(), Code::ResourceExhausted),
            (StoreError::Stopped("x".into()).into(), Code::Unavailable),
            (StoreError::Read("x".into()).into(), Code::Internal),
        ] {
            assert_eq!(Status::from(error.clone()).code(), code, "{error}");
        }
        assert_eq!(Status::from(field).message(), "key_hash: is 3 bytes instead of 32");
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
            (StoreError::QueueFull.into(), Code::ResourceExhausted, ""),
            (StoreError::Read("/secret/path".into()).into(), Code::Internal, "its log has the details"),
        ] {
            let status = Status::from(error);
            assert_eq!(status.code(), code, "{status}");
            assert!(status.message().contains(part), "{status}");
        }
    }
}
