//! Looking at storage directories, copying them and damaging them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Every file below a directory with its bytes, and every directory with none.
pub fn tree(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let Ok(entries) = fs::read_dir(directory) else { return found };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            found.extend(tree(&path));
            found.insert(path, Vec::new());
        } else {
            found.insert(path.clone(), fs::read(path).unwrap());
        }
    }
    found
}

/// Replaces `to` by a copy of `from`.
pub fn copy(from: &Path, to: &Path) {
    if to.exists() {
        fs::remove_dir_all(to).unwrap();
    }
    fs::create_dir(to).unwrap();
    for (path, bytes) in tree(from) {
        let target = to.join(path.strip_prefix(from).unwrap());
        if path.is_dir() {
            fs::create_dir_all(target).unwrap();
        } else {
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            fs::write(target, bytes).unwrap();
        }
    }
}

/// The one write-ahead log of a storage directory that holds anything.
pub fn write_ahead_log(directory: &Path) -> PathBuf {
    let is_log =
        |path: &PathBuf| path.extension().is_some_and(|extension| extension == "log") && size(path) > 0;
    let entries = fs::read_dir(directory.join("db")).unwrap().map(|entry| entry.unwrap().path());
    let logs: Vec<PathBuf> = entries.filter(is_log).collect();
    assert_eq!(logs.len(), 1, "{logs:?}");
    logs[0].clone()
}

pub fn size(path: &Path) -> u64 {
    fs::metadata(path).unwrap().len()
}

/// Cuts a file off.
pub fn truncate(path: &Path, length: u64) {
    fs::File::options().write(true).open(path).unwrap().set_len(length).unwrap();
}

/// Turns one bit of a file over.
pub fn flip_bit(path: &Path, position: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[position] ^= 0x10;
    fs::write(path, bytes).unwrap();
}
