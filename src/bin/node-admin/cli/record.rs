//! The commands on records, conflicts and the quarantine.

use std::path::PathBuf;

use super::values::{self, Wait};
use crate::stamp;
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
        /// The file with the JSON; - for standard input
        #[arg(long, default_value = "-", value_name = "FILE|-")]
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
    /// It stays readable to operators. Revoking it again changes nothing.
    Invalidate {
        #[command(flatten)]
        key: Key,
        /// The reason that applications get: 1 to 1024 bytes
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
    Delete {
        #[command(flatten)]
        key: Key,
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
    /// The key hash (64 hex digits) or the access key id (28 base32 characters)
    // Parsed later: clap would quote a mistyped key, and an access key id must not appear in logs.
    #[arg(value_name = "KEY")]
    pub(crate) key: String,
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
    /// If they do not within the time-out, the exit code is 5, and the operation stands.
    #[arg(long, value_parser = values::wait, value_name = "N|all")]
    pub(crate) wait: Option<Wait>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConflictsCommand {
    /// List the conflicts: for each key the create that won and those that lost
    List,
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
