//! Everything between an address and an identified connection.
//!
//! - [`address`]: `HOST:PORT` of a peer; [`listen`]: an address to listen on.
//! - [`join`]: what `node.join` may name; [`dns`]: asking DNS.
//! - [`tls`]: credentials, roles, the trust store, accepting connections.
//! - [`dial`]: from an address to an identified connection.
//! - [`channel`]: gRPC channels over dialled connections.
//! - [`places`]: a bounded number of places for connections, shared fairly.
//! - [`pki`]: issuing, revoking and installing certificates.
//! - [`http_client`]: GETs a page of a node's HTTP server.
//! - [`task`]: background tasks with a name, a state and an owner; accepting connections is one.
//! - [`panics`]: which panics end the process.
//! - [`crashsafe`]: replacing files durably; [`reading`]: reading files that may not answer.

#![forbid(unsafe_code)]

pub mod address;
pub mod channel;
pub mod crashsafe;
pub mod dial;
pub mod dns;
pub mod http_client;
pub mod join;
pub mod listen;
pub mod panics;
pub mod pki;
pub mod places;
pub mod reading;
pub mod task;
pub mod tls;
