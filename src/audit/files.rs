//! The directory of an audit log and its numbered files. Only their owner can read them.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use brock_net::crashsafe;

const PREFIX: &str = "audit-";
const SUFFIX: &str = ".jsonl";

/// One file of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbered {
    /// Its number: later files have higher ones.
    pub number: u64,
    /// Its path.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
}

/// The files of a log in a directory, in order. Other files are ignored.
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

/// Creates the directory if it does not exist, and makes it private.
pub(super) fn prepare(directory: &Path) -> io::Result<()> {
    crashsafe::create_directories(directory, 0o700)?;
    if fs::metadata(directory)?.mode() & 0o077 != 0 {
        fs::set_permissions(directory, Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// Creates a file whose name survives a crash.
pub(super) fn create(directory: &Path, number: u64) -> io::Result<File> {
    let path = path_of(directory, number);
    let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path)?;
    crashsafe::sync_directory(directory)?;
    Ok(file)
}

/// Opens a file to append to it.
pub(super) fn reopen(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().append(true).open(path)?;
    if file.metadata()?.mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

/// Removes a file for good.
pub(super) fn remove(directory: &Path, path: &Path) -> io::Result<()> {
    fs::remove_file(path)?;
    crashsafe::sync_directory(directory)
}

/// Whether the path still leads to `file`, so that it was not removed or replaced.
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
