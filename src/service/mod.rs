//! The gRPC services. A handler has three beats: decode, one domain call, encode.
//!
//! - `authorise`: who may call what, decided once for every call, deny by default.
//! - `audited`: operators' calls in the audit log; `arguments`: what it shows of them.
//! - `records`: the two things that clients do, shared by calls, batches and sessions.
//! - `acks`: waiting for other members, and the receipt.
//! - `lifecycle`: what an operator does to records and to the cluster; `ledgers`: conflicts and
//!   quarantine; `trace`: where every node has come with one record (`traced`: as tools show it);
//!   `tail`: the log as it grows.
//! - `status`: how this node is; `cluster`: how all are; `verdict`: what to make of that; `view`: all
//!   of it as JSON shows it.
//! - `problem`: what can be wrong with a request, and its gRPC status.
//! - `kv`, `replication`, `admin`: the handlers.

pub mod acks;
pub mod admin;
mod arguments;
mod audited;
pub mod authorise;
pub mod cluster;
pub mod kv;
pub mod ledgers;
pub mod lifecycle;
pub mod problem;
pub mod recognition;
pub mod records;
pub mod replication;
pub mod status;
pub mod tail;
pub mod trace;
pub mod traced;
pub mod verdict;
pub mod view;
