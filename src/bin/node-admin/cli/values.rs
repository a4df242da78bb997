//! The values of arguments. They are checked while the command line is parsed.

use std::time::Duration;

use crate::stamp;
use brock::{api::grpc::calls, audit::entry::Head};
use brock_core::base::{
    duration,
    id::{NodeId, Origin},
    limits,
};
use brock_net::address::Address;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// How many other members must hold an operation before a command ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    Nodes(u32),
    All,
}

pub(super) fn wait(text: &str) -> Result<Wait, String> {
    match (text, text.parse()) {
        ("all", _) => Ok(Wait::All),
        (_, Ok(nodes)) => Ok(Wait::Nodes(nodes)),
        (_, Err(_)) => Err("must be a number of nodes, or `all`".to_owned()),
    }
}

/// A member is named by its node id, or by its address if it never answered.
pub(super) fn member(text: &str) -> Result<String, String> {
    let problem = match (text.contains(':'), text.parse::<Address>(), text.parse::<NodeId>()) {
        (true, Err(error), _) => error.to_string(),
        (false, _, Err(error)) => error.to_string(),
        _ => return Ok(text.to_owned()),
    };
    Err(format!("{problem}; name a member as `members` shows it, by its node id or its HOST:PORT"))
}

/// An origin, as statuses show it.
pub(super) fn origin(text: &str) -> Result<Origin, String> {
    stamp::origin(text).map_err(|error| error.to_string())
}

pub(super) fn node_id(text: &str) -> Result<String, String> {
    text.parse::<NodeId>().map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// The name of a context, which needs no quotes in TOML.
pub(super) fn context_name(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    match (1..=64).contains(&text.len()) && text.chars().all(allowed) {
        true => Ok(text.to_owned()),
        false => Err("must be 1 to 64 letters, digits, '.', '_' or '-'".to_owned()),
    }
}

pub(super) fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration::parse(text) {
        Ok(Duration::ZERO) => Err("must be longer than 0".to_owned()),
        // A day is longer than needed, and keeps sums of instants from overflowing.
        Ok(duration) if duration > Duration::from_secs(86_400) => Err("must be at most 24h".to_owned()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(error.to_string()),
    }
}

/// How long ago, or when: milliseconds since the Unix epoch.
pub(super) fn moment_unix_ms(text: &str) -> Result<u64, String> {
    let milliseconds = |moment: OffsetDateTime| u64::try_from(moment.unix_timestamp_nanos() / 1_000_000);
    let ago = duration::parse(text)
        .ok()
        .and_then(|ago| OffsetDateTime::now_utc().checked_sub(ago.try_into().ok()?));
    let moment = ago.or_else(|| OffsetDateTime::parse(text, &Rfc3339).ok());
    moment.and_then(|moment| milliseconds(moment).ok()).ok_or_else(|| {
        "must be how long ago, such as 24h, or a time, such as 2026-05-01T12:00:00Z".to_owned()
    })
}

/// A method of the audit log, whatever its case.
pub(super) fn method(text: &str) -> Result<String, String> {
    // A call of a method that does not exist is denied, and recorded as this.
    let methods = || calls::TABLE.iter().map(calls::Call::method).chain(["unknown"]);
    if methods().any(|method| method.eq_ignore_ascii_case(text)) {
        return Ok(text.to_owned());
    }
    let distance = |method: &&str| strsim::levenshtein(&method.to_lowercase(), &text.to_lowercase());
    let nearest = methods().min_by_key(distance).unwrap_or_default();
    Err(format!("there is no such method; did you mean {nearest}?"))
}

pub(super) fn head(text: &str) -> Result<Head, String> {
    Head::parse(text)
        .ok_or_else(|| "must be NUMBER:HASH, as `audit head` and `audit verify` show it".to_owned())
}

pub(super) fn size(text: &str) -> Result<usize, String> {
    within(text, limits::PAYLOAD_MAX_BYTES)
}

pub(super) fn items(text: &str) -> Result<usize, String> {
    within(text, limits::BATCH_ITEMS_MAX)
}

pub(super) fn depth(text: &str) -> Result<usize, String> {
    within(text, limits::SESSION_DEPTH)
}

fn within(text: &str, max: usize) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if (1..=max).contains(&number) => Ok(number),
        _ => Err(format!("must be a whole number from 1 to {max}")),
    }
}

pub(super) fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.001..=1e8).contains(&rate) => Ok(rate),
        _ => Err("must be a number from 0.001 to 100000000".to_owned()),
    }
}

pub(super) fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("must be a number from 0 to 1".to_owned()),
    }
}
