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
    errors::UntrustedIssuer,
    handshake::{self, Material},
    revocation::Revocations,
};

/// Our own certificate and the verifiers of others' certificates, as loaded at one moment.
pub(crate) struct TrustStore {
    own: Arc<CertifiedKey>,
    pub(crate) clients: Arc<dyn ClientCertVerifier>,
    pub(crate) nodes: Arc<WebPkiServerVerifier>,
    revocations: Arc<Revocations>,
    /// The names of the CAs.
    trusted: Vec<String>,
    generation: u64,
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

impl TrustStore {
    /// Builds the verifiers. Its generation is 0 until it replaces another store.
    pub(crate) fn new(material: &Material<'_>) -> Result<Self, TlsError> {
        let refused = |source| TlsError::Config { dir: material.dir.to_owned(), source };
        let own =
            CertifiedKey::from_der(material.chain.to_vec(), material.key.clone_key(), &handshake::provider());
        Ok(Self {
            own: Arc::new(own.map_err(refused)?),
            clients: handshake::client_verifier(material)?,
            nodes: handshake::node_verifier(material)?,
            revocations: Arc::clone(&material.revocations),
            trusted: material.roots.subjects().iter().map(name).collect(),
            generation: 0,
        })
    }

    /// Our own certificate with its key.
    pub(crate) fn own(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.own)
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
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.clients.verify_client_cert(leaf, intermediates, now)?;
        self.revocations.check(leaf, intermediates)?;
        Ok(verified)
    }

    /// Verifies the chain of a node that was dialled by `name`, revocation included.
    pub(crate) fn verify_node(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.nodes.verify_server_cert(leaf, intermediates, name, ocsp_response, now);
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
        self.verify_caller(leaf, intermediates, now).is_ok()
    }

    /// Whether a node that was dialled by `name` and showed this chain would be accepted at `now`.
    pub(crate) fn accepts_node(
        &self,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> bool {
        let Some((leaf, intermediates)) = chain.split_first() else { return false };
        self.verify_node(leaf, intermediates, name, &[], now).is_ok()
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

impl ResolvesServerCert for CurrentTrustStore {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.borrow().own))
    }
}

impl ResolvesClientCert for CurrentTrustStore {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.borrow().own))
    }

    fn has_certs(&self) -> bool {
        true
    }
}
