//! Statements: bytes that the holder of a certificate signs with its key, outside any TLS connection.
//!
//! What is signed begins as in TLS 1.3's CertificateVerify (RFC 8446, 4.4.3): 64 spaces, the name of the
//! context, a zero byte. So neither a signature of a handshake nor a statement of one context is valid in
//! another context. The signature schemes are those of TLS 1.3, whatever the kind of key.

use std::{fmt, sync::Arc};

use rustls::{
    CertificateError, Error, SignatureScheme,
    crypto::WebPkiSupportedAlgorithms,
    server::danger::ClientCertVerifier,
    sign::{CertifiedKey, SigningKey},
};
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime};
use webpki::EndEntityCert;

use super::{
    errors, handshake,
    history::History,
    level::WireLevel,
    revocation::Revocations,
    roles::{self, PeerIdentity, RoleError, RolePolicy},
    trust_store::CurrentTrustStore,
};
use brock_core::base::limits;

/// The schemes of TLS 1.3, the preferred one of each kind of key first: no SHA-1, no PKCS #1.
const SCHEMES: [SignatureScheme; 10] = [
    SignatureScheme::ED25519,
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ECDSA_NISTP521_SHA512,
    SignatureScheme::RSA_PSS_SHA512,
    SignatureScheme::RSA_PSS_SHA384,
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::ML_DSA_87,
    SignatureScheme::ML_DSA_65,
    SignatureScheme::ML_DSA_44,
];

/// What a statement is about. A signature made for one context is invalid in every other one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Context {
    /// An operator's order to destroy something.
    OperatorOrder,
    /// The beginning of an origin, stated by its node.
    OriginBirth,
}

impl Context {
    fn name(self) -> &'static str {
        match self {
            Self::OperatorOrder => "Brock operator order",
            Self::OriginBirth => "Brock origin birth",
        }
    }

    /// The bytes that are signed.
    fn message(self, content: &[u8]) -> Vec<u8> {
        [&[b' '; 64][..], self.name().as_bytes(), &[0], content].concat()
    }
}

/// The time at which the signer's certificates must be valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// Now, by this machine's clock.
    Now,
    /// Seconds since the Unix epoch: when the statement says that it was made. The certificate may have
    /// expired since.
    Time(u64),
}

impl At {
    fn unix(self) -> UnixTime {
        match self {
            Self::Now => UnixTime::now(),
            Self::Time(seconds) => UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds)),
        }
    }
}

/// A signature, and the scheme of TLS 1.3 by which it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The number of the scheme in the registry of TLS.
    pub scheme: u16,
    /// The signature.
    pub signature: Vec<u8>,
}

/// Why a statement could not be signed, or is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    /// The key can sign by none of the schemes.
    #[error(
        "the certificate's key cannot sign by any scheme of TLS 1.3: issue a certificate with another kind of key"
    )]
    UnusableKey,
    /// The signature could not be computed.
    #[error("the certificate's key could not sign: {0}")]
    NotSigned(String),
    /// No certificate, or more or larger ones than any signer has.
    #[error(
        "the signer's chain must have 1 to {} certificates and at most {} bytes",
        limits::CHAIN_CERTIFICATES_MAX,
        limits::CHAIN_MAX_BYTES
    )]
    Chain,
    /// The signer's chain was not valid at that time, or something else is wrong with it.
    #[error("the signer's certificate is not accepted here: {0}")]
    Untrusted(String),
    /// No CA that is known here has certified the signer.
    #[error(
        "the CA of the signer's certificate is not known here: if that was the cluster's CA, keep it as ca-history.pem"
    )]
    UnknownCa,
    /// A revocation list has a certificate of the signer's chain.
    #[error("the signer's certificate has been revoked")]
    Revoked,
    /// The signer's certificate states no identity.
    #[error("{0}")]
    Role(#[from] RoleError),
    /// A scheme that is none of TLS 1.3's.
    #[error("the signature scheme {0:#06x} is not supported: only those of TLS 1.3 are")]
    Scheme(u16),
    /// Another key has signed, or something else was signed.
    #[error("the signature does not match: it was made with another key, or of something else")]
    Signature,
}

impl StatementError {
    fn untrusted(error: &Error) -> Self {
        match error {
            error if errors::is_unknown_ca(error) => Self::UnknownCa,
            Error::InvalidCertificate(CertificateError::Revoked) => Self::Revoked,
            error => Self::Untrusted(errors::describe(error)),
        }
    }
}

/// Signs with the key of a certificate.
#[derive(Clone)]
pub struct Signer(Arc<CertifiedKey>);

/// Nothing of the key is printed.
impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").finish_non_exhaustive()
    }
}

impl Signer {
    pub(crate) fn new(own: Arc<CertifiedKey>) -> Self {
        Self(own)
    }

    /// The signer's certificates in DER, leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.0.cert
    }

    /// Signs `content`. Blocks for as long as the kind of key takes: up to some milliseconds.
    pub fn sign(&self, context: Context, content: &[u8]) -> Result<Signed, StatementError> {
        let key: &dyn SigningKey = &*self.0.key;
        let signer = key.choose_scheme(&SCHEMES).ok_or(StatementError::UnusableKey)?;
        let signature = signer.sign(&context.message(content));
        let signature = signature.map_err(|error| StatementError::NotSigned(error.to_string()))?;
        Ok(Signed { scheme: signer.scheme().into(), signature })
    }
}

/// Verifies the statements of others. Cheap to clone.
#[derive(Debug, Clone)]
pub struct StatementVerifier {
    trusted: Trusted,
    policy: RolePolicy,
    believes_revoked: bool,
}

#[derive(Debug, Clone)]
enum Trusted {
    /// What the trust store says at each call.
    Current(Arc<CurrentTrustStore>),
    /// The CAs, those of before and the revocation lists of a directory, as they were read.
    Fixed(Arc<dyn ClientCertVerifier>, Arc<History>, Arc<Revocations>),
}

impl StatementVerifier {
    pub(crate) fn new(current: Arc<CurrentTrustStore>, policy: RolePolicy) -> Self {
        Self { trusted: Trusted::Current(current), policy, believes_revoked: false }
    }

    pub(crate) fn fixed(
        callers: Arc<dyn ClientCertVerifier>,
        history: History,
        revocations: Arc<Revocations>,
    ) -> Self {
        let trusted = Trusted::Fixed(callers, Arc::new(history), revocations);
        Self { trusted, policy: RolePolicy::default(), believes_revoked: false }
    }

    /// The same, whether or not a certificate is revoked now: for a statement that can only harm its signer.
    #[must_use]
    pub fn believing_revoked(self) -> Self {
        Self { believes_revoked: true, ..self }
    }

    /// Returns who has signed `content`. `chain` is in DER, leaf first.
    ///
    /// Contract: the chain leads to a CA that is trusted now, or that was before and is known as such if the statement
    /// is of then; it is valid at `at`, and no certificate of it is revoked now, whatever `at` is: a thief can date a
    /// statement back. The leaf's key has signed `content` in `context`. Which role and which trust domain are needed
    /// is the caller's matter. Blocks for as long as two or more signatures take.
    pub fn verify(
        &self,
        chain: &[CertificateDer<'_>],
        at: At,
        context: Context,
        content: &[u8],
        signed: &Signed,
    ) -> Result<PeerIdentity, StatementError> {
        let bytes: usize = chain.iter().map(|der| der.len()).sum();
        let Some((leaf, intermediates)) = chain.split_first() else { return Err(StatementError::Chain) };
        if chain.len() > limits::CHAIN_CERTIFICATES_MAX || bytes > limits::CHAIN_MAX_BYTES {
            return Err(StatementError::Chain);
        }
        let verified = match (&self.trusted, at) {
            (Trusted::Current(current), At::Now) => {
                current.load().verify_caller(leaf, intermediates, at.unix(), WireLevel::Default).map(drop)
            }
            (Trusted::Current(current), At::Time(_)) => {
                current.load().verify_past_signer(leaf, intermediates, at.unix())
            }
            (Trusted::Fixed(callers, history, revocations), at) => {
                let present = callers.verify_client_cert(leaf, intermediates, at.unix()).map(drop);
                match at {
                    At::Now => present.and_then(|()| revocations.check(leaf, intermediates)),
                    At::Time(_) => {
                        history.verify_past(present, revocations, (leaf, intermediates), at.unix())
                    }
                }
            }
        };
        match verified {
            // The last thing that is looked at: all else is as it should be.
            Err(Error::InvalidCertificate(CertificateError::Revoked)) if self.believes_revoked => {}
            verified => verified.map_err(|error| StatementError::untrusted(&error))?,
        }
        let identity = PeerIdentity::of_certificate(leaf, self.policy)?;
        let algorithm = algorithm(signed.scheme)?;
        EndEntityCert::try_from(leaf)
            .and_then(|leaf| leaf.verify_signature(algorithm, &context.message(content), &signed.signature))
            .map_err(|_| StatementError::Signature)?;
        Ok(identity)
    }
}

/// The last second in which a certificate is valid, as it says; `None`: it is malformed.
pub fn ends(certificate: &CertificateDer<'_>) -> Option<i64> {
    roles::parse(certificate).ok().map(|certificate| certificate.validity().not_after.timestamp())
}

/// The trust domain that a certificate states; `None`: it states none, or is malformed. Nothing of it is verified.
pub fn trust_domain(certificate: &CertificateDer<'_>) -> Option<String> {
    PeerIdentity::of_certificate(certificate, RolePolicy::default()).ok()?.trust_domain
}

/// The algorithm of a scheme. In TLS 1.3 a scheme of ECDSA fixes the curve, which is what the provider lists
/// first.
fn algorithm(scheme: u16) -> Result<&'static dyn SignatureVerificationAlgorithm, StatementError> {
    let WebPkiSupportedAlgorithms { mapping, .. } = handshake::provider().signature_verification_algorithms;
    let known = SCHEMES.into_iter().find(|known| u16::from(*known) == scheme);
    let listed = |known| mapping.iter().find(|(listed, _)| *listed == known);
    let first = known.and_then(listed).and_then(|(_, algorithms)| algorithms.first());
    first.copied().ok_or(StatementError::Scheme(scheme))
}

#[cfg(test)]
mod tests {
    use std::{path::Path, time::Duration};

    use rcgen::{KeyPair, SignatureAlgorithm};

    use super::*;
    use crate::tls::{
        keypair,
        roles::Role,
        testing::{Dates, TestCa, TestLeaf, kind_admin, kind_node},
    };

    const CONTENT: &[u8] = b"delete everything";

    fn signer(leaf: &TestLeaf) -> Signer {
        let key = keypair::signing_key(&leaf.key_der(), Path::new("test.key"), &leaf.der).unwrap();
        Signer::new(Arc::new(CertifiedKey::new(vec![leaf.der.clone()], key)))
    }

    fn verifier(ca: &TestCa, revoked: &[&TestLeaf]) -> StatementVerifier {
        let own = ca.leaf(&kind_node("a", &["localhost"]), Dates::now());
        let store = ca.trust_store_with(&own, revoked);
        StatementVerifier::new(CurrentTrustStore::new(store), RolePolicy::default())
    }

    fn kinds_of_keys() -> Vec<(&'static str, &'static SignatureAlgorithm)> {
        vec![
            ("P-256", &rcgen::PKCS_ECDSA_P256_SHA256),
            ("P-384", &rcgen::PKCS_ECDSA_P384_SHA384),
            ("P-521", &rcgen::PKCS_ECDSA_P521_SHA512),
            ("Ed25519", &rcgen::PKCS_ED25519),
            ("RSA", &rcgen::PKCS_RSA_SHA256),
            ("ML-DSA-44", &rcgen::PKCS_ML_DSA_44),
            ("ML-DSA-65", &rcgen::PKCS_ML_DSA_65),
            ("ML-DSA-87", &rcgen::PKCS_ML_DSA_87),
        ]
    }

    #[test]
    fn a_statement_verifies_in_its_own_context_only_whatever_the_kind_of_key() {
        let ca = TestCa::new();
        let verifier = verifier(&ca, &[]);
        for (name, kind) in kinds_of_keys() {
            let leaf = ca.leaf_with_key(
                &kind_admin("ops"),
                Dates::now(),
                None,
                KeyPair::generate_for(kind).unwrap(),
            );
            let signer = signer(&leaf);
            let signed = signer.sign(Context::OperatorOrder, CONTENT).unwrap();
            let verify = |context, content: &[u8], signed: &Signed| {
                verifier.verify(signer.chain(), At::Now, context, content, signed)
            };
            let identity = verify(Context::OperatorOrder, CONTENT, &signed).expect(name);
            assert_eq!((identity.role, identity.name.as_deref()), (Role::Admin, Some("ops")), "{name}");

            let other = verify(Context::OriginBirth, CONTENT, &signed);
            assert_eq!(other, Err(StatementError::Signature), "{name}");
            let longer = [CONTENT, b"."].concat();
            for content in [&CONTENT[1..], &longer, b""] {
                assert_eq!(
                    verify(Context::OperatorOrder, content, &signed),
                    Err(StatementError::Signature),
                    "{name}"
                );
            }
            for at in [0, signed.signature.len() / 2, signed.signature.len() - 1] {
                let mut changed = signed.clone();
                changed.signature[at] ^= 1;
                assert!(verify(Context::OperatorOrder, CONTENT, &changed).is_err(), "{name}, byte {at}");
            }
            let empty = Signed { signature: Vec::new(), ..signed.clone() };
            assert_eq!(
                verify(Context::OperatorOrder, CONTENT, &empty),
                Err(StatementError::Signature),
                "{name}"
            );
            for scheme in SCHEMES {
                let claimed = Signed { scheme: scheme.into(), ..signed.clone() };
                let verified = verify(Context::OperatorOrder, CONTENT, &claimed).is_ok();
                assert_eq!(verified, u16::from(scheme) == signed.scheme, "{name} as {scheme:?}");
            }
        }
    }

    /// What rustls signs at the end of a handshake (RFC 8446, 4.4.3).
    #[test]
    fn a_signature_of_a_tls_handshake_is_no_statement() {
        let ca = TestCa::new();
        let leaf = ca.leaf(&kind_admin("ops"), Dates::now());
        let (signer, verifier) = (signer(&leaf), verifier(&ca, &[]));
        let tls = signer.0.key.choose_scheme(&SCHEMES).unwrap();
        for side in ["client", "server"] {
            let context = format!("TLS 1.3, {side} CertificateVerify");
            let of_handshake = [&[b' '; 64][..], context.as_bytes(), &[0], CONTENT].concat();
            let signature = tls.sign(&of_handshake).unwrap();
            let signed = Signed { scheme: tls.scheme().into(), signature };
            for context in [Context::OperatorOrder, Context::OriginBirth] {
                // Neither for the transcript's hash, nor for anything that begins with the context.
                for content in [CONTENT, &of_handshake, &of_handshake[64..]] {
                    assert_eq!(
                        verifier.verify(signer.chain(), At::Now, context, content, &signed),
                        Err(StatementError::Signature)
                    );
                }
            }
        }
    }

    #[test]
    fn old_schemes_are_refused_even_with_a_right_signature() {
        let ca = TestCa::new();
        let key = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
        let leaf = ca.leaf_with_key(&kind_admin("ops"), Dates::now(), None, key);
        let (signer, verifier) = (signer(&leaf), verifier(&ca, &[]));
        for scheme in [
            SignatureScheme::RSA_PKCS1_SHA256,
            SignatureScheme::RSA_PKCS1_SHA384,
            SignatureScheme::RSA_PKCS1_SHA512,
        ] {
            let old = signer.0.key.choose_scheme(&[scheme]).unwrap();
            let signature = old.sign(&Context::OperatorOrder.message(CONTENT)).unwrap();
            let signed = Signed { scheme: scheme.into(), signature };
            let verified = verifier.verify(signer.chain(), At::Now, Context::OperatorOrder, CONTENT, &signed);
            assert_eq!(verified, Err(StatementError::Scheme(scheme.into())));
        }
    }

    #[test]
    fn the_signer_must_be_certified_at_that_time_and_not_be_revoked() {
        let (ca, other) = (TestCa::new(), TestCa::new());
        let day = Duration::from_secs(86_400);
        let now = UnixTime::now().as_secs();
        let expired = ca.leaf(&kind_admin("ops"), Dates::past(day));
        let stolen = ca.leaf(&kind_admin("ops"), Dates::now());
        let foreign = other.leaf(&kind_admin("ops"), Dates::now());
        let verifier = verifier(&ca, &[&stolen]);
        let verify = |leaf: &TestLeaf, at| {
            let signer = signer(leaf);
            let signed = signer.sign(Context::OperatorOrder, CONTENT).unwrap();
            verifier.verify(signer.chain(), at, Context::OperatorOrder, CONTENT, &signed)
        };
        // A statement from the time when the certificate was valid stays valid, and only that.
        assert!(verify(&expired, At::Time(now - 86_400 - 60)).is_ok());
        for at in [At::Now, At::Time(now), At::Time(now - 2 * 86_400), At::Time(0), At::Time(u64::MAX)] {
            assert!(matches!(verify(&expired, at), Err(StatementError::Untrusted(_))), "{at:?}");
        }
        for at in [At::Now, At::Time(now - 60)] {
            assert_eq!(verify(&stolen, at), Err(StatementError::Revoked), "{at:?}");
            assert_eq!(verify(&foreign, at), Err(StatementError::UnknownCa), "{at:?}");
        }
        // What harms the signer alone is believed of a revoked one, and of no other.
        let verifier = verifier.clone().believing_revoked();
        let believed = |leaf: &TestLeaf, at| {
            let signer = signer(leaf);
            let signed = signer.sign(Context::OperatorOrder, CONTENT).unwrap();
            verifier.verify(signer.chain(), at, Context::OperatorOrder, CONTENT, &signed).is_ok()
        };
        assert!(believed(&stolen, At::Now) && believed(&expired, At::Time(now - 86_400 - 60)));
        assert!(!believed(&foreign, At::Now) && !believed(&expired, At::Now));
    }

    #[test]
    fn a_chain_is_bounded_and_must_be_the_signers() {
        let ca = TestCa::new();
        let (leaf, other) =
            (ca.leaf(&kind_admin("ops"), Dates::now()), ca.leaf(&kind_admin("b"), Dates::now()));
        let verifier = verifier(&ca, &[]);
        let signed = signer(&leaf).sign(Context::OperatorOrder, CONTENT).unwrap();
        let verify = |chain: &[CertificateDer<'_>]| {
            verifier.verify(chain, At::Now, Context::OperatorOrder, CONTENT, &signed)
        };
        assert_eq!(verify(&[]), Err(StatementError::Chain));
        assert_eq!(
            verify(&vec![leaf.der.clone(); limits::CHAIN_CERTIFICATES_MAX + 1]),
            Err(StatementError::Chain)
        );
        let large = CertificateDer::from(vec![0; limits::CHAIN_MAX_BYTES]);
        assert_eq!(verify(&[leaf.der.clone(), large]), Err(StatementError::Chain));
        assert_eq!(verify(std::slice::from_ref(&other.der)), Err(StatementError::Signature));
        assert!(matches!(verify(&[CertificateDer::from(vec![1, 2])]), Err(StatementError::Untrusted(_))));
        assert_eq!(roles::parse(&leaf.der).is_ok(), verify(std::slice::from_ref(&leaf.der)).is_ok());
    }
}
