//! What operations on objects take and return.

use std::{collections::BTreeMap, path::PathBuf};

use bytes::Bytes;

use super::{credentials::CredentialSettings, timeouts::Timeouts};

/// Metadata of an object: names of `a-z 0-9 -`, values of printable ASCII.
pub type Metadata = BTreeMap<String, String>;

/// How to reach a location. A directory needs only `timeouts`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// An `http://` or `https://` URL; `None` = AWS.
    pub endpoint: Option<String>,
    /// `None` = `us-east-1`.
    pub region: Option<String>,
    /// Whether the bucket is in the path rather than in the host name; `None` = if there is an endpoint.
    pub path_style: Option<bool>,
    /// The credentials that requests are signed with.
    pub credentials: CredentialSettings,
    /// How long operations may take.
    pub timeouts: Timeouts,
}

/// The content of a new object.
#[derive(Debug, Clone)]
pub enum Source {
    /// These bytes.
    Bytes(Bytes),
    /// The content of this file, which must not change during the put.
    File(PathBuf),
}

/// An entry of a listing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// The key, relative to the location.
    pub key: String,
    /// The object's size.
    pub size_bytes: u64,
}

/// An object's size and metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The object's size.
    pub size_bytes: u64,
    /// The metadata that it was put with.
    pub metadata: Metadata,
}
