//! Brock: a masterless, clustered, eventually consistent key-value node for small,
//! security-sensitive records.
//!
//! The layers, lowest first. Imports point downwards only; `tests/` checks it.
//!
//! | layer | knows | never knows |
//! |---|---|---|
//! | [`ground`] | identifiers, clocks, limits, retry, tasks, metric names | anything above |
//! | [`proto`] | the generated `brock.v1` types | anything but the generated code |
//! | [`domain`] | what a record is, how states merge, how they are encoded | I/O, async, RocksDB, tonic |
//! | [`store`] | RocksDB: the writer, the readers, expiry | the network |
//! | [`audit`] | the chain of lines, its files, and whether they are whole | who may call what |
//! | [`tls`] | certificates, roles, accepting and dialling | records |
//! | [`replication`] | pulling from peers, feeding them, asking them | how a client is answered |
//! | [`service`] | gRPC handlers: decode, one domain call, encode | how the node is configured |
//! | [`node`] | configuration, boot and shutdown | |
//!
//! `ARCHITECTURE.md` has the words, the invariants and the path of a Put and of a pull.

pub mod audit;
pub mod backup;
pub mod domain;
pub mod ground;
pub mod node;
pub mod proto;
pub mod replication;
pub mod service;
pub mod store;
pub mod tls;
