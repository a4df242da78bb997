//! Times as people write them.

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Reads a time in the format of RFC 3339, in milliseconds since the Unix epoch.
pub fn parse_time_ms(text: &str) -> Option<u64> {
    let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    u64::try_from(moment.unix_timestamp_nanos() / 1_000_000).ok()
}
