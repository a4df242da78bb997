//! A directory that holds objects.
//!
//! An object is a file, its key the path. Beside it, under a name that no key has, lies what it
//! carries as metadata:
//!
//! ```text
//! DIR/a/b              the object a/b
//! DIR/a/b~meta         its metadata, JSON; absent when it has none
//! DIR/a/b~put-XXXXXX   an object or metadata being written; not there yet
//! ```
//!
//! Metadata is in place before its object is. Power that fails between the two can leave an object
//! that is being *replaced* with the new metadata; backups never replace an object by another.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, FileExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;

use tokio::sync::Semaphore;

use super::{
    Act, Download, Head, Listed, Metadata, ObjectError, Patience, Source, download::FileDownload, key,
};
use brock_core::base::limits;

/// What no key has in it, and every file has that is not an object.
const MARK: char = '~';
const META: &str = "~meta";
const PUT: &str = "~put-";

/// A directory that holds objects.
#[derive(Debug, Clone)]
pub struct FileTarget {
    directory: Arc<PathBuf>,
    patience: Patience,
    /// Held by each thread that waits for the directory, also when nobody waits for the thread.
    threads: Arc<Semaphore>,
}

impl FileTarget {
    /// The directory need not exist: the first put makes it.
    pub fn new(directory: PathBuf, patience: Patience) -> Self {
        let threads = Arc::new(Semaphore::new(limits::OBJECT_FILES_AT_ONCE));
        Self { directory: Arc::new(directory), patience, threads }
    }

    pub(super) fn place(&self) -> String {
        self.directory.display().to_string()
    }

    pub(super) async fn prepare(&self) -> Result<(), ObjectError> {
        let directory = Arc::clone(&self.directory);
        self.run(Act::Prepare, "", 0, move || make_directories(&directory, &directory)).await
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
        let path = self.path(key);
        let download = self.run(Act::Get, key, 0, {
            let path = path.clone();
            move || {
                let (file, size_bytes) = open_object(&path)?;
                Ok(FileDownload { file: Arc::new(file), path: path.clone(), size_bytes, position: offset })
            }
        });
        let download = download.await?;
        if offset > download.size_bytes {
            return Err(ObjectError::BehindEnd { place: path.display().to_string(), offset });
        }
        Ok(Download::of_file(download, self.patience))
    }

    pub(super) async fn head(&self, key: &str) -> Result<Head, ObjectError> {
        let path = self.path(key);
        let head = move || {
            let (_, size_bytes) = open_object(&path)?;
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

    /// Does blocking work off the runtime, and again while its faults may pass.
    async fn run<T: Send + 'static>(
        &self,
        act: Act,
        key: &str,
        size_bytes: u64,
        work: impl Fn() -> Result<T, ObjectError> + Send + Sync + 'static,
    ) -> Result<T, ObjectError> {
        self.blocking(&self.patience, act, &self.path(key), size_bytes, work).await
    }

    /// The same for work whose length is that of the whole directory.
    async fn scan<T: Send + 'static>(
        &self,
        act: Act,
        work: impl Fn() -> Result<T, ObjectError> + Send + Sync + 'static,
    ) -> Result<T, ObjectError> {
        let patience = Patience { attempt: self.patience.scan, total: self.patience.scan, ..self.patience };
        self.blocking(&patience, act, &self.directory, 0, work).await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        patience: &Patience,
        act: Act,
        path: &Path,
        size_bytes: u64,
        work: impl Fn() -> Result<T, ObjectError> + Send + Sync + 'static,
    ) -> Result<T, ObjectError> {
        let work = Arc::new(work);
        let attempt = || {
            let (work, threads) = (Arc::clone(&work), Arc::clone(&self.threads));
            async move {
                // It is never closed. On a directory that hangs this waits until the attempt is given up.
                let permit = threads.acquire_owned().await;
                joined(tokio::task::spawn_blocking(move || {
                    let _permit = permit;
                    work()
                }))
                .await
            }
        };
        patience.persevere(act, &path.display().to_string(), size_bytes, attempt).await
    }
}

/// Reads a stretch of a file, off the runtime. Short only where the file ends.
pub(super) async fn read_at(
    file: &Arc<File>,
    path: &Path,
    offset: u64,
    length: usize,
) -> Result<Bytes, ObjectError> {
    let (file, path) = (Arc::clone(file), path.to_owned());
    joined(tokio::task::spawn_blocking(move || {
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

/// Opens a file that is to be stored, off the runtime; says its size.
pub(super) async fn open_source(path: &Path) -> Result<(Arc<File>, u64), ObjectError> {
    let path = path.to_owned();
    joined(tokio::task::spawn_blocking(move || open(&path).map(|(file, size)| (Arc::new(file), size)))).await
}

async fn joined<T>(work: tokio::task::JoinHandle<Result<T, ObjectError>>) -> Result<T, ObjectError> {
    match work.await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only while the runtime goes away, and then nobody reads the answer.
            Err(_) => std::future::pending().await,
        },
    }
}

fn put(root: &Path, path: &Path, source: &Source, metadata: &Metadata) -> Result<(), ObjectError> {
    let parent = path.parent().unwrap_or(root);
    let beside = beside(path, META);
    if !metadata.is_empty() {
        let text = serde_json::to_vec(metadata).map_err(|error| failed("encoding", &beside)(error.into()))?;
        write(root, parent, &beside, |file| file.write_all(&text).map_err(failed("writing", &beside)))?;
    }
    write(root, parent, path, |file| match source {
        Source::Bytes(bytes) => file.write_all(bytes).map_err(failed("writing", path)),
        Source::File(from) => {
            let (mut opened, size_bytes) = open(from)?;
            let copied = io::copy(&mut opened, file).map_err(failed("copying to", path))?;
            if copied == size_bytes { Ok(()) } else { Err(ObjectError::SourceChanged { path: from.clone() }) }
        }
    })?;
    if metadata.is_empty() {
        remove(&beside)?;
    }
    sync_directory(parent)
}

/// Writes a file under another name, syncs it and gives it its own.
fn write(
    root: &Path,
    parent: &Path,
    path: &Path,
    fill: impl FnOnce(&mut File) -> Result<(), ObjectError>,
) -> Result<(), ObjectError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let prefix = format!("{name}{PUT}");
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix); // Mode 0600, which is tempfile's own default.
    make_directories(root, parent)?;
    let mut file = match builder.tempfile_in(parent) {
        // Whoever deleted the last object there removed the directory just now.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_directories(root, parent)?;
            builder.tempfile_in(parent)
        }
        made => made,
    }
    .map_err(failed("creating a file in", parent))?;
    fill(file.as_file_mut())?;
    file.as_file().sync_all().map_err(failed("syncing", file.path()))?;
    file.persist(path).map_err(|error| failed("renaming a file to", path)(error.error))?;
    Ok(())
}

/// Makes what is missing, private and durable.
fn make_directories(root: &Path, directory: &Path) -> Result<(), ObjectError> {
    if directory.is_dir() {
        return Ok(());
    }
    let parent = directory.parent().unwrap_or(root);
    make_directories(root, parent)?;
    match DirBuilder::new().mode(0o700).create(directory) {
        Ok(()) => sync_directory(parent),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && directory.is_dir() => Ok(()),
        Err(error) => Err(failed("creating the directory", directory)(error)),
    }
}

fn sync_directory(directory: &Path) -> Result<(), ObjectError> {
    File::open(directory).and_then(|file| file.sync_all()).map_err(failed("syncing the directory", directory))
}

fn open(path: &Path) -> Result<(File, u64), ObjectError> {
    let file = File::open(path).map_err(failed("opening", path))?;
    let size_bytes = file.metadata().map_err(failed("looking at", path))?.len();
    Ok((file, size_bytes))
}

fn open_object(path: &Path) -> Result<(File, u64), ObjectError> {
    let absent = || ObjectError::NotFound { place: path.display().to_string() };
    match open(path) {
        Err(ObjectError::Io { source, .. })
            if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            Err(absent())
        }
        // A directory opens too, and is no object.
        Ok(_) if path.is_dir() => Err(absent()),
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
    // Only the directory that the prefix leads to can have what begins with it.
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

/// Shows every regular file below a directory; links are not followed.
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

/// The object first: metadata without an object is nothing.
fn delete(root: &Path, path: &Path) -> Result<(), ObjectError> {
    remove(path)?;
    remove(&beside(path, META))?;
    // Fails where something is left, which is as it should be.
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

/// The file of this object with an appendix to its name.
fn beside(path: &Path, appendix: &str) -> PathBuf {
    debug_assert!(appendix.starts_with(MARK));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{name}{appendix}"))
}

fn failed(action: &'static str, path: &Path) -> impl Fn(io::Error) -> ObjectError {
    let path = path.to_owned();
    move |source| ObjectError::Io { action, path: path.clone(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn target(directory: &Path) -> FileTarget {
        FileTarget::new(directory.join("backups"), Patience::default())
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
        // What a killed process leaves: a file under another name, and metadata before its object.
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
    async fn a_directory_that_is_not_there_is_told_and_not_listed_as_empty() {
        let directory = tempfile::tempdir().unwrap();
        let error = target(directory.path()).list("").await.unwrap_err();
        assert!(matches!(error, ObjectError::NoPlace { .. }), "{error}");
    }
}
