//! The kinds of keys in certificates, and signatures that x509-parser cannot verify (ML-DSA).

use std::fmt;

use rustls::{SignatureScheme, crypto::aws_lc_rs};
use rustls_pki_types::{AlgorithmIdentifier, SignatureVerificationAlgorithm, alg_id};
use x509_parser::{
    certificate::X509Certificate,
    der_parser::{Oid, oid},
    error::X509Error,
    public_key::PublicKey,
    revocation_list::CertificateRevocationList,
    x509::SubjectPublicKeyInfo,
};

/// The kind of a certificate's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeyKind {
    /// RSA of any size.
    Rsa,
    /// ECDSA on the curve P-256.
    EcdsaP256,
    /// ECDSA on the curve P-384.
    EcdsaP384,
    /// ECDSA on the curve P-521.
    EcdsaP521,
    /// Ed25519.
    Ed25519,
    /// ML-DSA-44, post-quantum, security category 2.
    MlDsa44,
    /// ML-DSA-65, post-quantum, security category 3.
    MlDsa65,
    /// ML-DSA-87, post-quantum, security category 5.
    MlDsa87,
    /// A kind that no handshake here uses.
    Other,
}

impl KeyKind {
    /// The kind of a certificate's key; `Other` if the certificate cannot be read.
    pub(crate) fn of_certificate(der: &[u8]) -> Self {
        super::roles::parse(der).map_or(Self::Other, |certificate| Self::of(certificate.public_key()))
    }

    pub(crate) fn of(info: &SubjectPublicKeyInfo<'_>) -> Self {
        let curve = info.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
        match &info.algorithm.algorithm {
            algorithm if *algorithm == ED25519 => Self::Ed25519,
            algorithm if *algorithm == ML_DSA_44 => Self::MlDsa44,
            algorithm if *algorithm == ML_DSA_65 => Self::MlDsa65,
            algorithm if *algorithm == ML_DSA_87 => Self::MlDsa87,
            _ => match (info.parsed(), curve) {
                (Ok(PublicKey::RSA(_)), _) => Self::Rsa,
                (Ok(PublicKey::EC(_)), Some(curve)) if curve == P256 => Self::EcdsaP256,
                (Ok(PublicKey::EC(_)), Some(curve)) if curve == P384 => Self::EcdsaP384,
                (Ok(PublicKey::EC(_)), Some(curve)) if curve == P521 => Self::EcdsaP521,
                _ => Self::Other,
            },
        }
    }

    /// Its name: as `brock cert --algorithm` takes it, as the status shows it, and as a label of metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rsa => "rsa",
            Self::EcdsaP256 => "ecdsa-p256",
            Self::EcdsaP384 => "ecdsa-p384",
            Self::EcdsaP521 => "ecdsa-p521",
            Self::Ed25519 => "ed25519",
            Self::MlDsa44 => "ml-dsa-44",
            Self::MlDsa65 => "ml-dsa-65",
            Self::MlDsa87 => "ml-dsa-87",
            Self::Other => "other",
        }
    }

    /// The scheme of its signatures, if it is a post-quantum one.
    pub(crate) fn post_quantum(self) -> Option<SignatureScheme> {
        match self {
            Self::MlDsa44 => Some(SignatureScheme::ML_DSA_44),
            Self::MlDsa65 => Some(SignatureScheme::ML_DSA_65),
            Self::MlDsa87 => Some(SignatureScheme::ML_DSA_87),
            _ => None,
        }
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

const P256: Oid<'_> = oid!(1.2.840.10045.3.1.7);
const P384: Oid<'_> = oid!(1.3.132.0.34);
const P521: Oid<'_> = oid!(1.3.132.0.35);
const ED25519: Oid<'_> = oid!(1.3.101.112);
const ML_DSA_44: Oid<'_> = oid!(2.16.840.1.101.3.4.3.17);
const ML_DSA_65: Oid<'_> = oid!(2.16.840.1.101.3.4.3.18);
const ML_DSA_87: Oid<'_> = oid!(2.16.840.1.101.3.4.3.19);

/// Something that an X.509 key has signed.
pub(crate) trait Signed {
    /// Verifies its signature. `SignatureVerificationError`: this key has not signed it.
    fn verify(&self, key: &SubjectPublicKeyInfo<'_>) -> Result<(), X509Error>;
}

impl Signed for X509Certificate<'_> {
    fn verify(&self, key: &SubjectPublicKeyInfo<'_>) -> Result<(), X509Error> {
        match ml_dsa(key) {
            None => self.verify_signature(Some(key)),
            Some(expected) => verify_ml_dsa(
                expected,
                key,
                &self.signature_algorithm.algorithm,
                self.tbs_certificate.as_ref(),
                &self.signature_value.data,
            ),
        }
    }
}

impl Signed for CertificateRevocationList<'_> {
    fn verify(&self, key: &SubjectPublicKeyInfo<'_>) -> Result<(), X509Error> {
        match ml_dsa(key) {
            None => self.verify_signature(key),
            Some(expected) => verify_ml_dsa(
                expected,
                key,
                &self.signature_algorithm.algorithm,
                self.tbs_cert_list.as_ref(),
                &self.signature_value.data,
            ),
        }
    }
}

fn ml_dsa(key: &SubjectPublicKeyInfo<'_>) -> Option<AlgorithmIdentifier> {
    match KeyKind::of(key) {
        KeyKind::MlDsa44 => Some(alg_id::ML_DSA_44),
        KeyKind::MlDsa65 => Some(alg_id::ML_DSA_65),
        KeyKind::MlDsa87 => Some(alg_id::ML_DSA_87),
        _ => None,
    }
}

fn verify_ml_dsa(
    expected: AlgorithmIdentifier,
    key: &SubjectPublicKeyInfo<'_>,
    stated: &Oid<'_>,
    message: &[u8],
    signature: &[u8],
) -> Result<(), X509Error> {
    // A signature of another algorithm is not one of this key.
    if *stated != key.algorithm.algorithm {
        return Err(X509Error::SignatureVerificationError);
    }
    let all = aws_lc_rs::default_provider().signature_verification_algorithms.all;
    let is_it = |known: &&&dyn SignatureVerificationAlgorithm| known.public_key_alg_id() == expected;
    let algorithm = all.iter().find(is_it).ok_or(X509Error::SignatureUnsupportedAlgorithm)?;
    algorithm
        .verify_signature(&key.subject_public_key.data, message, signature)
        .map_err(|_| X509Error::SignatureVerificationError)
}
