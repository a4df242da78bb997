//! Why a round with a donor fails.

use crate::{
    membership::{peer::CallError, roster::Refusal},
    replication::resync::ResyncError,
    store::StoreError,
};
use brock_core::{
    base::{id::NodeId, limits},
    domain::{codec::CodecError, segment::SegmentError},
};
use brock_net::dial::DialError;

/// Why a round failed. The puller tries the next one after a delay.
#[derive(Debug, thiserror::Error)]
pub enum RoundError {
    /// No connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The peer answered with an error, or the connection broke.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The peer sent nothing for too long.
    #[error("nothing was heard for {} s", limits::STREAM_SILENCE_TIMEOUT.as_secs())]
    Silence,
    /// The peer does not read the acknowledgements.
    #[error("the peer has not read an acknowledgement for {} s", limits::STREAM_SILENCE_TIMEOUT.as_secs())]
    Deaf,
    /// The peer ended the stream.
    #[error("the peer ended the stream")]
    Ended,
    /// This node does not pull from the peer.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The address is this node's own.
    #[error("this is the node itself")]
    Own,
    /// The peer's certificate is another node's.
    #[error("the peer says it is {claimed}, but its certificate is that of {certified}")]
    Identity {
        /// The id that it claims.
        claimed: NodeId,
        /// The id in its certificate.
        certified: NodeId,
    },
    /// The peer has a certificate without a node id, and has answered under too many ids.
    #[error(
        "the peer answers as {0}, after {max} other node ids, with a certificate that states none: give it a \
         certificate of `brock cert node`", max = limits::NAMES_PER_CERTIFICATE
    )]
    TooManyNames(NodeId),
    /// The peer sent a message that the protocol does not allow here.
    #[error("the peer broke the protocol: {0}")]
    Protocol(String),
    /// The store could not apply what the peer sent.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The peer's log was not enough, and the resync failed.
    #[error(transparent)]
    Resync(#[from] ResyncError),
}

impl RoundError {
    /// Whether it fails until an operator changes something, such as a certificate.
    pub(super) fn lasts(&self) -> bool {
        matches!(self, Self::Dial(error) if !error.retry_can_help())
    }

    /// Whether the address leads to no peer of its own, and is to be ignored.
    pub(super) fn leads_to_no_peer(&self) -> bool {
        matches!(self, Self::Own | Self::Refused(Refusal::Alias))
    }
}

impl From<CodecError> for RoundError {
    fn from(error: CodecError) -> Self {
        Self::Protocol(error.to_string())
    }
}

impl From<SegmentError> for RoundError {
    fn from(error: SegmentError) -> Self {
        Self::Protocol(error.to_string())
    }
}
