//! What the tests share.
//!
//! - `admin`: `node-admin` as a process.
//! - `audit`: nodes with an audit log, and reading it.
//! - `brock`: the `brock` command, and a home with certificates for it.
//! - `browser`: Chromium, driven through WebDriver.
//! - `calls`: a valid request for every call of the protocol.
//! - `certs`: a certificate authority for one test.
//! - `client`: a client of one node.
//! - `cluster`: nodes that all join each other.
//! - `dns`: a DNS server with one zone.
//! - `fake_peer`: a peer that follows a script.
//! - `faketime`: a process with a wrong clock.
//! - `files`: storage directories: read, copied, damaged.
//! - `hanging`: a directory that does not answer.
//! - `http`: HTTP requests to a node.
//! - `identity`: births of stores without nodes, and origins that a test speaks for.
//! - `ledger`: what was acknowledged, for tests that kill nodes.
//! - `metrics`: reading a node's metrics.
//! - `node`: nodes in this process.
//! - `own_ca`: certificates that `brock cert` does not make.
//! - `pen`: operators' orders, genuine and forged.
//! - `process`: nodes and tools as processes.
//! - `proxy`: a TCP proxy that delays, stalls and cuts.
//! - `raw`: calls with any path and any bytes.
//! - `s3`: an object store that misbehaves.
//! - `small_disk`: a file system that a test can fill.
//! - `snapshot`: the messages of a resync, as a donor sends them that lies.
//! - `store`: stores without a node.
//! - `wait`: waiting for a condition, with a deadline.
//! - `wire`: entries, batches and logs as peers send them.
//! - `wire_levels`: CAs of several algorithms, and ends of several levels of wire encryption.

pub mod admin;
pub mod audit;
pub mod brock;
pub mod browser;
pub mod calls;
pub mod certs;
pub mod client;
pub mod cluster;
pub mod dns;
pub mod fake_peer;
pub mod faketime;
pub mod files;
pub mod hanging;
pub mod http;
pub mod identity;
pub mod ledger;
pub mod metrics;
pub mod node;
pub mod own_ca;
pub mod pen;
pub mod process;
pub mod proxy;
pub mod raw;
pub mod s3;
pub mod small_disk;
pub mod snapshot;
pub mod store;
mod wait;
pub mod wire;
pub mod wire_levels;

use std::{
    collections::BTreeSet,
    net::TcpListener,
    sync::{
        Mutex,
        atomic::{AtomicU16, Ordering},
    },
};

pub use wait::{PATIENCE, eventually, eventually_here, stays, within, within_here};

/// A loopback port that nothing listens on, below the ephemeral range, so that no outgoing
/// connection takes it before its node does.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 200).unwrap_or(0) * 100;
    loop {
        let port = 10_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 22_000;
        if take_port(port) {
            return port;
        }
    }
}

/// Takes a port for the rest of this process: no other test gets it, even before it is listened on. Returns
/// whether it was free.
pub fn take_port(port: u16) -> bool {
    static TAKEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut taken = TAKEN.lock().unwrap();
    !taken.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok() && taken.insert(port)
}

/// A random key hash.
pub fn random_key() -> Vec<u8> {
    rand::random::<[u8; 32]>().to_vec()
}
