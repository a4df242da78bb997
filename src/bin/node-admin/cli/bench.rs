//! The measurements.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::values::{depth, items, positive_duration, rate, share, size};

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Create records
    Put {
        #[command(flatten)]
        load: Load,
    },
    /// Create a set of records, then read them at random
    Get {
        #[command(flatten)]
        load: Load,
        /// How many records to create first
        #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
        keys: u32,
    },
    /// Read at random and create records
    Mixed {
        #[command(flatten)]
        load: Load,
        /// How many records to create first
        #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
        keys: u32,
        /// The share of calls that read
        #[arg(long, default_value_t = 0.9, value_parser = share)]
        reads: f64,
    },
    /// Create records at one node and measure when the others hold each of them
    Visible(Visible),
    /// Revoke records at one node and measure when the others refuse each of them
    Revoke(Revoke),
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
    /// Operations per second of all clients together, at fixed times whether or not the node keeps up;
    /// latencies count from when each was due. Without it, each client sends its next operation when it
    /// has its answer
    #[arg(long, value_parser = rate, value_name = "PER_SECOND")]
    pub(crate) rate: Option<f64>,
    /// Threads of this program [default: one per processor]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) threads: Option<u32>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Visible {
    /// Writes per second
    #[arg(long, default_value = "1000", value_parser = rate, value_name = "PER_SECOND")]
    pub(crate) rate: f64,
    /// How long to write
    #[arg(long, default_value = "10s", value_parser = positive_duration)]
    pub(crate) duration: Duration,
    /// The nodes that must hold each record in the end
    #[arg(long, required = true, value_delimiter = ',', value_name = "HOST:PORT[,…]")]
    pub(crate) readers: Vec<String>,
    /// Bytes of encrypted_access_grant in each record
    #[arg(long, default_value_t = 1024, value_parser = size, value_name = "BYTES")]
    pub(crate) size: usize,
    /// Connections for the writes
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) clients: u32,
    /// How often to ask each reader for the records that it has not shown yet
    #[arg(long, default_value = "1ms", value_parser = positive_duration)]
    pub(crate) poll: Duration,
    /// How long to wait for the readers after the last write
    #[arg(long, default_value = "30s", value_parser = positive_duration)]
    pub(crate) patience: Duration,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Revoke {
    /// How many records to create first, and then to revoke one by one
    #[arg(long, visible_alias = "keys", default_value_t = 200,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) count: u32,
    /// Revocations per second
    #[arg(long, default_value = "20", value_parser = rate, value_name = "PER_SECOND")]
    pub(crate) rate: f64,
    /// The nodes that must refuse each record in the end
    #[arg(long, required = true, value_delimiter = ',', value_name = "HOST:PORT[,…]")]
    pub(crate) readers: Vec<String>,
    /// Bytes of encrypted_access_grant in each record
    #[arg(long, default_value_t = 1024, value_parser = size, value_name = "BYTES")]
    pub(crate) size: usize,
    /// How often to ask each reader for the records that it has not refused yet
    #[arg(long, default_value = "1ms", value_parser = positive_duration)]
    pub(crate) poll: Duration,
    /// How long to wait for the readers to hold all records, and after the last revocation to refuse them
    #[arg(long, default_value = "30s", value_parser = positive_duration)]
    pub(crate) patience: Duration,
}
