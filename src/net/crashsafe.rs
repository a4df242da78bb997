//! Durable changes to the file system: after a crash, a name leads to the old content or to the new
//! content, never to a part of one.
//!
//! A file is replaced in four steps, and each step is durable before the next one begins:
//!
//! | step | after a crash at this point |
//! |---|---|
//! | write a temporary file beside the target | the old content, and a leftover temporary file |
//! | fsync the temporary file | the same |
//! | rename it over the target | the old content or the new content, whole |
//! | fsync the directory | the new content |
//!
//! All functions block.

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

/// How the names of temporary files begin, unless the caller chooses another prefix.
const PREFIX: &str = ".brock-";

/// The new content of a file. Dropped before [`Replacement::commit`] or [`Replacement::commit_new`],
/// it leaves the target unchanged and removes its temporary file.
#[derive(Debug)]
pub struct Replacement {
    temporary: NamedTempFile,
    target: PathBuf,
}

impl Replacement {
    /// Opens an empty temporary file beside `target`. It has `mode` from the beginning, less the umask.
    pub fn begin(target: &Path, mode: u32) -> io::Result<Self> {
        Self::begin_with_prefix(target, mode, PREFIX)
    }

    /// Like [`Replacement::begin`], with a prefix by which the caller recognises leftover files.
    pub fn begin_with_prefix(target: &Path, mode: u32, prefix: &str) -> io::Result<Self> {
        let temporary = tempfile::Builder::new()
            .prefix(prefix)
            .permissions(Permissions::from_mode(mode))
            .tempfile_in(parent(target))?;
        Ok(Self { temporary, target: target.to_owned() })
    }

    /// The temporary file.
    pub fn file(&mut self) -> &mut File {
        self.temporary.as_file_mut()
    }

    /// Makes the new content durable under the target's name, in place of an existing file.
    ///
    /// Contract: after `Ok` the new content survives a crash. After an error the target has the old
    /// content or the new content, whole.
    pub fn commit(self) -> io::Result<()> {
        self.temporary.as_file().sync_all()?;
        self.temporary.persist(&self.target).map_err(|error| error.error)?;
        sync_directory(parent(&self.target))
    }

    /// Like [`Replacement::commit`], but fails with [`io::ErrorKind::AlreadyExists`] and changes nothing
    /// if the target exists.
    pub fn commit_new(self) -> io::Result<()> {
        self.temporary.as_file().sync_all()?;
        self.temporary.persist_noclobber(&self.target).map_err(|error| error.error)?;
        sync_directory(parent(&self.target))
    }
}

impl Write for Replacement {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.temporary.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.temporary.flush()
    }
}

/// Replaces the content of `target`, or creates it. See [`Replacement::commit`].
pub fn replace(target: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut replacement = Replacement::begin(target, mode)?;
    replacement.write_all(content)?;
    replacement.commit()
}

/// Creates `target`; fails if it exists. See [`Replacement::commit_new`].
pub fn create(target: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut replacement = Replacement::begin(target, mode)?;
    replacement.write_all(content)?;
    replacement.commit_new()
}

/// Moves a file or a directory to `to`, on the same file system. Its content must be durable already.
///
/// Contract: after a crash it has the old name or the new name; after `Ok`, the new name.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_directory(parent(to))
}

/// Creates a directory and the missing ones above it, each with `mode` less the umask. After `Ok` they
/// survive a crash. An existing directory keeps its mode.
pub fn create_directories(directory: &Path, mode: u32) -> io::Result<()> {
    if directory.as_os_str().is_empty() || directory.is_dir() {
        return Ok(());
    }
    let parent = parent(directory);
    create_directories(parent, mode)?;
    match DirBuilder::new().mode(mode).create(directory) {
        Ok(()) => sync_directory(parent),
        // Another process or thread has created it.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && directory.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Makes the names in a directory durable: which files exist, and what they are called.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// The directory that has `path` in it.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_replaced_file_has_the_new_content_and_mode_and_nothing_else_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        for (content, permissions) in [("first", 0o644), ("second", 0o600), ("", 0o400)] {
            replace(&path, content.as_bytes(), permissions).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
            assert_eq!(mode(&path), permissions);
        }
        assert_eq!(names(directory.path()), ["file"]);
    }

    #[test]
    fn the_temporary_file_is_as_private_as_the_target_from_the_beginning() {
        let directory = tempfile::tempdir().unwrap();
        let replacement = Replacement::begin(&directory.path().join("secret"), 0o600).unwrap();
        assert_eq!(mode(replacement.temporary.path()), 0o600);
    }

    #[test]
    fn an_interrupted_replacement_leaves_the_old_content() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        replace(&path, b"old", 0o600).unwrap();
        // The process fails half-way.
        let mut replacement = Replacement::begin(&path, 0o600).unwrap();
        replacement.write_all(b"ne").unwrap();
        drop(replacement);
        assert_eq!((fs::read(&path).unwrap(), names(directory.path()).len()), (b"old".to_vec(), 1));
        // The process is killed half-way: its temporary file stays, and nothing takes it for the file.
        let mut replacement = Replacement::begin_with_prefix(&path, 0o600, "file~put-").unwrap();
        replacement.write_all(b"ne").unwrap();
        replacement.temporary.keep().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        replace(&path, b"new", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        let left = names(directory.path());
        assert!(left.len() == 2 && left[1].starts_with("file~put-"), "{left:?}");
    }

    #[test]
    fn an_existing_file_is_not_replaced_unasked() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        create(&path, b"first", 0o600).unwrap();
        let error = create(&path, b"second", 0o600).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!((fs::read(&path).unwrap(), names(directory.path()).len()), (b"first".to_vec(), 1));
    }

    #[test]
    fn a_target_that_cannot_be_replaced_stays_and_no_temporary_file_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("taken");
        fs::create_dir(&path).unwrap();
        assert!(replace(&path, b"content", 0o600).is_err());
        assert_eq!(names(directory.path()), ["taken"]);
        let missing = directory.path().join("missing/file");
        assert_eq!(replace(&missing, b"content", 0o600).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn directories_are_created_private_and_moved_whole() {
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("a/b");
        create_directories(&inner, 0o700).unwrap();
        create_directories(&inner, 0o755).unwrap();
        assert_eq!((mode(&directory.path().join("a")), mode(&inner)), (0o700, 0o700));
        fs::write(inner.join("file"), "content").unwrap();
        rename(&inner, &directory.path().join("moved")).unwrap();
        assert_eq!(fs::read(directory.path().join("moved/file")).unwrap(), b"content");
        fs::write(directory.path().join("in the way"), "").unwrap();
        assert!(create_directories(&directory.path().join("in the way/c"), 0o700).is_err());
    }
}
