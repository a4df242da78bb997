//! The two programs, `brock` and `node-admin`.
//!
//! - `admin`: data, messages and exit codes of `node-admin`.
//! - `admin_cluster`: `status --cluster`, `lag`, `peers`, `top`.
//! - `admin_lifecycle`: JSON and exit codes for scripts.
//! - `admin_shell`: completion, manual pages, contexts, colours.
//! - `brock`: certificates, configuration, starts that fail.
//! - `dev`: `brock dev`.
//! - `doctor`: `doctor` and `debug bundle`.

pub mod admin;
pub mod admin_cluster;
pub mod admin_lifecycle;
pub mod admin_shell;
pub mod brock;
pub mod dev;
pub mod doctor;
