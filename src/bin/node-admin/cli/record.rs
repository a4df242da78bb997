//! The commands on records, conflicts and the quarantine.

use std::path::PathBuf;

use super::values::{self, Wait};
use crate::{paths, stamp};
use brock_core::base::vector::Stamp;
use clap::{Args, Subcommand};

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
        /// The file with the JSON; - for standard input, which ends with Ctrl-D on a terminal
        #[arg(long, default_value = "-", value_name = "FILE|-", value_parser = paths::literal)]
        file: PathBuf,
        /// Take the times as they are: the record comes from another database and may have expired
        #[arg(long)]
        import: bool,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Show a record, even an invalidated one
    Show {
        #[command(flatten)]
        key: Key,
        /// Read from this node only; it does not ask its peers
        #[arg(long)]
        local: bool,
    },
    /// Revoke a record: applications that use it are refused with the reason
    ///
    /// It stays readable to operators. Revoking it again changes nothing. The other nodes pause the log of a node that
    /// revokes and deletes more than node.destruction-limit (1000) in a minute: see origin resume.
    // With --key-file, the only argument is REASON.
    #[command(allow_missing_positional = true)]
    Invalidate {
        #[command(flatten)]
        key: Key,
        /// The reason that applications get: 1 to 1024 bytes, not only blanks
        reason: String,
        #[command(flatten)]
        change: Change,
    },
    /// Make a public record private
    Unpublish {
        #[command(flatten)]
        key: Key,
        #[command(flatten)]
        change: Change,
    },
    /// Delete a record and its payload permanently
    ///
    /// On a terminal it asks for confirmation. A deleted key can never be used again.
    Delete {
        #[command(flatten)]
        key: Key,
        /// Do not ask for confirmation
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        change: Change,
    },
    /// Show what each node knows of a record, and why nodes lack an operation on it
    Trace {
        #[command(flatten)]
        key: Key,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Key {
    /// The key hash (64 hex digits) or the access key id (28 base32 characters); - reads it from standard input
    // Parsed later: clap would quote a mistyped key, and an access key id must not appear in logs.
    #[arg(value_name = "KEY", required_unless_present = "key_file")]
    pub(crate) key: Option<String>,
    /// Read KEY from this file, or from standard input (-): arguments are visible to other users
    #[arg(long, value_name = "FILE|-", conflicts_with = "key", value_parser = paths::literal)]
    pub(crate) key_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Change {
    /// Accept it even if no node has the record; it takes effect when the record arrives
    #[arg(long)]
    pub(crate) ahead: bool,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
}

#[derive(Debug, Args)]
pub(crate) struct Waiting {
    /// Wait until this many other members hold the operation too, or all of them [default: 0]
    ///
    /// If they do not within the time-out, the exit code is 5, and the operation stands. Without --wait the answer
    /// says nothing about other members.
    #[arg(long, value_parser = values::wait, value_name = "N|all")]
    pub(crate) wait: Option<Wait>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConflictsCommand {
    /// List the conflicts: for each key the create that won and those that lost
    List,
    /// Acknowledge conflicts that are dealt with: `status --cluster` no longer counts them
    ///
    /// It acts on all nodes in --node-addresses, because each node keeps its own note. The conflicts stay in the
    /// list. Another payload of the same key that loses later is a new conflict.
    #[command(group = clap::ArgGroup::new("acknowledged").required(true))]
    Ack {
        /// The key hash that `conflicts list` shows
        #[arg(value_name = "KEY", group = "acknowledged")]
        key: Option<String>,
        /// All conflicts that a node lists
        #[arg(long, group = "acknowledged")]
        all: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum QuarantineCommand {
    /// List the operations and why they could not be applied
    List,
    /// Show one operation with its bytes as the node received them
    Show {
        /// The operation: ORIGIN:CLOCK, such as node-1/9f3c2a10:42
        #[arg(value_name = "STAMP", value_parser = stamp::parse)]
        stamp: Stamp,
    },
    /// Try again to apply one operation, or all
    Retry {
        #[command(flatten)]
        which: Which,
    },
    /// Discard one operation, or all
    ///
    /// If peers could apply it, a repair restores the record from them.
    Drop {
        #[command(flatten)]
        which: Which,
        /// Do not ask for confirmation
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Which {
    /// The operation: ORIGIN:CLOCK, such as node-1/9f3c2a10:42
    #[arg(value_name = "STAMP", value_parser = stamp::parse)]
    pub(crate) stamp: Option<Stamp>,
    /// All operations
    #[arg(long)]
    pub(crate) all: bool,
}
