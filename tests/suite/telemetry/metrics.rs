//! What a node measures of itself and of the cluster.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::harness::{
    certs::Certs,
    client::put_request,
    eventually,
    fake_peer::{FakePeer, Script},
    metrics::Page,
    process::{Launch, Process},
    proxy::{Mode, Proxy},
    random_key,
    store::{close, created, deliver, key, new_record, open, origin, ram},
    wire,
};
use brock::store::Options;
use brock_core::{
    base::{id::Origin, time::WallClock, vector::Clock},
    domain::operation::Operation,
    proto,
};

const HOUR_MS: u64 = 3_600_000;

#[tokio::test]
async fn an_origin_says_how_old_its_entries_are_and_a_relay_says_nothing() {
    let now = Arc::new(AtomicU64::new(1_700_000_000_000));
    let clock = Arc::clone(&now);
    let wall_clock = WallClock::new(move || clock.load(Ordering::Relaxed));
    let store = open(&Options { wall_clock, ..ram("a") }).await;
    created(&store, new_record(key(1), b"g")).await;
    now.fetch_add(HOUR_MS, Ordering::Relaxed);
    created(&store, new_record(key(2), b"g")).await;
    now.fetch_add(7, Ordering::Relaxed);
    let batch = async |origin: Origin, limit| {
        store.changes_since(origin, Clock(0), limit).await.unwrap().unwrap().batch
    };
    assert_eq!(batch(store.origin(), 100).await.ages_ms, [HOUR_MS + 7, 7]);
    assert_eq!(batch(store.origin(), 1).await.ages_ms, [HOUR_MS + 7], "one for each entry");
    let peer = origin("b", 1);
    let foreign = wire::batch(peer, 0, 1, vec![wire::invalidate(1, &key(3).0, "gone")]);
    deliver(&store, foreign).await.unwrap();
    assert_eq!(batch(peer, 100).await.ages_ms, [0; 0], "when it was made is not known here");
    // A clock that was set back makes no entry younger than new.
    now.fetch_sub(2 * HOUR_MS, Ordering::Relaxed);
    assert_eq!(batch(store.origin(), 100).await.ages_ms, [0, 0]);
    close(store).await;
}

fn lag(page: &Page, port: u16, what: &str) -> Option<f64> {
    page.value(&format!("brock_replication_visible_seconds_{what}{{address=\"127.0.0.1:{port}\"}}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_is_timed_once_when_it_comes_from_its_origin() {
    let (certs, home) = (Certs::new(), tempfile::tempdir().unwrap());
    let peer = origin("peer", 1);
    let deletes = |clocks: std::ops::RangeInclusive<u64>| {
        clocks.map(|clock| wire::entry(clock, &random_key(), &Operation::Delete)).collect::<Vec<_>>()
    };
    let relayed = wire::batch(origin("other", 1), 0, 1, deletes(1..=1));
    let first = wire::batch(peer, 0, 2, deletes(1..=2));
    let batches = vec![
        proto::Batch { ages_ms: vec![HOUR_MS], ..relayed },
        proto::Batch { ages_ms: vec![2 * HOUR_MS, HOUR_MS], ..first.clone() },
        // It was visible already.
        proto::Batch { ages_ms: vec![50 * HOUR_MS, 50 * HOUR_MS], ..first },
        // An older version says nothing.
        wire::batch(peer, 2, 3, deletes(3..=3)),
        proto::Batch { ages_ms: vec![0], ..wire::batch(peer, 3, 4, deletes(4..=4)) },
    ];
    let heads = [(peer, Clock(4))].into_iter().collect();
    let fake = FakePeer::start(&certs, "peer", Script { heads, batches, ..Script::new("peer") }).await;
    let launch = Launch { join: vec![fake.port], ..Launch::new(&certs, "n1", &home.path().join("n1")) };
    let began = Instant::now();
    let (process, _) = launch.start(&certs).await;
    let page = eventually("the last one is timed", || async {
        let page = Page::of(process.http_port).await?;
        (lag(&page, fake.port, "count")? >= 3.0).then_some(page)
    })
    .await;
    assert_eq!(lag(&page, fake.port, "count"), Some(3.0));
    let sum = lag(&page, fake.port, "sum").unwrap();
    let most = 3.0 * (3600.0 + began.elapsed().as_secs_f64());
    assert!((3.0 * 3600.0..=most).contains(&sum), "{sum}");
    assert!(process.terminate().0.success());
}

/// Two nodes on disk that join each other.
async fn pair(certs: &Certs, home: &std::path::Path) -> [Launch; 2] {
    let mut launches = ["n1", "n2"].map(|id| Launch::new(certs, id, &home.join(id)));
    launches[0].join = vec![launches[1].port];
    launches[1].join = vec![launches[0].port];
    launches
}

async fn page_where(process: &Process, what: &str, is_so: impl Fn(&Page) -> Option<bool>) -> Page {
    eventually(what, || async {
        let page = Page::of(process.http_port).await?;
        is_so(&page)?.then_some(page)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lag_is_true_between_nodes_whose_wall_clocks_are_an_hour_apart() {
    let library = ["x86_64", "aarch64"]
        .map(|machine| format!("/usr/lib/{machine}-linux-gnu/faketime/libfaketimeMT.so.1"));
    let Some(library) = library.iter().find(|path| std::path::Path::new(path).exists()) else {
        eprintln!("skipped: libfaketime is not installed (`make setup` installs it)");
        return;
    };
    let (certs, home) = (Certs::new(), tempfile::tempdir().unwrap());
    let mut launches = pair(&certs, home.path()).await;
    for (name, value) in
        [("LD_PRELOAD", library.as_str()), ("FAKETIME", "+1h"), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")]
    {
        launches[1].env.push((name.to_owned(), PathBuf::from(value)));
    }
    let origin = launches[0].port;
    let (ahead, _) = launches[1].start(&certs).await;
    let (right, writer) = launches[0].start(&certs).await;
    for _ in 0..5 {
        writer.put(&random_key(), b"g").await.unwrap();
    }
    let last = random_key();
    let began = Instant::now();
    writer.put(&last, b"g").await.unwrap();
    // Its clock is ahead: compared with the other's, everything would be an hour old.
    let page = page_where(&ahead, "six are timed", |page| Some(lag(page, origin, "count")? >= 6.0)).await;
    let mean = lag(&page, origin, "sum").unwrap() / 6.0;
    // Twice the time that the last one took, and the round that they may have waited for.
    let most = began.elapsed() + Duration::from_secs(60);
    assert!((0.0..most.as_secs_f64()).contains(&mean), "{mean}");
    for process in [right, ahead] {
        assert!(process.terminate().0.success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_is_pending_until_every_member_has_it_and_then_timed() {
    let (certs, home) = (Certs::new(), tempfile::tempdir().unwrap());
    let launches = pair(&certs, home.path()).await;
    let (first, writer) = launches[0].start(&certs).await;
    let (second, reader) = launches[1].start(&certs).await;
    let (public, deleted, late) = (random_key(), random_key(), random_key());
    for key in [&public, &deleted, &late] {
        writer.put(key, b"g").await.unwrap();
        eventually("it is replicated", || reader.has_local(key)).await;
    }
    writer.unpublish(&public).await.unwrap();
    let began = Instant::now();
    writer.invalidate(&public, "lost", None).await.unwrap();
    writer.delete(&deleted, None).await.unwrap();
    // In effect already: that is no revocation any more.
    writer.delete(&deleted, None).await.unwrap();
    let page = page_where(&first, "two are timed", |page| {
        Some(
            page.value("brock_revocation_seconds_count")? >= 2.0
                && page.value("brock_revocations_pending")? == 0.0,
        )
    })
    .await;
    assert_eq!(page.value("brock_revocation_seconds_count"), Some(2.0), "an unpublish is none");
    let sum = page.value("brock_revocation_seconds_sum").unwrap();
    assert!(sum <= 2.0 * began.elapsed().as_secs_f64(), "{sum}");
    assert_eq!(page.value("brock_revocation_oldest_pending_seconds"), Some(0.0));

    assert!(second.terminate().0.success());
    let revoked = Instant::now();
    writer.delete(&late, None).await.unwrap();
    let page = page_where(&first, "it waits for the node that is down", |page| {
        Some(page.value("brock_revocations_pending")? == 1.0)
    })
    .await;
    assert_eq!(page.value("brock_revocation_seconds_count"), Some(2.0), "it is not everywhere");
    let oldest = page.value("brock_revocation_oldest_pending_seconds").unwrap();
    assert!(oldest > 0.0 && oldest <= revoked.elapsed().as_secs_f64(), "{oldest}");

    let down_for = revoked.elapsed().as_secs_f64();
    let (second, _) = launches[1].start(&certs).await;
    let page = page_where(&first, "the node is back and has it", |page| {
        Some(
            page.value("brock_revocation_seconds_count")? >= 3.0
                && page.value("brock_revocations_pending")? == 0.0,
        )
    })
    .await;
    let took = page.value("brock_revocation_seconds_sum").unwrap() - sum;
    assert!((down_for..revoked.elapsed().as_secs_f64()).contains(&took), "{down_for} {took}");
    for process in [first, second] {
        assert!(process.terminate().0.success());
    }
}

/// Claim: a resync shows that it runs, and how much it has copied, because nothing else is received meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_resync_is_shown_while_it_runs_and_counted() {
    const RECORDS: usize = 3000;
    let (certs, home) = (Certs::new(), tempfile::tempdir().unwrap());
    let (donor, client) = Launch::new(&certs, "donor", &home.path().join("donor")).start(&certs).await;
    for _ in 0..RECORDS / 1000 {
        let items = (0..1000).map(|_| put_request(&random_key(), &[7; 600])).collect();
        client.kv.clone().batch_put(proto::BatchPutRequest { items }).await.unwrap();
    }
    // No member needs the log, so nothing of it remains: a new node cannot begin with it.
    client.admin.clone().compact(proto::CompactRequest {}).await.unwrap();
    let proxy = Proxy::start(donor.port).await;
    proxy.set(Mode::Delay(Duration::from_millis(20)));
    let mut late = Launch::new(&certs, "late", &home.path().join("late"));
    late.join = vec![proxy.port];
    let process = late.spawn();
    let copied = |page: &Page| page.value("brock_resync_records_total{kind=\"record\"}");
    page_where(&process, "it is being filled", |page| {
        Some(page.value("brock_resync_running")? == 1.0 && copied(page)? < RECORDS as f64)
    })
    .await;
    proxy.set(Mode::Pass);
    let page = page_where(&process, "it is filled", |page| {
        Some(page.value("brock_resyncs_total{outcome=\"ok\"}")? == 1.0)
    })
    .await;
    assert_eq!(copied(&page), Some(RECORDS as f64));
    assert_eq!(page.value("brock_resync_running"), Some(0.0));
    for process in [process, donor] {
        assert!(process.terminate().0.success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_storage_engine_is_shown_as_it_stands() {
    let (certs, home) = (Certs::new(), tempfile::tempdir().unwrap());
    let launch = Launch::new(&certs, "n1", &home.path().join("n1"));
    let (process, client) = launch.start(&certs).await;
    for _ in 0..20 {
        client.put(&random_key(), &[7; 1000]).await.unwrap();
    }
    let page = page_where(&process, "the write-ahead log has grown", |page| {
        Some(page.value("brock_engine_wal_bytes")? > 20_000.0)
    })
    .await;
    for (series, value) in [
        ("brock_engine_writes_stopped", 0.0),
        ("brock_engine_delayed_write_bytes_per_second", 0.0),
        ("brock_engine_background_errors_total", 0.0),
        ("brock_engine_snapshots", 0.0),
        ("brock_engine_level0_files{family=\"record\"}", 0.0),
        ("brock_engine_immutable_memtables{family=\"replication_log\"}", 0.0),
        ("brock_engine_compaction_pending_bytes{family=\"record\"}", 0.0),
    ] {
        assert_eq!(page.value(series), Some(value), "{series}");
    }
    let (status, _) = process.terminate();
    assert!(status.success());
    // What was flushed when it stopped is in files of level 0 now.
    let (process, _) = launch.start(&certs).await;
    let page = page_where(&process, "a file of records", |page| {
        Some(page.value("brock_engine_level0_files{family=\"record\"}")? > 0.0)
    })
    .await;
    assert!(page.value("brock_engine_live_bytes{family=\"record\"}").unwrap() > 1000.0);
    assert!(process.terminate().0.success());
}
