//! Pulling, serving, asking and repairing.
//!
//! - `byzantine`: nodes that believe only what is proven.
//! - `closings`: the logs of a node whose certificate was stolen end where they are.
//! - `comparison`: what two nodes tell from a difference of their records.
//! - `confirmation`: nodes that one donor alone has filled.
//! - `convergence`: written here, read there.
//! - `heads`: what origins have stated of their logs, with a time, and peers that keep it back.
//! - `hostile_acknowledgements`: members that sign what they do not hold.
//! - `hostile_answers`: peers that lie about records when they are asked.
//! - `hostile_births`: births that another certificate has signed than the one of the origin's node.
//! - `hostile_claims`: donors that lie about what they have applied, deleted, folded.
//! - `hostile_closings`: ends of logs that no operator has set.
//! - `hostile_donors`: donors that show what was true once.
//! - `hostile_entries`: log entries that no origin should have written.
//! - `hostile_greed`: one certificate that takes what the others need.
//! - `hostile_heads`: peers that claim clocks that no log has, and ends that no origin has signed.
//! - `hostile_origins`: origins that destroy much in a short time.
//! - `hostile_peers`: peers that lie, hang or are slow.
//! - `hostile_pullers`: pullers that break the protocol.
//! - `hostile_relays`: relays that pass on a signed log as no origin has signed it.
//! - `migration`: from nodes that sign nothing to nodes that must have proof.
//! - `orders`: what destroys, with and without an operator's signature.
//! - `reads`: reads that ask the peers.
//! - `reborn`: nodes that come back without what they have logged before.
//! - `relay`: operations that arrive through another node.
//! - `resync`: filling a node from a peer's records.
//! - `unproven`: records that are not proven to a node that must have proof.
//! - `verification`: comparing nodes, and repairing differences.

mod byzantine;
mod closings;
mod comparison;
mod confirmation;
mod convergence;
mod heads;
mod hostile_acknowledgements;
mod hostile_answers;
mod hostile_births;
mod hostile_claims;
mod hostile_closings;
mod hostile_donors;
mod hostile_entries;
mod hostile_greed;
mod hostile_heads;
mod hostile_origins;
mod hostile_peers;
mod hostile_pullers;
mod hostile_relays;
mod migration;
mod orders;
mod reads;
mod reborn;
mod relay;
mod resync;
mod unproven;
mod verification;
