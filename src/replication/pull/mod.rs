//! Pulling: one task per peer.
//!
//! - [`puller`]: rounds with one peer; [`pullers`]: keeps one puller per peer of the directory.
//! - [`error`]: why a round ended.

pub mod error;
pub mod puller;
pub mod pullers;
