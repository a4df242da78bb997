//! Logs with things in them that no origin should have written.

use crate::harness::{
    certs::Certs,
    eventually,
    fake_peer::{FakePeer, Script},
    free_port,
    node::{TestNode, config},
    proxy::{Mode, Proxy},
    random_key,
    wire::{at, batch, create, create_at, invalidate, key_hash, log_of, origin, stub},
};
use brock_core::{
    base::{claims::ClaimKind, limits},
    domain::{codec::encode_state, operation::Operation},
    proto,
};
use bytes::Bytes;
use tonic::Code;

/// A peer with one batch of its own after another.
async fn peer(certs: &Certs, id: &str, batches: Vec<proto::Batch>) -> FakePeer {
    let heads = at(origin(id, 1), batches.iter().map(|batch| batch.covered_through).max().unwrap_or(0));
    FakePeer::start(certs, id, Script { heads, batches, ..Script::new(id) }).await
}

async fn reaches(node: &TestNode, id: &str, clock: u64) {
    let what = format!("{} has applied {id} up to {clock}", node.id);
    eventually(&what, || async { (node.vector().get(&origin(id, 1)).0 >= clock).then_some(()) }).await;
    assert_eq!(node.vector().get(&origin(id, 1)).0, clock);
}

/// Waits until the peer at this port is in an error that says this.
async fn fails(node: &TestNode, port: u16, text: &str) {
    let address = format!("127.0.0.1:{port}");
    eventually(&format!("{address} is in error: {text}"), || async {
        let peers = node.admin.status().await.peers;
        peers
            .iter()
            .any(|peer| peer.address == address && !peer.up && peer.last_error.contains(text))
            .then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poison_entry_is_set_aside_and_blocks_nothing_here_or_further_on() {
    let certs = Certs::new();
    let (first, last, later, other) = (random_key(), random_key(), random_key(), random_key());
    let mut undecodable = create(2, &random_key(), b"x");
    undecodable.operation = vec![0xff; 9].into();
    let mut unknown = create(3, &random_key(), b"x");
    unknown.operation = vec![8, 99].into();
    let mut undated = create(4, &random_key(), b"x");
    undated.operation = vec![8, 1].into();
    let mut other_payload = create(5, &random_key(), b"x");
    other_payload.payload = create(5, &random_key(), b"y").payload;
    let oversize = create(6, &random_key(), &vec![1; limits::PAYLOAD_MAX_BYTES + 1]);
    let misplaced =
        proto::Entry { payload: Some(Bytes::from_static(b"p")), ..invalidate(7, &random_key(), "r") };
    let entries = vec![
        create(1, &first, b"first"),
        undecodable,
        unknown,
        undated,
        other_payload,
        oversize,
        misplaced,
        create(8, &last, b"last"),
    ];
    let own = origin("poison", 1);
    let poison = peer(
        &certs,
        "poison",
        vec![batch(own, 0, 8, entries), batch(own, 8, 9, vec![create(9, &later, b"later")])],
    )
    .await;
    let healthy =
        peer(&certs, "healthy", vec![batch(origin("healthy", 1), 0, 1, vec![create(1, &other, b"other")])])
            .await;
    let here = TestNode::joining(&certs, "here", &[poison.port, healthy.port]).await;
    let further = TestNode::joining(&certs, "further", &[here.port]).await;
    for node in [&here, &further] {
        reaches(node, "poison", 9).await;
        reaches(node, "healthy", 1).await;
        for (key, grant) in [(&first, "first"), (&last, "last"), (&later, "later"), (&other, "other")] {
            assert_eq!(node.client.get_local(key).await.unwrap().encrypted_access_grant, grant);
        }
        let status = node.admin.status().await;
        assert_eq!((status.quarantined, status.records, status.conflicts), (6, 4, 0), "{}", node.id);
        assert!(status.peers.iter().all(|peer| peer.up && peer.last_error.is_empty()), "{:?}", status.peers);
    }
    assert_eq!(log_of(here.node.store(), own).await, log_of(further.node.store(), own).await);
    here.stop().await;
    further.stop().await;
}

/// What is set aside is relayed, so it must fit into messages that the next node takes.
#[tokio::test(flavor = "multi_thread")]
async fn poison_entries_as_large_as_messages_are_relayed_too() {
    let certs = Certs::new();
    let own = origin("poison", 1);
    let mut batches: Vec<_> =
        (0..200_u64).map(|i| batch(own, i, i + 1, vec![create(i + 1, &random_key(), &[3; 4500])])).collect();
    for i in 200..210 {
        let mut long = create(i + 1, &random_key(), b"x");
        long.operation = vec![7; 1024 * 1024].into();
        batches.push(batch(own, i, i + 1, vec![long]));
    }
    let mut huge = create(211, &random_key(), b"x");
    huge.payload = Some(vec![1; limits::ENTRY_MAX_BYTES - 32 - huge.operation.len()].into());
    batches.push(batch(own, 210, 211, vec![huge]));
    let key = random_key();
    batches.push(batch(own, 211, 212, vec![create(212, &key, b"after")]));
    let poison = peer(&certs, "poison", batches).await;
    let here = TestNode::joining(&certs, "here", &[poison.port]).await;
    reaches(&here, "poison", 212).await;
    let further = TestNode::joining(&certs, "further", &[here.port]).await;
    reaches(&further, "poison", 212).await;
    assert_eq!(further.node.store().quarantined(), 11);
    assert_eq!(further.client.get_local(&key).await.unwrap().encrypted_access_grant, "after");
    here.stop().await;
    further.stop().await;
}

/// The share of one node in the quarantine: when it is full, that log stops, and no other.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_full_of_rubbish_stops_alone() {
    let certs = Certs::new();
    let (own, other) = (origin("poison", 1), origin("other", 1));
    let rubbish = |clock: u64| {
        let mut entry = create(clock, &random_key(), b"x");
        entry.operation = vec![0xff; 9].into();
        entry.payload = Some(vec![1; limits::PAYLOAD_MAX_BYTES].into());
        batch(own, clock - 1, clock, vec![entry])
    };
    let share = limits::QUARANTINE_MAX_BYTES / limits::QUARANTINE_SHARES;
    // Each takes a little more than its payload.
    let most = share / (1024 * 1024) - 1;
    let mut batches: Vec<_> = (1..=most + 7).map(rubbish).collect();
    let key = random_key();
    batches.push(batch(other, 0, 1, vec![create(1, &key, b"other")]));
    let poison = peer(&certs, "poison", batches).await;
    let here = TestNode::joining(&certs, "here", &[poison.port]).await;
    let further = TestNode::joining(&certs, "further", &[here.port]).await;
    for node in [&here, &further] {
        reaches(node, "other", 1).await;
        assert_eq!(node.client.get_local(&key).await.unwrap().encrypted_access_grant, "other");
        // Two logs, of which either may come first.
        let full = || async { (node.node.store().quarantined() >= most).then_some(()) };
        eventually("the share is full", full).await;
        let totals = node.node.store().totals();
        assert!(totals.quarantine_bytes <= share && totals.quarantined == most, "{totals:?}");
        let status = node.admin.status().await;
        assert!(status.peers.iter().all(|peer| peer.up && peer.last_error.is_empty()), "{:?}", status.peers);
    }
    assert!(poison.refused(ClaimKind::Quarantine) > 0);
    here.stop().await;
    further.stop().await;
}

/// A relay's rubbish at a clock would keep the true operation out for ever.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_relay_has_made_unreadable_is_awaited_from_its_origin() {
    let certs = Certs::new();
    let own = origin("true", 1);
    let keys = [random_key(), random_key()];
    let entries: Vec<_> = (1..=2).map(|clock| create(clock, &keys[clock as usize - 1], b"true")).collect();
    let mut forged = entries.clone();
    forged[1].operation = vec![0xff; 9].into();
    let relayed = vec![
        batch(own, 0, 2, forged),
        batch(own, 2, 3, vec![create(3, &random_key(), b"forged")]),
        batch(origin("relay", 1), 0, 1, vec![create(1, &random_key(), b"relay's")]),
    ];
    let relay = peer(&certs, "relay", relayed).await;
    let relay_link = Proxy::start(relay.port).await;
    relay_link.set(Mode::Cut);
    // The origin says what it has, and does not send it yet.
    let slow = FakePeer::start(&certs, "true", Script { heads: at(own, 3), ..Script::new("true") }).await;
    let slow_link = Proxy::start(slow.port).await;
    let here = TestNode::joining(&certs, "here", &[relay_link.port, slow_link.port]).await;
    let is_up = async |id: &str, up: bool| {
        eventually(&format!("{id} is up: {up}"), || async {
            let peers = here.admin.status().await.peers;
            peers.iter().any(|peer| peer.node_id == id && peer.up == up).then_some(())
        })
        .await;
    };
    is_up("true", true).await;
    relay_link.set(Mode::Pass);
    reaches(&here, "relay", 1).await;
    reaches(&here, "true", 1).await;
    assert_eq!(here.node.store().quarantined(), 0);
    assert_eq!(here.client.has_local(&keys[1]).await, None);
    // Once the origin is gone, the relay is all there is.
    slow_link.set(Mode::Cut);
    is_up("true", false).await;
    relay_link.set(Mode::Cut);
    is_up("relay", false).await;
    relay_link.set(Mode::Pass);
    reaches(&here, "true", 3).await;
    assert_eq!(here.node.store().quarantined(), 1);
    here.stop().await;
}

/// Each of these is refused as a whole: nothing of it is applied, its sender is in error, and the
/// other peer's operations arrive.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_lies_about_its_range_is_refused_and_hurts_nobody_else() {
    let certs = Certs::new();
    let key = random_key();
    let own = origin("liar", 1);
    let entries = |clocks: &[u64]| clocks.iter().map(|clock| create(*clock, &key, b"x")).collect::<Vec<_>>();
    let mut too_large = create(1, &key, b"x");
    too_large.payload = Some(vec![1; 7 * 1024 * 1024].into());
    let mut short = create(1, &key, b"x");
    short.key_hash = Bytes::from_static(b"short");
    let nobody = proto::Batch { origin: Bytes::from_static(b"short"), ..batch(own, 0, 1, entries(&[1])) };
    for (lie, complaint) in [
        (batch(own, 5, 6, entries(&[6])), "begins after 5, but only 0 is applied"),
        (batch(own, 0, 2, entries(&[2, 1])), "out of order"),
        (batch(own, 0, 9, entries(&[1, 2, 9])), "covers clocks that it has no entry for"),
        (batch(own, 0, 1, vec![]), "covers clocks that it has no entry for"),
        (batch(own, 0, u64::MAX, entries(&[1, u64::MAX])), "covers clocks that it has no entry for"),
        (batch(own, 0, 1, vec![too_large]), "more than the"),
        (batch(own, 0, 1, vec![short]), "a key hash of 5 bytes instead of 32"),
        (batch(own, 0, 2, entries(&[1, 1])), "out of order"),
        (batch(own, 0, 1, entries(&[2])), "outside of its range"),
        (batch(own, 2, 1, vec![]), "ends before it begins"),
        (nobody, "not well-formed"),
    ] {
        let liar =
            FakePeer::start(&certs, "liar", Script { batches: vec![lie], ..Script::new("liar") }).await;
        let other = random_key();
        let good = vec![batch(origin("healthy", 1), 0, 1, vec![create(1, &other, b"other")])];
        let healthy = peer(&certs, "healthy", good).await;
        let here = TestNode::joining(&certs, "here", &[liar.port, healthy.port]).await;
        fails(&here, liar.port, complaint).await;
        // What begins too late, an honest donor may send to a node that has lost its disk.
        let is_lie = !complaint.starts_with("begins after");
        assert_eq!(liar.refused(ClaimKind::Batch) > 0, is_lie, "{complaint}");
        reaches(&here, "healthy", 1).await;
        assert_eq!(here.vector().len(), 1);
        assert_eq!(here.client.has_local(&key).await, None);
        here.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_that_come_again_change_nothing() {
    let certs = Certs::new();
    let own = origin("again", 1);
    let keys: Vec<_> = (0..5).map(|_| random_key()).collect();
    let entries = |from: u64, to: u64| {
        (from..=to).map(|clock| create(clock, &keys[clock as usize - 1], &[clock as u8])).collect::<Vec<_>>()
    };
    let changed = vec![create(1, &keys[4], b"another past")];
    let batches = vec![
        batch(own, 0, 3, entries(1, 3)),
        batch(own, 0, 3, entries(1, 3)),
        batch(own, 1, 4, entries(2, 4)),
        batch(own, 0, 1, changed),
        batch(own, 0, 5, entries(1, 5)),
        batch(own, 2, 2, vec![]),
    ];
    let again = peer(&certs, "again", batches).await;
    let here = TestNode::joining(&certs, "here", &[again.port]).await;
    reaches(&here, "again", 5).await;
    eventually("all 16 have come", || async {
        (here.admin.status().await.peers[0].entries_received == 15).then_some(())
    })
    .await;
    assert_eq!(log_of(here.node.store(), own).await, (5, entries(1, 5)));
    let status = here.admin.status().await;
    assert_eq!((status.records, status.conflicts, status.quarantined), (5, 0, 0));
    here.stop().await;
}

/// Two peers made the same key hash with different payloads. One node hears of one first, one of
/// the other; both and a third end up with the same winner, and say that there was a conflict.
#[tokio::test(flavor = "multi_thread")]
async fn of_unequal_duplicates_the_same_one_wins_everywhere_and_the_loss_is_counted() {
    let certs = Certs::new();
    for (p_at, q_at, winner) in [(100, 200, Some("p")), (200, 100, Some("q")), (100, 100, None)] {
        let key = random_key();
        let creates = |id: &'static str, created_at| {
            let entry = create_at(1, &key, id.as_bytes(), created_at, None);
            vec![batch(origin(id, 1), 0, 1, vec![entry])]
        };
        let p = peer(&certs, "p", creates("p", p_at)).await;
        let q = peer(&certs, "q", creates("q", q_at)).await;
        let (x_port, y_port) = (free_port(), free_port());
        let (to_x, to_y) = (Proxy::start(x_port).await, Proxy::start(y_port).await);
        to_x.set(Mode::Cut);
        to_y.set(Mode::Cut);
        let x = TestNode::start(&certs, config(&certs, "x", x_port, &[p.port, to_y.port])).await;
        let y = TestNode::start(&certs, config(&certs, "y", y_port, &[q.port, to_x.port])).await;
        let z = TestNode::joining(&certs, "z", &[x_port, y_port]).await;
        reaches(&x, "p", 1).await;
        reaches(&y, "q", 1).await;
        assert_eq!(x.client.get_local(&key).await.unwrap().encrypted_access_grant, "p");
        assert_eq!(y.client.get_local(&key).await.unwrap().encrypted_access_grant, "q");
        to_x.set(Mode::Pass);
        to_y.set(Mode::Pass);
        let mut states = Vec::new();
        for node in [&x, &y, &z] {
            reaches(node, "p", 1).await;
            reaches(node, "q", 1).await;
            let state = node.node.store().get(key_hash(&key)).await.unwrap().unwrap();
            states.push(encode_state(&state));
            let grant = node.client.get_local(&key).await.unwrap().encrypted_access_grant;
            assert!(winner.is_none_or(|winner| grant == winner), "{grant:?} won instead of {winner:?}");
            let status = node.admin.status().await;
            assert_eq!((status.conflicts, status.records), (1, 1), "{}", node.id);
        }
        assert!(states.windows(2).all(|pair| pair[0] == pair[1]), "the nodes disagree");
        for node in [x, y, z] {
            node.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_donor_no_longer_has_comes_as_a_stub_and_holds_nobody_up() {
    let certs = Certs::new();
    let own = origin("donor", 1);
    let (expired, gone, invalid, last) = (random_key(), random_key(), random_key(), random_key());
    let entries = vec![
        stub(create_at(1, &expired, b"expired", 1_600_000_000, Some(1_600_000_001))),
        stub(create(2, &gone, b"gone")),
        create(3, &invalid, b"invalid"),
        invalidate(4, &invalid, "leaked"),
        crate::harness::wire::entry(5, &gone, &Operation::Delete),
        create(6, &last, b"last"),
    ];
    let donor = peer(&certs, "donor", vec![batch(own, 0, 6, entries.clone())]).await;
    let here = TestNode::joining(&certs, "here", &[donor.port]).await;
    let further = TestNode::joining(&certs, "further", &[here.port]).await;
    for node in [&here, &further] {
        reaches(node, "donor", 6).await;
        for key in [&expired, &gone] {
            assert_eq!(node.client.get(key).await.unwrap_err().code(), Code::NotFound);
        }
        let refused = node.client.get(&invalid).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert!(refused.message().contains("leaked"), "{refused}");
        assert_eq!(node.client.get_local(&last).await.unwrap().encrypted_access_grant, "last");
        assert_eq!(log_of(node.node.store(), own).await, (6, entries.clone()));
        assert_eq!(node.node.store().quarantined(), 0);
    }
    here.stop().await;
    further.stop().await;
}
