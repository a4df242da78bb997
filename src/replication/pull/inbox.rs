//! What a donor says on a Replicate stream.

use tokio::time::{Duration, Instant, timeout_at};
use tonic::Streaming;

use super::error::RoundError;
use crate::membership::peer::CallError;
use brock_core::{
    base::limits,
    proto::{self, replicate_response},
};

/// The donor's messages, and when the last one came.
pub(super) struct Inbox {
    responses: Streaming<proto::ReplicateResponse>,
    pub(super) heard: Instant,
    /// How long the donor took to answer the hello.
    pub(super) round_trip: Duration,
}

impl Inbox {
    /// The donor has just answered a hello that was sent at `said`.
    pub(super) fn new(responses: Streaming<proto::ReplicateResponse>, said: Instant) -> Self {
        let heard = Instant::now();
        Self { responses, heard, round_trip: heard.duration_since(said) }
    }

    /// The next message.
    pub(super) async fn receive(&mut self) -> Result<replicate_response::Message, RoundError> {
        // The time counts from the last message, because the caller drops this future and makes it again.
        let deadline = self.heard + limits::STREAM_SILENCE_TIMEOUT;
        let response = match timeout_at(deadline, self.responses.message()).await {
            Err(_) => return Err(RoundError::Silence),
            Ok(response) => response.map_err(CallError::from)?.ok_or(RoundError::Ended)?,
        };
        self.heard = Instant::now();
        response.message.ok_or_else(|| RoundError::Protocol("an empty message".to_owned()))
    }
}
