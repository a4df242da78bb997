//! Background work on the store.
//!
//! - `compaction`: what leaves the log, what that waits for, and nodes that were away too long.

mod compaction;
