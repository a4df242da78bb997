//! Replication: every node pulls its peers' logs.
//!
//! - [`pull`]: dials a peer, announces this node's vector, applies what arrives, acknowledges it.
//! - [`donor`]: serves one puller, and decides what to send next.
//! - [`breaker`]: pauses the log of a node that destroys much in a short time; `destruction`: what destroys.
//! - [`peek`]: asks the peers for a record that this node lacks.
//! - [`resync`]: fills a store from a peer's records when the log is not enough; `pace`: what its donor must deliver.
//! - [`remote`]: another node's records; [`repair`]: compares them with the local ones, and joins them.
//! - [`comparison`]: the same by itself, while writes continue.
//! - [`confirmation`]: whether another member confirms that the donor of a fill has left nothing out.
//! - [`fills`]: whether the peers' records have filled this node, or are not proven here.
//! - [`withheld`]: what origins have signed and this node lacks, and the peers that keep it back.
//! - `latency`: the time that operations take from their origin to here.

pub mod breaker;
pub mod comparison;
pub mod confirmation;
mod destruction;
pub mod donor;
pub mod fills;
mod latency;
mod pace;
pub mod peek;
pub mod pull;
pub mod remote;
pub mod repair;
pub mod resync;
pub mod withheld;
