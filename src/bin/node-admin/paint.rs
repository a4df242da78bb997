//! Colour, sparingly: what is well, what deserves a look, what is wrong.
//!
//! Only where a terminal shows it, and never in data for programs. Everything that comes from
//! elsewhere is made printable first, so an escape sequence in a cell is always one of these.

use std::{
    env,
    io::{self, IsTerminal},
    sync::OnceLock,
};

use crate::cli::When;

/// Whether standard output and standard error take colours.
static COLOURED: OnceLock<(bool, bool)> = OnceLock::new();

const RESET: &str = "\x1b[0m";

/// Decides for the rest of the process.
pub(crate) fn begin(when: When) {
    let plain = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || env::var_os("TERM").is_some_and(|term| term == "dumb");
    let decided = |is_terminal: bool| wanted(when, is_terminal, plain);
    let _ = COLOURED.set((decided(io::stdout().is_terminal()), decided(io::stderr().is_terminal())));
}

fn wanted(when: When, is_terminal: bool, plain: bool) -> bool {
    match when {
        When::Always => true,
        When::Never => false,
        When::Auto => is_terminal && !plain,
    }
}

fn paint(code: &str, text: &str, coloured: bool) -> String {
    if coloured && !text.is_empty() { format!("\x1b[{code}m{text}{RESET}") } else { text.to_owned() }
}

/// Whether standard output takes colours.
pub(crate) fn is_on() -> bool {
    COLOURED.get().is_some_and(|(stdout, _)| *stdout)
}

/// All is well with it.
pub(crate) fn good(text: &str) -> String {
    paint("32", text, is_on())
}

/// It deserves a look.
pub(crate) fn warn(text: &str) -> String {
    paint("33", text, is_on())
}

/// It is wrong.
pub(crate) fn bad(text: &str) -> String {
    paint("31", text, is_on())
}

/// What comes first of a message on standard error.
pub(crate) fn error_label() -> String {
    paint("31;1", "error:", COLOURED.get().is_some_and(|(_, stderr)| *stderr))
}

/// A cell without its colour.
pub(crate) fn plain(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            // `ESC [ … m`
            '\x1b' => drop(rest.by_ref().find(|c| *c == 'm')),
            _ => plain.push(c),
        }
    }
    plain
}

/// How many columns a cell takes: escape sequences take none.
pub(crate) fn width(text: &str) -> usize {
    plain(text).chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_that_want_them() {
        for (when, is_terminal, plain, expected) in [
            (When::Auto, true, false, true),
            (When::Auto, true, true, false),
            (When::Auto, false, false, false),
            (When::Always, false, true, true),
            (When::Never, true, false, false),
        ] {
            assert_eq!(wanted(when, is_terminal, plain), expected, "{when:?} {is_terminal} {plain}");
        }
    }

    #[test]
    fn colour_takes_no_room() {
        assert_eq!(paint("31", "down", true), "\x1b[31mdown\x1b[0m");
        assert_eq!(width(&paint("31;1", "düwn", true)), 4);
        assert_eq!((paint("31", "", true), paint("31", "down", false)), (String::new(), "down".to_owned()));
    }
}
