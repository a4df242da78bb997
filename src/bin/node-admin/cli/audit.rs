//! What can be asked of an audit log.

use std::path::PathBuf;

use super::values;
use brock::audit::entry::Head;
use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Show the last line of a node's audit log, to be noted where nobody changes it
    Head,
    /// Show the lines of audit logs on this machine; nodes and certificates are not needed
    ///
    /// As JSON: one line each, as they are in the files.
    List {
        /// Directories with an audit log, or files of one
        #[arg(required = true, value_name = "DIR|FILE")]
        places: Vec<PathBuf>,
        #[command(flatten)]
        filter: Filter,
    },
    /// Check that audit logs on this machine are what a node wrote: 0 they are, 1 they are not,
    /// 5 lines before the first are not here
    ///
    /// Lines that were cut off the end show only by a head that was noted elsewhere.
    Verify {
        /// Directories with an audit log, or all files of one
        #[arg(required = true, value_name = "DIR|FILE")]
        places: Vec<PathBuf>,
        /// A line that must be there, as `audit head` once showed it
        #[arg(long, value_parser = values::head, value_name = "NUMBER:HASH")]
        head: Option<Head>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Filter {
    /// Only from then on: how long ago, or an RFC 3339 time
    #[arg(long, value_parser = values::moment_unix_ms, value_name = "DURATION|TIME")]
    pub(crate) since: Option<u64>,
    /// Only before then
    #[arg(long, value_parser = values::moment_unix_ms, value_name = "DURATION|TIME")]
    pub(crate) until: Option<u64>,
    /// Only by whoever has this name, role, serial number, fingerprint or address
    #[arg(long, value_name = "WHO")]
    pub(crate) who: Option<String>,
    /// Only this call, such as Invalidate
    #[arg(long, value_name = "METHOD")]
    pub(crate) method: Option<String>,
    /// Only what was denied
    #[arg(long)]
    pub(crate) denied: bool,
    /// Only about this record: its key hash (64 hex digits) or access key id
    // Kept as text: clap would quote a mistyped one, and an access key id is not for logs.
    #[arg(long, visible_alias = "key-hash", value_name = "KEY")]
    pub(crate) key: Option<String>,
}
