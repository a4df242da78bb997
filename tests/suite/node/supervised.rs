//! What systemd sees of a node: readiness, states, the watchdog, reloads, credentials.

use std::{
    fs,
    os::unix::{
        fs::{PermissionsExt, chown},
        net::UnixDatagram,
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::harness::{
    certs::{Certs, make_node, presented},
    eventually,
    process::Launch,
};

/// A supervisor that reads what it is told.
struct Supervisor {
    socket: PathBuf,
    heard: Arc<Mutex<Vec<String>>>,
    /// The longest that it heard nothing of the watchdog between two such messages.
    longest_silence: Arc<Mutex<Duration>>,
}

impl Supervisor {
    fn new(directory: &Path) -> Self {
        let socket = directory.join("notify");
        let (receiver, heard) = (UnixDatagram::bind(&socket).unwrap(), Arc::default());
        let into: Arc<Mutex<Vec<String>>> = Arc::clone(&heard);
        let longest_silence: Arc<Mutex<Duration>> = Arc::default();
        let longest = Arc::clone(&longest_silence);
        std::thread::spawn(move || {
            let mut message = [0; 4096];
            let mut last: Option<Instant> = None;
            while let Ok(length) = receiver.recv(&mut message) {
                if message[..length].starts_with(b"WATCHDOG=1") {
                    let silence = last.replace(Instant::now()).map_or(Duration::ZERO, |last| last.elapsed());
                    let mut longest = longest.lock().unwrap();
                    *longest = silence.max(*longest);
                }
                into.lock().unwrap().push(String::from_utf8_lossy(&message[..length]).into_owned());
            }
        });
        Self { socket, heard, longest_silence }
    }

    /// Waits for a message with all these lines (or beginnings of lines), from the `from`th on.
    /// Returns its number.
    async fn hears(&self, from: usize, parts: &[&str]) -> usize {
        eventually(&format!("the supervisor hears {parts:?}"), || async {
            let heard = self.heard.lock().unwrap();
            let has = |message: &&String| {
                parts.iter().all(|part| message.lines().any(|line| line.starts_with(part)))
            };
            let found = heard[from..].iter().position(|message| has(&message));
            found.map(|position| from + position)
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_hears_when_the_node_serves_how_it_is_that_it_is_well_and_when_it_ends() {
    let (certs, directory) = (Certs::new(), tempfile::tempdir().unwrap());
    let supervisor = Supervisor::new(directory.path());
    let mut launch = Launch::new(&certs, "node-1", &directory.path().join("data"));
    launch.env = vec![
        ("NOTIFY_SOCKET".to_owned(), supervisor.socket.clone()),
        ("WATCHDOG_USEC".to_owned(), PathBuf::from("1800000")),
    ];
    let (process, _client) = launch.start(&certs).await;
    supervisor.hears(0, &["EXTEND_TIMEOUT_USEC=", "STATUS=starting"]).await;
    let served = supervisor.hears(0, &["READY=1", "STATUS="]).await;
    supervisor.hears(served, &["STATUS=ready; no peers"]).await;
    let mut well = served;
    for _ in 0..3 {
        well = supervisor.hears(well + 1, &["WATCHDOG=1"]).await;
    }
    let silence = *supervisor.longest_silence.lock().unwrap();
    assert!(silence < Duration::from_micros(1_800_000), "systemd would have killed it: {silence:?}");
    process.signal(Signal::HUP);
    let reloading = supervisor.hears(well, &["RELOADING=1", "MONOTONIC_USEC="]).await;
    supervisor.hears(reloading + 1, &["READY=1"]).await;
    let (status, log) = process.terminate();
    assert!(status.success(), "{log:?}");
    let stopping = supervisor.hears(reloading, &["STOPPING=1"]).await;
    let last = supervisor.heard.lock().unwrap().len() - 1;
    assert_eq!(stopping, last, "nothing is said after that");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_takes_over_exchanged_certificates_before_it_is_over() {
    let (certs, directory) = (Certs::new(), tempfile::tempdir().unwrap());
    let supervisor = Supervisor::new(directory.path());
    let mut launch = Launch::new(&certs, "node-1", &directory.path().join("data"));
    launch.env = vec![("NOTIFY_SOCKET".to_owned(), supervisor.socket.clone())];
    let (process, _client) = launch.start(&certs).await;
    let served = supervisor.hears(0, &["READY=1"]).await;
    let address = format!("127.0.0.1:{}", launch.port);
    let before = presented(&address, &certs).await;
    make_node(&launch.certs_dir, &certs.ca_key(), "node-1");
    process.signal(Signal::HUP);
    let reloading = supervisor.hears(served, &["RELOADING=1"]).await;
    let served = supervisor.hears(reloading + 1, &["READY=1"]).await;
    assert_ne!(presented(&address, &certs).await, before, "the reload was over too early");
    fs::write(launch.certs_dir.join("node.crt"), "not a certificate").unwrap();
    process.signal(Signal::HUP);
    let reloading = supervisor.hears(served, &["RELOADING=1"]).await;
    supervisor.hears(reloading + 1, &["READY=1"]).await;
    let log = process.log().join("\n");
    assert!(log.contains("rejected the rotated certificates"), "{log}");
    assert!(process.terminate().0.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_systemd_lends_as_a_credential_is_accepted_and_elsewhere_it_is_not() {
    let (certs, directory) = (Certs::new(), tempfile::tempdir().unwrap());
    let mut launch = Launch::new(&certs, "node-1", &directory.path().join("data"));
    let key = launch.certs_dir.join("node.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o440)).unwrap();
    // Another group than ours, where we may do that; otherwise it is not root's, which is refused too.
    let _ = chown(&key, None, Some(12345));
    let (status, log) = launch.spawn().wait();
    assert_eq!(status.code(), Some(1));
    assert!(log.join("\n").contains("may be read or changed by others (mode 0440)"), "{log:?}");
    launch.env = vec![("CREDENTIALS_DIRECTORY".to_owned(), launch.certs_dir.clone())];
    let (process, _client) = launch.start(&certs).await;
    assert!(process.terminate().0.success());
    // A key that lies elsewhere was not lent.
    launch.env = vec![("CREDENTIALS_DIRECTORY".to_owned(), directory.path().to_owned())];
    assert_eq!(launch.spawn().wait().0.code(), Some(1));
    launch.env = vec![("CREDENTIALS_DIRECTORY".to_owned(), launch.certs_dir.clone())];
    fs::set_permissions(&key, fs::Permissions::from_mode(0o444)).unwrap();
    let (status, _) = launch.spawn().wait();
    assert_eq!(status.code(), Some(1), "for everybody to read is never right");
}
