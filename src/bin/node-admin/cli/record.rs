//! What can be done to one record, and to the ledgers.

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
