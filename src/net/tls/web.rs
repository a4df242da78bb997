//! TLS of the HTTP side: the node's own certificate, and a client's if it shows one.

use std::io;

use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    TlsError, config,
    credentials::Identity,
    roles::{PeerIdentity, Role, RolePolicy},
};
use brock_core::base::limits;

/// Accepts browsers and scrapers. Cheap to clone; follows exchanged certificates.
#[derive(Clone)]
pub struct WebTls {
    acceptor: TlsAcceptor,
    policy: RolePolicy,
}

impl WebTls {
    /// As this node.
    pub fn new(identity: &Identity) -> Result<Self, TlsError> {
        let policy = identity.policy();
        let config = config::web(identity.current(), identity.dir(), policy)?;
        Ok(Self { acceptor: TlsAcceptor::from(config), policy })
    }

    /// The handshake, and the role that the client's certificate states; `None` = it showed none.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<(TlsStream<TcpStream>, Option<Role>)> {
        let stream = timeout(limits::HANDSHAKE_TIMEOUT, self.acceptor.accept(stream)).await??;
        let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let identity = shown.map(|leaf| PeerIdentity::of_certificate(leaf, self.policy));
        let role = identity.transpose().map_err(io::Error::other)?.map(|identity| identity.role);
        Ok((stream, role))
    }
}
