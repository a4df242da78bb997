//! Environment variables of flags.

use brock::config::sources::is_blank;
use clap::{Command, Id};

/// The command without the variables that are empty or blank. As for the settings of a node, an empty variable counts
/// as not set: a template whose value is missing must not choose one.
pub(crate) fn without_empty_variables(command: Command) -> Command {
    let is_empty = |name| std::env::var_os(name).is_some_and(|value| is_blank(&value));
    let empty: Vec<Id> = command
        .get_arguments()
        .filter(|argument| argument.get_env().is_some_and(is_empty))
        .map(|argument| argument.get_id().clone())
        .collect();
    let command =
        empty.into_iter().fold(command, |command, id| command.mut_arg(id, |argument| argument.env(None)));
    command.mut_subcommands(without_empty_variables)
}
