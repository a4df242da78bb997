//! The cluster's own certificate authority, for `brock cert` and `brock dev`.
//!
//! - [`issue`]: issues CAs and certificates.
//! - [`key`]: the algorithms of keys, and the key of a CA.
//! - [`replaced`]: whose certificate is there already.
//! - [`revoke`]: revokes certificates.
//! - `install`: writes the files.

mod install;
pub mod issue;
pub mod key;
pub mod replaced;
pub mod revoke;

#[cfg(test)]
mod tests;
