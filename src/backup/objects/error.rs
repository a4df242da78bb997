//! What can go wrong with objects, and what the operator can do.

use std::{fmt, io, path::PathBuf, time::Duration};

use super::{credentials::CredentialsError, key::BadKey, location::LocationError};
use brock_core::base::{advice, limits};

/// The operation that was attempted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Store an object.
    Put,
    /// Read an object.
    Get,
    /// Ask for an object's size and metadata.
    Head,
    /// List objects.
    List,
    /// Delete objects.
    Delete,
    /// Free what unfinished puts have left behind.
    Abort,
    /// Create the directory, or check the bucket.
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

/// Why an operation on objects failed. A `place` is the bucket, the key and the endpoint, or the path. No
/// field contains a secret.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// There is no object with this key.
    #[error("{place} does not exist")]
    NotFound {
        /// The object.
        place: String,
    },
    /// The bucket or the directory does not exist.
    #[error("{place} does not exist; create it, or correct the bucket, the directory or the endpoint")]
    NoPlace {
        /// The object.
        place: String,
    },
    /// The store accepts the credentials, and forbids the operation.
    #[error(
        "{act} {place}: access denied ({detail}); give the access key the permission, or correct the bucket"
    )]
    AccessDenied {
        /// The operation.
        act: Act,
        /// The object or the location.
        place: String,
        /// The store's message.
        detail: String,
    },
    /// The store does not accept the credentials.
    #[error(
        "{act} {place}: the store does not accept access key {access_key_id} ({detail}); check the access key id, \
         the secret access key and the session token"
    )]
    CredentialsRefused {
        /// The operation.
        act: Act,
        /// The object or the location.
        place: String,
        /// Its key id.
        access_key_id: String,
        /// The store's message.
        detail: String,
    },
    /// The session token has expired.
    #[error(
        "{act} {place}: the credentials of access key {access_key_id} have expired ({detail}); provide new ones (a \
         changed credentials file is read again)"
    )]
    CredentialsExpired {
        /// The operation.
        act: Act,
        /// The object or the location.
        place: String,
        /// Its key id.
        access_key_id: String,
        /// The store's message.
        detail: String,
    },
    /// There are no usable credentials.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The location is invalid.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// The endpoint or the region is invalid.
    #[error("'{value}' cannot be the {name} of a backup location: {problem}")]
    Setting {
        /// Its name.
        name: &'static str,
        /// Its value, with a possible password removed.
        value: String,
        /// What is wrong, and what to write.
        problem: &'static str,
    },
    /// The two clocks differ too much for signatures.
    #[error(
        "{act} {place}: the store's clock and this machine's differ too much ({detail}); set this machine's clock"
    )]
    Clock {
        /// The operation.
        act: Act,
        /// The object or the location.
        place: String,
        /// The store's message.
        detail: String,
    },
    /// The bucket is in another region.
    #[error(
        "{act} {place}: the bucket is not in region {region} ({detail}); set the region, or the endpoint, to the bucket's"
    )]
    WrongRegion {
        /// The operation.
        act: Act,
        /// The object or the location.
        place: String,
        /// The region of the request.
        region: String,
        /// The store's message.
        detail: String,
    },
    /// The store or the network fails for the moment.
    #[error("{act} {place}: {reason}{attempts}; this may be transient: the node tries again later")]
    Transient {
        /// The operation.
        act: Act,
        /// The object or the location.
        place: String,
        /// The last error.
        reason: String,
        /// How many attempts were made.
        attempts: Attempts,
    },
    /// No answer in time.
    #[error(
        "{act} {place}: no answer within {after:?}{attempts}; check that this machine can reach the store, and how fast \
         the network is"
    )]
    TimedOut {
        /// The operation.
        act: Act,
        /// The object or the location.
        place: String,
        /// The time limit.
        after: Duration,
        /// How many attempts were made.
        attempts: Attempts,
    },
    /// The store refuses for another reason.
    #[error("{act} {place}: the store refuses: {detail}")]
    Refused {
        /// The operation.
        act: Act,
        /// The object or the location.
        place: String,
        /// The store's message.
        detail: String,
    },
    /// The store's certificate cannot be verified.
    #[error(
        "{act} {place}: the store's certificate is not accepted ({detail}); if it is from a CA of your own, add that \
         CA to the system's CAs, or name its file in SSL_CERT_FILE"
    )]
    Certificate {
        /// The operation.
        act: Act,
        /// The object or the location.
        place: String,
        /// The error of rustls.
        detail: String,
    },
    /// The object was replaced during the download.
    #[error("{place} changed while it was read; read it again from the start")]
    Changed {
        /// The object.
        place: String,
    },
    /// The store does not know the upload in parts any more.
    #[error(
        "the upload of {place} was ended by another program, maybe by a rule of the bucket; store it again"
    )]
    UploadGone {
        /// The object.
        place: String,
    },
    /// The offset is past the end of the object.
    #[error(
        "{place} ends before byte {offset}: it is not the object that was read before; read it from the start"
    )]
    PastEnd {
        /// The object.
        place: String,
        /// Where reading should begin.
        offset: u64,
    },
    /// The key or its metadata is not allowed.
    #[error(transparent)]
    BadKey(#[from] BadKey),
    /// The location holds too many objects to list.
    #[error(
        "{place} holds more than {max} objects; give backups a prefix of their own, or remove old ones",
        max = limits::BACKUP_OBJECTS_MAX
    )]
    TooMany {
        /// The object or the location.
        place: String,
    },
    /// The source is larger than an object may be.
    #[error("{place} would have {size_bytes} bytes; an object has at most {max}", max = limits::OBJECT_MAX_BYTES)]
    TooLarge {
        /// The object.
        place: String,
        /// The size of the source.
        size_bytes: u64,
    },
    /// The source file changed during the put.
    #[error("{} changed while it was being stored; nothing was stored", path.display())]
    SourceChanged {
        /// The file.
        path: PathBuf,
    },
    /// A file operation failed.
    #[error("{action} {}: {source}{}", path.display(), advice::on_file(source))]
    Io {
        /// The file operation.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Its error.
        source: io::Error,
    },
}

impl ObjectError {
    /// Whether the same operation may succeed later, without a change by the operator.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Transient { .. } | Self::TimedOut { .. } => true,
            Self::Io { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::Interrupted
                    | io::ErrorKind::TimedOut
                    | io::ErrorKind::ResourceBusy
                    | io::ErrorKind::StaleNetworkFileHandle
                    | io::ErrorKind::HostUnreachable
                    | io::ErrorKind::NetworkDown
            ),
            Self::Credentials(error) => error.is_retryable(),
            Self::NotFound { .. }
            | Self::NoPlace { .. }
            | Self::AccessDenied { .. }
            | Self::CredentialsRefused { .. }
            | Self::CredentialsExpired { .. }
            | Self::Location(_)
            | Self::Setting { .. }
            | Self::Clock { .. }
            | Self::WrongRegion { .. }
            | Self::Refused { .. }
            | Self::Certificate { .. }
            | Self::Changed { .. }
            | Self::UploadGone { .. }
            | Self::PastEnd { .. }
            | Self::BadKey(_)
            | Self::TooMany { .. }
            | Self::TooLarge { .. }
            | Self::SourceChanged { .. } => false,
        }
    }

    /// Whether only the object is missing: the store works.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// Whether other credentials may succeed.
    pub fn is_about_credentials(&self) -> bool {
        matches!(self, Self::CredentialsRefused { .. } | Self::CredentialsExpired { .. })
    }

    /// Adds the number of attempts and their duration to the message.
    pub(super) fn after(mut self, count: u32, elapsed: Duration) -> Self {
        if let Self::Transient { attempts, .. } | Self::TimedOut { attempts, .. } = &mut self {
            *attempts = Attempts { count, elapsed };
        }
        self
    }
}

/// How many attempts were made, for a message; shown only if there were several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attempts {
    /// Their number.
    pub count: u32,
    /// From the beginning of the first to the end of the last.
    pub elapsed: Duration,
}

impl fmt::Display for Attempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.count {
            0 | 1 => Ok(()),
            count => write!(f, " (given up after {count} attempts in {:.1} s)", self.elapsed.as_secs_f64()),
        }
    }
}
