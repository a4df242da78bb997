//! Writing certificates and keys: atomically, durably, with the final permissions from the first byte, and
//! without replacing a file unless asked to.

use std::{
    fs::{DirBuilder, File, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Component, Path, PathBuf},
};

use super::issue::MakeError;

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

/// Creates a directory and its parents.
pub(crate) fn directory(path: &Path, mode: u32) -> Result<(), MakeError> {
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|source| MakeError::Write { path: path.to_owned(), source })
}

/// Writes a file: temporary file, fsync, rename, fsync of the directory.
///
/// Contract: atomic. The file is complete, or as it was.
pub(crate) fn file(path: &Path, content: &str, mode: u32, overwrite: bool) -> Result<(), MakeError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists => MakeError::Exists { path: path.to_owned() },
        _ => MakeError::Write { path: path.to_owned(), source },
    };
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut temporary = tempfile::Builder::new()
        .prefix(".brock-")
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(parent)
        .map_err(failed)?;
    temporary.write_all(content.as_bytes()).map_err(failed)?;
    temporary.as_file().sync_all().map_err(failed)?;
    let persisted = if overwrite { temporary.persist(path) } else { temporary.persist_noclobber(path) };
    persisted.map_err(|error| failed(error.error))?;
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(failed)
}
