//! What a Session does: pipelined Puts and Gets, each with its own outcome.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::{
    harness::raw,
    harness::{
        certs::Certs,
        client::put_request,
        node::{TestNode, config},
        random_key, within,
    },
};
use brock_core::{
    base::limits,
    proto::{self, session_request::Request as Ask, session_response::Response as Answer},
};
use futures::{StreamExt, stream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

async fn node() -> (Certs, TestNode) {
    let certs = Certs::new();
    let node = TestNode::start(&certs, config(&certs, "node-1", 0, &[])).await;
    (certs, node)
}

fn ask(id: u64, request: Ask) -> proto::SessionRequest {
    proto::SessionRequest { id, request: Some(request) }
}

fn get(key: &[u8]) -> Ask {
    Ask::Get(proto::GetRequest { key_hash: key.to_vec().into(), local: false })
}

fn code(answer: &Answer) -> Code {
    match answer {
        Answer::Put(_) | Answer::Get(_) => Code::Ok,
        Answer::Error(error) => error.code.into(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_of_a_session_is_answered_under_its_id_with_its_own_outcome() {
    let (_certs, node) = node().await;
    let old = random_key();
    node.client.put(&old, b"old").await.unwrap();
    let requests = vec![
        ask(7, get(&old)),
        ask(u64::MAX, Ask::Put(put_request(&random_key(), b"new"))),
        ask(0, get(&[1; 31])),
        proto::SessionRequest { id: 3, request: None },
        ask(4, Ask::Put(put_request(&old, b"again"))),
        ask(5, get(&random_key())),
        ask(
            6,
            Ask::Put(proto::PutRequest {
                key_hash: random_key().into(),
                record: None,
                acks: None,
                import: false,
            }),
        ),
        ask(8, get(&old)),
    ];
    let mut answers = node.client.kv.clone().session(stream::iter(requests)).await.unwrap().into_inner();
    let mut outcomes = HashMap::new();
    while let Some(answer) = answers.message().await.unwrap() {
        let response = answer.response.unwrap();
        assert!(outcomes.insert(answer.id, code(&response)).is_none(), "{} answered twice", answer.id);
        if let Answer::Get(got) = response {
            assert_eq!(got.record.unwrap().encrypted_access_grant, "old");
        }
    }
    let expected = [
        (7, Code::Ok),
        (u64::MAX, Code::Ok),
        (0, Code::InvalidArgument),
        (3, Code::InvalidArgument),
        (4, Code::AlreadyExists),
        (5, Code::NotFound),
        (6, Code::InvalidArgument),
        (8, Code::Ok),
    ];
    assert_eq!(outcomes, HashMap::from(expected));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_session_put_a_later_get_of_it_reads() {
    let (_certs, node) = node().await;
    let (requests, receiver) = mpsc::channel(1);
    let mut answers =
        node.client.kv.clone().session(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    for id in 0..50_u64 {
        let key = random_key();
        requests.send(ask(2 * id, Ask::Put(put_request(&key, &id.to_be_bytes())))).await.unwrap();
        let put = answers.message().await.unwrap().unwrap();
        assert!(matches!(put.response, Some(Answer::Put(_))) && put.id == 2 * id, "{put:?}");
        requests.send(ask(2 * id + 1, get(&key))).await.unwrap();
        let got = answers.message().await.unwrap().unwrap();
        assert_eq!(got.id, 2 * id + 1);
        let Some(Answer::Get(got)) = got.response else { panic!("{got:?}") };
        assert_eq!(got.record.unwrap().encrypted_access_grant, id.to_be_bytes().as_slice());
    }
    // The client has no more to ask: the session ends without an error.
    drop(requests);
    assert_eq!(answers.message().await.unwrap(), None);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_held_back_and_then_answered_in_full() {
    const REQUESTS: usize = 2000;
    let (_certs, node) = node().await;
    let big = random_key();
    node.client.put(&big, &[7; 32 * 1024]).await.unwrap();
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let requests = stream::iter(0..REQUESTS).map(move |i| {
        counter.fetch_add(1, Ordering::SeqCst);
        let request =
            if i % 2 == 0 { get(&big) } else { Ask::Put(put_request(&random_key(), &[7; 16 * 1024])) };
        ask(i as u64, request)
    });
    let mut answers = node.client.kv.clone().session(requests).await.unwrap().into_inner();
    // Until nothing has moved for a while: 31 MiB of answers do not fit into any window.
    let quiet = Duration::from_millis(300);
    let mut last = usize::MAX;
    loop {
        let moved = within(quiet, || async {
            let now = sent.load(Ordering::SeqCst);
            (now != last).then_some(now)
        });
        let Some(now) = moved.await else { break };
        last = now;
    }
    assert!((limits::SESSION_DEPTH..REQUESTS).contains(&last), "{last} requests were taken unread");
    // Others are served meanwhile, on the same connection too.
    node.client.put(&random_key(), b"g").await.unwrap();
    let mut ids = vec![false; REQUESTS];
    while let Some(answer) = answers.message().await.unwrap() {
        assert_eq!(code(&answer.response.unwrap()), Code::Ok);
        assert!(!std::mem::replace(&mut ids[usize::try_from(answer.id).unwrap()], true));
    }
    assert!(ids.iter().all(|answered| *answered), "some were never answered");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_in_the_middle_harms_nobody() {
    let (_certs, node) = node().await;
    for _ in 0..20 {
        let requests = (0..500).map(|id| ask(id, Ask::Put(put_request(&random_key(), &[7; 1024]))));
        let requests = stream::iter(requests.collect::<Vec<_>>());
        let mut answers = node.client.kv.clone().session(requests).await.unwrap().into_inner();
        answers.message().await.unwrap().unwrap();
    }
    node.client.put(&random_key(), b"still serving").await.unwrap();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_refused_to_a_node() {
    let (certs, node) = node().await;
    let channel = raw::channel_of_node(&node.address(), &certs, "node-9").await;
    let mut kv = proto::key_value_service_client::KeyValueServiceClient::new(channel);
    let requests = stream::iter([ask(1, Ask::Put(put_request(&random_key(), b"g")))]);
    let status = kv.session(requests).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert_eq!(node.vector(), brock_core::base::vector::Vector::default());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_session_does_not_hold_up_the_shutdown() {
    let (_certs, node) = node().await;
    let (requests, receiver) = mpsc::channel(1);
    let kv = node.client.kv.clone();
    let mut answers = kv.clone().session(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    requests.send(ask(1, Ask::Put(put_request(&random_key(), b"g")))).await.unwrap();
    answers.message().await.unwrap().unwrap();
    let begun = std::time::Instant::now();
    node.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    // Ended, not broken off.
    assert_eq!(answers.message().await.unwrap(), None);
}
