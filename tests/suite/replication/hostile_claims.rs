//! Donors of a resync that lie about what they hold, have applied, have deleted and forgotten, have folded.

use std::time::Duration;

use crate::harness::{
    certs::Certs,
    client::{put_request, record},
    eventually,
    fake_peer::FakePeer,
    free_port,
    metrics::refused_of,
    node::{TestNode, compacts_on_command, config},
    proxy::{Mode, Proxy},
    random_key,
    snapshot::{births as shown_births, end, forces, header, page, proven_page},
    stays,
    wire::{at, batch, create, key_hash, origin},
};
use brock::{config::validate::Config, maintenance::compact::Policy};
use brock_core::{
    base::{claims::ClaimKind, vector::Vector},
    proto::{self, out_of_sync::Reason, snapshot_response::Message},
};

/// Creates records, and returns their key hashes.
async fn fill(node: &TestNode, records: usize) -> Vec<Vec<u8>> {
    let keys: Vec<Vec<u8>> = (0..records).map(|_| random_key()).collect();
    let items = keys.iter().map(|key| put_request(key, b"grant")).collect();
    node.client.kv.clone().batch_put(proto::BatchPutRequest { items }).await.unwrap();
    keys
}

async fn is_tried(liar: &FakePeer, times: u64) {
    eventually("it was tried", || async { (*liar.snapshots.lock().unwrap() >= times).then_some(()) }).await;
}

/// A node of the cluster says that it has deleted, and forgotten, everything there is.
#[tokio::test(flavor = "multi_thread")]
async fn a_donor_that_claims_to_have_forgotten_everything_removes_nothing() {
    const RECORDS: usize = 150;
    let certs = Certs::new();
    let honest = TestNode::joining(&certs, "honest", &[]).await;
    let keys = fill(&honest, RECORDS).await;
    let known = honest.vector();
    let lies = |known: &Vector| {
        let some = Some(known);
        let pages = [page(vec![], 0x40, some), page(vec![], 0xff, some)];
        let all = [header("liar", &at(origin("liar", 1), 1), &Vector::default(), 1)];
        all.into_iter().chain(pages).chain([end(some)]).collect()
    };
    let liar = FakePeer::start(&certs, "liar", forces("liar", Reason::BelowFloor, lies(&known))).await;
    for collects in [false, true] {
        let proxy = Proxy::start(liar.port).await;
        proxy.set(Mode::Cut);
        let config = config(&certs, "victim", free_port(), &[honest.port, proxy.port]);
        let grace = collects.then_some(Duration::from_secs(3600));
        let compact = Policy { tombstone_grace: grace, ..compacts_on_command(config.clone()).compact };
        let victim = TestNode::start(&certs, Config { compact, ..config }).await;
        eventually("the victim has all", || async { victim.vector().covers(&known).then_some(()) }).await;
        let before = *liar.snapshots.lock().unwrap();
        proxy.set(Mode::Pass);
        // A donor that fails is set aside for longer and longer.
        is_tried(&liar, before + 2).await;
        let left = victim.node.store().records();
        let at_least = if collects { RECORDS - 100 } else { RECORDS };
        assert!(left >= at_least as u64, "{left} of {RECORDS} are left, collects: {collects}");
        let complaint = if collects { "deleted and forgotten more" } else { "set tombstone-grace" };
        let address = format!("127.0.0.1:{}", proxy.port);
        let is_told = |peer: &proto::Peer| peer.address == address && peer.last_error.contains(complaint);
        eventually("the status says why", || async {
            victim.admin.status().await.peers.iter().any(is_told).then_some(())
        })
        .await;
        let kind = if collects { ClaimKind::Drops } else { ClaimKind::Collected };
        assert!(refused_of(&address).get(kind.as_str()).is_some_and(|count| *count > 0), "{kind:?}");
        let alarms = victim.admin.status().await.alarms;
        let is_raised = alarms.iter().any(|alarm| alarm.text.contains(complaint));
        assert_eq!(is_raised, collects, "{alarms:?}");
        assert!(!victim.vector().lists(&origin("liar", 1)), "its vector was adopted");
        if !collects {
            for key in keys.iter().step_by(29) {
                victim.client.get_local(key).await.unwrap();
            }
            assert!(victim.node.store().collected().is_empty());
        }
        let key = random_key();
        honest.client.put(&key, b"later").await.unwrap();
        eventually("the victim goes on with other donors", || victim.client.has_local(&key)).await;
        victim.stop().await;
    }
    honest.stop().await;
}

/// A donor claims all that an honest node has applied, and leaves out the invalidations: no log brings them
/// again. Writes go on all the time, so the two nodes never stand at one vector for long.
#[tokio::test(flavor = "multi_thread")]
async fn revocations_that_a_donor_left_out_are_found_while_writes_continue() {
    let certs = Certs::new();
    let honest = TestNode::joining(&certs, "honest", &[]).await;
    let keys = fill(&honest, 40).await;
    let revoked = &keys[..20];
    for key in revoked {
        honest.admin.invalidate(key, "leaked", None).await.unwrap();
    }
    let (mut states, mut births) = (Vec::new(), Vec::new());
    let mut hashes: Vec<_> = keys.iter().map(|key| key_hash(key)).collect();
    hashes.sort();
    for hash in hashes {
        let mut state = honest.node.store().get(hash).await.unwrap().unwrap();
        if let Some(invalidation) = state.invalidation.take() {
            state.evidence.retain(|(stamp, _)| *stamp != invalidation.stamp);
        }
        births = honest.node.store().births_of([&state]).await.unwrap();
        states.push((hash, state));
    }
    let lies = vec![
        header("liar", &honest.vector(), &Vector::default(), 1),
        shown_births(births, honest.node.store()),
        proven_page(honest.node.store(), &states).await,
        end(None),
    ];
    let liar = FakePeer::start(&certs, "liar", forces("liar", Reason::BelowFloor, lies)).await;
    let proxy = Proxy::start(honest.port).await;
    proxy.set(Mode::Cut);
    let victim = TestNode::joining(&certs, "victim", &[liar.port, proxy.port]).await;
    let covered = honest.vector();
    eventually("the victim is filled", || async { victim.vector().covers(&covered).then_some(()) }).await;
    for key in revoked {
        victim.client.get_local(key).await.unwrap();
    }
    proxy.set(Mode::Pass);
    let healed = async {
        eventually("what was left out is found", || async {
            for key in revoked {
                let state = victim.node.store().get(key_hash(key)).await.unwrap()?;
                state.invalidation?;
            }
            Some(())
        })
        .await;
    };
    let writes = async {
        let mut pace = tokio::time::interval(Duration::from_millis(50));
        loop {
            pace.tick().await;
            honest.client.put_record(&random_key(), record(b"x")).await.unwrap();
        }
    };
    tokio::select! { () = healed => {}, () = writes => {} }
    eventually("an alarm says so", || async {
        let alarms = victim.admin.status().await.alarms;
        alarms.iter().any(|alarm| alarm.text.contains("held other records")).then_some(())
    })
    .await;
    assert_eq!(honest.admin.status().await.alarms.len(), 0);
    victim.stop().await;
    honest.stop().await;
}

/// A donor says that an incarnation is over that its node writes to.
#[tokio::test(flavor = "multi_thread")]
async fn an_incarnation_that_is_written_to_is_not_over_because_a_donor_says_so() {
    let certs = Certs::new();
    let honest = TestNode::joining(&certs, "honest", &[]).await;
    fill(&honest, 3).await;
    let own = honest.node.store().origin();
    let over = origin("gone", 7);
    let folds: Vector =
        [at(own, 5), at(over, 9)].iter().flat_map(|one| one.iter().collect::<Vec<_>>()).collect();
    let lies = vec![header("liar", &Vector::default(), &folds, 1), page(vec![], 0xff, None), end(None)];
    let script = forces("liar", Reason::BelowFloor, lies);
    let liar = FakePeer::start(&certs, "liar", script).await;
    let proxy = Proxy::start(liar.port).await;
    proxy.set(Mode::Cut);
    let victim = TestNode::joining(&certs, "victim", &[honest.port, proxy.port]).await;
    eventually("the victim has all", || async { (victim.vector() == at(own, 3)).then_some(()) }).await;
    proxy.set(Mode::Pass);
    eventually("the lie has come", || async { victim.node.store().folds().lists(&over).then_some(()) }).await;
    assert!(!victim.node.store().folds().lists(&own), "a life that goes on is folded");
    assert!(victim.vector().lists(&own));
    // It is told that a peer knows more of it than it has done, and goes on under another incarnation.
    for _ in 0..3 {
        let key = random_key();
        honest.client.put(&key, b"later").await.unwrap();
        eventually("its operations arrive", || victim.client.has_local(&key)).await;
    }
    victim.stop().await;
    honest.stop().await;
}

/// The last clock that there is, of an origin that is not there: no sum overflows, and nothing loops.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_at_the_end_of_all_clocks_stops_no_node() {
    let certs = Certs::new();
    let (end_of_all, near) = (at(origin("last", 1), u64::MAX), at(origin("near", 1), u64::MAX - 1));
    let mut claimed = end_of_all.clone();
    claimed.join(&near);
    let lies = vec![header("liar", &claimed, &Vector::default(), 1), page(vec![], 0xff, None), end(None)];
    let liar = FakePeer::start(&certs, "liar", forces("liar", Reason::BelowFloor, lies)).await;
    let victim =
        TestNode::start(&certs, compacts_on_command(config(&certs, "victim", free_port(), &[liar.port])))
            .await;
    let further = TestNode::joining(&certs, "further", &[victim.port]).await;
    for node in [&victim, &further] {
        eventually("the claim has come", || async { node.vector().covers(&claimed).then_some(()) }).await;
    }
    let key = random_key();
    victim.client.put(&key, b"grant").await.unwrap();
    eventually("operations arrive", || further.client.has_local(&key)).await;
    victim.admin.admin.clone().compact(proto::CompactRequest {}).await.unwrap();
    assert_eq!(victim.node.store().floors().get(&origin("last", 1)).0, u64::MAX);
    further.stop().await;
    victim.stop().await;
}

/// A log page of a snapshot may not leave out clocks either.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_whose_log_has_holes_is_refused() {
    let certs = Certs::new();
    let own = origin("liar", 1);
    let log =
        Message::Log(proto::LogPage { batch: Some(batch(own, 0, 3, vec![create(3, &random_key(), b"x")])) });
    let lies =
        vec![header("liar", &at(own, 3), &Vector::default(), 1), page(vec![], 0xff, None), log, end(None)];
    let liar = FakePeer::start(&certs, "liar", forces("liar", Reason::BelowFloor, lies)).await;
    let victim = TestNode::joining(&certs, "victim", &[liar.port]).await;
    is_tried(&liar, 2).await;
    eventually("the status says why", || async {
        let peers = victim.admin.status().await.peers;
        peers[0].last_error.contains("covers clocks that it has no entry for").then_some(())
    })
    .await;
    stays("nothing is adopted", Duration::from_millis(100), || async { victim.vector().is_empty() }).await;
    assert!(liar.refused(ClaimKind::Page) > 0);
    victim.stop().await;
}
