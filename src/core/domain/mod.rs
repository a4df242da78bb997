//! What a record is, how its states merge, and how both are written down.
//!
//! Pure: no I/O, no async, no RocksDB, no tonic.

pub mod codec;
pub mod digest;
pub mod operation;
pub mod record;
pub mod segment;
