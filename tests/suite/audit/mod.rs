//! The audit log.
//!
//! - `faults`: a full disk, a crash, a hostile caller, a changed file.
//! - `lines`: what is in it, and what `node-admin audit` reports.

mod faults;
mod lines;
