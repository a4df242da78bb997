//! The key with which a node signs its backups. Encryption alone does not authenticate a backup: every
//! holder of the public key can encrypt.

use aws_lc_rs::{rand::SystemRandom, signature::Ed25519KeyPair};

use crate::store::{Store, StoreError};

const NOTE: &[u8] = b"signing_key";

/// Why there is no signing key.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// The store could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The stored key is damaged.
    #[error(
        "the key that signs this node's backups cannot be used: {0}. The storage is damaged: find out why, then let the \
         node fetch everything from its peers (move the directory away and start once with --node.first-start=true)"
    )]
    Key(String),
}

/// The key in this store. The first call creates it. Call this only while the node starts: two concurrent
/// calls could each create one.
pub async fn load(store: &Store) -> Result<Ed25519KeyPair, SignerError> {
    let failed = |error: &dyn std::fmt::Display| SignerError::Key(error.to_string());
    let document = match store.note(NOTE).await? {
        Some(document) => document,
        None => {
            let made =
                Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|error| failed(&error))?;
            store.keep_note(NOTE, made.as_ref().to_vec()).await?;
            made.as_ref().to_vec()
        }
    };
    Ed25519KeyPair::from_pkcs8(&document).map_err(|error| failed(&error))
}
