//! What the key-value service answers, to the letter.

use std::collections::HashSet;

use crate::{
    harness::raw,
    harness::{
        certs::Certs,
        client::{Client, put_request, record},
        eventually,
        node::{TestNode, node_with},
        random_key,
    },
};
use brock::config::validate::Config;
use brock_core::{
    base::{limits, time::unix_now},
    proto::{self, batch_get_response, batch_put_response},
};
use prost::Message;
use rand::Rng;
use tonic::{Code, Status};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};
use tonic_types::StatusExt as _;

async fn node() -> (Certs, TestNode) {
    node_with(|config| config).await
}

/// The grant with which a payload that has nothing else takes exactly this many bytes.
fn grant_for_payload_of(size_bytes: usize) -> Vec<u8> {
    let encoded = |grant: usize| {
        proto::Payload { encrypted_access_grant: vec![0; grant].into(), ..Default::default() }.encoded_len()
    };
    let grant = (size_bytes - 6..size_bytes).find(|grant| encoded(*grant) == size_bytes);
    vec![7; grant.unwrap()]
}

fn assert_refused(outcome: Result<impl std::fmt::Debug, Status>, code: Code, part: &str) {
    let status = outcome.unwrap_err();
    assert_eq!(status.code(), code, "{status}");
    assert!(status.message().contains(part), "{:?} does not say {part:?}", status.message());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_hash_of_any_other_size_than_32_bytes_is_refused_by_name() {
    let (_certs, node) = node().await;
    for size in [0, 1, 31, 33, 64, 4096] {
        let (key, part) = (vec![1; size], format!("key_hash: is {size} bytes"));
        assert_refused(node.client.put(&key, b"g").await, Code::InvalidArgument, &part);
        assert_refused(node.client.get(&key).await, Code::InvalidArgument, &part);
        assert_refused(node.client.get_local(&key).await, Code::InvalidArgument, &part);
        let show = proto::ShowRecordRequest { key_hash: key.into(), local: false };
        assert_refused(node.admin.admin.clone().show_record(show).await, Code::InvalidArgument, &part);
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_no_put_may_carry_is_refused_by_field_and_leaves_the_clock_alone() {
    let (_certs, node) = node().await;
    assert_eq!(node.client.put(&random_key(), b"g").await.unwrap().clock, 1);
    let good = || record(b"g");
    let now = unix_now();
    let cases: [(&str, proto::Record); 15] = [
        ("record.state", proto::Record { state: 1, ..good() }),
        ("record.state", proto::Record { state: 2, ..good() }),
        ("record.state", proto::Record { state: -7, ..good() }),
        ("record.invalidation_reason", proto::Record { invalidation_reason: "x".into(), ..good() }),
        ("record.invalidated_at_unix", proto::Record { invalidated_at_unix: 1, ..good() }),
        ("record.created_at_unix", proto::Record { created_at_unix: -1, ..good() }),
        ("record.expires_at_unix", proto::Record { expires_at_unix: i64::MIN, ..good() }),
        // In the past.
        ("record.expires_at_unix", proto::Record { expires_at_unix: 5, ..good() }),
        ("record.expires_at_unix", proto::Record { expires_at_unix: now, ..good() }),
        // In milliseconds, or larger.
        ("record.expires_at_unix", proto::Record { expires_at_unix: (now + 3600) * 1000, ..good() }),
        ("record.expires_at_unix", proto::Record { expires_at_unix: limits::RECORD_TIME_MAX + 1, ..good() }),
        ("record.expires_at_unix", proto::Record { expires_at_unix: i64::MAX, ..good() }),
        ("record.created_at_unix", proto::Record { created_at_unix: now * 1000, ..good() }),
        ("record.created_at_unix", proto::Record { created_at_unix: now + 25 * 3600, ..good() }),
        ("record.created_at_unix", proto::Record { created_at_unix: i64::MAX, ..good() }),
    ];
    for (field, wrong) in cases {
        let key = random_key();
        let outcome = node.client.put_record(&key, wrong).await;
        assert_refused(outcome, Code::InvalidArgument, &format!("{field}: "));
        assert_refused(node.client.get(&key).await, Code::NotFound, "");
    }
    let sentinel =
        proto::Record { expires_at_unix: limits::RECORD_TIME_MAX, created_at_unix: now + 3600, ..good() };
    let last = node.client.put_record(&random_key(), sentinel).await.unwrap();
    let grantless = proto::Record { encrypted_secret_key: "s".into(), ..Default::default() };
    let outcome = node.client.put_record(&random_key(), grantless).await;
    assert_refused(outcome, Code::InvalidArgument, "record.encrypted_access_grant: is empty");
    let wrong = node.client.put_record(&random_key(), proto::Record { expires_at_unix: 5, ..good() }).await;
    let details = wrong.unwrap_err().get_error_details();
    let info = details.error_info().unwrap();
    assert_eq!((info.domain.as_str(), info.reason.as_str()), ("brock", "FIELD_INVALID"));
    assert_eq!(info.metadata["field"], "record.expires_at_unix");
    let recordless =
        proto::PutRequest { key_hash: random_key().into(), record: None, acks: None, import: false };
    assert_refused(node.client.kv.clone().put(recordless).await, Code::InvalidArgument, "record: is missing");
    assert_eq!(last.clock, 2, "a refused Put moved the clock");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_may_have_exactly_the_configured_limit_and_not_a_byte_more() {
    for limit in [limits::PAYLOAD_DEFAULT_BYTES, 1000, limits::PAYLOAD_MAX_BYTES] {
        let (_certs, node) = node_with(|config| Config { payload_limit_bytes: limit, ..config }).await;
        let (key, grant) = (random_key(), grant_for_payload_of(limit));
        node.client.put(&key, &grant).await.unwrap();
        assert_eq!(node.client.get(&key).await.unwrap().encrypted_access_grant, grant);
        let outcome = node.client.put(&random_key(), &grant_for_payload_of(limit + 1)).await;
        assert_refused(outcome, Code::InvalidArgument, &format!("node.payload-limit ({limit})"));
        // It is the sum that counts, not one field.
        let spread = proto::Record { satellite_address: "s".into(), ..record(&grant) };
        let outcome = node.client.put_record(&random_key(), spread).await;
        assert_refused(outcome, Code::InvalidArgument, "its fields take");
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_random_records_come_back_field_by_field() {
    let (_certs, node) = node().await;
    let mut rng = rand::rng();
    for i in 0..100 {
        let mut bytes = |max: usize| -> bytes::Bytes {
            let size = rng.random_range(0..=max);
            (0..size).map(|_| rng.random::<u8>()).collect()
        };
        let (head, secret, project) = (bytes(300), bytes(2000), bytes(16));
        let grant = [bytes(4000).as_ref(), &[0]].concat();
        let text = |c: u32| char::from_u32(c).unwrap_or('\u{0}');
        let sent = proto::Record {
            created_at_unix: rng.random_range(1..=unix_now()),
            public: rng.random(),
            satellite_address: (0..rng.random_range(0..40))
                .map(|_| text(rng.random_range(0..0x11_0000)))
                .collect(),
            macaroon_head: head,
            expires_at_unix: if rng.random() {
                0
            } else {
                rng.random_range(unix_now() + 3600..=limits::RECORD_TIME_MAX)
            },
            encrypted_secret_key: secret,
            encrypted_access_grant: grant.into(),
            public_project_id: project,
            ..Default::default()
        };
        let key = random_key();
        let stamp = node.client.put_record(&key, sent.clone()).await.unwrap();
        assert_eq!(stamp.clock, i + 1);
        let got = node.client.kv.clone().get(proto::GetRequest { key_hash: key.into(), local: false }).await;
        let got = got.unwrap().into_inner();
        assert_eq!(got.record.unwrap(), sent, "record {i}");
        assert_eq!(got.stamp.unwrap(), stamp);
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_time_of_zero_is_stamped_by_the_node() {
    let (_certs, node) = node().await;
    let (key, before) = (random_key(), unix_now());
    node.client.put(&key, b"g").await.unwrap();
    let record = node.client.get(&key).await.unwrap();
    assert!((before..=unix_now()).contains(&record.created_at_unix), "{record:?}");
    assert_eq!(record.expires_at_unix, 0);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_imported_expiry_may_be_past_and_any_other_is_readable_until_then() {
    let (_certs, node) = node().await;
    let expiring = |at| proto::Record { expires_at_unix: at, ..record(b"g") };
    for imported in [1, unix_now(), i64::MAX] {
        let key = random_key();
        let import = proto::PutRequest {
            key_hash: key.clone().into(),
            record: Some(proto::Record { created_at_unix: i64::MAX, ..expiring(imported) }),
            acks: None,
            import: true,
        };
        node.client.kv.clone().put(import.clone()).await.unwrap();
        match imported {
            i64::MAX => assert_eq!(node.client.get(&key).await.unwrap().expires_at_unix, i64::MAX),
            _ => assert_refused(node.client.get(&key).await, Code::NotFound, "no record has this key hash"),
        }
        assert_refused(node.client.kv.clone().put(import).await, Code::AlreadyExists, "");
    }
    let (key, end) = (random_key(), unix_now() + 3);
    node.client.put_record(&key, expiring(end)).await.unwrap();
    assert_eq!(node.client.get(&key).await.unwrap().expires_at_unix, end);
    eventually("it expires", || async {
        match node.client.get(&key).await {
            Ok(_) => None,
            Err(status) => {
                assert_eq!(status.code(), Code::NotFound);
                Some(())
            }
        }
    })
    .await;
    assert!(unix_now() >= end, "it went {} s early", end - unix_now());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_put_is_refused_whether_equal_or_not_and_changes_nothing() {
    let (_certs, node) = node().await;
    let key = random_key();
    node.client.put(&key, b"first").await.unwrap();
    let before = node.vector();
    for grant in [b"first".as_slice(), b"second"] {
        let again = node.client.put(&key, grant).await;
        assert_refused(again, Code::AlreadyExists, "a record with this key hash already exists");
    }
    assert_eq!(node.vector(), before);
    assert_eq!(node.client.get(&key).await.unwrap().encrypted_access_grant, "first");
    node.stop().await;
}

/// `Ok` or the code of each item.
fn put_codes(response: proto::BatchPutResponse) -> Vec<Code> {
    let code = |item: batch_put_response::Item| match item.outcome.unwrap() {
        batch_put_response::item::Outcome::Ok(_) => Code::Ok,
        batch_put_response::item::Outcome::Error(error) => error.code.into(),
    };
    response.items.into_iter().map(code).collect()
}

fn get_codes(response: &proto::BatchGetResponse) -> Vec<Code> {
    let code = |item: &batch_get_response::Item| match item.outcome.as_ref().unwrap() {
        batch_get_response::item::Outcome::Ok(_) => Code::Ok,
        batch_get_response::item::Outcome::Error(error) => error.code.into(),
    };
    response.items.iter().map(code).collect()
}

async fn batch_put(client: &Client, items: Vec<proto::PutRequest>) -> Result<Vec<Code>, Status> {
    let response = client.kv.clone().batch_put(proto::BatchPutRequest { items }).await?;
    Ok(put_codes(response.into_inner()))
}

async fn batch_get(client: &Client, keys: &[Vec<u8>]) -> Result<proto::BatchGetResponse, Status> {
    let get = |key: &Vec<u8>| proto::GetRequest { key_hash: key.clone().into(), local: false };
    let items = keys.iter().map(get).collect();
    Ok(client.kv.clone().batch_get(proto::BatchGetRequest { items }).await?.into_inner())
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_hold_none_to_a_thousand_items_and_not_one_more() {
    let (_certs, node) = node().await;
    assert_eq!(batch_put(&node.client, Vec::new()).await.unwrap(), []);
    assert_eq!(batch_get(&node.client, &[]).await.unwrap().items, []);
    let keys: Vec<_> = (0..1001).map(|_| random_key()).collect();
    let puts = |n: usize| keys[..n].iter().map(|key| put_request(key, key)).collect();
    assert_refused(batch_put(&node.client, puts(1001)).await, Code::InvalidArgument, "items: 1001 of them");
    assert_refused(batch_get(&node.client, &keys).await, Code::InvalidArgument, "items: 1001 of them");
    assert_eq!(node.vector(), brock_core::base::vector::Vector::default(), "a refused batch wrote something");
    assert_eq!(batch_put(&node.client, puts(1000)).await.unwrap(), vec![Code::Ok; 1000]);
    let answer = batch_get(&node.client, &keys[..1000]).await.unwrap();
    for (key, item) in keys.iter().zip(answer.items) {
        let Some(batch_get_response::item::Outcome::Ok(got)) = item.outcome else { panic!("{item:?}") };
        assert_eq!(got.record.unwrap().encrypted_access_grant, key, "not in the order of the request");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_item_of_a_batch_has_its_own_outcome_in_order() {
    let (_certs, node) = node().await;
    let [old, new, other, oversized] = [(); 4].map(|()| random_key());
    node.client.put(&old, b"old").await.unwrap();
    let items = vec![
        put_request(&[1; 31], b"short key"),
        put_request(&new, b"new"),
        put_request(&old, b"exists"),
        put_request(&new, b"duplicate in the batch"),
        proto::PutRequest { key_hash: random_key().into(), record: None, acks: None, import: false },
        put_request(&oversized, &grant_for_payload_of(limits::PAYLOAD_DEFAULT_BYTES + 1)),
        put_request(&other, b"other"),
    ];
    let wrong = Code::InvalidArgument;
    let expected = [wrong, Code::Ok, Code::AlreadyExists, Code::AlreadyExists, wrong, wrong, Code::Ok];
    assert_eq!(batch_put(&node.client, items).await.unwrap(), expected);
    let answer = batch_get(&node.client, &[new, vec![], oversized, old, other]).await.unwrap();
    assert_eq!(get_codes(&answer), [Code::Ok, wrong, Code::NotFound, Code::Ok, Code::Ok]);
    let Some(batch_get_response::item::Outcome::Ok(got)) = &answer.items[0].outcome else { panic!() };
    assert_eq!(got.record.as_ref().unwrap().encrypted_access_grant, "new");
    let Some(batch_get_response::item::Outcome::Error(error)) = &answer.items[1].outcome else { panic!() };
    assert_eq!(error.message, "key_hash: is 0 bytes; a SHA-256 has 32");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_answer_that_would_grow_too_large_ends_in_items_that_say_so() {
    let (_certs, node) = node().await;
    let mut keys: Vec<_> = (0..80).map(|_| random_key()).collect();
    for half in keys.chunks(40) {
        let items = half.iter().map(|key| put_request(key, &[7; 60 * 1024])).collect();
        assert_eq!(batch_put(&node.client, items).await.unwrap(), [Code::Ok; 40]);
    }
    keys.push(random_key());
    let answer = batch_get(&node.client, &keys).await.unwrap();
    assert!(answer.encoded_len() <= 4 * 1024 * 1024, "{} bytes", answer.encoded_len());
    let codes = get_codes(&answer);
    let fit = limits::BATCH_GET_ANSWER_BYTES / (60 * 1024 + 200);
    assert_eq!(codes[..fit], vec![Code::Ok; fit]);
    assert_eq!(codes[fit + 1..80], vec![Code::ResourceExhausted; 79 - fit]);
    assert_eq!(codes[80], Code::NotFound, "what takes no room is answered");
    let rest: Vec<_> = keys[fit..80].to_vec();
    assert_eq!(get_codes(&batch_get(&node.client, &rest).await.unwrap()), vec![Code::Ok; 80 - fit]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_above_the_limit_is_refused_as_too_large() {
    let (_certs, node) = node().await;
    let outcome = node.client.put(&random_key(), &vec![7; limits::MESSAGE_MAX_BYTES + 1]).await;
    assert_refused(outcome, Code::ResourceExhausted, "");
    // A length that the message does not have, too: nothing is allocated for it.
    let mut huge = put_request(&random_key(), b"g").encode_to_vec();
    huge.extend([0x7a, 0xff, 0xff, 0xff, 0xff, 0x0f]);
    let outcome = raw::call(&node.client.channel, "/brock.v1.KeyValueService/Put", &huge).await;
    assert_refused(outcome, Code::Internal, "failed to decode Protobuf message");
    node.client.put(&random_key(), b"still serving").await.unwrap();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_instead_of_a_message_is_answered_and_harms_nobody() {
    let (certs, node) = node().await;
    let peer = raw::channel_of_node(&node.address(), &certs, "node-9").await;
    let mut rng = rand::rng();
    // Health's List is allowed to all roles, and the health service does not have it yet.
    let calls = brock::api::grpc::calls::TABLE.iter().filter(|call| !call.path.ends_with("/List"));
    for brock::api::grpc::calls::Call { path, roles, .. } in calls {
        let channel =
            if roles.contains(&brock_net::tls::roles::Role::Admin) { &node.admin.channel } else { &peer };
        for size in [1, 7, 1000] {
            // Wire type 7 does not exist, so this is never a message.
            let garbage: Vec<u8> =
                std::iter::once(0x0f).chain((0..size).map(|_| rng.random::<u8>())).collect();
            let outcome = raw::call(channel, path, &garbage).await;
            if path.ends_with("/ServerReflectionInfo") {
                // tonic's reflection service hangs up without a word.
                assert_eq!(outcome.ok(), Some(None));
                continue;
            }
            let status = outcome.unwrap_err();
            // gRPC's own code for a message that cannot be parsed.
            assert_eq!(status.code(), Code::Internal, "{path}: {status}");
            assert!(status.message().starts_with("failed to decode Protobuf message"), "{path}: {status}");
        }
    }
    node.client.put(&random_key(), b"still serving").await.unwrap();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_does_not_exist_is_unimplemented() {
    let (_certs, node) = node().await;
    for path in ["/brock.v1.KeyValueService/Drop", "/brock.v2.KeyValueService/Put", "/x"] {
        let status = raw::call(&node.admin.channel, path, &[]).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented, "{path}: {status}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_reflection_answer() {
    let (_certs, node) = node().await;
    let mut health = HealthClient::new(node.client.channel.clone());
    eventually("it serves", || {
        let mut health = health.clone();
        async move {
            let answer = health.check(HealthCheckRequest { service: String::new() }).await.unwrap();
            (answer.into_inner().status == 1).then_some(())
        }
    })
    .await;
    let unknown = health.check(HealthCheckRequest { service: "nobody".into() }).await;
    assert_refused(unknown, Code::NotFound, "");
    let ask = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut reflection = ServerReflectionClient::new(node.client.channel.clone());
    let answers = reflection.server_reflection_info(futures::stream::iter([ask])).await.unwrap();
    let answer = answers.into_inner().message().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(list) = answer else { panic!("{answer:?}") };
    let names: HashSet<_> = list.service.into_iter().map(|service| service.name).collect();
    for name in ["KeyValueService", "ReplicationService", "AdminService"] {
        assert!(names.contains(&format!("brock.v1.{name}")), "{names:?}");
    }
    assert!(names.contains("grpc.health.v1.Health"), "{names:?}");
    node.stop().await;
}
