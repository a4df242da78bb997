//! The HTTP side: probes, metrics and the console.

pub(crate) mod console;
mod probes;
pub mod readiness;
pub mod server;
