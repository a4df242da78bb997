//! What every layer of the node uses.
//!
//! - [`retry`]: delays between retries.
//! - [`spans`]: the spans of traces.
//! - [`alarms`]: what an operator must look into.
//! - [`coredump`]: keeps secrets in memory out of core files.
//! - [`descriptors`]: the shares in the limit of open files.
//! - [`pool`]: places of which every identity has a share.
//! - [`repeats`]: log lines that a peer can cause again and again.
//! - [`processor`]: refuses a processor that lacks instructions the build needs.
//! - [`planted`]: bugs that the tests must find, in the layers below too.

pub mod alarms;
pub mod coredump;
pub mod descriptors;
pub mod pool;
pub mod processor;
pub mod repeats;
pub mod retry;
pub mod spans;

pub use brock_core::base::planted;
