//! Peers that lie about who they are, hang, are slow, or are not there.

use std::time::{Duration, Instant};

use crate::harness::{
    certs::Certs,
    client::record,
    cluster::{Cluster, assert_same},
    eventually,
    fake_peer::{FakePeer, Script},
    files, free_port,
    node::{TestNode, config},
    proxy::{Mode, Proxy},
    random_key, raw, stays,
    wire::{at, batch, create, origin},
};
use brock::{config::validate::Config, replication::pull::puller::PROTOCOL_VERSION};
use brock_core::{
    base::{
        limits,
        vector::{Clock, Vector},
    },
    proto::{self, replicate_request},
};
use prost::Message;
use tokio::net::TcpListener;

async fn report(node: &TestNode, port: u16) -> proto::Peer {
    let address = format!("127.0.0.1:{port}");
    node.admin.status().await.peers.into_iter().find(|peer| peer.address == address).unwrap()
}

async fn fails(node: &TestNode, port: u16, text: &str) {
    eventually(&format!("the peer at {port} is in error: {text}"), || async {
        let peer = report(node, port).await;
        (!peer.up && peer.last_error.contains(text)).then_some(())
    })
    .await;
}

/// A record written to one node arrives at the other at once.
async fn works(from: &TestNode, to: &TestNode) {
    let (key, written) = (random_key(), Instant::now());
    from.client.put(&key, b"grant").await.unwrap();
    eventually("the record is there", || to.client.has_local(&key)).await;
    assert!(written.elapsed() < Duration::from_secs(3), "it took {:?}", written.elapsed());
}

fn own_batch(id: &str) -> Vec<proto::Batch> {
    vec![batch(origin(id, 1), 0, 1, vec![create(1, &random_key(), b"x")])]
}

/// Each of these peers has a batch ready; none of it may be applied.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_is_not_who_it_should_be_is_refused_and_the_others_go_on() {
    let certs = Certs::new();
    let healthy = TestNode::joining(&certs, "healthy", &[]).await;
    let script = |id: &str| Script { batches: own_batch("evil"), ..Script::new(id) };
    let myself = FakePeer::start(&certs, "me", script("me")).await;
    let stranger = FakePeer::start(&certs, "other", script("evil")).await;
    let nameless = FakePeer::start(&certs, "evil", script("")).await;
    let headless = Script {
        heads: (0..=limits::VECTOR_MAX_ORIGINS as u32).map(|i| (origin("evil", i), Clock(1))).collect(),
        ..script("evil")
    };
    let headless = FakePeer::start(&certs, "evil", headless).await;
    let join = [myself.port, stranger.port, nameless.port, headless.port, healthy.port];
    let me = TestNode::joining(&certs, "me", &join).await;
    fails(&me, myself.port, "the peer has this node's own id, me").await;
    fails(&me, stranger.port, "says it is evil, but its certificate is that of other").await;
    fails(&me, nameless.port, "its node id is malformed").await;
    fails(&me, headless.port, "origins, more than the").await;
    works(&healthy, &me).await;
    assert_eq!(me.vector().len(), 1);
    me.stop().await;
    healthy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_addresses_with_one_node_id_one_is_pulled_from_until_it_is_gone() {
    let certs = Certs::new();
    let twins = [
        FakePeer::start(&certs, "twin", Script::new("twin")).await,
        FakePeer::start(&certs, "twin", Script::new("twin")).await,
    ];
    let proxies = [Proxy::start(twins[0].port).await, Proxy::start(twins[1].port).await];
    let me = TestNode::joining(&certs, "me", &[proxies[0].port, proxies[1].port]).await;
    let (up, down) = eventually("one is up and the other is told apart", || async {
        let reports = [report(&me, proxies[0].port).await, report(&me, proxies[1].port).await];
        let twin =
            reports.iter().position(|peer| peer.last_error.contains("node twin already answers at"))?;
        reports[1 - twin].up.then_some((1 - twin, twin))
    })
    .await;
    proxies[up].set(Mode::Cut);
    eventually("the other takes its place", || async {
        report(&me, proxies[down].port).await.up.then_some(())
    })
    .await;
    me.stop().await;
}

/// A node stops at clock 3, and a peer that has it up to clock 5 is met afterwards: the storage
/// must have been rolled back. Told once by its heads, once by a batch alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_has_more_of_my_own_operations_gives_them_back_to_a_new_incarnation() {
    for with_heads in [true, false] {
        let mut cluster = Cluster::start(1).await;
        for clock in 1..=3 {
            assert_eq!(cluster.node(0).client.put(&random_key(), b"x").await.unwrap().clock, clock);
        }
        let store = cluster.node(0).node.store().clone();
        let before = store.origin();
        let copy = tempfile::tempdir().unwrap();
        files::copy(&cluster.path(0), copy.path());
        let lost = [random_key(), random_key()];
        for key in &lost {
            cluster.node(0).client.put(key, b"lost").await.unwrap();
        }
        let changes = store.changes_since(before, Clock(3), 100).await.unwrap().unwrap();
        let batch = proto::Batch { birth: store.birth(before).await.unwrap(), ..changes.batch };
        drop(store);
        cluster.stop_node(0).await;
        files::copy(copy.path(), &cluster.path(0));
        let heads = if with_heads { at(before, 5) } else { Vector::default() };
        let script = Script { heads, batches: vec![batch], ..Script::new("peer") };
        let peer = FakePeer::start(&cluster.certs, "peer", script).await;
        cluster.ports.push(peer.port);
        let me = TestNode::start(&cluster.certs, cluster.config(0)).await;
        let started = Instant::now();
        for key in &lost {
            eventually("the lost record is back", || me.client.has_local(key)).await;
        }
        assert!(started.elapsed() < Duration::from_secs(15), "it had to wait for the next round");
        let after = me.node.store().origin();
        assert!(after != before && after.is_of(me.node.store().node_id()), "{after}");
        assert_eq!(me.vector(), at(before, 5));
        let alarms = me.admin.status().await.alarms;
        assert!(alarms.len() == 1 && alarms[0].text.contains("rolled back"), "{alarms:?}");
        let stamp = me.client.put(&random_key(), b"new").await.unwrap();
        assert_eq!((stamp.origin.as_ref(), stamp.clock), (after.as_bytes().as_slice(), 1));
        eventually("the peer is told", || async {
            (peer.applied.lock().unwrap().get(&after).0 == 1).then_some(())
        })
        .await;
        me.stop().await;
    }
}

/// Four peers that do not answer, each in its own way, and a healthy one whose operations arrive
/// at once all the while.
#[tokio::test(flavor = "multi_thread")]
async fn peers_that_hang_are_given_up_and_delay_nobody() {
    let certs = Certs::new();
    let healthy = TestNode::joining(&certs, "healthy", &[]).await;
    let stalled = TestNode::joining(&certs, "stalled", &[]).await;
    let proxy = Proxy::start(stalled.port).await;
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mute_port = mute.local_addr().unwrap().port();
    let silent = FakePeer::start(&certs, "silent", Script { silent: true, ..Script::new("silent") }).await;
    let deaf = FakePeer::start(&certs, "deaf", Script { deaf: true, ..Script::new("deaf") }).await;
    let dead = free_port();
    let join = [healthy.port, proxy.port, mute_port, silent.port, dead, deaf.port];
    let me = TestNode::joining(&certs, "me", &join).await;
    works(&stalled, &me).await;
    proxy.set(Mode::Stall);
    let began = Instant::now();
    let mut told = [false; 5];
    let expected = [
        (proxy.port, "nothing was heard for 10 s"),
        (mute_port, "no answer within"),
        (silent.port, "nothing was heard for 10 s"),
        (dead, "cannot connect"),
        (deaf.port, "has not read an acknowledgement"),
    ];
    while told != [true; 5] {
        assert!(began.elapsed() < Duration::from_secs(50), "not all were given up: {told:?}");
        works(&healthy, &me).await;
        for (told, (port, text)) in told.iter_mut().zip(expected) {
            *told |= report(&me, port).await.last_error.contains(text);
        }
    }
    assert!(began.elapsed() > limits::STREAM_SILENCE_TIMEOUT / 2, "they had no time to answer");
    proxy.set(Mode::Pass);
    works(&stalled, &me).await;
    for node in [me, healthy, stalled] {
        node.stop().await;
    }
}

/// A peer whose every round fails after its heads must be tried less and less often.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_always_fails_is_dialled_ever_more_rarely() {
    let certs = Certs::new();
    let gap = vec![batch(origin("evil", 1), 5, 6, vec![create(6, &random_key(), b"x")])];
    let evil = FakePeer::start(&certs, "evil", Script { batches: gap, ..Script::new("evil") }).await;
    let me = TestNode::joining(&certs, "me", &[evil.port]).await;
    let streams = || async { (*evil.streams.lock().unwrap() >= 4).then_some(()) };
    eventually("it was tried four times", streams).await;
    // From here on the delays are 0.4 s at least, and double.
    stays("it is tried up to eight times", Duration::from_secs(3), || async {
        *evil.streams.lock().unwrap() <= 8
    })
    .await;
    assert!(report(&me, evil.port).await.last_error.contains("begins after 5"));
    me.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_link_and_one_that_was_cut_converge_by_themselves() {
    let ports = [free_port(), free_port()];
    let proxies = [Proxy::start(ports[0]).await, Proxy::start(ports[1]).await];
    proxies.iter().for_each(|proxy| proxy.set(Mode::Delay(Duration::from_millis(50))));
    let certs = Certs::new();
    let start = async |i: usize| {
        let config = config(&certs, &format!("node-{i}"), ports[i], &[proxies[1 - i].port]);
        TestNode::start(&certs, Config { replication_limit: 20, ..config }).await
    };
    let nodes = [start(0).await, start(1).await];
    let mut keys = Vec::new();
    for mode in [Mode::Delay(Duration::from_millis(50)), Mode::Cut, Mode::Stall] {
        proxies.iter().for_each(|proxy| proxy.set(mode));
        for i in 0..100 {
            let key = random_key();
            nodes[i % 2].client.put_record(&key, record(&[1; 300])).await.unwrap();
            keys.push(key);
        }
        if mode == Mode::Cut {
            for node in &nodes {
                eventually("the cut is noticed", || async {
                    (!node.admin.status().await.peers[0].up).then_some(())
                })
                .await;
            }
            assert_ne!(nodes[0].vector(), nodes[1].vector(), "the link is cut");
        }
        if mode != Mode::Delay(Duration::from_millis(50)) {
            proxies.iter().for_each(|proxy| proxy.set(Mode::Pass));
        }
        eventually("both have everything", || async {
            (nodes[0].vector() == nodes[1].vector()).then_some(())
        })
        .await;
        assert_same(&nodes, &keys).await;
    }
    for node in nodes {
        node.stop().await;
    }
}

/// A wall clock that is far off must not destroy data: while a peer's differs, what has expired
/// is unreadable but stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_whose_clock_is_far_off_holds_the_sweeper() {
    let certs = Certs::new();
    let off = Script { now_unix: brock_core::base::time::unix_now() - 3600, ..Script::new("off") };
    let off = FakePeer::start(&certs, "off", off).await;
    let proxy = Proxy::start(off.port).await;
    let quick = config(&certs, "me", free_port(), &[proxy.port]);
    let me = TestNode::start(&certs, Config { expiry_margin: Duration::ZERO, ..quick }).await;
    let key = random_key();
    let mut brief = record(b"brief");
    brief.expires_at_unix = brock_core::base::time::unix_now() + 8;
    me.client.put_record(&key, brief).await.unwrap();
    let sweeper = || async {
        let tasks = me.admin.status().await.tasks;
        tasks.into_iter().find(|task| task.name == "sweeper").unwrap()
    };
    eventually("the sweeper is held", || async { sweeper().await.state.starts_with("held").then_some(()) })
        .await;
    let alarms = me.admin.status().await.alarms;
    assert!(alarms.iter().any(|alarm| alarm.text.contains("expired records are left alone")), "{alarms:?}");
    eventually("it has expired", || async { me.client.has_local(&key).await.is_none().then_some(()) }).await;
    let a_sweep = limits::SWEEP_INTERVAL + Duration::from_secs(1);
    stays("a clock in doubt sweeps nothing", a_sweep, || async { me.node.store().records() == 1 }).await;
    proxy.set(Mode::Cut);
    eventually("it is swept", || async { (me.node.store().records() == 0).then_some(()) }).await;
    me.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_puller_that_says_nothing_more_does_not_hold_up_a_stop() {
    const REPLICATE: &str = "/brock.v1.ReplicationService/Replicate";
    let certs = Certs::new();
    let hello = proto::Hello {
        protocol_version: PROTOCOL_VERSION,
        node_id: "node-9".to_owned(),
        ..proto::Hello::default()
    };
    let hello = replicate_request::Message::Hello(hello);
    let hello = proto::ReplicateRequest { message: Some(hello), ..Default::default() }.encode_to_vec();
    for begins in [true, false] {
        let config = config(&certs, "node-1", free_port(), &[]);
        // Less than the node waits for a silent puller.
        let shutdown_timeout = limits::STREAM_SILENCE_TIMEOUT / 3;
        let node = TestNode::start(&certs, Config { shutdown_timeout, ..config }).await;
        let channel = raw::channel_of_node(&node.address(), &certs, "node-9").await;
        if begins {
            // It does not say what it has folded.
            assert!(raw::call_open(&channel, REPLICATE, &hello).await.unwrap().is_some());
            node.stop().await;
            continue;
        }
        let call = raw::call_with(&channel, REPLICATE, futures::stream::pending());
        let stopped = async {
            // Behind the silent call on the same connection.
            raw::call(&channel, "/brock.v1.ReplicationService/Ping", &[]).await.unwrap();
            node.stop().await;
        };
        let (silent, ()) = tokio::join!(call, stopped);
        assert_eq!(silent.unwrap_err().code(), tonic::Code::Unavailable);
    }
}
