//! `completion` and `man`: completion scripts and manual pages.

use std::path::Path;

use crate::manpages;
use crate::{cli::Cli, failure::Failure, output};
use clap::CommandFactory;
use clap_complete::Shell;

/// Prints a completion script.
pub(crate) fn completion(shell: Shell) -> Result<(), Failure> {
    output::print(&String::from_utf8_lossy(&manpages::completion(shell, Cli::command())))
}

/// Prints the manual page, or writes all of them into `directory`.
pub(crate) fn man(directory: Option<&Path>) -> Result<(), Failure> {
    let Some(directory) = directory else {
        let page = manpages::manual(Cli::command())
            .map_err(|error| Failure::Error(format!("cannot render the manual page: {error}")))?;
        return output::print(&String::from_utf8_lossy(&page));
    };
    let written = manpages::manuals(Cli::command(), directory).map_err(|error| {
        Failure::Error(format!("cannot write manual pages into {}: {error}", directory.display()))
    })?;
    output::message(&format!("wrote {} manual pages into {}", written.len(), directory.display()));
    Ok(())
}
