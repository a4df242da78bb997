//! Processes that are killed, and processes that are told to stop, while clients write.

use std::{
    env,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use crate::harness::{
    certs::Certs,
    client::Client,
    eventually,
    http::get,
    ledger::{Ledger, Writers},
    process::{BROCK, Launch, NODE_ADMIN, Process, end_of, lines_of},
    store::{contiguous_log, key, node_id, open, options},
};
use brock::store::Scrubbed;
use brock_core::proto::verify_response::Verdict;
use rand::{Rng, SeedableRng, rngs::StdRng};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::time::Instant;

/// How often the node is killed, unless `BROCK_CRASH_CYCLES` says otherwise.
const CYCLES: u32 = 8;

/// Random decisions, reproducible as far as a race can be: `BROCK_CRASH_SEED` sets them.
fn seeded(test: &str) -> StdRng {
    let seed = env::var("BROCK_CRASH_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    eprintln!("{test}: BROCK_CRASH_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// Waits until so many more puts are acknowledged.
async fn acknowledged_more(ledger: &Ledger, more: usize) {
    let enough = ledger.len() + more;
    eventually("clients make progress", || async { (ledger.len() >= enough).then_some(()) }).await;
}

async fn kill(process: Process, writers: Writers) {
    assert_eq!(process.complaints(&[]), [""; 0], "in a healthy run");
    process.kill();
    for status in writers.ended().await {
        assert_ne!(status.code(), tonic::Code::Ok, "a client that saw nothing of the crash");
    }
}

async fn ended(process: Process) -> (ExitStatus, Vec<String>) {
    tokio::task::spawn_blocking(move || process.wait()).await.unwrap()
}

fn cycles() -> u32 {
    env::var("BROCK_CRASH_CYCLES").map_or(CYCLES, |cycles| cycles.parse().unwrap())
}

/// A storage whose node was killed again and again while clients wrote to it.
struct Killed {
    directory: TempDir,
    /// What was acknowledged.
    ledger: Ledger,
    /// How many puts are there.
    present: usize,
}

/// Kills a node that compacts in this mode again and again. Each time, and at the end, everything
/// acknowledged must be there.
async fn kill_again_and_again(test: &str, compact_mode: &str) -> Killed {
    let mut random = seeded(test);
    let (certs, directory) = (Certs::new(), tempfile::tempdir().unwrap());
    let mut launch = Launch::new(&certs, "node-1", directory.path());
    launch.more.push(format!("--compact-mode={compact_mode}"));
    let ledger = Ledger::default();
    for cycle in 0..cycles() {
        let (process, client) = launch.start(&certs).await;
        ledger.check(&client, &format!("after kill {cycle}")).await;
        let writers = ledger.write(&client, 12);
        acknowledged_more(&ledger, random.random_range(1..1500)).await;
        kill(process, writers).await;
        if random.random_bool(0.3) {
            // And once at a random moment of its start.
            let process = launch.spawn();
            tokio::time::sleep(Duration::from_millis(random.random_range(0..80))).await;
            process.kill();
        }
    }
    let (process, client) = launch.start(&certs).await;
    let present = ledger.check(&client, "after the last kill").await;
    assert_eq!(process.complaints(&[]), [""; 0]);
    process.kill();
    eprintln!("{} puts begun, {} acknowledged, {present} there", ledger.attempted(), ledger.len());
    Killed { directory, ledger, present }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_killed_again_and_again_under_load_loses_nothing_acknowledged() {
    // The whole log is compared at the end.
    let Killed { directory, ledger, present } = kill_again_and_again("killed again and again", "never").await;

    let mut places = ledger.places();
    let store = open(&options(directory.path())).await;
    let mut logged = 0;
    for (origin, _) in store.vector().iter() {
        assert!(origin.is_of(&node_id("node-1")));
        for entry in contiguous_log(&store, origin).await {
            logged += 1;
            if let Some(number) = places.remove(&(origin.as_bytes().to_vec(), entry.clock)) {
                assert_eq!(entry.key_hash.as_ref(), key(number).0, "the log has what the client was told");
            }
        }
    }
    assert!(places.is_empty(), "acknowledged and not in the log: {places:?}");
    assert_eq!(
        (logged, store.records()),
        (present, present as u64),
        "one record for each entry, and none besides"
    );
    assert!(store.vector().len() as u32 >= cycles(), "every crash begins a new incarnation");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_killed_again_and_again_while_it_compacts_loses_no_record() {
    // It has no peer, so every entry can go once it is written.
    let Killed { directory, present, .. } =
        kill_again_and_again("killed while it compacts", "modified").await;

    let store = open(&options(directory.path())).await;
    assert_eq!(store.records(), present as u64);
    assert!(!store.floors().is_empty() || !store.folds().is_empty(), "it has compacted");
    for bucket in 0..=u8::MAX {
        assert_eq!(store.scrub(bucket).await.unwrap(), Scrubbed::default(), "bucket {bucket}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_member_acknowledged_reaches_the_whole_cluster() {
    let mut random = seeded("killed member");
    let (certs, directory) = (Certs::new(), tempfile::tempdir().unwrap());
    let mut launches: Vec<Launch> = (0..3)
        .map(|i| Launch::new(&certs, &format!("node-{i}"), &directory.path().join(format!("data-{i}"))))
        .collect();
    let ports: Vec<u16> = launches.iter().map(|launch| launch.port).collect();
    for launch in &mut launches {
        launch.join = ports.iter().copied().filter(|port| *port != launch.port).collect();
        launch.more.extend(["--node.replication-interval", "1s"].map(str::to_owned));
    }
    let mut members = Vec::new();
    for launch in &launches {
        members.push(Some(launch.start(&certs).await));
    }
    let ledger = Ledger::default();
    let (_, steady) = members[2].as_ref().unwrap();
    let background = ledger.write(&steady.clone(), 2);
    for i in [0, 1, 0] {
        let (process, client) = members[i].take().unwrap();
        let writers = ledger.write(&client, 6);
        acknowledged_more(&ledger, random.random_range(100..800)).await;
        process.kill();
        writers.ended().await;
        members[i] = Some(launches[i].start(&certs).await);
    }
    background.finish().await;
    let clients: Vec<&Client> = members.iter().map(|member| &member.as_ref().unwrap().1).collect();
    eventually("all members have applied the same and hold the same", || async {
        (clients[0].verify().await.verdict() == Verdict::Converged).then_some(())
    })
    .await;
    let mut present = Vec::new();
    for (i, client) in clients.iter().enumerate() {
        present.push(ledger.check(client, &format!("member {i}")).await);
        let status = client.status().await;
        assert_eq!((status.conflicts, status.quarantined), (0, 0));
        assert_eq!(status.alarms, []);
    }
    assert!(present.iter().all(|count| *count == present[0]), "{present:?}");
    ledger.places();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_node_answers_what_it_has_done_and_exits_cleanly() {
    for signal in [Signal::TERM, Signal::INT] {
        let (certs, directory) = (Certs::new(), tempfile::tempdir().unwrap());
        let launch = Launch::new(&certs, "node-1", &directory.path().join("data"));
        let (process, client) = launch.start(&certs).await;
        let ledger = Ledger::default();
        let writers = ledger.write(&client, 12);
        acknowledged_more(&ledger, 300).await;
        process.signal(signal);
        writers.ended().await;
        drop(client);
        let (status, log) = ended(process).await;
        assert_eq!(status.code(), Some(0), "{signal:?}: {log:?}");

        let (process, client) = launch.start(&certs).await;
        let present = ledger.check(&client, "after the stop").await;
        assert_eq!(present, ledger.len(), "whatever it wrote, it answered");
        assert_eq!(client.status().await.incarnation_reason, "start", "it was closed in order");
        assert_eq!(client.status().await.alarms, []);
        drop(client);
        process.signal(signal);
        let (status, later_log) = ended(process).await;
        assert!(status.success());
        let complaints: Vec<_> =
            log.iter().chain(&later_log).filter(|line| !line.contains("\"INFO\"")).collect();
        assert!(complaints.is_empty(), "{complaints:?}");
    }
}

/// A client that has connected and then neither reads nor writes: its runtime stands still.
struct Frozen {
    _runtime: tokio::runtime::Runtime,
    _client: Client,
}

impl Frozen {
    async fn connect(certs: &Certs, port: u16) -> Self {
        let certs_dir = certs.client();
        let connect = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let address = format!("127.0.0.1:{port}");
            let client = runtime.block_on(async {
                let client = Client::connect(&address, &certs_dir).await;
                client.put(&key(u64::MAX).0, b"g").await.unwrap();
                client
            });
            (runtime, client)
        };
        let (runtime, client) = std::thread::spawn(connect).join().unwrap();
        Self { _runtime: runtime, _client: client }
    }

    fn drop_elsewhere(self) {
        std::thread::spawn(move || drop(self)).join().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_stops_a_draining_node_at_once_and_nothing_is_lost() {
    for (first, second) in [(Signal::TERM, Signal::TERM), (Signal::TERM, Signal::INT)] {
        let (certs, directory) = (Certs::new(), tempfile::tempdir().unwrap());
        let mut launch = Launch::new(&certs, "node-1", &directory.path().join("data"));
        launch.more.push("--node.shutdown-timeout=120s".to_owned());
        let (process, client) = launch.start(&certs).await;
        let ledger = Ledger::default();
        let writers = ledger.write(&client, 4);
        acknowledged_more(&ledger, 50).await;
        let frozen = Frozen::connect(&certs, launch.port).await;
        process.signal(first);
        eventually("it is draining", || async {
            process.log().iter().any(|line| line.contains("shutting down")).then_some(())
        })
        .await;
        writers.ended().await;
        assert!(process.is_running(), "the frozen client holds it up");
        process.signal(second);
        let since = Instant::now();
        let (status, log) = ended(process).await;
        assert!(since.elapsed() < Duration::from_secs(20), "it took {:?}", since.elapsed());
        assert_eq!(status.code(), Some(1));
        let last = log.last().map(String::as_str).unwrap_or_default();
        assert!(last.contains("a second signal: the node stops immediately"), "{log:#?}");
        frozen.drop_elsewhere();

        let (_process, client) = launch.start(&certs).await;
        ledger.check(&client, "after the second signal").await;
        client.get_local(&key(u64::MAX).0).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_client_holds_a_stop_up_no_longer_than_its_deadline() {
    let (certs, directory) = (Certs::new(), tempfile::tempdir().unwrap());
    let path = directory.path().join("data");
    let mut launch = Launch::new(&certs, "node-1", &path);
    launch.more.push("--node.shutdown-timeout=1s".to_owned());
    let (process, client) = launch.start(&certs).await;
    drop(client);
    let frozen = Frozen::connect(&certs, launch.port).await;
    let since = Instant::now();
    process.signal(Signal::TERM);
    let (_, log) = ended(process).await;
    assert!(since.elapsed() < Duration::from_secs(20), "it took {:?}", since.elapsed());
    assert!(log.iter().any(|line| line.contains("did not finish in time")), "{log:?}");
    frozen.drop_elsewhere();
    let store = open(&options(&path)).await;
    assert_eq!(store.incarnation_reason(), "start", "the storage was closed in order all the same");
    assert_eq!(store.records(), 1);
}

/// A process that may write a core file. Killed when dropped.
struct WithCores(Child);

impl Drop for WithCores {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a program that may write a core file, into this directory.
fn with_cores(directory: &Path, program: &str, arguments: &[String]) -> WithCores {
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", "ulimit -c unlimited && exec \"$0\" \"$@\"", program])
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    WithCores(command.spawn().unwrap())
}

fn crash(mut process: WithCores) -> ExitStatus {
    rustix::process::kill_process(rustix::process::Pid::from_child(&process.0), Signal::ABORT).unwrap();
    end_of(&mut process.0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_writes_no_core_file_which_would_hold_keys() {
    let (certs, directory) = (Certs::new(), tempfile::tempdir().unwrap());
    let other = ["-c", "kill -SEGV $$"].map(str::to_owned);
    if !end_of(&mut with_cores(directory.path(), "/bin/sh", &other).0).core_dumped() {
        eprintln!("skipped: this machine writes no core files");
        return;
    }
    let launch = Launch::new(&certs, "node-1", &directory.path().join("data"));
    let node = with_cores(directory.path(), BROCK, &launch.arguments());
    eventually("it is ready", || async {
        get(launch.http_port, "/readyz").await.filter(|answer| answer.starts_with("HTTP/1.1 200 "))
    })
    .await;
    let (operator, address) = (certs.admin(), format!("127.0.0.1:{}", launch.port));
    let arguments =
        ["lag", "--watch", "--certs-dir", operator.to_str().unwrap(), "--node-addresses", &address]
            .map(str::to_owned);
    let mut admin = with_cores(directory.path(), NODE_ADMIN, &arguments);
    // Kept: a command without a reader ends.
    let mut printed = lines_of(admin.0.stdout.take().unwrap());
    printed.recv().await.expect("the operator's command runs");
    for (program, process) in [("node-admin", admin), ("brock", node)] {
        let status = crash(process);
        assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()), "{program}");
        assert!(!status.core_dumped(), "{program} wrote its memory to disk");
    }
}
