//! Stops a node.

use tokio::task::spawn_blocking;

use super::{health, running::Node};
use crate::store::{Health, OpenError};
use brock_core::base::limits;

impl Node {
    /// Shuts down in order: not ready, no new connections, drain with a deadline, close the store. Ends calls
    /// that are not finished at the deadline.
    pub async fn stop(self) -> Stopped {
        tracing::info!("shutting down");
        self.readiness.set_draining();
        health::set_serving(&self.health, false).await;
        let drained = self.tasks.stop(self.shutdown_timeout).await;
        if !drained {
            let lost = matches!(&*self.store.health().borrow(), Health::Lost(_));
            tracing::warn!(
                seconds = self.shutdown_timeout.as_secs(),
                "some calls did not finish in time; ending them. {}Raise node.shutdown-timeout if this recurs",
                if lost { "" } else { "No acknowledged write is lost. " }
            );
        }
        let store = self.store;
        let closed = spawn_blocking(move || store.close()).await;
        let (closed, lost) = match closed {
            Ok(Ok(())) => (true, false),
            Ok(Err(error @ OpenError::Lost(_))) => {
                tracing::error!(%error, "the storage is gone; writes that were acknowledged may be lost");
                (false, true)
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "the storage was not closed cleanly; the next start handles it like after a crash");
                (false, false)
            }
            Err(_) => (false, false),
        };
        self.http_tasks.stop(limits::HTTP_STOP_TIMEOUT).await;
        tracing::info!(drained, clean = closed, "stopped");
        Stopped { drained, closed, lost }
    }
}

/// How a node stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// Whether all calls finished in time.
    pub drained: bool,
    /// Whether the storage was closed cleanly; otherwise the next start handles it like after a crash.
    pub closed: bool,
    /// Whether the data directory was gone: writes that were acknowledged may be lost.
    pub lost: bool,
}
