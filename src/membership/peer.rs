//! One peer, called over the network.

use std::{fmt, future::Future, sync::Arc};

use tokio::time::timeout;
use tonic::{Code, transport::Channel};

use brock_core::{
    base::limits,
    domain::{birth::SignedBirth, codec::CodecError},
    proto::{self, replication_service_client::ReplicationServiceClient},
};
use brock_net::{address::Address, channel, dial::Dialler, tls::errors};

use crate::store::StoreError;

/// Identifies a peer in the roster: its address as `node.join` or DNS lists it, or a name in `node.join`
/// that DNS has not answered for yet. Ordered by its text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerKey(Arc<str>);

impl PeerKey {
    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&Address> for PeerKey {
    fn from(address: &Address) -> Self {
        Self(address.to_string().into())
    }
}

impl From<&str> for PeerKey {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a peer did not answer a call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// TLS failed: one of the two ends refused the other's certificate.
    #[error("{0}")]
    Tls(String),
    /// The peer, or this node's end of the connection to it, reports an error.
    #[error("{}", if message.is_empty() { code.description() } else { message })]
    Status {
        /// Its gRPC code.
        code: Code,
        /// Its text.
        message: String,
    },
}

impl From<tonic::Status> for CallError {
    fn from(status: tonic::Status) -> Self {
        // A certificate that the peer refused shows only here, as a broken connection.
        match errors::explain(&status) {
            Some(reason) => Self::Tls(reason),
            None => Self::Status { code: status.code(), message: status.message().to_owned() },
        }
    }
}

/// Why another node's records could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RemoteError {
    /// The call failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The peer does not have the requested item.
    #[error("{0}")]
    Absent(String),
    /// The peer did not answer in time.
    #[error("no answer within {} s", limits::PEER_CALL_TIMEOUT.as_secs())]
    Late,
    /// The peer's answer is malformed.
    #[error("its answer makes no sense: {0}")]
    Nonsense(#[from] CodecError),
    /// The local store, read in the peer's place, failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A peer, called over the network.
#[derive(Clone)]
pub struct Peer {
    /// Which peer this is.
    pub key: PeerKey,
    /// Dials at the first call, and again after the connection was lost.
    pub client: ReplicationServiceClient<Channel>,
}

impl Peer {
    /// A peer at an address that is resolved at every dial.
    pub fn new(address: &Address, dialler: &Dialler) -> Self {
        Self::on(address.into(), channel::lazy_channel(address, dialler.clone()))
    }

    /// A peer at the other end of a channel.
    pub fn on(key: PeerKey, channel: Channel) -> Self {
        let client =
            ReplicationServiceClient::new(channel).max_decoding_message_size(limits::MESSAGE_MAX_BYTES);
        Self { key, client }
    }

    /// Makes one call, within [`limits::PEER_CALL_TIMEOUT`].
    pub async fn call<T, F>(
        &self,
        call: impl FnOnce(ReplicationServiceClient<Channel>) -> F,
    ) -> Result<T, RemoteError>
    where
        F: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        match timeout(limits::PEER_CALL_TIMEOUT, call(self.client.clone())).await {
            Err(_) => Err(RemoteError::Late),
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) if status.code() == Code::NotFound => {
                Err(RemoteError::Absent(status.message().to_owned()))
            }
            Ok(Err(status)) => Err(CallError::from(status).into()),
        }
    }

    /// Passes on an operator's order to retire a member.
    pub async fn retire(&self, member: &str, order: proto::Order) -> Result<(), RemoteError> {
        let request = proto::RetireRequest { member: member.to_owned(), order: Some(order) };
        self.call(|mut client| async move { client.retire(request).await }).await.map(drop)
    }

    /// Offers a birth: an operator has vouched for it, or the peer claims more of that log than is signed.
    pub async fn offer_births(&self, birth: &SignedBirth) -> Result<(), RemoteError> {
        let request = proto::Births { births: vec![birth.to_proto()], tips: Vec::new() };
        self.call(|mut client| async move { client.offer_births(request).await }).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_peer_says_stands_without_the_words_of_its_code() {
        let text = |message: &str| CallError::from(tonic::Status::unavailable(message)).to_string();
        assert_eq!(text("cannot connect: refused"), "cannot connect: refused");
        assert_eq!(text(""), Code::Unavailable.description());
    }
}
