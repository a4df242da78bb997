//! What a peer claims to have, and whether it makes the claim good.
//!
//! A peer says which clocks it has applied. What it has and this node lacks is this node's lag. A peer that claims
//! operations and sends none of them would make this node look behind for ever, so such a claim counts for
//! [`limits::CLAIM_PATIENCE`] only, measured while the peer is heard.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use brock_core::base::{
    id::Origin,
    limits,
    vector::{Clock, Vector},
};

/// What a peer claimed of one origin when it first claimed more than this node had.
#[derive(Debug)]
struct Claim {
    claimed: Clock,
    /// Since it last sent some of it.
    waited: Duration,
    /// Since the claim.
    lasted: Duration,
    /// The operations that it has sent since.
    sent: u64,
}

/// The open claims of one peer.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// A claim stays until this node has what was claimed: a peer that takes it back and repeats it has no new time.
    open: HashMap<Origin, Claim>,
    weighed_at: Option<Instant>,
    /// Origins that this node itself does not want at present.
    declined: HashSet<Origin>,
    /// The same on the stream before.
    declined_before: HashSet<Origin>,
    /// The claims that do not count, with the clocks that the peer claims.
    unsent: Vector,
    /// This node refuses to be filled from the peer, whose log is not enough.
    are_records_refused: bool,
}

impl Claims {
    /// How many operations above `applied` the peer claims and is believed to have.
    pub(super) fn lag(&self, heads: &Vector, applied: &Vector) -> u64 {
        let counts = |origin: &Origin| !self.unsent.lists(origin) && !self.declined.contains(origin);
        let lacking = heads.iter().filter(|(origin, _)| counts(origin));
        lacking.fold(0, |sum, (origin, clock)| {
            sum.saturating_add(clock.0.saturating_sub(applied.get(&origin).0))
        })
    }

    /// The claims that do not count.
    pub(super) fn unsent(&self) -> &Vector {
        &self.unsent
    }

    /// A stream begins: the peer says what it has, and this node which origins it declines.
    pub(super) fn begin(&mut self) {
        self.declined_before = std::mem::take(&mut self.declined);
    }

    /// This node takes nothing of an origin for now: that the peer sends nothing says nothing about the peer.
    pub(super) fn decline(&mut self, origin: Origin) {
        self.declined.insert(origin);
    }

    /// Whether this node refuses to be filled from the peer, because of what it does not believe there.
    pub(super) fn refuse_records(&mut self, are_refused: bool) {
        self.are_records_refused = are_refused;
    }

    /// Whether the peer has long claimed more of an origin's log, and sent nothing of it, although this node takes that
    /// from it. What was declined on the stream before is so again once it comes.
    pub(super) fn withholds(&self, origin: &Origin) -> bool {
        let is_declined = self.declined.contains(origin) || self.declined_before.contains(origin);
        let is_taken = !is_declined && !self.are_records_refused;
        is_taken && self.open.get(origin).is_some_and(|claim| claim.waited >= limits::CLAIM_PATIENCE)
    }

    /// The peer has sent operations that this node lacked.
    pub(super) fn sent(&mut self, origin: &Origin, operations: u64) {
        if let Some(claim) = self.open.get_mut(origin) {
            claim.waited = Duration::ZERO;
            claim.sent = claim.sent.saturating_add(operations);
        }
    }

    /// Whether the peer is sending an origin's log up to this clock or further.
    pub(super) fn is_sending(&self, heads: &Vector, origin: &Origin, clock: Clock) -> bool {
        let sends = |claim: &Claim| claim.sent > 0 && claim.waited < limits::CLAIM_PATIENCE;
        heads.get(origin) >= clock && self.open.get(origin).is_some_and(sends)
    }

    /// Weighs the claims of a peer that was just heard. `is_backed`: another peer sends that log up to that clock.
    /// Returns how many claims do not count from now on.
    pub(super) fn weigh(
        &mut self,
        heads: &Vector,
        applied: &Vector,
        now: Instant,
        is_backed: impl Fn(&Origin, Clock) -> bool,
    ) -> usize {
        let step = self.weighed_at.replace(now).map_or(Duration::ZERO, |at| now.duration_since(at));
        let step = step.min(limits::CLAIM_STEP_MAX);
        let above = heads.above(applied);
        self.open.retain(|origin, claim| applied.get(origin) < claim.claimed);
        if self.open.len() > 2 * limits::VECTOR_MAX_ORIGINS {
            self.open.retain(|origin, _| above.lists(origin));
        }
        for (origin, clock) in above.iter() {
            let new = Claim { claimed: clock, waited: Duration::ZERO, lasted: Duration::ZERO, sent: 0 };
            let claim = self.open.entry(origin).or_insert(new);
            claim.waited += step;
            claim.lasted += step;
        }
        let declined = &self.declined;
        let is_counted = |(origin, _): &(&Origin, &Claim)| !declined.contains(*origin);
        // A peer that has not made one claim good has no time for the next.
        let is_late = self.open.iter().filter(is_counted).any(|(origin, claim)| {
            claim.waited >= limits::CLAIM_PATIENCE && !is_backed(origin, claim.claimed)
        });
        let patience = if is_late { Duration::ZERO } else { limits::CLAIM_PATIENCE };
        let is_believed = |origin: &Origin, clock: Clock| {
            let lacking = clock.0.saturating_sub(applied.get(origin).0);
            let claim = self.open.get(origin);
            claim.is_none_or(|claim| claim.is_plausible(lacking, patience)) || is_backed(origin, clock)
        };
        let unsent: Vector = above
            .iter()
            .filter(|(origin, clock)| !declined.contains(origin) && !is_believed(origin, *clock))
            .collect();
        let more = unsent.iter().filter(|(origin, _)| !self.unsent.lists(origin)).count();
        self.unsent = unsent;
        more
    }
}

impl Claim {
    fn is_plausible(&self, lacking: u64, patience: Duration) -> bool {
        let is_sending = self.sent > 0 && self.waited < limits::CLAIM_PATIENCE;
        let pace = self.sent as f64 / self.lasted.as_secs_f64().max(1.0);
        let arrives = self.lasted < limits::CLAIM_PATIENCE
            || lacking as f64 <= pace * limits::CLAIM_HORIZON.as_secs_f64();
        (is_sending && arrives) || (self.sent == 0 && self.waited < patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use brock_core::base::id::Incarnation;

    fn origin(id: &str) -> Origin {
        Origin::new(&id.parse().unwrap(), Incarnation(1))
    }

    fn at(id: &str, clock: u64) -> Vector {
        [(origin(id), Clock(clock))].into_iter().collect()
    }

    /// A peer that is heard every two seconds.
    struct Heard {
        claims: Claims,
        now: Instant,
    }

    impl Heard {
        fn new() -> Self {
            Self { claims: Claims::default(), now: Instant::now() }
        }

        /// The lag after so many more seconds.
        fn lag(&mut self, seconds: u64, heads: &Vector, applied: &Vector, is_backed: bool) -> u64 {
            for _ in 0..=seconds / 2 {
                self.claims.weigh(heads, applied, self.now, |_, _| is_backed);
                self.now += Duration::from_secs(2);
            }
            self.claims.lag(heads, applied)
        }
    }

    #[test]
    fn a_claim_without_operations_counts_for_a_moment_and_then_the_next_not_at_all() {
        let (mut liar, nothing) = (Heard::new(), Vector::default());
        assert_eq!(liar.lag(10, &at("a", u64::MAX), &nothing, false), u64::MAX);
        assert_eq!(liar.lag(10, &at("a", u64::MAX), &nothing, false), 0);
        assert_eq!(liar.claims.unsent(), &at("a", u64::MAX));
        // It takes the claim back and makes another one.
        assert_eq!(liar.lag(4, &nothing, &nothing, false), 0);
        assert_eq!(liar.lag(4, &at("b", 5000), &nothing, false), 0);
        assert_eq!(liar.lag(0, &at("a", 7), &nothing, false), 0);
    }

    #[test]
    fn a_slow_peer_and_one_whose_log_comes_from_another_one_are_believed() {
        let mut slow = Heard::new();
        let heads = at("a", 1000);
        for applied in 1..100 {
            slow.claims.sent(&origin("a"), 1);
            assert_eq!(slow.lag(10, &heads, &at("a", applied), false), 1000 - applied);
        }
        let nothing = Vector::default();
        assert_eq!(Heard::new().lag(1000, &heads, &nothing, true), 1000);
        // It stops to send, and goes on.
        assert_eq!(slow.lag(30, &heads, &at("a", 99), false), 0);
        slow.claims.sent(&origin("a"), 1);
        assert_eq!(slow.lag(0, &heads, &at("a", 100), false), 900);
    }

    #[test]
    fn a_peer_that_sends_a_little_of_endless_claims_is_not_believed() {
        let mut liar = Heard::new();
        let heads = at("a", u64::MAX);
        for applied in 1..10 {
            liar.lag(4, &heads, &at("a", applied), false);
            liar.claims.sent(&origin("a"), 1);
        }
        assert_eq!(liar.lag(0, &heads, &at("a", 10), false), 0);
    }

    #[test]
    fn what_this_node_declines_is_no_lie_and_no_lag() {
        let (mut heard, nothing) = (Heard::new(), Vector::default());
        heard.claims.decline(origin("a"));
        assert_eq!(heard.lag(100, &at("a", 9), &nothing, false), 0);
        assert!(heard.claims.unsent().is_empty());
        assert_eq!(heard.lag(0, &at("b", 9), &nothing, false), 9);
    }

    #[test]
    fn a_peer_withholds_what_it_has_long_claimed_and_this_node_would_take() {
        let (mut heard, nothing, heads) = (Heard::new(), Vector::default(), at("a", 7));
        heard.lag(10, &heads, &nothing, false);
        assert!(!heard.claims.withholds(&origin("a")), "it is on its way");
        heard.lag(10, &heads, &nothing, false);
        assert!(heard.claims.withholds(&origin("a")) && !heard.claims.withholds(&origin("b")));
        heard.claims.sent(&origin("a"), 1);
        assert!(!heard.claims.withholds(&origin("a")));
        heard.lag(20, &heads, &nothing, false);
        heard.claims.decline(origin("a"));
        assert!(!heard.claims.withholds(&origin("a")));
        heard.claims.begin();
        assert!(!heard.claims.withholds(&origin("a")), "it has had no time on the new stream");
        heard.claims.begin();
        assert!(heard.claims.withholds(&origin("a")), "it was not declined again");
        heard.claims.refuse_records(true);
        assert!(!heard.claims.withholds(&origin("a")), "this node takes nothing from it");
        heard.claims.refuse_records(false);
        assert!(heard.claims.withholds(&origin("a")));
    }
}
