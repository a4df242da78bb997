//! TLS failures: as sentences for operators, and as labels of `brock_handshake_failures_total`.

use std::{error::Error as StdError, io};

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};
use rustls_pki_types::UnixTime;

use super::{
    keypair::{self, STRONG_KEYS, SUPPORTED_KEYS},
    roles::RoleError,
};

/// Why a handshake failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandshakeFailure {
    /// The peer took too long.
    Timeout,
    /// The peer showed no certificate.
    NoCertificate,
    /// The peer's certificate is not from a trusted CA, or may not be used this way.
    Untrusted,
    /// The peer's certificate has expired or is not valid yet.
    Expired,
    /// The peer does not speak TLS 1.3.
    ProtocolVersion,
    /// The peer's certificate has been revoked.
    Revoked,
    /// The peer lacks the level of wire encryption, by what it offers or by its certificate.
    WireEncryption,
    /// The peer's certificate states no role.
    Role,
    /// There were too many handshakes at once, and this one was the oldest.
    Replaced,
    /// There are too many connections of callers with this role.
    NoPlace,
    /// The connection broke.
    Io,
    /// Any other reason, such as a port scanner.
    Other,
}

impl HandshakeFailure {
    /// The metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::NoCertificate => "no_certificate",
            Self::Untrusted => "untrusted",
            Self::Expired => "expired",
            Self::ProtocolVersion => "protocol_version",
            Self::Revoked => "revoked",
            Self::WireEncryption => "wire_encryption",
            Self::Role => "role",
            Self::Replaced => "replaced",
            Self::NoPlace => "no_place",
            Self::Io => "io",
            Self::Other => "other",
        }
    }

    /// Classifies the error of an accepting handshake.
    pub fn of(error: &io::Error) -> Self {
        let Some(error) = rustls_error(error) else { return Self::Io };
        match error {
            Error::NoCertificatesPresented => Self::NoCertificate,
            error if is_about_wire_encryption(error) => Self::WireEncryption,
            Error::PeerIncompatible(
                PeerIncompatible::Tls12NotOfferedOrEnabled
                | PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::SupportedVersionsExtensionRequired
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
            ) => Self::ProtocolVersion,
            Error::InvalidCertificate(certificate) => match certificate {
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => Self::Expired,
                CertificateError::Revoked => Self::Revoked,
                _ if role_error(error).is_some() => Self::Role,
                _ => Self::Untrusted,
            },
            _ => Self::Other,
        }
    }
}

/// What failed between two ends, as far as it matters for the remedy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// The other end refused our certificate, or wanted one.
    Refused,
    /// The other end's certificate is for another name.
    Name,
    /// No CA that we trust has signed the other end's certificate.
    Untrusted,
    /// The other end's certificate is not valid at this time.
    Dates,
    /// The other end's certificate has been revoked.
    Revoked,
    /// The other end's certificate is not a node's.
    Usage,
    /// The two ends have no level of wire encryption in common, or a certificate is too weak for it.
    WireEncryption,
    /// Anything else.
    Other,
}

impl Problem {
    /// Classifies an error of I/O, HTTP/2, gRPC or a dial; `None` if TLS is not the cause.
    pub fn of(error: &(dyn StdError + 'static)) -> Option<Self> {
        if causes(error).any(|cause| cause.is::<RoleError>()) {
            return Some(Self::Usage);
        }
        let error = find(error)?;
        if role_error(&error).is_some() {
            return Some(Self::Usage);
        }
        if untrusted_issuer(&error).is_some() {
            return Some(Self::Untrusted);
        }
        Some(match error {
            Error::AlertReceived(
                AlertDescription::ProtocolVersion | AlertDescription::NoApplicationProtocol,
            ) => Self::Other,
            Error::AlertReceived(AlertDescription::HandshakeFailure | AlertDescription::AccessDenied) => {
                Self::WireEncryption
            }
            Error::AlertReceived(_) => Self::Refused,
            ref error if is_about_wire_encryption(error) => Self::WireEncryption,
            Error::InvalidCertificate(certificate) => match certificate {
                CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::Untrusted,
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => Self::Dates,
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    Self::Name
                }
                CertificateError::Revoked => Self::Revoked,
                CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                    Self::Usage
                }
                _ => Self::Other,
            },
            _ => Self::Other,
        })
    }
}

/// Explains the TLS error inside an error of I/O, HTTP/2 or gRPC; `None` if TLS is not the cause.
///
/// With TLS 1.3 a client finishes its handshake before the server has verified its certificate. A refusal
/// arrives with the first read, wrapped in an error of the layer that was reading.
pub fn explain(error: &(dyn StdError + 'static)) -> Option<String> {
    find(error).map(|error| describe(&error))
}

/// Whether the peer ended the handshake with an alert, which is how a node refuses our certificate.
pub fn is_refusal(error: &(dyn StdError + 'static)) -> bool {
    matches!(find(error), Some(Error::AlertReceived(_)))
}

/// Whether the two ends have no key exchange, cipher suite or kind of signature in common.
pub(crate) fn is_nothing_in_common(error: &(dyn StdError + 'static)) -> bool {
    matches!(find(error), Some(Error::AlertReceived(AlertDescription::HandshakeFailure)))
}

/// The TLS error in a chain of causes.
fn find(error: &(dyn StdError + 'static)) -> Option<Error> {
    rustls_error(error).cloned().or_else(|| causes(error).find_map(lost_alert))
}

fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// The alert in an error of I/O that HTTP/2 has passed on: it keeps only the text, which is then exactly that of
/// rustls. What the other end says in a status is no error of I/O, whatever its words.
fn lost_alert(error: &(dyn StdError + 'static)) -> Option<Error> {
    let by_http2 = || error.downcast_ref::<h2::Error>().and_then(h2::Error::get_io);
    let text = error.downcast_ref::<io::Error>().or_else(by_http2)?.to_string();
    (0..=u8::MAX).map(|code| Error::AlertReceived(code.into())).find(|alert| alert.to_string() == text)
}

/// The rustls error in a chain of causes. The source of an `io::Error` is the source of the error that it
/// wraps, so the wrapped error itself is examined too.
pub(crate) fn rustls_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref::<Error>() {
            return Some(found);
        }
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(found) = wrapped.and_then(|wrapped| rustls_error(wrapped)) {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

/// The role error that our own verifier put into a rustls error.
pub(crate) fn role_error(error: &Error) -> Option<&RoleError> {
    match error {
        Error::InvalidCertificate(CertificateError::Other(other)) => other.0.downcast_ref(),
        _ => None,
    }
}

/// A certificate of a CA that is not trusted here.
#[derive(Debug, thiserror::Error)]
#[error(
    "the other end's certificate is not signed by a CA that we trust: it is signed by {issuer}, and we trust {trusted}. \
     Both ends need the same ca.crt"
)]
pub(crate) struct UntrustedIssuer {
    /// The name of that CA.
    pub(crate) issuer: String,
    /// The names of those that are trusted.
    pub(crate) trusted: String,
}

/// Whether no CA that is known has certified a chain. One that replaces another may have its name.
pub(crate) fn is_unknown_ca(error: &Error) -> bool {
    use CertificateError::{BadSignature, UnknownIssuer};
    matches!(error, Error::InvalidCertificate(UnknownIssuer | BadSignature))
        || untrusted_issuer(error).is_some()
}

/// The text of that, where our own verifier put it into a rustls error.
fn untrusted_issuer(error: &Error) -> Option<String> {
    match error {
        Error::InvalidCertificate(CertificateError::Other(other)) => {
            other.0.downcast_ref::<UntrustedIssuer>().map(ToString::to_string)
        }
        _ => None,
    }
}

/// Explains a handshake error. "The other end" is the peer that was dialled or accepted.
pub(crate) fn describe(error: &Error) -> String {
    if let Some(error) = role_error(error) {
        return error.to_string();
    }
    if let Some(text) = untrusted_issuer(error) {
        return text;
    }
    match error {
        Error::InvalidCertificate(certificate) => describe_certificate(certificate),
        Error::NoCertificatesPresented => "the other end showed no certificate".to_owned(),
        Error::AlertReceived(alert) => describe_alert(*alert),
        Error::NoApplicationProtocol => "the other end does not speak HTTP/2 (ALPN h2)".to_owned(),
        Error::InvalidMessage(_) => "the other end does not speak TLS: is the port right?".to_owned(),
        Error::PeerIncompatible(PeerIncompatible::NoSignatureSchemesInCommon) => {
            "the other end takes no signature of the key of our certificate: at wire encryption 256 it must be of \
             ECDSA P-384 or P-521, or of ML-DSA-87 where both ends have a CA of ML-DSA"
                .to_owned()
        }
        Error::PeerIncompatible(
            PeerIncompatible::NoKxGroupsInCommon | PeerIncompatible::NoCipherSuitesInCommon,
        ) => "the other end offers no key exchange or cipher suite of the required wire encryption".to_owned(),
        Error::PeerIncompatible(_) => format!("the other end does not speak TLS 1.3 as required: {error}"),
        _ => error.to_string(),
    }
}

/// Explains why our own certificate failed the check at load.
pub(crate) fn own_certificate(error: &Error) -> String {
    let Error::InvalidCertificate(error) = error else { return error.to_string() };
    match error {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "none of them has signed it. It comes from another CA, the wrong ca.crt was copied, or the certificate of \
             an intermediate CA is missing behind it in its file"
                .to_owned()
        }
        CertificateError::Revoked => "it has been revoked: issue a new one with `brock cert`".to_owned(),
        _ => format!("it {}", fault(error)),
    }
}

fn describe_certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "the other end's certificate is not signed by a CA that we trust: both ends need the same ca.crt"
                .to_owned()
        }
        CertificateError::NotValidForNameContext { expected, presented } => format!(
            "the other end's certificate is not for {}: it names {}. Dial it by one of those, or issue it a \
             certificate with `--host {0}`",
            expected.to_str(),
            presented_names(presented)
        ),
        _ => format!("the other end's certificate {}", fault(error)),
    }
}

/// Whether the two ends have no level of wire encryption in common, or a certificate is too weak for it.
fn is_about_wire_encryption(error: &Error) -> bool {
    matches!(
        error,
        Error::PeerIncompatible(
            PeerIncompatible::NoKxGroupsInCommon
                | PeerIncompatible::NoCipherSuitesInCommon
                | PeerIncompatible::NoSignatureSchemesInCommon,
        ) | Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)
    )
}

/// What is wrong with a certificate; follows its name.
fn fault(error: &CertificateError) -> String {
    match error {
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("expired on {}: it needs a new one, or a clock is wrong", unix_date(*not_after))
        }
        CertificateError::Expired => "has expired: it needs a new one, or a clock is wrong".to_owned(),
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("is not valid before {}: a clock is wrong", unix_date(*not_before))
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => format!(
            "may not be used this way: a node's needs the extended key usages serverAuth and clientAuth, a client's \
             needs clientAuth ({error})"
        ),
        CertificateError::Revoked => "has been revoked".to_owned(),
        CertificateError::ApplicationVerificationFailure => format!(
            "or a certificate above it is too weak for wire encryption 256: every key and signature of its chain must \
             be {STRONG_KEYS}"
        ),
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => format!(
            "or a certificate above it is signed by a key or in a way that is not supported: use {SUPPORTED_KEYS} and \
             SHA-256 or better for every CA"
        ),
        CertificateError::Other(other) => match other.0.downcast_ref::<webpki::Error>() {
            Some(webpki::Error::NameConstraintViolation) => {
                "or a certificate above it has a name that the name constraints of its CA do not permit: issue one for \
                 permitted names, or use a CA without such constraints"
                    .to_owned()
            }
            Some(webpki::Error::UnsupportedCertVersion) => {
                "or a certificate above it is not of X.509 version 3: issue it with extensions".to_owned()
            }
            Some(webpki::Error::EndEntityUsedAsCa | webpki::Error::PathLenConstraintViolated) => {
                "was issued by a certificate that may not issue it (CA:FALSE, or too short a path length)".to_owned()
            }
            Some(webpki::Error::CaUsedAsEndEntity) => {
                "is the certificate of a CA (CA:TRUE), which nodes and clients must not use".to_owned()
            }
            _ => format!("is invalid: {error}"),
        },
        _ => format!("is invalid: {error}"),
    }
}

/// rustls lists names as `DnsName("a")`, `IpAddress(1.2.3.4)`.
fn presented_names(presented: &[String]) -> String {
    let bare = |name: &String| {
        let inner = name.split_once('(').map_or(name.as_str(), |(_, inner)| inner.trim_end_matches(')'));
        inner.trim_matches('"').to_owned()
    };
    let is_host = |name: &&String| name.starts_with("DnsName") || name.starts_with("IpAddress");
    let names: Vec<String> = presented.iter().filter(is_host).map(bare).collect();
    if names.is_empty() { "no host at all".to_owned() } else { names.join(", ") }
}

fn describe_alert(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            "the other end refused our certificate: it does not trust the CA that signed it. Both ends need \
             the same ca.crt"
        }
        AlertDescription::CertificateExpired => {
            "the other end refused our certificate: it has expired or is not valid yet by that machine's clock"
        }
        AlertDescription::CertificateRevoked => "the other end refused our certificate: it has been revoked",
        AlertDescription::CertificateRequired => {
            "the other end requires a certificate and we showed none that it takes: there was none, or its signature is of \
             a kind that the wire encryption of the other end excludes"
        }
        AlertDescription::HandshakeFailure => {
            "the other end has no key exchange, cipher suite or certificate in common with us: it requires another \
             level of wire encryption (node.wire-encryption). The log there names what is missing"
        }
        AlertDescription::AccessDenied => {
            "the other end refused our certificate as too weak for its wire encryption, 256: every key and signature of \
             the chain must be ECDSA P-384 or P-521 with SHA-384 or better, or ML-DSA-87"
        }
        AlertDescription::CertificateUnknown => {
            "the other end refused our certificate: it trusts another CA, or the certificate states no role that is \
             accepted there. The log there has the reason"
        }
        AlertDescription::UnsupportedCertificate => {
            "the other end refused our certificate: its extended key usage does not allow this (clientAuth is needed)"
        }
        AlertDescription::BadCertificate => "the other end refused our certificate as malformed",
        AlertDescription::ProtocolVersion => "the other end does not speak TLS 1.3",
        AlertDescription::NoApplicationProtocol => "the other end does not speak HTTP/2 (ALPN h2)",
        _ => return format!("the other end ended the TLS connection with the alert {alert:?}"),
    }
    .to_owned()
}

fn unix_date(time: UnixTime) -> String {
    keypair::date(i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_is_a_refusal_wherever_it_hides() {
        let alert = || Error::AlertReceived(AlertDescription::UnknownCA);
        let direct = io::Error::new(io::ErrorKind::InvalidData, alert());
        let text_only = io::Error::other(alert().to_string());
        for error in [&direct, &text_only] {
            assert!(is_refusal(error), "{error:?}");
            assert!(
                explain(error).is_some_and(|reason| reason.contains("does not trust the CA")),
                "{error:?}"
            );
        }
        // What another node says about its own connections.
        let said = tonic::Status::unavailable(format!("a:1: {}", alert()));
        let quoted = io::Error::other(format!("a:1: {}", alert()));
        for error in [&said as &(dyn StdError + 'static), &quoted] {
            assert_eq!((is_refusal(error), explain(error), Problem::of(error)), (false, None, None));
        }
        let broken = io::Error::other("connection reset");
        assert!(!is_refusal(&broken));
        assert_eq!(explain(&broken), None);
    }
}
