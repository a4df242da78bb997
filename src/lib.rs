//! Brock: a masterless, clustered, eventually consistent key-value node for small,
//! security-sensitive records.
//!
//! The crates and layers, lowest first. Imports point downwards only; `tests/suite/tidy` checks it.
//!
//! | crate or layer | holds |
//! |---|---|
//! | [`brock_core`] | identifiers, the record and its merge, encodings, limits, the generated messages: no I/O |
//! | [`brock_net`] | addresses, DNS, dialling, TLS, certificates: everything below a gRPC call |
//! | [`brock_client`] | what a client of a cluster needs, and the JSON that tools show |
//! | [`runtime`] | retries, spans, alarms, no core files, the check of the processor |
//! | [`store`] | RocksDB: the writer, the readers, expiry |
//! | [`transfer`] | a whole store as a stream of messages |
//! | [`audit`] | the audit log: its lines, its files, its verification |
//! | [`membership`] | who the peers and members are, and what they have acknowledged |
//! | [`replication`] | pulling from peers, serving pullers, asking peers, repairing differences |
//! | [`maintenance`] | compaction, collection, sweeping, scrubbing |
//! | [`backup`] | making, verifying and restoring backups; object stores |
//! | [`telemetry`] | logs, traces, process metrics |
//! | [`config`] | settings, their sources and their validation |
//! | [`app`] | what clients and operators can do, whatever protocol they use |
//! | [`api`] | gRPC and HTTP: decode, one call of `app`, encode |
//! | [`node`] | boot, reload and shutdown |
//!
//! `ARCHITECTURE.md` defines the words and the invariants, and follows a Put and a pull through the
//! layers.

#![forbid(unsafe_code)]

pub mod api;
pub mod app;
pub mod audit;
pub mod backup;
pub mod config;
pub mod maintenance;
pub mod membership;
pub mod node;
pub mod replication;
pub mod runtime;
pub mod store;
pub mod telemetry;
pub mod transfer;
