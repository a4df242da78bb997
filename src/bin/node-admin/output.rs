//! Printing: data to standard output, messages to standard error.

use std::io::{self, Write};

use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{cli::Format, failure::Failure};

/// Prints data in the form that was asked for.
pub(crate) fn data<T: Serialize>(
    format: Format,
    data: &T,
    text: impl Fn(&T) -> String,
) -> Result<(), Failure> {
    let printed = match format {
        Format::Json => json(data)?,
        Format::Text => text(data),
    };
    let mut stdout = io::stdout().lock();
    match stdout.write_all(printed.as_bytes()).and_then(|()| stdout.flush()) {
        // Whoever reads us has seen enough (`… | head`).
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Failure::Error(format!("could not write to standard output: {error}"))),
        Ok(()) => Ok(()),
    }
}

/// Pretty JSON with fields in the order of the type, and a last newline.
pub(crate) fn json<T: Serialize>(data: &T) -> Result<String, Failure> {
    match serde_json::to_string_pretty(data) {
        Ok(text) => Ok(text + "\n"),
        Err(error) => Err(Failure::Error(format!("could not encode the answer as JSON: {error}"))),
    }
}

/// Prints a message for people.
pub(crate) fn message(text: &str) {
    // Nobody is left to be told when standard error is gone.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// `text` without control characters: it may come from another node, and goes to a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// Names and values in two columns.
pub(crate) fn fields(fields: &[(&str, String)]) -> String {
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    fields
        .iter()
        .map(|(name, value)| format!("{name:width$}  {value}").trim_end().to_owned() + "\n")
        .collect()
}

/// Rows in aligned columns, indented by two; the first row is the heading.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("  {cell:width$}"));
        text.push_str(cells.collect::<String>().trim_end());
        text.push('\n');
    }
    text
}

/// `2026-05-01T12:00:00Z (1777636800)`, or "never" for 0.
pub(crate) fn moment(unix: i64) -> String {
    if unix == 0 {
        return "never".to_owned();
    }
    let formatted =
        OffsetDateTime::from_unix_timestamp(unix).ok().and_then(|time| time.format(&Rfc3339).ok());
    match formatted {
        Some(text) => format!("{text} ({unix})"),
        // Beyond year 9999: the number is all there is to say.
        None => unix.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_readable_beside_the_number() {
        assert_eq!(moment(0), "never");
        assert_eq!(moment(1_777_636_800), "2026-05-01T12:00:00Z (1777636800)");
        assert_eq!(moment(i64::MAX), i64::MAX.to_string());
    }

    #[test]
    fn columns_line_up_and_nothing_trails() {
        assert_eq!(fields(&[("a", "1".into()), ("long", String::new())]), "a     1\nlong\n");
        let rows = [vec!["h".into(), "é".into(), "x".into()], vec!["long".into(), "v".into(), String::new()]];
        assert_eq!(table(&rows), "  h     é  x\n  long  v\n");
        assert_eq!(printable("a\x1b[1mb\u{7}"), "a\u{fffd}[1mb\u{fffd}");
    }
}
