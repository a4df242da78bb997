//! `node-admin`: what an operator does to a node from outside, and how fast it is.
//!
//! Standard output is data, standard error is messages, and the exit code says which kind of
//! answer it was (`failure`). Everything but `audit list` and `audit verify`, which read files, goes
//! through the node's gRPC interface.

#![forbid(unsafe_code)]

mod alarms;
mod audit;
mod backup;
mod bench;
mod cli;
mod client;
mod cluster;
mod compact;
mod confirm;
mod conflicts;
mod context;
mod debug;
mod doctor;
mod failure;
mod log;
#[path = "../shared/manpages.rs"]
mod manpages;
mod members;
mod output;
mod paint;
mod progress;
mod quarantine;
mod record;
mod repair;
mod shell;
mod stamp;
mod status;
mod top;
mod verify;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command, ConflictsCommand, DebugCommand, LogCommand, MemberCommand};
use client::{Access, BACKUP_TIMEOUT, CALL_TIMEOUT, CLUSTER_TIMEOUT, LONG_CALL_TIMEOUT};
use failure::{Exit, Failure};

/// A tenth of what a short call costs is allocation, and glibc keeps an arena per thread.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    if let Err(problem) = brock::runtime::processor::check() {
        eprintln!("error: {problem}");
        return Exit::Error.into();
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to stdout and are no failure; clap knows which is which.
            let printed = error.print();
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Ok };
            return match printed {
                // Whoever reads us has seen enough (`--help | head`).
                Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Exit::Error.into(),
                _ => exit.into(),
            };
        }
    };
    paint::begin(cli.global.color);
    match run(cli) {
        Ok(()) => Exit::Ok.into(),
        Err(failure) => {
            // What the data says already is not repeated.
            if !matches!(failure, Failure::Watch | Failure::Act) {
                output::message(&format!("{} {failure}", paint::error_label()));
            }
            if matches!(&failure, Failure::Unreachable(text) if text.starts_with(client::NOBODY)) {
                output::message(
                    "`node-admin doctor` goes the whole way to a node, and says where it ends and what to do",
                );
            }
            failure.exit().into()
        }
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    let Cli { global, command } = cli;
    let format = global.output;
    // What needs no node needs no context either.
    let (global, command) = match command {
        Command::Context { command } => return context::run(&global, command),
        Command::Completion { shell } => return shell::completion(shell),
        Command::Man { dir } => return shell::man(dir.as_deref()),
        // What is wrong with the context is for it to say.
        Command::Doctor(options) => return client::block_on(doctor::run(global, &options)),
        command => (context::fill(global)?, command),
    };
    let access = |usual| Access::load(&global, global.timeout.unwrap_or(usual));
    // What the operator typed is checked before the network is touched.
    match command {
        Command::Record { command } => record::run(&global, command),
        Command::Status { cluster: false } => client::block_on(status::show(&access(CALL_TIMEOUT)?, format)),
        Command::Status { cluster: true } => {
            client::block_on(cluster::status(&access(CLUSTER_TIMEOUT)?, format))
        }
        Command::Lag { watch } => client::block_on(cluster::lag(&access(CLUSTER_TIMEOUT)?, watch, format)),
        Command::Peers { matrix } => {
            client::block_on(cluster::peers(&access(CLUSTER_TIMEOUT)?, matrix, format))
        }
        Command::Top(options) => client::block_on(top::run(&access(CLUSTER_TIMEOUT)?, &options, format)),
        Command::Verify => client::block_on(verify::run(&access(LONG_CALL_TIMEOUT)?, format)),
        Command::Repair => client::block_on(repair::run(&access(LONG_CALL_TIMEOUT)?, format)),
        Command::Backup { command } => {
            client::block_on(backup::run(&access(BACKUP_TIMEOUT)?, command, format))
        }
        Command::Alarms { command } => client::block_on(alarms::run(&access(CALL_TIMEOUT)?, command, format)),
        Command::Audit { command } => audit::run(&global, command),
        Command::Compact => client::block_on(compact::run(&access(LONG_CALL_TIMEOUT)?, format)),
        Command::Members => client::block_on(members::list(&access(CALL_TIMEOUT)?, format)),
        Command::Member { command: MemberCommand::Retire { node, yes } } => {
            let access = access(CALL_TIMEOUT)?;
            confirm::confirmed(yes, members::RETIRE_WARNING, &node)?;
            client::block_on(members::retire(&access, node, format))
        }
        Command::Conflicts { command: ConflictsCommand::List } => {
            client::block_on(conflicts::list(&access(CALL_TIMEOUT)?, format))
        }
        Command::Quarantine { command } => quarantine::run(&access(CALL_TIMEOUT)?, command, format),
        Command::Log { command: LogCommand::Tail(options) } => {
            client::block_on(log::tail(&access(CALL_TIMEOUT)?, &options, format))
        }
        Command::Debug { command: DebugCommand::Bundle(options) } => {
            let access = access(LONG_CALL_TIMEOUT)?;
            client::block_on(debug::bundle(&access, &global, &options))
        }
        Command::Context { .. } | Command::Completion { .. } | Command::Man { .. } | Command::Doctor(_) => {
            Ok(())
        }
        Command::Bench { command } => bench::run(&access(CALL_TIMEOUT)?, command, format),
    }
}
