//! Pulling: one task per peer.
//!
//! - [`puller`]: dials one peer, again and again; [`round`]: one Replicate stream with it; `inbox`: what comes on it;
//!   `announcer`: what is acknowledged and signed; [`error`]: why that fails.
//! - `comparer`: compares the records with the peer's beside the rounds. `reborn`: nodes that come back without their
//!   log.
//! - [`pullers`]: keeps one puller per address of the roster.

mod announcer;
mod comparer;
pub mod error;
mod inbox;
pub mod puller;
pub mod pullers;
mod reborn;
pub mod round;
