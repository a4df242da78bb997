//! A storage directory from a backup.
//!
//! Everything is fetched, checked and put together beside the place where it belongs, and moved there
//! by one rename at the very end: whatever breaks off before leaves that place as it was. With blocking
//! file operations: for a tool's process, never a node's.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use age::x25519;

use super::{
    catalogue::{CatalogueError, Known},
    fetch::{fetch, local},
    frames::private_directory,
    manifest::{Kind, Part},
    objects::{ObjectError, Target},
    parts::{PartError, PartReader},
};
use crate::{
    replication::repair::{self, Comparison},
    store::{OpenError, Options, Store, StoreError},
    transfer::snapshot::{JoinError, Joiner},
};
use brock_core::{
    base::limits,
    domain::{
        codec::CodecError,
        segment::{Segment, SegmentError},
    },
    proto::backup_frame::Frame,
};

/// The name of the new storage while it is put together.
const STORAGE: &str = "storage";

/// Why a backup was not restored. Nothing was installed.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The backup could not be found or believed.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// An object could not be fetched.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// A part could not be read.
    #[error(transparent)]
    Part(#[from] PartError),
    /// A part is not what its manifest says.
    #[error("{0} is not what its manifest says: it was damaged or exchanged")]
    Hash(String),
    /// It is encrypted, and there is nothing to decrypt it with.
    #[error("this backup is encrypted to {0}: give the identity of one of them with --identity FILE")]
    NoIdentity(String),
    /// The place is taken.
    #[error("{} is not empty: restore into a directory that is, and move that one away first", .0.display())]
    NotEmpty(PathBuf),
    /// The place cannot have anything beside it.
    #[error("{} is not a directory to restore into: name a new one", .0.display())]
    NoName(PathBuf),
    /// It is not encrypted, and should be.
    #[error(
        "{0} is not encrypted, although an identity was given: whoever can write there may have put it there. If it \
         is meant to be plain, leave --identity away"
    )]
    NotEncrypted(String),
    /// A directory that cannot be exchanged by a rename.
    #[error(
        "{} is a mount point or a link: restore into a new directory inside of it", .0.display()
    )]
    MountPoint(PathBuf),
    /// Too many records match.
    #[error(
        "more than {} records match: ask for fewer at once, or restore all",
        limits::BACKUP_EXTRACT_RECORDS
    )]
    TooMany,
    /// A file could not be written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The new storage did not open or close.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It could not be written to.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The records do not fit together.
    #[error("the backup does not fit together: {0}")]
    Join(#[from] JoinError),
    /// The log does not fit together.
    #[error("the backup does not fit together: {0}")]
    Segment(#[from] SegmentError),
    /// What came of it is not what the node had.
    #[error(
        "what {0} restores to is not what the node held when it was made: it is damaged, or was made wrongly"
    )]
    Digest(String),
}

/// How far a restore is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that were fetched and checked.
    pub bytes: u64,
    /// Of these.
    pub total_bytes: u64,
    /// Records that were written.
    pub records: u64,
}

/// What is needed besides the backup.
pub struct Restore<'a> {
    /// Where it lies.
    pub target: &'a Target,
    /// The backup, the full one first.
    pub chain: &'a [Known],
    /// What decrypts it.
    pub identity: Option<&'a x25519::Identity>,
    /// Where the storage is to be.
    pub path: &'a Path,
}

impl Restore<'_> {
    /// Fetches, checks, puts together, compares, and installs. Fetched parts are kept beside `path`
    /// until it succeeds, so that a second attempt does not fetch them again.
    pub async fn run(&self, mut progress: impl FnMut(Progress)) -> Result<(), RestoreError> {
        // So that it has a name and a place to stand beside it.
        let path = std::path::absolute(self.path).map_err(io_error(self.path))?;
        let path = path.as_path();
        if is_taken(path) {
            return Err(RestoreError::NotEmpty(path.to_owned()));
        }
        let Some(staging) = beside(path) else {
            return Err(RestoreError::NoName(path.to_owned()));
        };
        check_exchangeable(path)?;
        let built = self.build(&staging, &mut progress).await;
        let store = match built {
            Ok(store) => store,
            Err(error) => {
                // It is decrypted; what was fetched stays, for the next attempt.
                let _ = fs::remove_dir_all(staging.join(STORAGE));
                return Err(error);
            }
        };
        let closed = tokio::task::spawn_blocking(move || store.close()).await;
        closed.map_err(|_| JoinError::Protocol("it was interrupted".to_owned()))??;
        if path.exists() {
            fs::remove_dir(path).map_err(io_error(path))?;
        }
        fs::rename(staging.join(STORAGE), path).map_err(io_error(path))?;
        if let Some(parent) = path.parent() {
            fs::File::open(parent).and_then(|directory| directory.sync_all()).map_err(io_error(parent))?;
        }
        // The storage stands, whether or not this can be removed.
        let _ = fs::remove_dir_all(&staging);
        Ok(())
    }

    /// Everything but the installation: proves that the backup can be restored. The caller looks at
    /// the store, closes it, and removes `staging`.
    pub async fn build(
        &self,
        staging: &Path,
        progress: &mut impl FnMut(Progress),
    ) -> Result<Store, RestoreError> {
        let Some(last) = self.chain.last() else {
            return Err(JoinError::Protocol("there is nothing to restore".to_owned()).into());
        };
        self.check_identity()?;
        let parts = staging.join("parts");
        private_directory(&parts).map_err(io_error(&parts))?;
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
        private_directory(&storage).map_err(io_error(&storage))?;
        let malformed = |_| JoinError::Protocol("its node id is malformed".to_owned());
        let node_id = last.manifest.node_id().map_err(malformed)?;
        let options = Options { path: Some(storage), first_start: true, ..Options::ram(node_id.clone()) };
        let store = tokio::task::spawn_blocking(move || Store::open(&options)).await;
        let store = store.map_err(|_| JoinError::Protocol("it was interrupted".to_owned()))??;
        match self.fill(&store, &parts, &mut done, progress).await {
            Ok(()) => Ok(store),
            Err(error) => {
                // The process may end right after: RocksDB's threads must have ended before.
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
        let standing = last.manifest.applied().map_err(failed)?;
        match repair::compare(&store.summary(), &standing, &last.manifest.digest()) {
            Comparison::Equal => Ok(()),
            Comparison::Different | Comparison::Incomparable => {
                Err(RestoreError::Digest(last.manifest.key.clone()))
            }
        }
    }

    /// Reads everything and compares the hashes, without decrypting anything. Returns how many bytes that
    /// were. The manifests themselves are believed already.
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

    /// Says what is missing before anything is fetched.
    pub(super) fn check_identity(&self) -> Result<(), RestoreError> {
        let sealed = self.chain.iter().find(|known| !known.manifest.recipients.is_empty());
        match (sealed, self.identity) {
            (Some(known), None) => Err(RestoreError::NoIdentity(known.manifest.recipients.join(", "))),
            (_, Some(_)) => {
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
        let mut joiner = Joiner::new(store.clone(), manifest.node_id().map_err(malformed)?);
        let mut is_whole = manifest.kind == Kind::Incremental;
        let identity = self.identity.filter(|_| !manifest.recipients.is_empty());
        for part in &manifest.parts {
            let mut reader = PartReader::open(&local(parts, part), &part.key, identity)?;
            while let Some(frame) = reader.next_frame()? {
                match frame.frame {
                    Some(Frame::Snapshot(message)) if manifest.kind == Kind::Full => {
                        is_whole |= joiner.take(message).await?;
                    }
                    Some(Frame::Batch(batch)) if manifest.kind == Kind::Incremental => {
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

pub(super) fn io_error(path: &Path) -> impl FnOnce(io::Error) -> RestoreError {
    let path = path.to_owned();
    move |source| RestoreError::Io { path, source }
}

fn is_taken(path: &Path) -> bool {
    fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some()) || path.is_file()
}

/// A directory is moved into its place at the very end: that this is possible must be known before.
fn check_exchangeable(path: &Path) -> Result<(), RestoreError> {
    let Ok(there) = fs::symlink_metadata(path) else { return Ok(()) };
    let parent = path.parent().and_then(|parent| fs::metadata(parent).ok());
    if there.is_symlink() || parent.is_some_and(|parent| parent.dev() != there.dev()) {
        return Err(RestoreError::MountPoint(path.to_owned()));
    }
    Ok(())
}

/// Where a restore to `path` is put together: on the same file system, so that a rename is enough.
fn beside(path: &Path) -> Option<PathBuf> {
    let mut name = path.file_name()?.to_owned();
    name.push(".restoring");
    Some(path.with_file_name(name))
}
