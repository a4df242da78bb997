//! The audit log: what each operator did at this node, append-only and hash-chained.
//!
//! - [`entry`]: the fields of a line, and its exact bytes; each line holds the hash of its predecessor.
//! - [`files`]: the directory and its numbered files; `chain`: reading a file line by line.
//! - `writer`: durable appends, rotation, retention, recovery after a crash.
//! - [`log`]: the handle that callers write through, and the thread behind it; `dedup`: at most one line a
//!   minute for a repeated event.
//! - [`verify`]: whether files are what a node wrote.

mod chain;
mod dedup;
pub mod entry;
pub mod files;
pub mod log;
pub mod verify;
mod writer;
