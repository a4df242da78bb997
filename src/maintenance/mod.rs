//! Background work on the store.
//!
//! - [`compact`]: removes stable log entries, and collects tombstones where that is configured.
//! - [`scrub`]: compares the records on disk with their digests.
//! - [`sweep`]: removes expired payloads, unless the clocks disagree.

pub mod compact;
pub mod scrub;
pub mod sweep;
