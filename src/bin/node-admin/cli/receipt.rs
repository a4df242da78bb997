//! The command that verifies receipts.

use std::path::PathBuf;

use crate::paths;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum ReceiptCommand {
    /// Verify what a command printed with --wait and -o json, against the CAs in --certs-dir; exit codes 0 every holder
    /// is proven, 1 something does not fit, 5 some holder has signed nothing that proves it
    ///
    /// A holder is proven if it has signed the hash of a log that the operation is in. No node is asked, and of
    /// --certs-dir only ca*.crt and *.crl are read.
    Verify {
        /// The file, or - for standard input
        #[arg(value_name = "FILE|-", value_parser = paths::literal)]
        file: PathBuf,
    },
}
