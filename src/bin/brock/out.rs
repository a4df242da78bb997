//! Prints data on stdout.

use std::io::{self, Write as _};

/// Writes to standard output. A reader that closes the pipe early (`… | head`) is not an error.
pub(crate) fn print(text: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}
