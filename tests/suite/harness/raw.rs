//! Calls with whatever bytes a test likes: any path, any message.

use crate::harness::PATIENCE;
use brock_net::channel::open_channel;
use bytes::{Buf, BufMut, Bytes};
use futures::{Stream, StreamExt, stream};
use http::uri::PathAndQuery;
use tonic::{
    Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::Channel,
};

/// Passes messages on as they are.
#[derive(Clone, Copy, Default)]
struct AsBytes;

impl Codec for AsBytes {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for AsBytes {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for AsBytes {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// Makes a call with these messages and returns the first answer, if the stream has one.
pub async fn call_with(
    channel: &Channel,
    path: &'static str,
    messages: impl Stream<Item = Bytes> + Send + 'static,
) -> Result<Option<Bytes>, Status> {
    let work = async {
        let mut grpc = Grpc::new(channel.clone());
        grpc.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
        let path = PathAndQuery::from_static(path);
        let response = grpc.streaming(Request::new(messages), path, AsBytes).await?;
        response.into_inner().message().await
    };
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("{path} never answered"))
}

/// The same with one message.
pub async fn call(channel: &Channel, path: &'static str, message: &[u8]) -> Result<Option<Bytes>, Status> {
    call_with(channel, path, stream::iter([Bytes::copy_from_slice(message)])).await
}

/// The same with one message, and a stream that stays open.
pub async fn call_open(
    channel: &Channel,
    path: &'static str,
    message: &[u8],
) -> Result<Option<Bytes>, Status> {
    let message = Bytes::copy_from_slice(message);
    call_with(channel, path, stream::iter([message]).chain(stream::pending())).await
}

/// A channel to a node, with the certificates of a directory.
pub async fn channel(address: &str, certs_dir: &std::path::Path) -> Channel {
    let config = crate::harness::certs::Certs::config(certs_dir);
    open_channel(&address.parse().unwrap(), config).await.unwrap().0
}

/// The same for a directory with a node's certificate.
pub async fn channel_of_node(address: &str, certs: &crate::harness::certs::Certs, id: &str) -> Channel {
    let config = certs.node_identity(id).dialler();
    open_channel(&address.parse().unwrap(), config).await.unwrap().0
}
