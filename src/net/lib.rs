//! Everything between an address and an identified connection.
//!
//! - [`address`]: the address of a peer, `HOST:PORT`.
//! - [`dns`]: DNS look-ups.
//! - [`join`]: the entries of `node.join`.
//! - [`tls`]: credentials, roles, the trust store, accepting connections.
//! - [`dial`]: from an address to an identified connection.
//! - [`channel`]: gRPC channels over dialled connections.
//! - [`pki`]: issuing, revoking and installing certificates.
//! - [`task`]: background tasks with a name, a state and an owner; accepting connections is one.

#![forbid(unsafe_code)]

pub mod address;
pub mod channel;
pub mod dial;
pub mod dns;
pub mod join;
pub mod pki;
pub mod task;
pub mod tls;
