//! Backups and the stores that hold them.
//!
//! - `contents`: backups under load, verified, restored and joined.
//! - `credentials`: credentials of the workload's AWS role.
//! - `earlier`: backups of versions before the first release.
//! - `nodes`: nodes as processes, with the commands of an operator.
//! - `object_faults`: object stores that fail.
//! - `objects`: directories and S3-compatible stores.
//! - `stores`: one store without a node: increments, gaps, interruptions.
//! - `tools`: the `age` command, and a restore that is killed.

mod contents;
mod credentials;
mod earlier;
mod nodes;
mod object_faults;
mod objects;
mod stores;
mod tools;
