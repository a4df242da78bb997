//! The life cycle as processes: partitions, deletes and compaction behind them, clocks that jump,
//! directories that are rolled back, kills while keys are revoked, nodes that were away.

use std::{
    collections::HashSet,
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use crate::harness::{
    certs::Certs,
    client::{Client, all_within, nodes_within},
    eventually,
    faketime::faketime,
    files::copy,
    free_port,
    process::{Launch, Process},
    proxy::{Mode, Proxy},
    random_key,
};
use brock_core::proto::{self, verify_response::Verdict};
use rand::Rng;
use tempfile::TempDir;
use tonic::Code;

/// Processes that join each other, each link through a proxy of its own.
struct Fleet {
    certs: Certs,
    directory: TempDir,
    launches: Vec<Launch>,
    running: Vec<Option<(Process, Client)>>,
    /// `links[i][j]`: what node i dials to reach node j.
    links: Vec<Vec<Option<Proxy>>>,
}

impl Fleet {
    async fn start(n: usize, more: &[&str]) -> Self {
        let (certs, directory) = (Certs::new(), tempfile::tempdir().unwrap());
        let ports: Vec<u16> = (0..n).map(|_| free_port()).collect();
        let (mut launches, mut links) = (Vec::new(), Vec::new());
        for i in 0..n {
            let id = format!("node-{i}");
            let mut launch = Launch::new(&certs, &id, &directory.path().join(&id));
            launch.port = ports[i];
            let mut row = Vec::new();
            for (j, port) in ports.iter().enumerate() {
                row.push(if i == j { None } else { Some(Proxy::start(*port).await) });
            }
            launch.join = row.iter().flatten().map(|proxy| proxy.port).collect();
            launch.more.extend(more.iter().map(ToString::to_string));
            links.push(row);
            launches.push(launch);
        }
        let mut fleet = Self { certs, directory, launches, running: Vec::new(), links };
        for _ in 0..n {
            fleet.running.push(None);
        }
        for i in 0..n {
            fleet.start_node(i).await;
        }
        fleet
    }

    async fn start_node(&mut self, i: usize) {
        self.running[i] = Some(self.launches[i].start(&self.certs).await);
    }

    fn client(&self, i: usize) -> &Client {
        &self.running[i].as_ref().unwrap().1
    }

    fn take(&mut self, i: usize) -> Process {
        self.running[i].take().unwrap().0
    }

    fn path(&self, i: usize) -> PathBuf {
        self.launches[i].path.clone()
    }

    /// Node `i` receives nothing, and nothing is received from it.
    fn cut_off(&self, i: usize, mode: Mode) {
        for (a, row) in self.links.iter().enumerate() {
            for (b, link) in row.iter().enumerate() {
                if let Some(link) = link.as_ref().filter(|_| a == i || b == i) {
                    link.set(mode);
                }
            }
        }
    }

    async fn put(&self, i: usize, count: usize) -> Vec<Vec<u8>> {
        let keys: Vec<Vec<u8>> = (0..count).map(|_| random_key()).collect();
        for key in &keys {
            self.client(i).put(key, b"grant").await.unwrap();
        }
        keys
    }

    async fn verified(&self, i: usize) {
        eventually("all nodes hold the same", || async {
            (self.client(i).verify().await.verdict() == Verdict::Converged).then_some(())
        })
        .await;
    }

    async fn knows_all_have_everything(&self, i: usize) -> Option<()> {
        let request = proto::MembersRequest {};
        let members = self.client(i).admin.clone().members(request).await.unwrap().into_inner().members;
        members.iter().all(|member| member.lag_entries == Some(0)).then_some(())
    }

    async fn compact(&self, i: usize) -> proto::CompactResponse {
        self.client(i).admin.clone().compact(proto::CompactRequest {}).await.unwrap().into_inner()
    }

    async fn stop(mut self) {
        for i in 0..self.running.len() {
            if let Some((process, client)) = self.running[i].take() {
                drop(client);
                tokio::task::spawn_blocking(move || process.terminate()).await.unwrap();
            }
        }
    }
}

async fn code_of(client: &Client, key: &[u8]) -> Code {
    client.get_local(key).await.err().map_or(Code::Ok, |status| status.code())
}

/// Delete on one side of a partition, compact behind it, heal: nothing returns. With tombstones
/// kept, no operator has to act; where they are collected, the lost side must be retired first.
async fn nothing_returns(collected: bool) {
    let grace = if collected { "--tombstone-grace=0s" } else { "--tombstone-grace=never" };
    let fleet = Fleet::start(3, &["--node.replication-interval=1s", "--compact-mode=never", grace]).await;
    let keys = fleet.put(2, 30).await;
    fleet.verified(0).await;
    // That it has everything is one thing, that the one who compacts was told so another.
    eventually("node-0 knows that all have everything", || fleet.knows_all_have_everything(0)).await;
    fleet.cut_off(2, Mode::Cut);
    for key in &keys[..15] {
        let done = fleet.client(0).delete(key, nodes_within(1, 20_000)).await.unwrap();
        assert!(done.receipt.unwrap().missing.is_empty());
    }
    eventually("what all have is compacted, and the one that is away holds back the rest", || async {
        let kept = fleet.compact(0).await.entries_kept;
        assert!(kept >= 15, "{kept} are left, and 15 are still to be delivered");
        (kept == 15).then_some(())
    })
    .await;
    // The other side goes on by itself, and revokes one of what is deleted here.
    let own = fleet.put(2, 5).await;
    fleet.client(2).invalidate(&keys[0], "late", None).await.unwrap();
    if collected {
        fleet.client(0).retire("node-2").await;
        eventually("tombstones are collected on both", || async {
            let mut left = 0;
            for i in [0, 1] {
                fleet.compact(i).await;
                left += fleet.client(i).status().await.tombstones;
            }
            (left == 0).then_some(())
        })
        .await;
    }
    fleet.cut_off(2, Mode::Pass);
    for i in 0..3 {
        for key in &own {
            eventually("what was written alone is everywhere", || fleet.client(i).has_local(key)).await;
        }
    }
    eventually("what was deleted is gone at the one that was away", || async {
        for key in &keys[..15] {
            if code_of(fleet.client(2), key).await != Code::NotFound {
                return None;
            }
        }
        Some(())
    })
    .await;
    for i in 0..3 {
        for key in &keys[..15] {
            assert_eq!(code_of(fleet.client(i), key).await, Code::NotFound, "node-{i}");
        }
        for key in &keys[15..] {
            assert_eq!(code_of(fleet.client(i), key).await, Code::Ok, "node-{i}");
        }
    }
    if !collected {
        fleet.verified(2).await;
    }
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_behind_a_partition_does_not_return_when_it_heals() {
    nothing_returns(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_behind_a_partition_does_not_return_although_its_tombstones_are_gone() {
    nothing_returns(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_clock_jumps_ten_years_destroys_nothing_and_is_named() {
    let Some(library) = faketime() else { return };
    // Long rounds: to a clock ten years ahead every certificate has expired, so the next handshake fails.
    let mut fleet = Fleet::start(2, &["--node.expiry-margin=0s", "--node.replication-interval=10m"]).await;
    let expires_at_unix = brock_core::base::time::unix_now() + 3600;
    let key = random_key();
    let record = proto::Record { expires_at_unix, ..crate::harness::client::record(b"grant") };
    fleet.client(0).put_record(&key, record).await.unwrap();
    fleet.verified(0).await;
    let process = fleet.take(1);
    tokio::task::spawn_blocking(move || process.terminate()).await.unwrap();
    let clock = fleet.directory.path().join("clock");
    fs::write(&clock, "+0").unwrap();
    for (name, value) in [
        ("LD_PRELOAD", PathBuf::from(library)),
        ("FAKETIME_TIMESTAMP_FILE", clock.clone()),
        ("FAKETIME_NO_CACHE", PathBuf::from("1")),
        ("FAKETIME_DONT_FAKE_MONOTONIC", PathBuf::from("1")),
    ] {
        fleet.launches[1].env.push((name.to_owned(), value));
    }
    fleet.start_node(1).await;
    fleet.verified(0).await;
    // Verifying is a dial of its own: the round that is to hear of the clock must have begun, too.
    for i in [0, 1] {
        eventually("they pull from each other again", || async {
            fleet.client(i).status().await.peers.iter().all(|peer| peer.up).then_some(())
        })
        .await;
    }
    fs::write(&clock, "+10y").unwrap();
    eventually("it says that it leaves expired records alone", || async {
        let alarms = fleet.client(1).status().await.alarms;
        alarms.iter().any(|alarm| alarm.text.contains("expired records are left alone")).then_some(())
    })
    .await;
    assert_eq!(code_of(fleet.client(1), &key).await, Code::NotFound, "to its mind it has expired");
    let named = eventually("the other names it", || async {
        let peers = fleet.client(0).status().await.peers;
        peers.into_iter().find(|peer| peer.clock_skew_seconds.abs() > 300_000_000)
    })
    .await;
    assert_eq!(named.node_id, "node-1");
    assert_eq!(code_of(fleet.client(0), &key).await, Code::Ok, "nobody else believes it");
    let (process, _) = fleet.running[1].as_ref().unwrap();
    eventually("its log says that its certificates have expired", || async {
        process.log().iter().any(|line| line.contains("a certificate has expired")).then_some(())
    })
    .await;
    fs::write(&clock, "+0").unwrap();
    eventually("set right again, it still has the record", || fleet.client(1).has_local(&key)).await;
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_rolled_back_to_an_old_copy_is_noticed_and_loses_and_skips_nothing() {
    let mut fleet = Fleet::start(3, &["--node.replication-interval=1s", "--compact-mode=never"]).await;
    let mut keys = fleet.put(1, 10).await;
    fleet.verified(1).await;
    let process = fleet.take(1);
    tokio::task::spawn_blocking(move || process.terminate()).await.unwrap();
    let old_copy = fleet.directory.path().join("old-copy");
    copy(&fleet.path(1), &old_copy);

    fleet.start_node(1).await;
    keys.extend(fleet.put(1, 10).await);
    let revoked = keys.pop().unwrap();
    fleet.client(1).invalidate(&revoked, "leaked", all_within(20_000)).await.unwrap();
    fleet.verified(1).await;
    let process = fleet.take(1);
    tokio::task::spawn_blocking(move || process.terminate()).await.unwrap();
    fs::remove_dir_all(fleet.path(1)).unwrap();
    copy(&old_copy, &fleet.path(1));

    // Cut off, it cannot know, and takes writes all the same: none of them uses a clock again.
    fleet.cut_off(1, Mode::Cut);
    fleet.start_node(1).await;
    keys.extend(fleet.put(1, 10).await);
    fleet.cut_off(1, Mode::Pass);
    fleet.verified(1).await;
    for i in 0..3 {
        for key in &keys {
            assert_eq!(code_of(fleet.client(i), key).await, Code::Ok, "node-{i}");
        }
        assert_eq!(code_of(fleet.client(i), &revoked).await, Code::FailedPrecondition, "node-{i}");
    }
    let alarms = fleet.client(1).status().await.alarms;
    assert!(alarms.iter().any(|alarm| alarm.text.contains("rolled back")), "{alarms:?}");
    fleet.stop().await;
}

/// A node that cannot pull from a peer tries again more and more rarely; what the peer writes once it is back must
/// not wait for that.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_was_away_for_long_is_pulled_from_as_soon_as_it_answers() {
    let fleet = Fleet::start(2, &["--node.replication-interval=1h"]).await;
    fleet.verified(0).await;
    fleet.cut_off(1, Mode::Cut);
    let pause = eventually("it is tried more and more rarely", || async {
        let rounds = fleet.client(0).status().await.peers.remove(0).recent_rounds;
        let [.., before, last] = rounds.as_slice() else { return None };
        let ended_ms = before.started_unix_ms.saturating_add_unsigned(before.duration_ms);
        let pause = Duration::from_millis(u64::try_from(last.started_unix_ms - ended_ms).unwrap_or(0));
        (!last.error.is_empty() && pause >= Duration::from_secs(7)).then_some(pause)
    })
    .await;
    let (healed, key) = (Instant::now(), random_key());
    fleet.cut_off(1, Mode::Pass);
    fleet.client(1).put(&key, b"grant").await.unwrap();
    eventually("what it writes arrives", || fleet.client(0).has_local(&key)).await;
    // Pauses double, give or take half: the next one would have been at least that long.
    assert!(healed.elapsed() < pause * 2 / 3, "{:?} after a pause of {pause:?}", healed.elapsed());
    fleet.stop().await;
}

/// Keys are revoked at nodes chosen at random while nodes are killed and started again.
#[tokio::test(flavor = "multi_thread")]
async fn keys_revoked_while_nodes_are_killed_are_dead_everywhere_and_the_receipts_were_true() {
    const KEYS: usize = 1000;
    let mut fleet = Fleet::start(3, &["--node.replication-interval=1s"]).await;
    let keys = fleet.put(0, KEYS).await;
    fleet.verified(0).await;
    let mut acknowledged = HashSet::new();
    let mut receipts = 0;
    for (i, key) in keys.iter().enumerate() {
        if i % 125 == 60 {
            let victim = rand::rng().random_range(0..3);
            fleet.take(victim).kill();
            fleet.start_node(victim).await;
        }
        let at = rand::rng().random_range(0..3);
        let acks = if i % 10 == 0 { nodes_within(1, 10_000) } else { None };
        match fleet.client(at).invalidate(key, "leaked", acks).await {
            Ok(done) => {
                acknowledged.insert(key.clone());
                let Some(receipt) = done.receipt else { continue };
                for holder in &receipt.holders {
                    let number: usize = holder.node.trim_start_matches("node-").parse().unwrap();
                    let code = code_of(fleet.client(number), key).await;
                    assert_eq!(code, Code::FailedPrecondition, "{} was said to hold it", holder.node);
                    receipts += 1;
                }
            }
            // Its create is still on its way to a node that was just started, and a peer is not up yet.
            Err(status) => assert!(matches!(status.code(), Code::Unavailable | Code::NotFound), "{status}"),
        }
    }
    assert!(acknowledged.len() > KEYS * 9 / 10 && receipts > KEYS / 20, "{} {receipts}", acknowledged.len());
    fleet.verified(0).await;
    for i in 0..3 {
        for key in &acknowledged {
            assert_eq!(code_of(fleet.client(i), key).await, Code::FailedPrecondition, "node-{i}");
        }
    }
    fleet.stop().await;
}
