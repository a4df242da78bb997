//! A storage directory from a backup.
//!
//! The new storage is built and verified beside its final place, and moved there by one rename at the end:
//! an interrupted restore leaves that place unchanged. The file operations block: this is for the process
//! of a tool, not for a node.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use age::x25519;

use super::{
    catalogue::Known,
    error::{RestoreError, io_error},
    fetch::{fetch, local},
    manifest::{Kind, Part, UNSIGNED_FORMAT_VERSION},
    objects::Target,
    parts::{PartError, PartReader},
    proof,
};
use crate::{
    store::{Comparison, Options, Store},
    transfer::{
        authority::Authority,
        join::{JoinError, Joiner, Terms},
    },
};
use brock_core::{
    domain::{codec::CodecError, order::Chain, segment::Segment},
    proto::backup_frame::Frame,
};
use brock_net::crashsafe;

/// The name of the new storage while it is built.
const STORAGE: &str = "storage";

/// The progress of a restore.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that were downloaded and checked.
    pub bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
    /// Records that were written.
    pub records: u64,
}

/// A backup, and what its restore needs.
pub struct Restore<'a> {
    /// Where the backup is stored.
    pub target: &'a Target,
    /// The backup with its chain, the full one first.
    pub chain: &'a [Known],
    /// Decrypts the parts, if they are encrypted.
    pub identity: Option<&'a x25519::Identity>,
    /// The new storage directory.
    pub path: &'a Path,
    /// Who must have signed what it has; `None`: the node that made the backup is believed.
    pub authority: Option<&'a Authority>,
}

impl Restore<'_> {
    /// Downloads, checks, builds, compares and installs. Downloaded parts stay beside `path` until the
    /// restore succeeds, so that a second attempt need not download them again.
    pub async fn run(&self, mut progress: impl FnMut(Progress)) -> Result<(), RestoreError> {
        // An absolute path has a name and a parent.
        let path = std::path::absolute(self.path).map_err(io_error(self.path))?;
        let path = path.as_path();
        if is_taken(path) {
            return Err(RestoreError::NotEmpty(path.to_owned()));
        }
        let Some(staging) = beside(path) else {
            return Err(RestoreError::NoName(path.to_owned()));
        };
        check_replaceable(path)?;
        let built = self.build(&staging, &mut progress).await;
        let store = match built {
            Ok(store) => store,
            Err(error) => {
                // It is decrypted. The downloaded parts stay for the next attempt.
                let _ = fs::remove_dir_all(staging.join(STORAGE));
                return Err(error);
            }
        };
        let closed = tokio::task::spawn_blocking(move || store.close()).await;
        closed.map_err(|_| JoinError::Protocol("it was interrupted".to_owned()))??;
        if path.exists() {
            fs::remove_dir(path).map_err(io_error(path))?;
        }
        crashsafe::rename(&staging.join(STORAGE), path).map_err(io_error(path))?;
        // The storage is installed, whether or not this succeeds.
        let _ = fs::remove_dir_all(&staging);
        Ok(())
    }

    /// All but the installation, which proves that the backup can be restored. The caller closes the
    /// store and removes `staging`.
    pub async fn build(
        &self,
        staging: &Path,
        progress: &mut impl FnMut(Progress),
    ) -> Result<Store, RestoreError> {
        let Some(last) = self.chain.last() else {
            return Err(JoinError::Protocol("there is nothing to restore".to_owned()).into());
        };
        // Before anything is written.
        self.check_identity()?;
        let parts = staging.join("parts");
        crashsafe::create_directories(&parts, 0o700).map_err(io_error(&parts))?;
        let all: Vec<&Part> = self.chain.iter().flat_map(|known| &known.manifest.parts).collect();
        let mut done =
            Progress { total_bytes: all.iter().map(|part| part.bytes).sum(), ..Progress::default() };
        for part in &all {
            fetch(self.target, part, &local(&parts, part)).await?;
            done.bytes += part.bytes;
            progress(done);
        }
        let storage = staging.join(STORAGE);
        if storage.exists() {
            fs::remove_dir_all(&storage).map_err(io_error(&storage))?;
        }
        crashsafe::create_directories(&storage, 0o700).map_err(io_error(&storage))?;
        let malformed = |_| JoinError::Protocol("its node id is malformed".to_owned());
        let node_id = last.manifest.node_id().map_err(malformed)?;
        let options = Options { path: Some(storage), first_start: true, ..Options::ram(node_id.clone()) };
        let store = tokio::task::spawn_blocking(move || Store::open(&options)).await;
        let store = store.map_err(|_| JoinError::Protocol("it was interrupted".to_owned()))??;
        let filled = self.fill(&store, &parts, &mut done, progress).await;
        let proven = match (filled, self.authority) {
            (Ok(()), Some(authority)) => proof::prove(&store, staging, authority).await,
            (filled, _) => filled,
        };
        match proven {
            Ok(()) => Ok(store),
            Err(error) => {
                // The process may exit right after this: RocksDB's threads must end before.
                let _ = tokio::task::spawn_blocking(move || store.close()).await;
                Err(error)
            }
        }
    }

    async fn fill(
        &self,
        store: &Store,
        parts: &Path,
        done: &mut Progress,
        progress: &mut impl FnMut(Progress),
    ) -> Result<(), RestoreError> {
        for known in self.chain {
            self.apply(store, known, parts, done, progress).await?;
        }
        let Some(last) = self.chain.last() else { return Ok(()) };
        let failed = |error: CodecError| JoinError::Protocol(error.to_string());
        let applied = last.manifest.applied().map_err(failed)?;
        if last.manifest.format_version == UNSIGNED_FORMAT_VERSION {
            let is_all = store.applied() == applied;
            return if is_all { Ok(()) } else { Err(RestoreError::Digest(last.manifest.key.clone())) };
        }
        match store.summary().compare(&applied, &last.manifest.digest()) {
            Comparison::Equal => Ok(()),
            Comparison::Different | Comparison::Incomparable => {
                Err(RestoreError::Digest(last.manifest.key.clone()))
            }
        }
    }

    /// Downloads all parts and compares their hashes, without decrypting. Returns the number of bytes. The
    /// manifests were checked already.
    pub async fn check_hashes(&self, staging: &Path) -> Result<u64, RestoreError> {
        let mut bytes = 0;
        for part in self.chain.iter().flat_map(|known| &known.manifest.parts) {
            let path = local(staging, part);
            fetch(self.target, part, &path).await?;
            fs::remove_file(&path).map_err(io_error(&path))?;
            bytes += part.bytes;
        }
        Ok(bytes)
    }

    /// Checks before the first download that an identity is there if it is needed.
    pub(super) fn check_identity(&self) -> Result<(), RestoreError> {
        let sealed = self.chain.iter().find(|known| !known.manifest.recipients.is_empty());
        match (sealed, self.identity) {
            (Some(known), None) => Err(RestoreError::NoIdentity(known.manifest.recipients.join(", "))),
            (_, Some(identity)) => {
                let given = identity.to_public().to_string();
                let foreign = self.chain.iter().map(|known| &known.manifest.recipients);
                let mut foreign =
                    foreign.filter(|recipients| !recipients.is_empty() && !recipients.contains(&given));
                if let Some(recipients) = foreign.next() {
                    return Err(RestoreError::WrongIdentity { given, recipients: recipients.join(", ") });
                }
                let plain = self.chain.iter().find(|known| known.manifest.recipients.is_empty());
                plain.map_or(Ok(()), |known| Err(RestoreError::NotEncrypted(known.manifest.key.clone())))
            }
            (None, None) => Ok(()),
        }
    }

    async fn apply(
        &self,
        store: &Store,
        known: &Known,
        parts: &Path,
        done: &mut Progress,
        progress: &mut impl FnMut(Progress),
    ) -> Result<(), RestoreError> {
        let manifest = &known.manifest;
        let malformed = |_| JoinError::Protocol("its node id is malformed".to_owned());
        let node_id = manifest.node_id().map_err(malformed)?;
        let mut joiner = Joiner::new(store.clone(), node_id, Terms::own_backup(), None);
        let mut is_whole = manifest.kind == Kind::Incremental;
        let identity = self.identity.filter(|_| !manifest.recipients.is_empty());
        for part in &manifest.parts {
            let mut reader = PartReader::open(&local(parts, part), &part.key, identity)?;
            while let Some(frame) = reader.next_frame()? {
                match frame.frame {
                    Some(Frame::Snapshot(message)) if manifest.kind == Kind::Full => {
                        is_whole |= joiner.take(message).await?;
                    }
                    Some(Frame::Batch(mut batch)) if manifest.kind == Kind::Incremental => {
                        store.keep_chains(Chain::take(&mut batch)).await?;
                        store.apply(Segment::check(batch)?).await?;
                    }
                    _ => return Err(PartError::Malformed(part.key.clone()).into()),
                }
                done.records = store.records();
                progress(*done);
            }
        }
        if !is_whole {
            return Err(JoinError::Protocol(format!("{} ends too early", manifest.key)).into());
        }
        Ok(())
    }
}

fn is_taken(path: &Path) -> bool {
    fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some()) || path.is_file()
}

/// The new directory is moved to its place at the end: this checks at the beginning that it is possible.
fn check_replaceable(path: &Path) -> Result<(), RestoreError> {
    let Ok(there) = fs::symlink_metadata(path) else { return Ok(()) };
    let parent = path.parent().and_then(|parent| fs::metadata(parent).ok());
    if there.is_symlink() || parent.is_some_and(|parent| parent.dev() != there.dev()) {
        return Err(RestoreError::MountPoint(path.to_owned()));
    }
    Ok(())
}

/// Where the storage for `path` is built: on the same file system, so that a rename is enough.
fn beside(path: &Path) -> Option<PathBuf> {
    let mut name = path.file_name()?.to_owned();
    name.push(".restoring");
    Some(path.with_file_name(name))
}
