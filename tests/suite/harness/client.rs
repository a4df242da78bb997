//! A client of one node, with the calls that tests make.

use std::{path::Path, sync::Arc};

use brock::{
    proto::{
        self, admin_service_client::AdminServiceClient, key_value_service_client::KeyValueServiceClient,
        replication_service_client::ReplicationServiceClient,
    },
    tls::channel::open_channel,
};
use tonic::{Code, Status, transport::Channel};

use super::certs::Certs;

/// Connections to one node under one identity.
#[derive(Clone)]
pub struct Client {
    pub channel: Channel,
    pub kv: KeyValueServiceClient<Channel>,
    pub admin: AdminServiceClient<Channel>,
    pub replication: ReplicationServiceClient<Channel>,
}

/// A record with this grant and nothing else.
pub fn record(grant: &[u8]) -> proto::Record {
    proto::Record { encrypted_access_grant: grant.to_vec().into(), ..Default::default() }
}

pub fn put_request(key_hash: &[u8], grant: &[u8]) -> proto::PutRequest {
    proto::PutRequest { key_hash: key_hash.to_vec().into(), record: Some(record(grant)) }
}

impl Client {
    /// Connects with the client certificate of a directory.
    pub async fn connect(address: &str, certs_dir: &Path) -> Self {
        Self::with_config(address, Certs::config(certs_dir)).await
    }

    pub async fn with_config(address: &str, config: Arc<rustls::ClientConfig>) -> Self {
        let (channel, _) = open_channel(&address.parse().unwrap(), config).await.unwrap();
        let most = 16 * 1024 * 1024;
        Self {
            kv: KeyValueServiceClient::new(channel.clone()).max_decoding_message_size(most),
            admin: AdminServiceClient::new(channel.clone()),
            replication: ReplicationServiceClient::new(channel.clone()),
            channel,
        }
    }

    pub async fn put(&self, key_hash: &[u8], grant: &[u8]) -> Result<proto::Stamp, Status> {
        let response = self.kv.clone().put(put_request(key_hash, grant)).await?;
        Ok(response.into_inner().stamp.unwrap())
    }

    pub async fn put_record(&self, key_hash: &[u8], record: proto::Record) -> Result<proto::Stamp, Status> {
        let request = proto::PutRequest { key_hash: key_hash.to_vec().into(), record: Some(record) };
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

    pub async fn status(&self) -> proto::StatusResponse {
        self.admin.clone().status(proto::StatusRequest {}).await.unwrap().into_inner()
    }
}
