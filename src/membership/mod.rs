//! Who the peers and members are, and what they have acknowledged.
//!
//! - [`directory`]: the peers now; [`discovery`]: what DNS lists for them; [`peer`]: one peer, called
//!   over the network.
//! - [`peers`]: what is known of each peer, for the status; [`pings`]: the round trip to each.
//! - [`members`]: acknowledgements, receipts, the stable vector, retirement.
//! - [`revocations`]: revocations made here that some member has not applied yet.

pub mod directory;
pub mod discovery;
mod member;
pub mod members;
pub mod peer;
pub mod peers;
pub mod pings;
pub mod revocations;
