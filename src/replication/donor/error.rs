//! Why a donor refuses a puller, or ends its stream.

use super::session::SessionError;
use crate::{replication::pull::puller::PROTOCOL_VERSION, store::StoreError, transfer::feed::SnapshotError};
use brock_core::{
    base::id::{IdError, NodeId},
    domain::codec::CodecError,
};

/// Why a donor refuses a puller, or ends its stream.
#[derive(Debug, thiserror::Error)]
pub enum DonorError {
    /// The puller speaks another version of the protocol.
    #[error(
        "the puller speaks replication protocol {0}, this node speaks {PROTOCOL_VERSION}: run the same version of \
         brock on both (docs/guides/upgrade.md)"
    )]
    Version(u32),
    /// The first message of the stream is something else, or did not come in time.
    #[error("the stream must begin with a hello")]
    NoHello,
    /// The puller's node id is not valid.
    #[error("hello.node_id: {0}")]
    NodeId(IdError),
    /// The certificate belongs to another node.
    #[error("hello.node_id: the certificate is that of {certified} and may not act as {said}")]
    OtherId {
        /// The node id of the certificate.
        certified: NodeId,
        /// The node id of the hello.
        said: NodeId,
    },
    /// The puller has this node's id.
    #[error("hello.node_id: {0} is this node's own id: give every node its own node.id and storage")]
    OwnId(NodeId),
    /// The vector of the hello does not decode.
    #[error("hello.vector: {0}")]
    HelloVector(CodecError),
    /// The vector of a request for a snapshot does not decode.
    #[error("applied: {0}")]
    Applied(CodecError),
    /// The puller sent a message that does not belong there.
    #[error("{0}")]
    Protocol(String),
    /// The cursor of a snapshot belongs to another life of this node.
    #[error("this node was restarted since that snapshot began: begin again")]
    Restarted,
    /// The cursor of a snapshot does not decode.
    #[error("cursor: {0}")]
    Cursor(CodecError),
    /// Too many pullers.
    #[error("this node feeds as many pullers as it can")]
    TooManyFeeds,
    /// A newer stream of the same node has taken its place.
    #[error("this stream has ended: newer ones of the same node have taken its share of the places")]
    Replaced,
    /// Too many calls of one node, or of all, at once.
    #[error("this node answers as many such calls of nodes as it can at once: try again in a moment")]
    TooManyCalls,
    /// Too many pullers that are sent a snapshot.
    #[error("this node fills as many others as it can")]
    TooManySnapshots,
    /// The connection is to close.
    #[error("this node stops, or has reloaded its certificates: dial again")]
    Stopping,
    /// The store cannot be read, or has stopped.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<SessionError> for DonorError {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Protocol(problem) => Self::Protocol(problem),
            forged @ SessionError::Forged(_) => Self::Protocol(forged.to_string()),
            SessionError::Store(error) => Self::Store(error),
        }
    }
}

impl From<SnapshotError> for DonorError {
    fn from(error: SnapshotError) -> Self {
        match error {
            SnapshotError::Restarted => Self::Restarted,
            SnapshotError::Cursor(error) => Self::Cursor(error),
        }
    }
}
