//! What can go wrong with objects, and what to do next.

use std::{fmt, io, path::PathBuf, time::Duration};

use super::{CredentialsError, LocationError};
use brock_core::base::limits;

/// What was attempted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Storing an object.
    Put,
    /// Reading an object.
    Get,
    /// Asking for its size and metadata.
    Head,
    /// Listing keys.
    List,
    /// Removing objects.
    Delete,
    /// Freeing what unfinished puts have left.
    Abort,
    /// Making the place ready.
    Prepare,
}

impl Act {
    /// Its name as a metric's label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::Head => "head",
            Self::List => "list",
            Self::Delete => "delete",
            Self::Abort => "abort",
            Self::Prepare => "prepare",
        }
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Put => "storing",
            Self::Get => "reading",
            Self::Head => "looking at",
            Self::List => "listing",
            Self::Delete => "deleting from",
            Self::Abort => "freeing what unfinished uploads left in",
            Self::Prepare => "preparing",
        })
    }
}

/// Why an operation on objects failed. A `place` says the bucket, the key and the endpoint, or the
/// path; nothing here ever has a secret in it.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// There is no object under the key.
    #[error("{place} does not exist")]
    NotFound {
        /// Which one.
        place: String,
    },
    /// There is no such bucket or directory.
    #[error("{place} does not exist; create it, or correct the bucket, the directory or the endpoint")]
    NoPlace {
        /// Which one.
        place: String,
    },
    /// The store knows us and forbids it.
    #[error(
        "{act} {place}: access denied ({detail}); give the access key the permission, or correct the bucket"
    )]
    AccessDenied {
        /// What.
        act: Act,
        /// Where.
        place: String,
        /// The store's words.
        detail: String,
    },
    /// The store does not take the credentials.
    #[error(
        "{act} {place}: the store does not accept access key {access_key_id} ({detail}); check the access key id, \
         the secret access key and the session token"
    )]
    CredentialsRefused {
        /// What.
        act: Act,
        /// Where.
        place: String,
        /// Whose.
        access_key_id: String,
        /// The store's words.
        detail: String,
    },
    /// The session token has run out.
    #[error(
        "{act} {place}: the credentials of access key {access_key_id} have expired ({detail}); provide new ones (a \
         credentials file is read again when it changes)"
    )]
    CredentialsExpired {
        /// What.
        act: Act,
        /// Where.
        place: String,
        /// Whose.
        access_key_id: String,
        /// The store's words.
        detail: String,
    },
    /// There are no credentials to use.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The place cannot be one.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// The endpoint or the region cannot be one.
    #[error("'{value}' cannot be the {name} of a backup location: {problem}")]
    Setting {
        /// Which setting.
        name: &'static str,
        /// What was given, without what may be a password.
        value: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The clocks differ too much for signatures.
    #[error(
        "{act} {place}: the store's clock and this machine's differ too much ({detail}); set this machine's clock"
    )]
    Clock {
        /// What.
        act: Act,
        /// Where.
        place: String,
        /// The store's words.
        detail: String,
    },
    /// The bucket is elsewhere.
    #[error(
        "{act} {place}: the bucket is not in region {region} ({detail}); set the region, or the endpoint, to the bucket's"
    )]
    WrongRegion {
        /// What.
        act: Act,
        /// Where.
        place: String,
        /// Which one was asked.
        region: String,
        /// The store's words.
        detail: String,
    },
    /// The store or the way to it is in trouble.
    #[error("{act} {place}: {reason}{tried}; the fault may pass: it is tried again at the next occasion")]
    Passing {
        /// What.
        act: Act,
        /// Where.
        place: String,
        /// What happened last.
        reason: String,
        /// How often.
        tried: Tried,
    },
    /// No answer, or none in time.
    #[error(
        "{act} {place}: no answer within {after:?}{tried}; check that the store can be reached from here and how fast \
         the way to it is"
    )]
    TimedOut {
        /// What.
        act: Act,
        /// Where.
        place: String,
        /// How long.
        after: Duration,
        /// How often.
        tried: Tried,
    },
    /// The store refuses it for some other reason.
    #[error("{act} {place}: the store refuses: {detail}")]
    Refused {
        /// What.
        act: Act,
        /// Where.
        place: String,
        /// The store's words.
        detail: String,
    },
    /// The store cannot be trusted to be the one that is meant.
    #[error(
        "{act} {place}: the store's certificate is not accepted ({detail}); if it is from a CA of your own, add that \
         CA to the system's, or name its file in SSL_CERT_FILE"
    )]
    Certificate {
        /// What.
        act: Act,
        /// Where.
        place: String,
        /// What rustls says.
        detail: String,
    },
    /// The object was replaced while it was read.
    #[error("{place} changed while it was read; read it again from the start")]
    Changed {
        /// Which one.
        place: String,
    },
    /// An upload in parts is not known any more.
    #[error(
        "the upload of {place} was ended by somebody else, maybe by a rule of the bucket; store it again"
    )]
    UploadGone {
        /// Which one.
        place: String,
    },
    /// Reading was to go on behind the end.
    #[error(
        "{place} ends before byte {offset}: it is not the object that was read before; read it from the start"
    )]
    BehindEnd {
        /// Which one.
        place: String,
        /// Where reading was to go on.
        offset: u64,
    },
    /// The key or its metadata is not plain.
    #[error("'{key}' cannot be an object's key: {problem}; keys are {rule}")]
    BadKey {
        /// The key.
        key: String,
        /// What is wrong with it.
        problem: &'static str,
        /// What is right.
        rule: &'static str,
    },
    /// A listing would not end.
    #[error(
        "{place} holds more than {max} objects; give backups a prefix of their own, or remove old ones",
        max = limits::BACKUP_OBJECTS_MAX
    )]
    TooMany {
        /// Where.
        place: String,
    },
    /// The source is larger than an object may be.
    #[error("{place} would have {size_bytes} bytes; an object has at most {max}", max = limits::OBJECT_MAX_BYTES)]
    TooLarge {
        /// Which one.
        place: String,
        /// How many.
        size_bytes: u64,
    },
    /// The file that was to be stored is not what it was when it was opened.
    #[error("{} changed while it was being stored; nothing was stored", path.display())]
    SourceChanged {
        /// The file.
        path: PathBuf,
    },
    /// A file operation failed.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl ObjectError {
    /// Whether the same may succeed later without anybody changing anything about it.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Passing { .. } | Self::TimedOut { .. } => true,
            Self::Io { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::Interrupted
                    | io::ErrorKind::TimedOut
                    | io::ErrorKind::ResourceBusy
                    | io::ErrorKind::StaleNetworkFileHandle
                    | io::ErrorKind::HostUnreachable
                    | io::ErrorKind::NetworkDown
            ),
            Self::NotFound { .. }
            | Self::NoPlace { .. }
            | Self::AccessDenied { .. }
            | Self::CredentialsRefused { .. }
            | Self::CredentialsExpired { .. }
            | Self::Credentials(_)
            | Self::Location(_)
            | Self::Setting { .. }
            | Self::Clock { .. }
            | Self::WrongRegion { .. }
            | Self::Refused { .. }
            | Self::Certificate { .. }
            | Self::Changed { .. }
            | Self::UploadGone { .. }
            | Self::BehindEnd { .. }
            | Self::BadKey { .. }
            | Self::TooMany { .. }
            | Self::TooLarge { .. }
            | Self::SourceChanged { .. } => false,
        }
    }

    /// Whether the object is not there; everything else about the store is in order.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// Whether it is the credentials that are wrong, so that other ones may do.
    pub fn is_about_credentials(&self) -> bool {
        matches!(self, Self::CredentialsRefused { .. } | Self::CredentialsExpired { .. })
    }

    /// Adds how often it was tried before it was given up.
    pub(super) fn after(mut self, tries: u32, elapsed: Duration) -> Self {
        if let Self::Passing { tried, .. } | Self::TimedOut { tried, .. } = &mut self {
            *tried = Tried { tries, elapsed };
        }
        self
    }
}

/// How often something was tried, for a message; nothing when only once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tried {
    /// Attempts.
    pub tries: u32,
    /// From the first to the end of the last.
    pub elapsed: Duration,
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.tries {
            0 | 1 => Ok(()),
            tries => write!(f, " (given up after {tries} attempts in {:.1} s)", self.elapsed.as_secs_f64()),
        }
    }
}
