//! The commands of the documents are run, in order, with the built binaries, in a directory of their own.
//!
//! `brock dev` and `brock run` go to the background until they are ready, as in a terminal of their own.
//! Names and ports of the examples are replaced by those of the machine that the test runs on: ports by
//! free ones, the hosts `node-N.example.com` by 127.0.0.1, `/var/lib/brock/node` by the directory of node 1.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    os::unix::{fs::symlink, process::CommandExt as _},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};

use super::{
    documents, read,
    script::{self, Step},
};
use crate::harness::{free_port, process::BROCK, take_port};

/// How long one document may take. Generous: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(240);
/// Nodes that the cluster of a document has, and one more that it may start.
const NODES: u16 = 3;

/// What a document's commands find when they begin.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Setting {
    /// An empty directory.
    Alone,
    /// Three nodes that run, `pki` with the certificates, and the variables of `node-admin`.
    Cluster,
}

/// Makes a test for each document, and the list of them.
macro_rules! documents {
    ($($name:ident: $document:literal, $setting:ident;)*) => {
        const RUN: &[&str] = &[$($document),*];
        $(
            #[test]
            fn $name() {
                run($document, Setting::$setting);
            }
        )*
    };
}

documents! {
    the_readme_runs: "README.md", Alone;
    the_tutorial_runs: "docs/tutorial.md", Alone;
    starting_a_cluster_runs: "docs/guides/start-a-cluster.md", Alone;
    backups_run: "docs/guides/backups.md", Alone;
    adding_a_node_runs: "docs/guides/add-a-node.md", Cluster;
    replacing_a_node_runs: "docs/guides/replace-a-node.md", Cluster;
    retiring_a_node_runs: "docs/guides/retire-a-node.md", Cluster;
    node_admin_runs: "docs/guides/node-admin.md", Cluster;
    certificates_run: "docs/guides/certificates.md", Cluster;
    changing_to_distributed_runs: "docs/guides/distributed-trust.md", Cluster;
    revoking_a_key_runs: "docs/guides/revoke-a-key.md", Cluster;
    monitoring_runs: "docs/guides/monitoring.md", Cluster;
    upgrading_runs: "docs/guides/upgrade.md", Cluster;
    changing_an_address_runs: "docs/guides/change-an-address.md", Cluster;
    renaming_a_node_runs: "docs/guides/rename-a-node.md", Cluster;
    rolling_back_runs: "docs/guides/roll-back.md", Cluster;
    repairing_a_database_runs: "docs/guides/repair-a-database.md", Cluster;
    capacity_runs: "docs/guides/capacity.md", Cluster;
    the_audit_log_runs: "docs/guides/audit-log.md", Cluster;
    troubleshooting_runs: "docs/guides/troubleshooting.md", Cluster;
    output_runs: "docs/reference/output.md", Cluster;
}

#[test]
fn every_document_with_commands_is_run() {
    let runs = |document: &String| {
        let steps = script::steps(&read(document)).unwrap_or_else(|error| panic!("{document}: {error}"));
        steps.iter().any(|step| matches!(step, Step::Command(_)))
    };
    // CONTRIBUTING is about building, and the recipe of certs-example has a test of its own (`recipe`).
    let others = ["CONTRIBUTING.md", "certs-example/README.md"];
    let with_commands: BTreeSet<_> = documents()
        .into_iter()
        .filter(|document| !others.contains(&document.as_str()))
        .filter(runs)
        .collect();
    assert_eq!(with_commands, RUN.iter().map(|document| (*document).to_owned()).collect());
}

fn run(document: &str, setting: Setting) {
    let page = read(document);
    let steps = script::steps(&page).unwrap_or_else(|error| panic!("{document}: {error}"));
    assert!(!steps.is_empty(), "{document} has nothing to run");
    let home = tempfile::tempdir().unwrap();
    let places = Places::choose(&steps, home.path());
    let text = shell_script(&steps, setting, &places, home.path());
    let output = output_of(&text, home.path());
    let out = |index: usize| fs::read_to_string(home.path().join(format!("out/{index}"))).unwrap_or_default();
    let logs = || (0..=steps.len()).map(out).collect::<Vec<_>>().join("\n");
    assert!(output.is_ok(), "{document}: {}\n{}\n\n{text}", output.unwrap_err(), logs());
    for (index, step) in steps.iter().enumerate() {
        if let Step::Command(command) = step {
            let shown = out(index);
            let (line, expected) = (command.line, &command.output);
            assert!(script::shows(&shown, expected), "{document}:{line}: expected {expected:?} in\n{shown}");
        }
    }
}

/// What stands for the names and ports of the examples.
struct Places {
    /// In the order in which they are replaced.
    replacements: Vec<(String, String)>,
    /// Where `brock dev` begins.
    base_port: u16,
    /// Of a node that a guide starts without saying where.
    extra: (u16, u16),
}

impl Places {
    fn choose(steps: &[Step], home: &Path) -> Self {
        let base_port = free_ports_in_a_row();
        let extra = (free_port(), free_port());
        let mut replacements = Vec::new();
        for number in 1..=NODES + 1 {
            let index = number - 1;
            let (node, http) =
                if number > NODES { extra } else { (base_port + index, base_port + 1000 + index) };
            replacements.push((format!("node-{number}.example.com:20004"), format!("127.0.0.1:{node}")));
            replacements.push((format!("node-{number}.example.com:20005"), format!("127.0.0.1:{http}")));
            replacements.push((format!("node-{number}.example.com"), "127.0.0.1".to_owned()));
        }
        let cluster = home.join("work/cluster");
        replacements
            .push(("/var/lib/brock/node".to_owned(), cluster.join("node-1/data").display().to_string()));
        let of_dev: BTreeMap<u16, u16> = (0..NODES)
            .flat_map(|index| {
                [(20_004 + index, base_port + index), (21_004 + index, base_port + 1000 + index)]
            })
            .collect();
        let has_dev =
            steps.iter().any(|step| matches!(step, Step::Command(command) if is_dev(&command.text)));
        for port in ports_in(steps) {
            let free = of_dev.get(&port).copied().filter(|_| has_dev).unwrap_or_else(free_port);
            replacements.push((format!("127.0.0.1:{port}"), format!("127.0.0.1:{free}")));
        }
        Self { replacements, base_port, extra }
    }

    fn apply(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (from, to) in &self.replacements {
            text = text.replace(from, to);
        }
        // Also where a loop counts the nodes.
        text = text.replace("node-$n.example.com", "127.0.0.1");
        if is_dev(&text) {
            return text.replacen("brock dev", &format!("brock dev --base-port {}", self.base_port), 1);
        }
        // It asks the node of its own machine: node 1.
        if text.starts_with("brock health") && !text.contains("--http-address") {
            let address = format!("brock health --http-address=127.0.0.1:{}", self.base_port + 1000);
            return text.replacen("brock health", &address, 1);
        }
        if is_run(&text) && !text.contains("--node.address") {
            let (node, http) = self.extra;
            write!(text, " --node.address=127.0.0.1:{node} --http.address=127.0.0.1:{http}").unwrap();
        }
        text
    }
}

fn is_dev(text: &str) -> bool {
    text.starts_with("brock dev ")
}

fn is_run(text: &str) -> bool {
    text.starts_with("brock run ")
}

/// The ports that commands name on this machine.
fn ports_in(steps: &[Step]) -> BTreeSet<u16> {
    let commands = steps.iter().filter_map(|step| match step {
        Step::Command(command) => Some(command.text.as_str()),
        Step::Stop(_) => None,
    });
    commands
        .flat_map(|text| text.split("127.0.0.1:").skip(1))
        .filter_map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok())
        .collect()
}

/// The first of as many ports as `brock dev` needs, free one after the other, and a thousand above.
fn free_ports_in_a_row() -> u16 {
    loop {
        let ports = [(); NODES as usize].map(|()| free_port());
        if ports.windows(2).all(|pair| pair[0] + 1 == pair[1])
            && ports.iter().all(|port| take_port(port + 1000))
        {
            return ports[0];
        }
    }
}

/// The whole document as a script for bash.
fn shell_script(steps: &[Step], setting: Setting, places: &Places, home: &Path) -> String {
    let mut text = PROLOGUE.to_owned();
    if setting == Setting::Cluster {
        prepare_cluster(&mut text, places, home, steps.len());
    }
    for (index, step) in steps.iter().enumerate() {
        let command = match step {
            Step::Stop(node) => {
                writeln!(text, "stop {node}").unwrap();
                continue;
            }
            Step::Command(command) => command,
        };
        let line = places.apply(&command.text);
        writeln!(text, "at='line {}'", command.line).unwrap();
        if is_dev(&line) {
            let dir = value_of(&line, "--dir").unwrap();
            writeln!(text, "{line} >$out/{index} 2>&1 </dev/null &\nready $! dev -e {dir}/cluster.env")
                .unwrap();
        } else if is_run(&line) {
            let node = value_of(&line, "--node.id").unwrap();
            let http = value_of(&line, "--http.address").unwrap();
            writeln!(text, "{line} >$out/{index} 2>&1 </dev/null &\nready $! {node} health {http}").unwrap();
        } else if command.eventually {
            writeln!(text, "eventually() {{\n{line}\n}}\nuntil_it_succeeds >$out/{index} 2>&1 </dev/null")
                .unwrap();
        } else if command.exit == 0 {
            writeln!(text, "{{\n{line}\n}} >$out/{index} 2>&1 </dev/null").unwrap();
        } else {
            writeln!(text, "set +e\n{{\n{line}\n}} >$out/{index} 2>&1 </dev/null").unwrap();
            writeln!(text, "code=$?\nset -e\n[ $code -eq {} ]", command.exit).unwrap();
        }
    }
    text
}

/// Functions of every script. A command that fails ends it; whatever runs then is stopped.
const PROLOGUE: &str = r#"set -eu
declare -A jobs
at=begin
finish() {
    code=$?
    [ $code -eq 0 ] || echo "$at: exit code $code" >&2
    for job in "${jobs[@]}"; do kill "$job" 2>/dev/null || true; done
    wait
    exit $code
}
trap finish EXIT
# ready PROCESS NAME TEST…: waits until a process in the background has become ready.
ready() {
    jobs[$2]=$1
    local process=$1
    shift 2
    until if [ "$1" = health ]; then brock health --http-address "$2" >/dev/null 2>&1; else [ "$@" ]; fi; do
        kill -0 "$process" 2>/dev/null || return 1
        sleep 0.05
    done
}
stop() {
    if [ "${jobs[$1]:-}" ]; then
        kill "${jobs[$1]}" && wait "${jobs[$1]}"
        unset "jobs[$1]"
    else
        for process in $(cat "/proc/${jobs[dev]}/task/"*/children); do
            tr '\0' '\n' <"/proc/$process/cmdline" | grep -qx -- "--node.id=$1" && kill "$process" && return
        done
        return 1
    fi
}
until_it_succeeds() { until eventually; do sleep 0.1; done; }
"#;

fn prepare_cluster(text: &mut String, places: &Places, home: &Path, index: usize) {
    let (work, cluster) = (home.join("work"), home.join("work/cluster"));
    fs::create_dir_all(&cluster).unwrap();
    let pki = work.join("pki");
    fs::create_dir(&pki).unwrap();
    for name in ["ca", "safe", "admin", "client"] {
        symlink(cluster.join(name), pki.join(name)).unwrap();
    }
    for number in 1..=NODES {
        symlink(cluster.join(format!("node-{number}/certs")), pki.join(format!("node-{number}"))).unwrap();
    }
    let base = places.base_port;
    let addresses: Vec<_> = (0..NODES).map(|number| format!("127.0.0.1:{}", base + number)).collect();
    writeln!(text, "brock dev --dir cluster --base-port {base} >$out/{index} 2>&1 </dev/null &").unwrap();
    writeln!(text, "ready $! dev -e cluster/cluster.env").unwrap();
    writeln!(text, "export NODE_ADMIN_CERTS_DIR=pki/admin NODE_ADMIN_NODE_ADDRESSES={}", addresses.join(","))
        .unwrap();
}

/// The value of a flag in a command.
fn value_of<'a>(command: &'a str, flag: &str) -> Option<&'a str> {
    let (_, rest) = command.split_once(flag)?;
    rest.trim_start_matches(['=', ' ']).split_whitespace().next()
}

/// Runs a script to its end, and not for ever.
fn output_of(text: &str, home: &Path) -> Result<(), String> {
    let (work, out) = (home.join("work"), home.join("out"));
    fs::create_dir_all(&work).unwrap();
    fs::create_dir_all(&out).unwrap();
    let binaries = Path::new(BROCK).parent().unwrap().display();
    let mut command = Command::new("bash");
    command.arg("-c").arg(text).current_dir(&work).process_group(0);
    command.env_clear().env("HOME", home).env("out", &out).env("TMPDIR", home);
    command.env("PATH", format!("{binaries}:{}", std::env::var("PATH").unwrap()));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() >= deadline {
            let group = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
            let _ = kill_process_group(group, Signal::TERM);
            let _ = child.wait();
            return Err(format!("it does not end within {PATIENCE:?}"));
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let mut errors = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut errors).unwrap();
    if status.success() { Ok(()) } else { Err(errors) }
}
