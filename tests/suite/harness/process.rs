//! Nodes and tools as processes.

use std::{
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use tokio::sync::mpsc;

use super::{certs::Certs, client::Client, eventually, free_port, http::get, within_here};

pub const BROCK: &str = env!("CARGO_BIN_EXE_brock");
pub const NODE_ADMIN: &str = env!("CARGO_BIN_EXE_node-admin");

/// Runs a program to its end.
pub fn run(program: &str, arguments: &[&str], input: &str) -> Output {
    run_with(program, arguments, input, &[])
}

/// The same with these variables.
pub fn run_with(program: &str, arguments: &[&str], input: &str, env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // The settings of the person who runs the tests are no part of them.
    for variable in
        ["BROCK_CONFIG", "NODE_ADMIN_CONTEXT", "XDG_CONFIG_HOME", "HOME", "BROCK_CONTEXT_FILE", "NO_COLOR"]
    {
        command.env_remove(variable);
    }
    command.envs(env.iter().copied());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).ok();
    child.wait_with_output().unwrap()
}

/// Waits for the end of a process. Kills it and panics when it takes too long.
pub fn end_of(child: &mut Child) -> ExitStatus {
    let status = within_here(Duration::from_secs(120), || child.try_wait().unwrap());
    status.unwrap_or_else(|| {
        let _ = child.kill();
        panic!("the process {} does not end", child.id())
    })
}

/// The lines that a process writes, as they come.
pub fn lines_of(stream: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (written, lines) = mpsc::channel(1);
    thread::spawn(move || {
        let mut read = BufReader::new(stream).lines().map_while(Result::ok);
        // The test may have dropped the receiver.
        let _ = read.try_for_each(|line| written.blocking_send(line));
    });
    lines
}

/// A `brock run` process. Killed when dropped.
pub struct Process {
    child: Child,
    pub id: String,
    pub port: u16,
    pub http_port: u16,
    stderr: Arc<Mutex<Vec<String>>>,
    reader: Option<thread::JoinHandle<()>>,
}

/// How to run one node as a process.
pub struct Launch {
    pub id: String,
    pub path: PathBuf,
    pub certs_dir: PathBuf,
    pub port: u16,
    pub http_port: u16,
    pub join: Vec<u16>,
    pub more: Vec<String>,
    pub env: Vec<(String, PathBuf)>,
    /// Its soft and its hard limit of open files; `None`: those of the tests.
    pub open_files: Option<(u32, u32)>,
}

impl Launch {
    pub fn new(certs: &Certs, id: &str, path: &Path) -> Self {
        Self {
            id: id.to_owned(),
            path: path.to_owned(),
            certs_dir: certs.node(id),
            port: free_port(),
            http_port: free_port(),
            join: Vec::new(),
            more: vec!["--node.first-start=true".to_owned()],
            env: Vec::new(),
            open_files: None,
        }
    }

    pub fn arguments(&self) -> Vec<String> {
        let join: Vec<String> = self.join.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let mut arguments: Vec<String> = [
            "run",
            "--log.format",
            "json",
            "--node.id",
            &self.id,
            "--node.path",
            self.path.to_str().unwrap(),
            "--node.certs-dir",
            self.certs_dir.to_str().unwrap(),
            "--node.address",
            &format!("127.0.0.1:{}", self.port),
            "--http.address",
            &format!("127.0.0.1:{}", self.http_port),
        ]
        .map(str::to_owned)
        .to_vec();
        if !join.is_empty() {
            arguments.extend(["--node.join".to_owned(), join.join(",")]);
        }
        arguments.extend(self.more.iter().cloned());
        arguments
    }

    /// Starts it and waits until it answers on its gRPC port.
    pub async fn start(&self, certs: &Certs) -> (Process, Client) {
        let process = self.spawn();
        let address = format!("127.0.0.1:{}", self.port).parse().unwrap();
        eventually(&format!("{} answers", self.id), || async {
            assert!(process.is_running(), "{} ended: {:?}", process.id, process.log());
            brock_net::channel::open_channel(&address, Certs::config(&certs.admin())).await.ok()
        })
        .await;
        let client = Client::connect(&address.to_string(), &certs.admin()).await;
        (process, client)
    }

    /// Starts it.
    pub fn spawn(&self) -> Process {
        let mut command = match self.open_files {
            None => Command::new(BROCK),
            Some((soft, hard)) => {
                let mut shell = Command::new("sh");
                shell.args([
                    "-c",
                    &format!("ulimit -Sn {soft}; ulimit -Hn {hard}; exec \"$0\" \"$@\""),
                    BROCK,
                ]);
                shell
            }
        };
        command.args(self.arguments()).envs(self.env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (stderr, into) = (child.stderr.take().unwrap(), Arc::clone(&lines));
        let reader = thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                into.lock().unwrap().push(line);
            }
        });
        let (port, http_port) = (self.port, self.http_port);
        Process { child, id: self.id.clone(), port, http_port, stderr: lines, reader: Some(reader) }
    }
}

impl Process {
    /// Every line of its log so far.
    pub fn log(&self) -> Vec<String> {
        self.stderr.lock().unwrap().clone()
    }

    /// Lines at WARN or ERROR that none of `expected` explains.
    pub fn complaints(&self, expected: &[&str]) -> Vec<String> {
        let is_complaint = |line: &String| {
            let level = serde_json::from_str::<serde_json::Value>(line).ok();
            let level = level.as_ref().and_then(|line| line["level"].as_str());
            !matches!(level, Some("INFO" | "DEBUG" | "TRACE"))
        };
        let unexplained = |line: &String| !expected.iter().any(|text| line.contains(text));
        self.log().into_iter().filter(is_complaint).filter(unexplained).collect()
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    pub fn is_running(&self) -> bool {
        Path::new(&format!("/proc/{}/stat", self.child.id()))
            .exists()
            .then(|| std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default())
            .is_some_and(|stat| !stat.contains(") Z "))
    }

    /// Waits until it answers on `/readyz` that it is ready.
    pub async fn ready(&self) {
        eventually("it is ready", || async {
            assert!(self.is_running(), "{:?}", self.log());
            get(self.http_port, "/readyz").await.filter(|answer| answer.starts_with("HTTP/1.1 200 "))
        })
        .await;
    }

    /// Sends a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.pid()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.finish();
    }

    /// SIGTERM, and waits for the end.
    pub fn terminate(mut self) -> (ExitStatus, Vec<String>) {
        self.signal(rustix::process::Signal::TERM);
        let status = self.finish();
        (status, self.log())
    }

    /// Waits for the end.
    pub fn wait(mut self) -> (ExitStatus, Vec<String>) {
        let status = self.finish();
        (status, self.log())
    }

    fn finish(&mut self) -> ExitStatus {
        let status = end_of(&mut self.child);
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Of a test that has failed, what its nodes said is half of the answer.
        if thread::panicking() {
            println!("log of {}:", self.id);
            self.log().iter().for_each(|line| println!("  {line}"));
        }
    }
}
