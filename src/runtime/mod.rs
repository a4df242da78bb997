//! What every layer of the node runs on.
//!
//! - `task`: background tasks with a name, a state, a last error and an owner.
//! - [`retry`]: jittered exponential backoff; [`spans`]: the spans of traces.
//! - [`alarms`]: what an operator must look into; [`planted`]: bugs that the simulation must find.
//! - [`processor`]: refuses a processor that lacks instructions the build needs.

pub mod alarms;
pub mod planted;
pub mod processor;
pub mod retry;
pub mod spans;

pub use brock_net::task;
