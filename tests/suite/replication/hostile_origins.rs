//! Origins that destroy much in a short time.

use std::time::Duration;

use crate::harness::{
    certs::Certs,
    client::put_request,
    cluster::Cluster,
    eventually,
    fake_peer::{FakePeer, Script},
    free_port,
    identity::TestOrigin,
    metrics::refused_of,
    node::{TestNode, config},
    pen::Pen,
    proxy::{Mode, Proxy},
    random_key,
    snapshot::{end, forces, header, page},
    stays,
    wire::{at, batch, entry, key_hash, origin},
};
use brock::{config::validate::Config, transfer::keyed_state};
use brock_core::{
    base::{
        claims::ClaimKind,
        id::Origin,
        trust::TrustMode,
        vector::{Clock, Stamp, Vector},
    },
    domain::{operation::Operation, record::RecordState},
    proto::{self, PausedOrigin, out_of_sync::Reason, verdict::Level},
};
use bytes::Bytes;

/// Creates records at a node.
async fn create(node: &TestNode, keys: &[Vec<u8>]) {
    for keys in keys.chunks(1000) {
        let items = keys.iter().map(|key| put_request(key, b"grant")).collect();
        let request = proto::BatchPutRequest { items };
        node.client.kv.clone().batch_put(request).await.unwrap();
    }
}

/// Deletes of these keys, in batches of one origin's log.
fn deletes(id: &str, keys: &[Vec<u8>]) -> Vec<proto::Batch> {
    let clocks = |first: usize, keys: &[Vec<u8>]| {
        let delete = |(i, key): (usize, &Vec<u8>)| entry((first + i + 1) as u64, key, &Operation::Delete);
        let entries: Vec<_> = keys.iter().enumerate().map(delete).collect();
        batch(origin(id, 1), first as u64, (first + keys.len()) as u64, entries)
    };
    keys.chunks(30).enumerate().map(|(i, keys)| clocks(i * 30, keys)).collect()
}

/// The same, signed by its origin, each with an operator's order: somebody has taken an operator's certificate too.
fn ordered_deletes(certs: &Certs, id: &str, keys: &[Vec<u8>]) -> Vec<proto::Batch> {
    let (own, pen) = (TestOrigin::certified(certs, origin(id, 1)), Pen::of(&certs.admin()));
    let clocks = |first: usize, keys: &[Vec<u8>]| {
        let delete = |(i, key): (usize, &Vec<u8>)| pen.entry((first + i + 1) as u64, key, &Operation::Delete);
        let (entries, chains): (Vec<_>, Vec<_>) = keys.iter().enumerate().map(delete).unzip();
        let certificates = vec![chains[0].to_proto()];
        proto::Batch { certificates, ..own.sign(first as u64, entries) }
    };
    keys.chunks(30).enumerate().map(|(i, keys)| clocks(i * 30, keys)).collect()
}

fn keys(n: usize) -> Vec<Vec<u8>> {
    (0..n).map(|_| random_key()).collect()
}

/// A node that destroys at most 100 records a minute for one other, and an honest peer.
struct Victim {
    certs: Certs,
    honest: TestNode,
    config: Config,
    _disk: tempfile::TempDir,
}

impl Victim {
    async fn new(join: &[u16], certs: Certs) -> Self {
        let honest = TestNode::start(&certs, config(&certs, "honest", free_port(), &[])).await;
        let disk = tempfile::tempdir().unwrap();
        let join: Vec<u16> = join.iter().copied().chain([honest.port]).collect();
        let config = config(&certs, "me", free_port(), &join);
        let path = Some(disk.path().join("me"));
        let config = Config { path, destruction_limit: Some(100), ..config };
        Self { certs, honest, config, _disk: disk }
    }

    /// The same, and a peer that follows the script behind a proxy that is cut.
    async fn facing(script: Script, certs: Certs) -> (Self, FakePeer, Proxy) {
        let evil = FakePeer::start(&certs, "evil", script).await;
        let proxy = Proxy::start(evil.port).await;
        proxy.set(Mode::Cut);
        (Self::new(&[proxy.port], certs).await, evil, proxy)
    }

    async fn start(&self) -> TestNode {
        TestNode::start(&self.certs, self.config.clone()).await
    }

    /// Fails unless a record of the honest node arrives.
    async fn works(&self, me: &TestNode) {
        let key = random_key();
        self.honest.client.put(&key, b"grant").await.unwrap();
        eventually("the honest node is followed", || me.client.has_local(&key)).await;
    }
}

async fn paused(node: &TestNode) -> Vec<PausedOrigin> {
    eventually("a log is paused", || async {
        let paused = node.admin.status().await.paused;
        (!paused.is_empty()).then_some(paused)
    })
    .await
}

async fn resume(node: &TestNode, node_id: &str) -> Vec<PausedOrigin> {
    let request = proto::ResumeOriginRequest { node_id: node_id.to_owned() };
    node.admin.admin.clone().resume_origin(request).await.unwrap().into_inner().resumed
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_deletes_much_in_a_minute_is_paused_until_an_operator_resumes_it() {
    let keys = keys(150);
    is_paused_and_resumed(Certs::new(), TrustMode::Centralized, (deletes("evil", &keys), 100), keys).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn valid_orders_permit_an_origin_no_more_deletes_in_a_minute() {
    let (certs, keys) = (Certs::new(), keys(150));
    let batches = ordered_deletes(&certs, "evil", &keys);
    // A signature of 30 operations is not cut.
    is_paused_and_resumed(certs, TrustMode::Distributed, (batches, 90), keys).await;
}

/// Its log stops, the other one goes on, also after a restart; then an operator lets it go on.
async fn is_paused_and_resumed(
    certs: Certs,
    trust: TrustMode,
    (batches, end): (Vec<proto::Batch>, u64),
    keys: Vec<Vec<u8>>,
) {
    let script = Script { batches, heads: at(origin("evil", 1), 150), ..Script::new("evil") };
    let (mut victim, _evil, proxy) = Victim::facing(script, certs).await;
    victim.config.trust = trust;
    let me = victim.start().await;
    create(&me, &keys).await;
    proxy.set(Mode::Pass);
    let seen = paused(&me).await;
    let [PausedOrigin { node_id, by, origin: log, clock, .. }] = seen.as_slice() else { panic!("{seen:?}") };
    assert_eq!((node_id.as_str(), by.as_str()), ("evil", format!("127.0.0.1:{}", proxy.port).as_str()));
    eventually("it is counted", || async {
        (refused_of(by).get(ClaimKind::Destruction.as_str()) == Some(&1)).then_some(())
    })
    .await;
    assert_eq!((log.as_ref(), *clock), (origin("evil", 1).as_bytes().as_slice(), end));
    eventually("what is below the limit is applied", || async {
        (me.node.store().records() == 150 - end).then_some(())
    })
    .await;
    victim.works(&me).await;
    let status = me.admin.status().await;
    let evil_peer = status.peers.iter().find(|peer| peer.node_id == "evil").unwrap();
    assert_eq!((evil_peer.lag_entries, evil_peer.unsent_origins), (Some(0), 0), "it is no lag and no lie");
    assert!(status.alarms.iter().any(|alarm| alarm.text.contains("origin resume evil")), "{status:?}");
    let request = proto::ClusterRequest { history: false, fresh: false };
    let verdict = me.admin.admin.clone().cluster(request).await.unwrap().into_inner().verdict.unwrap();
    let finding = verdict.findings.iter().find(|finding| finding.what.contains("it has paused evil"));
    assert_eq!(finding.map(proto::verdict::Finding::level), Some(Level::Act), "{verdict:?}");
    me.stop().await;

    let me = victim.start().await;
    assert_eq!(paused(&me).await, seen, "a restart does not resume it");
    victim.works(&me).await;
    assert_eq!(me.node.store().records(), 152 - end);
    assert_eq!(resume(&me, "honest").await, []);
    assert_eq!(resume(&me, "evil").await, seen);
    eventually("the rest is applied", || async { (me.node.store().records() == 2).then_some(()) }).await;
    assert_eq!(me.admin.status().await.paused, []);
    me.stop().await;
    victim.honest.stop().await;
}

/// A peer that writes in the names of others stops itself. It is not relayed either, and its own operations count with
/// those of all its incarnations.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_deletes_in_other_names_stops_itself_and_not_the_others() {
    let certs = Certs::new();
    let keys = keys(700);
    let mut batches = deletes("honest", &keys[..150]);
    // Names that do not exist, 90 each: together they are above the limit.
    for (i, id) in ["ghost-1", "ghost-2", "ghost-3"].into_iter().enumerate() {
        batches.extend(deletes(id, &keys[150 + i * 90..150 + (i + 1) * 90]));
    }
    // Its own name, in two incarnations.
    batches.extend(deletes("evil", &keys[420..510]));
    let second = |batch: proto::Batch| proto::Batch {
        origin: Bytes::copy_from_slice(origin("evil", 2).as_bytes()),
        ..batch
    };
    batches.extend(deletes("evil", &keys[510..600]).into_iter().map(second));
    let script = Script { batches, ..Script::new("evil") };
    let (victim, _evil, proxy) = Victim::facing(script, certs).await;
    let me = victim.start().await;
    create(&me, &keys).await;
    victim.works(&me).await;
    proxy.set(Mode::Pass);
    eventually("the three are paused", || async {
        (me.admin.status().await.paused.len() == 3).then_some(())
    })
    .await;
    let records = || me.node.store().records();
    eventually("what is below the limit is applied", || async { (records() == 401).then_some(()) }).await;
    stays("a hundred of each kind are deleted, not more", Duration::from_secs(1), || async {
        records() == 401
    })
    .await;
    let key = random_key();
    victim.honest.client.put(&key, b"grant").await.unwrap();
    eventually("the honest node is followed", || me.client.has_local(&key)).await;
    victim.honest.admin.delete(&key, None).await.unwrap();
    eventually("its deletes are applied", || async {
        me.client.has_local(&key).await.is_none().then_some(())
    })
    .await;
    me.stop().await;
    victim.honest.stop().await;
}

/// A node that was away catches up on many deletes as soon as it sees that a third one has them, and a new node with
/// all of them in its donor's records does too.
#[tokio::test(flavor = "multi_thread")]
async fn what_another_member_has_applied_does_not_count() {
    let change = |config| Config { destruction_limit: Some(100), ..config };
    let mut cluster = Cluster::start_some(3, 2, |config| config).await;
    let keys = keys(300);
    create(cluster.node(0), &keys).await;
    cluster.start_node_with(2, change).await;
    cluster.converged().await;
    cluster.stop_node(2).await;
    for key in &keys[..250] {
        cluster.node(0).admin.delete(key, None).await.unwrap();
    }
    cluster.converged().await;
    cluster.start_node_with(2, change).await;
    cluster.converged().await;
    assert_eq!(cluster.node(2).admin.status().await.paused, []);
    let new = cluster.add_node(change).await;
    cluster.converged().await;
    assert_eq!(cluster.node(new).admin.status().await.paused, []);
    assert_eq!(cluster.node(new).node.store().records(), 50);
    cluster.stop().await;
}

fn deleted(by: Origin, clock: u64) -> RecordState {
    RecordState { deletion: Some(Stamp { origin: by, clock: Clock(clock) }), ..RecordState::default() }
}

/// The tombstones of a resync count as well, whatever stamps they have, and an empty node takes all of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_resync_destroys_no_more_than_the_log() {
    let certs = Certs::new();
    let mut keys = keys(150);
    keys.sort();
    let tombstone =
        |(i, key): (usize, &Vec<u8>)| keyed_state(key_hash(key), &deleted(origin("honest", 1), i as u64 + 1));
    let shown = keys.iter().enumerate().map(tombstone).collect();
    let covered = at(origin("honest", 1), 150);
    let said = vec![header("evil", &covered, &Vector::default(), 150), page(shown, 0xff, None), end(None)];
    let script = forces("evil", Reason::Cheaper, said);
    let (victim, _evil, proxy) = Victim::facing(script, certs).await;
    let me = victim.start().await;
    create(&me, &keys).await;
    proxy.set(Mode::Pass);
    let seen = paused(&me).await;
    assert_eq!((seen[0].node_id.as_str(), seen[0].origin.len()), ("evil", 0));
    assert_eq!(me.node.store().records(), 150);
    victim.works(&me).await;
    assert_eq!(resume(&me, "evil").await.len(), 1);
    eventually("an operator lets it through", || async { (me.node.store().records() == 1).then_some(()) })
        .await;
    me.stop().await;
    // With an empty disk it has nothing to lose.
    let empty = config(&victim.certs, "empty", free_port(), &[proxy.port]);
    let empty = TestNode::start(&victim.certs, Config { destruction_limit: Some(100), ..empty }).await;
    eventually("the tombstones are there", || async {
        (empty.node.store().totals().tombstones == 150).then_some(())
    })
    .await;
    assert_eq!(empty.admin.status().await.paused, []);
    empty.stop().await;
    victim.honest.stop().await;
}
