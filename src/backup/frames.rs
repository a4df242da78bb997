//! A dump of the store, written into the parts of a backup.

use std::{fs, io, path::Path};

use age::x25519;
use tokio_util::sync::CancellationToken;

use super::{
    error::BackupError,
    parts::{PartWriter, StagedPart},
};
use crate::{
    store::{Dumped, Since, Store},
    transfer::dump,
};
use brock_net::crashsafe;

/// Writes everything, or everything since, into parts in a directory that is emptied first. Blocks. Ends
/// with an error once `cancelled`.
pub(super) fn write_parts(
    store: &Store,
    directory: &Path,
    recipients: Vec<x25519::Recipient>,
    since: Option<&Since>,
    cancelled: &CancellationToken,
) -> Result<(Dumped, Vec<StagedPart>), BackupError> {
    let failed = |source| BackupError::Io { path: directory.to_owned(), source };
    remove(directory).and_then(|()| crashsafe::create_directories(directory, 0o700)).map_err(failed)?;
    let mut writer = PartWriter::new(directory, recipients);
    let mut problem = None;
    let dumped = dump::frames(store, since, |frame| {
        problem = writer.write(&frame).err();
        problem.is_none() && !cancelled.is_cancelled()
    })?;
    match dumped {
        Some(dumped) => Ok((dumped, writer.finish()?)),
        None => Err(problem.map_or(BackupError::Stopping, BackupError::Part)),
    }
}

/// Removes a directory, if it exists.
pub(super) fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
