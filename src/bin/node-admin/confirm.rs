//! Confirmation of commands that cannot be undone.

use std::io::{self, BufRead, IsTerminal};

use crate::{failure::Failure, output};

/// The longest line that is read as an answer.
const ANSWER_MAX_BYTES: u64 = 1024;

/// Prints `warning` and asks the operator to type `word`, unless `--yes` was given.
pub(crate) fn confirmed(yes: bool, warning: &str, word: &str) -> Result<(), Failure> {
    let stdin = io::stdin();
    let is_terminal = stdin.is_terminal();
    confirm(yes, is_terminal, stdin.lock(), warning, word)
}

/// The same where scripts have always gone on: without a terminal it asks nothing.
pub(crate) fn on_a_terminal(yes: bool, warning: &str, word: &str) -> Result<(), Failure> {
    let stdin = io::stdin();
    let is_terminal = stdin.is_terminal() && io::stderr().is_terminal();
    confirm(yes || !is_terminal, is_terminal, stdin.lock(), warning, word)
}

fn confirm(
    yes: bool,
    is_terminal: bool,
    input: impl BufRead,
    warning: &str,
    word: &str,
) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !is_terminal {
        return Err(Failure::Usage(format!("{warning}\nWithout a terminal to ask at, this needs --yes.")));
    }
    output::message(&format!("{warning}\nType {word} to continue:"));
    let mut answer = String::new();
    if let Err(error) = input.take(ANSWER_MAX_BYTES).read_line(&mut answer) {
        return Err(Failure::Error(format!("could not read the answer: {error}; nothing was done")));
    }
    match answer.trim() == word {
        true => Ok(()),
        false => Err(Failure::Error("not confirmed: nothing was done".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Exit;

    #[test]
    fn only_the_word_or_yes_goes_on() {
        let exit = |yes, is_terminal, input: &str| {
            let outcome = confirm(yes, is_terminal, input.as_bytes(), "careful", "node-3");
            outcome.map_err(|failure| failure.exit())
        };
        assert_eq!(exit(true, false, ""), Ok(()));
        assert_eq!(exit(false, true, "node-3\n"), Ok(()));
        assert_eq!(exit(false, true, " node-3 \r\n"), Ok(()));
        for wrong in ["", "\n", "y\n", "yes\n", "node-2\n", "node-33\n"] {
            assert_eq!(exit(false, true, wrong), Err(Exit::Error), "{wrong:?}");
        }
        assert_eq!(exit(false, false, "node-3\n"), Err(Exit::Usage), "no operator typed it");
    }
}
