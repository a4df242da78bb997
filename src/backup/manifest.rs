//! The manifest of a backup: what it contains, signed by its node. It is uploaded last: without a manifest
//! there is no backup.

use std::collections::BTreeMap;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use brock_core::{
    base::{
        id::{IdError, Incarnation, NodeId, Origin, sha256},
        vector::{Clock, Vector},
    },
    domain::codec::{self, CodecError},
    proto,
};

/// The format that this version writes.
pub const FORMAT_VERSION: u32 = 2;
/// The format of backups from before the first release. Their digests are not compared: they were computed otherwise.
pub const UNSIGNED_FORMAT_VERSION: u32 = 1;

/// Why a manifest is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It is not JSON with the expected fields.
    #[error("{0} is not a manifest: {1}")]
    Malformed(String, String),
    /// A later version wrote it.
    #[error(
        "{key} has format version {found}, and this version of brock reads {FORMAT_VERSION}: use a later one"
    )]
    Version {
        /// Its key.
        key: String,
        /// Its version.
        found: u32,
    },
    /// The signature does not match the content.
    #[error("the signature of {0} is wrong: it was changed after it was made")]
    Signature(String),
    /// It is signed with another key than expected.
    #[error("{key} is signed by the key {found}, not by {expected}: it is not that node's backup")]
    Signer {
        /// Its key.
        key: String,
        /// The public key that signed it, hex.
        found: String,
        /// The expected public key, hex.
        expected: String,
    },
    /// It is stored under another key than the one that it contains.
    #[error(
        "{0} is a manifest that belongs elsewhere: it was moved or renamed, or the given location lacks the prefix of \
         the backups (node.backup.prefix)"
    )]
    Place(String),
    /// The chain is broken.
    #[error("the chain of backups is broken: {0}")]
    Chain(String),
}

/// The kinds of backups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// All records.
    Full,
    /// The operations since the previous backup.
    Incremental,
}

/// One object of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Its key, without the prefix.
    pub key: String,
    /// Its size.
    pub bytes: u64,
    /// SHA-256, hex.
    pub sha256: String,
}

/// The backup that an incremental one is based on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Previous {
    /// Its manifest.
    pub key: String,
    /// SHA-256 of that file, hex.
    pub sha256: String,
}

/// What a backup contains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    /// The key of this manifest, without the prefix: so a moved manifest is recognised.
    pub key: String,
    /// The node that made it.
    pub node_id: String,
    /// The incarnation of that node.
    pub incarnation: u32,
    /// Full or incremental.
    pub kind: Kind,
    /// When it was made, in milliseconds.
    pub created_at_unix_ms: u64,
    /// The operations that the node had applied, without folded origins: origin (hex) to clock.
    pub vector: BTreeMap<String, u64>,
    /// The folded origins.
    pub folds: BTreeMap<String, u64>,
    /// Digest of the records at that point, hex.
    pub records_digest: String,
    /// Digest of the tombstones at that point, hex.
    pub tombstones_digest: String,
    /// Whether the node had ever collected tombstones.
    pub has_collected: bool,
    /// Records in the backup and its chain.
    pub records: u64,
    /// Tombstones in the backup and its chain.
    pub tombstones: u64,
    /// Its objects, in order.
    pub parts: Vec<Part>,
    /// Its age recipients; empty = it is not encrypted.
    pub recipients: Vec<String>,
    /// Of an incremental backup: the previous one.
    pub previous: Option<Previous>,
    /// Of an incremental backup: the full one at the beginning of its chain.
    pub full: Option<String>,
    /// The public key of its signer, hex.
    pub public_key: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signed {
    /// The signed JSON as a string, so that its bytes are unambiguous.
    manifest: String,
    signature: String,
}

impl Manifest {
    /// Signs it, and returns the file's bytes.
    pub fn sign(&self, key: &Ed25519KeyPair) -> Result<Vec<u8>, serde_json::Error> {
        let manifest = serde_json::to_string(self)?;
        let signature = HEXLOWER.encode(key.sign(manifest.as_bytes()).as_ref());
        serde_json::to_vec(&Signed { manifest, signature })
    }

    /// Reads a file that is stored under `key`, and checks its signature and its key. `signer` is the
    /// expected public key, hex; `None` = any.
    pub fn read(key: &str, bytes: &[u8], signer: Option<&str>) -> Result<Self, ManifestError> {
        let malformed = |error: String| ManifestError::Malformed(key.to_owned(), error);
        let signed: Signed = serde_json::from_slice(bytes).map_err(|error| malformed(error.to_string()))?;
        let value: serde_json::Value =
            serde_json::from_str(&signed.manifest).map_err(|error| malformed(error.to_string()))?;
        let found = value.get("format_version").and_then(serde_json::Value::as_u64).unwrap_or_default();
        if ![UNSIGNED_FORMAT_VERSION, FORMAT_VERSION].map(u64::from).contains(&found) {
            let found = u32::try_from(found).unwrap_or(u32::MAX);
            return Err(ManifestError::Version { key: key.to_owned(), found });
        }
        let manifest: Self =
            serde_json::from_str(&signed.manifest).map_err(|error| malformed(error.to_string()))?;
        let public_key = HEXLOWER.decode(manifest.public_key.as_bytes());
        let signature = HEXLOWER.decode(signed.signature.as_bytes());
        let (Ok(public_key), Ok(signature)) = (public_key, signature) else {
            return Err(ManifestError::Signature(key.to_owned()));
        };
        UnparsedPublicKey::new(&ED25519, public_key)
            .verify(signed.manifest.as_bytes(), &signature)
            .map_err(|_| ManifestError::Signature(key.to_owned()))?;
        if let Some(expected) = signer
            && expected != manifest.public_key
        {
            return Err(ManifestError::Signer {
                key: key.to_owned(),
                found: manifest.public_key,
                expected: expected.to_owned(),
            });
        }
        let is_own = key.split('/').next() == Some(manifest.node_id.as_str());
        if manifest.key != key || !is_own {
            return Err(ManifestError::Place(key.to_owned()));
        }
        Ok(manifest)
    }

    /// The operations that the node had applied, without folded origins.
    pub fn vector(&self) -> Result<Vector, CodecError> {
        clocks_from(&self.vector)
    }

    /// The folded origins.
    pub fn folds(&self) -> Result<Vector, CodecError> {
        clocks_from(&self.folds)
    }

    /// The operations that the node had applied, folded origins included.
    pub fn applied(&self) -> Result<Vector, CodecError> {
        let mut applied = self.vector()?;
        applied.join(&self.folds()?);
        Ok(applied)
    }

    /// The node that made it.
    pub fn node_id(&self) -> Result<NodeId, IdError> {
        self.node_id.parse()
    }

    /// The incarnation of that node.
    pub fn incarnation(&self) -> Incarnation {
        Incarnation(self.incarnation)
    }

    /// The digest of the records and tombstones.
    pub fn digest(&self) -> proto::Digest {
        let bytes = |hex: &str| HEXLOWER.decode(hex.as_bytes()).unwrap_or_default().into();
        proto::Digest {
            records: bytes(&self.records_digest),
            tombstones: bytes(&self.tombstones_digest),
            has_collected: self.has_collected,
        }
    }
}

/// A version vector as a manifest contains it: origin (hex) to clock.
pub fn clocks_to(vector: &Vector) -> BTreeMap<String, u64> {
    vector.iter().map(|(origin, clock)| (HEXLOWER.encode(origin.as_bytes()), clock.0)).collect()
}

fn clocks_from(clocks: &BTreeMap<String, u64>) -> Result<Vector, CodecError> {
    let malformed = codec::CodecError::Malformed("vector of a manifest");
    clocks
        .iter()
        .map(|(origin, clock)| {
            let bytes = HEXLOWER.decode(origin.as_bytes()).map_err(|_| malformed.clone())?;
            Ok((Origin::try_from(bytes.as_slice()).map_err(|_| malformed.clone())?, Clock(*clock)))
        })
        .collect()
}

/// The public key of a key pair, hex.
pub fn public_key(key: &Ed25519KeyPair) -> String {
    HEXLOWER.encode(key.public_key().as_ref())
}

/// SHA-256, hex.
pub fn hex_sha256(bytes: &[u8]) -> String {
    HEXLOWER.encode(&sha256(bytes))
}
