//! `log tail`: the newest entries of a node's log.

use crate::{
    answer,
    cli::{Format, Tail},
    failure::Failure,
    output, paint, stamp,
};
use brock_client::{Client, error::reason_of, view::trace::operation_name};
use brock_core::{base::vector::Stamp, proto};
use data_encoding::HEXLOWER;
use serde::Serialize;
use tokio::time::timeout;

/// A terminal with fewer columns gets a shorter row.
const WIDE: usize = 100;

/// Prints entries of the first node that answers, one by one as they come.
pub(crate) async fn tail(client: &Client, options: &Tail, format: Format) -> Result<(), Failure> {
    let request = proto::TailLogRequest { last: options.last, follow: options.follow };
    let mut entries = answer::reported(client.tail_log(request).await)?;
    let columns = output::terminal_columns();
    if format == Format::Text && !output::print_on(&Entry::heading(columns))? {
        return Ok(());
    }
    loop {
        let next = entries.message();
        let next = match options.follow {
            // The pings of the connection detect a dead node.
            true => next.await,
            false => match timeout(client.timeout(), next).await {
                Ok(next) => next,
                Err(_) => return Err(Failure::Unreachable("the node's answer broke off".to_owned())),
            },
        };
        let entry = match next {
            Ok(Some(entry)) => Entry::new(entry)?,
            Ok(None) if options.follow => {
                return Err(Failure::Unreachable("the node's answer broke off".to_owned()));
            }
            Ok(None) => return Ok(()),
            Err(status) => {
                return Err(Failure::answered(&tonic::Status::new(status.code(), reason_of(&status))));
            }
        };
        let text = match format {
            Format::Text => entry.text(columns),
            Format::Json => output::json_line(&entry)?,
            Format::Yaml => format!("---\n{}", output::yaml(&entry)?),
        };
        if !output::print_on(&text)? {
            return Ok(());
        }
    }
}

/// What `log tail` prints for each entry.
#[derive(Debug, Serialize)]
struct Entry {
    origin: String,
    clock: u64,
    operation: &'static str,
    key_hash: String,
    /// `null` if not known.
    applied_unix_ms: Option<i64>,
    log_bytes: u64,
    quarantined: bool,
}

impl Entry {
    fn new(entry: proto::LogEntry) -> Result<Self, Failure> {
        let proto::LogEntry { stamp, kind, key_hash, applied_unix_ms, log_bytes, quarantined } = entry;
        let Stamp { origin, clock } = stamp::from_wire(stamp)?;
        Ok(Self {
            origin: origin.to_string(),
            clock: clock.0,
            operation: operation_name(kind),
            key_hash: HEXLOWER.encode(&key_hash),
            applied_unix_ms: (applied_unix_ms != 0).then_some(applied_unix_ms),
            log_bytes,
            quarantined,
        })
    }

    /// Columns of a fixed width, because later rows are not known yet. A narrow terminal has no room for the date
    /// and the size.
    fn row(cells: [&str; 6], columns: Option<usize>) -> String {
        let [applied, stamp, operation, bytes, note, key_hash] = cells;
        let row = match columns {
            Some(..WIDE) => {
                let time = applied.split_once('T').map_or(applied, |(_, time)| time);
                format!("{time:13}  {stamp:24}  {operation:10}  {note:11}  {key_hash}")
            }
            _ => format!("{applied:24}  {stamp:24}  {operation:10}  {bytes:>6}  {note:11}  {key_hash}"),
        };
        let row = row.trim_end();
        match columns {
            Some(columns) if paint::plain(row).chars().count() > columns => paint::cut(row, columns) + "\n",
            _ => row.to_owned() + "\n",
        }
    }

    fn heading(columns: Option<usize>) -> String {
        Self::row(["APPLIED HERE", "STAMP", "OPERATION", "BYTES", "NOTE", "KEY HASH"], columns)
    }

    fn text(&self, columns: Option<usize>) -> String {
        let applied = self.applied_unix_ms.map_or_else(|| "?".to_owned(), output::moment_to_the_millisecond);
        let stamp = stamp::text(&self.origin, self.clock);
        let note = if self.quarantined { "quarantined" } else { "" };
        let bytes = self.log_bytes.to_string();
        Self::row([&applied, &stamp, self.operation, &bytes, note, &self.key_hash], columns)
    }
}

#[cfg(test)]
mod tests {
    use brock_core::proto::operation::Kind;
    use bytes::Bytes;

    use super::*;

    fn entry(quarantined: bool) -> Entry {
        let kind = if quarantined { Kind::Unspecified } else { Kind::Create };
        Entry::new(proto::LogEntry {
            stamp: Some(stamp::to_wire(&stamp::parse("node-1/9f3c2a10:42").unwrap())),
            kind: kind.into(),
            key_hash: Bytes::from(vec![0xab; 32]),
            applied_unix_ms: if quarantined { 0 } else { 1_777_636_800_123 },
            log_bytes: 120,
            quarantined,
        })
        .unwrap()
    }

    #[test]
    fn an_entry_is_a_line_of_json() {
        let expected = format!(
            "{{\"origin\":\"node-1/9f3c2a10\",\"clock\":42,\"operation\":\"create\",\"key_hash\":\"{}\",\
             \"applied_unix_ms\":1777636800123,\"log_bytes\":120,\"quarantined\":false}}\n",
            "ab".repeat(32)
        );
        assert_eq!(output::json_line(&entry(false)).unwrap(), expected);
        let json: serde_json::Value =
            serde_json::from_str(&output::json_line(&entry(true)).unwrap()).unwrap();
        assert_eq!(
            (&json["applied_unix_ms"], &json["operation"]),
            (&serde_json::Value::Null, &"unknown".into())
        );
    }

    #[test]
    fn entries_stand_below_their_headings() {
        let heading = Entry::heading(None);
        let text = entry(true).text(None);
        assert!(
            heading.ends_with("  KEY HASH\n") && text.ends_with(&("ab".repeat(32) + "\n")),
            "{heading}{text}"
        );
        assert_eq!(heading.find("NOTE"), text.find("quarantined"));
        assert_eq!(heading.find("KEY HASH"), text.find("abab"));
        assert!(text.starts_with("?  "), "what is not known is no time: {text}");
    }

    #[test]
    fn a_terminal_of_eighty_columns_still_shows_the_beginning_of_the_key_hash() {
        let [heading, text] = [Entry::heading(Some(80)), entry(false).text(Some(80))];
        assert!(text.contains("12:00:00.123Z") && text.contains(&"ab".repeat(6)), "{text}");
        assert!(text.trim_end().chars().count() <= 80, "{text}");
        assert_eq!(heading.find("KEY HASH"), text.find("abab"));
    }
}
