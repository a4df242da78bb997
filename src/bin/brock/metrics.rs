//! `brock metrics`: the metrics of a node.

use std::process::ExitCode;

use crate::out;
use brock_core::base::metrics;
use clap::Command;

pub(crate) fn command() -> Command {
    Command::new("metrics")
        .about("Describe the metrics of a node")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(Command::new("reference").about("Print the tables of all metrics as Markdown"))
}

pub(crate) fn run() -> anyhow::Result<ExitCode> {
    out::print(metrics::reference_markdown().as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
