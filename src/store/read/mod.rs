//! Reads of the store, by subject.
//!
//! - `records`: single records and pages of them; `digests`: summaries and buckets, to compare nodes.
//! - `log`: batches of the log for peers; `tail`: the log for operators who watch it; `trace`: all
//!   about one key hash; `quarantine`: entries that could not be applied.
//! - `dump`: the whole store at one moment, for backups.
//! - `proofs`: records that lack a bundle.
//! - `forks`: what origins state of their logs, and those that have signed two.
//! - `small`: notes, members, operators' certificates; `engine`: figures of RocksDB.

mod digests;
mod dump;
mod engine;
mod forks;
mod log;
mod proofs;
mod quarantine;
mod records;
mod small;
mod tail;
mod trace;

pub use digests::{BucketItem, Comparison, StretchHash, Summary, item_from_proto};
pub use dump::{DumpFrame, Dumped, Since};
pub use engine::{DiskSpace, Engine, Family, StorageUse};
pub use log::LogBatch;
pub use records::{Conflict, RecordPage, SentBundles, UnprovenRecords};
pub use small::BirthsPage;
pub use tail::Tailed;
pub use trace::{LoggedOperation, Traced};
