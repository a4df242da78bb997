//! What a store's answer means: the codes of AWS and of the stores that imitate it.

use std::{error::Error, io};

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use super::{Act, Credentials, ObjectError, error::Tried};
use brock_net::task;

/// What a request was about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) act: Act,
    /// The bucket or the object, and the endpoint.
    pub(super) place: &'a str,
    /// The bucket alone, and the endpoint.
    pub(super) bucket_place: &'a str,
    pub(super) region: &'a str,
    pub(super) credentials: &'a Credentials,
}

/// A kind of trouble, and the codes that stand for it. The code decides; the status only where
/// there is none, because an answer of 200 may have an error in its body.
enum Kind {
    Passing,
    Expired,
    Refused,
    Denied,
    Clock,
    Region,
    NoBucket,
    NoObject,
    NoUpload,
    Changed,
    BehindEnd,
    Other,
}

/// Turns what the SDK says into what it means.
pub(super) fn judge<E>(request: Request<'_>, error: &SdkError<E>) -> ObjectError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let (act, place) = (request.act, request.place.to_owned());
    let passing = |reason: String| ObjectError::Passing {
        act,
        place: place.clone(),
        reason: task::bounded(&reason),
        tried: Tried::default(),
    };
    match error {
        SdkError::ServiceError(answer) => {
            let region = answer.raw().headers().get("x-amz-bucket-region");
            let metadata = answer.err().meta();
            answered(request, answer.raw().status().as_u16(), metadata.code(), metadata.message(), region)
        }
        // Not an answer of a store: cut short, or from something in between.
        SdkError::ResponseError(answer) => match answer.raw().status().as_u16() {
            200..=299 => passing("the answer cannot be read; it may have been cut short".to_owned()),
            status => answered(request, status, None, None, None),
        },
        SdkError::DispatchFailure(failure) => match certificate_problem(error) {
            Some(detail) => ObjectError::Certificate { act, place, detail },
            None if failure.is_user() => ObjectError::Refused { act, place, detail: chain(error) },
            None => passing(format!("the request did not get through: {}", chain(error))),
        },
        SdkError::TimeoutError(_) => passing("the request took too long".to_owned()),
        error => ObjectError::Refused { act, place, detail: chain(error) },
    }
}

/// What an answer with this status, code and message means.
pub(super) fn answered(
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
    // Some stores repeat the request in what they answer.
    let detail = task::bounded(&credentials.scrub(&detail));
    let access_key_id = credentials.access_key_id.clone();
    match kind(status, code) {
        Kind::Passing => ObjectError::Passing { act, place, reason: detail, tried: Tried::default() },
        Kind::Expired => ObjectError::CredentialsExpired { act, place, access_key_id, detail },
        Kind::Refused => ObjectError::CredentialsRefused { act, place, access_key_id, detail },
        Kind::Denied => ObjectError::AccessDenied { act, place, detail },
        Kind::Clock => ObjectError::Clock { act, place, detail },
        Kind::Region => ObjectError::WrongRegion { act, place, region: request.region.to_owned(), detail },
        Kind::NoBucket => ObjectError::NoPlace { place: bucket_place.to_owned() },
        Kind::NoObject => ObjectError::NotFound { place },
        Kind::NoUpload => ObjectError::UploadGone { place },
        Kind::Changed => ObjectError::Changed { place },
        Kind::BehindEnd => ObjectError::BehindEnd { place, offset: 0 },
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
        // The bytes were hurt on their way.
        | "IncompleteBody" | "BadDigest" | "XAmzContentSHA256Mismatch" | "XAmzContentChecksumMismatch" => Kind::Passing,
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
        "InvalidRange" => Kind::BehindEnd,
        _ => match status {
            301 | 302 | 307 | 308 => Kind::Region,
            401 => Kind::Refused,
            403 => Kind::Denied,
            404 if code.is_none() => Kind::NoObject,
            412 => Kind::Changed,
            416 => Kind::BehindEnd,
            // A success that turned into a failure after its head was sent.
            200..=299 => Kind::Passing,
            408 | 425 | 429 | 500 | 502..=504 | 507..=599 => Kind::Passing,
            _ => Kind::Other,
        },
    }
}

/// What rustls has against the other end's certificate, if that is what is wrong.
fn certificate_problem(error: &(dyn Error + 'static)) -> Option<String> {
    if let Some(problem @ rustls::Error::InvalidCertificate(_)) = error.downcast_ref() {
        return Some(problem.to_string());
    }
    // An `io::Error` hides what it was made of from `source`, and one may be made of another.
    let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    let found = inner.and_then(|inner| certificate_problem(inner));
    found.or_else(|| error.source().and_then(certificate_problem))
}

/// An error with its causes. The SDK's own has no secrets in it, only where the request went.
fn chain<E: Error + 'static>(error: &SdkError<E>) -> String {
    let mut text = error.to_string();
    let mut next = Error::source(error);
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    task::bounded(&text)
}

#[cfg(test)]
mod tests {
    use super::{super::Secret, *};

    #[test]
    fn every_answer_is_told_for_what_it_is() {
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
            (404, Some("NoSuchUpload"), false, "ended by somebody else"),
            (412, Some("PreconditionFailed"), false, "changed while it was read"),
            (416, Some("InvalidRange"), false, "ends before"),
            (501, Some("NotImplemented"), false, "refuses: NotImplemented"),
            (400, Some("InvalidArgument"), false, "refuses: InvalidArgument"),
        ] {
            let error = answered(request, status, code, None, None);
            assert_eq!(error.is_retryable(), retryable, "{status} {code:?}");
            let text = error.to_string();
            assert!(text.contains(says) && text.contains("http://h"), "{status} {code:?}: {text}");
        }
        let echo = Some("x-amz-security-token: t0k3n, s3cr3t");
        let error = answered(request, 400, Some("InvalidToken"), echo, None).to_string();
        assert!(!error.contains("t0k3n") && !error.contains("s3cr3t") && error.contains("***"), "{error}");
        let error = answered(request, 301, None, None, Some("eu-west-1")).to_string();
        assert!(error.contains("it is in eu-west-1"), "{error}");
    }
}
