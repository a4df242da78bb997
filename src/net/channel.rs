//! gRPC channels over identified connections.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::Uri;
use hyper_util::rt::TokioIo;
use tonic::transport::{Channel, Endpoint};
use tower::Service;

use crate::{
    address::Address,
    dial::{DialError, Dialled, Dialler, dial},
    tls::{errors, roles::PeerIdentity},
};
use brock_core::base::limits;

/// Dials one address whenever a channel needs a connection. The URI of the request is ignored.
#[derive(Debug, Clone)]
pub struct Connector {
    address: Address,
    dialler: Dialler,
}

impl Connector {
    /// For `Endpoint::connect_with_connector` and `connect_with_connector_lazy`.
    pub fn new(address: Address, dialler: Dialler) -> Self {
        Self { address, dialler }
    }
}

type Connecting = Pin<Box<dyn Future<Output = Result<TokioIo<Dialled>, DialError>> + Send>>;

impl Service<Uri> for Connector {
    type Response = TokioIo<Dialled>;
    type Error = DialError;
    type Future = Connecting;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Connecting {
        let Self { address, dialler } = self.clone();
        Box::pin(async move { dial(&address, dialler).await.map(TokioIo::new) })
    }
}

/// Returns one connection that was dialled before.
struct Once {
    address: Address,
    dialled: Option<Dialled>,
}

impl Service<Uri> for Once {
    type Response = TokioIo<Dialled>;
    type Error = DialError;
    type Future = std::future::Ready<Result<TokioIo<Dialled>, DialError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let lost = || DialError::Lost { address: self.address.clone() };
        std::future::ready(self.dialled.take().map(TokioIo::new).ok_or_else(lost))
    }
}

/// The HTTP/2 settings of every channel: pings that detect a dead peer, and windows that bound memory.
/// There is no connect time-out, because [`dial`] has one; each call sets its own time-out.
pub fn endpoint(address: &Address) -> Endpoint {
    Endpoint::from(address.uri().clone())
        .initial_stream_window_size(limits::STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::CONNECTION_WINDOW_BYTES)
        .http2_keep_alive_interval(limits::KEEPALIVE_INTERVAL)
        .keep_alive_timeout(limits::KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
}

/// Dials now, and returns a channel on that connection and the identity of the node. The channel never
/// reconnects, so the identity stays valid; after the connection is lost, calls fail.
pub async fn open_channel(
    address: &Address,
    dialler: impl Into<Dialler>,
) -> Result<(Channel, Arc<PeerIdentity>), DialError> {
    let dialled = dial(address, dialler).await?;
    let identity = dialled.identity().clone();
    let once = Once { address: address.clone(), dialled: Some(dialled) };
    match endpoint(address).connect_with_connector(once).await {
        Ok(channel) => Ok((channel, identity)),
        Err(error) => {
            let reason = errors::explain(&error).unwrap_or_else(|| error.to_string());
            Err(DialError::Http2 { address: address.clone(), reason })
        }
    }
}

/// A channel that dials at its first call, and again after it loses its connection.
pub fn lazy_channel(address: &Address, dialler: impl Into<Dialler>) -> Channel {
    endpoint(address).connect_with_connector_lazy(Connector::new(address.clone(), dialler.into()))
}
