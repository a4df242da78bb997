//! The command line: what can be asked, and which values are nonsense.

mod bench;
mod values;

use std::{path::PathBuf, time::Duration};

use brock::ground::clock::Stamp;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::stamp;

pub(crate) use bench::{BenchCommand, Load, Revoke, Visible};
pub(crate) use values::Wait;

/// The admin tool for Brock nodes.
///
/// Exit codes: 0 done, 1 error, 2 usage, 3 not found, 4 unreachable (nobody could say),
/// 5 invalidated, another precondition, or not everything yet, 6 denied, 7 exists already.
#[derive(Debug, Parser)]
#[command(name = "node-admin", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Directory with ca.crt and the certificate and key to show: client.crt/.key or node.crt/.key
    #[arg(long, global = true, env = "NODE_ADMIN_CERTS_DIR", value_name = "DIR")]
    pub(crate) certs_dir: Option<PathBuf>,
    /// The nodes to ask, in this order; the first that answers is the one that does it
    #[arg(
        long,
        global = true,
        env = "NODE_ADMIN_NODE_ADDRESSES",
        value_name = "HOST:PORT[,…]",
        value_delimiter = ','
    )]
    pub(crate) node_addresses: Vec<String>,
    /// How to print data
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Text)]
    pub(crate) output: Format,
    /// How long one node may take, connecting included [default: 5s; verify, repair, compact: 60s];
    /// with --wait: how long to wait for the other nodes [default: 10s, at most 5m]
    // No default of clap's: with --wait, whether it was given makes a difference.
    #[arg(long, global = true, value_parser = values::positive_duration, value_name = "DURATION")]
    pub(crate) timeout: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write, change, show or follow one record
    Record {
        #[command(subcommand)]
        command: RecordCommand,
    },
    /// How a node is, what it has applied, and how its peers are
    Status,
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
    /// Measure a node; writes random records, so not for a cluster in service
    Bench {
        #[command(subcommand)]
        command: BenchCommand,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum RecordCommand {
    /// Create a record from JSON
    ///
    /// Fields: public (true or false), satellite_address, macaroon_head and public_project_id
    /// (hex), expires_at_unix (0 = never), encrypted_secret_key and encrypted_access_grant
    /// (base64). All but encrypted_access_grant may be left out.
    Put {
        #[command(flatten)]
        key: Key,
        /// Where the JSON is; - = standard input
        #[arg(long, default_value = "-", value_name = "FILE|-")]
        file: PathBuf,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Show a record, an invalidated one too
    Show {
        #[command(flatten)]
        key: Key,
        /// From this node alone: do not let it ask its peers
        #[arg(long)]
        local: bool,
    },
    /// Revoke a record: whoever uses it is refused, and told the reason
    ///
    /// It stays readable to operators. Doing it twice does nothing more.
    Invalidate {
        #[command(flatten)]
        key: Key,
        /// Why, for whoever uses the key: 1 to 1024 bytes
        reason: String,
        #[command(flatten)]
        change: Change,
    },
    /// Take `public` from a record
    Unpublish {
        #[command(flatten)]
        key: Key,
        #[command(flatten)]
        change: Change,
    },
    /// Remove a record and its payload, for good
    Delete {
        #[command(flatten)]
        key: Key,
        #[command(flatten)]
        change: Change,
    },
    /// Where every node has come with one record, and why some have not come further
    Trace {
        #[command(flatten)]
        key: Key,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Key {
    /// The key hash (64 hex digits) or the access key id (28 base32 characters)
    // Kept as text: clap would quote a mistyped one, and an access key id is not for logs.
    #[arg(value_name = "KEY")]
    pub(crate) key: String,
}

#[derive(Debug, Args)]
pub(crate) struct Change {
    /// Also if no node has the record: it takes effect whenever the record turns up
    #[arg(long)]
    pub(crate) ahead: bool,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
}

#[derive(Debug, Args)]
pub(crate) struct Waiting {
    /// End only when this many other members hold it too, or all of them [default: 0]
    ///
    /// When they do not within the time-out, the exit code is 5, and the operation stands.
    #[arg(long, value_parser = values::wait, value_name = "N|all")]
    pub(crate) wait: Option<Wait>,
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

#[derive(Debug, Subcommand)]
pub(crate) enum ConflictsCommand {
    /// List them: the create that won, and those that lost
    List,
}

#[derive(Debug, Subcommand)]
pub(crate) enum QuarantineCommand {
    /// List them, and why they could not be applied
    List,
    /// Show one, with its bytes as they came
    Show {
        /// Which: ORIGIN:CLOCK, such as node-1/9f3c2a10:42
        #[arg(value_name = "STAMP", value_parser = stamp::parse)]
        stamp: Stamp,
    },
    /// Try to apply one again, or all
    Retry {
        #[command(flatten)]
        which: Which,
    },
    /// Forget one, or all
    ///
    /// What peers could apply, a repair brings back from them.
    Drop {
        #[command(flatten)]
        which: Which,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Which {
    /// Which: ORIGIN:CLOCK, such as node-1/9f3c2a10:42
    #[arg(value_name = "STAMP", value_parser = stamp::parse)]
    pub(crate) stamp: Option<Stamp>,
    /// All of them
    #[arg(long)]
    pub(crate) all: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn good_lines_are_read_and_nonsense_is_refused() {
        let hash = "ab".repeat(32);
        for (line, good) in [
            (format!("record show {hash} --local"), true),
            (format!("--certs-dir d --node-addresses a:1,b:2 -o json record put {hash} --file -"), true),
            ("status --certs-dir d --node-addresses a:1 --timeout 100ms".to_owned(), true),
            ("bench put --clients 256 --duration 2s --size 512 --batch 100".to_owned(), true),
            ("bench get --session --depth 16 --keys 5 --rate 1000".to_owned(), true),
            ("bench mixed --reads 0.5".to_owned(), true),
            ("bench visible --rate 1000 --readers a:1,b:2".to_owned(), true),
            (format!("record put {hash} --wait all"), true),
            (format!("record invalidate {hash} leaked --ahead --wait 2 --timeout 30s"), true),
            (format!("record unpublish {hash} --wait 0"), true),
            (format!("record delete {hash} --wait all"), true),
            (format!("record trace {hash} -o json"), true),
            ("verify --timeout 5m".to_owned(), true),
            ("repair".to_owned(), true),
            ("members".to_owned(), true),
            ("member retire node-3 --yes".to_owned(), true),
            ("member retire node3.example.com:20004".to_owned(), true),
            ("compact".to_owned(), true),
            ("conflicts list".to_owned(), true),
            ("quarantine list".to_owned(), true),
            ("quarantine show node-1/9f3c2a10:42".to_owned(), true),
            ("quarantine retry node-1/9f3c2a10:42".to_owned(), true),
            ("quarantine drop --all --yes".to_owned(), true),
            ("bench revoke --readers a:1,b:2".to_owned(), true),
            ("bench revoke --readers a:1 --keys 10 --rate 5".to_owned(), true),
            (format!("record invalidate {hash}"), false),
            (format!("record delete {hash} --wait most"), false),
            (format!("record show {hash} --wait 1"), false),
            ("member retire a/b".to_owned(), false),
            ("member retire node3:no".to_owned(), false),
            ("quarantine show node-1:42".to_owned(), false),
            ("quarantine retry".to_owned(), false),
            ("quarantine drop node-1/9f3c2a10:42 --all".to_owned(), false),
            ("quarantine retry --all --yes".to_owned(), false),
            ("bench revoke".to_owned(), false),
            ("bench revoke --readers a:1 --count 0".to_owned(), false),
            ("bench put --batch 1001".to_owned(), false),
            ("bench put --batch 10 --session".to_owned(), false),
            ("bench put --depth 10".to_owned(), false),
            ("bench mixed --reads 1.5".to_owned(), false),
            ("bench put --duration 0s".to_owned(), false),
            ("bench visible".to_owned(), false),
            ("status --timeout soon".to_owned(), false),
        ] {
            let words = std::iter::once("node-admin").chain(line.split(' '));
            assert_eq!(Cli::try_parse_from(words).is_ok(), good, "{line}");
        }
    }

    #[test]
    fn whether_a_time_out_was_given_can_be_told() {
        let timeout = |line: &str| {
            let words = std::iter::once("node-admin").chain(line.split(' '));
            Cli::try_parse_from(words).unwrap().global.timeout
        };
        assert_eq!(timeout("status"), None);
        assert_eq!(timeout("status --timeout 5s"), Some(Duration::from_secs(5)));
    }

    #[test]
    fn a_wait_is_a_number_or_all() {
        assert_eq!(values::wait("0"), Ok(Wait::Nodes(0)));
        assert_eq!(values::wait("2"), Ok(Wait::Nodes(2)));
        assert_eq!(values::wait("all"), Ok(Wait::All));
        for text in ["", "-1", "ALL", "1.5", "4294967296"] {
            assert!(values::wait(text).is_err(), "{text:?}");
        }
    }
}
