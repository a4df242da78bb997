//! The manifest of a backup: what it holds, signed by the node that made it. It is uploaded last, so
//! that a backup without one does not exist.

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

/// The format that this version writes and reads.
pub const FORMAT_VERSION: u32 = 1;

/// Why a manifest is not to be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It is not the JSON that it must be.
    #[error("{0} is no manifest: {1}")]
    Malformed(String, String),
    /// It was written by a later version.
    #[error(
        "{key} has format version {found}, and this version of brock reads {FORMAT_VERSION}: use a later one"
    )]
    Version {
        /// Where it lies.
        key: String,
        /// The version found.
        found: u32,
    },
    /// Its signature is not that of the key that it names.
    #[error("the signature of {0} is wrong: it was changed after it was made")]
    Signature(String),
    /// It is signed by another node's key than the one that was expected.
    #[error("{key} is signed by the key {found}, not by {expected}: it is not that node's backup")]
    Signer {
        /// Where it lies.
        key: String,
        /// Who signed it.
        found: String,
        /// Who should have.
        expected: String,
    },
    /// It lies where it does not belong.
    #[error(
        "{0} is a manifest that belongs elsewhere: it was moved or renamed, or the place that was named lacks the \
         prefix of the backups (node.backup.prefix)"
    )]
    Place(String),
    /// The backups do not follow on each other.
    #[error("the backups do not follow on each other: {0}")]
    Chain(String),
}

/// What kind of backup it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Everything.
    Full,
    /// What was done since the one before.
    Incremental,
}

/// One object of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Its name in the bucket, without the prefix.
    pub key: String,
    /// Its size.
    pub bytes: u64,
    /// SHA-256, hex.
    pub sha256: String,
}

/// The backup before this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Previous {
    /// Its manifest.
    pub key: String,
    /// SHA-256 of that file, hex.
    pub sha256: String,
}

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    /// Where this manifest lies, without the prefix: a manifest that was moved shows.
    pub key: String,
    /// Whose backup it is.
    pub node_id: String,
    /// The life of its storage that made it.
    pub incarnation: u32,
    /// Full or incremental.
    pub kind: Kind,
    /// When it was finished, in milliseconds.
    pub created_at_unix_ms: u64,
    /// What the node had applied then, folded origins apart: origin (hex) to clock.
    pub vector: BTreeMap<String, u64>,
    /// The origins that it had folded away.
    pub folds: BTreeMap<String, u64>,
    /// Digest of the records at that point, hex.
    pub records_digest: String,
    /// Digest of the tombstones at that point, hex.
    pub tombstones_digest: String,
    /// Whether the node had ever collected tombstones.
    pub has_collected: bool,
    /// Records that it holds, with those before it.
    pub records: u64,
    /// Tombstones that it holds, with those before it.
    pub tombstones: u64,
    /// Its objects, in order.
    pub parts: Vec<Part>,
    /// Whom it is encrypted to; empty = it is not.
    pub recipients: Vec<String>,
    /// Of an incremental: what it follows on.
    pub previous: Option<Previous>,
    /// Of an incremental: the full one that it begins with.
    pub full: Option<String>,
    /// The key that signs it, hex.
    pub public_key: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signed {
    /// The JSON text that is signed, as a text, so that its bytes are beyond doubt.
    manifest: String,
    signature: String,
}

impl Manifest {
    /// The file's bytes.
    pub fn sign(&self, key: &Ed25519KeyPair) -> Result<Vec<u8>, serde_json::Error> {
        let manifest = serde_json::to_string(self)?;
        let signature = HEXLOWER.encode(key.sign(manifest.as_bytes()).as_ref());
        serde_json::to_vec(&Signed { manifest, signature })
    }

    /// Reads a file that lay at `key`, and checks that it is what its signer made, and lies where its
    /// signer put it. `signer` is the hex of the public key that is expected.
    pub fn read(key: &str, bytes: &[u8], signer: Option<&str>) -> Result<Self, ManifestError> {
        let malformed = |error: String| ManifestError::Malformed(key.to_owned(), error);
        let signed: Signed = serde_json::from_slice(bytes).map_err(|error| malformed(error.to_string()))?;
        let value: serde_json::Value =
            serde_json::from_str(&signed.manifest).map_err(|error| malformed(error.to_string()))?;
        let found = value.get("format_version").and_then(serde_json::Value::as_u64).unwrap_or_default();
        if found != u64::from(FORMAT_VERSION) {
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

    /// What the node had applied, folded origins apart.
    pub fn vector(&self) -> Result<Vector, CodecError> {
        clocks_from(&self.vector)
    }

    /// The origins that it had folded away.
    pub fn folds(&self) -> Result<Vector, CodecError> {
        clocks_from(&self.folds)
    }

    /// What the node had applied, folded origins included.
    pub fn applied(&self) -> Result<Vector, CodecError> {
        let mut applied = self.vector()?;
        applied.join(&self.folds()?);
        Ok(applied)
    }

    /// Whose backup it is.
    pub fn node_id(&self) -> Result<NodeId, IdError> {
        self.node_id.parse()
    }

    /// The life that made it.
    pub fn incarnation(&self) -> Incarnation {
        Incarnation(self.incarnation)
    }

    /// The digest of its records.
    pub fn digest(&self) -> proto::Digest {
        let bytes = |hex: &str| HEXLOWER.decode(hex.as_bytes()).unwrap_or_default().into();
        proto::Digest {
            records: bytes(&self.records_digest),
            tombstones: bytes(&self.tombstones_digest),
            has_collected: self.has_collected,
        }
    }
}

/// Origins in hex with their clocks, as a manifest has them.
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

/// The public key of a pair, hex.
pub fn public_key(key: &Ed25519KeyPair) -> String {
    HEXLOWER.encode(key.public_key().as_ref())
}

/// SHA-256, hex.
pub fn hex_sha256(bytes: &[u8]) -> String {
    HEXLOWER.encode(&sha256(bytes))
}
