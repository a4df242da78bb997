//! Whether signatures prove everything in a backup, to someone who trusts the cluster's CAs and no node.

use std::{fs, path::Path};

use super::error::{ProofError, RestoreError, io_error};
use crate::{
    store::{Options, Store},
    transfer::{
        authority::Authority,
        feed::{SnapshotError, SnapshotFeed},
        join::{JoinError, Joiner, Terms},
    },
};

/// Fills another store from this one, as a node with `node.trust distributed` is filled from a peer: every state by
/// its evidence, every log by its bundles, every destruction by its order. The other store is in `staging`, and gone
/// at the end.
pub(super) async fn prove(store: &Store, staging: &Path, authority: &Authority) -> Result<(), RestoreError> {
    let path = staging.join("proof");
    if path.exists() {
        fs::remove_dir_all(&path).map_err(io_error(&path))?;
    }
    let options = Options {
        path: Some(path.clone()),
        first_start: true,
        identity: Some(authority.identity()),
        ..Options::ram(store.node_id().clone())
    };
    let interrupted = |_| JoinError::Protocol("it was interrupted".to_owned());
    let other = tokio::task::spawn_blocking(move || Store::open(&options)).await.map_err(interrupted)??;
    let proven = fill(store, &other, authority).await;
    tokio::task::spawn_blocking(move || other.close()).await.map_err(interrupted)??;
    fs::remove_dir_all(&path).map_err(io_error(&path))?;
    match proven {
        // Such as a full disk: that says nothing of the backup.
        Err(ProofError::Unproven(JoinError::Store(error))) => Err(error.into()),
        proven => Ok(proven?),
    }
}

async fn fill(store: &Store, other: &Store, authority: &Authority) -> Result<(), ProofError> {
    let (donor, verifier) = (store.node_id().clone(), Some(authority.strict(other)));
    let mut joiner = Joiner::new(other.clone(), donor, Terms::default(), verifier);
    let broken = |error: SnapshotError| JoinError::Protocol(error.to_string());
    let mut feed = SnapshotFeed::begin(store.clone(), joiner.request()).map_err(broken)?;
    while let Some(message) = feed.next().await.map_err(JoinError::Store)? {
        joiner.take(message).await?;
    }
    match other.applied() == store.applied() && other.summary().digest == store.summary().digest {
        true => Ok(()),
        false => Err(ProofError::Incomplete),
    }
}
