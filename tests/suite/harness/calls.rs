//! A valid request for every call of the protocol.

use super::{client::record, random_key, raw};
use brock::replication::pull::puller::PROTOCOL_VERSION;
use brock_core::{
    base::id::{Incarnation, Origin},
    proto::{self, replicate_request},
};
use prost::Message;
use tonic::{Status, transport::Channel};
use tonic_reflection::pb::v1::{ServerReflectionRequest, server_reflection_request::MessageRequest};

/// A valid message for each call, so that a refusal can only be about the role.
fn message(path: &str) -> Vec<u8> {
    let key_hash = bytes::Bytes::from(random_key());
    let put = || proto::PutRequest {
        key_hash: key_hash.clone(),
        record: Some(record(b"g")),
        acks: None,
        import: false,
    };
    let get = || proto::GetRequest { key_hash: key_hash.clone(), local: true };
    let hello = proto::Hello {
        protocol_version: PROTOCOL_VERSION,
        node_id: "node-9".to_owned(),
        batch_limit: 10,
        ..proto::Hello::default()
    };
    match path.rsplit('/').next().unwrap() {
        "Put" => put().encode_to_vec(),
        "Get" => get().encode_to_vec(),
        "BatchPut" => proto::BatchPutRequest { items: vec![put()] }.encode_to_vec(),
        "BatchGet" => proto::BatchGetRequest { items: vec![get()] }.encode_to_vec(),
        "Session" => {
            let request = Some(proto::session_request::Request::Put(put()));
            proto::SessionRequest { id: 1, request }.encode_to_vec()
        }
        "Snapshot" => {
            proto::SnapshotRequest { node_id: "node-9".to_owned(), ..Default::default() }.encode_to_vec()
        }
        "Recognise" => proto::RecogniseRequest { node_id: "node-9".to_owned() }.encode_to_vec(),
        "Peek" => proto::PeekRequest { key_hash }.encode_to_vec(),
        "Replicate" => {
            let message = Some(replicate_request::Message::Hello(hello));
            proto::ReplicateRequest { message, ..Default::default() }.encode_to_vec()
        }
        "ServerReflectionInfo" => ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        }
        .encode_to_vec(),
        "ListBucket" => proto::ListBucketRequest { bucket: 0, ..Default::default() }.encode_to_vec(),
        "FetchStates" => proto::FetchStatesRequest { key_hashes: vec![key_hash] }.encode_to_vec(),
        "Trace" => proto::TraceRequest { key_hash }.encode_to_vec(),
        "TraceRecord" => proto::TraceRecordRequest { key_hash }.encode_to_vec(),
        "Invalidate" => {
            let reason = "leaked".to_owned();
            proto::InvalidateRequest { key_hash, reason, ..Default::default() }.encode_to_vec()
        }
        "Unpublish" => proto::UnpublishRequest { key_hash, ..Default::default() }.encode_to_vec(),
        "Delete" => proto::DeleteRequest { key_hash, ..Default::default() }.encode_to_vec(),
        "RetireMember" => {
            proto::RetireMemberRequest { member: "node-7".to_owned(), order: None }.encode_to_vec()
        }
        "ResumeOrigin" => proto::ResumeOriginRequest { node_id: "node-7".to_owned() }.encode_to_vec(),
        "Retire" => {
            proto::RetireRequest { member: "node-7".to_owned(), ..Default::default() }.encode_to_vec()
        }
        "AcknowledgeFork" => {
            let origin = Origin::new(&"node-7".parse().unwrap(), Incarnation(1));
            let origin = bytes::Bytes::copy_from_slice(origin.as_bytes());
            proto::AcknowledgeForkRequest { origin }.encode_to_vec()
        }
        "ShowQuarantined" | "RetryQuarantined" | "DropQuarantined" => {
            let origin = Origin::new(&"node-7".parse().unwrap(), Incarnation(1));
            let origin = bytes::Bytes::copy_from_slice(origin.as_bytes());
            proto::QuarantinedRequest { stamp: Some(proto::Stamp { origin, clock: 1 }) }.encode_to_vec()
        }
        "ShowRecord" => proto::ShowRecordRequest { key_hash, local: true }.encode_to_vec(),
        _ => Vec::new(),
    }
}

/// Makes any call of the protocol with a valid message.
pub async fn call_any(channel: &Channel, path: &'static str) -> Result<(), Status> {
    // Replicate keeps its stream open; the others end by themselves.
    let answer = match path.ends_with("/Replicate") {
        true => raw::call_open(channel, path, &message(path)).await,
        false => raw::call(channel, path, &message(path)).await,
    };
    answer.map(|_| ())
}
