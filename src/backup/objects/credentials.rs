//! The credentials that requests to an object store are signed with.

use std::{fmt, io, path::PathBuf};

/// Whether a text can be part of a credential: an HTTP header must be able to contain it. A line break at its
/// end is the most frequent mistake; the SDK panics on one in an access key id.
pub fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself.
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

/// An access key, as requests are signed with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Not secret: every request contains it.
    pub access_key_id: String,
    /// The secret half of the key.
    pub secret_access_key: Secret,
    /// Only with credentials that expire.
    pub session_token: Option<Secret>,
}

impl Credentials {
    /// The credentials that `place` gives: both halves, or neither (`None`).
    pub(super) fn given(
        access_key_id: Option<String>,
        secret_access_key: Option<Secret>,
        session_token: Option<Secret>,
        place: impl Fn() -> String,
    ) -> Result<Option<Self>, CredentialsError> {
        let half = |missing| Err(CredentialsError::Half { place: place(), missing });
        match (access_key_id, secret_access_key) {
            (Some(access_key_id), Some(secret_access_key)) => {
                let credentials = Self { access_key_id, secret_access_key, session_token };
                match credentials.malformed() {
                    Some(what) => Err(CredentialsError::Malformed { place: place(), what }),
                    None => Ok(Some(credentials)),
                }
            }
            (Some(_), None) => half("secret access key"),
            (None, Some(_)) => half("access key id"),
            (None, None) => Ok(None),
        }
    }

    /// The first field that no credential can be.
    fn malformed(&self) -> Option<&'static str> {
        let token = self.session_token.as_ref().map_or("", Secret::reveal);
        let secret = self.secret_access_key.reveal();
        [
            (self.access_key_id.as_str(), "access key id"),
            (secret, "secret access key"),
            (token, "session token"),
        ]
        .into_iter()
        .find_map(|(text, name)| (!is_plain(text)).then_some(name))
    }

    /// A text with these secrets replaced.
    pub(super) fn scrub(&self, text: &str) -> String {
        let secrets = std::iter::once(&self.secret_access_key).chain(&self.session_token);
        secrets
            .filter(|secret| !secret.0.is_empty())
            .fold(text.to_owned(), |text, secret| text.replace(&secret.0, "***"))
    }
}

/// The settings for credentials. Without them the environment applies, as `credential_source` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CredentialSettings {
    /// Belongs together with the secret.
    pub access_key_id: Option<String>,
    /// Belongs together with the id.
    pub secret_access_key: Option<Secret>,
    /// Only with credentials that expire.
    pub session_token: Option<Secret>,
    /// An AWS shared credentials file.
    pub file: Option<PathBuf>,
}

/// Why there are no usable credentials.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// No source gives any.
    #[error(
        "there are no credentials for the backup location: give an access key id and a secret access key, set \
         AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, write them to {}, or give this machine or container an AWS role",
        file.display()
    )]
    Nowhere {
        /// The usual credentials file.
        file: PathBuf,
    },
    /// One half is missing.
    #[error("{place} gives no {missing}: an access key id and its secret access key belong together")]
    Half {
        /// The source of the other half.
        place: String,
        /// The missing half.
        missing: &'static str,
    },
    /// A field contains characters that no request can carry.
    #[error(
        "{place} gives a malformed {what}: it contains a space, a line break or another character that none has"
    )]
    Malformed {
        /// The source.
        place: String,
        /// The field.
        what: &'static str,
    },
    /// The file cannot be read.
    #[error("the credentials file {} cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// The file lacks the section.
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
    /// The file is not a credentials file.
    #[error("{}:{line}: this is not a line of a credentials file: neither [section] nor name = value", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line's number, from 1.
        line: usize,
    },
    /// A service of AWS gave none.
    #[error("cannot get credentials from AWS: {reason}")]
    Provider {
        /// The provider's errors.
        reason: String,
        /// Whether a later attempt may succeed.
        is_transient: bool,
    },
}

impl CredentialsError {
    /// Whether a later attempt may succeed.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Provider { is_transient: true, .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_that_no_header_can_carry_are_rejected_and_not_repeated() {
        let given = |id: &str, secret: &str, token: Option<&str>| {
            let (id, secret) = (Some(id.to_owned()), Some(Secret::new(secret)));
            Credentials::given(id, secret, token.map(Secret::new), || "the environment".to_owned())
        };
        assert!(given("AKID", "s/+=", Some("t+/=")).is_ok());
        for (id, secret, token, what) in [
            ("AK\nID", "s", None, "access key id"),
            ("AK ID", "s", None, "access key id"),
            ("AKID\u{e9}", "s", None, "access key id"),
            ("AKID", "s3cr3t\n", None, "secret access key"),
            ("AKID", "s", Some("t0k3n\r\nx: y"), "session token"),
        ] {
            let error = given(id, secret, token).unwrap_err().to_string();
            let leaks = ["t0k3n", "s3cr3t"].iter().any(|secret| error.contains(secret));
            assert!(error.contains(&format!("malformed {what}")) && !leaks, "{error}");
        }
    }
}
