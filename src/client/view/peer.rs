//! A node's connection to a peer.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{ViewError, by_origin};
use brock_core::proto;

/// A node's connection to a peer.
#[derive(Debug, Clone, Serialize)]
pub struct Peer {
    pub address: String,
    pub node_id: String,
    pub up: bool,
    pub since_unix: i64,
    pub last_error: String,
    /// The node refuses to pull from it; the last error says why.
    pub refused: bool,
    /// `null` if not known.
    pub lag_entries: Option<u64>,
    pub rounds: u64,
    pub entries_received: u64,
    pub last_success_unix: i64,
    /// The peer's wall clock minus the node's.
    pub clock_skew_seconds: i64,
    /// `null` if not known.
    pub round_trip_micros: Option<u64>,
    /// The key exchange of the connection; empty if there is none.
    pub group: String,
    /// Its cipher suite.
    pub suite: String,
    /// The kind of key with which the peer has signed.
    pub signature: String,
    /// Oldest first.
    pub recent_rounds: Vec<Round>,
    /// Logs that the peer claims to have and does not send, with the clocks that it claims: the first of them.
    pub unsent: BTreeMap<String, u64>,
    /// How many there are.
    pub unsent_origins: u64,
}

/// One round of pulling.
#[derive(Debug, Clone, Serialize)]
pub struct Round {
    pub started_unix_ms: i64,
    pub duration_ms: u64,
    pub entries: u64,
    pub bytes: u64,
    /// Empty if it succeeded.
    pub error: String,
}

impl TryFrom<proto::Peer> for Peer {
    type Error = ViewError;

    fn try_from(peer: proto::Peer) -> Result<Self, ViewError> {
        let proto::Peer {
            address,
            node_id,
            up,
            since_unix,
            last_error,
            lag_entries,
            rounds,
            entries_received,
            last_success_unix,
            clock_skew_seconds,
            round_trip_micros,
            recent_rounds,
            refused,
            group,
            suite,
            signature,
            unsent,
            unsent_origins,
        } = peer;
        Ok(Self {
            address,
            node_id,
            up,
            since_unix,
            last_error,
            lag_entries,
            rounds,
            entries_received,
            last_success_unix,
            clock_skew_seconds,
            round_trip_micros,
            recent_rounds: recent_rounds.into_iter().map(Round::from).collect(),
            refused,
            group,
            suite,
            signature,
            unsent: by_origin(unsent)?,
            unsent_origins,
        })
    }
}
