//! The donor's end of a Replicate stream.
//!
//! - [`admission`]: which pullers are admitted; [`error`]: why one is refused, or its stream ends.
//! - [`session`]: one puller's stream; [`feed`]: decides which batch to send next; `signed`: what the puller signs.

pub mod admission;
pub mod error;
pub mod feed;
pub mod session;
mod signed;
