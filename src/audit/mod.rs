//! The audit log: who did what at this node, append-only and hash-chained.
//!
//! - `entry`: what a line says, and its exact bytes; each line names the hash of the one before it.
//! - `files`: the directory and its numbered files; `chain`: reading a file line by line.
//! - `book`: appending, durably; rotation, what is left out, what a crash left behind.
//! - `trail`: the handle that everybody writes through, and the thread behind it; `repeats`: how the
//!   same thing over and over takes one line a minute.
//! - `verify`: whether files are what a node wrote.

mod book;
mod chain;
pub mod entry;
pub mod files;
mod repeats;
pub mod trail;
pub mod verify;
