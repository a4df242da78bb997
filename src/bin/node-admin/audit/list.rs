//! `audit list`: the lines of a log that match the filters.

use std::{collections::HashSet, path::PathBuf};

use crate::{
    audit::failed,
    cli::{Filter, Format},
    failure::Failure,
    key, output,
};
use brock::audit::{
    entry::{Kind, Line, Who, key_mark},
    verify,
};

/// Prints line by line, because a log may be larger than the memory.
pub(super) fn run(places: &[PathBuf], filter: &Filter, format: Format) -> Result<(), Failure> {
    let key_hash = match (&filter.key, &filter.key_file) {
        (Some(key), _) => Some(key::argument("--key", key)?),
        (None, Some(file)) => Some(key::from_file(file)?),
        (None, None) => None,
    };
    let mark = key_hash.map(|key_hash| key_mark(&key_hash.0));
    let (mut broken, mut calls, mut is_empty) = (None, HashSet::new(), true);
    for path in verify::collect(places).map_err(|error| failed(&error))? {
        let mut printed = Ok(());
        let read = verify::read(&path, |line| {
            // The outcome of a call has no key of its own.
            let call = line.call.map(|call| (line.incarnation.clone(), call));
            let ends = line.kind == Kind::Outcome && call.as_ref().is_some_and(|call| calls.remove(call));
            let mark = mark.as_deref().filter(|_| !ends);
            if printed.is_ok() && is_wanted(line, filter, mark) {
                calls.extend(call.filter(|_| line.kind == Kind::Intent));
                printed = print(line, format);
                is_empty = false;
            }
        });
        printed?;
        if let Err(error) = read {
            output::message(&format!("error: {error}. The rest of this file is not shown"));
            broken = Some(failed(&error));
        }
    }
    if is_empty && broken.is_none() {
        output::message("note: nothing in these logs is what was asked for");
    }
    let remark = "not everything could be shown: `audit verify` says what is wrong";
    broken.map_or(Ok(()), |failure| Err(failure.with_remark(remark)))
}

fn is_wanted(line: &Line, filter: &Filter, mark: Option<&str>) -> bool {
    let Filter { since, until, who, method, denied, key: _, key_file: _ } = filter;
    let about =
        |mark: &str| ["key", "after_key"].iter().any(|name| line.what.get(*name).is_some_and(|v| v == mark));
    // A line of counted events states when they happened: it is written up to a minute later.
    let (first_unix_ms, last_unix_ms) =
        line.more.map_or((line.at_unix_ms, line.at_unix_ms), |more| (more.first_unix_ms, more.last_unix_ms));
    since.is_none_or(|since| last_unix_ms >= since)
        && until.is_none_or(|until| first_unix_ms < until)
        && who.as_ref().is_none_or(|who| line.who.as_ref().is_some_and(|line| is_by(line, who)))
        && method
            .as_ref()
            .is_none_or(|method| line.method.as_ref().is_some_and(|m| m.eq_ignore_ascii_case(method)))
        && (!denied || line.kind == Kind::Denied)
        && mark.is_none_or(about)
}

fn is_by(who: &Who, wanted: &str) -> bool {
    let Who { role, name, domain: _, serial, certificate, from } = who;
    let address = from.rsplit_once(':').map_or(from.as_str(), |(address, _)| address);
    let named = [Some(role), name.as_ref(), Some(serial), Some(certificate), Some(from)];
    named.into_iter().flatten().any(|word| word == wanted) || address.trim_matches(['[', ']']) == wanted
}

fn print(line: &Line, format: Format) -> Result<(), Failure> {
    let text = match format {
        Format::Json => {
            let (bytes, _) = line.render().map_err(Failure::Error)?;
            String::from_utf8_lossy(&bytes).into_owned()
        }
        // A list of one item: the next line on standard output continues the same list.
        Format::Yaml => {
            let (bytes, _) = line.render().map_err(Failure::Error)?;
            let line: serde_json::Value = serde_json::from_slice(&bytes).map_err(Failure::nonsense)?;
            output::yaml(&[line])?
        }
        Format::Text => text(line),
    };
    output::print(&text)
}

/// `17  2026-05-01T12:00:00.123Z  intent  admin ops from 127.0.0.1:4711  Invalidate  reason="leaked"`
fn text(line: &Line) -> String {
    let mut parts = vec![
        line.sequence.to_string(),
        output::moment_to_the_millisecond(i64::try_from(line.at_unix_ms).unwrap_or(i64::MAX)),
        kind(line.kind).to_owned(),
    ];
    if let Some(who) = &line.who {
        let name = who.name.clone().unwrap_or_else(|| format!("(serial {})", who.serial));
        parts.push(format!("{} {name} from {}", who.role, who.from));
    }
    parts.extend(line.method.clone());
    parts.extend(line.outcome.clone());
    parts.extend(line.more.map(|more| format!("{} more", more.count)));
    let what = line.what.iter().map(|(name, value)| format!("{name}={value}"));
    parts.extend(what);
    output::printable(&parts.join("  ")) + "\n"
}

pub(super) fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "file",
        Kind::Start => "start",
        Kind::Stop => "stop",
        Kind::Intent => "intent",
        Kind::Outcome => "outcome",
        Kind::Read => "read",
        Kind::Denied => "denied",
        Kind::Dropped => "dropped",
        Kind::Damaged => "damaged",
        Kind::Torn => "torn",
        Kind::Gap => "gap",
    }
}

#[cfg(test)]
mod tests {
    use brock::audit::entry::{Draft, Head, More, Origin, What};

    use super::*;

    fn line() -> Line {
        let who = Who {
            role: "admin".to_owned(),
            name: Some("ops".to_owned()),
            domain: Some("brock".to_owned()),
            serial: "01".to_owned(),
            certificate: "cd".repeat(32),
            from: "[::1]:4711".to_owned(),
        };
        let mut what = What::new();
        what.insert("key".to_owned(), "ab".into());
        what.insert("reason".to_owned(), "a\x1b\"b".into());
        let draft = Draft {
            who: Some(who),
            method: Some("Invalidate".to_owned()),
            ..Draft::note(Kind::Intent, what)
        };
        let origin =
            Origin { node: "n".to_owned(), incarnation: "1".to_owned(), at_unix_ms: 1_777_636_800_123 };
        Line::after(&Head::beginning(), &origin, draft)
    }

    #[test]
    fn a_line_for_people_is_this_text() {
        let expected = "1  2026-05-01T12:00:00.123Z  intent  admin ops from [::1]:4711  Invalidate  key=\"ab\"  \
                        reason=\"a\\u001b\\\"b\"\n";
        assert_eq!(text(&line()), expected);
    }

    #[test]
    fn each_filter_leaves_out_what_it_says() {
        let all = || Filter {
            since: None,
            until: None,
            who: None,
            method: None,
            denied: false,
            key: None,
            key_file: None,
        };
        let at = line().at_unix_ms;
        for (filter, mark, wanted) in [
            (all(), None, true),
            (all(), Some("ab"), true),
            (all(), Some("ac"), false),
            (Filter { since: Some(at), ..all() }, None, true),
            (Filter { since: Some(at + 1), ..all() }, None, false),
            (Filter { until: Some(at), ..all() }, None, false),
            (Filter { until: Some(at + 1), ..all() }, None, true),
            (Filter { who: Some("ops".to_owned()), ..all() }, None, true),
            (Filter { who: Some("::1".to_owned()), ..all() }, None, true),
            (Filter { who: Some("op".to_owned()), ..all() }, None, false),
            (Filter { method: Some("invalidate".to_owned()), ..all() }, None, true),
            (Filter { method: Some("Delete".to_owned()), ..all() }, None, false),
            (Filter { denied: true, ..all() }, None, false),
        ] {
            assert_eq!(is_wanted(&line(), &filter, mark), wanted, "{filter:?} {mark:?}");
        }
        let denied = Line { kind: Kind::Denied, ..line() };
        assert!(is_wanted(&denied, &Filter { denied: true, ..all() }, None));
        // Counted from then until then, and written later.
        let more = More { count: 3, first_unix_ms: at - 90, last_unix_ms: at - 50 };
        let counted = Line { more: Some(more), ..line() };
        for (filter, wanted) in [
            (Filter { since: Some(at - 50), ..all() }, true),
            (Filter { since: Some(at - 49), ..all() }, false),
            (Filter { until: Some(at - 89), ..all() }, true),
            (Filter { until: Some(at - 90), ..all() }, false),
        ] {
            assert_eq!(is_wanted(&counted, &filter, None), wanted, "{filter:?}");
        }
    }
}
