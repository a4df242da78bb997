//! What a node does when its disk is full, and when there is room again.

use std::{fs, path::Path, time::Instant};

use crate::harness::{
    certs::Certs,
    client::Client,
    eventually,
    http::get,
    ledger::Ledger,
    process::{Launch, Process},
    random_key,
    small_disk::SmallDisk,
    store::{contiguous_log, key, new_record, open, options},
};
use brock::store::StoreError;
use brock_core::base::limits;
use tonic::Code;

const MIB: u64 = 1024 * 1024;

/// Waits until a put is refused for want of space, and returns what the client was told.
async fn refused(client: &Client) -> String {
    eventually("puts are refused", || async {
        match client.put(&random_key(), b"probe").await {
            Ok(_) => None,
            Err(status) => {
                assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
                Some(status.message().to_owned())
            }
        }
    })
    .await
}

async fn accepted(client: &Client) {
    eventually("puts are accepted again", || async { client.put(&random_key(), b"probe").await.ok() }).await;
}

/// The log of every origin is whole, and every acknowledged put stands in its place.
async fn assert_nothing_lost(ledger: &Ledger, path: &Path) {
    let mut places = ledger.places();
    let store = open(&options(path)).await;
    for (origin, _) in store.vector().iter() {
        for entry in contiguous_log(&store, origin).await {
            if let Some(number) = places.remove(&(origin.as_bytes().to_vec(), entry.clock)) {
                assert_eq!(entry.key_hash.as_ref(), key(number).0);
            }
        }
    }
    assert!(places.is_empty(), "acknowledged and not in the log: {places:?}");
}

async fn terminate(process: Process) -> (std::process::ExitStatus, Vec<String>) {
    tokio::task::spawn_blocking(move || process.terminate()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nearly_full_disk_refuses_writes_clearly_and_recovers_by_itself() {
    let Some(disk) = SmallDisk::mount("a nearly full disk", "size=200m") else { return };
    let certs = Certs::new();
    let path = disk.path().join("data");
    let mut launch = Launch::new(&certs, "node-1", &path);
    // The whole log is looked at in the end.
    launch.more.push("--compact-mode=never".to_owned());
    let (process, client) = launch.start(&certs).await;
    let incarnation = client.status().await.incarnation;
    let ledger = Ledger::default();
    for round in 0..2 {
        let writers = ledger.write(&client, 6);
        eventually("clients make progress", || async { (ledger.len() > 200 * (round + 1)).then_some(()) })
            .await;
        let filler = disk.fill(limits::DISK_RESERVE_BYTES / 2);
        for status in writers.ended().await {
            assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
        }
        let message = refused(&client).await;
        assert!(message.contains("the disk is full"), "{message}");
        assert!(
            message.contains(&limits::DISK_RESERVE_BYTES.to_string()),
            "it says how much is needed: {message}"
        );
        ledger.check(&client, "reads go on").await;
        assert!(client.status().await.writes_refused.contains("the disk is full"));
        assert!(
            get(launch.http_port, "/livez").await.unwrap().starts_with("HTTP/1.1 200"),
            "it is alive all the same"
        );

        fs::remove_file(filler).unwrap();
        accepted(&client).await;
        assert_eq!(client.status().await.writes_refused, "");
        ledger.check(&client, "after the disk has room again").await;
    }
    let status = client.status().await;
    assert_eq!(status.incarnation, incarnation, "no write has failed, so no clock is in doubt");
    assert_eq!(process.complaints(&["the disk is full"]), [""; 0]);
    drop(client);
    let (status, log) = terminate(process).await;
    assert!(status.success(), "{log:?}");
    assert_nothing_lost(&ledger, &path).await;
}

/// Waits until the node takes writes again, or has stopped; then it must have said so, and is
/// started again. Returns whether it was.
async fn recovered_or_restarted(
    certs: &Certs,
    launch: &Launch,
    node: &mut Option<(Process, Client)>,
) -> bool {
    let (process, client) = node.take().unwrap();
    eventually("puts are accepted again, or the node has stopped", || async {
        let accepted = client.put(&random_key(), b"probe").await.is_ok();
        (accepted || !process.is_running()).then_some(())
    })
    .await;
    if process.is_running() {
        *node = Some((process, client));
        return false;
    }
    drop(client);
    let (status, log) = tokio::task::spawn_blocking(move || process.wait()).await.unwrap();
    assert!(!status.success());
    let is_error = |line: &&String| line.contains("\"ERROR\"") && line.contains("the store has stopped");
    assert!(log.iter().any(|line| is_error(&line)), "loudly: {log:?}");
    *node = Some(launch.start(certs).await);
    accepted(&node.as_ref().unwrap().1).await;
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_up_under_the_writer_costs_nothing_acknowledged() {
    let Some(disk) = SmallDisk::mount("a disk that fills up under the writer", "size=300m") else { return };
    let certs = Certs::new();
    let path = disk.path().join("data");
    let mut launch = Launch::new(&certs, "node-1", &path);
    // The whole log is looked at in the end.
    launch.more.push("--compact-mode=never".to_owned());
    let mut node = Some(launch.start(&certs).await);
    let ledger = Ledger::of_large_records();
    let mut seen = Vec::new();
    while disk.free_bytes() > 150 * MIB && seen.len() < 3 {
        let filler = disk.fill(limits::DISK_RESERVE_BYTES + 8 * MIB);
        let (process, client) = node.as_ref().unwrap();
        accepted(client).await;
        let incarnation = client.status().await.incarnation;
        let before = ledger.len();
        let writers = ledger.write(client, 12);
        eventually("clients make progress", || async { (ledger.len() > before).then_some(()) }).await;
        // To the last byte, faster than the node looks at its disk.
        let rest = disk.take_the_rest();
        writers.ended().await;
        assert!(process.is_running());
        assert!(refused(client).await.contains("the disk is full"));
        ledger.check(client, "reads go on").await;
        fs::remove_file(filler).unwrap();
        fs::remove_file(rest).unwrap();
        let restarted = recovered_or_restarted(&certs, &launch, &mut node).await;
        let (_, client) = node.as_ref().unwrap();
        ledger.check(client, "after there is room again").await;
        let write_failed = client.status().await.incarnation != incarnation;
        assert!(write_failed || !restarted);
        seen.push((write_failed, restarted));
    }
    eprintln!("(a write failed, the node had to be restarted): {seen:?}");
    let (process, client) = node.unwrap();
    drop(client);
    process.kill();
    let (process, client) = launch.start(&certs).await;
    ledger.check(&client, "after a crash at the end").await;
    process.kill();
    assert_nothing_lost(&ledger, &path).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_failed_for_want_of_space_spends_its_clocks_and_the_node_recovers_or_stops_loudly() {
    // Space, but few files: the storage engine cannot make the next one.
    let Some(disk) = SmallDisk::mount("a write that fails", "size=600m,nr_inodes=120") else { return };
    let certs = Certs::new();
    let path = disk.path().join("data");
    let mut launch = Launch::new(&certs, "node-1", &path);
    // The whole log is looked at in the end.
    launch.more.push("--compact-mode=never".to_owned());
    let (process, client) = launch.start(&certs).await;
    let incarnation = client.status().await.incarnation;
    let ledger = Ledger::of_large_records();
    let writers = ledger.write(&client, 6);
    eventually("clients make progress", || async { (ledger.len() > 20).then_some(()) }).await;
    let fillers = disk.fill_inodes();
    for status in writers.ended().await {
        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    }
    assert!(process.is_running());
    ledger.check(&client, "reads go on").await;
    let refused = client.status().await.writes_refused;
    assert!(refused.contains("inodes are free where the node stores its data"), "{refused}");

    fillers.iter().for_each(|path| fs::remove_file(path).unwrap());
    let mut node = Some((process, client));
    let restarted = recovered_or_restarted(&certs, &launch, &mut node).await;
    eprintln!("the node had to be restarted: {restarted}");
    let (process, client) = node.unwrap();
    ledger.check(&client, "after there is room again").await;
    assert_ne!(client.status().await.incarnation, incarnation, "what failed may turn up after a crash");
    let writers = ledger.write(&client, 6);
    let enough = ledger.len() + 100;
    eventually("clients make progress", || async { (ledger.len() > enough).then_some(()) }).await;
    writers.finish().await;
    process.kill();
    let (process, client) = launch.start(&certs).await;
    ledger.check(&client, "after a crash at the end").await;
    process.kill();
    assert_nothing_lost(&ledger, &path).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_does_not_stop_while_the_space_is_lacking_that_the_file_system_counts_as_free() {
    // As with a quota: what is asked for free space has it, and the database cannot write.
    let Some(disk) = SmallDisk::mount("space that is only counted as free", "size=100m") else { return };
    let directory = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(disk.path(), directory.path().join("db")).unwrap();
    let store = open(&options(directory.path())).await;
    let rest = disk.take_the_rest();
    let large = vec![7; 60_000];
    let mut number = 0;
    eventually("a write fails", || {
        number += 1;
        let failed = store.create(vec![new_record(key(number), &large)]);
        async { failed.await.err().map(|error| assert_eq!(error, StoreError::NoSpace)) }
    })
    .await;
    let begin = Instant::now();
    eventually("the patience is over", || async {
        assert_eq!(store.check_disk().await, Err(StoreError::NoSpace));
        (begin.elapsed() > limits::NO_SPACE_PATIENCE + limits::DISK_WATCH_INTERVAL).then_some(())
    })
    .await;
    assert!(store.get(key(1)).await.is_ok(), "reads continue");
    fs::remove_file(rest).unwrap();
    eventually("it writes again, or stops", || async {
        match store.check_disk().await {
            Err(StoreError::NoSpace) => None,
            Ok(()) | Err(StoreError::Stopped(_)) => Some(()),
            Err(other) => panic!("{other:?}"),
        }
    })
    .await;
}
