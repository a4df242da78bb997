//! Replication: every node pulls its peers' logs.
//!
//! - [`pull`]: dials a peer, announces this node's vector, applies what arrives, acknowledges it.
//! - [`donor`]: serves one puller, and decides what to send next.
//! - [`peek`]: a read that misses here asks the peers.
//! - [`resync`]: fills a store from a peer's records when the log is not enough.
//! - [`remote`], [`repair`]: compare another node's records with the local ones, and join them.
//! - `latency`: how long operations take from their origin to here.

pub mod donor;
mod latency;
pub mod peek;
pub mod pull;
pub mod remote;
pub mod repair;
pub mod resync;
