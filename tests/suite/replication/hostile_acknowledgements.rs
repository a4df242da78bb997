//! Members that sign what they do not hold. The attacker has a node's certificate, and pulls.

use crate::harness::{
    PATIENCE,
    certs::Certs,
    client::{Client, all_within},
    eventually, free_port,
    identity::TestOrigin,
    metrics::Page,
    node::{TestNode, config},
    process::Launch,
    random_key,
    wire::origin,
};
use brock::{replication::pull::puller::PROTOCOL_VERSION, store::OwnHash};
use brock_core::{
    base::{
        id::Origin,
        vector::{Stamp, Vector},
    },
    domain::codec,
    proto::{self, replicate_request},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

/// A node, and a member called `p` that a test speaks for.
struct Pair {
    certs: Certs,
    node: TestNode,
    puller: Client,
}

/// A stream by which `p` pulls.
struct Stream {
    say: mpsc::Sender<proto::ReplicateRequest>,
    answers: Streaming<proto::ReplicateResponse>,
}

impl Stream {
    async fn open(puller: &Client, as_origin: Origin) -> Self {
        let hello = proto::Hello {
            protocol_version: PROTOCOL_VERSION,
            node_id: "p".to_owned(),
            incarnation: as_origin.incarnation().0,
            batch_limit: 1000,
            folds_digest: codec::folds_digest(&Vector::default()).to_vec().into(),
            ..Default::default()
        };
        let (say, said) = mpsc::channel(8);
        let message = Some(replicate_request::Message::Hello(hello));
        say.send(proto::ReplicateRequest { message, ..Default::default() }).await.unwrap();
        let answers = puller.replication.clone().replicate(ReceiverStream::new(said)).await.unwrap();
        Self { say, answers: answers.into_inner() }
    }

    async fn say(&self, applied: Stamp, signed: Option<proto::Acknowledgement>, birth: Option<proto::Birth>) {
        let vector: Vector = [(applied.origin, applied.clock)].into_iter().collect();
        let request = proto::ReplicateRequest {
            message: Some(replicate_request::Message::Applied(codec::vector_to_proto(&vector))),
            acknowledgement: signed,
            birth,
        };
        self.say.send(request).await.unwrap();
    }

    /// The status that ends the stream.
    async fn end(mut self) -> Status {
        let read = async {
            loop {
                match self.answers.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("the stream ended without a word"),
                    Err(status) => return status,
                }
            }
        };
        tokio::time::timeout(PATIENCE, read).await.expect("the stream goes on")
    }
}

impl Pair {
    async fn new() -> Self {
        let certs = Certs::new();
        let node = TestNode::start(&certs, config(&certs, "node", free_port(), &[])).await;
        let puller = Client::with_config(&node.address(), certs.node_identity("p").dialler()).await;
        Self { certs, node, puller }
    }

    fn own(&self) -> Origin {
        self.node.node.store().origin()
    }

    /// The end of the node's log, and the hash up to there.
    fn head(&self) -> (Stamp, [u8; 32]) {
        let stamp = Stamp { origin: self.own(), clock: self.node.node.store().clock(&self.own()) };
        let OwnHash::Known(chain) = self.node.node.store().own_hash(stamp) else {
            panic!("it knows its log")
        };
        (stamp, chain)
    }

    async fn pull(&self, as_origin: Origin) -> Stream {
        let stream = Stream::open(&self.puller, as_origin).await;
        eventually("the puller is connected", || async {
            let members = self.node.admin.members().await.members;
            members.iter().any(|member| member.node_id == "p" && member.connected).then_some(())
        })
        .await;
        stream
    }

    /// Revokes a key, and waits for `p`, which says something once the revocation is the end of the node's log.
    async fn revoke(&self, say: impl AsyncFnOnce(Stamp, [u8; 32]), timeout_ms: u32) -> proto::Receipt {
        let key = random_key();
        self.node.client.put(&key, b"grant").await.unwrap();
        let before = self.head().0;
        let revoke = self.node.admin.invalidate(&key, "leaked", all_within(timeout_ms));
        let meanwhile = async {
            let revoked = || async { Some(self.head()).filter(|(head, _)| head.clock > before.clock) };
            let (head, chain) = eventually("it is revoked", revoked).await;
            say(head, chain).await;
        };
        let (done, ()) = tokio::join!(revoke, meanwhile);
        done.unwrap().receipt.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledgement_that_is_a_lie_counts_for_nothing_and_costs_its_stream() {
    let pair = Pair::new().await;
    pair.node.client.put(&random_key(), b"grant").await.unwrap();
    let member = TestOrigin::certified(&pair.certs, origin("p", 7));
    let other = TestOrigin::certified(&pair.certs, origin("q", 7));
    let foreign = TestOrigin::certified(&pair.certs, origin("p", 7));
    // An old acknowledgement, genuine at its time.
    let (old, old_chain) = pair.head();
    let replayed = member.acknowledge(old, old_chain);
    type Lie<'a> = Box<dyn Fn(Stamp, [u8; 32]) -> (proto::Acknowledgement, proto::Birth) + 'a>;
    let lies: Vec<(&str, &str, Lie<'_>)> = vec![
        (
            "another clock",
            "another clock than the puller says",
            Box::new(|head, chain| {
                let later = Stamp { clock: head.clock.next(), ..head };
                (member.acknowledge(later, chain), member.birth())
            }),
        ),
        (
            "another history",
            "another history of this node's log",
            Box::new(|head, _| (member.acknowledge(head, [7; 32]), member.birth())),
        ),
        (
            "another log",
            "another node's log",
            Box::new(|head, chain| {
                let elsewhere = Stamp { origin: origin("q", 1), ..head };
                (member.acknowledge(elsewhere, chain), member.birth())
            }),
        ),
        (
            "an old one",
            "another clock than the puller says",
            Box::new(|_, _| (replayed.clone(), member.birth())),
        ),
        (
            "a foreign key",
            "signature does not match",
            Box::new(|head, chain| (foreign.acknowledge(head, chain), member.birth())),
        ),
        (
            "another node's",
            "in another node's name",
            Box::new(|head, chain| (other.acknowledge(head, chain), other.birth())),
        ),
        (
            "another node's birth",
            "another incarnation than its birth",
            Box::new(|head, chain| (member.acknowledge(head, chain), other.birth())),
        ),
        (
            "a damaged signature",
            "signature does not match",
            Box::new(|head, chain| {
                let signed = member.acknowledge(head, chain);
                let signature = signed.signature.iter().map(|byte| byte ^ 1).collect::<Vec<_>>().into();
                (proto::Acknowledgement { signature, ..signed }, member.birth())
            }),
        ),
        (
            "a malformed one",
            "acknowledgement does not decode",
            Box::new(|head, chain| {
                let signed = member.acknowledge(head, chain);
                (proto::Acknowledgement { chain: vec![1; 31].into(), ..signed }, member.birth())
            }),
        ),
    ];
    for (what, part, lie) in lies {
        let stream = pair.pull(member.origin).await;
        let mut ended = None;
        let say = async |head, chain| {
            let (signed, birth) = lie(head, chain);
            stream.say(head, Some(signed), Some(birth)).await;
            ended = Some(stream.end().await);
        };
        let receipt = pair.revoke(say, 1_500).await;
        let status = ended.unwrap();
        assert!(
            status.code() == Code::InvalidArgument && status.message().contains(part),
            "{what}: {status}"
        );
        assert_eq!((receipt.holders.len(), receipt.missing), (0, vec!["p".to_owned()]), "{what}");
    }
    // The truth counts, also after all the lies.
    let stream = pair.pull(member.origin).await;
    let truth = async |head, chain| {
        stream.say(head, Some(member.acknowledge(head, chain)), Some(member.birth())).await;
    };
    let receipt = pair.revoke(truth, 20_000).await;
    assert_eq!((receipt.holders.len(), receipt.missing.len()), (1, 0));
    let signed = receipt.holders[0].acknowledgement.as_ref().unwrap();
    assert_eq!(signed.member, member.origin.as_bytes().as_slice());
    pair.node.stop().await;
}

/// Its word counts, as that of a member without a certificate that names it, and proves nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_acknowledges_without_a_proof_is_listed_as_unsigned() {
    let pair = Pair::new().await;
    pair.node.client.put(&random_key(), b"grant").await.unwrap();
    let member = TestOrigin::certified(&pair.certs, origin("p", 7));
    let elsewhere = TestOrigin::certified(&Certs::new(), origin("p", 7));
    let (old, old_chain) = pair.head();
    let stream = pair.pull(member.origin).await;
    stream.say(old, Some(member.acknowledge(old, old_chain)), Some(member.birth())).await;
    type Said<'a> =
        Box<dyn Fn(Stamp, [u8; 32]) -> (Option<proto::Acknowledgement>, Option<proto::Birth>) + 'a>;
    let cases: Vec<(&str, Said<'_>)> = vec![
        ("no signature, after a signed one", Box::new(|_, _| (None, None))),
        (
            "another CA's birth",
            Box::new(|head, chain| (Some(elsewhere.acknowledge(head, chain)), Some(elsewhere.birth()))),
        ),
    ];
    for (what, said) in cases {
        let say = async |head, chain| {
            let (signed, birth) = said(head, chain);
            stream.say(head, signed, birth).await;
        };
        let receipt = pair.revoke(say, 20_000).await;
        assert_eq!((receipt.holders.len(), receipt.missing.len()), (1, 0), "{what}");
        let holder = &receipt.holders[0];
        assert!(
            holder.acknowledgement.is_none() && holder.unsigned.contains("has not signed"),
            "{what}: {holder:?}"
        );
    }
    pair.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lie_is_counted_for_its_sender() {
    let (certs, home) = (Certs::new(), tempfile::tempdir().unwrap());
    let (process, client) = Launch::new(&certs, "n", &home.path().join("n")).start(&certs).await;
    let stamp = codec::stamp_from_proto(&client.put(&random_key(), b"grant").await.unwrap()).unwrap();
    let member = TestOrigin::certified(&certs, origin("p", 7));
    let address = format!("127.0.0.1:{}", process.port);
    let puller = Client::with_config(&address, certs.node_identity("p").dialler()).await;
    let stream = Stream::open(&puller, member.origin).await;
    stream.say(stamp, Some(member.acknowledge(stamp, [7; 32])), Some(member.birth())).await;
    stream.end().await;
    let page = Page::of(process.http_port).await.unwrap();
    let series = r#"brock_claims_refused_total{peer="node p",kind="acknowledgement"}"#;
    assert_eq!(page.value(series), Some(1.0));
    process.terminate();
}
