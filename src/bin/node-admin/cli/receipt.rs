//! The command that verifies receipts.

use std::path::PathBuf;

use crate::paths;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum ReceiptCommand {
    /// Verify what a command printed with --wait and -o json, against the CAs in --certs-dir
    ///
    /// A holder is proven if it has signed the hash of a log that the operation is in. No node is asked, and of
    /// --certs-dir only ca*.crt, ca-history*.pem and *.crl are read. Exit codes: 0 every member is proven to hold it; 1
    /// something does not fit; 2 this is no receipt, or --certs-dir has no CA; 5 a member is missing or not proven, or
    /// the CA of a signer is not in --certs-dir.
    Verify {
        /// The file, or - for standard input
        #[arg(value_name = "FILE|-", value_parser = paths::literal)]
        file: PathBuf,
    },
}
