//! The cluster's own certificate authority, for `brock cert` and `brock dev`.
//!
//! - [`issue`]: issues CAs and certificates.
//! - [`revoke`]: revokes certificates.
//! - `install`: writes the files.

mod install;
pub mod issue;
pub mod revoke;

#[cfg(test)]
mod tests;
