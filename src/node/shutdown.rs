//! Stops a node.

use tokio::task::spawn_blocking;

use super::{health, running::Node};
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
            tracing::warn!(
                seconds = self.shutdown_timeout.as_secs(),
                "some calls did not finish in time; ending them. No acknowledged write is lost. Raise \
                 node.shutdown-timeout if this recurs"
            );
        }
        let store = self.store;
        let closed = spawn_blocking(move || store.close()).await;
        let closed = match closed {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::error!(%error, "the storage was not closed cleanly; the next start handles it like after a crash");
                false
            }
            Err(_) => false,
        };
        self.http_tasks.stop(limits::HTTP_STOP_TIMEOUT).await;
        tracing::info!(drained, clean = closed, "stopped");
        Stopped { drained, closed }
    }
}

/// How a node stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// Whether all calls finished in time.
    pub drained: bool,
    /// Whether the storage was closed cleanly; otherwise the next start handles it like after a crash.
    pub closed: bool,
}
