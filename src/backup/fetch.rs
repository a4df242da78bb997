//! Downloading the objects of a backup to a directory. The file operations block: this is for the process
//! of a tool, not for a node.

use std::{
    fs,
    io::{self, BufReader, Write},
    path::{Path, PathBuf},
};

use super::{
    error::{RestoreError, io_error},
    hashing::Hashing,
    manifest::Part,
    objects::Target,
};

/// The local path of a part.
pub(super) fn local(parts: &Path, part: &Part) -> PathBuf {
    parts.join(part.key.replace('/', "_"))
}

/// Downloads a part and checks its hash. Continues where an earlier attempt has stopped.
pub(super) async fn fetch(target: &Target, part: &Part, path: &Path) -> Result<(), RestoreError> {
    if hash_of(path)?.as_deref() == Some(&part.sha256) {
        return Ok(());
    }
    let have = fs::metadata(path).map(|metadata| metadata.len()).unwrap_or(0);
    let have = if have >= part.bytes { 0 } else { have };
    let mut file =
        fs::OpenOptions::new().create(true).write(true).truncate(false).open(path).map_err(io_error(path))?;
    file.set_len(have).map_err(io_error(path))?;
    io::Seek::seek(&mut file, io::SeekFrom::Start(have)).map_err(io_error(path))?;
    let mut download = target.get(&part.key, have).await?;
    if download.size_bytes() != part.bytes {
        return Err(RestoreError::Hash(part.key.clone()));
    }
    while let Some(chunk) = download.next().await? {
        file.write_all(&chunk).map_err(io_error(path))?;
    }
    file.flush().map_err(io_error(path))?;
    if hash_of(path)?.as_deref() != Some(&part.sha256) {
        // The next attempt must begin again.
        fs::remove_file(path).map_err(io_error(path))?;
        return Err(RestoreError::Hash(part.key.clone()));
    }
    Ok(())
}

fn hash_of(path: &Path) -> Result<Option<String>, RestoreError> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error(path)(error)),
    };
    let mut hash = Hashing::only();
    io::copy(&mut BufReader::with_capacity(256 * 1024, file), &mut hash).map_err(io_error(path))?;
    Ok(Some(hash.finish()))
}
