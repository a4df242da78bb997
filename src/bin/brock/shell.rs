//! `brock completion` and `brock man`: completion scripts and manual pages.

use std::{path::PathBuf, process::ExitCode};

use crate::{manpages, out};
use anyhow::Context;
use clap::{Arg, ArgMatches, Command, builder::EnumValueParser, value_parser};
use clap_complete::Shell;

const SHELL: &str = "shell";
const DIR: &str = "dir";

pub(crate) fn commands() -> [Command; 2] {
    let shell = Arg::new(SHELL).required(true).value_parser(EnumValueParser::<Shell>::new());
    let dir = Arg::new(DIR)
        .long(DIR)
        .value_name("DIR")
        .value_parser(value_parser!(PathBuf))
        .help("Write the pages to this directory instead; it is created if it does not exist");
    [
        Command::new("completion").about("Print a shell's completion script").arg(shell),
        Command::new("man").about("Print the manual page, or write one for each command").arg(dir),
    ]
}

pub(crate) fn completion(matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let shell = matches.get_one::<Shell>(SHELL).copied().context("the shell is missing")?;
    out::print(&manpages::completion(shell, crate::command()))?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn man(matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    match matches.get_one::<PathBuf>(DIR) {
        None => out::print(&manpages::manual(crate::command())?)?,
        Some(directory) => {
            let at = directory.display();
            let written = manpages::manuals(crate::command(), directory)
                .with_context(|| format!("cannot write manual pages into {at}"))?;
            eprintln!("wrote {} manual pages into {at}", written.len());
        }
    }
    Ok(ExitCode::SUCCESS)
}
