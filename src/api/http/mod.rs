//! The HTTP server: probes, metrics and the console.
//!
//! - [`server`]: the listener, the connections and the pages.
//! - [`readiness`]: whether the node is ready; `probes`: `/healthz`.
//! - `console`: the web page for operators.

pub(crate) mod console;
mod probes;
pub mod readiness;
pub mod server;
