//! The record, its operations, how its states merge, and how they are encoded.
//!
//! Pure: no I/O, no async, no RocksDB, no tonic.
//!
//! - [`record`]: a record's state, and the join by which states merge; [`operation`]: what is logged.
//! - [`segment`]: a stretch of a log, checked; [`digest`]: digests of record sets.
//! - [`codec`]: the bytes of every key and value in the store, and the conversions to the wire.

pub mod codec;
pub mod digest;
pub mod operation;
pub mod record;
pub mod segment;
