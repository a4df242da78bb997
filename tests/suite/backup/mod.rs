//! Backups and the stores that hold them.
//!
//! - `contents`: backups under load, verified, restored and joined.
//! - `nodes`: nodes as processes, with the commands of an operator.
//! - `object_faults`: object stores that fail.
//! - `objects`: directories and S3-compatible stores.
//! - `stores`: one store without a node: increments, gaps, interruptions.
//! - `tools`: the `age` command, and a restore that is killed.

mod contents;
mod nodes;
mod object_faults;
mod objects;
mod stores;
mod tools;
