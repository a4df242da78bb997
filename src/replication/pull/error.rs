//! Why a round of a puller failed.

use crate::{
    membership::{peer::RemoteError, peers::Refusal},
    replication::resync::ResyncError,
    store::StoreError,
};
use brock_core::{
    base::limits,
    domain::{codec::CodecError, segment::SegmentError},
};
use brock_net::{dial::DialError, tls::errors};

/// Why a round failed. The next one is tried after a while.
#[derive(Debug, thiserror::Error)]
pub enum RoundError {
    /// No connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The peer answered with an error, or the connection broke.
    #[error("{0}")]
    Call(String),
    /// Nothing was heard for too long.
    #[error("nothing was heard for {} s", limits::STREAM_SILENCE_TIMEOUT.as_secs())]
    Silence,
    /// The peer does not read what it is told.
    #[error("the peer has not read an acknowledgement for {} s", limits::STREAM_SILENCE_TIMEOUT.as_secs())]
    Deaf,
    /// The peer hung up.
    #[error("the peer ended the stream")]
    Ended,
    /// The peer is not one to pull from.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The address is this node's own.
    #[error("this is the node itself")]
    Own,
    /// DNS lists a peer that is up under another address already.
    #[error("this is a second address of a peer that is up")]
    Alias,
    /// The peer's certificate is another node's.
    #[error("the peer says it is {claimed}, but its certificate is that of {certified}")]
    Identity {
        /// What it says.
        claimed: String,
        /// What its certificate says.
        certified: String,
    },
    /// The peer sent something that does not belong there.
    #[error("the peer broke the protocol: {0}")]
    Protocol(String),
    /// What came could not be applied.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The peer's log was not enough, and its records could not be had.
    #[error(transparent)]
    Resync(#[from] ResyncError),
    /// The peer's records differ, and could not be had.
    #[error("comparing the records failed: {0}")]
    Repair(#[from] RemoteError),
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

impl From<tonic::Status> for RoundError {
    fn from(status: tonic::Status) -> Self {
        // A certificate that the peer refused shows only here, as a broken connection.
        Self::Call(
            errors::explain(&status).unwrap_or_else(|| format!("{}: {}", status.code(), status.message())),
        )
    }
}
