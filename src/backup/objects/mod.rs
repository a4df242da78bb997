//! Where backups are kept: an S3-compatible store, or a directory.
//!
//! Both hold whole objects under keys. What is here is what a backup needs of them, with one
//! contract for both:
//!
//! - **A put is atomic**: whoever looks finds the key whole, as it was before, or not at all; once
//!   it returns `Ok`, the object is durable.
//! - **Every wait has an end** ([`Patience`]): what may pass is tried again under one policy, what
//!   will not pass is told at once ([`ObjectError::is_retryable`]).
//! - **Nothing is silently short**: a body that ends early is resumed, a listing that cannot be
//!   complete is an error.
//! - **Keys** are relative to the location and plain (see `key.rs`), so that every store and every
//!   file system can hold them.

mod credentials;
mod download;
mod endpoint;
mod error;
#[cfg(any(test, feature = "planted-bugs"))]
mod faulty;
mod file;
mod judge;
mod key;
mod location;
mod multipart;
mod patience;
mod s3;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use bytes::Bytes;

pub use credentials::{CredentialSettings, CredentialSource, Credentials, CredentialsError, Secret};
pub use download::Download;
pub use error::{Act, ObjectError, Tried};
#[cfg(any(test, feature = "planted-bugs"))]
pub use faulty::{Fault, Faulty};
pub use file::FileTarget;
pub use location::{Location, LocationError};
pub use patience::Patience;
pub use s3::S3Target;

/// What an object carries besides its bytes: names of `a-z 0-9 -`, values of printable ASCII.
pub type Metadata = BTreeMap<String, String>;

/// How to reach a location. A directory needs none of it but `patience`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// `http://` or `https://`; none = AWS.
    pub endpoint: Option<String>,
    /// None = `us-east-1`.
    pub region: Option<String>,
    /// Whether the bucket goes into the path rather than the host name; none = with an endpoint.
    pub path_style: Option<bool>,
    /// Who we are to the store.
    pub credentials: CredentialSettings,
    /// How long things may take.
    pub patience: Patience,
}

/// What is put.
#[derive(Debug, Clone)]
pub enum Source {
    /// These bytes.
    Bytes(Bytes),
    /// The bytes of this file, which must not change meanwhile.
    File(PathBuf),
}

/// A line of a listing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// The key, relative to the location.
    pub key: String,
    /// The object's size.
    pub size_bytes: u64,
}

/// What there is to know of an object without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The object's size.
    pub size_bytes: u64,
    /// What it was put with.
    pub metadata: Metadata,
}

/// A place that holds objects. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Target {
    /// A directory.
    File(FileTarget),
    /// A bucket.
    S3(S3Target),
    /// Another one that fails as it is told to.
    #[cfg(any(test, feature = "planted-bugs"))]
    Faulty(Faulty),
}

/// Does the same with whichever target it is.
macro_rules! delegate {
    ($self:ident, $target:ident => $call:expr) => {
        match $self {
            Self::File($target) => $call,
            Self::S3($target) => $call,
            #[cfg(any(test, feature = "planted-bugs"))]
            Self::Faulty($target) => $call,
        }
    };
}

impl Target {
    /// Checks the settings and finds the credentials. Nothing is asked of the store yet.
    pub fn open(location: &Location, settings: &Settings) -> Result<Self, ObjectError> {
        match location {
            Location::File { directory } => {
                Ok(Self::File(FileTarget::new(directory.clone(), settings.patience)))
            }
            Location::S3 { bucket, prefix } => Ok(Self::S3(S3Target::open(bucket, prefix, settings)?)),
        }
    }

    /// Makes the directory if need be, or sees whether the bucket can be listed.
    pub async fn prepare(&self) -> Result<(), ObjectError> {
        delegate!(self, target => Box::pin(target.prepare()).await)
    }

    /// Stores an object, in place of the one that has the key, if any.
    ///
    /// Dropped or killed half-way, it leaves no object, but maybe parts of one that cost space:
    /// see [`Target::abort_unfinished`].
    pub async fn put(&self, key: &str, source: &Source, metadata: &Metadata) -> Result<(), ObjectError> {
        key::check_key(key)?;
        key::check_metadata(key, metadata)?;
        // The compound futures are large; boxed, they stay out of every caller's own.
        delegate!(self, target => Box::pin(target.put(key, source, metadata)).await)
    }

    /// Reads an object from `offset` on.
    pub async fn get(&self, key: &str, offset: u64) -> Result<Download, ObjectError> {
        key::check_key(key)?;
        delegate!(self, target => Box::pin(target.get(key, offset)).await)
    }

    /// What there is to know of an object without reading it.
    pub async fn head(&self, key: &str) -> Result<Head, ObjectError> {
        key::check_key(key)?;
        delegate!(self, target => Box::pin(target.head(key)).await)
    }

    /// All keys that begin with `prefix`, sorted by their bytes; everything for an empty one.
    ///
    /// A store may answer with an older state than it has: what is not listed may exist.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Listed>, ObjectError> {
        key::check_prefix(prefix)?;
        delegate!(self, target => Box::pin(target.list(prefix)).await)
    }

    /// Removes objects. Those that are not there count as removed. After an error some may be gone.
    pub async fn delete(&self, keys: &[String]) -> Result<(), ObjectError> {
        for key in keys {
            key::check_key(key)?;
        }
        delegate!(self, target => Box::pin(target.delete(keys)).await)
    }

    /// Frees what puts have left behind that began longer ago than `age` and never ended; says how
    /// many. The age must be longer than any put takes.
    pub async fn abort_unfinished(&self, age: Duration) -> Result<usize, ObjectError> {
        delegate!(self, target => Box::pin(target.abort_unfinished(age)).await)
    }

    /// How it is told to people: never with a secret.
    pub fn place(&self) -> String {
        delegate!(self, target => target.place())
    }
}
