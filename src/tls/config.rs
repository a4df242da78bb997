//! The rustls configurations: TLS 1.3 only, mutual, aws-lc-rs with the hybrid post-quantum group
//! first, HTTP/2 only, nothing resumable, no early data.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::{Resumption, WebPkiServerVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
    server::WebPkiClientVerifier,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::{
    TlsError,
    roles::RolePolicy,
    verify::{ClientRoleVerifier, NodeVerifier},
};

/// The only application protocol that is spoken.
const ALPN_HTTP2: &[u8] = b"h2";

/// A certificate chain (leaf first), its key and whom it trusts.
pub(super) struct Material<'a> {
    /// Where it came from, for messages.
    pub(super) dir: &'a Path,
    /// Leaf first.
    pub(super) chain: &'a [CertificateDer<'static>],
    /// The leaf's key.
    pub(super) key: &'a PrivateKeyDer<'static>,
    /// The CAs.
    pub(super) roots: Arc<RootCertStore>,
    /// Which certificates are believed.
    pub(super) policy: RolePolicy,
}

/// aws-lc-rs; its key exchange groups begin with X25519MLKEM768 (`prefer-post-quantum`).
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// For accepting: a client without a certificate that states a role is refused in the handshake.
pub(super) fn server(material: &Material<'_>) -> Result<Arc<ServerConfig>, TlsError> {
    let refused = |source| TlsError::Config { dir: material.dir.to_owned(), source };
    let verifier = client_verifier(material)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(refused)?
        .with_client_cert_verifier(Arc::new(ClientRoleVerifier::new(verifier, material.policy)))
        .with_single_cert(material.chain.to_vec(), material.key.clone_key())
        .map_err(refused)?;
    config.alpn_protocols = vec![ALPN_HTTP2.to_vec()];
    // IMPORTANT: a ticket would let a peer whose certificate was revoked resume.
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

/// For dialling: whoever answers must be a node, and its certificate must name the dialled host.
pub(super) fn client(material: &Material<'_>) -> Result<Arc<ClientConfig>, TlsError> {
    let refused = |source| TlsError::Config { dir: material.dir.to_owned(), source };
    let verifier = WebPkiServerVerifier::builder_with_provider(material.roots.clone(), provider())
        .build()
        .map_err(|error| refused(rustls::Error::General(error.to_string())))?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(refused)?
        // "Dangerous" is any verifier but the stock one; this one asks the stock one first.
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(NodeVerifier::new(verifier, material.policy)))
        .with_client_auth_cert(material.chain.to_vec(), material.key.clone_key())
        .map_err(refused)?;
    config.alpn_protocols = vec![ALPN_HTTP2.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Ok(Arc::new(config))
}

/// The chain check of client certificates.
pub(super) fn client_verifier(
    material: &Material<'_>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, TlsError> {
    WebPkiClientVerifier::builder_with_provider(material.roots.clone(), provider()).build().map_err(|error| {
        TlsError::Config { dir: material.dir.to_owned(), source: rustls::Error::General(error.to_string()) }
    })
}
