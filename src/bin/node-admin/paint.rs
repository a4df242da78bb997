//! Colours for good, warning and bad values.
//!
//! They are used on terminals only, never in data for programs. Texts from other machines are made printable
//! first, so each escape sequence in a cell is one of these.

use std::{
    env,
    io::{self, IsTerminal},
    sync::OnceLock,
};

use crate::cli::When;

/// The colour of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colour {
    Good,
    Warning,
    Bad,
}

impl Colour {
    const ALL: [Self; 3] = [Self::Good, Self::Warning, Self::Bad];

    fn code(self) -> &'static str {
        match self {
            Self::Good => "32",
            Self::Warning => "33",
            Self::Bad => "31",
        }
    }
}

/// The colour of a cell; `None`: it has none.
pub(crate) fn colour_of(cell: &str) -> Option<Colour> {
    let code = cell.strip_prefix("\x1b[")?.split('m').next()?;
    Colour::ALL.into_iter().find(|colour| colour.code() == code)
}

/// Whether standard output and standard error show colours.
static COLOURED: OnceLock<(bool, bool)> = OnceLock::new();

const RESET: &str = "\x1b[0m";

/// Decides for the whole process.
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

/// Whether standard output shows colours.
pub(crate) fn is_on() -> bool {
    COLOURED.get().is_some_and(|(stdout, _)| *stdout)
}

/// In the colour of a good value.
pub(crate) fn good(text: &str) -> String {
    paint(Colour::Good.code(), text, is_on())
}

/// In the colour of a warning.
pub(crate) fn warn(text: &str) -> String {
    paint(Colour::Warning.code(), text, is_on())
}

/// In the colour of a bad value.
pub(crate) fn bad(text: &str) -> String {
    paint(Colour::Bad.code(), text, is_on())
}

/// The label of an error on standard error.
pub(crate) fn error_label() -> String {
    paint("31;1", "error:", COLOURED.get().is_some_and(|(_, stderr)| *stderr))
}

/// A cell cut to that many characters, in its colour.
pub(crate) fn cut(cell: &str, columns: usize) -> String {
    let text: String = plain(cell).chars().take(columns.saturating_sub(1)).chain(['\u{2026}']).collect();
    match colour_of(cell) {
        Some(colour) => paint(colour.code(), &text, true),
        None => text,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_painted_cell_has_the_colour_it_was_painted_in() {
        for colour in Colour::ALL {
            let cell = paint(colour.code(), "up", true);
            assert_eq!((colour_of(&cell), plain(&cell).as_str()), (Some(colour), "up"));
        }
        assert_eq!(colour_of("silent"), None, "a node may have that name");
    }

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
        assert_eq!(plain(&paint("31;1", "düwn", true)), "düwn");
        assert_eq!((paint("31", "", true), paint("31", "down", false)), (String::new(), "down".to_owned()));
    }
}
