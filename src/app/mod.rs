//! What clients and operators can do, whatever protocol they use.
//!
//! - [`records`]: put and get, shared by calls, batches and sessions; [`acks`]: waiting for other
//!   members, and the receipt.
//! - [`operations`]: what an operator does to records and to the cluster; [`ledgers`]: conflicts and
//!   quarantine; [`trace`]: one record on every node; [`tail`]: the log as it grows.
//! - [`status`]: the state of this node; [`cluster`]: of all nodes; [`health`]: the findings.
//! - [`error`]: what can be wrong with a request.

pub mod acks;
pub mod cluster;
pub mod error;
pub mod health;
pub mod ledgers;
pub mod operations;
pub mod records;
pub mod status;
pub mod tail;
pub mod trace;
