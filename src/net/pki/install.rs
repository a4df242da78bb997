//! Putting certificates and keys in place: whole, durable, with the right permissions from the
//! first byte, and never over something else unasked.

use std::{
    fs::{DirBuilder, File, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Component, Path, PathBuf},
};

use super::issue::MakeError;

/// Refuses a `file` that lies in `dir` or below it, whatever links lead there.
pub(crate) fn outside(file: &Path, dir: &Path) -> Result<(), MakeError> {
    let resolve =
        |path: &Path| resolved(path).map_err(|source| MakeError::Write { path: path.to_owned(), source });
    if resolve(file)?.starts_with(resolve(dir)?) {
        return Err(MakeError::CaKeyInside { ca_key: file.to_owned(), certs_dir: dir.to_owned() });
    }
    Ok(())
}

/// The path without links, as far as it exists; what does not exist yet has no links.
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

/// Refuses before anything is written if one of `paths` is taken.
pub(crate) fn free(paths: &[&PathBuf], overwrite: bool) -> Result<(), MakeError> {
    match paths.iter().find(|path| !overwrite && path.symlink_metadata().is_ok()) {
        Some(path) => Err(MakeError::Exists { path: path.to_path_buf() }),
        None => Ok(()),
    }
}

/// Makes a directory, and those above it, unless it is there.
pub(crate) fn directory(path: &Path, mode: u32) -> Result<(), MakeError> {
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|source| MakeError::Write { path: path.to_owned(), source })
}

/// Writes a file: a temporary one next to it, fsync, rename, fsync of the directory. Atomic: the
/// file is there whole or as it was.
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
