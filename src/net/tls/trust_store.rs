//! The current trust store: our own certificate, and the CAs and revocation lists that the certificates
//! of others are verified against. It is replaced while the node runs.
//!
//! The rustls configurations are built once and read the current store at every handshake, so code that
//! dials or accepts does not notice a rotation.

use std::{fmt, sync::Arc};

use rustls::{
    CertificateError, DistinguishedName, Error, OtherError, SignatureScheme,
    client::{
        ResolvesClientCert, WebPkiServerVerifier,
        danger::{ServerCertVerified, ServerCertVerifier as _},
    },
    server::{
        ClientHello, ResolvesServerCert,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::sync::watch;
use x509_parser::{parse_x509_certificate, prelude::FromDer as _, x509::X509Name};

use super::{
    TlsError,
    algorithms::KeyKind,
    errors::UntrustedIssuer,
    handshake::{self, Material},
    history::History,
    level::WireLevel,
    revocation::Revocations,
};

/// Our own certificate and the verifiers of others' certificates, as loaded at one moment.
pub(crate) struct TrustStore {
    own: Own,
    /// A post-quantum certificate, for ends that offer ML-DSA.
    second: Option<Own>,
    pub(crate) clients: Arc<dyn ClientCertVerifier>,
    pub(crate) nodes: Arc<WebPkiServerVerifier>,
    /// The same verifiers, for chains that are signed as level 256 demands.
    strong_clients: Arc<dyn ClientCertVerifier>,
    strong_nodes: Arc<WebPkiServerVerifier>,
    /// Whether a CA of the store has an ML-DSA key. Without one, ML-DSA is not offered: no certificate that it
    /// signs could be verified, and the other end shows its classical one.
    has_post_quantum_ca: bool,
    revocations: Arc<Revocations>,
    /// CAs of before, for statements of their time.
    history: History,
    /// The names of the CAs.
    trusted: Vec<String>,
    generation: u64,
}

/// A certificate of our own.
struct Own {
    certified: Arc<CertifiedKey>,
    kind: KeyKind,
    /// Whether its whole chain is as strong as level 256 demands.
    is_strong: bool,
}

/// The store holds a private key, so nothing of it is printed.
impl fmt::Debug for TrustStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrustStore").finish_non_exhaustive()
    }
}

/// A CA's name, for people.
fn name(subject: &DistinguishedName) -> String {
    X509Name::from_der(subject.as_ref()).map(|(_, name)| name.to_string()).unwrap_or_default()
}

impl Own {
    fn new(material: &Material<'_>, strong: &Arc<dyn ClientCertVerifier>) -> Result<Self, TlsError> {
        let refused = |source| TlsError::Config { dir: material.dir.to_owned(), source };
        let (chain, key) = (material.chain.to_vec(), material.key.clone_key());
        let certified = CertifiedKey::from_der(chain, key, &handshake::provider()).map_err(refused)?;
        let kind = material.chain.first().map_or(KeyKind::Other, |leaf| KeyKind::of_certificate(leaf));
        let is_strong = material.chain.split_first().is_some_and(|(leaf, intermediates)| {
            WireLevel::Bits256.allows(kind)
                && strong.verify_client_cert(leaf, intermediates, UnixTime::now()).is_ok()
        });
        Ok(Self { certified: Arc::new(certified), kind, is_strong })
    }
}

/// Verifies a chain, by the strong verifier at level 256. A chain that only the `usual` one accepts, or whose leaf has
/// a weaker key, is refused as too weak: the other end receives the alert `access_denied`, which has no other cause
/// here.
fn strong_or<V, T>(
    level: WireLevel,
    leaf: &CertificateDer<'_>,
    strong: &V,
    usual: &V,
    verify: impl Fn(&V) -> Result<T, Error>,
) -> Result<T, Error> {
    if level != WireLevel::Bits256 {
        return verify(usual);
    }
    match verify(strong) {
        Ok(verified) if level.allows(KeyKind::of_certificate(leaf)) => Ok(verified),
        _ => {
            verify(usual)?;
            Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }
}

impl TrustStore {
    /// Builds the verifiers. Its generation is 0 until it replaces another store.
    pub(crate) fn new(material: &Material<'_>) -> Result<Self, TlsError> {
        let has_ml_dsa = |root: &CertificateDer<'_>| KeyKind::of_certificate(root).post_quantum().is_some();
        let strong_clients = handshake::client_verifier(material, handshake::strong_provider())?;
        Ok(Self {
            own: Own::new(material, &strong_clients)?,
            second: None,
            clients: handshake::client_verifier(material, handshake::provider())?,
            nodes: handshake::node_verifier(material, handshake::provider())?,
            strong_nodes: handshake::node_verifier(material, handshake::strong_provider())?,
            strong_clients,
            has_post_quantum_ca: material.trusted.iter().any(has_ml_dsa),
            revocations: Arc::clone(&material.revocations),
            history: History::default(),
            trusted: material.roots.subjects().iter().map(name).collect(),
            generation: 0,
        })
    }

    /// Our own certificate with its key.
    pub(crate) fn own(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.own.certified)
    }

    /// Adds the post-quantum certificate that is shown to ends which offer ML-DSA.
    pub(crate) fn with_second(mut self, material: &Material<'_>) -> Result<Self, TlsError> {
        self.second = Some(Own::new(material, &self.strong_clients)?);
        Ok(self)
    }

    /// Adds the CAs of before.
    pub(crate) fn with_history(self, history: History) -> Self {
        Self { history, ..self }
    }

    /// Whether a CA of the store has an ML-DSA key.
    pub(crate) fn has_post_quantum_ca(&self) -> bool {
        self.has_post_quantum_ca
    }

    /// Whether one of the own certificates may be shown at level 256.
    pub(crate) fn is_strong(&self) -> bool {
        self.own.is_strong || self.second.as_ref().is_some_and(|second| second.is_strong)
    }

    /// The kind of the first own certificate's key.
    pub(crate) fn own_kind(&self) -> KeyKind {
        self.own.kind
    }

    /// The signatures that the other end is asked for.
    pub(crate) fn offered_schemes(&self, level: WireLevel) -> Vec<SignatureScheme> {
        let is_post_quantum = |scheme: SignatureScheme| {
            matches!(
                scheme,
                SignatureScheme::ML_DSA_44 | SignatureScheme::ML_DSA_65 | SignatureScheme::ML_DSA_87
            )
        };
        let mut schemes = self.clients.supported_verify_schemes();
        schemes.retain(|scheme| self.has_post_quantum_ca || !is_post_quantum(*scheme));
        schemes.retain(|scheme| level.offers(*scheme));
        schemes
    }

    /// The certificate for an end that takes these signatures: the second one if it can read it.
    fn choose(&self, offered: &[SignatureScheme], level: WireLevel) -> Arc<CertifiedKey> {
        let is_allowed = |own: &&Own| level != WireLevel::Bits256 || own.is_strong;
        let second = self.second.as_ref().filter(is_allowed);
        let is_readable =
            |own: &&Own| own.kind.post_quantum().is_some_and(|scheme| offered.contains(&scheme));
        let chosen = match (second, is_allowed(&&self.own)) {
            (Some(second), _) if is_readable(&second) => second,
            (Some(second), false) => second,
            _ => &self.own,
        };
        Arc::clone(&chosen.certified)
    }

    /// How many stores this process used before this one.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Verifies the chain of a caller, revocation included.
    pub(crate) fn verify_caller(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        level: WireLevel,
    ) -> Result<ClientCertVerified, Error> {
        let verified = strong_or(level, leaf, &self.strong_clients, &self.clients, |verifier| {
            verifier.verify_client_cert(leaf, intermediates, now)
        })?;
        self.revocations.check(leaf, intermediates)?;
        Ok(verified)
    }

    /// Verifies the chain of the signer of a statement that was made at that time, in the past: by a CA of before too.
    pub(crate) fn verify_past_signer(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        at: UnixTime,
    ) -> Result<(), Error> {
        let present = self.verify_caller(leaf, intermediates, at, WireLevel::Default).map(drop);
        self.history.verify_past(present, &self.revocations, (leaf, intermediates), at)
    }

    /// Verifies the chain of a node that was dialled by `name`, revocation included.
    pub(crate) fn verify_node(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
        level: WireLevel,
    ) -> Result<ServerCertVerified, Error> {
        let verified = strong_or(level, leaf, &self.strong_nodes, &self.nodes, |verifier| {
            verifier.verify_server_cert(leaf, intermediates, name, ocsp_response, now)
        });
        let verified = verified.map_err(|error| match error {
            Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
                self.untrusted(intermediates.last().unwrap_or(leaf))
            }
            other => other,
        })?;
        self.revocations.check(leaf, intermediates)?;
        Ok(verified)
    }

    /// Names the CA of the other end and our own: an operator sees which of the two files is the wrong one.
    fn untrusted(&self, top: &CertificateDer<'_>) -> Error {
        let issuer = parse_x509_certificate(top).map(|(_, certificate)| certificate.issuer().to_string());
        let untrusted =
            UntrustedIssuer { issuer: issuer.unwrap_or_default(), trusted: self.trusted.join(", ") };
        Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(untrusted))))
    }

    /// Whether a caller with this chain would be accepted at `now`.
    pub(crate) fn accepts_caller(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> bool {
        let Some((leaf, intermediates)) = chain.split_first() else { return false };
        // Its strength was checked when it connected, at the level of that connection.
        self.verify_caller(leaf, intermediates, now, WireLevel::Default).is_ok()
    }

    /// Whether a node that was dialled by `name` and showed this chain would be accepted at `now`.
    pub(crate) fn accepts_node(
        &self,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> bool {
        let Some((leaf, intermediates)) = chain.split_first() else { return false };
        self.verify_node(leaf, intermediates, name, &[], now, WireLevel::Default).is_ok()
    }
}

/// The trust store that handshakes use now.
pub(crate) struct CurrentTrustStore(watch::Sender<Arc<TrustStore>>);

impl fmt::Debug for CurrentTrustStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CurrentTrustStore").finish_non_exhaustive()
    }
}

impl CurrentTrustStore {
    pub(crate) fn new(store: TrustStore) -> Arc<Self> {
        Arc::new(Self(watch::Sender::new(Arc::new(store))))
    }

    pub(crate) fn load(&self) -> Arc<TrustStore> {
        Arc::clone(&self.0.borrow())
    }

    /// Reports every replacement from now on.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<TrustStore>> {
        self.0.subscribe()
    }

    /// Handshakes that start from now on use `store`. It gets the next generation.
    pub(crate) fn replace(&self, store: TrustStore) {
        self.0.send_modify(|current| {
            let generation = current.generation + 1;
            *current = Arc::new(TrustStore { generation, ..store });
        });
    }
}

/// Chooses the certificate to show, at one level.
#[derive(Debug)]
pub(crate) struct Resolver {
    current: Arc<CurrentTrustStore>,
    level: WireLevel,
}

impl Resolver {
    pub(crate) fn new(current: &Arc<CurrentTrustStore>, level: WireLevel) -> Self {
        Self { current: Arc::clone(current), level }
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load().choose(hello.signature_schemes(), self.level))
    }
}

impl ResolvesClientCert for Resolver {
    fn resolve(&self, _: &[&[u8]], offered: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load().choose(offered, self.level))
    }

    fn has_certs(&self) -> bool {
        true
    }
}
