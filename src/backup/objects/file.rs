//! A directory as a target.
//!
//! An object is a file, and its key is the path. Files with a `~` in their names are not objects:
//!
//! ```text
//! DIR/a/b              the object a/b
//! DIR/a/b~meta         its metadata, JSON; absent if it has none
//! DIR/a/b~put-XXXXXX   an object or metadata that is being written
//! ```
//!
//! Metadata is durable before its object is. A crash while an object is *replaced* can leave the old
//! object with the new metadata; backups never replace an object.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::sync::Semaphore;

use super::{
    blocking::{failed, joined, open},
    download::{Download, FileDownload},
    error::{Act, ObjectError},
    key,
    object::{Head, Listed, Metadata, Source},
    timeouts::Timeouts,
};
use brock_core::base::limits;
use brock_net::crashsafe::{self, Replacement};

/// In the names of all files that are not objects, and in no key.
const MARK: char = '~';
const META: &str = "~meta";
const PUT: &str = "~put-";

/// A directory that stores objects. Cheap to clone.
#[derive(Debug, Clone)]
pub struct FileTarget {
    directory: Arc<PathBuf>,
    timeouts: Timeouts,
    /// One permit for each thread that waits for the directory, even after its caller has stopped waiting.
    threads: Arc<Semaphore>,
}

impl FileTarget {
    /// The directory need not exist: the first put creates it.
    pub fn new(directory: PathBuf, timeouts: Timeouts) -> Self {
        let threads = Arc::new(Semaphore::new(limits::OBJECT_FILES_AT_ONCE));
        Self { directory: Arc::new(directory), timeouts, threads }
    }

    pub(super) fn place(&self) -> String {
        self.directory.display().to_string()
    }

    pub(super) async fn prepare(&self) -> Result<(), ObjectError> {
        let directory = Arc::clone(&self.directory);
        self.run(Act::Prepare, "", 0, move || make_directory(&directory)).await
    }

    pub(super) async fn put(
        &self,
        key: &str,
        source: &Source,
        metadata: &Metadata,
    ) -> Result<(), ObjectError> {
        let (root, path) = (Arc::clone(&self.directory), self.path(key));
        let (source, metadata) = (source.clone(), metadata.clone());
        let size_bytes = match &source {
            Source::Bytes(bytes) => bytes.len() as u64,
            Source::File(path) => {
                let path = path.clone();
                let size = move || Ok(open(&path)?.1);
                self.run(Act::Put, key, 0, size).await?
            }
        };
        if size_bytes > limits::OBJECT_MAX_BYTES {
            return Err(ObjectError::TooLarge { place: path.display().to_string(), size_bytes });
        }
        self.run(Act::Put, key, size_bytes, move || put(&root, &path, &source, &metadata)).await
    }

    pub(super) async fn get(&self, key: &str, offset: u64) -> Result<Download, ObjectError> {
        let (root, path) = (Arc::clone(&self.directory), self.path(key));
        let download = self.run(Act::Get, key, 0, {
            let path = path.clone();
            move || {
                let (file, size_bytes) = open_object(&root, &path)?;
                Ok(FileDownload { file: Arc::new(file), path: path.clone(), size_bytes, position: offset })
            }
        });
        let download = download.await?;
        if offset > download.size_bytes {
            return Err(ObjectError::PastEnd { place: path.display().to_string(), offset });
        }
        Ok(Download::of_file(download, self.timeouts))
    }

    pub(super) async fn head(&self, key: &str) -> Result<Head, ObjectError> {
        let (root, path) = (Arc::clone(&self.directory), self.path(key));
        let head = move || {
            let (_, size_bytes) = open_object(&root, &path)?;
            Ok(Head { size_bytes, metadata: read_metadata(&path)? })
        };
        self.run(Act::Head, key, 0, head).await
    }

    pub(super) async fn list(&self, prefix: &str) -> Result<Vec<Listed>, ObjectError> {
        let (root, prefix) = (Arc::clone(&self.directory), prefix.to_owned());
        self.scan(Act::List, move || list(&root, &prefix)).await
    }

    pub(super) async fn delete(&self, keys: &[String]) -> Result<(), ObjectError> {
        let (root, paths) =
            (Arc::clone(&self.directory), keys.iter().map(|key| self.path(key)).collect::<Vec<_>>());
        self.scan(Act::Delete, move || paths.iter().try_for_each(|path| delete(&root, path))).await
    }

    pub(super) async fn abort_unfinished(&self, age: Duration) -> Result<usize, ObjectError> {
        let root = Arc::clone(&self.directory);
        self.scan(Act::Abort, move || abort_unfinished(&root, age)).await
    }

    fn path(&self, key: &str) -> PathBuf {
        self.directory.join(key)
    }

    /// Runs blocking work off the runtime, and retries it after transient faults.
    async fn run<T: Send + 'static>(
        &self,
        act: Act,
        key: &str,
        size_bytes: u64,
        work: impl Fn() -> Result<T, ObjectError> + Send + Sync + 'static,
    ) -> Result<T, ObjectError> {
        self.blocking(&self.timeouts, act, &self.path(key), size_bytes, work).await
    }

    /// The same for work that visits the whole directory.
    async fn scan<T: Send + 'static>(
        &self,
        act: Act,
        work: impl Fn() -> Result<T, ObjectError> + Send + Sync + 'static,
    ) -> Result<T, ObjectError> {
        let timeouts = Timeouts { attempt: self.timeouts.scan, total: self.timeouts.scan, ..self.timeouts };
        self.blocking(&timeouts, act, &self.directory, 0, work).await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        timeouts: &Timeouts,
        act: Act,
        path: &Path,
        size_bytes: u64,
        work: impl Fn() -> Result<T, ObjectError> + Send + Sync + 'static,
    ) -> Result<T, ObjectError> {
        let work = Arc::new(work);
        let attempt = || {
            let (work, threads) = (Arc::clone(&work), Arc::clone(&self.threads));
            async move {
                // It is never closed. If the directory hangs, this waits until the attempt times out.
                let permit = threads.acquire_owned().await;
                joined(tokio::task::spawn_blocking(move || {
                    let _permit = permit;
                    work()
                }))
                .await
            }
        };
        timeouts.with_retries(act, &path.display().to_string(), size_bytes, attempt).await
    }
}

/// Contract: metadata, then the object. When this returns `Ok` both are durable.
fn put(root: &Path, path: &Path, source: &Source, metadata: &Metadata) -> Result<(), ObjectError> {
    let parent = path.parent().unwrap_or(root);
    let beside = beside(path, META);
    if !metadata.is_empty() {
        let text = serde_json::to_vec(metadata).map_err(|error| failed("encoding", &beside)(error.into()))?;
        write(parent, &beside, |file| file.write_all(&text).map_err(failed("writing", &beside)))?;
    }
    write(parent, path, |file| match source {
        Source::Bytes(bytes) => file.write_all(bytes).map_err(failed("writing", path)),
        Source::File(from) => {
            let (mut opened, size_bytes) = open(from)?;
            let copied = io::copy(&mut opened, file).map_err(failed("copying to", path))?;
            if copied == size_bytes { Ok(()) } else { Err(ObjectError::SourceChanged { path: from.clone() }) }
        }
    })?;
    if metadata.is_empty() {
        remove(&beside)?;
        crashsafe::sync_directory(parent).map_err(failed("syncing the directory", parent))?;
    }
    Ok(())
}

/// Writes one file durably. It and its directories are private.
fn write(
    parent: &Path,
    path: &Path,
    fill: impl FnOnce(&mut File) -> Result<(), ObjectError>,
) -> Result<(), ObjectError> {
    let prefix = format!("{}{PUT}", path.file_name().unwrap_or_default().to_string_lossy());
    let begin = || Replacement::begin_with_prefix(path, 0o600, &prefix);
    make_directory(parent)?;
    let mut replacement = match begin() {
        // A concurrent delete of the last object there has removed the directory.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_directory(parent)?;
            begin()
        }
        begun => begun,
    }
    .map_err(failed("creating a file in", parent))?;
    fill(replacement.file())?;
    replacement.commit().map_err(failed("replacing", path))
}

fn make_directory(directory: &Path) -> Result<(), ObjectError> {
    crashsafe::create_directories(directory, 0o700).map_err(failed("creating the directory", directory))
}

/// If the whole directory is absent, a disk is probably not mounted: that is another error than an absent object.
fn open_object(root: &Path, path: &Path) -> Result<(File, u64), ObjectError> {
    let absent = || match root.is_dir() {
        true => ObjectError::NotFound { place: path.display().to_string() },
        false => ObjectError::NoPlace { place: root.display().to_string() },
    };
    match open(path) {
        Err(ObjectError::Io { source, .. })
            if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            Err(absent())
        }
        // A directory is no object.
        _ if path.is_dir() => Err(absent()),
        opened => opened,
    }
}

fn read_metadata(path: &Path) -> Result<Metadata, ObjectError> {
    let beside = beside(path, META);
    match fs::read(&beside) {
        Ok(text) => serde_json::from_slice(&text).map_err(|error| failed("decoding", &beside)(error.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Metadata::new()),
        Err(error) => Err(failed("reading", &beside)(error)),
    }
}

fn list(root: &Path, prefix: &str) -> Result<Vec<Listed>, ObjectError> {
    // All keys that begin with the prefix are below this directory.
    let below = prefix.rfind('/').map_or("", |slash| &prefix[..slash]);
    if !root.is_dir() {
        return Err(ObjectError::NoPlace { place: root.display().to_string() });
    }
    let mut listed = Vec::new();
    walk(&root.join(below), &mut |path, metadata| {
        let key = path.strip_prefix(root).ok().and_then(Path::to_str).unwrap_or_default();
        if key.starts_with(prefix) && key::is_key(key) {
            if listed.len() == limits::BACKUP_OBJECTS_MAX {
                return Err(ObjectError::TooMany { place: root.join(prefix).display().to_string() });
            }
            listed.push(Listed { key: key.to_owned(), size_bytes: metadata.len() });
        }
        Ok(())
    })?;
    listed.sort();
    Ok(listed)
}

/// Visits every regular file below a directory. Does not follow links.
fn walk(
    directory: &Path,
    visit: &mut impl FnMut(&Path, &fs::Metadata) -> Result<(), ObjectError>,
) -> Result<(), ObjectError> {
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let entries = match fs::read_dir(directory) {
        Err(error) if gone(&error) || error.kind() == io::ErrorKind::NotADirectory => return Ok(()),
        entries => entries.map_err(failed("listing", directory))?,
    };
    for entry in entries {
        let entry = entry.map_err(failed("listing", directory))?;
        let path = entry.path();
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => walk(&path, visit)?,
            Ok(metadata) if metadata.is_file() => visit(&path, &metadata)?,
            Ok(_) => {}
            // Deleted since it was listed.
            Err(error) if gone(&error) => {}
            Err(error) => return Err(failed("looking at", &path)(error)),
        }
    }
    Ok(())
}

/// Deletes the object, then its metadata: metadata without an object has no meaning.
fn delete(root: &Path, path: &Path) -> Result<(), ObjectError> {
    remove(path)?;
    remove(&beside(path, META))?;
    // Stops at the first directory that is not empty.
    for directory in path.ancestors().skip(1).take_while(|directory| *directory != root) {
        if fs::remove_dir(directory).is_err() {
            break;
        }
    }
    Ok(())
}

fn abort_unfinished(root: &Path, age: Duration) -> Result<usize, ObjectError> {
    let now = SystemTime::now();
    let mut left_over = Vec::new();
    walk(root, &mut |path, metadata| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let old =
            metadata.modified().is_ok_and(|time| now.duration_since(time).is_ok_and(|passed| passed >= age));
        let orphan = name.strip_suffix(META).is_some_and(|object| !path.with_file_name(object).exists());
        if old && (orphan || name.contains(PUT)) {
            left_over.push(path.to_owned());
        }
        Ok(())
    })?;
    left_over.iter().try_for_each(|path| remove(path))?;
    Ok(left_over.len())
}

fn remove(path: &Path) -> Result<(), ObjectError> {
    match fs::remove_file(path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(())
        }
        removed => removed.map_err(failed("deleting", path)),
    }
}

/// The path with a suffix appended to its name.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    debug_assert!(suffix.starts_with(MARK));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{name}{suffix}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use bytes::Bytes;

    use super::*;

    fn target(directory: &Path) -> FileTarget {
        FileTarget::new(directory.join("backups"), Timeouts::default())
    }

    #[tokio::test]
    async fn objects_are_private_and_nothing_else_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let target = target(directory.path());
        let metadata = Metadata::from([("kind".to_owned(), "full".to_owned())]);
        target.put("a/b", &Source::Bytes(Bytes::from_static(b"x")), &metadata).await.unwrap();
        let mut names = Vec::new();
        walk(directory.path(), &mut |path, metadata| {
            assert_eq!(metadata.permissions().mode() & 0o777, 0o600, "{}", path.display());
            names.push(path.strip_prefix(directory.path()).unwrap().to_str().unwrap().to_owned());
            Ok(())
        })
        .unwrap();
        names.sort();
        assert_eq!(names, ["backups/a/b", "backups/a/b~meta"]);
        target.delete(&["a/b".to_owned()]).await.unwrap();
        assert_eq!(fs::read_dir(directory.path().join("backups")).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn an_interrupted_put_leaves_no_object_and_is_cleaned_up() {
        let directory = tempfile::tempdir().unwrap();
        let target = target(directory.path());
        target.put("a/b", &Source::Bytes(Bytes::from_static(b"x")), &Metadata::new()).await.unwrap();
        // A killed process leaves a temporary file, and metadata without its object.
        let within = directory.path().join("backups/a");
        fs::write(within.join("c~put-x1y2z3"), "half").unwrap();
        fs::write(within.join("c~meta"), "{}").unwrap();
        assert_eq!(target.list("").await.unwrap(), [Listed { key: "a/b".to_owned(), size_bytes: 1 }]);
        assert!(matches!(target.head("a/c").await, Err(ObjectError::NotFound { .. })));
        assert_eq!(target.abort_unfinished(Duration::from_secs(3600)).await.unwrap(), 0);
        assert_eq!(target.abort_unfinished(Duration::ZERO).await.unwrap(), 2);
        assert_eq!(fs::read_dir(&within).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn a_source_that_changes_or_is_missing_stores_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let target = target(directory.path());
        let missing = Source::File(directory.path().join("missing"));
        let error = target.put("a", &missing, &Metadata::new()).await.unwrap_err();
        assert!(matches!(error, ObjectError::Io { .. }) && error.to_string().contains("missing"), "{error}");
        target.prepare().await.unwrap();
        assert_eq!(target.list("").await.unwrap(), []);
    }

    #[tokio::test]
    async fn a_missing_directory_is_an_error_and_not_an_empty_listing() {
        let directory = tempfile::tempdir().unwrap();
        let target = target(directory.path());
        let error = target.list("").await.unwrap_err();
        assert!(matches!(error, ObjectError::NoPlace { .. }), "{error}");
        // Nor is it an object that is gone: a full backup would be made in its place.
        let error = target.head("a").await.unwrap_err();
        assert!(matches!(error, ObjectError::NoPlace { .. }), "{error}");
    }
}
