//! `brock dev`: a cluster of `brock run` processes on this machine, for development and first steps.

mod layout;
mod next_steps;
mod ports;
mod probe;
mod process;

use std::{
    path::PathBuf,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use crate::paths;
use anyhow::Context as _;
use brock::config::{
    error::Source,
    sources::{ConfigFile, ShownSetting},
    validate,
};
use clap::Args;
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

use layout::Layout;
use ports::NodePorts;
use probe::{Probe, Readiness};
use process::NodeProcess;

/// What the nodes run with unless the settings say otherwise: their certificates state every role.
const CHOSEN: [(&str, &str); 2] = [("node.trust", "distributed"), ("node.require-uri-roles", "true")];
/// How often to check the nodes and the signals.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// When, and how often, to print the nodes that are still not ready.
const NOT_READY_NOTICE_INTERVAL: Duration = Duration::from_secs(15);
/// How long nodes may take to stop: the default of node.shutdown-timeout, and some time to exit.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// Start a cluster on this machine, with its own certificates, for development
#[derive(Debug, Args)]
pub(crate) struct DevArgs {
    /// Number of nodes, 1 to 16
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=16))]
    nodes: u16,
    /// Directory for certificates and data, which the next start uses again; without it, a temporary
    /// directory that is removed at the end
    #[arg(long, value_name = "DIR", value_parser = paths::literal)]
    dir: Option<PathBuf>,
    /// Port of the first node; the other nodes use the next ports, and HTTP ports are 1000 higher. 0 picks free ports
    #[arg(long, value_name = "PORT", default_value_t = 20004)]
    base_port: u16,
    /// Settings for every node, such as -- --log.level=debug. Unless they say otherwise, node.trust is distributed and
    /// node.require-uri-roles is true
    #[arg(last = true, value_name = "SETTINGS")]
    settings: Vec<String>,
}

/// Why the cluster ends.
enum End {
    /// A signal.
    Asked,
    /// No node runs any more.
    AllExited,
}

pub(crate) fn run(args: &DevArgs) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot listen for signals")?;
    // Removed when this function returns.
    let mut temporary = None;
    let root = match &args.dir {
        Some(dir) => std::path::absolute(dir).with_context(|| format!("cannot use {}", dir.display()))?,
        None => {
            let dir = tempfile::Builder::new().prefix("brock-dev-").tempdir();
            let dir = dir.context("cannot make a temporary directory; pass --dir")?;
            temporary.insert(dir).path().to_owned()
        }
    };
    let layout = Layout::new(root, args.nodes);
    layout.prepare()?;
    remove_env(&layout);
    let ports = ports::choose(args.base_port, args.nodes)?;
    let probe = Probe::new().context("cannot start a client for the nodes' HTTP servers")?;
    let mut cluster = Cluster { processes: Vec::new(), layout: &layout, ports: &ports, probe };
    // Here, once: every node would refuse it.
    let settings = match cluster.complete(&args.settings)? {
        Ok(settings) => settings,
        Err(refused) => return Ok(refused),
    };
    eprintln!("starting {} in {}", nodes(layout.names().len()), layout.root().display());
    let end = cluster.start(&settings).and_then(|()| cluster.watch(&mut signals));
    // After an error too: no node may outlive this process.
    let was_patient = cluster.stop(&mut signals);
    remove_env(&layout);
    match end? {
        End::Asked if was_patient => Ok(ExitCode::SUCCESS),
        End::Asked => Ok(ExitCode::FAILURE),
        End::AllExited => anyhow::bail!("all nodes have exited; see their last messages above"),
    }
}

/// There is no cluster, so no file may name one.
fn remove_env(layout: &Layout) {
    let _ = std::fs::remove_file(layout.env_file());
}

fn nodes(count: usize) -> String {
    if count == 1 { "1 node".to_owned() } else { format!("{count} nodes") }
}

struct Cluster<'a> {
    processes: Vec<NodeProcess>,
    layout: &'a Layout,
    ports: &'a [NodePorts],
    probe: Probe,
}

impl Cluster<'_> {
    fn start(&mut self, settings: &[String]) -> anyhow::Result<()> {
        for (name, ports) in self.layout.names().iter().zip(self.ports) {
            self.processes.push(NodeProcess::start(name, &self.flags(name, ports, settings)?)?);
        }
        Ok(())
    }

    fn flags(&self, name: &str, ports: &NodePorts, settings: &[String]) -> anyhow::Result<Vec<String>> {
        let others = self.ports.iter().filter(|other| other.node != ports.node);
        let peers: Vec<String> = others.map(|other| other.node.to_string()).collect();
        let mut flags = vec![
            format!("--node.id={name}"),
            format!("--node.path={}", self.layout.data_dir(name).display()),
            format!("--node.certs-dir={}", self.layout.node_certs_dir(name).display()),
            format!("--node.address={}", ports.node),
            format!("--node.first-start={}", self.layout.is_first_start(name)?),
            format!("--http.address={}", ports.http),
        ];
        if !peers.is_empty() {
            flags.push(format!("--node.join={}", peers.join(",")));
        }
        flags.extend_from_slice(settings);
        Ok(flags)
    }

    /// The settings, and what is chosen where they leave it out. The exit code, if the command line is wrong.
    fn complete(&self, settings: &[String]) -> anyhow::Result<Result<Vec<String>, ExitCode>> {
        let shown = match self.check(settings)? {
            Ok(shown) => shown,
            Err(refused) => return Ok(Err(refused)),
        };
        let is_left_out = |key| shown.iter().any(|one| one.key == key && one.source == Source::Default);
        let chosen = CHOSEN.iter().filter(|(key, _)| is_left_out(*key));
        let chosen = chosen.map(|(key, value)| format!("--{key}={value}"));
        let settings: Vec<String> = settings.iter().cloned().chain(chosen).collect();
        Ok(self.check(&settings)?.map(|_| settings))
    }

    /// Reads the flags of the first node as that node would. The exit code, if the command line is wrong.
    fn check(&self, settings: &[String]) -> anyhow::Result<Result<Vec<ShownSetting>, ExitCode>> {
        let Some((name, ports)) = self.layout.names().iter().zip(self.ports).next() else {
            return Ok(Ok(Vec::new()));
        };
        let flags = self.flags(name, ports, settings)?;
        let line = std::iter::once("run").chain(flags.iter().map(String::as_str));
        match crate::run::command().try_get_matches_from(line) {
            Ok(matches) => {
                let env = process::environment();
                let file = ConfigFile::read_named(&matches, &env)?;
                Ok(Ok(validate::resolve(&matches, &env, file.as_ref())?.1))
            }
            Err(error) => {
                let _ = error.print();
                Ok(Err(ExitCode::from(crate::EXIT_USAGE)))
            }
        }
    }

    /// Waits for a signal, or until no node runs any more. Prints when the nodes are ready.
    fn watch(&mut self, signals: &mut Signals) -> anyhow::Result<End> {
        let mut is_ready = false;
        let mut next_notice = Instant::now() + NOT_READY_NOTICE_INTERVAL;
        loop {
            if signals.pending().next().is_some() {
                return Ok(End::Asked);
            }
            let mut has_lost = false;
            for process in &mut self.processes {
                has_lost |= process.notice_exit()?;
            }
            let running: Vec<_> = self.running().map(|(process, ports)| (process.name(), *ports)).collect();
            if running.is_empty() {
                return Ok(End::AllExited);
            }
            if has_lost {
                eprintln!("{} still running", nodes(running.len()));
            }
            if !is_ready {
                let waiting_for = self.not_ready();
                if waiting_for.is_empty() {
                    is_ready = true;
                    next_steps::write_env(self.layout, &running)?;
                    next_steps::print(self.layout, &running)?;
                } else if Instant::now() >= next_notice {
                    next_notice = Instant::now() + NOT_READY_NOTICE_INTERVAL;
                    waiting_for.iter().for_each(|line| eprintln!("{line}"));
                }
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    fn running(&self) -> impl Iterator<Item = (&NodeProcess, &NodePorts)> {
        self.processes.iter().zip(self.ports).filter(|(process, _)| process.is_running())
    }

    /// A line for every running node that is not ready.
    fn not_ready(&self) -> Vec<String> {
        self.running()
            .filter_map(|(process, ports)| match self.probe.readyz(ports.http) {
                Readiness::Ready => None,
                Readiness::NotReady(why) => Some(format!("{}: {why}", process.name())),
                Readiness::NoAnswer(why) => Some(format!(
                    "{}: no answer from http://{}/readyz yet: {why}",
                    process.name(),
                    ports.http
                )),
            })
            .collect()
    }

    /// Stops all nodes gracefully; kills them at the deadline or a second signal. Returns whether all stopped
    /// gracefully.
    fn stop(&mut self, signals: &mut Signals) -> bool {
        for process in &mut self.processes {
            process.ask_to_stop();
        }
        let deadline = Instant::now() + STOP_TIMEOUT;
        let mut was_patient = true;
        loop {
            let mut running = 0;
            for process in &mut self.processes {
                running += usize::from(!process.has_stopped());
            }
            if running == 0 {
                return was_patient;
            }
            if was_patient && (Instant::now() >= deadline || signals.pending().next().is_some()) {
                eprintln!("killing {}; no acknowledged write is lost", nodes(running));
                self.processes.iter_mut().for_each(NodeProcess::kill);
                was_patient = false;
            }
            thread::sleep(POLL_INTERVAL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_settings_leave_out_is_chosen_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path().to_owned(), 1);
        let [node, http] = ["127.0.0.1:1", "127.0.0.1:2"].map(|address| address.parse().unwrap());
        let ports = [NodePorts { node, http }];
        let probe = Probe::new().unwrap();
        let cluster = Cluster { processes: Vec::new(), layout: &layout, ports: &ports, probe };
        let complete = |settings: &[&str]| {
            let settings: Vec<String> = settings.iter().map(|&setting| setting.to_owned()).collect();
            cluster.complete(&settings).map(Result::unwrap).map_err(|error| error.to_string())
        };
        let (trust, roles) = ("--node.trust=distributed", "--node.require-uri-roles=true");
        assert_eq!(complete(&[]).unwrap(), [trust, roles]);
        let own = ["--node.trust", "centralized", "--tombstone-grace=1h"];
        assert_eq!(complete(&own).unwrap(), [&own[..], &[roles]].concat());
        let file = root.path().join("brock.toml");
        std::fs::write(&file, "node.require-uri-roles = false\n").unwrap();
        let in_file = format!("--config={}", file.display());
        assert_eq!(complete(&[&in_file]).unwrap(), [&in_file, trust]);
        // Together with what is chosen, too.
        let refused = complete(&["--tombstone-grace=1h"]).unwrap_err();
        assert!(refused.contains("cannot be used with node.trust=distributed"), "{refused}");
    }
}
