//! Waiting for other members to hold an operation, and the receipt for it.

use std::time::Duration;

use tokio::time::Instant;

use super::error::Problem;
use crate::{
    membership::{members::Members, receipt::Acks},
    store::Store,
};
use brock_core::{
    base::{duration::milliseconds, limits, vector::Stamp},
    proto::{self, acks::From},
};

/// What a request asks to wait for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    acks: Acks,
    began: Instant,
    deadline: Instant,
}

impl Wanted {
    /// Reads and checks it before anything is written; `None` = this node alone.
    pub fn decode(
        acks: Option<proto::Acks>,
        store: &Store,
        members: &Members,
    ) -> Result<Option<Self>, Problem> {
        let Some(proto::Acks { from, timeout_ms }) = acks else { return Ok(None) };
        let timeout = match timeout_ms {
            0 => limits::ACKS_TIMEOUT_DEFAULT,
            milliseconds => Duration::from_millis(milliseconds.into()),
        };
        if timeout > limits::ACKS_TIMEOUT_MAX {
            let problem =
                format!("is {} s; at most {} s", timeout.as_secs(), limits::ACKS_TIMEOUT_MAX.as_secs());
            return Err(Problem::Field { field: "acks.timeout_ms", problem });
        }
        let acks = match from {
            Some(From::All(true)) => Acks::All,
            Some(From::Nodes(asked)) => {
                let count = members.count(store.now());
                let nodes = usize::try_from(asked).unwrap_or(usize::MAX);
                if nodes > count {
                    return Err(Problem::TooManyAcks { asked, members: count });
                }
                Acks::Nodes(nodes)
            }
            Some(From::All(false)) | None => Acks::Nodes(0),
        };
        let began = Instant::now();
        Ok(Some(Self { acks, began, deadline: began + timeout }))
    }

    /// Waits until enough members hold the operation. A time-out is no error: the receipt says who
    /// is missing, and the operation stands.
    pub async fn receipt(self, stamp: Stamp, store: &Store, members: &Members) -> proto::Receipt {
        let receipt = members.receipt(stamp, self.acks, self.began, self.deadline, store.now()).await;
        let holder = |(node, after): (String, Duration)| proto::receipt::Holder {
            node,
            after_ms: milliseconds(after),
        };
        proto::Receipt {
            holders: receipt.holders.into_iter().map(holder).collect(),
            missing: receipt.missing,
        }
    }
}
