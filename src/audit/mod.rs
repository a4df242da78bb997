//! The audit log: what each operator did at this node, append-only and hash-chained.
//!
//! Modules, lowest first; each imports only those above it:
//!
//! - `entry`: the fields of a line, and its exact bytes. Each line contains the hash of the previous one.
//! - `files`: the directory and its numbered files; `chain`: reading a file line by line.
//! - `writer`: durable appends, rotation, retention, recovery after a crash.
//! - `dedup`: at most one line a minute for a repeated event.
//! - `log`: the handle for all callers, and the thread that writes.
//! - `verify`: whether files are what a node wrote.

mod chain;
mod dedup;
pub mod entry;
pub mod files;
pub mod log;
pub mod verify;
mod writer;
