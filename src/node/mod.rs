//! The node as a process: boot, reload and shutdown.

mod assembly;
mod background;
mod backups;
mod first_start;
pub mod lifecycle;
pub mod listen;
mod prepare;
mod reload;
mod serving;
mod start_error;
pub mod systemd;
mod upkeep;

pub use lifecycle::{Node, StartError, Stopped};
