//! Pulling: one task per peer.
//!
//! - [`puller`]: dials one peer, again and again; [`round`]: one Replicate stream with it.
//! - [`pullers`]: keeps one puller per address of the roster.

pub mod puller;
pub mod pullers;
pub mod round;
