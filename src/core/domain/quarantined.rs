//! A replicated entry that a node could not apply and keeps aside.

use bytes::Bytes;

use super::{bundle::Tip, evidence::Evidence, record::UnixSeconds};
use crate::{
    base::vector::{Clock, Stamp},
    proto,
};

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
        let proto::QuarantinedEntry { entry, reason, at_unix: at, .. } = kept;
        let proto::Entry { clock: _, key_hash, operation, payload } = entry.unwrap_or_default();
        let payload_bytes = payload.as_ref().map_or(0, Bytes::len);
        Self { stamp, key_hash, reason, at, operation, payload_bytes }
    }
}

/// For the store: an entry as it came, why it could not be applied, when, and the bundle that it is in, if its origin
/// signs.
pub fn to_keep(
    entry: proto::Entry,
    (reason, at_unix): (String, UnixSeconds),
    tip: Option<&Tip>,
) -> proto::QuarantinedEntry {
    let entry = Some(entry);
    let Some(Tip { bundle, root }) = tip else {
        return proto::QuarantinedEntry { entry, reason, at_unix, ..Default::default() };
    };
    proto::QuarantinedEntry {
        entry,
        reason,
        at_unix,
        bundle_first: bundle.first.0,
        bundle_count: bundle.count.into(),
        bundle_root: Bytes::copy_from_slice(root),
    }
}

/// What proves such an entry; `None`: nothing.
pub fn evidence_of(kept: &proto::QuarantinedEntry) -> Option<Evidence> {
    let root = kept.bundle_root.as_ref().try_into().ok()?;
    let count = u8::try_from(kept.bundle_count).ok()?;
    let operation = kept.entry.as_ref()?.operation.clone();
    Some(Evidence::new(operation, (Clock(kept.bundle_first), count), root))
}
