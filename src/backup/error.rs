//! Why a backup was not made or not restored.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{catalogue::CatalogueError, objects::ObjectError, parts::PartError};
use crate::{
    store::{OpenError, StoreError},
    transfer::join::JoinError,
};
use brock_core::{base::limits, domain::segment::SegmentError};

/// Why a backup was not made.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The node's store could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The parts could not be written.
    #[error(transparent)]
    Part(#[from] PartError),
    /// The object store refused or failed.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// The existing backups could not be read.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// A local file could not be written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Its error.
        source: io::Error,
    },
    /// The manifest could not be encoded.
    #[error("a manifest could not be encoded: {0}")]
    Encode(#[from] serde_json::Error),
    /// The backup took too long.
    #[error("the backup was not done within {} s", limits::BACKUP_RUN_TIMEOUT.as_secs())]
    Late,
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

impl BackupError {
    /// Whether a later attempt may succeed without a change by the operator.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Store(error) => error.is_retryable(),
            Self::Object(error) | Self::Catalogue(CatalogueError::Object(error)) => error.is_retryable(),
            Self::Late | Self::Stopping => true,
            Self::Part(PartError::NoSpace { .. }) => true,
            Self::Part(_) | Self::Catalogue(_) | Self::Io { .. } | Self::Encode(_) => false,
        }
    }
}

/// Why a backup was not restored. Nothing was installed.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The backup was not found, or its manifests are not valid.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// An object could not be downloaded.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// A part could not be read.
    #[error(transparent)]
    Part(#[from] PartError),
    /// A part does not match its manifest.
    #[error("{0} is not what its manifest says: it was damaged or replaced")]
    Hash(String),
    /// The backup is encrypted, and no identity was given.
    #[error("this backup is encrypted to {0}: give the identity of one of them with --identity FILE")]
    NoIdentity(String),
    /// The identity is not that of a recipient.
    #[error(
        "the identity of {given} does not belong to this backup, which is encrypted to {recipients}: give the identity of one of these"
    )]
    WrongIdentity {
        /// The recipient that belongs to the identity.
        given: String,
        /// Those of the backup.
        recipients: String,
    },
    /// The directory is not empty.
    #[error("{} is not empty: restore into an empty or new directory, and move that one away first", .0.display())]
    NotEmpty(PathBuf),
    /// The path has no name, so nothing can be built beside it.
    #[error("{} is not a directory to restore into: name a new one", .0.display())]
    NoName(PathBuf),
    /// An identity was given, and the backup is not encrypted.
    #[error(
        "{0} is not encrypted, although an identity was given: an attacker with write access there may have put it \
         there. If it is meant to be plain, omit --identity"
    )]
    NotEncrypted(String),
    /// The directory cannot be replaced by a rename.
    #[error("{} is a mount point or a link: restore into a new directory inside it", .0.display())]
    MountPoint(PathBuf),
    /// Too many records match.
    #[error(
        "more than {} records match: ask for fewer at once, or restore all",
        limits::BACKUP_EXTRACT_RECORDS
    )]
    TooMany,
    /// A local file could not be written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Its error.
        source: io::Error,
    },
    /// The new storage could not be opened or closed.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The new storage could not be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The records are inconsistent.
    #[error("the backup is inconsistent: {0}")]
    Join(#[from] JoinError),
    /// The log is inconsistent.
    #[error("the backup is inconsistent: {0}")]
    Segment(#[from] SegmentError),
    /// Signatures do not prove all of it.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// The result differs from what the node held.
    #[error(
        "{0} does not restore to what the node held when the backup was made: the backup is damaged, or was made \
         wrongly"
    )]
    Digest(String),
}

/// Why a backup is not proven by signatures of its cluster.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// Records, a log or a destruction without a valid signature.
    #[error(
        "signatures of the cluster do not prove all of this backup ({0}). Without --certs-dir it is restored on the word \
         of the node that made it"
    )]
    Unproven(#[from] JoinError),
    /// What is proven is less than what it has.
    #[error(
        "signatures of the cluster prove less than this backup says it has. Without --certs-dir it is restored on the word \
         of the node that made it"
    )]
    Incomplete,
}

/// The error of an operation on a local file during a restore.
pub(super) fn io_error(path: &Path) -> impl FnOnce(io::Error) -> RestoreError {
    let path = path.to_owned();
    move |source| RestoreError::Io { path, source }
}
