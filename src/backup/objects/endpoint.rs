//! Checks the endpoint and the region of an S3-compatible store.

use super::{credentials::Credentials, error::ObjectError, object::Settings};

/// What is wrong with these settings, as far as no store is needed to know it. Each with the last part of the
/// setting's name.
pub fn problems(settings: &Settings) -> Vec<(&'static str, ObjectError)> {
    let Settings { endpoint, region, credentials, .. } = settings;
    let given = Credentials::given(
        credentials.access_key_id.clone(),
        credentials.secret_access_key.clone(),
        credentials.session_token.clone(),
        || "the configuration of backups".to_owned(),
    );
    [
        ("endpoint", endpoint.as_deref().map_or(Ok(()), check_endpoint)),
        ("region", region.as_deref().map_or(Ok(()), check_region)),
        ("access-key-id", given.map(|_| ()).map_err(ObjectError::from)),
    ]
    .into_iter()
    .filter_map(|(name, checked)| Some((name, checked.err()?)))
    .collect()
}

/// Rejects a text that cannot be a region.
pub(super) fn check_region(region: &str) -> Result<(), ObjectError> {
    let plain = region.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if !region.is_empty() && region.len() <= 64 && plain {
        return Ok(());
    }
    let value = region.escape_debug().to_string();
    Err(ObjectError::Setting { name: "region", value, problem: "write it like eu-west-1, or auto" })
}

/// Rejects a text that is not an `http://` or `https://` URL, or contains a password.
pub(super) fn check_endpoint(endpoint: &str) -> Result<(), ObjectError> {
    let refuse = |value: &str, problem| {
        Err(ObjectError::Setting { name: "endpoint", value: value.escape_debug().to_string(), problem })
    };
    if endpoint.contains('@') {
        return refuse("***", "it contains a user or a password; give the access key apart");
    }
    let Ok(uri) = endpoint.parse::<http::Uri>() else { return refuse(endpoint, "it is not a URL") };
    if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none_or(str::is_empty) {
        return refuse(
            endpoint,
            "write http:// or https://, the host, and the port if it is not the default",
        );
    }
    if uri.query().is_some() {
        return refuse(endpoint, "it contains a question mark");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_and_regions_are_checked_and_passwords_not_repeated() {
        for (endpoint, problem) in [
            ("http://127.0.0.1:9000", None),
            ("https://s3.example.com", None),
            ("https://example.com/storage/v1/s3", None),
            ("s3.example.com", Some("write http://")),
            ("s3.example.com:9000", Some("write http://")),
            ("ftp://s3.example.com", Some("write http://")),
            ("https://", Some("not a URL")),
            ("https://h/?x=y", Some("question mark")),
            ("https://id:hunter2@h", Some("give the access key apart")),
        ] {
            match (check_endpoint(endpoint), problem) {
                (Ok(()), None) => {}
                (Err(error), Some(problem)) => {
                    let text = error.to_string();
                    assert!(text.contains(problem) && !text.contains("hunter2"), "{endpoint}: {text}");
                }
                (result, _) => panic!("{endpoint}: {result:?}"),
            }
        }
        assert!(check_region("auto").is_ok() && check_region("eu-west-1").is_ok());
        assert!(check_region("").is_err() && check_region("eu west").is_err());
    }
}
