//! What every layer of the node uses.
//!
//! - [`task`]: background tasks with a name, a state, a last error and an owner.
//! - [`crashsafe`]: durable changes to files and directories.
//! - [`retry`]: delays between retries.
//! - [`spans`]: the spans of traces.
//! - [`alarms`]: what an operator must look into.
//! - [`planted`]: bugs that the simulation must find.
//! - [`processor`]: refuses a processor that lacks instructions the build needs.

pub mod alarms;
pub mod planted;
pub mod processor;
pub mod retry;
pub mod spans;

pub use brock_net::{crashsafe, task};
