//! Printing: data to standard output, messages to standard error.

use std::io::{self, Write};

use comfy_table::{Table, presets::NOTHING};
use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{cli::Format, failure::Failure};

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

/// Rows in aligned columns, indented by two; the first row is the heading.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut table = Table::new();
    table.load_style(NOTHING).add_rows(rows);
    table.column_iter_mut().for_each(|column| {
        column.set_padding((2, 0));
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

/// `2026-05-01T12:00:00.123Z`, from milliseconds.
pub(crate) fn moment_to_the_millisecond(unix_ms: i64) -> String {
    let nanoseconds = i128::from(unix_ms) * 1_000_000;
    let formatted = OffsetDateTime::from_unix_timestamp_nanos(nanoseconds)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok());
    formatted.unwrap_or_else(|| format!("{unix_ms} ms"))
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
        assert_eq!(moment_to_the_millisecond(i64::MAX), format!("{} ms", i64::MAX));
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
