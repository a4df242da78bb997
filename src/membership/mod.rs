//! The peers and members of the cluster, and what they have acknowledged.
//!
//! - [`roster`]: the one table of peers: addresses, channels, reports; [`discovery`]: fills it from DNS;
//!   [`pings`]: measures the round trip to each peer; [`contacts`]: the nodes that can be asked now;
//!   [`compare`]: what the peers claim to have.
//! - [`peer`]: one peer, called over the network; [`status`]: what is known of one peer; `lag`: what it claims to
//!   have, and whether that is believed.
//! - [`duplicates`]: node ids under which several processes run; [`origins`]: which origins peers may introduce.
//! - [`members`]: acknowledgements, the stable vector, retirement; `member`: one of them; [`receipt`]: which
//!   members hold an operation; [`revocations`]: revocations made here that some member has not applied yet.

pub mod compare;
pub mod contacts;
pub mod discovery;
pub mod duplicates;
mod lag;
mod member;
pub mod members;
pub mod origins;
pub mod peer;
pub mod pings;
pub mod receipt;
pub mod revocations;
pub mod roster;
pub mod status;
