//! Reaching nodes: credentials, connections, time-outs and failover.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::{Instant, timeout, timeout_at};
use tonic::{Code, Status, transport::Channel};

use brock_core::proto;
use brock_net::{
    address::Address,
    channel::{lazy_channel, open_channel},
    dial::Dialler,
    tls::credentials::ClientIdentity,
};

use crate::{
    calls::key_values,
    error::{CallError, Miss},
    failover::{self, Answered},
    orders::Orders,
};

/// A client of a cluster. Cheap to clone.
///
/// Each call goes to the first node that answers. A node that answers with an error has answered: the
/// next node is asked only if a node cannot be reached, does not answer in time, or answers UNAVAILABLE or
/// DEADLINE_EXCEEDED.
#[derive(Debug, Clone)]
pub struct Client {
    dialler: Dialler,
    addresses: Arc<[Address]>,
    orders: Option<Orders>,
    timeout: Duration,
}

impl Client {
    /// Asks the nodes at `addresses` in this order. `timeout` bounds a call to one node, connecting included.
    /// Does not touch the network.
    pub fn new(credentials: &ClientIdentity, addresses: Vec<Address>, timeout: Duration) -> Self {
        let (dialler, orders) = (credentials.dialler(), Orders::new(credentials));
        Self { dialler, addresses: addresses.into(), orders, timeout }
    }

    /// The nodes, in the order in which they are asked.
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// Signs orders with the certificate; `None` if it is not one whose orders nodes accept.
    pub fn orders(&self) -> Option<&Orders> {
        self.orders.as_ref()
    }

    /// How long a call to one node may take, connecting included.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Makes the call at one node after the other until one answers, each on a new connection.
    pub async fn first_answer<T, F: Future<Output = Result<T, Status>>>(
        &self,
        call: impl Fn(Channel) -> F,
    ) -> Answered<T> {
        failover::first_answer(&*self.addresses, |address| self.call(address, &call)).await
    }

    /// The same, and a connection to the node that answered, for further calls to that node.
    pub async fn first_node<T, F: Future<Output = Result<T, Status>>>(
        &self,
        call: impl Fn(Channel) -> F,
    ) -> Answered<(T, Connection)> {
        let attempt = |address| {
            let answer = self.call(address, &call);
            async move { Ok((answer.await?, self.connection(address))) }
        };
        failover::first_answer(&*self.addresses, attempt).await
    }

    /// A channel to one node for work that may outlive a connection: it reconnects when the connection is
    /// lost, as it is when a node rotates its certificates. Fails if the node does not answer now.
    pub async fn connect(&self, address: &Address) -> Result<Channel, CallError> {
        let connection = self.connection(address);
        // The call establishes the connection. No record has this key hash.
        let request = proto::GetRequest { key_hash: Bytes::from_static(&[0; 32]), local: true };
        let probed = connection.call(|channel| async move { key_values(channel).get(request).await }).await;
        match probed {
            Ok(_) => Ok(connection.channel),
            Err(CallError::Status(status)) if status.code() == Code::NotFound => Ok(connection.channel),
            Err(error) => Err(error),
        }
    }

    /// For calls to one node. It connects at the first call, and again when the connection is lost.
    pub fn connection(&self, address: &Address) -> Connection {
        let channel = lazy_channel(address, self.dialler.clone());
        Connection { address: address.clone(), channel, timeout: self.timeout }
    }

    /// One call to one node on a new connection.
    async fn call<T, F: Future<Output = Result<T, Status>>>(
        &self,
        address: &Address,
        call: impl FnOnce(Channel) -> F,
    ) -> Result<T, CallError> {
        let deadline = Instant::now() + self.timeout;
        let late = |was_sent| CallError::Miss(Miss::late(address, was_sent));
        let channel = match timeout_at(deadline, open_channel(address, self.dialler.clone())).await {
            Ok(Ok((channel, _node))) => channel,
            Ok(Err(error)) => return Err(CallError::Miss(Miss::unreached(address, &error))),
            Err(_) => return Err(late(false)),
        };
        match timeout_at(deadline, call(channel)).await {
            Ok(outcome) => outcome.map_err(|status| CallError::new(address, status)),
            Err(_) => Err(late(true)),
        }
    }
}

/// Calls to one node, on a connection that is kept.
#[derive(Debug, Clone)]
pub struct Connection {
    address: Address,
    channel: Channel,
    timeout: Duration,
}

impl Connection {
    /// The node's address.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Makes one call. The time-out includes connecting.
    pub async fn call<T, F: Future<Output = Result<T, Status>>>(
        &self,
        call: impl FnOnce(Channel) -> F,
    ) -> Result<T, CallError> {
        match timeout(self.timeout, call(self.channel.clone())).await {
            Ok(outcome) => outcome.map_err(|status| CallError::new(&self.address, status)),
            Err(_) => Err(CallError::Miss(Miss::unanswered(&self.address))),
        }
    }
}
