//! Finds node ids under which two processes run at the same time: a copied certificate, a copied machine.
//!
//! A node has another incarnation after each start, so two incarnations of one id are usual. Two that are both
//! alive are not. The proof needs no time limit: an answer to a question shows that the process was alive when
//! it was asked, and the handshake of a connection is such an answer. If one incarnation was alive after another
//! had been seen, and that one again after the first had been seen, neither has replaced the other. Bytes that
//! arrive late prove nothing, because they answer no later question.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use super::peer::PeerKey;
use crate::runtime::alarms::{Alarms, Source};
use brock_core::base::{
    id::{Incarnation, NodeId, Origin},
    limits,
};

/// Where a process was seen.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// It is this process.
    Here,
    /// It answers at an address of the roster.
    At(PeerKey),
    /// It has dialled this node.
    From(IpAddr),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here => f.write_str("this process"),
            Self::At(key) => write!(f, "at {key}"),
            Self::From(ip) => write!(f, "calling from {ip}"),
        }
    }
}

/// Several live processes under one node id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Duplicate {
    /// Their id.
    pub node_id: NodeId,
    /// Each with the places where it was seen.
    pub processes: Vec<(Incarnation, BTreeSet<Place>)>,
}

impl fmt::Display for Duplicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} processes run under the node id {}: ", self.processes.len(), self.node_id)?;
        for (index, (incarnation, places)) in self.processes.iter().enumerate() {
            let places: Vec<String> = places.iter().map(ToString::to_string).collect();
            let separator = if index == 0 { "" } else { ", and " };
            write!(f, "{separator}incarnation {incarnation} ({})", places.join(", "))?;
        }
        f.write_str(
            ". Peers pull from one of them only, so what clients write to the other one stays there. Give each node \
             its own node.id, certificate and storage; how the writes of both are saved: \
             docs/guides/troubleshooting.md, Two nodes run under one id",
        )
    }
}

/// The incarnations that were seen, of all node ids. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Duplicates(Arc<Mutex<BTreeMap<NodeId, Sightings>>>);

impl Duplicates {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Sightings>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The process `origin` has answered something that it was asked at `asked`.
    pub fn saw(&self, origin: &Origin, asked: Instant, place: Place) {
        let mut ids = self.lock();
        let node_id = origin.node_id();
        if !ids.contains_key(&node_id) && ids.len() >= limits::MEMBERS_MAX {
            let stalest = ids.iter().min_by_key(|(_, sightings)| sightings.newest());
            if let Some(stalest) = stalest.map(|(node_id, _)| node_id.clone()) {
                ids.remove(&stalest);
            }
        }
        // Read under the lock, so that sightings are in the order of their times.
        ids.entry(node_id).or_default().saw(origin.incarnation(), asked, Instant::now(), place);
    }

    /// Whether several processes run under this id, as far as was seen lately.
    pub fn includes(&self, node_id: &NodeId) -> bool {
        self.lock().get(node_id).is_some_and(|sightings| !sightings.duplicates(Instant::now()).is_empty())
    }

    /// The ids under which several processes run, as far as was seen lately.
    pub fn list(&self) -> Vec<Duplicate> {
        let now = Instant::now();
        let of = |(node_id, sightings): (&NodeId, &Sightings)| {
            let processes = sightings.duplicates(now);
            (!processes.is_empty()).then(|| Duplicate { node_id: node_id.clone(), processes })
        };
        self.lock().iter().filter_map(of).collect()
    }

    /// Raises an alarm for each such id, unless the last one is still kept. One that an operator has cleared is
    /// raised again only by a new proof.
    pub fn raise_alarms(&self, alarms: &Alarms) {
        for duplicate in self.list() {
            let mut ids = self.lock();
            let Some(sightings) = ids.get_mut(&duplicate.node_id) else { continue };
            let proved = sightings.seen.iter().filter_map(|seen| seen.proved).max();
            let is_due = match &mut sightings.alarm {
                Some((text, kept_at)) if alarms.list().iter().any(|alarm| alarm.text == *text) => {
                    *kept_at = Instant::now();
                    false
                }
                Some((_, kept_at)) => proved > Some(*kept_at),
                None => true,
            };
            if is_due {
                let text = duplicate.to_string();
                sightings.alarm = Some((text.clone(), Instant::now()));
                // Peers say who answers where, so together they have the share of one.
                let kind = duplicate.node_id.to_string();
                alarms.raise_of(Source::Peer("several peers".to_owned()), &kind, text);
            }
        }
    }
}

/// The incarnations of one node id.
#[derive(Debug, Default)]
struct Sightings {
    seen: Vec<Seen>,
    /// The alarm last raised, and when it was last among those that are kept.
    alarm: Option<(String, Instant)>,
}

#[derive(Debug)]
struct Seen {
    incarnation: Incarnation,
    /// When it was first seen, or was last proved to run beside another one.
    since: Instant,
    /// It was alive after this time.
    alive_after: Instant,
    /// When it was last proved to run beside another one.
    proved: Option<Instant>,
    places: BTreeSet<Place>,
}

impl Sightings {
    fn saw(&mut self, incarnation: Incarnation, asked: Instant, now: Instant, place: Place) {
        let index = match self.seen.iter().position(|seen| seen.incarnation == incarnation) {
            Some(index) => index,
            None => {
                if self.seen.len() >= limits::INCARNATIONS_WATCHED {
                    self.forget_one();
                }
                let places = BTreeSet::new();
                self.seen.push(Seen { incarnation, since: now, alive_after: asked, proved: None, places });
                self.seen.len() - 1
            }
        };
        let seen = &mut self.seen[index];
        seen.alive_after = seen.alive_after.max(asked);
        if seen.places.len() < limits::INCARNATION_PLACES {
            seen.places.insert(place);
        }
        let (since, alive_after) = (seen.since, seen.alive_after);
        let lives_beside = |other: &Seen| {
            other.incarnation != incarnation && alive_after > other.since && other.alive_after > since
        };
        let beside: Vec<usize> = (0..self.seen.len()).filter(|i| lives_beside(&self.seen[*i])).collect();
        if beside.is_empty() {
            return;
        }
        // The next proof needs both to be alive after this one.
        for index in beside.into_iter().chain([index]) {
            let seen = &mut self.seen[index];
            (seen.since, seen.proved) = (now, Some(now));
        }
    }

    /// When a process was last known to be alive.
    fn newest(&self) -> Option<Instant> {
        self.seen.iter().map(|seen| seen.alive_after).max()
    }

    fn forget_one(&mut self) {
        let oldest = (0..self.seen.len()).min_by_key(|index| self.seen[*index].alive_after);
        oldest.map(|index| self.seen.swap_remove(index));
    }

    /// The processes that were proved to run side by side lately; none or at least two.
    fn duplicates(&self, now: Instant) -> Vec<(Incarnation, BTreeSet<Place>)> {
        let is_recent = |at: Instant| now.saturating_duration_since(at) < limits::DUPLICATE_SHOWN_FOR;
        let recent = self.seen.iter().filter(|seen| seen.proved.is_some_and(is_recent));
        let mut processes: Vec<_> = recent.map(|seen| (seen.incarnation, seen.places.clone())).collect();
        if processes.len() < 2 {
            processes.clear();
        }
        processes.sort_by_key(|(incarnation, _)| *incarnation);
        processes
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    /// Sightings in the order in which they are told: the incarnation, when it was asked, and when that was
    /// told, in milliseconds.
    fn told(sightings: &[(u32, u64, u64)]) -> Vec<u32> {
        let begin = Instant::now();
        let at = |milliseconds| begin + Duration::from_millis(milliseconds);
        let mut of_one_id = Sightings::default();
        for (incarnation, asked, now) in sightings {
            of_one_id.saw(Incarnation(*incarnation), at(*asked), at(*now), Place::Here);
        }
        let last = sightings.last().map_or(0, |(_, _, now)| *now);
        of_one_id.duplicates(at(last)).iter().map(|(incarnation, _)| incarnation.0).collect()
    }

    #[test]
    fn two_that_are_both_alive_after_the_other_was_seen_are_duplicates() {
        // A, B, A again.
        assert_eq!(told(&[(1, 0, 1), (2, 10, 11), (1, 20, 21)]), [1, 2]);
        // Three of them.
        assert_eq!(told(&[(1, 0, 1), (2, 10, 11), (3, 12, 13), (1, 20, 21), (3, 22, 23)]), [1, 2, 3]);
    }

    #[test]
    fn a_restart_is_none_however_late_its_past_is_told() {
        assert_eq!(told(&[(1, 0, 1), (2, 10, 11), (2, 20, 21)]), [] as [u32; 0]);
        // An answer on a connection that was older than the restart.
        assert_eq!(told(&[(1, 0, 1), (2, 10, 11), (1, 5, 21), (2, 30, 31)]), [] as [u32; 0]);
        // The earlier one is heard of for the first time after the later one.
        assert_eq!(told(&[(2, 10, 11), (1, 5, 21), (2, 30, 31)]), [] as [u32; 0]);
        // Several restarts.
        let many: Vec<_> = (0..50).map(|i| (i, u64::from(i) * 10, u64::from(i) * 10 + 1)).collect();
        assert_eq!(told(&many), [] as [u32; 0]);
    }

    #[test]
    fn what_is_over_is_not_shown_for_ever_and_a_new_proof_is_needed() {
        let late = u64::try_from(limits::DUPLICATE_SHOWN_FOR.as_millis()).unwrap() + 100;
        let over = [(1, 0, 1), (2, 10, 11), (1, 20, 21), (1, late, late + 1)];
        assert_eq!(told(&over), [] as [u32; 0]);
        let again = [(1, 0, 1), (2, 10, 11), (1, 20, 21), (2, late, late + 1), (1, late + 2, late + 3)];
        assert_eq!(told(&again), [1, 2]);
    }

    #[test]
    fn an_id_is_watched_however_many_were_seen_before() {
        let duplicates = Duplicates::default();
        let alternate = |id: &str| {
            let node_id = id.parse().unwrap();
            for incarnation in [1, 2, 1, 2] {
                let origin = Origin::new(&node_id, Incarnation(incarnation));
                duplicates.saw(&origin, Instant::now(), Place::Here);
            }
            node_id
        };
        let seldom = alternate("seldom");
        let often = alternate("often");
        for number in 0..limits::MEMBERS_MAX {
            let once = Origin::new(&format!("once-{number}").parse().unwrap(), Incarnation(1));
            duplicates.saw(&once, Instant::now(), Place::Here);
            alternate("often");
        }
        let late = alternate("late");
        assert!(duplicates.includes(&late) && duplicates.includes(&often));
        assert!(!duplicates.includes(&seldom), "the one that was not seen for longest made room");
        assert_eq!(duplicates.lock().len(), limits::MEMBERS_MAX);
    }

    #[test]
    fn the_alarm_names_both_and_is_raised_again_only_after_it_was_cleared() {
        let alarms = Alarms::new(brock_core::base::time::WallClock::system());
        let duplicates = Duplicates::default();
        let origin = |incarnation| Origin::new(&"node-1".parse().unwrap(), Incarnation(incarnation));
        let alternate = || {
            for _ in 0..2 {
                duplicates.saw(&origin(1), Instant::now(), Place::At("a:1".into()));
                duplicates.saw(&origin(2), Instant::now(), Place::From([10, 0, 0, 7].into()));
            }
        };
        duplicates.raise_alarms(&alarms);
        assert_eq!(alarms.list(), []);
        alternate();
        duplicates.raise_alarms(&alarms);
        alternate();
        duplicates.raise_alarms(&alarms);
        let [alarm] = &alarms.list()[..] else { panic!("{:?}", alarms.list()) };
        let text = "2 processes run under the node id node-1: incarnation 00000001 (at a:1), and incarnation \
                    00000002 (calling from 10.0.0.7). Peers pull";
        assert!(alarm.text.starts_with(text), "{}", alarm.text);
        alarms.clear();
        duplicates.raise_alarms(&alarms);
        assert_eq!(alarms.list(), [], "it may have been corrected");
        alternate();
        duplicates.raise_alarms(&alarms);
        assert_eq!(alarms.list().len(), 1, "it was not");
    }

    /// One node's lives, each after the end of the one before: what is asked and answered in each, and how
    /// much later it is told.
    fn lives() -> impl Strategy<Value = Vec<(u32, u64, u64)>> {
        let answers = prop::collection::vec((0_u64..100, 0_u64..100, 0_u64..1000), 1..6);
        prop::collection::vec((1_u64..200, 0_u64..200, answers), 1..10).prop_map(|lives| {
            let (mut begin, mut told) = (0, Vec::new());
            for (incarnation, (lasts, pause, answers)) in (0..).zip(lives) {
                for (asked, took, delay) in answers {
                    // It may be asked before it is alive (a connection that waits), never after its end.
                    let asked = begin + asked * lasts / 100;
                    let answered = (asked + took).min(begin + lasts);
                    told.push((incarnation, asked, answered + delay));
                }
                begin += lasts + pause + 1;
            }
            told.sort_by_key(|(_, _, now)| *now);
            told
        })
    }

    proptest! {
        #[test]
        fn no_order_of_messages_makes_successive_lives_duplicates(told_of in lives()) {
            prop_assert_eq!(told(&told_of), [] as [u32; 0]);
        }

        #[test]
        fn two_parallel_lives_are_found_once_each_has_answered_twice(
            mut delays in prop::collection::vec(0_u64..50, 4),
        ) {
            delays.sort_unstable();
            // Each is asked after the other was told of.
            let of = |i: u32, at: u64, delay: u64| (i, at, at + 1 + delay);
            let told_of =
                [of(1, 0, delays[0]), of(2, 100, delays[1]), of(1, 200, delays[2]), of(2, 300, delays[3])];
            prop_assert_eq!(told(&told_of), [1, 2]);
        }
    }
}
