//! The donor's end of a Replicate stream.
//!
//! - [`session`]: one puller's stream; [`feed`]: decides which batch to send next.

pub mod feed;
pub mod session;
