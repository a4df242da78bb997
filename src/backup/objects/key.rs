//! Which keys and metadata are allowed: those that every store and every file system accepts.

use std::collections::BTreeMap;

use brock_core::base::limits;

/// The allowed keys, for messages.
const KEY_RULE: &str = "letters, digits, '.', '_', '-', ':', '=' and single slashes between";

/// Why a key or its metadata is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{key}' cannot be an object's key: {problem}; keys are {rule}")]
pub struct BadKey {
    /// The key.
    pub key: String,
    /// What is wrong with it.
    pub problem: &'static str,
    /// What is allowed.
    pub rule: &'static str,
}

/// Rejects a key that some store or file system would not keep as it is.
pub(super) fn check_key(key: &str) -> Result<(), BadKey> {
    // The limit is that of S3. With a prefix, the whole is checked by the target.
    if key.is_empty() || key.len() > limits::OBJECT_KEY_MAX_BYTES {
        return Err(bad_key(key, "it is empty or too long"));
    }
    for name in key.split('/') {
        let problem = match name {
            "" => "it has an empty part: a slash at the beginning or the end, or two in a row",
            "." | ".." => "it has a part '.' or '..'",
            name if name.len() > limits::OBJECT_NAME_MAX_BYTES => "a part between slashes is too long",
            name if !name.bytes().all(is_plain) => "it has a character that is not allowed",
            _ => continue,
        };
        return Err(bad_key(key, problem));
    }
    Ok(())
}

/// Whether a listing may show this key. Another program's objects may have other keys.
pub(super) fn is_key(key: &str) -> bool {
    check_key(key).is_ok()
}

/// Rejects a text that no allowed key can begin with.
pub(super) fn check_prefix(prefix: &str) -> Result<(), BadKey> {
    let whole = prefix.strip_suffix('/').unwrap_or(prefix);
    if prefix.is_empty() { Ok(()) } else { check_key(whole) }
}

/// Rejects metadata that some store would change.
pub(super) fn check_metadata(key: &str, metadata: &BTreeMap<String, String>) -> Result<(), BadKey> {
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    // Values are HTTP headers, which stores trim.
    let is_value = |value: &str| value.bytes().all(|b| (b' '..=b'~').contains(&b)) && value.trim() == value;
    let size: usize = metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
    if size > limits::OBJECT_METADATA_MAX_BYTES {
        return Err(bad_key(key, "its metadata is too large"));
    }
    if metadata.iter().any(|(name, value)| !is_name(name) || !is_value(value)) {
        return Err(bad_key(key, "a name or a value of its metadata is not plain ASCII"));
    }
    Ok(())
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._-:=".contains(&byte)
}

fn bad_key(key: &str, problem: &'static str) -> BadKey {
    let shown = key.chars().take(100).collect::<String>().escape_debug().to_string();
    BadKey { key: shown, problem, rule: KEY_RULE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_keys_are_allowed() {
        for (key, good) in [
            ("a", true),
            ("node-1/2025/01/31/2025-01-31T10:00:00Z-full.age", true),
            ("id=7/x_y.z", true),
            ("...", true),
            ("", false),
            ("/a", false),
            ("a/", false),
            ("a//b", false),
            ("a/../b", false),
            ("..", false),
            (".", false),
            ("a b", false),
            ("a\\b", false),
            ("a~b", false),
            ("a%2e", false),
            ("é", false),
            ("a\n", false),
        ] {
            assert_eq!(is_key(key), good, "{key:?}");
        }
        assert!(is_key(&"x".repeat(200)) && !is_key(&"x".repeat(201)));
        assert!(!is_key(&"x/".repeat(600)));
    }

    #[test]
    fn a_prefix_may_be_empty_or_end_in_a_slash() {
        for (prefix, good) in
            [("", true), ("a", true), ("a/", true), ("a//", false), ("/", false), ("../", false)]
        {
            assert_eq!(check_prefix(prefix).is_ok(), good, "{prefix:?}");
        }
    }

    #[test]
    fn metadata_that_a_header_would_change_is_rejected() {
        for (name, value, good) in [
            ("expires", "2025-01-31T10:00:00Z", true),
            ("kind", "full backup", true),
            ("empty", "", true),
            ("Expires", "x", false),
            ("a_b", "x", false),
            ("", "x", false),
            ("a", " x", false),
            ("a", "x\r\ny: z", false),
            ("a", "é", false),
        ] {
            let metadata = BTreeMap::from([(name.to_owned(), value.to_owned())]);
            assert_eq!(check_metadata("k", &metadata).is_ok(), good, "{name}: {value:?}");
        }
        assert!(check_metadata("k", &BTreeMap::from([("a".to_owned(), "x".repeat(3000))])).is_err());
    }
}
