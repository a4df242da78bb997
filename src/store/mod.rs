//! Durable records and the replication log: the only place that knows RocksDB.
//!
//! [`Store`] is the surface: open it, change it, read it, close it.
//!
//! - `handle`: the store's handle, and what it shares with the writer; `error`: what can go wrong.
//! - `change`: the changes, one file for each; `commit`: a group of them in the making; `writer`: the
//!   one thread that writes; `tally`: what a commit did, for the metrics.
//! - `fills`: donors that have filled this node, and that no other member has confirmed.
//! - `cuts`: where logs may be cut, which is between what their origins have signed.
//! - `heads`: how far origins say that their logs go, and what of that is missing here.
//! - `held`: whose entries take how much of the quarantine.
//! - `listing`: how far logs are kept, and which are listed.
//! - `losers`: the payloads of a record that have lost, and which of them an operator has acknowledged.
//! - `marks`: which bundles records name, while the others are searched for.
//! - `published`: what is durable and may be served, raised after the fsync.
//! - `read`: the reads, by subject.
//! - `view`: the database as it is now or as it was at one moment, every stored value decoded;
//!   `batch`: every stored value encoded; `schema`: the column families; `database`: RocksDB itself.
//! - `open`: what a storage directory is, and a new incarnation; `superblock`: the small file that
//!   remembers what the database must hold; `place`: whether the directory is still where it was.
//! - `signing`: how an incarnation signs what it writes; `receipts`: what it signs of others' logs,
//!   and of receipts.
//! - `rollback`: a peer that has more of this node's operations than the node itself.

mod batch;
mod change;
mod commit;
mod cuts;
mod database;
mod error;
mod fills;
mod handle;
mod heads;
mod held;
mod listing;
mod losers;
mod marks;
mod open;
mod place;
mod published;
mod read;
mod receipts;
mod rollback;
mod schema;
mod signing;
mod superblock;
mod tally;
mod view;
mod writer;

pub use change::{
    Adoption, Compacted, CreateOutcome, Joined, NewOperation, NewRecord, OperationOutcome, Page, Relog,
    Relogged, Scrubbed, Stretch,
};
pub use error::{OpenError, StoreError};
pub use fills::{Confirmed, Fill};
pub use handle::{Health, Options, Store};
pub use heads::Lacking;
pub use marks::HeldBundles;
pub use published::Totals;
pub use read::{
    BirthsPage, BucketItem, Comparison, Conflict, DiskSpace, DumpFrame, Dumped, Engine, Family, LogBatch,
    LoggedOperation, RecordPage, SentBundles, Since, StorageUse, StretchHash, Summary, Tailed, Traced,
    UnprovenRecords, item_from_proto,
};
pub use receipts::OwnHash;
pub use signing::{Certified, Identity};
