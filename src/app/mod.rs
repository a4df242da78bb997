//! What clients and operators can do, whatever protocol they use. Domain types in and out; the handlers of
//! each protocol decode and encode.
//!
//! - [`records`]: creating and reading records; [`acks`]: waiting for other members, and the receipt.
//! - [`operations`]: what an operator does to records and to the cluster; [`retirement`]: members that
//!   never return; [`migration`]: logging again what is not proven;
//!   [`origins`]: what proves the origins that are known here; [`backups`]: backups on request;
//!   `receipts`: who holds an operation, with the proof;
//!   [`ledgers`]: conflicts and quarantine; [`tail`]: the log as it grows.
//! - [`trace`]: one record on every node; [`status`]: the status of this node; [`cluster`]: of all nodes;
//!   `reports`: reads what a peer reports; [`health`]: the verdict on all; its findings: `trust`: of trust; `missing`:
//!   about what a node lacks without knowing it, or because peers keep it back.
//! - [`error`]: why a request is not answered as asked.
//!
//! The exception: the reports that nodes send each other (status, cluster, health, trace) are the generated
//! messages themselves. They have some hundred fields, and a domain twin would make each new field five
//! edits instead of two.

pub mod acks;
pub mod backups;
pub mod cluster;
pub mod error;
pub mod health;
pub mod ledgers;
pub mod migration;
mod missing;
pub mod operations;
pub mod origins;
mod receipts;
pub mod records;
mod reports;
pub mod retirement;
pub mod status;
pub mod tail;
pub mod trace;
mod trust;
