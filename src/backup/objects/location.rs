//! The URL of a location that stores objects.

use std::{fmt, path::PathBuf, str::FromStr};

use super::key;
use brock_core::base::advice;

/// A location that stores objects: `s3://bucket/prefix` or `file:///absolute/directory`.
///
/// After `file://` comes the plain path, without escapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A directory.
    File {
        /// An absolute path.
        directory: PathBuf,
    },
    /// A bucket, or the part of it under a prefix.
    S3 {
        /// Its name.
        bucket: String,
        /// Without slashes at its ends; empty = the whole bucket.
        prefix: String,
    },
}

/// Why a text is not a location.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// The scheme is neither `s3` nor `file`.
    #[error(
        "'{0}' is not the URL of a backup location; write s3://bucket/prefix or file:///absolute/directory. The \
         address of an S3-compatible store is given apart, as the endpoint"
    )]
    Scheme(String),
    /// The path after `file://` is not absolute.
    #[error("'{0}' has no absolute path; write three slashes and the whole path: file:///var/backups/brock")]
    NotAbsolute(String),
    /// The path after `file://` has what only a shell replaces.
    #[error("'{0}' {1}")]
    Unexpanded(String, &'static str),
    /// The bucket's name is invalid.
    #[error(
        "'{0}' is not the name of a bucket: 3 to 63 lower-case letters, digits, '.', '-' or '_', a letter or digit \
         at both ends"
    )]
    Bucket(String),
    /// The prefix is invalid.
    #[error(
        "'{0}' cannot be a prefix: letters, digits, '.', '_', '-', ':', '=' and single slashes between, no '..'"
    )]
    Prefix(String),
}

impl Location {
    /// A location of a bucket and a prefix.
    pub fn s3(bucket: &str, prefix: &str) -> Result<Self, LocationError> {
        let ends = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let bytes = bucket.as_bytes();
        let named = (3..=63).contains(&bytes.len())
            && bytes.iter().all(|b| ends(*b) || b"._-".contains(b))
            && bytes.first().is_some_and(|b| ends(*b))
            && bytes.last().is_some_and(|b| ends(*b))
            && !bucket.contains("..");
        if !named {
            return Err(LocationError::Bucket(bucket.escape_debug().to_string()));
        }
        Ok(Self::S3 { bucket: bucket.to_owned(), prefix: checked_prefix(prefix)?.to_owned() })
    }

    /// The part of this location under a prefix.
    pub fn within(self, prefix: &str) -> Result<Self, LocationError> {
        match (self, checked_prefix(prefix)?) {
            (location, "") => Ok(location),
            (Self::File { directory }, prefix) => Ok(Self::File { directory: directory.join(prefix) }),
            (Self::S3 { bucket, prefix: outer }, prefix) => Self::s3(&bucket, &format!("{outer}/{prefix}")),
        }
    }
}

fn checked_prefix(prefix: &str) -> Result<&str, LocationError> {
    let trimmed = prefix.trim_matches('/');
    if !trimmed.is_empty() && !key::is_key(trimmed) {
        return Err(LocationError::Prefix(prefix.escape_debug().to_string()));
    }
    Ok(trimmed)
}

impl FromStr for Location {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, LocationError> {
        if let Some(rest) = text.strip_prefix("s3://") {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            return Self::s3(bucket, prefix);
        }
        let Some(path) = text.strip_prefix("file://") else {
            return Err(LocationError::Scheme(shown(text)));
        };
        if let Some(mistake) = advice::on_path(path) {
            return Err(LocationError::Unexpanded(shown(text), mistake));
        }
        let directory = PathBuf::from(path);
        let climbs = directory.components().any(|part| part == std::path::Component::ParentDir);
        if !directory.is_absolute() || climbs || path.contains('\0') {
            return Err(LocationError::NotAbsolute(shown(text)));
        }
        Ok(Self::File { directory })
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { directory } => write!(f, "file://{}", directory.display()),
            Self::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

/// A URL with a possible password removed.
fn shown(text: &str) -> String {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    match authority.rsplit_once('@') {
        Some((user, _)) => text.replacen(user, "***", 1).escape_debug().to_string(),
        None => text.escape_debug().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_read_and_written() {
        for (text, canonical) in [
            ("s3://backups", "s3://backups"),
            ("s3://backups/", "s3://backups"),
            ("s3://my.backups-1/brock/eu/", "s3://my.backups-1/brock/eu"),
            ("file:///var/backups", "file:///var/backups"),
            ("file:///with space/100%", "file:///with space/100%"),
        ] {
            let location: Location = text.parse().unwrap();
            assert_eq!(location.to_string(), canonical, "{text}");
            assert_eq!(canonical.parse(), Ok(location), "{text}");
        }
    }

    #[test]
    fn an_invalid_location_is_rejected_with_a_reason() {
        for (text, says) in [
            ("", "write s3://bucket/prefix"),
            ("/var/backups", "write s3://bucket/prefix"),
            ("https://s3.example.com/bucket", "as the endpoint"),
            ("S3://bucket", "write s3://bucket/prefix"),
            ("s3://", "not the name of a bucket"),
            ("s3:///prefix", "not the name of a bucket"),
            ("s3://ab", "not the name of a bucket"),
            ("s3://Bucket", "not the name of a bucket"),
            ("s3://-bucket", "not the name of a bucket"),
            ("s3://a..b", "not the name of a bucket"),
            ("s3://bucket/a/../b", "cannot be a prefix"),
            ("s3://bucket/a b", "cannot be a prefix"),
            ("s3://bucket/a//b", "cannot be a prefix"),
            ("file://relative", "three slashes"),
            ("file://localhost/x", "three slashes"),
            ("file:///a/../b", "no absolute path"),
            ("file://", "three slashes"),
        ] {
            let error = text.parse::<Location>().unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn a_password_in_a_url_is_not_repeated() {
        let error = "https://id:hunter2@s3.example.com/b".parse::<Location>().unwrap_err().to_string();
        assert!(!error.contains("hunter2") && error.contains("s3.example.com"), "{error}");
    }
}
