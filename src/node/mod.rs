//! The node as a process: its settings, its telemetry, its HTTP side, its boot and shutdown.
//!
//! Settings flow one way: the table in [`settings`] names them, [`sources`] gathers their texts
//! from flags, environment and file, and [`config`] turns the texts into typed, checked values.

mod assembly;
mod background;
mod backups;
mod certificates;
pub mod config;
mod console;
mod first_start;
mod health;
pub mod http;
pub mod lifecycle;
pub mod listen;
mod prepare;
pub mod problem;
mod process;
pub mod readiness;
mod seed;
mod serving;
pub mod settings;
pub mod sources;
mod start_error;
pub mod supervisor;
pub mod telemetry;
mod tracing_export;
mod upkeep;
pub mod usage;
pub mod values;

pub use lifecycle::{Node, StartError, Stopped};
