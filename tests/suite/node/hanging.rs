//! Directories and files that do not answer: a node reports them, and heeds signals all the same.

use std::{fs, time::Duration};

use crate::harness::{
    brock::brock,
    certs::Certs,
    eventually,
    hanging::{Hanging, fifo},
    process::{Launch, Process},
    within,
};
use rustix::process::Signal;

/// The limit of the tests: the machine may be busy.
const SOON: Duration = Duration::from_secs(20);

/// Ends it by one SIGTERM.
async fn heeds_sigterm(process: Process) -> (std::process::ExitStatus, Vec<String>) {
    process.signal(Signal::TERM);
    let ended = within(SOON, || async { (!process.is_running()).then_some(()) }).await;
    assert!(ended.is_some(), "it heeds no SIGTERM: {:?}", process.log());
    tokio::task::spawn_blocking(move || process.wait()).await.unwrap()
}

fn threads(process: &Process) -> usize {
    fs::read_dir(format!("/proc/{}/task", process.pid())).unwrap().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificates_directory_that_hangs_is_reported_and_read_again_when_it_answers() {
    let (certs, home) = (Certs::new(), tempfile::tempdir().unwrap());
    let launch = Launch::new(&certs, "n1", &home.path().join("data"));
    let (process, client) = launch.start(&certs).await;
    let error = async || {
        let tasks = client.status().await.tasks;
        tasks.into_iter().find(|task| task.name == "certificates").unwrap().last_error
    };
    let Some(hanging) = Hanging::mount("a certificates directory that hangs", &launch.certs_dir) else {
        return;
    };
    let first =
        eventually("it is reported", || async { Some(error().await).filter(|text| !text.is_empty()) }).await;
    let at = launch.certs_dir.display().to_string();
    for part in [&at, "has not answered for", "revocations do not take effect"] {
        assert!(first.contains(part), "{first}");
    }
    let waiting = threads(&process);
    let later = eventually("the report says how long", || async {
        Some(error().await).filter(|text| *text != first)
    });
    later.await;
    // A request to reload waits no longer than any other reading, and begins no second one.
    process.signal(Signal::HUP);
    client.put(&crate::harness::random_key(), b"grant").await.unwrap();
    assert!(threads(&process) <= waiting + 1, "threads pile up: {} after {waiting}", threads(&process));
    drop(hanging);
    eventually("it is read again", || async { error().await.is_empty().then_some(()) }).await;
    let again = Hanging::mount("a stop while it hangs", &launch.certs_dir);
    drop(client);
    let (status, log) = heeds_sigterm(process).await;
    assert!(status.success(), "{log:?}");
    drop(again);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_revocation_lists_that_hangs_is_named() {
    let (certs, home) = (Certs::new(), tempfile::tempdir().unwrap());
    let lists = home.path().join("lists");
    fs::create_dir(&lists).unwrap();
    let mut launch = Launch::new(&certs, "n1", &home.path().join("data"));
    launch.more.push(format!("--node.crl-dir={}", lists.display()));
    let (process, client) = launch.start(&certs).await;
    let Some(_hanging) = Hanging::mount("a directory of revocation lists that hangs", &lists) else { return };
    let error = eventually("it is reported", || async {
        let tasks = client.status().await.tasks;
        let task = tasks.into_iter().find(|task| task.name == "certificates").unwrap();
        Some(task.last_error).filter(|text| !text.is_empty())
    });
    let (error, at) = (error.await, lists.display().to_string());
    for part in [at.as_str(), "(node.crl-dir)", "has not answered for"] {
        assert!(error.contains(part), "{error}");
    }
    drop(client);
    let (status, log) = heeds_sigterm(process).await;
    assert!(status.success(), "{log:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_hangs_heeds_the_first_signal() {
    let (certs, home) = (Certs::new(), tempfile::tempdir().unwrap());
    let launch = Launch::new(&certs, "n1", &home.path().join("data"));
    let Some(_hanging) = Hanging::mount("a start that hangs", &launch.certs_dir) else { return };
    let process = launch.spawn();
    // Before, the signal ends every process.
    eventually("it handles signals", || async {
        let status = fs::read_to_string(format!("/proc/{}/status", process.pid())).ok()?;
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?;
        let caught = u64::from_str_radix(caught.trim(), 16).ok()?;
        (caught & (1 << (Signal::TERM.as_raw() - 1)) != 0).then_some(())
    })
    .await;
    let (status, log) = heeds_sigterm(process).await;
    assert_eq!(status.code(), Some(0), "{log:?}");
    assert!(log.iter().any(|line| line.contains("stopped before the storage was open")), "{log:?}");
}

#[test]
fn a_configuration_or_a_secret_that_does_not_answer_fails_with_a_reason() {
    let home = tempfile::tempdir().unwrap();
    let silent = home.path().join("fifo");
    fifo(&silent);
    let at = silent.to_str().unwrap();
    let secret = format!("--http.console-token=@{at}");
    for arguments in [&["config", "check", "--config", at][..], &["config", "check", "--node.id=n1", &secret]]
    {
        let said = brock(arguments);
        let text = String::from_utf8_lossy(&said.stderr).into_owned();
        assert_eq!(said.status.code(), Some(2), "{text}");
        assert!(text.contains("has not answered for") && text.contains("FIFO"), "{text}");
    }
}
