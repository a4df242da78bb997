//! An AWS shared credentials file, which is read again when it changes.

use std::{
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use super::credentials::{Credentials, CredentialsError, Secret};
use brock_core::base::limits;
use brock_net::reading;

/// One section of a file, and the credentials that it last held.
#[derive(Debug)]
pub(super) struct CredentialsFile {
    path: PathBuf,
    profile: String,
    held: Mutex<Held>,
    /// Held while the file is read, so that only one thread waits if its file system does not answer.
    pub(super) turn: Arc<tokio::sync::Mutex<()>>,
}

/// The content of the file when it was last read without an error.
#[derive(Debug)]
struct Held {
    credentials: Credentials,
    state: FileState,
    /// The state of the file that the last warning was about.
    warned: Option<FileState>,
}

/// Distinguishes one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileState {
    inode: u64,
    size_bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl CredentialsFile {
    /// Reads the file. Blocks.
    pub(super) fn open(path: &Path, profile: String) -> Result<Self, CredentialsError> {
        let (credentials, state) = read(path, &profile)?;
        let held = Mutex::new(Held { credentials, state, warned: None });
        Ok(Self { path: path.to_owned(), profile, held, turn: Arc::default() })
    }

    /// The current credentials. Blocks.
    ///
    /// If a changed file cannot be used (it may be half written), this logs one warning, and the previous
    /// credentials stay in use.
    pub(super) fn current(&self) -> Credentials {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = std::fs::metadata(&self.path).map(|metadata| FileState::of(&metadata)).ok();
        if seen == Some(held.state) {
            return held.credentials.clone();
        }
        match read(&self.path, &self.profile) {
            Ok((credentials, state)) => *held = Held { credentials, state, warned: None },
            Err(error) => {
                if held.warned.is_none() || held.warned != seen {
                    held.warned = seen.or(Some(held.state));
                    tracing::warn!(%error, "the previous credentials stay in use");
                }
            }
        }
        held.credentials.clone()
    }
}

impl FileState {
    fn of(metadata: &std::fs::Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            size_bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Reads one section of a file, and the state of the file.
fn read(path: &Path, profile: &str) -> Result<(Credentials, FileState), CredentialsError> {
    let failed = |source| CredentialsError::Read { path: path.to_owned(), source };
    let file = reading::regular(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let mut text = String::new();
    file.take(limits::CREDENTIALS_FILE_MAX_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > limits::CREDENTIALS_FILE_MAX_BYTES {
        return Err(failed(io::Error::new(io::ErrorKind::FileTooLarge, "it is too large")));
    }
    let credentials = section(path, &text, profile)?;
    // Only for a file that is used: a rejected one is read again with every request.
    if metadata.mode() & 0o007 != 0 {
        tracing::warn!(path = %path.display(), "every user of this machine can read the credentials file: chmod 600");
    }
    Ok((credentials, FileState::of(&metadata)))
}

fn section(path: &Path, text: &str, profile: &str) -> Result<Credentials, CredentialsError> {
    let (mut inside, mut present) = (false, false);
    let (mut id, mut secret, mut token) = (None, None, None);
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            inside = name.trim() == profile;
            present |= inside;
            continue;
        }
        let Some((name, value)) = line.split_once('=') else {
            return Err(CredentialsError::Syntax { path: path.to_owned(), line: index + 1 });
        };
        let value = Some(value.trim().to_owned()).filter(|value| !value.is_empty());
        match name.trim().to_ascii_lowercase().as_str() {
            _ if !inside => {}
            "aws_access_key_id" => id = value,
            "aws_secret_access_key" => secret = value.map(Secret::new),
            "aws_session_token" => token = value.map(Secret::new),
            // The other names of AWS tools do not change the meaning of these three.
            _ => {}
        }
    }
    let place = || format!("section [{profile}] of {}", path.display());
    if !present {
        return Err(CredentialsError::NoProfile { path: path.to_owned(), profile: profile.to_owned() });
    }
    let missing = "access key id and no secret access key";
    Credentials::given(id, secret, token, place)?
        .ok_or_else(|| CredentialsError::Half { place: place(), missing })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_shown() {
        let text = "[other]\nregion = eu\nAWS_ACCESS_KEY_ID=AKOTHER\naws_secret_access_key = x\n\
                    aws_session_token = t0k3n\n; end\n";
        let credentials = section(Path::new("f"), text, "other").unwrap();
        let shown =
            format!("{credentials:?} {} {:#?}", credentials.secret_access_key, credentials.session_token);
        assert!(!shown.contains("t0k3n") && !shown.contains("\"x\"") && shown.contains("***"), "{shown}");
        assert!(shown.contains("AKOTHER"), "{shown}");
        assert_eq!(credentials.session_token.unwrap().reveal(), "t0k3n");
    }

    #[test]
    fn a_changed_file_is_read_again_and_a_broken_one_is_not_used() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("credentials");
        let write = |id: &str| {
            // A rotation writes a new file, and renames it over the old one.
            let new = directory.path().join("new");
            std::fs::write(&new, format!("[default]\naws_access_key_id={id}\naws_secret_access_key=s\n"))
                .unwrap();
            std::fs::rename(new, &path).unwrap();
        };
        write("AKONE");
        let file = CredentialsFile::open(&path, "default".to_owned()).unwrap();
        assert_eq!(file.current().access_key_id, "AKONE");
        write("AKTWO");
        assert_eq!(file.current().access_key_id, "AKTWO");
        std::fs::write(&path, "[default]\naws_acc").unwrap();
        assert_eq!(file.current().access_key_id, "AKTWO");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(file.current().access_key_id, "AKTWO");
        write("AKTHREE");
        assert_eq!(file.current().access_key_id, "AKTHREE");
    }
}
