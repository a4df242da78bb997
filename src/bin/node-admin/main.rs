//! `node-admin`: what an operator does to a node from outside, and how fast it is.
//!
//! Standard output is data, standard error is messages, and the exit code says which kind of
//! answer it was (`failure`). Everything goes through the node's gRPC interface.

mod bench;
mod cli;
mod client;
mod failure;
mod output;
mod record;
mod status;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command, RecordCommand};
use client::Access;
use failure::{Exit, Failure};

/// A tenth of what a short call costs is allocation, and glibc keeps an arena per thread.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to stdout and are no failure; clap knows which is which.
            let printed = error.print();
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Ok };
            return if printed.is_ok() { exit.into() } else { Exit::Error.into() };
        }
    };
    match run(cli) {
        Ok(()) => Exit::Ok.into(),
        Err(failure) => {
            output::message(&format!("error: {failure}"));
            failure.exit().into()
        }
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    let Cli { global, command } = cli;
    // What the operator typed is checked before the network is touched.
    match command {
        Command::Record { command: RecordCommand::Put { key, file } } => {
            let request = record::put_request(&key, &file)?;
            let access = Access::load(&global)?;
            client::block_on(record::put(&access, request, global.output))
        }
        Command::Record { command: RecordCommand::Show { key, local } } => {
            let key = record::key(&key)?;
            let access = Access::load(&global)?;
            client::block_on(record::show(&access, key, local, global.output))
        }
        Command::Status => {
            let access = Access::load(&global)?;
            client::block_on(status::show(&access, global.output))
        }
        Command::Bench { command } => bench::run(&Access::load(&global)?, command, global.output),
    }
}
