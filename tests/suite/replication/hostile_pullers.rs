//! Pullers that break the protocol of a Replicate stream.

use crate::harness::{
    PATIENCE,
    certs::Certs,
    client::Client,
    eventually, free_port,
    node::{TestNode, config},
    random_key,
    wire::{at, origin},
};
use brock::replication::pull::puller::PROTOCOL_VERSION;
use brock_core::{
    base::{
        limits,
        vector::{Clock, Vector},
    },
    domain::codec,
    proto::{self, replicate_request, replicate_response},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

/// A node and a puller called `p` that a test speaks for.
struct Pair {
    certs: Certs,
    node: TestNode,
    puller: Client,
}

impl Pair {
    async fn new() -> Self {
        let certs = Certs::new();
        let node = TestNode::start(&certs, config(&certs, "node", free_port(), &[])).await;
        let puller = Client::with_config(&node.address(), certs.node_identity("p").dialler()).await;
        Self { certs, node, puller }
    }

    /// Says these messages, keeps the stream open, and returns the node's answers.
    async fn say(
        &self,
        messages: Vec<Option<replicate_request::Message>>,
    ) -> Result<(mpsc::Sender<proto::ReplicateRequest>, Streaming<proto::ReplicateResponse>), Status> {
        let (say, said) = mpsc::channel(messages.len() + 8);
        for message in messages {
            say.send(proto::ReplicateRequest { message, ..Default::default() }).await.unwrap();
        }
        let answers = self.puller.replication.clone().replicate(ReceiverStream::new(said)).await?;
        Ok((say, answers.into_inner()))
    }

    /// Says these messages and returns the status that ends the stream.
    async fn refusal(&self, messages: Vec<Option<replicate_request::Message>>) -> Status {
        match self.say(messages).await {
            Err(status) => status,
            Ok((_say, answers)) => end(answers).await.expect_err("the stream ended without a word"),
        }
    }

    /// Gives the node every opportunity to go as far as it can.
    async fn ping_often(&self) {
        for _ in 0..50 {
            self.puller.replication.clone().ping(proto::PingRequest {}).await.unwrap();
        }
    }

    async fn works(&self) {
        let key = random_key();
        self.node.client.put(&key, b"grant").await.unwrap();
        let (_say, mut answers) = self.say(vec![hello(|_| {})]).await.unwrap();
        loop {
            let answer = answers.message().await.unwrap().unwrap().message.unwrap();
            if let replicate_response::Message::Batch(batch) = answer
                && batch.entries.iter().any(|entry| entry.key_hash == key)
            {
                return;
            }
        }
    }
}

/// Reads a stream to its end, which must come.
async fn end(mut answers: Streaming<proto::ReplicateResponse>) -> Result<(), Status> {
    let read = async {
        while answers.message().await?.is_some() {}
        Ok(())
    };
    tokio::time::timeout(PATIENCE, read).await.expect("the stream goes on")
}

fn hello(change: impl FnOnce(&mut proto::Hello)) -> Option<replicate_request::Message> {
    let mut hello = proto::Hello {
        protocol_version: PROTOCOL_VERSION,
        node_id: "p".to_owned(),
        incarnation: 1,
        batch_limit: 1000,
        // Nothing is folded away, here or there.
        folds_digest: codec::folds_digest(&Vector::default()).to_vec().into(),
        ..proto::Hello::default()
    };
    change(&mut hello);
    Some(replicate_request::Message::Hello(hello))
}

fn applied(vector: &Vector) -> Option<replicate_request::Message> {
    Some(replicate_request::Message::Applied(codec::vector_to_proto(vector)))
}

fn too_long() -> Vector {
    (0..=limits::VECTOR_MAX_ORIGINS as u32).map(|i| (origin("x", i), Clock(1))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_puller_that_breaks_the_protocol_is_told_so_and_changes_nothing() {
    let pair = Pair::new().await;
    let malformed = proto::Vector { clocks: vec![proto::Stamp { origin: vec![1; 3].into(), clock: 1 }] };
    let bad_applied = Some(replicate_request::Message::Applied(malformed.clone()));
    let cases = [
        ("no hello", vec![applied(&Vector::default())], Code::InvalidArgument, "must begin with a hello"),
        ("empty first", vec![None], Code::InvalidArgument, "must begin with a hello"),
        ("second hello", vec![hello(|_| {}), hello(|_| {})], Code::InvalidArgument, "a second hello"),
        ("empty later", vec![hello(|_| {}), None], Code::InvalidArgument, "an empty message"),
        ("malformed later", vec![hello(|_| {}), bad_applied], Code::InvalidArgument, "vector"),
        (
            "malformed vector",
            vec![hello(|h| h.vector = Some(malformed))],
            Code::InvalidArgument,
            "hello.vector",
        ),
        (
            "too many origins",
            vec![hello(|h| h.vector = Some(codec::vector_to_proto(&too_long())))],
            Code::InvalidArgument,
            "50001 origins, more than the 50000",
        ),
        ("too many later", vec![hello(|_| {}), applied(&too_long())], Code::InvalidArgument, "50001 origins"),
        (
            "version 0",
            vec![hello(|h| h.protocol_version = 0)],
            Code::FailedPrecondition,
            "replication protocol 0",
        ),
        (
            "version 2",
            vec![hello(|h| h.protocol_version = 2)],
            Code::FailedPrecondition,
            "speaks 3: run the same version of brock on both (docs/guides/upgrade.md)",
        ),
        (
            "version 4",
            vec![hello(|h| h.protocol_version = 4)],
            Code::FailedPrecondition,
            "replication protocol 4",
        ),
        ("no id", vec![hello(|h| h.node_id.clear())], Code::InvalidArgument, "hello.node_id"),
        ("long id", vec![hello(|h| h.node_id = "x".repeat(29))], Code::InvalidArgument, "hello.node_id"),
        (
            "another id",
            vec![hello(|h| h.node_id = "q".to_owned())],
            Code::PermissionDenied,
            "may not act as q",
        ),
        (
            "my id",
            vec![hello(|h| h.node_id = "node".to_owned())],
            Code::PermissionDenied,
            "may not act as node",
        ),
    ];
    for (case, messages, code, text) in cases {
        let status = pair.refusal(messages).await;
        assert_eq!(status.code(), code, "{case}: {status}");
        assert!(status.message().contains(text), "{case}: {status}");
    }
    pair.works().await;
    assert_eq!(pair.node.vector().len(), 1);
    pair.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_puller_with_the_donors_own_certificate_is_refused() {
    let mut pair = Pair::new().await;
    let twin = pair.certs.node_identity("node").dialler();
    pair.puller = Client::with_config(&pair.node.address(), twin).await;
    let status = pair.refusal(vec![hello(|h| h.node_id = "node".to_owned())]).await;
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("this node's own id"), "{status}");
    pair.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_without_any_message_is_refused_when_it_ends() {
    let pair = Pair::new().await;
    let nothing = tokio_stream::empty::<proto::ReplicateRequest>();
    let status = pair.puller.replication.clone().replicate(nothing).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    pair.node.stop().await;
}

/// The reason must also reach a puller for which more is on its way than it has read.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_in_the_middle_of_a_backlog_is_delivered_behind_it() {
    let pair = Pair::new().await;
    let client = &pair.node.client;
    let puts: Vec<_> =
        (0..150).map(|_| async { client.put(&random_key(), &[1; 60_000]).await.unwrap() }).collect();
    futures::future::join_all(puts).await;
    let (say, mut answers) = pair.say(vec![hello(|_| {})]).await.unwrap();
    answers.message().await.unwrap();
    // From here on nothing is read, so the node soon has more under way than the connection takes.
    pair.ping_often().await;
    say.send(proto::ReplicateRequest { message: hello(|_| {}), ..Default::default() }).await.unwrap();
    pair.ping_often().await;
    let status = end(answers).await.expect_err("the stream ended without a word");
    assert_eq!(status.code(), Code::InvalidArgument);
    pair.node.stop().await;
}

/// A puller that claims more of the node's own operations than there are makes it go on under a
/// new incarnation: once, however often it says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_puller_that_lies_about_my_clock_cannot_make_me_mint_without_end() {
    let pair = Pair::new().await;
    let store = pair.node.node.store();
    assert_eq!(pair.node.client.put(&random_key(), b"x").await.unwrap().clock, 1);
    let born = store.origin();
    let lie = || {
        let claim = at(store.origin(), 1_000_000);
        hello(|h| h.vector = Some(codec::vector_to_proto(&claim)))
    };
    let (_say, _answers) = pair.say(vec![lie()]).await.unwrap();
    let minted = store.origin();
    assert_ne!(minted, born);
    for _ in 0..20 {
        let status = pair.refusal(vec![lie()]).await;
        assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    }
    // Said later in a stream it is no better.
    let (say, mut answers) = pair.say(vec![hello(|_| {})]).await.unwrap();
    let claim = applied(&at(store.origin(), 1_000_000));
    say.send(proto::ReplicateRequest { message: claim, ..Default::default() }).await.unwrap();
    answers.message().await.unwrap();
    assert_eq!(store.origin(), minted, "it was minted again");
    assert_eq!(
        pair.node.admin.status().await.alarms.len(),
        2,
        "the second one says that it is not believed again"
    );
    let stamp = pair.node.client.put(&random_key(), b"x").await.unwrap();
    assert_eq!((stamp.origin.as_ref(), stamp.clock), (minted.as_bytes().as_slice(), 1));
    eventually("both origins are served", || async { (pair.node.vector().len() == 2).then_some(()) }).await;
    pair.works().await;
    pair.node.stop().await;
}
