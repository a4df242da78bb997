//! The one integration test binary: every test binary links RocksDB, so there is one.
//! Each module holds claims about one subject; a test's name is its claim.

#![forbid(unsafe_code)]
#![allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on should say where, and its name is its documentation"
)]

mod api;
mod audit;
mod backup;
mod cli;
mod documents;
mod harness;
mod maintenance;
mod membership;
mod model;
mod net;
mod node;
mod replication;
mod sim;
mod store;
mod telemetry;
mod tidy;
