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

mod admin_cli;
mod admin_cluster;
mod admin_shell;
mod audit;
mod audit_faults;
mod backup_nodes;
mod backup_stores;
mod backup_tools;
mod backups;
mod certificates;
mod cli;
mod cloud_credentials;
mod cluster_view;
mod compaction;
mod console;
mod convergence;
mod crash;
mod dev;
mod disk_full;
mod doctor;
mod first_start;
mod handshakes;
mod harness;
mod hostile_entries;
mod hostile_peers;
mod hostile_pullers;
mod identity;
mod joining;
mod lifecycle_cli;
mod log_tail;
mod logs;
mod model;
mod object_faults;
mod objects;
mod observed;
mod operations;
mod own_ca;
mod protocol;
mod raw;
mod reads;
mod recipe;
mod relay;
mod repetition;
mod restarts;
mod resync;
mod roles;
mod session;
mod sim;
mod start;
mod startup;
mod storage;
mod supervised;
mod survival;
mod tidy;
mod traces;
mod verification;
