//! Backups, and how they are restored.
//!
//! Modules, lowest first; each imports only those above it:
//!
//! - `objects`: where backups are stored: S3-compatible stores, directories.
//! - `time`: times as people write them; `keys`: the keys of a backup's objects.
//! - `manifest`: what a backup contains, signed by its node. It is uploaded last, and commits the backup.
//! - `retention`: which backups are kept; `signer`: the key that signs them.
//! - `hashing`: the hashes of what passes; `parts`: the objects of a backup, encrypted to age recipients.
//! - `catalogue`: which backups exist, with their signatures and chains checked.
//! - `error`: why a backup was not made or not restored.
//! - `base`: what the next backup is based on; `frames`: a dump as the frames of a backup.
//! - `job`: making backups, on schedule and on command; `self_check`: the node verifies its own.
//! - `fetch`: downloading a backup's objects; `proof`: whether signatures prove what it has; `restore`: a storage
//!   directory from a backup, verified before it is installed; `extract`: single records.

mod base;
pub mod catalogue;
pub mod error;
pub mod extract;
mod fetch;
mod frames;
mod hashing;
pub mod job;
mod keys;
pub mod manifest;
pub mod objects;
pub mod parts;
mod proof;
pub mod restore;
pub mod retention;
mod self_check;
pub mod signer;
pub mod time;
