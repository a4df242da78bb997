//! A replicated entry that a node could not apply and keeps aside.

use bytes::Bytes;

use super::record::UnixSeconds;
use crate::{base::vector::Stamp, proto};

/// One entry in quarantine, without its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// Which operation it is.
    pub stamp: Stamp,
    /// The key hash, 32 bytes.
    pub key_hash: Bytes,
    /// Why the entry could not be applied.
    pub reason: String,
    /// When it was quarantined.
    pub at: UnixSeconds,
    /// The operation as it was received: perhaps not decodable.
    pub operation: Bytes,
    /// The size of the payload that came with it.
    pub payload_bytes: usize,
}

impl Quarantined {
    /// From what the store keeps.
    pub fn new(stamp: Stamp, kept: proto::QuarantinedEntry) -> Self {
        let proto::QuarantinedEntry { entry, reason, at_unix: at, evidence: _ } = kept;
        let proto::Entry { clock: _, key_hash, operation, payload } = entry.unwrap_or_default();
        let payload_bytes = payload.as_ref().map_or(0, Bytes::len);
        Self { stamp, key_hash, reason, at, operation, payload_bytes }
    }
}
