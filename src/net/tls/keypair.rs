//! One certificate with its key, checked before the first use.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use rustls::{
    InconsistentKeys, RootCertStore,
    client::verify_server_cert_signed_by_trust_anchor,
    server::ParsedCertificate,
    sign::{CertifiedKey, SigningKey},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use x509_parser::{public_key::PublicKey, x509::X509Version};

use super::{
    TlsError,
    algorithms::KeyKind,
    errors, files,
    handshake::{self, Material},
    revocation::Revocations,
    roles::{self, PeerIdentity, RolePolicy},
};

/// What a key pair is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Accepting and dialling, as a node.
    Node,
    /// Dialling only.
    Client,
}

/// A certificate chain and the key of its leaf. They match, and the leaf was valid when they were loaded.
pub(crate) struct KeyPair {
    path: PathBuf,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl KeyPair {
    /// Reads `certificate` and the `.key` of the same stem next to it.
    pub(crate) fn load(certificate: PathBuf) -> Result<Self, TlsError> {
        let chain = files::certificates(&certificate)?;
        let key_path = certificate.with_extension("key");
        if matches!(key_path.try_exists(), Ok(false)) {
            return Err(TlsError::NoKey { key: key_path, certificate });
        }
        let key = files::private_key(&key_path)?;
        for (index, der) in chain.iter().enumerate() {
            check_version(&numbered(&certificate, index), der)?;
        }
        let pair = Self { path: certificate, chain, key };
        pair.check_match(key_path)?;
        Validity::of(&pair.path, pair.leaf())?.check(&pair.path)?;
        Ok(pair)
    }

    /// Refuses a key that cannot be used or is not that of the first certificate.
    fn check_match(&self, key_path: PathBuf) -> Result<(), TlsError> {
        let certificate = self.path.clone();
        let key = signing_key(&self.key, &key_path, self.leaf())?;
        let matches = |der: &CertificateDer<'static>| {
            CertifiedKey::new(vec![der.clone()], Arc::clone(&key)).keys_match()
        };
        match matches(self.leaf()) {
            Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(()),
            Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                Err(match self.chain.iter().position(|der| matches(der).is_ok()) {
                    Some(index) => TlsError::WrongOrder { key: key_path, certificate, place: index + 1 },
                    None => TlsError::KeyMismatch { key: key_path, certificate },
                })
            }
            Err(error) => {
                Err(TlsError::NotTrusted { path: certificate, reason: errors::own_certificate(&error) })
            }
        }
    }

    /// The identity that the leaf states; an error if it does not suit the purpose.
    pub(crate) fn identity(&self, policy: RolePolicy, purpose: Purpose) -> Result<PeerIdentity, TlsError> {
        let role_error = |source| TlsError::Role { path: self.path.clone(), source };
        let identity = PeerIdentity::of_certificate(self.leaf(), policy).map_err(role_error)?;
        match purpose {
            Purpose::Client => Ok(identity),
            Purpose::Node => {
                let identity = identity.require_node().map_err(role_error)?;
                if !roles::names_a_host(&roles::parse(self.leaf()).map_err(role_error)?) {
                    return Err(TlsError::NoSubjectAlternativeName { path: self.path.clone() });
                }
                Ok(identity)
            }
        }
    }

    /// The input of the TLS configurations.
    pub(crate) fn material<'a>(
        &'a self,
        dir: &'a Path,
        (roots, trusted): (Arc<RootCertStore>, &'a [CertificateDer<'static>]),
        revocations: Arc<Revocations>,
    ) -> Material<'a> {
        Material { dir, chain: &self.chain, key: &self.key, roots, trusted, revocations }
    }

    /// Checks that a peer with the same CAs accepts the certificate, in each direction that the purpose
    /// needs.
    pub(crate) fn check_trusted(&self, material: &Material<'_>, purpose: Purpose) -> Result<(), TlsError> {
        let not_trusted = |error| match self.out_of_date() {
            Some(problem) => problem,
            None => TlsError::NotTrusted { path: self.path.clone(), reason: errors::own_certificate(&error) },
        };
        let now = UnixTime::now();
        let intermediates = self.chain.get(1..).unwrap_or_default();
        handshake::client_verifier(material, handshake::provider())?
            .verify_client_cert(self.leaf(), intermediates, now)
            .map_err(not_trusted)?;
        material.revocations.check(self.leaf(), intermediates).map_err(not_trusted)?;
        match purpose {
            Purpose::Client => Ok(()),
            Purpose::Node => {
                let algorithms = handshake::provider().signature_verification_algorithms;
                ParsedCertificate::try_from(self.leaf())
                    .and_then(|leaf| {
                        let (roots, algorithms) = (&material.roots, algorithms.all);
                        verify_server_cert_signed_by_trust_anchor(
                            &leaf,
                            roots,
                            intermediates,
                            now,
                            algorithms,
                        )
                    })
                    .map_err(not_trusted)
            }
        }
    }

    /// The periods of validity of the chain, leaf first.
    pub(crate) fn validities(&self) -> Result<Vec<Validity>, TlsError> {
        self.chain.iter().map(|der| Validity::of(&self.path, der)).collect()
    }

    /// The first certificate of the chain that is not valid now.
    fn out_of_date(&self) -> Option<TlsError> {
        let check = |(index, der): (usize, &CertificateDer<'_>)| {
            let path = numbered(&self.path, index);
            Validity::of(&path, der).and_then(|validity| validity.check(&path)).err()
        };
        self.chain.iter().enumerate().find_map(check)
    }

    /// The kind of its key.
    pub(crate) fn kind(&self) -> KeyKind {
        KeyKind::of_certificate(self.leaf())
    }

    /// The chain, leaf first.
    pub(crate) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// Its certificate's file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn leaf(&self) -> &CertificateDer<'static> {
        // `files::certificates` returns at least one.
        &self.chain[0]
    }
}

/// How messages name a certificate of a file: for the second one and each further one, with `#` and its place.
pub(crate) fn numbered(path: &Path, index: usize) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if index == 0 { path.to_owned() } else { path.with_file_name(format!("{name}#{}", index + 1)) }
}

/// Refuses a certificate that has no room for names and usages.
fn check_version(path: &Path, der: &[u8]) -> Result<(), TlsError> {
    let certificate = roles::parse(der).map_err(|source| TlsError::Role { path: path.to_owned(), source })?;
    match certificate.version() {
        X509Version::V3 => Ok(()),
        other => Err(TlsError::Version { path: path.to_owned(), version: other.0.saturating_add(1) }),
    }
}

/// The key in a file, ready to sign; `der` is its certificate.
pub(crate) fn signing_key(
    key: &PrivateKeyDer<'static>,
    path: &Path,
    der: &[u8],
) -> Result<Arc<dyn SigningKey>, TlsError> {
    handshake::provider().key_provider.load_private_key(key.clone_key()).map_err(|error| {
        let unsupported = |kind| format!("{kind} is not supported");
        let reason = unsupported_kind(der).map_or_else(|| error.to_string(), unsupported);
        TlsError::NotAKey { path: path.to_owned(), reason }
    })
}

/// The kinds of keys that certificates and their CAs may have.
pub(crate) const SUPPORTED_KEYS: &str =
    "RSA (2048 to 8192 bits), ECDSA (P-256, P-384, P-521), Ed25519 or ML-DSA (44, 65, 87)";
/// Those of them that the highest level of wire encryption allows.
pub(crate) const STRONG_KEYS: &str = "ECDSA P-384 or P-521 with SHA-384 or better, or ML-DSA-87";

/// What kind of key a certificate is for, if that is not supported.
fn unsupported_kind(der: &[u8]) -> Option<String> {
    let certificate = roles::parse(der).ok()?;
    let info = certificate.public_key();
    let curve = info.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    match (KeyKind::of(info), info.parsed(), curve) {
        (_, Ok(PublicKey::RSA(key)), _) if (2048..=8192).contains(&key.key_size()) => None,
        (_, Ok(PublicKey::RSA(key)), _) => Some(format!("an RSA key of {} bits", key.key_size())),
        (KeyKind::Other, Ok(PublicKey::EC(_)), Some(curve)) => {
            Some(format!("an ECDSA key on the curve {curve}"))
        }
        (KeyKind::Other, ..) => Some(format!("a key of the algorithm {}", info.algorithm.algorithm)),
        _ => None,
    }
}

/// A certificate's period of validity.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Validity {
    pub(crate) not_before_unix_seconds: i64,
    pub(crate) not_after_unix_seconds: i64,
}

impl Validity {
    /// Reads the dates of a certificate.
    pub(crate) fn of(path: &Path, der: &[u8]) -> Result<Self, TlsError> {
        let certificate =
            roles::parse(der).map_err(|source| TlsError::Role { path: path.to_owned(), source })?;
        let validity = certificate.validity();
        Ok(Self {
            not_before_unix_seconds: validity.not_before.timestamp(),
            not_after_unix_seconds: validity.not_after.timestamp(),
        })
    }

    /// Whether the period is over.
    pub(crate) fn has_expired(&self) -> bool {
        now_unix_seconds() > self.not_after_unix_seconds
    }

    /// Refuses a certificate that is not valid now.
    pub(crate) fn check(&self, path: &Path) -> Result<(), TlsError> {
        let now = now_unix_seconds();
        let hint = if now > self.not_after_unix_seconds {
            "it has expired, issue a new one with `brock cert`"
        } else if now < self.not_before_unix_seconds {
            "it is not valid yet, check this machine's clock"
        } else {
            return Ok(());
        };
        Err(TlsError::NotValidNow {
            path: path.to_owned(),
            not_before: date(self.not_before_unix_seconds),
            not_after: date(self.not_after_unix_seconds),
            now: date(now),
            hint,
        })
    }
}

/// The wall clock, in seconds since the Unix epoch. A clock before 1970 counts as 1970.
pub(crate) fn now_unix_seconds() -> i64 {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

/// RFC 3339, in UTC.
pub(crate) fn date(unix_seconds: i64) -> String {
    OffsetDateTime::from_unix_timestamp(unix_seconds)
        .ok()
        .and_then(|date| date.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("{unix_seconds} s after 1970"))
}
