//! One node of a development cluster as a child process.

use std::{
    ffi::{OsStr, OsString},
    io::{self, BufRead as _, BufReader, Read, Write as _},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

pub(super) struct NodeProcess {
    name: String,
    child: Child,
    /// The thread that relays its messages; ends when the child closes its stderr.
    relay: Option<thread::JoinHandle<()>>,
    is_running: bool,
}

impl NodeProcess {
    /// Starts `brock run` with these flags; its messages appear on stderr, prefixed with its name.
    pub(super) fn start(name: &str, flags: &[String]) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let mut command = Command::new(&program);
        command
            .arg("run")
            .arg("--stop-with-parent")
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // Ctrl-C must reach only this process, which then stops the nodes.
            .process_group(0);
        // The environment's settings are meant for another node.
        for (variable, _) in std::env::vars_os().filter(|(name, _)| is_foreign(name)) {
            command.env_remove(variable);
        }
        if std::env::var_os("BROCK_LOG_FORMAT").is_none() {
            command.env("BROCK_LOG_FORMAT", "text");
        }
        let mut child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let relay = child.stderr.take().map(|stderr| relay(name, stderr)).transpose()?;
        Ok(Self { name: name.to_owned(), child, relay, is_running: true })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn is_running(&self) -> bool {
        self.is_running
    }

    /// Prints once that the process exited unexpectedly. Returns whether it just did.
    pub(super) fn notice_exit(&mut self) -> anyhow::Result<bool> {
        if !self.is_running {
            return Ok(false);
        }
        let status = self.child.try_wait().with_context(|| format!("cannot watch {}", self.name))?;
        if let Some(status) = status {
            self.ended();
            eprintln!("{} exited unexpectedly, {}", self.name, in_words(status));
        }
        Ok(status.is_some())
    }

    /// Whether it has stopped, after [`NodeProcess::ask_to_stop`].
    pub(super) fn has_stopped(&mut self) -> bool {
        if self.is_running {
            match self.child.try_wait() {
                Ok(None) => return false,
                Ok(Some(status)) => {
                    self.ended();
                    if !status.success() {
                        eprintln!("{} stopped, {}", self.name, in_words(status));
                    }
                }
                // A process that cannot be watched cannot be waited for.
                Err(_) => self.is_running = false,
            }
        }
        true
    }

    pub(super) fn ask_to_stop(&mut self) {
        if self.is_running {
            // It may have exited just now; `has_stopped` finds that out.
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        }
    }

    pub(super) fn kill(&mut self) {
        if self.is_running {
            let _ = self.child.kill();
        }
    }

    /// Waits until its last messages are relayed.
    fn ended(&mut self) {
        self.is_running = false;
        if let Some(relay) = self.relay.take() {
            let _ = relay.join();
        }
    }
}

/// The environment that nodes get.
pub(super) fn environment() -> Vec<(OsString, OsString)> {
    std::env::vars_os().filter(|(name, _)| !is_foreign(name)).collect()
}

fn is_foreign(variable: &OsStr) -> bool {
    variable.to_str().is_some_and(|name| {
        name == "BROCK_CONFIG" || name.starts_with("BROCK_NODE_") || name.starts_with("BROCK_HTTP_")
    })
}

fn relay(name: &str, stderr: impl Read + Send + 'static) -> io::Result<thread::JoinHandle<()>> {
    let prefix = format!("{name} | ");
    thread::Builder::new().name(format!("messages of {name}")).spawn(move || {
        let mut lines = BufReader::new(stderr);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            let text = format!("{prefix}{}\n", String::from_utf8_lossy(&line).trim_end());
            // The reader of our stderr may be gone: the node must not block for that.
            let _ = io::stderr().write_all(text.as_bytes());
            line.clear();
        }
    })
}

fn in_words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => status.to_string(),
    }
}
