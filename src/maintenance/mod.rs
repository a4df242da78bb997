//! Background work on the store.
//!
//! - [`compact`]: removes stable log entries; `collect`: forgets tombstones, where that is configured.
//! - [`scrub`]: compares the records on disk with their digests.
//! - [`sweep`]: removes expired payloads, unless the clocks disagree.

mod collect;
pub mod compact;
pub mod scrub;
pub mod sweep;
