//! Printing: data to standard output, messages to standard error.

use std::io::{self, IsTerminal, Write};

use comfy_table::{Table, presets::NOTHING};
use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{cli::Format, failure::Failure, paint};

/// Prints data in the requested format.
pub(crate) fn data<T: Serialize>(
    format: Format,
    data: &T,
    text: impl Fn(&T) -> String,
) -> Result<(), Failure> {
    let printed = match format {
        Format::Json => json(data)?,
        Format::Yaml => yaml(data)?,
        Format::Text => text(data),
    };
    print(&printed)
}

/// Prints text.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    print_on(text).map(drop)
}

/// Prints text that more may follow. Returns false if the reader has closed the pipe (`… | head`).
pub(crate) fn print_on(text: &str) -> Result<bool, Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::Error(format!("could not write to standard output: {error}"))),
        Ok(()) => Ok(true),
    }
}

/// Indented JSON with the fields in the order of the type, and a final newline.
pub(crate) fn json<T: Serialize>(data: &T) -> Result<String, Failure> {
    match serde_json::to_string_pretty(data) {
        Ok(text) => Ok(text + "\n"),
        Err(error) => Err(Failure::Error(format!("could not encode the answer as JSON: {error}"))),
    }
}

/// Data as a JSON value.
pub(crate) fn value<T: Serialize>(data: &T) -> Result<serde_json::Value, Failure> {
    serde_json::to_value(data)
        .map_err(|error| Failure::Error(format!("could not encode the answer: {error}")))
}

/// JSON on one line.
pub(crate) fn json_line<T: Serialize>(data: &T) -> Result<String, Failure> {
    match serde_json::to_string(data) {
        Ok(text) => Ok(text + "\n"),
        Err(error) => Err(Failure::Error(format!("could not encode the answer as JSON: {error}"))),
    }
}

/// The same values as YAML.
pub(crate) fn yaml<T: Serialize>(data: &T) -> Result<String, Failure> {
    serde_norway::to_string(data)
        .map_err(|error| Failure::Error(format!("could not encode the answer as YAML: {error}")))
}

/// Prints a message on standard error.
pub(crate) fn message(text: &str) {
    // An error means that standard error is gone.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

pub(crate) use brock_client::error::printable;

/// Names and values in two columns.
pub(crate) fn fields(fields: &[(&str, String)]) -> String {
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    fields
        .iter()
        .map(|(name, value)| format!("{name:width$}  {value}").trim_end().to_owned() + "\n")
        .collect()
}

/// Columns that a narrow terminal goes without, in this order.
const DROPPED_FIRST: [&str; 11] = [
    "RECEIVED",
    "LOG/MIN",
    "LOG BYTES",
    "ROUNDS",
    "LOG ENTRIES",
    "VERSION",
    "SINCE",
    "CERTIFICATE ENDS",
    "UP FOR",
    "RECENT",
    "ADDRESS",
];

/// No column is cut below this.
const CELL_MIN: usize = 12;

/// Between two columns, and before the first.
const GAP: usize = 2;

/// Rows in aligned columns, indented by two; the first row is the heading. On a terminal no line is wider than it.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    match terminal_columns() {
        Some(columns) => aligned(&fitted(rows, columns)),
        None => aligned(rows),
    }
}

/// How wide standard output is, if that is a terminal.
pub(crate) fn terminal_columns() -> Option<usize> {
    let (columns, _) = io::stdout().is_terminal().then(ratatui::crossterm::terminal::size)?.ok()?;
    (columns > 0).then_some(columns.into())
}

/// The rows without the columns that the width has no room for, and with the widest cells cut.
pub(crate) fn fitted(rows: &[Vec<String>], columns: usize) -> Vec<Vec<String>> {
    let mut rows = rows.to_vec();
    let width = |cell: &str| paint::plain(cell).chars().count();
    let widths = |rows: &[Vec<String>]| {
        let mut widths = vec![0; rows.iter().map(Vec::len).max().unwrap_or_default()];
        for row in rows {
            row.iter().zip(&mut widths).for_each(|(cell, widest)| *widest = width(cell).max(*widest));
        }
        widths
    };
    let needed =
        |widths: &[usize], most: usize| widths.iter().map(|width| GAP + (*width).min(most)).sum::<usize>();
    let mut dropped = DROPPED_FIRST.iter();
    while widths(&rows).len() > 1 && needed(&widths(&rows), CELL_MIN) > columns {
        let heading = rows.first().cloned().unwrap_or_default();
        let at = dropped.find_map(|name| heading.iter().position(|cell| cell == name));
        let at = at.unwrap_or(heading.len().saturating_sub(1));
        rows.iter_mut().filter(|row| at < row.len()).for_each(|row| drop(row.remove(at)));
    }
    let widths = widths(&rows);
    let widest = widths.iter().copied().max().unwrap_or_default();
    let most = (CELL_MIN..widest).rev().find(|most| needed(&widths, *most) <= columns);
    if needed(&widths, usize::MAX) > columns {
        let most = most.unwrap_or(CELL_MIN);
        rows.iter_mut()
            .flatten()
            .filter(|cell| width(cell) > most)
            .for_each(|cell| *cell = paint::cut(cell, most));
    }
    rows
}

fn aligned(rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut table = Table::new();
    table.load_style(NOTHING).add_rows(rows);
    table.column_iter_mut().for_each(|column| {
        column.set_padding((GAP as u16, 0));
    });
    table.trim_fmt() + "\n"
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
        // After the year 9999 there is only the number.
        None => unix.to_string(),
    }
}

/// `2026-05-01`, for a narrow column.
pub(crate) fn day(unix: i64) -> String {
    OffsetDateTime::from_unix_timestamp(unix)
        .map_or_else(|_| unix.to_string(), |time| time.date().to_string())
}

/// `2026-05-01T12:00:00.123Z`, from milliseconds.
pub(crate) fn moment_to_the_millisecond(unix_ms: i64) -> String {
    let seconds = OffsetDateTime::from_unix_timestamp(unix_ms.div_euclid(1000));
    // RFC 3339 drops zeros at the end, and columns would not line up.
    match seconds.ok().and_then(|time| time.format(&Rfc3339).ok()) {
        Some(text) => format!("{}.{:03}Z", text.trim_end_matches('Z'), unix_ms.rem_euclid(1000)),
        None => format!("{unix_ms} ms"),
    }
}

/// `1 record`, `2 records`.
pub(crate) fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Adds words to a line that has `begun` columns. Where a line of the terminal is full, they go on below, behind
/// `indent` blanks.
pub(crate) fn push_words(text: &mut String, words: &str, (begun, indent): (usize, usize)) {
    push_wrapped(text, words, (begun, indent), terminal_columns().unwrap_or(usize::MAX));
}

/// The same where a line has so many columns.
pub(crate) fn push_wrapped(text: &mut String, words: &str, (begun, indent): (usize, usize), columns: usize) {
    let (mut used, mut is_first) = (begun, true);
    for word in words.split(' ') {
        let width = paint::plain(word).chars().count();
        let gap = usize::from(!is_first);
        if used + gap + width > columns && used > indent {
            text.truncate(text.trim_end().len());
            text.push('\n');
            text.push_str(&" ".repeat(indent));
            used = indent;
        } else {
            text.push_str(&" ".repeat(gap));
            used += gap;
        }
        text.push_str(word);
        used += width;
        is_first = false;
    }
    text.push('\n');
}

/// A table with a heading, or nothing when it has no rows.
pub(crate) fn headed(heading: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Vec<Vec<String>> {
    let mut table: Vec<_> = rows.collect();
    if !table.is_empty() {
        table.insert(0, heading.iter().map(ToString::to_string).collect());
    }
    table
}

/// A titled table after an empty line.
pub(crate) fn section(text: &mut String, title: &str, rows: &[Vec<String>]) {
    if rows.is_empty() {
        text.push_str(&format!("\n{title}: none\n"));
    } else {
        text.push_str(&format!("\n{title}:\n{}", table(rows)));
    }
}

/// A number, or `unknown`.
pub(crate) fn known<T: ToString>(number: Option<T>) -> String {
    number.map_or_else(|| "unknown".to_owned(), |number| number.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_readable_beside_the_number() {
        assert_eq!(moment(0), "never");
        assert_eq!(moment(1_777_636_800), "2026-05-01T12:00:00Z (1777636800)");
        assert_eq!(moment(i64::MAX), i64::MAX.to_string());
        assert_eq!(moment_to_the_millisecond(1_777_636_800_123), "2026-05-01T12:00:00.123Z");
        assert_eq!(moment_to_the_millisecond(1_777_636_800_120), "2026-05-01T12:00:00.120Z");
        assert_eq!(moment_to_the_millisecond(1_777_636_800_000), "2026-05-01T12:00:00.000Z");
        assert_eq!(moment_to_the_millisecond(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!((count(1, "record"), count(0, "record")), ("1 record".to_owned(), "0 records".to_owned()));
        assert_eq!(moment_to_the_millisecond(i64::MAX), format!("{} ms", i64::MAX));
    }

    #[test]
    fn a_narrow_terminal_shows_less_and_no_line_is_wider() {
        let row = |cells: &[&str]| cells.iter().map(ToString::to_string).collect::<Vec<_>>();
        let rows = [
            row(&["NODE", "RECEIVED", "LAST ERROR"]),
            row(&["node-1", "17", "\x1b[31mcannot connect to 10.0.0.1:20004: refused\x1b[0m"]),
        ];
        assert_eq!(fitted(&rows, 200), rows);
        let cut = fitted(&rows, 40);
        assert_eq!(cut[0], ["NODE", "RECEIVED", "LAST ERROR"]);
        assert_eq!(cut[1][2], "\x1b[31mcannot connect to 1\u{2026}\x1b[0m");
        assert_eq!(fitted(&rows, 30)[0], ["NODE", "LAST ERROR"]);
        assert_eq!(fitted(&rows, 20)[0], ["NODE"]);
        for columns in 16..60 {
            let text = aligned(&fitted(&rows, columns));
            assert!(
                text.lines().all(|line| paint::plain(line).chars().count() <= columns),
                "{columns}:\n{text}"
            );
        }
        assert!(fitted(&[], 10).is_empty());
    }

    #[test]
    fn columns_line_up_and_nothing_trails() {
        assert_eq!(fields(&[("a", "1".into()), ("long", String::new())]), "a     1\nlong\n");
        let rows = [vec!["h".into(), "é".into(), "x".into()], vec!["long".into(), "v".into(), String::new()]];
        assert_eq!(table(&rows), "  h     é  x\n  long  v\n");
        let rows = [vec!["\x1b[31mno\x1b[0m".into(), "x".into()], vec!["yes".into(), "y".into()]];
        assert_eq!(table(&rows), "  \x1b[31mno\x1b[0m   x\n  yes  y\n");
        let mut text = String::new();
        section(&mut text, "some", &headed(&["H"], std::iter::once(vec!["v".to_owned()])));
        section(&mut text, "other", &headed(&["H"], std::iter::empty()));
        assert_eq!(text, "\nsome:\n  H\n  v\n\nother: none\n");
        assert_eq!((known(Some(3)), known(None::<u64>)), ("3".to_owned(), "unknown".to_owned()));
        assert_eq!(printable("a\x1b[1mb\u{7}"), "a\u{fffd}[1mb\u{fffd}");
    }
}
