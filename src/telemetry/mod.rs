//! Logs, traces and the metrics of the process.

pub mod badgerauth;
pub mod logs;
pub mod process;
pub mod traces;
