//! The place of a store on disk: notices that the directory was removed, moved, replaced or made read-only
//! while the store is open.
//!
//! RocksDB does not notice: it keeps its files open, and what it writes to a removed file is on no disk
//! after the process ends.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Access, FallocateFlags, StatVfsMountFlags, access, fallocate, statvfs},
    io::Errno,
};

use super::open::DATABASE;
use brock_core::base::limits;

/// The file that RocksDB locks. It is there, and the same one, for as long as the database is open.
const LOCK: &str = "LOCK";

/// The file that names RocksDB's manifest. RocksDB replaces it by renaming, so it is always there.
const CURRENT: &str = "CURRENT";

/// What a path led to when the store was opened.
#[derive(Debug)]
struct Known {
    path: PathBuf,
    device: u64,
    inode: u64,
    /// While a directory is open, its inode is given to no other one. The lock file must not be opened
    /// here: closing it would end RocksDB's lock.
    _open: Option<File>,
}

impl Known {
    fn of(path: PathBuf, open: bool) -> io::Result<Self> {
        let metadata = fs::metadata(&path)?;
        let open = open.then(|| File::open(&path)).transpose()?;
        Ok(Self { device: metadata.dev(), inode: metadata.ino(), _open: open, path })
    }

    /// What has become of it; `None` = it is in its place.
    fn problem(&self) -> Option<&'static str> {
        match fs::metadata(&self.path) {
            Ok(now) if (now.dev(), now.ino()) == (self.device, self.inode) => None,
            Ok(_) => Some("was replaced"),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Some("was removed or moved")
            }
            Err(error) if error.kind() == io::ErrorKind::StaleNetworkFileHandle => {
                Some("was removed at the server that exports it")
            }
            // It may be in its place: a write that cannot reach the disk fails by itself.
            Err(_) => None,
        }
    }
}

/// The directory of an open store.
#[derive(Debug)]
pub(super) struct Place {
    directory: PathBuf,
    known: [Known; 3],
}

impl Place {
    /// Of a directory whose database is open.
    pub(super) fn of(directory: &Path) -> io::Result<Self> {
        let database = directory.join(DATABASE);
        let lock = Known::of(database.join(LOCK), false)?;
        let known = [Known::of(directory.to_owned(), true)?, Known::of(database, true)?, lock];
        Ok(Self { directory: directory.to_owned(), known })
    }

    /// What has become of the directory, as a reason for an operator; `None` = it is in its place. Blocks.
    pub(super) fn lost(&self) -> Option<String> {
        let current = self.directory.join(DATABASE).join(CURRENT);
        let moved = self.known.iter().find_map(|known| Some((known.path.as_path(), known.problem()?)));
        let (path, problem) = moved.or_else(|| {
            let is_gone = fs::metadata(&current).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
            is_gone.then_some((current.as_path(), "was removed"))
        })?;
        Some(format!(
            "{} {problem} while the node was running, so what the node has stored may be on no disk. Bring the \
             directory back (is its disk mounted?) and start the node again. If it is lost, remove what is left in \
             {} and start the node once with --node.first-start=true: its peers fill it",
            path.display(),
            self.directory.display()
        ))
    }

    /// Whether a file as large as what must stay free cannot be made beside the database. Quotas, and reserves that
    /// the file system counts as free, show only so. Blocks.
    pub(super) fn lacks_room(&self) -> bool {
        self.make_room()
            .is_err_and(|error| matches!(Errno::from_io_error(&error), Some(Errno::NOSPC | Errno::DQUOT)))
    }

    /// The file has no name: it is gone when it is closed, also by a crash.
    fn make_room(&self) -> io::Result<()> {
        let mut file = tempfile::tempfile_in(self.directory.join(DATABASE))?;
        match fallocate(&file, FallocateFlags::empty(), 0, limits::DISK_RESERVE_BYTES) {
            Err(Errno::OPNOTSUPP) => {
                // Some network file systems: a quota may show only when the data is at the server.
                file.write_all(&[0; limits::ROOM_PROBE_BYTES])?;
                file.sync_all()
            }
            reserved => Ok(reserved?),
        }
    }

    /// Whether the file system is mounted read-only, or the node's user may no longer create files. Blocks.
    pub(super) fn is_read_only(&self) -> bool {
        let may_create = Access::WRITE_OK | Access::EXEC_OK;
        let is_denied = |known: &Known| access(&known.path, may_create) == Err(Errno::ACCESS);
        statvfs(&self.directory).is_ok_and(|stat| stat.f_flag.contains(StatVfsMountFlags::RDONLY))
            || self.known[..2].iter().any(is_denied)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_there_is_room_none_is_lacking_and_the_probe_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let database = directory.path().join(DATABASE);
        fs::create_dir(&database).unwrap();
        fs::write(database.join(LOCK), "").unwrap();
        let place = Place::of(directory.path()).unwrap();
        assert!(!place.lacks_room());
        assert_eq!(fs::read_dir(database).unwrap().count(), 1);
    }
}
