//! Where backups are stored: an S3-compatible object store, or a directory.
//!
//! Both store whole objects under keys, and both keep one contract:
//!
//! - **A put is atomic**: a reader finds the new object, the previous one or none, never a part of one.
//!   After `Ok` the object is durable.
//! - **Every wait ends** ([`Timeouts`]): one policy retries transient faults; any other fault is returned
//!   at once ([`ObjectError::is_retryable`]).
//! - **Nothing is silently incomplete**: a body that ends early is resumed; an incomplete listing is an
//!   error.
//! - **Keys** are relative to the location and plain (see `key`), so that every store and every file
//!   system accepts them.
//!
//! Modules, lowest first; each imports only those above it:
//!
//! - `key`: which keys and metadata are allowed; `location`: the URL of a location.
//! - `causes`: an error with its causes.
//! - `credentials`: an access key; `credentials_file`: a file of them; `cloud`: those of a workload on AWS;
//!   `credential_source`: which of them apply.
//! - `error`: what can go wrong; `endpoint`: checking endpoints and regions; `timeouts`: how long operations
//!   may take, and retries.
//! - `object`: settings, sources, listings.
//! - `blocking`: file operations off the runtime; `classify`: what the answers of a store mean; `bucket`:
//!   requests to a bucket.
//! - `download`: reading an object; `multipart`: storing a large one.
//! - `file`: a directory as a target; `s3`: a bucket as a target; `s3_dialling`: one at a fixed address,
//!   for tests.
//! - `target`: any of them; `faulty`: one that fails on request, for tests. These two contain each other.

mod blocking;
mod bucket;
mod causes;
mod classify;
mod cloud;
mod credential_source;
mod credentials;
mod credentials_file;
mod download;
mod endpoint;
mod error;
#[cfg(any(test, feature = "planted-bugs"))]
mod faulty;
mod file;
mod key;
mod location;
mod multipart;
mod object;
mod s3;
#[cfg(any(test, feature = "planted-bugs"))]
mod s3_dialling;
mod target;
mod timeouts;

pub use credentials::{CredentialSettings, Credentials, CredentialsError, Secret, is_plain};
pub use download::Download;
pub use endpoint::problems;
pub use error::{Act, Attempts, ObjectError};
#[cfg(any(test, feature = "planted-bugs"))]
pub use faulty::{Fault, Faulty};
pub use file::FileTarget;
pub use key::BadKey;
pub use location::{Location, LocationError};
pub use object::{Head, Listed, Metadata, Settings, Source};
pub use s3::S3Target;
pub use target::Target;
pub use timeouts::Timeouts;
