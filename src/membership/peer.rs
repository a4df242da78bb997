//! One peer, called over the network.

use std::future::Future;

use tokio::time::timeout;
use tonic::{Code, transport::Channel};

use brock_core::{
    base::limits,
    domain::codec::CodecError,
    proto::{self, replication_service_client::ReplicationServiceClient},
};
use brock_net::{address::Address, channel, dial::Dialler, tls::errors};

use crate::store::StoreError;

/// Why another node's records could not be looked at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RemoteError {
    /// It could not be asked.
    #[error("{0}")]
    Call(String),
    /// It has not what was asked for.
    #[error("{0}")]
    Absent(String),
    /// It did not answer in time.
    #[error("no answer within {} s", limits::PEER_CALL_TIMEOUT.as_secs())]
    Late,
    /// Its answer makes no sense.
    #[error("its answer makes no sense: {0}")]
    Nonsense(#[from] CodecError),
    /// It is this process's own store, which could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A peer, called over the network.
#[derive(Clone)]
pub struct Peer {
    /// As it stands in `node.join`.
    pub address: String,
    /// Dials when it is first used, and again whenever the connection is lost.
    pub client: ReplicationServiceClient<Channel>,
}

impl Peer {
    /// Connects when it is first called, each time by resolving the address anew.
    pub fn new(address: &Address, dialler: &Dialler) -> Self {
        let channel = channel::lazy_channel(address, dialler.clone());
        let client =
            ReplicationServiceClient::new(channel).max_decoding_message_size(limits::MESSAGE_MAX_BYTES);
        Self { address: address.to_string(), client }
    }

    /// One bounded call.
    pub async fn call<T, F>(
        &self,
        call: impl FnOnce(ReplicationServiceClient<Channel>) -> F,
    ) -> Result<T, RemoteError>
    where
        F: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        answer(timeout(limits::PEER_CALL_TIMEOUT, call(self.client.clone())).await)
    }

    /// Asks the peer to retire a member; `alias` is the member's address for its node id, or the other way
    /// round, and empty if that is not known.
    pub async fn retire(&self, member: &str, alias: String) -> Result<(), RemoteError> {
        let request = proto::RetireRequest { member: member.to_owned(), alias };
        self.call(|mut client| async move { client.retire(request).await }).await.map(drop)
    }
}

fn answer<T>(
    answered: Result<Result<tonic::Response<T>, tonic::Status>, tokio::time::error::Elapsed>,
) -> Result<T, RemoteError> {
    match answered {
        Err(_) => Err(RemoteError::Late),
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) if status.code() == Code::NotFound => {
            Err(RemoteError::Absent(status.message().to_owned()))
        }
        Ok(Err(status)) => Err(RemoteError::Call(
            errors::explain(&status).unwrap_or_else(|| format!("{}: {}", status.code(), status.message())),
        )),
    }
}
