//! What a node remembers of its last backup, as the base of the next one.

use data_encoding::HEXLOWER;
use prost::Message;

use crate::store::{Dumped, Since, Store, StoreError};
use brock_core::{
    domain::codec::{self, CodecError},
    proto,
};

/// The note in the node's store.
const NOTE: &[u8] = b"backup_last";

/// The last backup.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(super) struct Base {
    /// Where it is stored. A backup elsewhere cannot be based on it.
    pub place: String,
    /// Its manifest.
    pub key: String,
    /// SHA-256 of the manifest's file, hex.
    pub sha256: String,
    /// The manifest of the full backup at the beginning of its chain.
    pub full: String,
    pub full_at_ms: u64,
    pub at_ms: u64,
    /// Its distance from the full backup, in incremental ones.
    pub follows: usize,
    /// The operations that it covers, folded origins included: an encoded `proto::Vector`, hex.
    applied: String,
    /// Hex.
    unlogged: String,
    /// Its recipients, sorted.
    #[serde(default)]
    pub recipients: Vec<String>,
}

impl Base {
    /// A backup that was made of a dump, and is itself based on `base`.
    pub(super) fn new(
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
        let note = store.note(NOTE).await?;
        // Without a readable note the next backup is a full one.
        Ok(note.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    pub(super) async fn save(&self, store: &Store) -> Result<(), StoreError> {
        let note = serde_json::to_vec(self).map_err(|_| malformed())?;
        store.keep_note(NOTE, note).await
    }

    /// Where the next dump continues.
    pub(super) fn since(&self) -> Result<Since, StoreError> {
        let bytes = |hex: &str| HEXLOWER.decode(hex.as_bytes()).map_err(|_| malformed());
        let vector = proto::Vector::decode(bytes(&self.applied)?.as_slice()).map_err(|_| malformed())?;
        Ok(Since { applied: codec::vector_from_proto(&vector)?, unlogged: bytes(&self.unlogged)? })
    }
}

fn malformed() -> CodecError {
    CodecError::Malformed("note of the last backup")
}
