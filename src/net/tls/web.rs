//! TLS of the HTTP side: the node's own certificate, and an optional client certificate.

use std::{
    io,
    net::TcpStream as BlockingStream,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    TlsError,
    credentials::Identity,
    handshake,
    roles::{PeerIdentity, Role, RolePolicy},
};
use brock_core::base::limits;

/// Accepts browsers and scrapers. Cheap to clone; it uses reloaded certificates.
#[derive(Clone)]
pub struct WebTls {
    acceptor: TlsAcceptor,
    policy: RolePolicy,
}

impl WebTls {
    /// Accepts with the node's certificate.
    pub fn new(identity: &Identity) -> Result<Self, TlsError> {
        let policy = identity.policy();
        let config = handshake::web(identity.registry().trust_store(), identity.dir(), policy)?;
        Ok(Self { acceptor: TlsAcceptor::from(config), policy })
    }

    /// Does the handshake. Returns the role that the client's certificate states; `None` without a client
    /// certificate.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<(TlsStream<TcpStream>, Option<Role>)> {
        let stream = timeout(limits::HANDSHAKE_TIMEOUT, self.acceptor.accept(stream)).await??;
        let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let identity = shown.map(|leaf| PeerIdentity::of_certificate(leaf, self.policy));
        let role = identity.transpose().map_err(io::Error::other)?.map(|identity| identity.role);
        Ok((stream, role))
    }
}

/// A TLS client for a node's HTTP side, without an async runtime.
pub struct WebClient(Arc<ClientConfig>);

/// The CA file holds no usable certificate.
#[derive(Debug, thiserror::Error)]
#[error("{} is not a CA's certificate in PEM: {reason}", path.display())]
pub struct NoCa {
    path: PathBuf,
    reason: String,
}

impl WebClient {
    /// Trusts the CAs in this file.
    pub fn new(ca: &Path) -> Result<Self, NoCa> {
        let none = |reason: String| NoCa { path: ca.to_owned(), reason };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(ca).map_err(|error| none(error.to_string()))? {
            let certificate = certificate.map_err(|error| none(error.to_string()))?;
            roots.add(certificate).map_err(|error| none(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(none("it holds no certificate".to_owned()));
        }
        let config = ClientConfig::builder_with_provider(handshake::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| none(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }

    /// Starts TLS on a connection to `place`, `HOST:PORT`. The handshake is made with the first byte.
    pub fn connect(
        &self,
        place: &str,
        stream: BlockingStream,
    ) -> io::Result<StreamOwned<ClientConnection, BlockingStream>> {
        let host = place.rsplit_once(':').map_or(place, |(host, _)| host).trim_matches(['[', ']']);
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let connection = ClientConnection::new(Arc::clone(&self.0), name).map_err(io::Error::other)?;
        Ok(StreamOwned::new(connection, stream))
    }
}
