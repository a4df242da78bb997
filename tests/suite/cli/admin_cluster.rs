//! `status --cluster`, `lag`, `peers` and `top`: the whole cluster from any one node.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use data_encoding::HEXLOWER;
use serde_json::{Value, json};

use crate::harness::{
    admin::Admin,
    cluster::Cluster,
    eventually,
    node::compacts_on_command,
    process::{NODE_ADMIN, end_of, lines_of},
    random_key,
};

/// What it prints as JSON, and its exit code.
fn asked(admin: &Admin, arguments: &[&str]) -> (Value, Option<i32>) {
    let output = admin.run(&[arguments, &["-o", "json"]].concat(), "");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(told, "", "{arguments:?}");
    (serde_json::from_slice(&output.stdout).unwrap(), output.status.code())
}

async fn well(cluster: &Cluster) {
    eventually("all is well", || async {
        (asked(&Admin::of(cluster, 0), &["status", "--cluster"]).1 == Some(0)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_verdict_is_the_exit_code_and_a_dead_node_is_no_number() {
    let mut cluster = Cluster::start_with(3, compacts_on_command).await;
    cluster.node(1).client.put(&random_key(), b"grant").await.unwrap();
    cluster.converged().await;
    well(&cluster).await;
    let text = Admin::of(&cluster, 2).run(&["status", "--cluster"], "");
    assert!(String::from_utf8_lossy(&text.stdout).starts_with("well: All 3 nodes are well"));
    let (lag, code) = asked(&Admin::of(&cluster, 0), &["lag"]);
    assert_eq!((code, &lag["origins"]), (Some(0), &json!(["node-1"])));
    assert!(
        lag["nodes"].as_array().unwrap().iter().all(|node| node["lags"] == json!({"node-1": 0})),
        "{lag}"
    );

    cluster.stop_node(2).await;
    let (view, _) = eventually("the dead node is missed", || async {
        let (view, code) = asked(&Admin::of(&cluster, 0), &["status", "--cluster"]);
        (code == Some(9)).then_some((view, code))
    })
    .await;
    assert_eq!(view["verdict"]["level"], "act");
    let dead = view["nodes"].as_array().unwrap().iter().find(|node| node["node"] == "node-2").unwrap();
    assert_eq!((&dead["status"], &dead["lags"]), (&Value::Null, &Value::Null));
    let text = Admin::of(&cluster, 0).run(&["status", "--cluster"], "");
    let (shown, told) = (String::from_utf8_lossy(&text.stdout), String::from_utf8_lossy(&text.stderr));
    assert!(shown.starts_with("act: 2 of 3 nodes answer") && told.is_empty(), "{shown}{told}");
    let row = |text: &str| {
        let rows = text.lines().filter(|line| line.trim_start().starts_with("node-2 "));
        rows.map(|row| row.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
    };
    let rows = row(&shown);
    assert!(rows[0].starts_with("node-2 silent ? ? ? ? ? ?") && rows[1] == "node-2 ?", "{shown}");
    let lag = Admin::of(&cluster, 0).run(&["lag"], "");
    assert_eq!(row(&String::from_utf8_lossy(&lag.stdout)), ["node-2 ?"]);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lag_goes_on_until_nobody_reads_it() {
    let cluster = Cluster::start_with(1, compacts_on_command).await;
    cluster.node(0).client.put(&random_key(), b"grant").await.unwrap();
    let certs = cluster.certs.admin();
    let line = format!(
        "{NODE_ADMIN} --certs-dir {} --node-addresses {} lag --watch=1ms -o json | head -n 3; echo ${{PIPESTATUS[0]}}",
        certs.display(),
        cluster.node(0).address()
    );
    let ended = tokio::task::block_in_place(|| Command::new("bash").args(["-c", &line]).output().unwrap());
    let text = String::from_utf8(ended.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((lines.len(), lines[3]), (4, "0"), "{text}");
    for line in &lines[..3] {
        assert_eq!(serde_json::from_str::<Value>(line).unwrap()["origins"], json!(["node-0"]));
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lag_goes_on_when_the_node_that_was_asked_is_gone() {
    let mut cluster = Cluster::start_with(1, compacts_on_command).await;
    let mut command = Command::new(NODE_ADMIN);
    command.args(["--certs-dir", cluster.certs.admin().to_str().unwrap()]);
    command.args(["--node-addresses", &cluster.node(0).address(), "lag", "--watch=20ms", "-o", "json"]);
    let mut watching = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut shown = lines_of(watching.stdout.take().unwrap());
    let mut told = lines_of(watching.stderr.take().unwrap());
    shown.recv().await.unwrap();
    let gone = Admin::of(&cluster, 0);
    cluster.stop_node(0).await;
    // The frames are visible while it runs, too.
    let drain = tokio::spawn(async move { while shown.recv().await.is_some() {} });
    let mut looks = 0;
    while looks < 2 {
        let told = tokio::time::timeout(Duration::from_secs(30), told.recv()).await;
        let told = told.expect("nothing is said").expect("it ended");
        looks += usize::from(told.contains("no node answered"));
    }
    watching.kill().unwrap();
    end_of(&mut watching);
    drain.await.unwrap();
    // What was never there is not waited for.
    let never = gone.run(&["lag", "--watch=20ms"], "");
    assert_eq!(never.status.code(), Some(4));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_shows_each_peer_and_the_matrix_how_far_they_are_apart() {
    let mut cluster = Cluster::start_some(3, 2, compacts_on_command).await;
    let near = eventually("a ping was answered", || async {
        let (matrix, _) = asked(&Admin::of(&cluster, 0), &["peers", "--matrix"]);
        matrix["round_trip_micros"]["node-0"]["node-1"].is_u64().then_some(matrix)
    })
    .await;
    let absent = format!("127.0.0.1:{}", cluster.ports[2]);
    assert_eq!(near["round_trip_micros"]["node-0"][&absent], Value::Null);
    assert_eq!(near["round_trip_micros"][&absent]["node-0"], Value::Null);
    assert!(near["round_trip_micros"]["node-0"].get("node-0").is_none());
    let (peers, code) = eventually("both peers were dialled", || async {
        let (peers, code) = asked(&Admin::of(&cluster, 0), &["peers"]);
        let tried = |peer: &Value| peer["up"] == true || peer["last_error"] != "";
        peers["peers"].as_array().unwrap().iter().all(tried).then_some((peers, code))
    })
    .await;
    assert_eq!((code, &peers["node_id"]), (Some(0), &json!("node-0")));
    let up: Vec<&Value> = peers["peers"].as_array().unwrap().iter().map(|peer| &peer["up"]).collect();
    assert_eq!(up, [&json!(true), &json!(false)]);
    let text = String::from_utf8(Admin::of(&cluster, 0).run(&["peers"], "").stdout).unwrap();
    assert!(text.starts_with("peers of node-0:\n") && text.contains("refused"), "{text}");
    cluster.start_node(2).await;
    cluster.converged().await;
    cluster.stop().await;
}

/// A program on a terminal of its own.
struct OnTerminal {
    child: Child,
    shown: PathBuf,
    pid: PathBuf,
}

impl OnTerminal {
    fn start(directory: &Path, command: &str) -> Self {
        Self::start_with(directory, 140, command)
    }

    fn start_with(directory: &Path, columns: u16, command: &str) -> Self {
        let (shown, pid) = (directory.join("shown"), directory.join("pid"));
        fs::write(&shown, "").unwrap();
        let line = format!("stty cols {columns} rows 40; echo $$ > {}; exec {command}", pid.display());
        let mut script = Command::new("script");
        script.args(["-qefc", &line]).arg(&shown).env("TERM", "xterm-256color").env("SHELL", "/bin/sh");
        let child = script.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        Self { child, shown, pid }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.shown).unwrap()).into_owned()
    }

    async fn shows(&self, part: &str) {
        let is_shown = || async { screen(&self.text()).contains(part).then_some(()) };
        eventually(&format!("{part:?} is shown"), is_shown).await;
    }

    fn press(&mut self, keys: &str) {
        self.child.stdin.as_mut().unwrap().write_all(keys.as_bytes()).unwrap();
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = fs::read_to_string(&self.pid).unwrap().trim().parse().unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    /// Its exit code, and all that it showed.
    fn end(mut self) -> (Option<i32>, String) {
        let ended = tokio::task::block_in_place(|| end_of(&mut self.child));
        (ended.code(), self.text())
    }
}

/// A test that fails leaves nothing behind that holds its output open.
impl Drop for OnTerminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a terminal shows that got this: blanks are skipped by moving the cursor.
fn screen(text: &str) -> String {
    let mut lines = vec![vec![' '; 200]; 60];
    let (mut row, mut column) = (0, 0);
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\x1b' => {
                let mut sequence = String::new();
                for c in rest.by_ref().skip_while(|c| *c == '[') {
                    sequence.push(c);
                    if c.is_ascii_alphabetic() {
                        break;
                    }
                }
                if let Some(place) = sequence.strip_suffix('H') {
                    let mut numbers = place.split(';').map(|number| number.parse().unwrap_or(1_usize));
                    row = numbers.next().unwrap_or(1).saturating_sub(1);
                    column = numbers.next().unwrap_or(1).saturating_sub(1);
                } else if sequence == "?1049h" || sequence.ends_with('J') {
                    lines.iter_mut().for_each(|line| line.fill(' '));
                }
            }
            '\n' => row += 1,
            '\r' => column = 0,
            c => {
                if let Some(cell) = lines.get_mut(row).and_then(|line| line.get_mut(column)) {
                    *cell = c;
                }
                column += 1;
            }
        }
    }
    lines.into_iter().map(|line| line.into_iter().collect::<String>() + "\n").collect()
}

const TAKEN: &str = "\x1b[?1049h";
const GIVEN_BACK: &str = "\x1b[?1049l";

#[tokio::test(flavor = "multi_thread")]
async fn top_lives_on_a_terminal_and_gives_it_back_whatever_ends_it() {
    let mut cluster = Cluster::start_with(2, compacts_on_command).await;
    cluster.node(1).client.put(&random_key(), b"grant").await.unwrap();
    cluster.converged().await;
    well(&cluster).await;
    let top = format!(
        "{NODE_ADMIN} --certs-dir {} --node-addresses {} top --interval 100ms",
        cluster.certs.admin().display(),
        cluster.node(0).address()
    );
    let directory = tempfile::tempdir().unwrap();
    let mut terminal = OnTerminal::start(directory.path(), &top);
    terminal.shows("All 2 nodes are well").await;
    terminal.shows("WRITES/S").await;
    terminal.press("\t\t");
    terminal.shows("PULLS FROM").await;
    terminal.press("?");
    terminal.shows(" keys ").await;
    terminal.press("?");
    // What happens meanwhile shows by itself.
    cluster.stop_node(1).await;
    terminal.shows("1 of 2 nodes answer").await;
    terminal.press("q");
    let (code, shown) = terminal.end();
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains(TAKEN) && shown.rfind(GIVEN_BACK) > shown.rfind(TAKEN), "{shown:?}");

    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::INT] {
        let directory = tempfile::tempdir().unwrap();
        let terminal = OnTerminal::start(directory.path(), &top);
        terminal.shows("1 of 2 nodes answer").await;
        terminal.signal(signal);
        let (code, shown) = terminal.end();
        assert_eq!(code, Some(0), "{signal:?}: {shown}");
        assert!(shown.rfind(GIVEN_BACK) > shown.rfind(TAKEN), "{signal:?}: {shown:?}");
    }
    // The node that was asked goes too: the last view stays, and is said to be old.
    let directory = tempfile::tempdir().unwrap();
    let mut terminal = OnTerminal::start(directory.path(), &top);
    terminal.shows("1 of 2 nodes answer").await;
    let certs = cluster.certs.admin();
    let address = cluster.node(0).address();
    cluster.stop_node(0).await;
    terminal.shows("out of date").await;
    terminal.press("\x03");
    assert_eq!(terminal.end().0, Some(0));
    // What fails at once leaves the terminal alone.
    let terminal = OnTerminal::start(directory.path(), &top);
    let (code, shown) = terminal.end();
    assert_eq!(code, Some(4));
    assert!(shown.contains("no node answered") && !shown.contains(TAKEN), "{shown:?}");
    Admin::new(&certs, &[address]).fails(2, "top --once", &["top"], "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_is_asked_and_none_of_its_lines_wraps() {
    let cluster = Cluster::start_with(2, compacts_on_command).await;
    well(&cluster).await;
    let node_admin = |arguments: &str| {
        format!(
            "{NODE_ADMIN} --certs-dir {} --node-addresses {} --color never {arguments}",
            cluster.certs.admin().display(),
            cluster.node(0).address()
        )
    };
    for command in ["status --cluster", "peers", "lag", "peers --matrix", "members"] {
        let directory = tempfile::tempdir().unwrap();
        let (code, shown) = OnTerminal::start_with(directory.path(), 80, &node_admin(command)).end();
        let lines: Vec<&str> = shown.lines().filter(|line| line.starts_with("  ")).collect();
        assert!(code == Some(0) && lines.len() >= 2, "{command}: {shown}");
        assert!(lines.iter().all(|line| line.trim_end().chars().count() <= 80), "{command}: {shown}");
    }
    // A delete is for ever, so a person confirms it; --yes and scripts go on without.
    let key = random_key();
    cluster.node(0).client.put(&key, b"grant").await.unwrap();
    let delete = node_admin(&format!("record delete {}", HEXLOWER.encode(&key)));
    for (typed, code) in [("no\n", 1), ("delete\n", 0)] {
        let directory = tempfile::tempdir().unwrap();
        let mut terminal = OnTerminal::start(directory.path(), &delete);
        terminal.shows("Type delete to continue").await;
        assert!(cluster.node(0).client.has_local(&key).await.is_some(), "it was not confirmed yet");
        terminal.press(typed);
        let (ended, shown) = terminal.end();
        assert_eq!(ended, Some(code), "{shown}");
    }
    let directory = tempfile::tempdir().unwrap();
    let put = node_admin(&format!("record put {}", HEXLOWER.encode(&random_key())));
    let mut terminal = OnTerminal::start(directory.path(), &put);
    let asks = || async { terminal.text().contains("Type the record as JSON").then_some(()) };
    eventually("it says what it waits for", asks).await;
    terminal.press("{\"encrypted_access_grant\":\"Z3JhbnQ=\"}\n\x04");
    let (code, shown) = terminal.end();
    assert!(code == Some(0) && shown.contains("clock"), "{shown}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_frame_of_top_is_text_for_scripts() {
    let cluster = Cluster::start_with(2, compacts_on_command).await;
    well(&cluster).await;
    let frame = Admin::of(&cluster, 0).run(&["top", "--once"], "");
    let text = String::from_utf8(frame.stdout).unwrap();
    assert!(frame.status.success() && !text.contains('\x1b'), "{text}");
    for part in ["well", "All 2 nodes are well", "READS/S", "node-0", "node-1", "ready", "q quit"] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    cluster.stop().await;
}
