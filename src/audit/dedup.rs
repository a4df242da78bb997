//! The same thing over and over: the first is a line of its own, the others are counted and told once
//! in a while. So neither a console that looks every second nor a flood of denied calls fills the log.

use std::collections::HashMap;

use super::entry::{Draft, Kind, More, What, Who};
use brock_core::base::limits;

/// What makes two things the same: everything but the time and the port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Same {
    kind: Kind,
    certificate: String,
    address: String,
    method: Option<String>,
    outcome: Option<String>,
    what: String,
}

/// What to do with something that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// Write it.
    First,
    /// It is counted.
    Again,
    /// There are too many different ones to count them one by one.
    TooMany,
}

/// What is counted until it is told.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    seen: HashMap<Same, (Draft, Option<More>)>,
    others: Option<More>,
}

impl Repeats {
    pub(super) fn note(&mut self, draft: &Draft, now_ms: u64) -> Seen {
        let is_full = self.seen.len() >= limits::AUDIT_REPEATS_MAX;
        let same = same(draft);
        if let Some((_, more)) = self.seen.get_mut(&same) {
            count(more, now_ms);
            return Seen::Again;
        }
        if is_full {
            return Seen::TooMany;
        }
        self.seen.insert(same, (draft.clone(), None));
        Seen::First
    }

    /// Counts what is too much to be told apart.
    pub(super) fn note_other(&mut self, now_ms: u64) {
        count(&mut self.others, now_ms);
    }

    /// Counts what has a line already; otherwise it needs one.
    pub(super) fn again(&mut self, draft: &Draft, now_ms: u64) -> bool {
        let seen = self.seen.get_mut(&same(draft));
        seen.map(|(_, more)| count(more, now_ms)).is_some()
    }

    /// Its line is durable: the same again may be counted, if there is room.
    pub(super) fn remember(&mut self, draft: &Draft) {
        if self.seen.len() < limits::AUDIT_REPEATS_MAX {
            self.seen.entry(same(draft)).or_insert_with(|| (draft.clone(), None));
        }
    }

    /// What was counted. What has happened once only is forgotten.
    pub(super) fn take(&mut self) -> Vec<Draft> {
        let mut told = Vec::new();
        self.seen.retain(|_, (draft, more)| match more.take() {
            Some(more) => {
                told.push(Draft { more: Some(more), call: None, ..draft.clone() });
                true
            }
            None => false,
        });
        if let Some(more) = self.others.take() {
            let what: What =
                std::iter::once(("who".to_owned(), "several, too many to be told apart".into())).collect();
            told.push(Draft { more: Some(more), ..Draft::note(Kind::Denied, what) });
        }
        told
    }
}

fn same(draft: &Draft) -> Same {
    let Draft { kind, call: _, who, method, outcome, what, more: _ } = draft;
    let part = |part: fn(&Who) -> &str| who.as_ref().map(part).unwrap_or_default().to_owned();
    Same {
        kind: *kind,
        certificate: part(|who| &who.certificate),
        address: part(|who| who.from.rsplit_once(':').map_or(who.from.as_str(), |(address, _)| address)),
        method: method.clone(),
        outcome: outcome.clone(),
        what: serde_json::to_string(what).unwrap_or_default(),
    }
}

fn count(more: &mut Option<More>, now_ms: u64) {
    let more = more.get_or_insert(More { count: 0, first_unix_ms: now_ms, last_unix_ms: now_ms });
    more.count += 1;
    more.last_unix_ms = now_ms;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied(certificate: &str, port: u16) -> Draft {
        let who = Who {
            role: "client".to_owned(),
            name: None,
            domain: None,
            serial: "01".to_owned(),
            certificate: certificate.to_owned(),
            from: format!("[::1]:{port}"),
        };
        Draft { who: Some(who), ..Draft::note(Kind::Denied, What::new()) }
    }

    #[test]
    fn the_first_is_a_line_and_the_others_are_counted_whatever_their_port() {
        let mut repeats = Repeats::default();
        assert_eq!(repeats.note(&denied("a", 1), 10), Seen::First);
        assert_eq!(repeats.note(&denied("b", 1), 11), Seen::First);
        for at in 12..=1012 {
            assert_eq!(repeats.note(&denied("a", at), at.into()), Seen::Again);
        }
        let [told] = repeats.take().try_into().unwrap();
        assert_eq!(told.more, Some(More { count: 1001, first_unix_ms: 12, last_unix_ms: 1012 }));
        assert_eq!(told.who, denied("a", 1).who);
        // What goes on is not begun anew; what has ended is forgotten.
        assert_eq!(repeats.note(&denied("a", 1), 2000), Seen::Again);
        assert_eq!(repeats.note(&denied("b", 1), 2000), Seen::First);
        assert_eq!(repeats.take().len(), 1);
        assert_eq!(repeats.take(), []);
        assert_eq!(repeats.note(&denied("a", 1), 3000), Seen::First);
    }

    #[test]
    fn however_many_there_are_they_take_so_many_lines() {
        let mut repeats = Repeats::default();
        let firsts = (0..10 * limits::AUDIT_REPEATS_MAX).filter(|i| {
            let seen = repeats.note(&denied(&i.to_string(), 1), 5);
            if seen == Seen::TooMany {
                repeats.note_other(5);
            }
            seen == Seen::First
        });
        assert_eq!(firsts.count(), limits::AUDIT_REPEATS_MAX);
        let [told] = repeats.take().try_into().unwrap();
        assert_eq!(told.more.unwrap().count as usize, 9 * limits::AUDIT_REPEATS_MAX);
        assert_eq!(told.who, None);
    }
}
