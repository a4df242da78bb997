//! The other end of a pull.
//!
//! - [`session`]: one puller's stream; [`feed`]: decides which batch to send next.

pub mod feed;
pub mod session;
