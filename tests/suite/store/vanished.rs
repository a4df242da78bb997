//! A data directory that disappears, is replaced or becomes read-only under a running node.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::harness::{
    certs::Certs, client::Client, eventually, eventually_here, http::get, process::Launch, random_key, within,
};
use tonic::Code;

/// What is promised. The limit of the tests is higher, because the machine may be busy.
const AT_MOST: Duration = Duration::from_secs(20);

async fn refusal(client: &Client) -> tonic::Status {
    client
        .put(&random_key(), b"after")
        .await
        .expect_err("a write in a directory that is gone was acknowledged")
}

fn assert_tells_no_lie(log: &[String]) {
    let lies = ["no acknowledged write is lost", "No acknowledged write is lost", "\"clean\":true"];
    let lie = log.iter().find(|line| lies.iter().any(|lie| line.contains(lie)));
    assert!(lie.is_none(), "{lie:?}");
}

type Take = fn(&Path);

/// Removes a directory in which the node may be creating files.
fn remove(path: &Path) {
    eventually_here("it is removed", || fs::remove_dir_all(path).ok());
}

fn aside(path: &Path) -> PathBuf {
    path.with_extension("aside")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_data_directory_is_gone_acknowledges_nothing_more_and_ends_with_an_error() {
    let (certs, home) = (Certs::new(), tempfile::tempdir().unwrap());
    let removed: Take = remove;
    let moved: Take = |path| fs::rename(path, aside(path)).unwrap();
    let replaced: Take = |path| {
        fs::rename(path, aside(path)).unwrap();
        fs::create_dir(path).unwrap();
    };
    let emptied: Take = |path| remove(&path.join("db"));
    let headless: Take = |path| fs::remove_file(path.join("db/CURRENT")).unwrap();
    for (name, take, what) in [
        ("removed", removed, "was removed or moved"),
        ("moved", moved, "was removed or moved"),
        ("replaced", replaced, "was replaced"),
        ("emptied", emptied, "db was removed or moved"),
        ("headless", headless, "CURRENT was removed"),
    ] {
        let launch = Launch::new(&certs, name, &home.path().join(name));
        let (process, client) = launch.start(&certs).await;
        client.put(&random_key(), b"before").await.unwrap();
        take(&launch.path);
        // One of them has no write to do, and one is stopped at once.
        match name {
            "moved" => {}
            "replaced" => process.signal(rustix::process::Signal::TERM),
            _ => {
                let refused = refusal(&client).await;
                assert_eq!(refused.code(), Code::Unavailable, "{refused}");
                // The audit log is in the same directory; a node alone ends at once.
                if let Err(refused) = client.try_status().await
                    && name == "removed"
                    && refused.message().contains("audit log")
                {
                    assert!(refused.message().contains(what), "{refused}");
                }
            }
        }
        drop(client);
        let ended = within(AT_MOST, || async { (!process.is_running()).then_some(()) }).await;
        assert!(ended.is_some(), "{name}: it still runs: {:?}", process.log());
        let (status, log) = tokio::task::spawn_blocking(move || process.wait()).await.unwrap();
        assert_eq!(status.code(), Some(1), "{name}: {log:?}");
        assert!(log.iter().any(|line| line.contains("ERROR") && line.contains(what)), "{name}: {log:?}");
        assert_tells_no_lie(&log);
        if name == "replaced" {
            assert_eq!(fs::read_dir(&launch.path).unwrap().count(), 0, "it wrote to the other directory");
        }
    }
}

/// It alone has what it acknowledged before, so it waits for its member, and says meanwhile how it is.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_has_acknowledged_before_its_directory_was_gone_reaches_its_member() {
    let (certs, home) = (Certs::new(), tempfile::tempdir().unwrap());
    let mut other = Launch::new(&certs, "node-2", &home.path().join("node-2"));
    let mut launch = Launch::new(&certs, "node-1", &home.path().join("node-1"));
    launch.join = vec![other.port];
    other.join = vec![launch.port];
    launch.more.push(format!("--audit.path={}", home.path().join("audit").display()));
    let (process, client) = launch.start(&certs).await;
    process.ready().await;
    let key = random_key();
    client.put(&key, b"only here").await.unwrap();
    remove(&launch.path);
    for page in ["/readyz", "/healthz"] {
        let not_ready = within(AT_MOST, || async {
            get(process.http_port, page).await.filter(|answer| answer.starts_with("HTTP/1.1 503 "))
        });
        assert!(not_ready.await.is_some(), "{page} says that it is well");
    }
    assert!(get(process.http_port, "/livez").await.unwrap().starts_with("HTTP/1.1 200 "));
    assert_eq!(refusal(&client).await.code(), Code::Unavailable);
    let status = client.status().await;
    assert!(status.writes_refused.contains("was removed or moved") && !status.ready, "{status:?}");
    let alarm = &status.alarms.last().unwrap().text;
    assert!(alarm.contains("was removed or moved") && alarm.contains("--node.first-start=true"), "{alarm}");
    let storage = status.storage.unwrap();
    assert!(!storage.in_ram && storage.disk_total_bytes == 0, "{storage:?}");
    assert_eq!(client.get_local(&key).await.unwrap().encrypted_access_grant, b"only here"[..]);

    let (second, reader) = other.start(&certs).await;
    eventually("its member replicates what it had", || reader.has_local(&key)).await;
    eventually("it ends by itself", || async { (!process.is_running()).then_some(()) }).await;
    let (status, log) = tokio::task::spawn_blocking(move || process.wait()).await.unwrap();
    assert_eq!(status.code(), Some(1), "{log:?}");
    assert_tells_no_lie(&log);
    second.kill();
}

/// A mount of a directory over itself, read-only. Unmounted when dropped.
struct ReadOnly(PathBuf);

impl ReadOnly {
    fn mount(path: &Path) -> Option<Self> {
        let run = |arguments: &[&str]| {
            let done = Command::new("mount").args(arguments).arg(path).output();
            done.is_ok_and(|output| output.status.success())
        };
        if !run(&["--bind", path.to_str().unwrap()]) {
            eprintln!("NOT TESTED: a disk that becomes read-only: a directory cannot be mounted here");
            return None;
        }
        let mounted = Self(path.to_owned());
        assert!(run(&["-o", "remount,bind,ro"]));
        Some(mounted)
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "{} stays mounted", self.0.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_disk_refuses_writes_serves_reads_and_recovers_by_itself() {
    let (certs, home) = (Certs::new(), tempfile::tempdir().unwrap());
    let launch = Launch::new(&certs, "node-1", &home.path().join("data"));
    let (process, client) = launch.start(&certs).await;
    process.ready().await;
    let key = random_key();
    client.put(&key, b"grant").await.unwrap();
    let Some(read_only) = ReadOnly::mount(&launch.path) else { return };
    let reason = within(AT_MOST, || async {
        get(process.http_port, "/readyz").await.filter(|answer| answer.starts_with("HTTP/1.1 503 "))
    });
    let reason = reason.await.expect("it says that it is ready");
    assert!(reason.contains("read-only"), "{reason}");
    let refused = refusal(&client).await;
    assert!(refused.code() == Code::Unavailable && refused.message().contains("read-only"), "{refused}");
    assert_eq!(client.get_local(&key).await.unwrap().encrypted_access_grant, b"grant"[..]);
    assert_eq!(client.status().await.alarms.len(), 1);
    drop(read_only);
    process.ready().await;
    client.put(&random_key(), b"grant").await.unwrap();
    drop(client);
    assert!(tokio::task::spawn_blocking(move || process.terminate()).await.unwrap().0.success());
}
