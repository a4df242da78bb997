//! Repeated events: the first one is a line of its own, the others are counted, and the count is a line once
//! in a while. So neither a console that polls every second nor a flood of denied calls fills the log.

use std::collections::HashMap;

use super::entry::{Draft, Kind, More, What, Who};
use brock_core::base::limits;

/// Two events are the same if they differ only in the time and the port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct EventKey {
    kind: Kind,
    certificate: String,
    address: String,
    method: Option<String>,
    outcome: Option<String>,
    what: String,
}

/// What to do with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// It is new: write a line.
    First,
    /// It was counted.
    Repeated,
    /// There are too many different events to count each.
    TooMany,
}

/// The events of the last interval.
#[derive(Debug, Default)]
pub(super) struct Dedup {
    seen: HashMap<EventKey, (Draft, Option<More>)>,
    others: Option<More>,
}

impl Dedup {
    /// Counts an event, if it is not new.
    pub(super) fn observe(&mut self, draft: &Draft, now_ms: u64) -> Seen {
        let is_full = self.seen.len() >= limits::AUDIT_REPEATS_MAX;
        let key = key(draft);
        if let Some((_, more)) = self.seen.get_mut(&key) {
            count(more, now_ms);
            return Seen::Repeated;
        }
        if is_full {
            return Seen::TooMany;
        }
        self.seen.insert(key, (draft.clone(), None));
        Seen::First
    }

    /// Counts an event for which [`Seen::TooMany`] was returned.
    pub(super) fn count_other(&mut self, now_ms: u64) {
        count(&mut self.others, now_ms);
    }

    /// Counts an event that has a line already; returns false if it has none.
    pub(super) fn count_repeat(&mut self, draft: &Draft, now_ms: u64) -> bool {
        let seen = self.seen.get_mut(&key(draft));
        seen.map(|(_, more)| count(more, now_ms)).is_some()
    }

    /// The event has a durable line now: its repetitions may be counted, if there is room.
    pub(super) fn remember(&mut self, draft: &Draft) {
        if self.seen.len() < limits::AUDIT_REPEATS_MAX {
            self.seen.entry(key(draft)).or_insert_with(|| (draft.clone(), None));
        }
    }

    /// Returns the counts as drafts, and forgets the events that were not repeated.
    pub(super) fn drain(&mut self) -> Vec<Draft> {
        let mut counted = Vec::new();
        self.seen.retain(|_, (draft, more)| match more.take() {
            Some(more) => {
                counted.push(Draft { more: Some(more), call: None, ..draft.clone() });
                true
            }
            None => false,
        });
        if let Some(more) = self.others.take() {
            let what: What =
                std::iter::once(("who".to_owned(), "several, too many to be counted one by one".into()))
                    .collect();
            counted.push(Draft { more: Some(more), ..Draft::note(Kind::Denied, what) });
        }
        counted
    }
}

fn key(draft: &Draft) -> EventKey {
    let Draft { kind, call: _, who, method, outcome, what, more: _ } = draft;
    let part = |part: fn(&Who) -> &str| who.as_ref().map(part).unwrap_or_default().to_owned();
    EventKey {
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
    fn the_first_event_is_a_line_and_repetitions_are_counted_whatever_their_port() {
        let mut dedup = Dedup::default();
        assert_eq!(dedup.observe(&denied("a", 1), 10), Seen::First);
        assert_eq!(dedup.observe(&denied("b", 1), 11), Seen::First);
        for at in 12..=1012 {
            assert_eq!(dedup.observe(&denied("a", at), at.into()), Seen::Repeated);
        }
        let [counted] = dedup.drain().try_into().unwrap();
        assert_eq!(counted.more, Some(More { count: 1001, first_unix_ms: 12, last_unix_ms: 1012 }));
        assert_eq!(counted.who, denied("a", 1).who);
        // A repeated event stays counted; the other one is forgotten.
        assert_eq!(dedup.observe(&denied("a", 1), 2000), Seen::Repeated);
        assert_eq!(dedup.observe(&denied("b", 1), 2000), Seen::First);
        assert_eq!(dedup.drain().len(), 1);
        assert_eq!(dedup.drain(), []);
        assert_eq!(dedup.observe(&denied("a", 1), 3000), Seen::First);
    }

    #[test]
    fn the_number_of_lines_is_bounded_however_many_events_there_are() {
        let mut dedup = Dedup::default();
        let firsts = (0..10 * limits::AUDIT_REPEATS_MAX).filter(|i| {
            let seen = dedup.observe(&denied(&i.to_string(), 1), 5);
            if seen == Seen::TooMany {
                dedup.count_other(5);
            }
            seen == Seen::First
        });
        assert_eq!(firsts.count(), limits::AUDIT_REPEATS_MAX);
        let [counted] = dedup.drain().try_into().unwrap();
        assert_eq!(counted.more.unwrap().count as usize, 9 * limits::AUDIT_REPEATS_MAX);
        assert_eq!(counted.who, None);
    }
}
