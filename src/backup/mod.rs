//! Backups that restore.
//!
//! - `objects`: where they are kept: S3-compatible stores, directories.
//! - `manifest`: what a backup holds, signed by its node; uploaded last, so it is the commit point.
//! - `parts`: the objects of a backup: frames, encrypted to age recipients; `frames`: a dump as frames;
//!   `hashing`: what their hashes are made with.
//! - `job`: making backups, by the clock and on command; `last`: what the next one follows on;
//!   `signer`: the key that signs them.
//! - `retention`: which ones may go.
//! - `catalogue`: what is there, believed only after its signature and its chain were checked.
//! - `reread`: whether what lies there is what was put there, by the node itself.
//! - `restore`: a storage directory from a backup, verified before it is installed; `fetch`: its
//!   objects; `extract`: single records.

pub mod catalogue;
pub mod extract;
mod fetch;
mod frames;
mod hashing;
pub mod job;
mod last;
pub mod manifest;
pub mod objects;
pub mod parts;
mod reread;
pub mod restore;
pub mod retention;
pub mod signer;
