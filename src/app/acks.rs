//! Waiting until other members hold an operation, and the receipt for it.

use std::time::Duration;

use tokio::time::Instant;

use super::error::RequestError;
use crate::membership::{
    members::Members,
    receipt::{Acks, Receipt},
};
use brock_core::{
    base::{limits, vector::Stamp},
    domain::record::UnixSeconds,
};

/// What a request asks to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitFor {
    /// How many other members.
    pub acks: Acks,
    /// How long at most; `None` = [`limits::ACKS_TIMEOUT_DEFAULT`].
    pub timeout: Option<Duration>,
}

/// A wait that was checked and whose time runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting {
    acks: Acks,
    began: Instant,
    deadline: Instant,
}

impl Waiting {
    /// Checks what a request asks for, before anything is written.
    pub(super) fn begin(wait: WaitFor, members: &Members, now: UnixSeconds) -> Result<Self, RequestError> {
        let timeout = wait.timeout.unwrap_or(limits::ACKS_TIMEOUT_DEFAULT);
        if timeout > limits::ACKS_TIMEOUT_MAX {
            let problem =
                format!("is {} s; at most {} s", timeout.as_secs(), limits::ACKS_TIMEOUT_MAX.as_secs());
            return Err(RequestError::field("acks.timeout_ms", problem));
        }
        if let Acks::Nodes(asked) = wait.acks {
            let members = members.count(now);
            if asked > members {
                return Err(RequestError::TooManyAcks { asked, members });
            }
        }
        let began = Instant::now();
        Ok(Self { acks: wait.acks, began, deadline: began + timeout })
    }

    /// Waits until enough members hold the operation. A time-out is no error: the receipt names the
    /// missing members, and the operation stands.
    pub(super) async fn receipt(self, stamp: Stamp, members: &Members, now: UnixSeconds) -> Receipt {
        members.receipt(stamp, self.acks, self.began, self.deadline, now).await
    }
}
