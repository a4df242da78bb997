//! The command line and the values that it accepts.

mod audit;
mod bench;
mod order;
mod receipt;
mod record;
mod values;

use std::{path::PathBuf, time::Duration};

use crate::paths;
use brock_core::base::{
    id::{NodeId, Origin},
    limits,
};
use clap::{
    Args, Parser, Subcommand, ValueEnum,
    error::{ContextKind, ContextValue, ErrorKind},
};
use clap_complete::Shell;

pub(crate) use audit::{AuditCommand, Filter};
pub(crate) use bench::{BenchCommand, Load, Revoke, Visible};
pub(crate) use order::{OrderCommand, OrderSubject};
pub(crate) use receipt::ReceiptCommand;
pub(crate) use record::{ConflictsCommand, Key, QuarantineCommand, RecordCommand};
pub(crate) use values::Wait;

/// Names REASON where it is missing: of one argument clap takes the last name, and says that KEY is missing.
pub(crate) fn clarified(mut error: clap::Error) -> clap::Error {
    let lacks_key = matches!(
        error.get(ContextKind::InvalidArg),
        Some(ContextValue::Strings(names)) if names.iter().eq(["<KEY>"])
    );
    let usage = error.get(ContextKind::Usage).map(ToString::to_string).unwrap_or_default();
    if error.kind() == ErrorKind::MissingRequiredArgument && lacks_key && usage.contains("<REASON>") {
        let reason = ContextValue::Strings(vec!["<REASON>".to_owned()]);
        error.insert(ContextKind::InvalidArg, reason);
    }
    error
}

/// The admin tool for Brock nodes.
///
/// Exit codes: 0 done, 1 error, 2 usage, 3 not found, 4 unreachable (no node could tell), 5 invalidated, another
/// failed precondition, or incomplete, 6 denied, 7 exists already, 8 a warning, 9 a critical finding
/// (8 and 9: status --cluster, doctor).
#[derive(Debug, Parser)]
#[command(name = "node-admin", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

// Below the options of the command itself.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Options of all commands")]
pub(crate) struct Global {
    /// Take addresses and certificates from this context, unless a flag or a variable sets them
    #[arg(long, global = true, env = "NODE_ADMIN_CONTEXT", value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// Directory with ca.crt and the certificate and key to use: client.crt/.key or node.crt/.key
    #[arg(long, alias = "node.certs-dir", global = true, env = "NODE_ADMIN_CERTS_DIR", value_name = "DIR", value_parser = paths::literal)]
    pub(crate) certs_dir: Option<PathBuf>,
    /// The nodes to ask, in this order; the first that answers handles the command
    #[arg(
        long,
        alias = "node.address",
        global = true,
        env = "NODE_ADMIN_NODE_ADDRESSES",
        value_name = "HOST:PORT[,…]",
        value_delimiter = ','
    )]
    pub(crate) node_addresses: Vec<String>,
    /// The format of the data on standard output
    #[arg(short, long, global = true, value_enum, default_value_t)]
    pub(crate) output: Format,
    /// When to use colours; auto: on a terminal, unless NO_COLOR is set
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub(crate) color: When,
    /// How long one node may take, connecting included [default: 5s; verify, repair, compact: 60s];
    /// with --wait: how long to wait for the other nodes [default: 10s, at most 5m]
    // Without a default of clap's, because --wait changes the default.
    #[arg(long, global = true, value_parser = values::positive_duration, value_name = "DURATION")]
    pub(crate) timeout: Option<Duration>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Text for people
    #[default]
    Text,
    /// JSON; commands that print entries continuously print one object per line
    Json,
    /// The same values as YAML
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
    /// Create, change, show or trace one record
    Record {
        #[command(subcommand)]
        command: RecordCommand,
    },
    /// Show a node's status: records, applied operations, peers, background tasks
    Status {
        /// Show all nodes, with a verdict first; exit codes 0 well, 8 a warning, 9 a critical finding
        #[arg(long)]
        cluster: bool,
    },
    /// Show how many operations each node lacks, by origin
    Lag {
        /// Repeat until interrupted
        #[arg(long, value_name = "INTERVAL", num_args = 0..=1, default_missing_value = "2s",
            value_parser = values::positive_duration)]
        watch: Option<Duration>,
    },
    /// Show a node's connection to each of its peers: state, round trip, rounds, last success, errors
    Peers {
        /// Show the round trips between all nodes instead
        #[arg(long)]
        matrix: bool,
    },
    /// Check everything between this machine and the cluster, and name the remedy for each problem
    ///
    /// It checks certificates, names, connections, handshakes, clocks, disk, permissions, peers, versions and backups.
    /// It works although nodes are down. Exit codes: 0 all is well, 8 a warning, 9 a failed check.
    Doctor(Doctor),
    /// Collect information for support
    Debug {
        #[command(subcommand)]
        command: DebugCommand,
    },
    /// Show a live view of the cluster: verdict, nodes, lag, peers, rates
    ///
    /// Keys: q quits, Tab or the left and right arrows change the page, the up and down arrows the line, ? shows help.
    Top(Top),
    /// Compare a node's records with those of all its peers; exit codes 0 the same, 5 not yet, 1 they differ
    Verify,
    /// Merge the peers' differing records into a node now, without waiting for the next comparison
    Repair,
    /// List the members, their progress, and the operations that all of them have applied
    Members,
    /// Change the membership
    Member {
        #[command(subcommand)]
        command: MemberCommand,
    },
    /// Show what proves the logs of nodes, vouch for one, and let a paused one go on
    Origin {
        #[command(subcommand)]
        command: OriginCommand,
    },
    /// Show what the nodes believe each other, and how many of their records are not proven
    Trust {
        #[command(subcommand)]
        command: TrustCommand,
    },
    /// Compact a node's log now, and remove deleted payloads from its disk
    Compact,
    /// Make and list a node's backups
    Backup {
        #[command(subcommand)]
        command: BackupCommand,
    },
    /// List and clear a node's alarms
    Alarms {
        #[command(subcommand)]
        command: AlarmsCommand,
    },
    /// Read and verify audit logs: what operators did at a node, and which calls were denied
    Audit {
        #[command(subcommand)]
        command: AuditCommand,
    },
    /// Sign orders for clients that cannot: what destroys a record must be signed where node.trust is distributed
    Order {
        #[command(subcommand)]
        command: OrderCommand,
    },
    /// Verify receipts: what members have signed of the operations that they hold
    Receipt {
        #[command(subcommand)]
        command: ReceiptCommand,
    },
    /// List and acknowledge keys that were created more than once, with different payloads
    Conflicts {
        #[command(subcommand)]
        command: ConflictsCommand,
    },
    /// List and retry operations that a node could not apply
    Quarantine {
        #[command(subcommand)]
        command: QuarantineCommand,
    },
    /// Show a node's replication log: the operations it has applied (its messages are on its standard error)
    Log {
        #[command(subcommand)]
        command: LogCommand,
    },
    /// Measure a node; it writes random records, so do not use it on a production cluster
    Bench {
        #[command(subcommand)]
        command: BenchCommand,
    },
    /// Manage contexts: named addresses and certificates
    ///
    /// Contexts are stored in contexts.toml in $XDG_CONFIG_HOME/brock or ~/.config/brock, or in the file that
    /// BROCK_CONTEXT_FILE names. A flag takes precedence over an environment variable, and that over a context.
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
        /// Write the pages into this directory instead; it is created if it does not exist
        #[arg(long, value_name = "DIR", value_parser = paths::literal)]
        dir: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ContextCommand {
    /// List the contexts; the one in use is marked
    List,
    /// Show a context, by default the one in use
    Show {
        #[arg(value_name = "NAME")]
        name: Option<String>,
    },
    /// Print the name of the context in use
    Current,
    /// Select the context to use
    Use {
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Store the addresses and the certificates directory that flags or the environment name
    ///
    /// A value that is not given stays as it is. The first context is selected automatically.
    Set {
        #[arg(value_name = "NAME", value_parser = values::context_name)]
        name: String,
    },
    /// Delete a context
    Delete {
        #[arg(value_name = "NAME")]
        name: String,
    },
}

#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum AlarmsCommand {
    /// Show the alarms since the start of the node, or since they were cleared
    List,
    /// Clear the alarms after they are dealt with, and show which were cleared
    ///
    /// An alarm whose cause remains is raised again, at the latest when the node starts.
    Clear,
}

#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Doctor {
    /// The configuration file of the node on this machine, to check its settings, certificates, directory, ports and
    /// peers
    #[arg(long, value_name = "FILE", value_parser = paths::literal)]
    pub(crate) config: Option<PathBuf>,
    /// The data directory of the node on this machine
    #[arg(long = "node.path", value_name = "DIR", value_parser = paths::literal)]
    pub(crate) path: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DebugCommand {
    /// Collect the state of the cluster in one tar file that is safe to pass on
    ///
    /// It holds no key, key hash, payload, secret setting or private key. MANIFEST.json lists the contents.
    Bundle(Bundle),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Bundle {
    /// The file to write, which must not exist: .tar, or compressed .tar.gz or .tgz
    #[arg(short, long, value_name = "FILE.tar", value_parser = paths::literal)]
    pub(crate) file: PathBuf,
    /// The HTTP addresses of nodes, to add their metrics
    #[arg(long, alias = "http.address", value_delimiter = ',', value_name = "HOST:PORT[,…]")]
    pub(crate) http_address: Vec<String>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Top {
    /// How often to update
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
    /// JSON output has one object per line.
    Tail(Tail),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Tail {
    /// Start with this many of the newest entries, at most 10000
    #[arg(short = 'n', long, default_value_t = 10, value_name = "N",
        value_parser = clap::value_parser!(u32).range(..=i64::from(limits::TAIL_LAST_MAX)))]
    pub(crate) last: u32,
    /// Print new entries as they arrive, until interrupted
    #[arg(short, long)]
    pub(crate) follow: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum MemberCommand {
    /// Remove a member that never returns, on every node that answers
    ///
    /// The order is signed with your certificate, so that every node can verify it. Nodes then no longer wait for the
    /// member. If it returns all the same, it resyncs from a peer. A member that is connected is refused with exit code
    /// 5.
    Retire {
        /// Its node id, or the HOST:PORT of a node that never answered
        #[arg(value_name = "NODE", value_parser = values::member)]
        node: String,
        /// Do not ask for confirmation
        #[arg(long)]
        yes: bool,
        /// Retire it even while it is connected
        #[arg(long)]
        connected: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum OriginCommand {
    /// List the origins that a node knows: incarnations of nodes, each with a log of its own, and what proves them
    ///
    /// An origin that is not believed fills no empty node whose node.trust is distributed.
    List,
    /// Vouch for an origin whose certificate is not accepted any more, at a node and its peers
    ///
    /// The statement is signed with your certificate, and kept and passed on in place of the node's own signature. Exit
    /// code 5: its certificate is accepted, so nothing is to be done.
    Vouch {
        /// The origin, as `origin list` shows it
        #[arg(value_name = "ORIGIN", value_parser = values::origin)]
        origin: Origin,
        /// Do not ask for confirmation
        #[arg(long)]
        yes: bool,
    },
    /// Close the logs of a node whose certificate was stolen and revoked, where the members have them now
    ///
    /// The order is signed with your certificate; every node in --node-addresses gets it, and the others learn it from
    /// these. From then on no node accepts more of these logs, from whichever node it comes. Every member must answer,
    /// but for the node itself, which must not run: start it with its new certificate afterwards.
    Close {
        /// The node whose logs they are
        #[arg(value_name = "NODE")]
        node: NodeId,
        /// Do not ask for confirmation
        #[arg(long)]
        yes: bool,
    },
    /// Acknowledge a frozen origin that is dealt with: `status --cluster` no longer mentions it
    ///
    /// It acts on all nodes in --node-addresses, because each node keeps its own note. The origin stays frozen, and
    /// `status` and `trust status` go on listing it.
    Ack {
        /// The origin, as `status` shows it
        #[arg(value_name = "ORIGIN", value_parser = values::origin)]
        origin: Origin,
    },
    /// Let a paused log go on, at every node in --node-addresses
    ///
    /// A node pauses the log of another one that invalidates, unpublishes and deletes more than node.destruction-limit
    /// in a minute; `status` shows it. After this, what the log has by now is applied, whatever it destroys.
    Resume {
        /// The node whose log it is, as `status` shows it
        #[arg(value_name = "NODE", value_parser = values::node_id)]
        node: String,
        /// Do not ask for confirmation
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum TrustCommand {
    /// Show node.trust of each node, whether it signs, what is not proven there, and which origins are frozen
    ///
    /// UNPROVEN: records of which an operation is signed by no origin, or destroys without an operator's order. They
    /// fill no node whose node.trust is distributed; `trust migrate` logs them again. Not counted: records whose
    /// operator's certificate was revoked afterwards, which fill no such node either. UNBORN: incarnations that have
    /// signed nothing. UNBELIEVED: those that have, and whose certificate is not accepted any more; `origin list` says
    /// why. Exit code 5: a node has unproven records.
    Status,
    /// Log again, at one node and in its name, what of its records is not proven
    ///
    /// For a cluster whose operations were not signed, before node.trust becomes distributed. The records stay as they
    /// are. What is invalidated, unpublished or deleted gets an order, signed with your certificate. Interrupted, it
    /// can be repeated, at any node. Exit code 5: some records are not proven yet, because others came meanwhile; 2:
    /// the node signs nothing, or your certificate signs no orders.
    Migrate {
        /// Do not ask for confirmation
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum BackupCommand {
    /// Make a backup now: an incremental one, or a full one if that is due
    Now {
        /// Make a full backup
        #[arg(long)]
        full: bool,
    },
    /// List the backups, oldest first
    List,
    /// Show the newest backup whose key contains KEY
    Show {
        #[arg(value_name = "KEY")]
        key: String,
    },
}

#[cfg(test)]
mod tests;
