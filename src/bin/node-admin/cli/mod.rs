//! The command line: what can be asked, and which values are nonsense.

mod audit;
mod bench;
mod record;
mod values;

use std::{path::PathBuf, time::Duration};

use brock_core::base::limits;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

pub(crate) use audit::{AuditCommand, Filter};
pub(crate) use bench::{BenchCommand, Load, Revoke, Visible};
pub(crate) use record::{ConflictsCommand, Key, QuarantineCommand, RecordCommand};
pub(crate) use values::Wait;

/// The admin tool for Brock nodes.
///
/// Exit codes: 0 done, 1 error, 2 usage, 3 not found, 4 unreachable (nobody could say),
/// 5 invalidated, another precondition, or not everything yet, 6 denied, 7 exists already,
/// 8 something deserves a look, 9 something needs somebody (status --cluster, doctor).
#[derive(Debug, Parser)]
#[command(name = "node-admin", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Global {
    /// Take addresses and certificates from this context, where no flag or variable says otherwise
    #[arg(long, global = true, env = "NODE_ADMIN_CONTEXT", value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// Directory with ca.crt and the certificate and key to show: client.crt/.key or node.crt/.key
    #[arg(long, alias = "node.certs-dir", global = true, env = "NODE_ADMIN_CERTS_DIR", value_name = "DIR")]
    pub(crate) certs_dir: Option<PathBuf>,
    /// The nodes to ask, in this order; the first that answers is the one that does it
    #[arg(
        long,
        alias = "node.address",
        global = true,
        env = "NODE_ADMIN_NODE_ADDRESSES",
        value_name = "HOST:PORT[,…]",
        value_delimiter = ','
    )]
    pub(crate) node_addresses: Vec<String>,
    /// How to print data
    #[arg(short, long, global = true, value_enum, default_value_t)]
    pub(crate) output: Format,
    /// When to use colours; auto: on a terminal, unless NO_COLOR is set
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub(crate) color: When,
    /// How long one node may take, connecting included [default: 5s; verify, repair, compact: 60s];
    /// with --wait: how long to wait for the other nodes [default: 10s, at most 5m]
    // No default of clap's: with --wait, whether it was given makes a difference.
    #[arg(long, global = true, value_parser = values::positive_duration, value_name = "DURATION")]
    pub(crate) timeout: Option<Duration>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Text,
    /// For programs; one object in each line where entries follow one another
    Json,
    /// The same as YAML
    Yaml,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    #[default]
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write, change, show or follow one record
    Record {
        #[command(subcommand)]
        command: RecordCommand,
    },
    /// How a node is, what it has applied, and how its peers are
    Status {
        /// All nodes: the verdict first; exit codes 0 well, 8 something deserves a look, 9 something needs somebody
        #[arg(long)]
        cluster: bool,
    },
    /// What each node lacks of what any node has, by origin
    Lag {
        /// Again and again, until interrupted
        #[arg(long, value_name = "INTERVAL", num_args = 0..=1, default_missing_value = "2s",
            value_parser = values::positive_duration)]
        watch: Option<Duration>,
    },
    /// How a node gets on with each of its peers: state, round trip, rounds, last success, errors
    Peers {
        /// The round trips between all nodes instead
        #[arg(long)]
        matrix: bool,
    },
    /// Look for what is wrong between here and the cluster, and say what to do about it
    ///
    /// Certificates, names, connections, handshakes, clocks, disk, permissions, peers, versions, backups. It works
    /// although nodes are down. Exit codes: 0 all is well, 8 something deserves a look, 9 something is wrong.
    Doctor(Doctor),
    /// What a person who helps needs to know
    Debug {
        #[command(subcommand)]
        command: DebugCommand,
    },
    /// A live view of the cluster: verdict, nodes, lag, peers, rates
    ///
    /// Keys: q leaves, Tab or the left and right arrows choose a page, the up and down arrows a line, ? shows them.
    Top(Top),
    /// Compare a node's records with those of all its peers: 0 the same, 5 not yet, 1 they differ
    Verify,
    /// Join the records that differ from the peers' now, without waiting for the next comparison
    Repair,
    /// The nodes that a node counts on, how far they are, and what every one of them has applied
    Members,
    /// Change what a node counts on
    Member {
        #[command(subcommand)]
        command: MemberCommand,
    },
    /// Compact a node's log now, and remove deleted payloads from its disk
    Compact,
    /// A node's backups
    Backup {
        #[command(subcommand)]
        command: BackupCommand,
    },
    /// What a node wants somebody to look into
    Alarms {
        #[command(subcommand)]
        command: AlarmsCommand,
    },
    /// What operators have done at a node, and who was denied what
    Audit {
        #[command(subcommand)]
        command: AuditCommand,
    },
    /// Keys that were created more than once, with different payloads
    Conflicts {
        #[command(subcommand)]
        command: ConflictsCommand,
    },
    /// Operations that a node could not apply
    Quarantine {
        #[command(subcommand)]
        command: QuarantineCommand,
    },
    /// A node's log
    Log {
        #[command(subcommand)]
        command: LogCommand,
    },
    /// Measure a node; writes random records, so not for a cluster in service
    Bench {
        #[command(subcommand)]
        command: BenchCommand,
    },
    /// Named addresses and certificates, so that they need not be repeated
    ///
    /// They are kept in contexts.toml, in $XDG_CONFIG_HOME/brock or ~/.config/brock, or where
    /// BROCK_CONTEXT_FILE says. A flag counts more than an environment variable, and that more than a context.
    Context {
        #[command(subcommand)]
        command: ContextCommand,
    },
    /// Print a shell's completion script
    Completion {
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Print the manual page, or write one for each command
    Man {
        /// Write the pages there instead; made if it does not exist
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ContextCommand {
    /// List the contexts; the one in use is marked
    List,
    /// Show one, or the one in use
    Show {
        #[arg(value_name = "NAME")]
        name: Option<String>,
    },
    /// Say which one is in use
    Current,
    /// Use one from now on
    Use {
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Keep the addresses and the certificates directory that the flags and the environment name
    ///
    /// What is not given stays as it is. The first context that is made is used from then on.
    Set {
        #[arg(value_name = "NAME", value_parser = values::context_name)]
        name: String,
    },
    /// Forget one
    Delete {
        #[arg(value_name = "NAME")]
        name: String,
    },
}

#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum AlarmsCommand {
    /// Show the alarms that there have been since the start of the node, or since they were cleared
    List,
    /// Forget them, once they are dealt with, and show which they were
    ///
    /// What has stayed as it was is found again, at the latest when the node starts the next time.
    Clear,
}

#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Doctor {
    /// The configuration file of the node on this machine: its settings, certificates, directory, ports and peers
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The directory of the data of the node on this machine
    #[arg(long = "node.path", value_name = "DIR")]
    pub(crate) path: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DebugCommand {
    /// Collect how the cluster is into one file that may be given away
    ///
    /// No key, key hash, payload, secret setting or private key is in it. MANIFEST.json says what is.
    Bundle(Bundle),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Bundle {
    /// Where to write it, as a tar file; must not exist
    #[arg(short, long, value_name = "FILE.tar")]
    pub(crate) file: PathBuf,
    /// Where nodes answer HTTP, to add their metrics
    #[arg(long, alias = "http.address", value_delimiter = ',', value_name = "HOST:PORT[,…]")]
    pub(crate) http_address: Vec<String>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Top {
    /// How often to look
    #[arg(long, default_value = "2s", value_name = "DURATION", value_parser = values::positive_duration)]
    pub(crate) interval: Duration,
    /// Print one frame, for scripts; needs no terminal
    #[arg(long)]
    pub(crate) once: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// Show the newest entries, in the order in which they became visible at the node
    ///
    /// As JSON, one object in each line.
    Tail(Tail),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Tail {
    /// Begin with this many of the newest entries, at most 10000
    #[arg(short = 'n', long, default_value_t = 10, value_name = "N",
        value_parser = clap::value_parser!(u32).range(..=i64::from(limits::TAIL_LAST_MAX)))]
    pub(crate) last: u32,
    /// Go on with what comes, until interrupted
    #[arg(short, long)]
    pub(crate) follow: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum MemberCommand {
    /// Wait no more for a member that never returns, on every node that answers
    ///
    /// Should it return all the same, it is filled anew from a peer's records.
    Retire {
        /// Its node id, or the HOST:PORT of a node that never answered
        #[arg(value_name = "NODE", value_parser = values::member)]
        node: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum BackupCommand {
    /// Make one now: what was done since the last one, or everything if that is due
    Now {
        /// Everything, whatever is due
        #[arg(long)]
        full: bool,
    },
    /// List them, oldest first
    List,
    /// Show the newest whose key contains this
    Show {
        #[arg(value_name = "KEY")]
        key: String,
    },
}

#[cfg(test)]
mod tests;
