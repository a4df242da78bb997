//! Alarms: what an operator must look into. They are logged, and kept until an operator clears them.

use std::{
    collections::{HashMap, VecDeque},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use brock_core::base::{limits, time::WallClock};

/// What caused an alarm.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// This node.
    Here,
    /// A peer, by its address: it may cause as many as it likes.
    Peer(String),
}

/// An event that should not have happened, or needs an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// When it was last raised, seconds since the Unix epoch.
    pub at_unix: i64,
    /// What has happened, and what to do.
    pub text: String,
    /// What caused it.
    pub source: Source,
    /// How often it was raised.
    pub count: u64,
    /// Alarms of one source and kind are one.
    kind: String,
    logged_at: Instant,
}

/// The [`limits::ALARMS_MAX`] alarms of a node, of which each peer may have caused [`limits::ALARMS_PER_PEER`]. They
/// are not durable: after a restart the node raises an alarm again if its cause persists. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Alarms {
    kept: Arc<Mutex<VecDeque<Alarm>>>,
    wall_clock: WallClock,
}

impl Alarms {
    /// None yet. The clock tells when one is raised.
    pub fn new(wall_clock: WallClock) -> Self {
        Self { kept: Arc::default(), wall_clock }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Alarm>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs and keeps an alarm of this node. The same text again is counted.
    pub fn raise(&self, text: String) {
        self.raise_of(Source::Here, &text.clone(), text);
    }

    /// Logs and keeps an alarm. A further one of the same source and `kind` replaces the text of the one that is
    /// kept, and is counted, but not logged again for [`limits::REPEATED_LINE_INTERVAL`].
    ///
    /// Contract: an alarm that one peer causes never displaces that of another peer or of this node.
    pub fn raise_of(&self, source: Source, kind: &str, text: String) {
        let (at_unix, now) = (self.wall_clock.now(), Instant::now());
        let mut kept = self.lock();
        let known = kept.iter().position(|alarm| alarm.source == source && alarm.kind == kind);
        let known = known.and_then(|index| kept.remove(index));
        let is_due = known
            .as_ref()
            .is_none_or(|alarm| now.duration_since(alarm.logged_at) >= limits::REPEATED_LINE_INTERVAL);
        if is_due {
            tracing::error!("{text}");
        }
        if known.is_none() && !make_room(&mut kept, &source) {
            return;
        }
        let count = known.as_ref().map_or(1, |alarm| alarm.count.saturating_add(1));
        let logged_at = known.filter(|_| !is_due).map_or(now, |alarm| alarm.logged_at);
        kept.push_back(Alarm { at_unix, text, source, count, kind: kind.to_owned(), logged_at });
    }

    /// The kept alarms, oldest first.
    pub fn list(&self) -> Vec<Alarm> {
        self.lock().iter().cloned().collect()
    }

    /// Removes and returns all kept alarms. An alarm that is raised at the same time is returned or kept.
    pub fn clear(&self) -> Vec<Alarm> {
        mem::take(&mut *self.lock()).into()
    }
}

/// Removes the oldest alarm of the source itself if it is a peer with a full share, otherwise of the peer that has
/// most, if there is no room; this node's own alarms displace each other only. Returns whether there is room.
fn make_room(kept: &mut VecDeque<Alarm>, source: &Source) -> bool {
    let mut shares: HashMap<&Source, usize> = HashMap::new();
    kept.iter().for_each(|alarm| *shares.entry(&alarm.source).or_default() += 1);
    let own = shares.get(source).copied().unwrap_or_default();
    let gives_way = match source {
        Source::Peer(_) if own >= limits::ALARMS_PER_PEER => Some(source.clone()),
        _ if kept.len() < limits::ALARMS_MAX => None,
        _ => {
            let peers = shares.iter().filter(|(of, _)| ***of != Source::Here);
            let most = peers.max_by_key(|(_, share)| **share).map(|(of, _)| (*of).clone());
            most.or_else(|| (*source == Source::Here).then_some(Source::Here))
        }
    };
    if let Some(index) = gives_way.and_then(|of| kept.iter().position(|alarm| alarm.source == of)) {
        kept.remove(index);
    }
    kept.len() < limits::ALARMS_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(alarms: &Alarms) -> Vec<String> {
        alarms.list().into_iter().map(|alarm| format!("{} {}", alarm.text, alarm.count)).collect()
    }

    #[test]
    fn a_repeated_alarm_is_counted_and_shows_its_last_text() {
        let alarms = Alarms::new(WallClock::system());
        alarms.raise("disk".to_owned());
        for records in 1..=3 {
            alarms.raise_of(Source::Peer("a:1".to_owned()), "repair", format!("{records} records"));
        }
        alarms.raise("disk".to_owned());
        assert_eq!(texts(&alarms), ["3 records 3", "disk 2"]);
        assert_eq!(alarms.clear().len(), 2);
        assert_eq!(alarms.list(), []);
    }

    #[test]
    fn a_peer_displaces_its_own_alarms_only() {
        let alarms = Alarms::new(WallClock::system());
        let noisy = || Source::Peer("noisy:1".to_owned());
        alarms.raise("disk".to_owned());
        alarms.raise_of(Source::Peer("b:1".to_owned()), "x", "b".to_owned());
        for i in 0..1000 {
            alarms.raise_of(noisy(), &i.to_string(), i.to_string());
        }
        assert_eq!(texts(&alarms), ["disk 1", "b 1", "996 1", "997 1", "998 1", "999 1"]);
        // All places are taken, by many peers: those of this node stay, and it displaces the peer's that has most.
        for i in 0..100 {
            alarms.raise_of(Source::Peer(i.to_string()), "x", "x".to_owned());
        }
        assert_eq!(alarms.list().len(), limits::ALARMS_MAX);
        alarms.raise("rolled back".to_owned());
        let kept = alarms.list();
        assert_eq!(kept.len(), limits::ALARMS_MAX);
        assert_eq!(kept.iter().filter(|alarm| alarm.source == Source::Here).count(), 2);
    }
}
