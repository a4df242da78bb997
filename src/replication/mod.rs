//! Replication: every node pulls its peers' logs.
//!
//! - `puller`: one per peer, kept by `pullers`; dials, announces its vector, applies what comes, acknowledges.
//! - `serve`, `feed`: the other end; serves one puller, and decides what to send to it next.
//! - `ask`: a read that misses here is asked of the peers (Peek).
//! - `directory`: who the peers are now; `discovery`: what DNS says about that.
//! - `peers`: what is known of each peer, for the status; `pings`: how far away each is.
//! - `members`: whose acknowledgement is waited for: receipts, the stable vector, retirement.
//! - `revocations`: which revocations made here are not everywhere yet.
//! - `visible`: how long operations take from their origin to here.
//! - `compact`: what every member has goes from the log; tombstones too, where that is asked for.
//! - `snapshot`, `resync`: a whole store as messages, for a puller that no log can help.
//! - `remote`, `repair`: another node's records seen from outside, compared and joined.
//! - `scrub`: compares the records on disk with their digests, so that a difference shows.
//! - `sweep`: removes what has expired, unless the clocks disagree.

pub mod ask;
pub mod compact;
pub mod directory;
pub mod discovery;
pub mod feed;
mod member;
pub mod members;
pub mod peers;
pub mod pings;
pub mod puller;
pub mod pullers;
pub mod remote;
pub mod repair;
pub mod resync;
pub mod revocations;
pub mod round_error;
pub mod scrub;
pub mod serve;
pub mod snapshot;
pub mod sweep;
mod visible;
