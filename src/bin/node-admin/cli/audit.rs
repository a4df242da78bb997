//! The commands on audit logs.

use std::path::PathBuf;

use super::values;
use crate::paths;
use brock::audit::entry::Head;
use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Print the head of a node's audit log, to be kept in a safe place
    Head,
    /// Show lines of audit logs on this machine; needs no node and no certificates
    ///
    /// JSON output has the lines as they are in the files.
    List {
        /// Directories of audit logs, or their files
        #[arg(required = true, value_name = "DIR|FILE", value_parser = paths::literal)]
        places: Vec<PathBuf>,
        #[command(flatten)]
        filter: Filter,
    },
    /// Verify that audit logs on this machine are what a node wrote; exit codes 0 they are, 1 they are not, 5 earlier
    /// lines are not here
    ///
    /// Only a head that was kept elsewhere shows that lines were cut off the end.
    Verify {
        /// The directories of one node's audit log, or all its files
        #[arg(required = true, value_name = "DIR|FILE", value_parser = paths::literal)]
        places: Vec<PathBuf>,
        /// A line that must be there, as `audit head` printed it
        #[arg(long, value_parser = values::head, value_name = "NUMBER:HASH")]
        head: Option<Head>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Filter {
    /// Only lines from this time on: how long ago, or an RFC 3339 time
    #[arg(long, value_parser = values::moment_unix_ms, value_name = "DURATION|TIME")]
    pub(crate) since: Option<u64>,
    /// Only lines before this time
    #[arg(long, value_parser = values::moment_unix_ms, value_name = "DURATION|TIME")]
    pub(crate) until: Option<u64>,
    /// Only calls of the caller with this name, role, serial number, fingerprint or address
    #[arg(long, value_name = "WHO")]
    pub(crate) who: Option<String>,
    /// Only this method, such as Invalidate
    #[arg(long, value_parser = values::method, value_name = "METHOD")]
    pub(crate) method: Option<String>,
    /// Only denied calls
    #[arg(long)]
    pub(crate) denied: bool,
    /// Only calls about this record: its key hash (64 hex digits) or access key id; - reads it from standard input
    // Parsed later: clap would quote a mistyped key, and an access key id must not appear in logs.
    #[arg(long, visible_alias = "key-hash", value_name = "KEY")]
    pub(crate) key: Option<String>,
    /// Read that key from this file, or from standard input (-): arguments are visible to other users
    #[arg(long, value_name = "FILE|-", conflicts_with = "key", value_parser = paths::literal)]
    pub(crate) key_file: Option<PathBuf>,
}
