//! What a store's answer means: the error codes of AWS and of compatible stores.

use std::{error::Error, io};

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use super::{
    causes::with_causes,
    credentials::Credentials,
    error::{Act, Attempts, ObjectError},
};
use brock_net::task;

/// The request that failed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) act: Act,
    /// The bucket or the object, with the endpoint.
    pub(super) place: &'a str,
    /// The bucket, with the endpoint.
    pub(super) bucket_place: &'a str,
    pub(super) region: &'a str,
    pub(super) credentials: &'a Credentials,
}

/// The kinds of errors. The code decides; the status counts only without a code, because an answer with
/// status 200 may have an error in its body.
enum Kind {
    Transient,
    Expired,
    Refused,
    Denied,
    Clock,
    Region,
    NoBucket,
    NoObject,
    NoUpload,
    Changed,
    PastEnd,
    Other,
}

/// The meaning of an error of the SDK.
pub(super) fn failure<E>(request: Request<'_>, error: &SdkError<E>) -> ObjectError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let (act, place) = (request.act, request.place.to_owned());
    let transient = |reason: String| ObjectError::Transient {
        act,
        place: place.clone(),
        reason: task::bounded(&reason),
        attempts: Attempts::default(),
    };
    match error {
        SdkError::ServiceError(response) => {
            let region = response.raw().headers().get("x-amz-bucket-region");
            let metadata = response.err().meta();
            answer(request, response.raw().status().as_u16(), metadata.code(), metadata.message(), region)
        }
        // Not an answer of the store: it was cut short, or comes from a proxy.
        SdkError::ResponseError(response) => match response.raw().status().as_u16() {
            200..=299 => transient("the answer cannot be read; it may have been cut short".to_owned()),
            status => answer(request, status, None, None, None),
        },
        SdkError::DispatchFailure(failure) => match certificate_problem(error) {
            Some(detail) => ObjectError::Certificate { act, place, detail },
            None if failure.is_user() => ObjectError::Refused { act, place, detail: with_causes(error) },
            None => {
                let note = proxy_note(&|name| std::env::var(name).ok());
                transient(format!("the request did not get through: {}{note}", with_causes(error)))
            }
        },
        SdkError::TimeoutError(_) => {
            let note = proxy_note(&|name| std::env::var(name).ok());
            transient(format!("the request took too long{note}"))
        }
        error => ObjectError::Refused { act, place, detail: with_causes(error) },
    }
}

/// The variable that names a proxy, if one does. Its value may hold a password.
fn proxy_note(variable: &dyn Fn(&str) -> Option<String>) -> String {
    let names = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];
    match names.into_iter().find(|name| variable(name).is_some_and(|value| !value.is_empty())) {
        Some(name) => {
            format!(" ({name} is set: requests go through that proxy unless NO_PROXY names the store)")
        }
        None => String::new(),
    }
}

/// The meaning of an answer with this status, code and message.
pub(super) fn answer(
    request: Request<'_>,
    status: u16,
    code: Option<&str>,
    message: Option<&str>,
    region: Option<&str>,
) -> ObjectError {
    let Request { act, bucket_place, credentials, .. } = request;
    let place = request.place.to_owned();
    let mut detail = match (code, message) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => format!("{code}, HTTP status {status}"),
        (None, _) => format!("HTTP status {status}"),
    };
    if let Some(region) = region {
        detail = format!("{detail}; it is in {region}");
    }
    // Some stores repeat the request in their answer.
    let detail = task::bounded(&credentials.scrub(&detail));
    let access_key_id = credentials.access_key_id.clone();
    match kind(status, code) {
        Kind::Transient => {
            ObjectError::Transient { act, place, reason: detail, attempts: Attempts::default() }
        }
        Kind::Expired => ObjectError::CredentialsExpired { act, place, access_key_id, detail },
        Kind::Refused => ObjectError::CredentialsRefused { act, place, access_key_id, detail },
        Kind::Denied => ObjectError::AccessDenied { act, place, detail },
        Kind::Clock => ObjectError::Clock { act, place, detail },
        Kind::Region => ObjectError::WrongRegion { act, place, region: request.region.to_owned(), detail },
        Kind::NoBucket => ObjectError::NoPlace { place: bucket_place.to_owned() },
        Kind::NoObject => ObjectError::NotFound { place },
        Kind::NoUpload => ObjectError::UploadGone { place },
        Kind::Changed => ObjectError::Changed { place },
        Kind::PastEnd => ObjectError::PastEnd { place, offset: 0 },
        Kind::Other => ObjectError::Refused { act, place, detail },
    }
}

fn kind(status: u16, code: Option<&str>) -> Kind {
    match code.unwrap_or_default() {
        "InternalError" | "InternalFailure" | "ServiceUnavailable" | "SlowDown" | "SlowDownRead"
        | "SlowDownWrite" | "Throttling" | "ThrottlingException" | "ThrottledException"
        | "RequestThrottled" | "RequestThrottledException" | "RequestLimitExceeded" | "TooManyRequests"
        | "TooManyRequestsException" | "BandwidthLimitExceeded" | "RequestTimeout"
        | "RequestTimeoutException" | "OperationAborted" | "ConditionalRequestConflict"
        // The bytes were damaged in transit.
        | "IncompleteBody" | "BadDigest" | "XAmzContentSHA256Mismatch" | "XAmzContentChecksumMismatch" => Kind::Transient,
        "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" => Kind::Expired,
        "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken" | "InvalidSecurity"
        | "NotSignedUp" | "Unauthorized" | "UnrecognizedClientException" | "InvalidClientTokenId" => Kind::Refused,
        "AccessDenied" | "AllAccessDisabled" | "AccountProblem" | "Forbidden" => Kind::Denied,
        "RequestTimeTooSkewed" | "RequestExpired" => Kind::Clock,
        "PermanentRedirect" | "TemporaryRedirect" | "Redirect" | "AuthorizationHeaderMalformed"
        | "IllegalLocationConstraintException" => Kind::Region,
        "NoSuchBucket" => Kind::NoBucket,
        "NoSuchKey" | "NotFound" => Kind::NoObject,
        "NoSuchUpload" => Kind::NoUpload,
        "PreconditionFailed" => Kind::Changed,
        "InvalidRange" => Kind::PastEnd,
        _ => match status {
            301 | 302 | 307 | 308 => Kind::Region,
            401 => Kind::Refused,
            403 => Kind::Denied,
            404 if code.is_none() => Kind::NoObject,
            412 => Kind::Changed,
            416 => Kind::PastEnd,
            // The store failed after it had sent the head of the answer.
            200..=299 => Kind::Transient,
            408 | 425 | 429 | 500 | 502..=504 | 507..=599 => Kind::Transient,
            _ => Kind::Other,
        },
    }
}

/// Why rustls rejects the store's certificate, if it does.
fn certificate_problem(error: &(dyn Error + 'static)) -> Option<String> {
    if let Some(problem @ rustls::Error::InvalidCertificate(_)) = error.downcast_ref() {
        return Some(problem.to_string());
    }
    // `source` does not show the inner error of an `io::Error`, and they may be nested.
    let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    let found = inner.and_then(|inner| certificate_problem(inner));
    found.or_else(|| error.source().and_then(certificate_problem))
}

#[cfg(test)]
mod tests {
    use super::{super::credentials::Secret, *};

    #[test]
    fn a_proxy_is_named_by_its_variable_alone() {
        let note = |set: &str| {
            let set = set.to_owned();
            proxy_note(&move |name| (name == set).then(|| "http://user:s3cr3t@proxy:3128".to_owned()))
        };
        assert_eq!(note("NO_PROXY"), "");
        assert!(note("https_proxy").starts_with(" (https_proxy is set: "));
        assert!(!note("HTTP_PROXY").contains("s3cr3t"));
    }

    #[test]
    fn every_answer_is_classified() {
        let credentials = Credentials {
            access_key_id: "AKID".to_owned(),
            secret_access_key: Secret::new("s3cr3t"),
            session_token: Some(Secret::new("t0k3n")),
        };
        let request = Request {
            act: Act::Put,
            place: "s3://b/k at http://h",
            bucket_place: "s3://b at http://h",
            region: "us-east-1",
            credentials: &credentials,
        };
        for (status, code, retryable, says) in [
            (500, None, true, "HTTP status 500"),
            (502, None, true, "502"),
            (503, Some("SlowDown"), true, "SlowDown"),
            (504, None, true, "504"),
            (429, None, true, "429"),
            (400, Some("RequestTimeout"), true, "RequestTimeout"),
            (200, Some("InternalError"), true, "InternalError"),
            (400, Some("BadDigest"), true, "BadDigest"),
            (400, Some("ExpiredToken"), false, "have expired"),
            (403, Some("ExpiredToken"), false, "AKID have expired"),
            (403, Some("SignatureDoesNotMatch"), false, "does not accept access key AKID"),
            (403, Some("InvalidAccessKeyId"), false, "check the access key id"),
            (401, Some("Unauthorized"), false, "does not accept"),
            (403, Some("AccessDenied"), false, "access denied"),
            (403, None, false, "access denied"),
            (403, Some("RequestTimeTooSkewed"), false, "clock"),
            (301, Some("PermanentRedirect"), false, "not in region us-east-1"),
            (400, Some("AuthorizationHeaderMalformed"), false, "not in region"),
            (404, Some("NoSuchBucket"), false, "s3://b at http://h does not exist; create it"),
            (404, Some("NoSuchKey"), false, "s3://b/k at http://h does not exist"),
            (404, None, false, "does not exist"),
            (404, Some("NoSuchUpload"), false, "ended by another program"),
            (412, Some("PreconditionFailed"), false, "changed while it was read"),
            (416, Some("InvalidRange"), false, "ends before"),
            (501, Some("NotImplemented"), false, "refuses: NotImplemented"),
            (400, Some("InvalidArgument"), false, "refuses: InvalidArgument"),
        ] {
            let error = answer(request, status, code, None, None);
            assert_eq!(error.is_retryable(), retryable, "{status} {code:?}");
            let text = error.to_string();
            assert!(text.contains(says) && text.contains("http://h"), "{status} {code:?}: {text}");
        }
        let echo = Some("x-amz-security-token: t0k3n, s3cr3t");
        let error = answer(request, 400, Some("InvalidToken"), echo, None).to_string();
        assert!(!error.contains("t0k3n") && !error.contains("s3cr3t") && error.contains("***"), "{error}");
        let error = answer(request, 301, None, None, Some("eu-west-1")).to_string();
        assert!(error.contains("it is in eu-west-1"), "{error}");
    }
}
