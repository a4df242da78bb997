//! Decides what a donor sends next to one puller.
//!
//! The donor sends its own origins at once. It relays those of other nodes only when no other donor seems
//! to supply them: a puller announces what it has applied from elsewhere, and an origin that keeps rising
//! without this donor's help is left to the others. So an operation normally crosses each link of a full
//! mesh once, and still reaches a node whose only path is a relay.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use brock_core::base::{
    id::{NodeId, Origin},
    limits,
    vector::{Clock, Vector},
};

/// What one puller has, and what to send to it next. Does no I/O.
#[derive(Debug)]
pub struct Feed {
    own: NodeId,
    /// How long a foreign origin is left to other donors.
    relay_delay: Duration,
    /// Sent, or known to be at the puller already.
    sent: Vector,
    /// The part of `sent` that this donor sent itself.
    sent_here: HashMap<Origin, Clock>,
    /// Acknowledged by the puller.
    applied: Vector,
    in_flight: VecDeque<(Origin, Clock)>,
    /// Since when the puller has lacked something of a foreign origin without getting any of it.
    missing_since: HashMap<Origin, Instant>,
    /// Foreign origins whose last rise at the puller came from this donor: no other donor supplies them.
    supplied_here: HashSet<Origin>,
    /// The puller does not take these from this donor.
    declined: HashSet<Origin>,
    last: Option<Origin>,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Send what follows this clock of this origin.
    Send(Origin, Clock),
    /// Nothing for now; look again at this time, or when something changes.
    Wait(Option<Instant>),
}

impl Feed {
    /// A puller with this vector has just said hello to node `own`.
    pub fn new(own: NodeId, vector: Vector, relay_delay: Duration) -> Self {
        Self {
            own,
            relay_delay,
            sent: vector.clone(),
            sent_here: HashMap::new(),
            applied: vector,
            in_flight: VecDeque::new(),
            missing_since: HashMap::new(),
            supplied_here: HashSet::new(),
            declined: HashSet::new(),
            last: None,
        }
    }

    /// The puller has made this durable.
    pub fn acknowledge(&mut self, applied: &Vector) {
        for (origin, clock) in applied.iter() {
            self.applied.raise(origin, clock);
            if clock > self.sent_here.get(&origin).copied().unwrap_or_default()
                && self.sent.raise(origin, clock)
            {
                self.missing_since.remove(&origin);
                self.supplied_here.remove(&origin);
            }
        }
        let applied = &self.applied;
        self.in_flight.retain(|(origin, through)| applied.get(origin) < *through);
    }

    /// A batch of `origin` up to `through` was sent.
    pub fn sent(&mut self, origin: Origin, through: Clock) {
        self.sent.raise(origin, through);
        self.sent_here.insert(origin, through);
        self.supplied_here.insert(origin);
        self.in_flight.push_back((origin, through));
        self.last = Some(origin);
    }

    /// The puller does not take this origin from here: nothing of it is in flight, and nothing more is sent.
    pub fn decline(&mut self, origin: Origin) {
        // Of what was never sent, nothing is kept.
        if self.sent_here.contains_key(&origin) {
            self.in_flight.retain(|(sent, _)| *sent != origin);
            self.declined.insert(origin);
        }
    }

    /// Nothing of this origin can be sent.
    pub fn leave_out(&mut self, origin: Origin) {
        self.declined.insert(origin);
    }

    /// What the puller has, or will have once the batches in flight arrive.
    pub fn vector(&self) -> &Vector {
        &self.sent
    }

    /// What to do, given what the store has above [`Feed::vector`]. Origins take turns, but for the first batch of one
    /// that the donor `prefers`: it vouches for it, and a puller takes a bounded number of new origins only.
    pub fn next(&mut self, above: &Vector, prefers: impl Fn(&Origin) -> bool, now: Instant) -> Next {
        self.missing_since.retain(|origin, _| above.get(origin) > Clock::default());
        if self.in_flight.len() >= limits::BATCHES_IN_FLIGHT {
            return Next::Wait(None);
        }
        let mut earliest: Option<Instant> = None;
        // The best choice so far, and its rank: what is preferred first, then in turn.
        let mut best: Option<((bool, bool), Origin)> = None;
        for (origin, _) in above.iter() {
            if self.declined.contains(&origin) {
                continue;
            }
            let at = self.send_at(origin, now);
            if at > now {
                earliest = Some(earliest.map_or(at, |earliest| earliest.min(at)));
                continue;
            }
            let in_turn = self.last.is_none_or(|last| origin > last);
            if best.is_some_and(|(best, _)| best >= (true, in_turn)) {
                continue;
            }
            let is_new = self.sent.get(&origin) == Clock::default();
            let rank = (is_new && prefers(&origin), in_turn);
            if best.is_none_or(|(best, _)| rank > best) {
                best = Some((rank, origin));
            }
        }
        best.map_or(Next::Wait(earliest), |(_, origin)| Next::Send(origin, self.sent.get(&origin)))
    }

    /// The delay counts from when the puller began to lack an operation, not from when another donor last
    /// supplied one: after a quiet moment every relay would otherwise race the origin itself.
    fn send_at(&mut self, origin: Origin, now: Instant) -> Instant {
        if origin.is_of(&self.own) || self.supplied_here.contains(&origin) {
            return now;
        }
        *self.missing_since.entry(origin).or_insert(now) + self.relay_delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use brock_core::base::id::Incarnation;

    fn origin(id: &str) -> Origin {
        Origin::new(&id.parse().unwrap(), Incarnation(1))
    }

    fn vector(clocks: &[(&str, u64)]) -> Vector {
        clocks.iter().map(|(id, clock)| (origin(id), Clock(*clock))).collect()
    }

    fn none(_: &Origin) -> bool {
        false
    }

    const RELAY_DELAY: Duration = Duration::from_millis(100);

    fn feed() -> Feed {
        Feed::new("me".parse().unwrap(), Vector::default(), RELAY_DELAY)
    }

    #[test]
    fn own_operations_go_at_once_and_relayed_ones_after_a_moment() {
        let now = Instant::now();
        let mut feed = feed();
        assert_eq!(feed.next(&vector(&[("me", 5)]), none, now), Next::Send(origin("me"), Clock(0)));
        assert_eq!(feed.next(&vector(&[("other", 5)]), none, now), Next::Wait(Some(now + RELAY_DELAY)));
        assert_eq!(
            feed.next(&vector(&[("other", 5)]), none, now + RELAY_DELAY),
            Next::Send(origin("other"), Clock(0))
        );
        assert_eq!(feed.next(&Vector::default(), none, now), Next::Wait(None));
    }

    #[test]
    fn an_origin_that_rises_without_this_donors_help_is_left_alone() {
        let (began, now) = (Instant::now(), Instant::now() + RELAY_DELAY);
        let mut feed = feed();
        assert_eq!(feed.next(&vector(&[("other", 3)]), none, began), Next::Wait(Some(began + RELAY_DELAY)));
        feed.acknowledge(&vector(&[("other", 3)]));
        assert_eq!(feed.next(&vector(&[("other", 5)]), none, now), Next::Wait(Some(now + RELAY_DELAY)));
        assert_eq!(
            feed.next(&vector(&[("other", 5)]), none, now + RELAY_DELAY),
            Next::Send(origin("other"), Clock(3))
        );
        feed.sent(origin("other"), Clock(5));
        feed.acknowledge(&vector(&[("other", 5)]));
        // This donor supplied that: the next operation does not wait.
        assert_eq!(
            feed.next(&vector(&[("other", 9)]), none, now + RELAY_DELAY),
            Next::Send(origin("other"), Clock(5))
        );
    }

    #[test]
    fn after_a_quiet_hour_an_origin_is_still_left_to_the_donor_that_supplies_it() {
        let now = Instant::now();
        let mut feed = feed();
        feed.acknowledge(&vector(&[("other", 3)]));
        assert_eq!(feed.next(&Vector::default(), none, now), Next::Wait(None));
        let later = now + Duration::from_secs(3600);
        assert_eq!(feed.next(&vector(&[("other", 4)]), none, later), Next::Wait(Some(later + RELAY_DELAY)));
        feed.acknowledge(&vector(&[("other", 4)]));
        assert_eq!(feed.next(&Vector::default(), none, later), Next::Wait(None));
        let again = later + RELAY_DELAY;
        assert_eq!(feed.next(&vector(&[("other", 5)]), none, again), Next::Wait(Some(again + RELAY_DELAY)));
    }

    #[test]
    fn of_origins_that_are_new_to_the_puller_those_come_first_that_the_donor_vouches_for() {
        let (began, now) = (Instant::now(), Instant::now() + RELAY_DELAY);
        let mut feed = feed();
        let above = vector(&[("a", 9), ("b", 9), ("member", 9)]);
        let prefers = |of: &Origin| *of == origin("member");
        feed.next(&above, prefers, began);
        assert_eq!(feed.next(&above, prefers, now), Next::Send(origin("member"), Clock(0)));
        feed.sent(origin("member"), Clock(5));
        assert_eq!(feed.next(&above, prefers, now), Next::Send(origin("a"), Clock(0)));
    }

    #[test]
    fn an_origin_that_the_puller_declines_holds_no_other_up() {
        let (began, now) = (Instant::now(), Instant::now() + RELAY_DELAY);
        let mut feed = feed();
        let above = vector(&[("a", 9), ("b", 9), ("c", 9), ("d", 9), ("e", 9)]);
        feed.next(&above, none, began);
        for _ in 0..limits::BATCHES_IN_FLIGHT {
            let Next::Send(origin, _) = feed.next(&above, none, now) else { panic!("nothing to send") };
            feed.sent(origin, Clock(5));
        }
        assert_eq!(feed.next(&above, none, now), Next::Wait(None));
        ["a", "b", "c", "d"].iter().for_each(|id| feed.decline(origin(id)));
        assert_eq!(feed.next(&above, none, now), Next::Send(origin("e"), Clock(0)));
        feed.decline(origin("unsent"));
        assert_eq!(feed.declined.len(), 4);
    }

    #[test]
    fn origins_take_turns_and_batches_in_flight_are_bounded() {
        let (began, now) = (Instant::now(), Instant::now() + RELAY_DELAY);
        let mut feed = feed();
        let above = vector(&[("a", 100), ("b", 100), ("me", 100)]);
        assert_eq!(feed.next(&above, none, began), Next::Send(origin("me"), Clock(0)));
        let mut order = Vec::new();
        for _ in 0..limits::BATCHES_IN_FLIGHT {
            let Next::Send(origin, after) = feed.next(&above, none, now) else { panic!("nothing to send") };
            feed.sent(origin, Clock(after.0 + 10));
            order.push(origin.node_id().to_string());
        }
        assert_eq!(order, ["a", "b", "me", "a"]);
        assert_eq!(feed.next(&above, none, now), Next::Wait(None));
        feed.acknowledge(&vector(&[("a", 10)]));
        assert_eq!(feed.next(&above, none, now), Next::Send(origin("b"), Clock(10)));
    }

    #[test]
    fn an_origin_that_the_puller_declines_does_not_hold_up_the_others() {
        let now = Instant::now();
        let mut feed = feed();
        let above = vector(&[("a", 100), ("me", 100)]);
        for through in [10, 20, 30, 40] {
            feed.sent(origin("me"), Clock(through));
        }
        let later = now + RELAY_DELAY;
        assert_eq!(feed.next(&above, none, now), Next::Wait(None));
        // One that was never sent is no origin that a puller can decline.
        feed.decline(origin("a"));
        feed.decline(origin("me"));
        assert_eq!(feed.next(&above, none, now), Next::Wait(Some(later)));
        assert_eq!(feed.next(&above, none, later), Next::Send(origin("a"), Clock(0)));
        assert_eq!(feed.next(&vector(&[("me", 100)]), none, later), Next::Wait(None));
    }
}
