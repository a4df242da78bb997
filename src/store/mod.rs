//! Durable records and the replication log: the only place that knows RocksDB.
//!
//! - [`Store`] is the surface: open it, write through it, read from it, close it.
//! - `boot` decides what a storage directory is: empty, ours, somebody else's, damaged.
//! - `writer` is the one thread that writes; `commit` builds what it writes.
//! - `maintain` builds what is no operation: resync, repair, compaction, collection, quarantine.
//! - `visible` is what readers see of it all, raised after the fsync.
//! - `reader` answers reads and serves the log; `inspect` shows what operators and peers compare;
//!   `housekeeping` is the surface for `maintain`; `tail` is the log for whoever watches it.
//! - `database` and `batch` are the thin typed layer on RocksDB: reads, and what is written.
//! - `engine` shows whether RocksDB keeps up.
//! - `superblock` is the small file that remembers what the database must hold.

mod batch;
mod boot;
mod commit;
mod database;
mod dump;
mod engine;
mod error;
mod handle;
mod housekeeping;
mod inspect;
mod maintain;
mod migrate;
mod reader;
mod request;
mod schema;
mod superblock;
mod tail;
mod visible;
mod writer;

pub use brock_core::base::time::unix_now;
pub use database::Totals;
pub use dump::{DumpFrame, Dumped, Since};
pub use engine::{Engine, Family};
pub use error::{OpenError, StoreError};
pub use handle::{DiskSpace, Health, Options, StorageUse, Store};
pub use housekeeping::Compacted;
pub use inspect::{
    BucketItem, Conflict, LoggedOperation, RecordPage, Summary, Traced, item_from_proto, keyed_state,
};
pub use maintain::{Adoption, Joined, Page, Stretch};
pub use reader::Changes;
pub use request::{CreateOutcome, NewOperation, NewRecord, OperationOutcome};
pub use tail::Tailed;
