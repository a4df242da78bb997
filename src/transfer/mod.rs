//! A whole store as a stream of messages, for replication and for backups.
//!
//! - `messages`: the messages, built in one place.
//! - [`feed`]: a donor's stream, while writes continue; [`dump`]: a backup's, of one moment.
//! - [`proof`]: verifies what others send; [`bundles`]: what comes beside states to prove them; [`batch`]: a stretch
//!   of a log, as a whole; [`orders`]: verifies what operators have signed in it; [`closings`]: logs that operators
//!   have closed; [`signers`]: whose certificate has signed a birth or an order; [`authority`]: verifies with the CAs
//!   alone.
//! - [`forks`]: proofs that an origin has signed two histories; `heads`: how far origins say that their logs go.
//! - [`join`]: joins the messages into a store, wherever they come from; `join_error`: why it does not; `claimed`: how
//!   much of what a donor claims to have applied is adopted.

pub mod authority;
pub mod batch;
pub mod bundles;
mod claimed;
pub mod closings;
pub mod dump;
pub mod feed;
pub mod forks;
mod heads;
pub mod join;
mod join_error;
mod messages;
pub mod orders;
pub mod proof;
pub mod signers;

pub use messages::keyed_state;

use crate::store::StoreError;

/// Runs what computes for long off the async runtime.
pub(crate) async fn work<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StoreError> {
    let stopped = |_| StoreError::Stopped("the runtime is shutting down".to_owned());
    tokio::task::spawn_blocking(work).await.map_err(stopped)
}
