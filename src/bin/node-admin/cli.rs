//! The command line: what can be asked, and which values are nonsense.

use std::{path::PathBuf, time::Duration};

use brock::ground::{duration, limits};
use clap::{Args, Parser, Subcommand, ValueEnum};

/// The admin tool for Brock nodes.
///
/// Exit codes: 0 done, 1 error, 2 usage, 3 not found, 4 unreachable (nobody could say),
/// 5 invalidated or another precondition, 6 denied, 7 exists already.
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
    /// How long one node may take, connecting included
    #[arg(long, global = true, default_value = "5s", value_parser = positive_duration)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write or show one record
    Record {
        #[command(subcommand)]
        command: RecordCommand,
    },
    /// How a node is, what it has applied, and how its peers are
    Status,
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
        /// The key hash (64 hex digits) or the access key id (28 base32 characters)
        // Kept as text: clap would quote a mistyped one, and an access key id is not for logs.
        #[arg(value_name = "KEY")]
        key: String,
        /// Where the JSON is; - = standard input
        #[arg(long, default_value = "-", value_name = "FILE|-")]
        file: PathBuf,
    },
    /// Show a record, an invalidated one too
    Show {
        /// The key hash (64 hex digits) or the access key id (28 base32 characters)
        // Kept as text: clap would quote a mistyped one, and an access key id is not for logs.
        #[arg(value_name = "KEY")]
        key: String,
        /// From this node alone: do not let it ask its peers
        #[arg(long)]
        local: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Write fresh records
    Put {
        #[command(flatten)]
        load: Load,
    },
    /// Put a set of records, then read them at random
    Get {
        #[command(flatten)]
        load: Load,
        /// How many records to put first
        #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
        keys: u32,
    },
    /// Read at random and write fresh records
    Mixed {
        #[command(flatten)]
        load: Load,
        /// How many records to put first
        #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
        keys: u32,
        /// The share of calls that read
        #[arg(long, default_value_t = 0.9, value_parser = share)]
        reads: f64,
    },
    /// Write to one node and measure when the others hold each record
    Visible(Visible),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Load {
    /// Clients, each with its own connection
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) clients: u32,
    /// How long to measure
    #[arg(long, default_value = "10s", value_parser = positive_duration)]
    pub(crate) duration: Duration,
    /// Bytes of encrypted_access_grant in each record
    #[arg(long, default_value_t = 1024, value_parser = size, value_name = "BYTES")]
    pub(crate) size: usize,
    /// Use BatchPut and BatchGet with this many items per call
    #[arg(long, value_parser = items, conflicts_with = "session", value_name = "N")]
    pub(crate) batch: Option<usize>,
    /// Use one Session stream per client
    #[arg(long)]
    pub(crate) session: bool,
    /// Requests in flight on each Session stream
    #[arg(long, default_value_t = 1, requires = "session", value_parser = depth, value_name = "N")]
    pub(crate) depth: usize,
    /// Operations a second, all clients together, at fixed times whether the node keeps up or
    /// not, with latencies from when each was due; without it, each client goes on as soon as it
    /// has its answer
    #[arg(long, value_parser = rate, value_name = "PER_SECOND")]
    pub(crate) rate: Option<f64>,
    /// Threads of this program [default: as many as there are processors]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) threads: Option<u32>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Visible {
    /// Writes a second
    #[arg(long, default_value = "1000", value_parser = rate, value_name = "PER_SECOND")]
    pub(crate) rate: f64,
    /// How long to write
    #[arg(long, default_value = "10s", value_parser = positive_duration)]
    pub(crate) duration: Duration,
    /// The nodes that must come to hold each record
    #[arg(long, required = true, value_delimiter = ',', value_name = "HOST:PORT[,…]")]
    pub(crate) readers: Vec<String>,
    /// Bytes of encrypted_access_grant in each record
    #[arg(long, default_value_t = 1024, value_parser = size, value_name = "BYTES")]
    pub(crate) size: usize,
    /// Connections that write
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) clients: u32,
    /// How often each reader is asked for what it has not shown yet
    #[arg(long, default_value = "1ms", value_parser = positive_duration)]
    pub(crate) poll: Duration,
    /// How long after the last write the readers may still take
    #[arg(long, default_value = "30s", value_parser = positive_duration)]
    pub(crate) patience: Duration,
}

fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration::parse(text) {
        Ok(Duration::ZERO) => Err("must be longer than 0".to_owned()),
        // A day is longer than anybody means, and keeps sums of instants from overflowing.
        Ok(duration) if duration > Duration::from_secs(86_400) => Err("must be at most 24h".to_owned()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(error.to_string()),
    }
}

fn size(text: &str) -> Result<usize, String> {
    within(text, limits::PAYLOAD_MAX_BYTES)
}

fn items(text: &str) -> Result<usize, String> {
    within(text, limits::BATCH_ITEMS_MAX)
}

fn depth(text: &str) -> Result<usize, String> {
    within(text, limits::SESSION_DEPTH)
}

fn within(text: &str, max: usize) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if (1..=max).contains(&number) => Ok(number),
        _ => Err(format!("must be a whole number from 1 to {max}")),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.001..=1e8).contains(&rate) => Ok(rate),
        _ => Err("must be a number from 0.001 to 100000000".to_owned()),
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("must be a number from 0 to 1".to_owned()),
    }
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
}
