//! KEY: the key hash or the access key id of a record.
//!
//! An access key id opens its record, so no message quotes a KEY, and an id can be read from a file or from
//! standard input: arguments are in the shell's history and in the list of processes.

use std::{
    io::{self, BufRead, IsTerminal},
    path::Path,
};

use crate::{cli, failure::Failure, output};
use brock_core::base::id::KeyHash;

/// The longest line that is read as a KEY.
const LINE_MAX_BYTES: u64 = 1024;

/// Stands for standard input.
const STDIN: &str = "-";

const WARNING: &str = "warning: an access key id opens its record, and arguments are in the shell's history and in the \
     list of processes. Name the key hash, or have the id read: - from standard input, --key-file from a file";

/// The KEY of a command.
pub(crate) fn of(key: &cli::Key) -> Result<KeyHash, Failure> {
    match (&key.key, &key.key_file) {
        (Some(text), _) => argument("KEY", text),
        (None, Some(file)) => from_file(file),
        // The command line requires one of them.
        (None, None) => Err(Failure::Usage("KEY is missing".to_owned())),
    }
}

/// A KEY that is an argument, with `-` for standard input. `name` is the argument's.
pub(crate) fn argument(name: &str, text: &str) -> Result<KeyHash, Failure> {
    if text == STDIN {
        return from_stdin();
    }
    let key_hash = parse(name, text)?;
    if !is_key_hash(text) {
        output::message(WARNING);
    }
    Ok(key_hash)
}

/// The key in a file, or in standard input (`-`).
pub(crate) fn from_file(file: &Path) -> Result<KeyHash, Failure> {
    if is_stdin(file) {
        return from_stdin();
    }
    let failed = |error| Failure::Usage(format!("could not read {}: {error}", file.display()));
    let text = brock_net::reading::text(file).map_err(failed)?;
    let line = first_line(text.as_bytes())?;
    parse(&file.display().to_string(), &line)
}

/// Whether a KEY is read from standard input.
pub(crate) fn reads_stdin(key: &cli::Key) -> bool {
    key.key.as_deref() == Some(STDIN) || key.key_file.as_deref().is_some_and(is_stdin)
}

fn is_stdin(file: &Path) -> bool {
    file.as_os_str() == STDIN
}

fn from_stdin() -> Result<KeyHash, Failure> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        output::message("Type the key hash or the access key id, then Enter:");
    }
    parse("standard input", &first_line(stdin.lock())?)
}

fn first_line(source: impl BufRead) -> Result<String, Failure> {
    let mut line = String::new();
    match source.take(LINE_MAX_BYTES).read_line(&mut line) {
        Ok(_) => Ok(line.trim().to_owned()),
        Err(error) => Err(Failure::Usage(format!("could not read the KEY: {error}"))),
    }
}

fn parse(name: &str, text: &str) -> Result<KeyHash, Failure> {
    text.parse().map_err(|error| Failure::Usage(format!("{name}: {error}")))
}

/// 64 hex digits; an access key id is shorter.
fn is_key_hash(text: &str) -> bool {
    text.len() == 64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_key_is_usage_and_is_not_quoted() {
        let failure = argument("KEY", "deadbeef").unwrap_err();
        assert!(matches!(&failure, Failure::Usage(text) if !text.contains("deadbeef")), "{failure}");
    }

    #[test]
    fn a_key_is_the_first_line_without_blanks() {
        assert_eq!(first_line(&b" ab \r\ncd\n"[..]).unwrap(), "ab");
        assert_eq!(first_line(&b""[..]).unwrap(), "");
        assert!(first_line(&[0xff, 0xfe][..]).is_err());
    }
}
