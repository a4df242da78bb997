//! Who this node is to an object store: given directly, in the environment, or in a file.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use brock_core::base::limits;

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for whoever signs with it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What requests are signed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Not secret: it is in every request.
    pub access_key_id: String,
    /// Secret.
    pub secret_access_key: Secret,
    /// Comes with credentials that expire.
    pub session_token: Option<Secret>,
}

impl Credentials {
    /// A text without the secrets, wherever it has them from.
    pub(super) fn scrub(&self, text: &str) -> String {
        let secrets = std::iter::once(&self.secret_access_key).chain(&self.session_token);
        secrets
            .filter(|secret| !secret.0.is_empty())
            .fold(text.to_owned(), |text, secret| text.replace(&secret.0, "***"))
    }
}

/// Where credentials may be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CredentialSettings {
    /// Given directly, together with the secret.
    pub access_key_id: Option<String>,
    /// Given directly.
    pub secret_access_key: Option<Secret>,
    /// Given directly, if they expire.
    pub session_token: Option<Secret>,
    /// An AWS shared credentials file.
    pub file: Option<PathBuf>,
}

/// Why there are no credentials.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// Nobody gave any.
    #[error(
        "there are no credentials for the backup location: give an access key id and a secret access key, set \
         AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write them to {}", file.display()
    )]
    Nowhere {
        /// Where a file was looked for.
        file: PathBuf,
    },
    /// One half is missing.
    #[error("{place} gives no {missing}: an access key id and its secret access key belong together")]
    Half {
        /// Who gave the other half.
        place: String,
        /// What is missing.
        missing: &'static str,
    },
    /// The file cannot be read.
    #[error("the credentials file {} cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file has no such section.
    #[error(
        "the credentials file {} has no section [{profile}]; add it, or name another one in AWS_PROFILE",
        path.display()
    )]
    NoProfile {
        /// The file.
        path: PathBuf,
        /// The section.
        profile: String,
    },
    /// The file is something else.
    #[error("{}:{line}: this is not a line of a credentials file: neither [section] nor name = value", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where, from 1.
        line: usize,
    },
}

/// Where credentials come from, for as long as they are needed. Cheap to clone.
#[derive(Debug, Clone)]
pub struct CredentialSource(Arc<Kind>);

#[derive(Debug)]
enum Kind {
    Fixed(Credentials),
    File { path: PathBuf, profile: String, held: Mutex<Held> },
}

/// What a file said when it was last read without an error.
#[derive(Debug)]
struct Held {
    credentials: Credentials,
    stamp: Stamp,
    /// The state of the file that was last complained about.
    complained: Option<Stamp>,
}

/// Tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size_bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl CredentialSource {
    /// Looks, in this order, at what was given directly, the file that was named, the `AWS_*`
    /// variables, and the file where AWS tools keep theirs.
    pub fn find(
        settings: &CredentialSettings,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, CredentialsError> {
        let CredentialSettings { access_key_id, secret_access_key, session_token, file } = settings;
        let variable = |name: &str| environment(name).filter(|value| !value.is_empty());
        let given = pair(access_key_id.clone(), secret_access_key.clone(), session_token.clone(), || {
            "the configuration of backups".to_owned()
        })?;
        if let Some(credentials) = given {
            return Ok(Self(Arc::new(Kind::Fixed(credentials))));
        }
        let profile = variable("AWS_PROFILE").unwrap_or_else(|| "default".to_owned());
        if let Some(path) = file {
            return Self::of_file(path, profile);
        }
        let in_environment = pair(
            variable("AWS_ACCESS_KEY_ID"),
            variable("AWS_SECRET_ACCESS_KEY").map(Secret),
            variable("AWS_SESSION_TOKEN").map(Secret),
            || "the environment".to_owned(),
        )?;
        if let Some(credentials) = in_environment {
            return Ok(Self(Arc::new(Kind::Fixed(credentials))));
        }
        let usual = variable("AWS_SHARED_CREDENTIALS_FILE").map(PathBuf::from).unwrap_or_else(|| {
            PathBuf::from(variable("HOME").unwrap_or_else(|| "/".to_owned())).join(".aws/credentials")
        });
        match Self::of_file(&usual, profile) {
            Err(CredentialsError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Err(CredentialsError::Nowhere { file: usual })
            }
            found => found,
        }
    }

    /// The credentials as they are now. Blocks to look at the file, if they are from one.
    ///
    /// A changed file that cannot be used (it may be half written) is complained about once, and
    /// the credentials from before stay in use until it can.
    pub fn current(&self) -> Credentials {
        let (path, profile, held) = match self.0.as_ref() {
            Kind::Fixed(credentials) => return credentials.clone(),
            Kind::File { path, profile, held } => (path, profile, held),
        };
        let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = std::fs::metadata(path).map(|metadata| Stamp::of(&metadata)).ok();
        if seen == Some(held.stamp) {
            return held.credentials.clone();
        }
        match read(path, profile) {
            Ok((credentials, stamp)) => *held = Held { credentials, stamp, complained: None },
            Err(error) => {
                if held.complained.is_none() || held.complained != seen {
                    held.complained = seen.or(Some(held.stamp));
                    tracing::warn!(%error, "the credentials from before stay in use");
                }
            }
        }
        held.credentials.clone()
    }

    /// Whether they never change, and looking at them does not block.
    pub(super) fn is_fixed(&self) -> bool {
        matches!(self.0.as_ref(), Kind::Fixed(_))
    }

    fn of_file(path: &Path, profile: String) -> Result<Self, CredentialsError> {
        let (credentials, stamp) = read(path, &profile)?;
        let held = Mutex::new(Held { credentials, stamp, complained: None });
        Ok(Self(Arc::new(Kind::File { path: path.to_owned(), profile, held })))
    }
}

impl Stamp {
    fn of(metadata: &std::fs::Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            size_bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Both halves, none (`None`), or an error.
fn pair(
    access_key_id: Option<String>,
    secret_access_key: Option<Secret>,
    session_token: Option<Secret>,
    place: impl Fn() -> String,
) -> Result<Option<Credentials>, CredentialsError> {
    let half = |missing| Err(CredentialsError::Half { place: place(), missing });
    match (access_key_id, secret_access_key) {
        (Some(access_key_id), Some(secret_access_key)) => {
            Ok(Some(Credentials { access_key_id, secret_access_key, session_token }))
        }
        (Some(_), None) => half("secret access key"),
        (None, Some(_)) => half("access key id"),
        (None, None) => Ok(None),
    }
}

/// Reads one section of a file, and the state the file was in.
fn read(path: &Path, profile: &str) -> Result<(Credentials, Stamp), CredentialsError> {
    let failed = |source| CredentialsError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let mut text = String::new();
    file.take(limits::CREDENTIALS_FILE_MAX_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > limits::CREDENTIALS_FILE_MAX_BYTES {
        return Err(failed(io::Error::new(io::ErrorKind::FileTooLarge, "it is too large to be one")));
    }
    let credentials = section(path, &text, profile)?;
    // Only of one that is taken over: what is refused is read again at every request.
    if metadata.mode() & 0o007 != 0 {
        tracing::warn!(path = %path.display(), "everybody on this machine may read the credentials file: chmod 600");
    }
    Ok((credentials, Stamp::of(&metadata)))
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
            "aws_secret_access_key" => secret = value.map(Secret),
            "aws_session_token" => token = value.map(Secret),
            // AWS tools know more names; none of them changes what these three mean.
            _ => {}
        }
    }
    let place = || format!("section [{profile}] of {}", path.display());
    if !present {
        return Err(CredentialsError::NoProfile { path: path.to_owned(), profile: profile.to_owned() });
    }
    match pair(id, secret, token, place)? {
        Some(credentials) => Ok(credentials),
        None => {
            Err(CredentialsError::Half { place: place(), missing: "access key id and no secret access key" })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# ours\n[default]\naws_access_key_id = AKDEFAULT\naws_secret_access_key=s3cr3t=\n\n\
                        [other]\nregion = eu\nAWS_ACCESS_KEY_ID=AKOTHER\naws_secret_access_key = x\n\
                        aws_session_token = t0k3n\n; end\n";

    fn no_environment(_: &str) -> Option<String> {
        None
    }

    fn find(file: Option<&Path>, environment: &[(&str, &str)]) -> Result<Credentials, CredentialsError> {
        let settings = CredentialSettings { file: file.map(Path::to_owned), ..CredentialSettings::default() };
        let variable = |name: &str| {
            environment.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        CredentialSource::find(&settings, &variable).map(|source| source.current())
    }

    #[test]
    fn a_secret_is_never_shown() {
        let credentials = section(Path::new("f"), FILE, "other").unwrap();
        let shown =
            format!("{credentials:?} {} {:#?}", credentials.secret_access_key, credentials.session_token);
        assert!(!shown.contains("t0k3n") && !shown.contains("\"x\"") && shown.contains("***"), "{shown}");
        assert!(shown.contains("AKOTHER"), "{shown}");
        assert_eq!(credentials.session_token.unwrap().reveal(), "t0k3n");
    }

    #[test]
    fn what_is_said_most_directly_counts() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("credentials");
        std::fs::write(&file, FILE).unwrap();
        let path = file.to_str().unwrap();
        let pair = [("AWS_ACCESS_KEY_ID", "AKENV"), ("AWS_SECRET_ACCESS_KEY", "e")];
        let usual = [("AWS_SHARED_CREDENTIALS_FILE", path)];
        let home = directory.path().join(".aws");
        std::fs::create_dir(&home).unwrap();
        std::fs::write(
            home.join("credentials"),
            "[default]\naws_access_key_id=AKHOME\naws_secret_access_key=h\n",
        )
        .unwrap();
        for (file, environment, expected) in [
            (Some(file.as_path()), pair.to_vec(), "AKDEFAULT"),
            (Some(file.as_path()), vec![("AWS_PROFILE", "other")], "AKOTHER"),
            (None, [pair.as_slice(), usual.as_slice()].concat(), "AKENV"),
            (None, usual.to_vec(), "AKDEFAULT"),
            (None, vec![("HOME", directory.path().to_str().unwrap())], "AKHOME"),
        ] {
            assert_eq!(find(file, &environment).unwrap().access_key_id, expected, "{environment:?}");
        }
        let settings = CredentialSettings {
            access_key_id: Some("AKFLAG".to_owned()),
            secret_access_key: Some(Secret::new("f")),
            file: Some(file),
            ..CredentialSettings::default()
        };
        let source = CredentialSource::find(&settings, &no_environment).unwrap();
        assert_eq!(source.current().access_key_id, "AKFLAG");
    }

    #[test]
    fn what_is_missing_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("credentials");
        for (text, environment, says) in [
            (FILE, vec![("AWS_PROFILE", "third")], "no section [third]"),
            ("[default]\naws_access_key_id = AK\n", vec![], "gives no secret access key"),
            ("[default]\nregion = x\n", vec![], "gives no access key id"),
            ("[default]\naws_access_key_id AK\n", vec![], ":2: this is not a line"),
            ("", vec![], "no section [default]"),
        ] {
            std::fs::write(&file, text).unwrap();
            let error = find(Some(&file), &environment).unwrap_err().to_string();
            assert!(error.contains(says), "{text:?}: {error}");
        }
        let error = find(None, &[("AWS_ACCESS_KEY_ID", "AK")]).unwrap_err().to_string();
        assert!(error.contains("the environment gives no secret access key"), "{error}");
        let error = find(None, &[("HOME", "/nowhere")]).unwrap_err().to_string();
        assert!(error.contains("/nowhere/.aws/credentials"), "{error}");
        let error = find(Some(Path::new("/nowhere/file")), &[]).unwrap_err().to_string();
        assert!(error.contains("/nowhere/file cannot be read"), "{error}");
    }

    #[test]
    fn a_changed_file_is_read_again_and_a_broken_one_is_not_believed() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("credentials");
        let write = |id: &str| {
            // As a rotation does it: a new file under the old name.
            let new = directory.path().join("new");
            std::fs::write(&new, format!("[default]\naws_access_key_id={id}\naws_secret_access_key=s\n"))
                .unwrap();
            std::fs::rename(new, &file).unwrap();
        };
        write("AKONE");
        let settings = CredentialSettings { file: Some(file.clone()), ..CredentialSettings::default() };
        let source = CredentialSource::find(&settings, &no_environment).unwrap();
        assert_eq!(source.current().access_key_id, "AKONE");
        write("AKTWO");
        assert_eq!(source.current().access_key_id, "AKTWO");
        std::fs::write(&file, "[default]\naws_acc").unwrap();
        assert_eq!(source.current().access_key_id, "AKTWO");
        std::fs::remove_file(&file).unwrap();
        assert_eq!(source.current().access_key_id, "AKTWO");
        write("AKTHREE");
        assert_eq!(source.current().access_key_id, "AKTHREE");
    }
}
