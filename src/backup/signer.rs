//! The key that a node signs its backups with: a public key to encrypt to says nothing about who wrote
//! a backup.

use aws_lc_rs::{rand::SystemRandom, signature::Ed25519KeyPair};

use crate::store::{Store, StoreError};

const NOTE: &[u8] = b"signing_key";

/// Why there is no key to sign with.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// It could not be read or kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is not a key.
    #[error(
        "the key that signs this node's backups cannot be used: {0}. The storage that keeps it is damaged: find out \
         why, then fill the node anew from its peers (move the directory away and start once with \
         --node.first-start=true)"
    )]
    Key(String),
}

/// The key of this storage; made when it is first asked for, and kept. For the start of a node: two
/// that ask at once could each make one.
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
