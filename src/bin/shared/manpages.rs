//! Completion scripts and manual pages of both binaries.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

/// A shell's completion script for a command.
pub(crate) fn completion(shell: Shell, mut command: Command) -> Vec<u8> {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    script
}

/// The manual page of a command, without those of its subcommands.
pub(crate) fn manual(command: Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    page_of(built(command)).render(&mut page)?;
    Ok(page)
}

/// Writes a manual page for a command and for each of its subcommands into `directory`, creating it if
/// necessary; returns the files.
pub(crate) fn manuals(command: Command, directory: &Path) -> io::Result<Vec<PathBuf>> {
    fs::create_dir_all(directory)?;
    let command = built(command);
    let mut written = Vec::new();
    write_pages(&command, directory, &mut written)?;
    written.sort();
    Ok(written)
}

fn write_pages(command: &Command, directory: &Path, written: &mut Vec<PathBuf>) -> io::Result<()> {
    for subcommand in command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()) {
        write_pages(subcommand, directory, written)?;
    }
    let page = page_of(command.clone());
    let file = directory.join(page.get_filename());
    let mut rendered = Vec::new();
    page.render(&mut rendered)?;
    let mut out = fs::File::create(&file)?;
    out.write_all(&rendered)?;
    written.push(file);
    Ok(())
}

/// Without a page for `help`: every page is help.
fn built(command: Command) -> Command {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    command
}

fn page_of(command: Command) -> Man {
    let source = format!("brock {}", env!("CARGO_PKG_VERSION"));
    Man::new(command.version(env!("CARGO_PKG_VERSION"))).manual("Brock").source(source)
}
