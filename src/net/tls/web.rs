//! TLS of the HTTP side: the node's own certificate, and an optional client certificate.

use std::io;

use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    TlsError,
    credentials::Identity,
    handshake,
    roles::{PeerIdentity, Role, RolePolicy},
};
use crate::panics::contain;
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
        let stream = timeout(limits::HANDSHAKE_TIMEOUT, contain(self.acceptor.accept(stream))).await?;
        let stream = stream.map_err(io::Error::other)??;
        let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let identity = shown.map(|leaf| PeerIdentity::of_certificate(leaf, self.policy));
        let role = identity.transpose().map_err(io::Error::other)?.map(|identity| identity.role);
        Ok((stream, role))
    }
}
