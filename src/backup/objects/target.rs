//! A location that stores objects, of whatever kind.

use std::time::Duration;

#[cfg(any(test, feature = "planted-bugs"))]
use super::faulty::Faulty;
use super::{
    download::Download,
    error::ObjectError,
    file::FileTarget,
    key,
    location::Location,
    object::{Head, Listed, Metadata, Settings, Source},
    s3::S3Target,
};

/// A location that stores objects. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Target {
    /// A directory.
    File(FileTarget),
    /// A bucket.
    S3(S3Target),
    /// Another target that fails on request.
    #[cfg(any(test, feature = "planted-bugs"))]
    Faulty(Faulty),
}

/// Calls the same method of the target inside.
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
    /// Checks the settings. Sends no request.
    pub fn open(location: &Location, settings: &Settings) -> Result<Self, ObjectError> {
        match location {
            Location::File { directory } => {
                Ok(Self::File(FileTarget::new(directory.clone(), settings.timeouts)))
            }
            Location::S3 { bucket, prefix } => Ok(Self::S3(S3Target::open(bucket, prefix, settings)?)),
        }
    }

    /// Fails if there are no credentials. If their provider only fails for the moment, logs that.
    pub async fn check_credentials(&self) -> Result<(), ObjectError> {
        match self {
            Self::S3(target) => Box::pin(target.check_credentials()).await,
            _ => Ok(()),
        }
    }

    /// Creates a missing directory, or checks that the bucket can be listed.
    pub async fn prepare(&self) -> Result<(), ObjectError> {
        delegate!(self, target => Box::pin(target.prepare()).await)
    }

    /// Stores an object. An existing object with the same key is replaced.
    ///
    /// A put that is dropped or killed stores no object, but may leave parts that take up space:
    /// [`Target::abort_unfinished`] frees them.
    pub async fn put(&self, key: &str, source: &Source, metadata: &Metadata) -> Result<(), ObjectError> {
        key::check_key(key)?;
        key::check_metadata(key, metadata)?;
        // The compound futures are large; boxed, they stay out of the callers' own.
        delegate!(self, target => Box::pin(target.put(key, source, metadata)).await)
    }

    /// Reads an object from `offset` on.
    pub async fn get(&self, key: &str, offset: u64) -> Result<Download, ObjectError> {
        key::check_key(key)?;
        delegate!(self, target => Box::pin(target.get(key, offset)).await)
    }

    /// Returns an object's size and metadata.
    pub async fn head(&self, key: &str) -> Result<Head, ObjectError> {
        key::check_key(key)?;
        delegate!(self, target => Box::pin(target.head(key)).await)
    }

    /// Returns all objects whose keys begin with `prefix`, sorted by key; all objects for an empty prefix.
    ///
    /// A store may answer from an older state: an object that is missing from the listing may exist.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Listed>, ObjectError> {
        key::check_prefix(prefix)?;
        delegate!(self, target => Box::pin(target.list(prefix)).await)
    }

    /// Deletes objects. Missing objects count as deleted. After an error some may be deleted.
    pub async fn delete(&self, keys: &[String]) -> Result<(), ObjectError> {
        for key in keys {
            key::check_key(key)?;
        }
        delegate!(self, target => Box::pin(target.delete(keys)).await)
    }

    /// Frees what puts have left behind that began longer ago than `age` and never ended. Returns how
    /// many. The age must be longer than any put takes.
    pub async fn abort_unfinished(&self, age: Duration) -> Result<usize, ObjectError> {
        delegate!(self, target => Box::pin(target.abort_unfinished(age)).await)
    }

    /// The location, for messages. It contains no secret.
    pub fn place(&self) -> String {
        delegate!(self, target => target.place())
    }
}
