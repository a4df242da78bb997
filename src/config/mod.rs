//! The node's configuration.
//!
//! - [`settings`]: the table of all settings; `flags`: one of them as a flag and in the environment.
//! - [`sources`]: gathers the text of each setting from flags, environment and file.
//! - [`values`]: parses texts into values; `reader`: reads settings and collects the problems.
//! - [`validate`]: the typed, checked configuration.
//! - [`error`]: what can be wrong with it.

pub mod error;
mod flags;
mod reader;
pub mod settings;
pub mod sources;
pub mod validate;
pub mod values;
