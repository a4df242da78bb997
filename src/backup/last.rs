//! What a node remembers of its last backup, so that the next one can follow on it.

use data_encoding::HEXLOWER;
use prost::Message;

use crate::store::{Dumped, Since, Store, StoreError};
use brock_core::{
    domain::codec::{self, CodecError},
    proto,
};

const NOTE: &[u8] = b"backup_last";

/// The last backup.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(super) struct Last {
    /// Where it was put: another place has nothing to follow on.
    pub place: String,
    /// Its manifest.
    pub key: String,
    /// SHA-256 of that file, hex.
    pub sha256: String,
    /// The manifest of the full one that it begins with.
    pub full: String,
    pub full_at_ms: u64,
    pub at_ms: u64,
    /// How many incrementals it is from the full one.
    pub follows: usize,
    /// What it covers, folded origins included: an encoded `proto::Vector`, hex.
    applied: String,
    /// Hex.
    unlogged: String,
    /// Whom it is encrypted to, in order.
    #[serde(default)]
    pub recipients: Vec<String>,
}

impl Last {
    /// What was made of a dump: `base` is what it follows on.
    pub(super) fn of(
        (place, key, sha256): (String, String, String),
        at_ms: u64,
        base: Option<&Self>,
        dumped: &Dumped,
        recipients: Vec<String>,
    ) -> Self {
        let applied = codec::vector_to_proto(&dumped.applied()).encode_to_vec();
        Self {
            place,
            sha256,
            full: base.map_or_else(|| key.clone(), |base| base.full.clone()),
            key,
            full_at_ms: base.map_or(at_ms, |base| base.full_at_ms),
            at_ms,
            follows: base.map_or(0, |base| base.follows + 1),
            applied: HEXLOWER.encode(&applied),
            unlogged: HEXLOWER.encode(&dumped.unlogged),
            recipients,
        }
    }

    pub(super) async fn load(store: &Store) -> Result<Option<Self>, StoreError> {
        let kept = store.note(NOTE).await?;
        // One that cannot be read is as good as none: the next backup is a full one.
        Ok(kept.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    pub(super) async fn keep(&self, store: &Store) -> Result<(), StoreError> {
        let note = serde_json::to_vec(self).map_err(|_| malformed())?;
        store.keep_note(NOTE, note).await
    }

    /// Where the next dump is to go on.
    pub(super) fn since(&self) -> Result<Since, StoreError> {
        let bytes = |hex: &str| HEXLOWER.decode(hex.as_bytes()).map_err(|_| malformed());
        let vector = proto::Vector::decode(bytes(&self.applied)?.as_slice()).map_err(|_| malformed())?;
        Ok(Since { applied: codec::vector_from_proto(&vector)?, unlogged: bytes(&self.unlogged)? })
    }
}

fn malformed() -> CodecError {
    CodecError::Malformed("note of the last backup")
}
