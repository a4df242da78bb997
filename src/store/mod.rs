//! Durable records and the replication log: the only place that knows RocksDB.
//!
//! - [`Store`] is the surface: open it, write through it, read from it, close it.
//! - `boot` decides what a storage directory is: empty, ours, somebody else's, damaged.
//! - `writer` is the one thread that writes; `commit` builds what it writes.
//! - `reader` answers reads and serves the log; `database` is the thin typed layer on RocksDB.
//! - `superblock` is the small file that remembers what the database must hold.

mod boot;
mod commit;
mod database;
mod error;
mod handle;
mod reader;
mod schema;
mod superblock;
mod writer;

pub use error::{OpenError, StoreError};
pub use handle::{CreateOutcome, Health, NewRecord, Options, StorageUse, Store, unix_now};
pub use reader::Changes;
