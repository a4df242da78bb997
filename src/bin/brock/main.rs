//! The `brock` command: runs a node or a development cluster, makes certificates, reads backups.

#![forbid(unsafe_code)]

mod backup;
mod cert;
mod config;
mod dev;
#[path = "../shared/environment.rs"]
mod environment;
mod health;
#[path = "../shared/manpages.rs"]
mod manpages;
mod metrics;
mod out;
#[path = "../shared/paths.rs"]
mod paths;
mod run;
mod shell;

use std::process::ExitCode;

use brock::config::error::ConfigError;
use clap::{Args as _, Command, FromArgMatches as _, Subcommand as _};

/// The exit code of a wrong configuration, as of a wrong command line: a restart does not help.
const EXIT_USAGE: u8 = 2;

fn command() -> Command {
    Command::new("brock")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A masterless, clustered, eventually consistent key-value node for small, security-sensitive records")
        .after_help(
            "To try Brock: `brock dev` starts three nodes with their own certificates.\n\n\
             Exit codes: 0 success, 1 error, 2 wrong command line or configuration.",
        )
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(run::command())
        .subcommand(dev::DevArgs::augment_args(Command::new("dev")))
        .subcommand(health::HealthArgs::augment_args(Command::new("health")))
        .subcommand(
            cert::CertCommand::augment_subcommands(
                Command::new("cert").about("Make the certificates of a cluster"),
            )
            .subcommand_required(true)
            .arg_required_else_help(true),
        )
        .subcommand(
            backup::BackupCommand::augment_subcommands(
                Command::new("backup").about("List, verify and restore backups, and make their keys"),
            )
            .subcommand_required(true)
            .arg_required_else_help(true),
        )
        .subcommand(config::command())
        .subcommand(metrics::command())
        .subcommands(shell::commands())
}

/// Allocation is a tenth of the cost of a short call, and glibc keeps an arena for each thread.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    if let Err(problem) = brock::runtime::processor::check() {
        eprintln!("error: {problem}");
        return ExitCode::FAILURE;
    }
    if let Err(error) = brock::runtime::coredump::forbid() {
        eprintln!("error: cannot forbid core files, which would hold keys: {error}");
        return ExitCode::FAILURE;
    }
    let matches = match environment::without_empty_variables(command()).try_get_matches() {
        Ok(matches) => matches,
        Err(error) => {
            // `--help` and `--version` arrive here too, with exit code 0.
            // An error of printing cannot be printed either.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(EXIT_USAGE));
        }
    };
    let outcome = match matches.subcommand() {
        Some(("run", matches)) => run::run(matches),
        Some(("dev", matches)) => {
            dev::DevArgs::from_arg_matches(matches).map_err(Into::into).and_then(|args| dev::run(&args))
        }
        Some(("health", matches)) => health::HealthArgs::from_arg_matches(matches)
            .map_err(Into::into)
            .and_then(|args| health::run(&args)),
        Some(("cert", matches)) => {
            cert::CertCommand::from_arg_matches(matches).map_err(Into::into).and_then(|cert| cert::run(&cert))
        }
        Some(("backup", matches)) => {
            backup::BackupCommand::from_arg_matches(matches).map_err(Into::into).and_then(backup::run)
        }
        Some(("config", matches)) => config::run(matches),
        Some(("metrics", _)) => metrics::run(),
        Some(("completion", matches)) => shell::completion(matches),
        Some(("man", matches)) => shell::man(matches),
        // clap has refused anything else.
        _ => Ok(ExitCode::from(EXIT_USAGE)),
    };
    outcome.unwrap_or_else(|error| report(&error))
}

fn report(error: &anyhow::Error) -> ExitCode {
    let mut printed = error.to_string();
    eprintln!("error: {printed}");
    for cause in error.chain().skip(1).map(ToString::to_string) {
        // Some errors quote their cause.
        if !printed.contains(&cause) {
            eprintln!("  caused by: {cause}");
            printed = cause;
        }
    }
    let is_usage = error.chain().any(|cause| cause.is::<ConfigError>());
    ExitCode::from(if is_usage { EXIT_USAGE } else { 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn a_command_line_that_makes_no_sense_is_a_usage_error() {
        for line in [
            &["brock", "dance"][..],
            &["brock", "run", "--node.idd=a"],
            &["brock", "dev", "--nodes=17"],
            &["brock", "health", "--max-gap=30"],
            &["brock", "cert", "node", "--certs-dir=c", "--ca-key=k", "--node-id=a"],
            &["brock", "cert", "ca", "--certs-dir=c", "--ca-key=k", "--lifetime=soon"],
        ] {
            let error = command().try_get_matches_from(line).unwrap_err();
            assert_eq!(error.exit_code(), i32::from(EXIT_USAGE), "{line:?}");
        }
    }
}
