//! File operations that block, on the threads that may block.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use tokio::task::{JoinHandle, spawn_blocking};

use super::error::ObjectError;
use brock_net::reading;

/// Reads `length` bytes of a file; fewer only at its end.
pub(super) async fn read_at(
    file: &Arc<File>,
    path: &Path,
    offset: u64,
    length: usize,
) -> Result<Bytes, ObjectError> {
    let (file, path) = (Arc::clone(file), path.to_owned());
    joined(spawn_blocking(move || {
        let mut bytes = vec![0; length];
        let mut filled = 0;
        while filled < length {
            match file.read_at(&mut bytes[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(failed("reading", &path)(source)),
            }
        }
        bytes.truncate(filled);
        Ok(Bytes::from(bytes))
    }))
    .await
}

/// Opens a file, and returns its size too.
pub(super) async fn open_source(path: &Path) -> Result<(Arc<File>, u64), ObjectError> {
    let path: PathBuf = path.to_owned();
    joined(spawn_blocking(move || open(&path).map(|(file, size)| (Arc::new(file), size)))).await
}

/// Waits for blocking work. A panic in it goes on here.
pub(super) async fn joined<T>(work: JoinHandle<Result<T, ObjectError>>) -> Result<T, ObjectError> {
    match work.await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down, and drops this future too.
            Err(_) => std::future::pending().await,
        },
    }
}

/// Opens a file, and returns its size too. Blocks.
pub(super) fn open(path: &Path) -> Result<(File, u64), ObjectError> {
    let file = reading::regular(path).map_err(failed("opening", path))?;
    let size_bytes = file.metadata().map_err(failed("looking at", path))?.len();
    Ok((file, size_bytes))
}

/// The error of a file operation.
pub(super) fn failed(action: &'static str, path: &Path) -> impl Fn(io::Error) -> ObjectError {
    let path = path.to_owned();
    move |source| ObjectError::Io { action, path: path.clone(), source }
}
