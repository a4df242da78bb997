//! The holder of one node certificate tries to take what the others need: places, the one resync, room in vectors and
//! in the table of members.

use std::time::{Duration, Instant};

use crate::harness::{
    certs::Certs,
    client::Client,
    eventually,
    fake_peer::{FakePeer, Script},
    free_port, http,
    node::{TestNode, config},
    own_ca::{Leaf, OwnCa},
    random_key, stays,
    wire::{at, batch, create, origin},
};
use brock::{
    config::validate::Config,
    maintenance::compact::Policy,
    node::Node,
    replication::pull::puller::PROTOCOL_VERSION,
    store::{Options, Store},
};
use brock_core::{
    base::vector::{Clock, Vector},
    domain::codec,
    proto::{
        self, out_of_sync::Reason, replicate_request, replicate_response, snapshot_response::Message as Said,
    },
};
use brock_net::tls::{credentials::Identity, roles::RolePolicy};
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

/// A Replicate stream that stays open while this is held.
struct Pull {
    _say: mpsc::Sender<proto::ReplicateRequest>,
    answers: Streaming<proto::ReplicateResponse>,
}

impl Pull {
    async fn begin(client: &Client, node_id: &str, vector: &Vector) -> Result<Self, Status> {
        let hello = proto::Hello {
            protocol_version: PROTOCOL_VERSION,
            node_id: node_id.to_owned(),
            incarnation: 1,
            vector: Some(codec::vector_to_proto(vector)),
            batch_limit: 1000,
            // Nothing is folded away, here or there.
            folds_digest: codec::folds_digest(&Vector::default()).to_vec().into(),
            forks: Vec::new(),
        };
        let (say, said) = mpsc::channel(8);
        let message = Some(replicate_request::Message::Hello(hello));
        say.send(proto::ReplicateRequest { message, ..Default::default() }).await.unwrap();
        let answers = client.replication.clone().replicate(ReceiverStream::new(said)).await?.into_inner();
        Ok(Self { _say: say, answers })
    }

    /// The donor's first message has come.
    async fn is_served(&mut self) -> bool {
        matches!(self.answers.message().await, Ok(Some(_)))
    }

    /// How the stream ends.
    async fn end(mut self) -> Result<(), Status> {
        while self.answers.message().await?.is_some() {}
        Ok(())
    }
}

async fn puller(certs: &Certs, node: &TestNode, id: &str) -> Client {
    Client::with_config(&node.address(), certs.node_identity(id).dialler()).await
}

/// A record written to one node arrives at the other at once.
async fn works(from: &TestNode, to: &TestNode) {
    let (key, written) = (random_key(), Instant::now());
    from.client.put(&key, b"grant").await.unwrap();
    eventually("the record is there", || to.client.has_local(&key)).await;
    assert!(written.elapsed() < Duration::from_secs(5), "it took {:?}", written.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_puller_that_opens_streams_without_end_takes_places_from_itself_only() {
    let certs = Certs::new();
    let node = TestNode::joining(&certs, "node", &[]).await;
    let greedy = puller(&certs, &node, "greedy").await;
    let nothing = Vector::default();
    let mut streams = Vec::new();
    for _ in 0..130 {
        match Pull::begin(&greedy, "greedy", &nothing).await {
            Ok(stream) => streams.push(stream),
            Err(status) => assert_eq!(status.code(), Code::ResourceExhausted),
        }
    }
    let honest = puller(&certs, &node, "honest").await;
    let mut pulled = Pull::begin(&honest, "honest", &nothing).await.expect("another node is refused");
    assert!(pulled.is_served().await);
    // A node that connects again is not refused either.
    assert_eq!(streams.len(), 130);
    assert!(streams.last_mut().unwrap().is_served().await);
    let status = streams.swap_remove(0).end().await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(status.message().contains("newer ones"), "{status}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_puller_that_reads_no_snapshot_to_its_end_keeps_no_other_from_one() {
    let certs = Certs::new();
    let node = TestNode::joining(&certs, "node", &[]).await;
    let puts: Vec<_> =
        (0..100).map(|_| async { node.client.put(&random_key(), &[1; 60_000]).await.unwrap() }).collect();
    futures::future::join_all(puts).await;
    let request = |id: &str| proto::SnapshotRequest { node_id: id.to_owned(), ..Default::default() };
    let greedy = puller(&certs, &node, "greedy").await;
    let mut unread = Vec::new();
    for _ in 0..8 {
        let snapshot = greedy.replication.clone().snapshot(request("greedy")).await;
        unread.extend(snapshot.map(tonic::Response::into_inner).ok());
    }
    let honest = puller(&certs, &node, "honest").await;
    let mut whole = honest.replication.clone().snapshot(request("honest")).await.unwrap().into_inner();
    let mut records = 0;
    while let Some(message) = whole.message().await.unwrap() {
        if let Some(Said::Records(page)) = message.message {
            records += page.records.len();
        }
    }
    assert_eq!(records, 100);
    let other = honest.replication.clone().snapshot(request("greedy")).await.unwrap_err();
    assert_eq!(other.code(), Code::PermissionDenied, "{other}");
    drop((unread, greedy));
    node.stop().await;
}

fn out_of_sync() -> Vec<replicate_response::Message> {
    let reason = Reason::Cheaper.into();
    vec![replicate_response::Message::OutOfSync(proto::OutOfSync { reason, ..Default::default() })]
}

fn said(message: Said) -> proto::SnapshotResponse {
    proto::SnapshotResponse { message: Some(message) }
}

fn header(id: &str, vector: &Vector) -> proto::SnapshotResponse {
    let vector = Some(codec::vector_to_proto(vector));
    let (node_id, incarnation, records) = (id.to_owned(), 1, 1000);
    let header = proto::SnapshotHeader { node_id, incarnation, vector, records, ..Default::default() };
    said(Said::Header(header))
}

fn empty_page(through: [u8; 32]) -> proto::SnapshotResponse {
    let through = Bytes::copy_from_slice(&through);
    said(Said::Records(proto::RecordPage { through, ..Default::default() }))
}

/// A donor that sends a page without records each second. `collected`: what it has deleted and forgotten.
async fn dripping(certs: &Certs, collected: Option<proto::Vector>) -> FakePeer {
    let page = |first| {
        let mut page = empty_page([first; 32]);
        if let Some(Said::Records(records)) = &mut page.message {
            records.collected.clone_from(&collected);
        }
        page
    };
    let pages = (1..=u8::MAX).map(page);
    let script = Script {
        then: out_of_sync(),
        snapshot: Some(std::iter::once(header("drips", &Vector::default())).chain(pages).collect()),
        snapshot_pause: Duration::from_secs(1),
        ..Script::new("drips")
    };
    FakePeer::start(certs, "drips", script).await
}

async fn has_begun(me: &TestNode) {
    eventually("the snapshot has begun", || async {
        me.admin.status().await.resync.filter(|resync| resync.records_expected > 0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resync_that_drips_holds_up_nothing_that_others_send_and_is_shown() {
    let certs = Certs::new();
    let healthy = TestNode::joining(&certs, "healthy", &[]).await;
    let drips = dripping(&certs, None).await;
    let base = config(&certs, "me", free_port(), &[drips.port, healthy.port]);
    let http_address = Some("127.0.0.1:0".parse().unwrap());
    let me = TestNode::start(&certs, Config { http_address, ..base }).await;
    has_begun(&me).await;
    works(&healthy, &me).await;
    works(&healthy, &me).await;
    let resync = me.admin.status().await.resync.expect("the donor drips on");
    assert_eq!((resync.node.as_str(), resync.records_joined), ("drips", 0));
    let ready = http::get(me.node.http_address().unwrap().port(), "/readyz").await.unwrap();
    assert!(ready.contains("being filled from drips"), "{ready}");
    me.stop().await;
    healthy.stop().await;
}

/// Such a donor has this node for itself: its pages remove records that others might bring back. It must keep the pace
/// all the more.
#[tokio::test(flavor = "multi_thread")]
async fn a_donor_that_has_collected_tombstones_and_drips_is_set_aside() {
    let certs = Certs::new();
    let healthy = TestNode::joining(&certs, "healthy", &[]).await;
    let collected = codec::vector_to_proto(&at(origin("drips", 1), 1));
    let drips = dripping(&certs, Some(collected)).await;
    let base = config(&certs, "me", free_port(), &[drips.port, healthy.port]);
    let compact = Policy { tombstone_grace: Some(Duration::ZERO), ..base.compact };
    let me = TestNode::start(&certs, Config { compact, ..base }).await;
    has_begun(&me).await;
    let key = random_key();
    healthy.client.put(&key, b"grant").await.unwrap();
    eventually("the record is there all the same", || me.client.has_local(&key)).await;
    eventually("the donor is named", || async {
        let peers = me.admin.status().await.peers;
        peers.iter().any(|peer| peer.last_error.contains("is not filled from that peer")).then_some(())
    })
    .await;
    me.stop().await;
    healthy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_donor_whose_snapshot_breaks_the_protocol_is_set_aside() {
    let certs = Certs::new();
    let broken = Script {
        then: out_of_sync(),
        snapshot: Some(vec![header("broken", &Vector::default()), empty_page([9; 32]), empty_page([8; 32])]),
        ..Script::new("broken")
    };
    let broken = FakePeer::start(&certs, "broken", broken).await;
    let me = TestNode::joining(&certs, "me", &[broken.port]).await;
    let begun = || *broken.snapshots.lock().unwrap();
    eventually("one was begun", || async { (begun() >= 1).then_some(()) }).await;
    eventually("it says why not", || async {
        me.admin.status().await.peers[0].last_error.contains("is not filled from that peer").then_some(())
    })
    .await;
    stays("no other one is begun", Duration::from_secs(2), || async { begun() == 1 }).await;
    me.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_donor_that_invents_origins_fills_its_own_share_and_blocks_no_honest_one() {
    let certs = Certs::new();
    let healthy = TestNode::joining(&certs, "healthy", &[]).await;
    let one = |id: &str, n: u32| batch(origin(id, n), 0, 1, vec![create(1, &random_key(), b"x")]);
    let invented = (0..700).map(|n| one(&format!("invented-{n}"), 1));
    let batches = invented.chain((0..1_200).map(|n| one("evil", n))).collect();
    let evil = FakePeer::start(&certs, "evil", Script { batches, ..Script::new("evil") }).await;
    let me = TestNode::joining(&certs, "me", &[evil.port, healthy.port]).await;
    eventually("its own incarnations are taken, up to its share", || async {
        (me.vector().incarnations(&"evil".parse().unwrap()) >= 1000).then_some(())
    })
    .await;
    works(&healthy, &me).await;
    // Of what an honest node relays, the origins that it vouches for come first.
    let further = TestNode::joining(&certs, "further", &[me.port]).await;
    let key = random_key();
    healthy.client.put(&key, b"grant").await.unwrap();
    eventually("it is relayed", || further.client.has_local(&key)).await;
    for node in [&me, &further] {
        let (all, own) = (node.vector().len(), node.vector().incarnations(&"evil".parse().unwrap()));
        assert!(own <= 1000 && all <= 1000 + 256 + 1, "{}: {all} origins, {own} of evil", node.id);
    }
    let alarms = me.admin.status().await.alarms;
    assert!(
        alarms.iter().any(|alarm| alarm.text.contains("node evil supplies more new origins")),
        "{alarms:?}"
    );
    let peers = me.admin.status().await.peers;
    assert!(peers.iter().all(|peer| peer.up), "no round fails: {peers:?}");
    for node in [me, healthy, further] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn origins_that_a_snapshot_invents_are_left_out_and_the_rest_of_it_is_taken() {
    let certs = Certs::new();
    let mut vector: Vector = (0..3_000).map(|n| (origin(&format!("invented-{n}"), 1), Clock(7))).collect();
    let own = origin("evil", 1);
    vector.raise(own, Clock(5));
    let end = said(Said::End(proto::SnapshotEnd::default()));
    let evil = Script {
        then: out_of_sync(),
        snapshot: Some(vec![header("evil", &vector), empty_page([0xff; 32]), end]),
        ..Script::new("evil")
    };
    let evil = FakePeer::start(&certs, "evil", evil).await;
    let me = TestNode::joining(&certs, "me", &[evil.port]).await;
    eventually("the rest is adopted", || async { (me.vector().get(&own) == Clock(5)).then_some(()) }).await;
    assert!(me.vector().len() <= 257, "{} origins", me.vector().len());
    me.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_puller_says_of_unknown_origins_is_kept_up_to_a_bound_only() {
    let certs = Certs::new();
    let directory = tempfile::tempdir().unwrap();
    let path = Some(directory.path().join("node"));
    let base = config(&certs, "node", free_port(), &[]);
    let node = TestNode::start(&certs, Config { path: path.clone(), ..base }).await;
    node.client.put(&random_key(), b"grant").await.unwrap();
    let mut long: Vector = (0..20_000).map(|n| (origin("a-invented", n), Clock(1))).collect();
    let own = node.node.store().origin();
    long.raise(own, Clock(1));
    let puller = puller(&certs, &node, "p").await;
    let mut pull = Pull::begin(&puller, "p", &long).await.unwrap();
    assert!(pull.is_served().await);
    eventually("it is a member that has what there is", || async {
        let members = node.admin.members().await.members;
        members.iter().any(|member| member.node_id == "p" && member.lag_entries == Some(0)).then_some(())
    })
    .await;
    // The members are written when it stops.
    node.stop().await;
    let store = Store::open(&Options { path, ..Options::ram("node".parse().unwrap()) }).unwrap();
    let kept: Vec<_> =
        store.members().await.unwrap().into_iter().filter_map(|member| member.applied).collect();
    assert_eq!(kept.len(), 1);
    assert!(kept[0].clocks.len() <= 3000, "{} origins", kept[0].clocks.len());
    assert!(kept[0].clocks.iter().any(|stamp| stamp.origin == own.as_bytes().as_slice()));
    tokio::task::spawn_blocking(move || store.close()).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_without_a_node_id_introduces_a_few_names_and_no_more() {
    let ca = OwnCa::new();
    let base = config(&Certs::new(), "node", free_port(), &[]);
    let certs_dir = ca.directory("node", &Leaf::node("node"));
    let node = Node::start(Config { certs_dir, ..base }, None).await.unwrap();
    let address = node.address().to_string();
    let nameless = ca.directory("nameless", &Leaf { uris: vec![], ..Leaf::node("") });
    let nameless = Client::with_config(&address, OwnCa::client_config(&nameless)).await;
    let certified = ca.directory("certified", &Leaf::node("certified"));
    let certified = Client::with_config(&address, OwnCa::client_config(&certified)).await;
    let admin = Client::connect(&address, &ca.directory("ops", &Leaf::admin("ops"))).await;
    let nothing = Vector::default();
    for n in 0..40 {
        let mut pull = Pull::begin(&nameless, &format!("name-{n}"), &nothing).await.unwrap();
        assert!(pull.is_served().await, "it is served all the same");
    }
    let mut pull = Pull::begin(&certified, "certified", &nothing).await.unwrap();
    assert!(pull.is_served().await);
    let names = || async { admin.members().await.members.into_iter().map(|member| member.node_id) };
    eventually("the certified one is a member", || async {
        names().await.any(|name| name == "certified").then_some(())
    })
    .await;
    let introduced = names().await.filter(|name| name.starts_with("name-")).count();
    assert!((1..=8).contains(&introduced), "{introduced} names");
    assert!(node.stop().await.closed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_answers_under_ever_other_names_is_refused_in_the_end() {
    let ca = OwnCa::new();
    let nameless = ca.directory("nameless", &Leaf { uris: vec![], ..Leaf::node("") });
    let identity = Identity::load(&nameless, RolePolicy { require_uri: false }).unwrap();
    // Each name of its own at one address, round after round: it says another one each time.
    let script = Script { renames: true, hang_up: true, ..Script::new("name") };
    let liar = FakePeer::start_as(&identity, script).await;
    let base = config(&Certs::new(), "node", free_port(), &[liar.port]);
    let certs_dir = ca.directory("node", &Leaf::node("node"));
    let replication_interval = Duration::from_millis(50);
    let node = Node::start(Config { certs_dir, replication_interval, ..base }, None).await.unwrap();
    let admin = Client::connect(&node.address().to_string(), &ca.directory("ops", &Leaf::admin("ops"))).await;
    eventually("it is refused", || async {
        admin.status().await.peers[0].last_error.contains("after 8 other node ids").then_some(())
    })
    .await;
    assert!(node.stop().await.closed);
}

/// The first claim is believed: it may be true. A second one of the same peer is not, and an alarm names it.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_claims_my_operations_again_and_again_is_named_and_not_believed() {
    let certs = Certs::new();
    let node = TestNode::joining(&certs, "node", &[]).await;
    node.client.put(&random_key(), b"x").await.unwrap();
    let store = node.node.store();
    let liar = puller(&certs, &node, "liar").await;
    let claim = || at(store.origin(), 1_000_000);
    let born = store.origin();
    let mut believed = Pull::begin(&liar, "liar", &claim()).await.unwrap();
    assert!(believed.is_served().await);
    let minted = store.origin();
    assert_ne!(minted, born);
    let refused = Pull::begin(&liar, "liar", &claim()).await.map(drop).unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    assert_eq!(store.origin(), minted);
    let alarms = node.admin.status().await.alarms;
    let names = |text: &str| alarms.iter().filter(|alarm| alarm.text.starts_with(text)).count();
    assert_eq!(names("node liar has operations"), 1, "{alarms:?}");
    assert_eq!(names("node liar claims again"), 1, "{alarms:?}");
    node.stop().await;
}
