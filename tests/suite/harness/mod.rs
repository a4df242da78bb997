//! What all integration tests share: certificates, nodes in this process, nodes as processes,
//! a TCP proxy and an object store that misbehave, a DNS server, peers that lie, and waiting for facts instead of
//! sleeping.

pub mod browser;
pub mod certs;
pub mod client;
pub mod cluster;
pub mod dns;
pub mod fake_peer;
pub mod files;
pub mod ledger;
pub mod metrics;
pub mod node;
pub mod own_ca;
pub mod process;
pub mod proxy;
pub mod raw;
pub mod s3;
pub mod store;
mod wait;
pub mod wire;

use std::{
    net::TcpListener,
    sync::atomic::{AtomicU16, Ordering},
};

pub use wait::{PATIENCE, eventually, eventually_here, stays, within, within_here};

/// A loopback port that nothing listens on, below the ephemeral range, so that no outgoing
/// connection takes it before its node does.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = 10_000 + u16::try_from(std::process::id() % 200).unwrap_or(0) * 100;
    loop {
        let port = start + NEXT.fetch_add(1, Ordering::Relaxed) % 2_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A random key hash.
pub fn random_key() -> Vec<u8> {
    rand::random::<[u8; 32]>().to_vec()
}
