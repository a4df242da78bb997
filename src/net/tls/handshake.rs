//! The rustls configurations: TLS 1.3 only, mutual, aws-lc-rs with what a level of wire encryption allows, HTTP/2
//! only, nothing resumable, no early data.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::{Resumption, VerifierBuilderError, WebPkiServerVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::{
    TlsError,
    level::{self, WireLevel},
    remembered::remembering,
    revocation::Revocations,
    roles::RolePolicy,
    trust_store::{CurrentTrustStore, Resolver},
    verify::{ClientRoleVerifier, NodeVerifier},
};

/// The only application protocol of the gRPC side.
const ALPN_HTTP2: &[u8] = b"h2";
/// The application protocol of the HTTP side, for browsers and scrapers.
const ALPN_HTTP1: &[u8] = b"http/1.1";

/// What the TLS configurations are built from.
pub(crate) struct Material<'a> {
    /// The certificates directory, for messages.
    pub(crate) dir: &'a Path,
    /// The certificate chain, leaf first.
    pub(crate) chain: &'a [CertificateDer<'static>],
    /// The leaf's key.
    pub(crate) key: &'a PrivateKeyDer<'static>,
    /// The trusted CAs.
    pub(crate) roots: Arc<RootCertStore>,
    /// Their certificates.
    pub(crate) trusted: &'a [CertificateDer<'static>],
    /// What the revocation lists revoke.
    pub(crate) revocations: Arc<Revocations>,
}

/// aws-lc-rs, for keys and for the signatures in certificates.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    let provider = aws_lc_rs::default_provider();
    let signature_verification_algorithms = remembering(provider.signature_verification_algorithms);
    Arc::new(CryptoProvider { signature_verification_algorithms, ..provider })
}

/// The same, for certificates that are signed as the highest level demands.
pub(crate) fn strong_provider() -> Arc<CryptoProvider> {
    let strong = level::strong_signatures();
    Arc::new(CryptoProvider { signature_verification_algorithms: strong, ..aws_lc_rs::default_provider() })
}

/// For accepting: the handshake refuses a client whose certificate states no role.
pub(crate) fn server(
    current: &Arc<CurrentTrustStore>,
    dir: &Path,
    policy: RolePolicy,
    level: WireLevel,
) -> Result<Arc<ServerConfig>, TlsError> {
    let verifier = ClientRoleVerifier::new(Arc::clone(current), policy, level);
    accepting(current, dir, verifier, level, ALPN_HTTP2)
}

/// For the HTTP side: a client certificate is optional, and browsers know no levels.
pub(crate) fn web(
    current: &Arc<CurrentTrustStore>,
    dir: &Path,
    policy: RolePolicy,
) -> Result<Arc<ServerConfig>, TlsError> {
    let level = WireLevel::Default;
    let verifier = ClientRoleVerifier::new(Arc::clone(current), policy, level).optional();
    accepting(current, dir, verifier, level, ALPN_HTTP1)
}

fn accepting(
    current: &Arc<CurrentTrustStore>,
    dir: &Path,
    verifier: ClientRoleVerifier,
    level: WireLevel,
    protocol: &[u8],
) -> Result<Arc<ServerConfig>, TlsError> {
    let refused = |source| TlsError::Config { dir: dir.to_owned(), source };
    let mut config = ServerConfig::builder_with_provider(level.provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(refused)?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(Resolver::new(current, level)));
    config.alpn_protocols = vec![protocol.to_vec()];
    // IMPORTANT: a ticket would let a peer whose certificate was revoked resume.
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

/// For dialling: the peer must be a node, and its certificate must name the dialled host.
pub(crate) fn client(
    current: &Arc<CurrentTrustStore>,
    dir: &Path,
    policy: RolePolicy,
    level: WireLevel,
) -> Result<Arc<ClientConfig>, TlsError> {
    let refused = |source| TlsError::Config { dir: dir.to_owned(), source };
    let mut config = ClientConfig::builder_with_provider(level.provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(refused)?
        // rustls calls every custom verifier "dangerous"; this one calls the standard one first.
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(NodeVerifier::new(Arc::clone(current), policy, level)))
        .with_client_cert_resolver(Arc::new(Resolver::new(current, level)));
    config.alpn_protocols = vec![ALPN_HTTP2.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Ok(Arc::new(config))
}

/// Verifies the chains of client certificates, but for revocation; see [`super::revocation`].
pub(crate) fn client_verifier(
    material: &Material<'_>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    callers_verifier(material.dir, Arc::clone(&material.roots), provider)
}

/// The same, without a certificate of our own.
pub(crate) fn callers_verifier(
    dir: &Path,
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let builder = WebPkiClientVerifier::builder_with_provider(roots, provider);
    builder.build().map_err(|error| unusable(dir, &error))
}

/// Verifies the chains of the nodes that we dial, but for revocation.
pub(crate) fn node_verifier(
    material: &Material<'_>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, TlsError> {
    let builder = WebPkiServerVerifier::builder_with_provider(material.roots.clone(), provider);
    builder.build().map_err(|error| unusable(material.dir, &error))
}

fn unusable(dir: &Path, error: &VerifierBuilderError) -> TlsError {
    TlsError::Config { dir: dir.to_owned(), source: rustls::Error::General(error.to_string()) }
}
