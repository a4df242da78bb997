//! `node-admin`: operates and measures nodes through their gRPC interface; `audit list` and `audit verify` read
//! files.
//!
//! Standard output is data, standard error is messages, and the exit code states the kind of the outcome
//! (`failure`). The calls are those of `brock-client`; this program parses, calls and prints.

#![forbid(unsafe_code)]

mod access;
mod alarms;
mod answer;
mod audit;
mod backup;
mod bench;
mod cli;
mod cluster;
mod compact;
mod confirm;
mod conflicts;
mod context;
mod debug;
mod doctor;
#[path = "../shared/environment.rs"]
mod environment;
mod failure;
mod key;
mod known_origins;
mod log;
#[path = "../shared/manpages.rs"]
mod manpages;
mod members;
mod order;
mod origin;
mod outcome;
mod output;
mod paint;
#[path = "../shared/paths.rs"]
mod paths;
mod progress;
mod quarantine;
mod receipt;
mod record;
mod repair;
mod shell;
mod stamp;
mod status;
mod top;
mod trust;
mod verify;

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};

use access::{BACKUP_TIMEOUT, CALL_TIMEOUT, CLUSTER_TIMEOUT, LONG_CALL_TIMEOUT};
use cli::{
    Cli, Command, ConflictsCommand, DebugCommand, Format, Global, LogCommand, MemberCommand, OriginCommand,
    TrustCommand,
};
use failure::{Exit, Failure};

/// Allocation is a tenth of the cost of a short call, and glibc keeps an arena per thread.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    if let Err(problem) = brock::runtime::processor::check() {
        eprintln!("error: {problem}");
        return Exit::Error.into();
    }
    if let Err(error) = brock::runtime::coredump::forbid() {
        eprintln!("error: cannot forbid core files, which would hold keys: {error}");
        return Exit::Error.into();
    }
    let command = environment::without_empty_variables(Cli::command());
    let cli = match command.try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => {
            let error = cli::clarified(error);
            // clap prints help and the version to standard output; they are no failure.
            let printed = error.print();
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Ok };
            return match printed {
                // A closed pipe is no failure (`--help | head`).
                Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Exit::Error.into(),
                _ => exit.into(),
            };
        }
    };
    paint::begin(cli.global.color);
    match run(cli) {
        Ok(()) => Exit::Ok.into(),
        Err(failure) => {
            // The printed data has shown these already.
            if !matches!(failure, Failure::Warning | Failure::Critical) {
                output::message(&format!("{} {failure}", paint::error_label()));
            }
            if matches!(failure, Failure::NoAnswer(_)) {
                output::message(
                    "`node-admin doctor` tests each step to a node, and says which one fails and what to do",
                );
            }
            failure.exit().into()
        }
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    let Cli { global, command } = cli;
    let format = global.output;
    // Commands that need no node need no context.
    let (global, command) = match command {
        Command::Context { command } => return context::run(&global, command),
        Command::Completion { shell } => return shell::completion(shell),
        Command::Man { dir } => return shell::man(dir.as_deref()),
        // It reports problems of the context itself.
        Command::Doctor(options) => return access::block_on(doctor::run(global, &options)),
        command => (context::fill(global)?, command),
    };
    perform(&global, command, format).map_err(|failure| access::explained(&global, failure))
}

fn perform(global: &Global, command: Command, format: Format) -> Result<(), Failure> {
    let client = |usual| access::client(global, global.timeout.unwrap_or(usual));
    // The input is checked before the network is touched.
    match command {
        Command::Record { command } => record::run(global, command),
        Command::Status { cluster: false } => access::block_on(status::show(&client(CALL_TIMEOUT)?, format)),
        Command::Status { cluster: true } => {
            access::block_on(cluster::status(&client(CLUSTER_TIMEOUT)?, format))
        }
        Command::Lag { watch } => access::block_on(cluster::lag(&client(CLUSTER_TIMEOUT)?, watch, format)),
        Command::Peers { matrix } => {
            access::block_on(cluster::peers(&client(CLUSTER_TIMEOUT)?, matrix, format))
        }
        Command::Top(options) => access::block_on(top::run(&client(CLUSTER_TIMEOUT)?, &options, format)),
        Command::Verify => access::block_on(verify::run(&client(LONG_CALL_TIMEOUT)?, format)),
        Command::Repair => access::block_on(repair::run(&client(LONG_CALL_TIMEOUT)?, format)),
        Command::Backup { command } => {
            access::block_on(backup::run(&client(BACKUP_TIMEOUT)?, command, format))
        }
        Command::Alarms { command } => access::block_on(alarms::run(&client(CALL_TIMEOUT)?, command, format)),
        Command::Audit { command } => audit::run(global, command),
        Command::Order { command } => order::run(global, command),
        Command::Receipt { command } => receipt::run(global, command),
        Command::Compact => access::block_on(compact::run(&client(LONG_CALL_TIMEOUT)?, format)),
        Command::Members => access::block_on(members::list(&client(CALL_TIMEOUT)?, format)),
        Command::Member { command: MemberCommand::Retire { node, yes, connected } } => {
            let client = client(CALL_TIMEOUT)?;
            confirm::confirmed(yes, members::RETIRE_WARNING, &node)?;
            access::block_on(members::retire(&client, node, connected, format))
        }
        Command::Origin { command: OriginCommand::List } => {
            access::block_on(known_origins::list(&client(CLUSTER_TIMEOUT)?, format))
        }
        Command::Origin { command: OriginCommand::Vouch { origin, yes } } => {
            let client = client(CLUSTER_TIMEOUT)?;
            confirm::confirmed(yes, known_origins::VOUCH_WARNING, &origin.to_string())?;
            access::block_on(known_origins::vouch(&client, origin, format))
        }
        Command::Origin { command: OriginCommand::Close { node, yes } } => {
            let client = client(CLUSTER_TIMEOUT)?;
            confirm::confirmed(yes, known_origins::CLOSE_WARNING, node.as_str())?;
            access::block_on(known_origins::close(&client, node, format))
        }
        Command::Origin { command: OriginCommand::Ack { origin } } => {
            access::block_on(origin::acknowledge(&client(CALL_TIMEOUT)?, origin, format))
        }
        Command::Origin { command: OriginCommand::Resume { node, yes } } => {
            let client = client(CALL_TIMEOUT)?;
            confirm::confirmed(yes, origin::RESUME_WARNING, &node)?;
            access::block_on(origin::resume(&client, node, format))
        }
        Command::Trust { command } => {
            let client = client(CLUSTER_TIMEOUT)?;
            if let TrustCommand::Migrate { yes } = command {
                confirm::confirmed(yes, trust::MIGRATE_WARNING, "migrate")?;
            }
            access::block_on(trust::run(&client, command, format))
        }
        Command::Conflicts { command: ConflictsCommand::List } => {
            access::block_on(conflicts::list(&client(CALL_TIMEOUT)?, format))
        }
        Command::Conflicts { command: ConflictsCommand::Ack { key, all: _ } } => {
            let key = key.map(|text| key::argument("KEY", &text)).transpose()?;
            access::block_on(conflicts::acknowledge(&client(CALL_TIMEOUT)?, key, format))
        }
        Command::Quarantine { command } => quarantine::run(&client(CALL_TIMEOUT)?, command, format),
        Command::Log { command: LogCommand::Tail(options) } => {
            access::block_on(log::tail(&client(CALL_TIMEOUT)?, &options, format))
        }
        Command::Debug { command: DebugCommand::Bundle(options) } => {
            let client = client(LONG_CALL_TIMEOUT)?;
            access::block_on(debug::bundle(&client, global, &options))
        }
        Command::Context { .. } | Command::Completion { .. } | Command::Man { .. } | Command::Doctor(_) => {
            Ok(())
        }
        Command::Bench { command } => bench::run(&client(CALL_TIMEOUT)?, command, format),
    }
}
