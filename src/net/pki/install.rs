//! Writing certificates and keys: atomically, durably, with the final permissions from the first byte, and
//! without replacing a file unless asked to.

use std::{
    io,
    path::{Component, Path, PathBuf},
};

use super::issue::MakeError;
use crate::crashsafe;

/// Refuses a `file` in `dir` or below it; links are resolved first.
pub(crate) fn outside(file: &Path, dir: &Path) -> Result<(), MakeError> {
    let resolve =
        |path: &Path| resolved(path).map_err(|source| MakeError::Write { path: path.to_owned(), source });
    if resolve(file)?.starts_with(resolve(dir)?) {
        return Err(MakeError::CaKeyInside { ca_key: file.to_owned(), certs_dir: dir.to_owned() });
    }
    Ok(())
}

/// The path with its links resolved, as far as it exists.
fn resolved(path: &Path) -> io::Result<PathBuf> {
    let mut real = PathBuf::new();
    for component in std::path::absolute(path)?.components() {
        match component {
            Component::ParentDir => {
                real.pop();
            }
            component => real.push(component),
        }
        match real.canonicalize() {
            Ok(canonical) => real = canonical,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(real)
}

/// Fails if one of `paths` exists and must not be overwritten.
pub(crate) fn free(paths: &[&PathBuf], overwrite: bool) -> Result<(), MakeError> {
    match paths.iter().find(|path| !overwrite && path.symlink_metadata().is_ok()) {
        Some(path) => Err(MakeError::Exists { path: path.to_path_buf() }),
        None => Ok(()),
    }
}

/// Creates a directory, and those above it, unless it exists.
pub(crate) fn directory(path: &Path, mode: u32) -> Result<(), MakeError> {
    crashsafe::create_directories(path, mode)
        .map_err(|source| MakeError::Write { path: path.to_owned(), source })
}

/// Writes a file durably. Without `overwrite` an existing file is an error.
pub(crate) fn file(path: &Path, content: &str, mode: u32, overwrite: bool) -> Result<(), MakeError> {
    let write = if overwrite { crashsafe::replace } else { crashsafe::create };
    write(path, content.as_bytes(), mode).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => MakeError::Exists { path: path.to_owned() },
        _ => MakeError::Write { path: path.to_owned(), source },
    })
}
