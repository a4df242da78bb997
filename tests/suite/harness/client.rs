//! A client of one node, with the calls that tests make.

use std::path::Path;

use super::certs::Certs;
use brock_client::Orders;
use brock_core::{
    base::id::KeyHash,
    domain::order::Subject,
    proto::{
        self, admin_service_client::AdminServiceClient, key_value_service_client::KeyValueServiceClient,
        replication_service_client::ReplicationServiceClient,
    },
};
use brock_net::{
    address::Address,
    channel::{Connector, endpoint, open_channel},
    dial::Dialler,
    tls::credentials::ClientIdentity,
};
use futures::stream;
use tonic::{Code, Request, Status, transport::Channel};

/// Connections to one node under one identity.
#[derive(Clone)]
pub struct Client {
    pub channel: Channel,
    pub kv: KeyValueServiceClient<Channel>,
    pub admin: AdminServiceClient<Channel>,
    pub replication: ReplicationServiceClient<Channel>,
    /// Signs what destroys, as an operator's tools do; `None`: with another certificate than an operator's.
    pub orders: Option<Orders>,
}

/// A record with this grant and nothing else.
pub fn record(grant: &[u8]) -> proto::Record {
    proto::Record { encrypted_access_grant: grant.to_vec().into(), ..Default::default() }
}

pub fn put_request(key_hash: &[u8], grant: &[u8]) -> proto::PutRequest {
    proto::PutRequest {
        key_hash: key_hash.to_vec().into(),
        record: Some(record(grant)),
        acks: None,
        import: false,
    }
}

/// Wait for every member, at most this long.
pub fn all_within(timeout_ms: u32) -> Option<proto::Acks> {
    Some(proto::Acks { from: Some(proto::acks::From::All(true)), timeout_ms })
}

/// Wait for so many members, at most this long.
pub fn nodes_within(nodes: u32, timeout_ms: u32) -> Option<proto::Acks> {
    Some(proto::Acks { from: Some(proto::acks::From::Nodes(nodes)), timeout_ms })
}

fn orders(certs_dir: &Path) -> Option<Orders> {
    Orders::new(&ClientIdentity::load(certs_dir).ok()?)
}

impl Client {
    /// Connects with the client certificate of a directory.
    pub async fn connect(address: &str, certs_dir: &Path) -> Self {
        Self { orders: orders(certs_dir), ..Self::with_config(address, Certs::config(certs_dir)).await }
    }

    pub async fn with_config(address: &str, config: impl Into<Dialler>) -> Self {
        Self::on(open_channel(&address.parse().unwrap(), config).await.unwrap().0)
    }

    /// Connects now, and again whenever the connection is gone.
    pub async fn lasting(address: &str, certs_dir: &Path) -> Self {
        let address: Address = address.parse().unwrap();
        let connector = Connector::new(address.clone(), Certs::config(certs_dir));
        let channel = endpoint(&address).connect_with_connector(connector).await.unwrap();
        Self { orders: orders(certs_dir), ..Self::on(channel) }
    }

    fn on(channel: Channel) -> Self {
        let most = 16 * 1024 * 1024;
        Self {
            kv: KeyValueServiceClient::new(channel.clone()).max_decoding_message_size(most),
            admin: AdminServiceClient::new(channel.clone()),
            replication: ReplicationServiceClient::new(channel.clone()),
            channel,
            orders: None,
        }
    }

    /// What is no key hash is not signed: that is for the node to refuse.
    fn sign(&self, subject: Subject<'_>) -> Option<proto::Order> {
        self.orders.as_ref().map(|orders| orders.sign(subject).unwrap())
    }

    /// A call whose request never ends: how the call ends.
    pub async fn never_ending(&self, path: &'static str) -> Status {
        let mut client = tonic::client::Grpc::new(self.channel.clone());
        client.ready().await.unwrap();
        let path = http::uri::PathAndQuery::from_static(path);
        let codec = tonic_prost::ProstCodec::<proto::PutRequest, proto::PutResponse>::default();
        client.client_streaming(Request::new(stream::pending()), path, codec).await.unwrap_err()
    }

    pub async fn put(&self, key_hash: &[u8], grant: &[u8]) -> Result<proto::Stamp, Status> {
        let response = self.kv.clone().put(put_request(key_hash, grant)).await?;
        Ok(response.into_inner().stamp.unwrap())
    }

    pub async fn put_record(&self, key_hash: &[u8], record: proto::Record) -> Result<proto::Stamp, Status> {
        let request = proto::PutRequest {
            key_hash: key_hash.to_vec().into(),
            record: Some(record),
            acks: None,
            import: false,
        };
        Ok(self.kv.clone().put(request).await?.into_inner().stamp.unwrap())
    }

    pub async fn get(&self, key_hash: &[u8]) -> Result<proto::Record, Status> {
        self.read(key_hash, false).await
    }

    /// From this node alone.
    pub async fn get_local(&self, key_hash: &[u8]) -> Result<proto::Record, Status> {
        self.read(key_hash, true).await
    }

    async fn read(&self, key_hash: &[u8], local: bool) -> Result<proto::Record, Status> {
        let request = proto::GetRequest { key_hash: key_hash.to_vec().into(), local };
        Ok(self.kv.clone().get(request).await?.into_inner().record.unwrap())
    }

    pub async fn has_local(&self, key_hash: &[u8]) -> Option<()> {
        match self.get_local(key_hash).await {
            Ok(_) => Some(()),
            Err(status) if status.code() == Code::NotFound => None,
            Err(status) => panic!("a local read failed: {status}"),
        }
    }

    pub async fn invalidate(
        &self,
        key_hash: &[u8],
        reason: &str,
        acks: Option<proto::Acks>,
    ) -> Result<proto::OperationResponse, Status> {
        let hash = KeyHash::try_from(key_hash).ok();
        let order = hash.as_ref().and_then(|hash| self.sign(Subject::Invalidate(hash, reason)));
        let (key_hash, reason) = (key_hash.to_vec().into(), reason.to_owned());
        let request = proto::InvalidateRequest { key_hash, reason, ahead: false, acks, order };
        Ok(self.admin.clone().invalidate(request).await?.into_inner())
    }

    pub async fn invalidate_ahead(&self, key_hash: &[u8], reason: &str) -> proto::OperationResponse {
        let hash = KeyHash::try_from(key_hash).ok();
        let order = hash.as_ref().and_then(|hash| self.sign(Subject::Invalidate(hash, reason)));
        let (key_hash, reason) = (key_hash.to_vec().into(), reason.to_owned());
        let request = proto::InvalidateRequest { key_hash, reason, ahead: true, acks: None, order };
        self.admin.clone().invalidate(request).await.unwrap().into_inner()
    }

    pub async fn unpublish(&self, key_hash: &[u8]) -> Result<proto::OperationResponse, Status> {
        let hash = KeyHash::try_from(key_hash).ok();
        let order = hash.as_ref().and_then(|hash| self.sign(Subject::Unpublish(hash)));
        let request =
            proto::UnpublishRequest { key_hash: key_hash.to_vec().into(), order, ..Default::default() };
        Ok(self.admin.clone().unpublish(request).await?.into_inner())
    }

    pub async fn delete(
        &self,
        key_hash: &[u8],
        acks: Option<proto::Acks>,
    ) -> Result<proto::OperationResponse, Status> {
        let hash = KeyHash::try_from(key_hash).ok();
        let order = hash.as_ref().and_then(|hash| self.sign(Subject::Delete(hash)));
        let request = proto::DeleteRequest { key_hash: key_hash.to_vec().into(), ahead: false, acks, order };
        Ok(self.admin.clone().delete(request).await?.into_inner())
    }

    pub async fn delete_ahead(&self, key_hash: &[u8]) -> proto::OperationResponse {
        let hash = KeyHash::try_from(key_hash).ok();
        let order = hash.as_ref().and_then(|hash| self.sign(Subject::Delete(hash)));
        let request =
            proto::DeleteRequest { key_hash: key_hash.to_vec().into(), ahead: true, acks: None, order };
        self.admin.clone().delete(request).await.unwrap().into_inner()
    }

    /// On this node, and on all that it passes the order on to.
    pub async fn retire(&self, member: &str) -> proto::RetireMemberResponse {
        let order = self.sign(Subject::Retire(member));
        let request = proto::RetireMemberRequest { member: member.to_owned(), order };
        self.admin.clone().retire_member(request).await.unwrap().into_inner()
    }

    pub async fn members(&self) -> proto::MembersResponse {
        self.admin.clone().members(proto::MembersRequest {}).await.unwrap().into_inner()
    }

    pub async fn verify(&self) -> proto::VerifyResponse {
        self.admin.clone().verify(proto::VerifyRequest {}).await.unwrap().into_inner()
    }

    pub async fn trace(&self, key_hash: &[u8]) -> proto::TraceRecordResponse {
        let request = proto::TraceRecordRequest { key_hash: key_hash.to_vec().into() };
        self.admin.clone().trace_record(request).await.unwrap().into_inner()
    }

    pub async fn show(&self, key_hash: &[u8]) -> Result<proto::Record, Status> {
        let request = proto::ShowRecordRequest { key_hash: key_hash.to_vec().into(), local: true };
        Ok(self.admin.clone().show_record(request).await?.into_inner().record.unwrap())
    }

    pub async fn status(&self) -> proto::StatusResponse {
        self.try_status().await.unwrap()
    }

    pub async fn try_status(&self) -> Result<proto::StatusResponse, Status> {
        Ok(self.admin.clone().status(proto::StatusRequest::default()).await?.into_inner())
    }
}
