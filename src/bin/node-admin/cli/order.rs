//! The command that signs orders.

use super::{record::Key, values};
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum OrderCommand {
    /// Sign an order with the certificate in --certs-dir, and print it
    ///
    /// It is the message brock.v1.Order, for the field `order` of the request about the same record or member; bytes
    /// are in base64. Nodes accept it for five minutes. No node is asked.
    Sign {
        #[command(subcommand)]
        subject: OrderSubject,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum OrderSubject {
    /// To revoke a record
    #[command(allow_missing_positional = true)]
    Invalidate {
        #[command(flatten)]
        key: Key,
        /// The reason, exactly as in the request
        reason: String,
    },
    /// To make a public record private
    Unpublish {
        #[command(flatten)]
        key: Key,
    },
    /// To delete a record
    Delete {
        #[command(flatten)]
        key: Key,
    },
    /// To retire a member
    Retire {
        /// Its node id, or the HOST:PORT of a node that never answered
        #[arg(value_name = "NODE", value_parser = values::member)]
        node: String,
    },
}
