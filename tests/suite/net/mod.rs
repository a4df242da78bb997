//! Certificates and connections.
//!
//! - `certificates`: rotation and revocation while nodes run.
//! - `handshakes`: connections that are refused, and what the refused side is told.
//! - `recipe`: the openssl recipe in `certs-example/`.
//! - `trust_domains`: certificates of another cluster.
//! - `unusable`: certificates and keys that a node cannot use.
//! - `wire_levels`: levels of wire encryption.

mod certificates;
mod handshakes;
mod recipe;
mod trust_domains;
mod unusable;
mod wire_levels;
