//! A dump of the store as the frames of a backup.

use std::{fs, io, os::unix::fs::DirBuilderExt, path::Path};

use age::x25519;
use tokio_util::sync::CancellationToken;

use super::{
    error::BackupError,
    parts::{PartWriter, StagedPart},
};
use crate::store::{DumpFrame, Dumped, Since, Store};
use brock_core::{
    domain::codec,
    proto::{self, backup_frame::Frame, snapshot_response::Message as Snapshot},
};

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
    remove(directory).and_then(|()| private_directory(directory)).map_err(failed)?;
    let mut writer = PartWriter::new(directory, recipients);
    let mut problem = None;
    let is_full = since.is_none();
    let dumped = store.dump(since, |frame| {
        let written = match as_frame(store, frame, is_full) {
            Some(frame) => writer.write(&proto::BackupFrame { frame: Some(frame) }),
            None => Ok(()),
        };
        problem = written.err();
        problem.is_none() && !cancelled.is_cancelled()
    })?;
    let Some(dumped) = dumped else {
        return Err(problem.map_or(BackupError::Stopping, BackupError::Part));
    };
    if is_full {
        writer.write(&proto::BackupFrame { frame: Some(Frame::Snapshot(end(&dumped))) })?;
    }
    Ok((dumped, writer.finish()?))
}

/// Creates a directory that only its owner can read.
pub(super) fn private_directory(directory: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

/// Removes a directory, if it exists.
pub(super) fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn as_frame(store: &Store, frame: DumpFrame, is_full: bool) -> Option<Frame> {
    match frame {
        DumpFrame::Begin(dumped) => is_full.then(|| Frame::Snapshot(header(store, &dumped))),
        DumpFrame::Records(page) => Some(Frame::Snapshot(snapshot(Snapshot::Records(page)))),
        DumpFrame::Log(batch) if is_full => {
            Some(Frame::Snapshot(snapshot(Snapshot::Log(proto::LogPage { batch: Some(batch) }))))
        }
        DumpFrame::Log(batch) => Some(Frame::Batch(batch)),
    }
}

fn snapshot(message: Snapshot) -> proto::SnapshotResponse {
    proto::SnapshotResponse { message: Some(message) }
}

fn header(store: &Store, dumped: &Dumped) -> proto::SnapshotResponse {
    snapshot(Snapshot::Header(proto::SnapshotHeader {
        node_id: store.node_id().to_string(),
        incarnation: store.origin().incarnation().0,
        vector: Some(codec::vector_to_proto(&dumped.vector)),
        folds: Some(codec::folds_to_proto(&dumped.folds)),
        records: dumped.totals.records + dumped.totals.tombstones,
    }))
}

fn end(dumped: &Dumped) -> proto::SnapshotResponse {
    let mut floors = dumped.floors.clone();
    floors.join(&dumped.folds);
    let collected = (!dumped.collected.is_empty()).then(|| codec::vector_to_proto(&dumped.collected));
    snapshot(Snapshot::End(proto::SnapshotEnd { floors: Some(codec::vector_to_proto(&floors)), collected }))
}
