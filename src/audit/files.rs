//! The directory of an audit log and its numbered files. Only their owner reads them.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

const PREFIX: &str = "audit-";
const SUFFIX: &str = ".jsonl";

/// One file of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbered {
    /// Its number: higher ones are later.
    pub number: u64,
    /// Where it lies.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
}

/// The files of a log in a directory, in order. Others are left out.
pub fn list(directory: &Path) -> io::Result<Vec<Numbered>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if let Some(number) = entry.file_name().to_str().and_then(number_of) {
            found.push(Numbered { number, path: entry.path(), bytes: entry.metadata()?.len() });
        }
    }
    found.sort_by_key(|file| file.number);
    Ok(found)
}

fn number_of(name: &str) -> Option<u64> {
    name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.parse().ok()
}

pub(super) fn path_of(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{PREFIX}{number:08}{SUFFIX}"))
}

/// Makes the directory if it is not there, and closes it to others.
pub(super) fn prepare(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    if fs::metadata(directory)?.mode() & 0o077 != 0 {
        fs::set_permissions(directory, Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// A new file, and its name in the directory for good.
pub(super) fn create(directory: &Path, number: u64) -> io::Result<File> {
    let path = path_of(directory, number);
    let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path)?;
    sync_directory(directory)?;
    Ok(file)
}

/// A file to go on with.
pub(super) fn reopen(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().append(true).open(path)?;
    if file.metadata()?.mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

pub(super) fn remove(directory: &Path, path: &Path) -> io::Result<()> {
    fs::remove_file(path)?;
    sync_directory(directory)
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Whether `file` is still what the path leads to: nobody removed or replaced it.
pub(super) fn is_in_place(file: &File, path: &Path) -> io::Result<bool> {
    let (ours, there) = (file.metadata()?, fs::metadata(path));
    match there {
        Ok(there) => Ok((ours.dev(), ours.ino()) == (there.dev(), there.ino())),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}
