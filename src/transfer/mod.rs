//! A whole store as a stream of messages, for replication and for backups.

pub mod snapshot;
