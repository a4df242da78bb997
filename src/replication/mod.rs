//! Replication: every node pulls its peers' logs.
//!
//! - `puller`: one per peer; dials, announces its vector, applies what comes, acknowledges.
//! - `feed`: the other end; decides what to send next to one puller.
//! - `ask`: a read that misses here is asked of the peers (Peek).
//! - `peers`: what is known of each peer, for the status.
//! - `sweep`: removes what has expired, unless the clocks disagree.

pub mod ask;
pub mod feed;
pub mod peers;
pub mod puller;
pub mod sweep;
