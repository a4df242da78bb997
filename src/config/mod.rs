//! The node's configuration.
//!
//! Settings flow one way: the table in [`settings`] names them, [`sources`] gathers their texts
//! from flags, environment and file, and [`validate`] turns the texts into typed, checked values.

pub mod error;
pub mod manpages;
pub mod settings;
pub mod sources;
pub mod validate;
pub mod values;
