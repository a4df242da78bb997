//! The two programs, `brock` and `node-admin`.
//!
//! - `admin`: data, messages and exit codes of `node-admin`.
//! - `admin_cluster`: `status --cluster`, `lag`, `peers`, `top`.
//! - `admin_lifecycle`: JSON and exit codes for scripts.
//! - `admin_shell`: completion, manual pages, contexts, colours.
//! - `brock`: certificates, configuration, starts that fail.
//! - `dev`: `brock dev`.
//! - `doctor`: `doctor` and `debug bundle`.
//! - `receipts`: what members have signed, verified without any node.

mod admin;
mod admin_cluster;
mod admin_lifecycle;
mod admin_shell;
mod brock;
mod dev;
mod doctor;
mod orders;
mod receipts;
