//! Logs, traces and the metrics of the process.
//!
//! - [`logs`]: sets everything up; log lines and the page of metrics.
//! - [`traces`]: exports spans to a collector.
//! - [`process`]: metrics of the process.
//! - [`badgerauth`]: metrics under the names of badgerauth.

pub mod badgerauth;
pub mod logs;
pub mod process;
pub mod traces;
