//! The revocations made here that some member has not applied yet, and how long the others took.
//!
//! A revocation is an invalidate or a delete. It is everywhere once every current member has announced it.
//! The members' announcements are kept anyway, so this costs no message.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;

use brock_core::base::{
    id::Origin,
    limits, metrics as names,
    vector::{Clock, Stamp},
};

#[derive(Debug, Clone, Copy)]
struct Pending {
    stamp: Stamp,
    since: Instant,
}

/// The pending revocations, in the order of their clocks. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Revocations(Arc<Mutex<VecDeque<Pending>>>);

impl Revocations {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Pending>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A revocation has just become durable here. Beyond [`limits::REVOCATIONS_PENDING`] it is only
    /// counted: the oldest ones are kept, because an operator must know of them first.
    pub fn add(&self, stamp: Stamp) {
        let mut pending = self.lock();
        if pending.len() >= limits::REVOCATIONS_PENDING {
            metrics::counter!(names::REVOCATIONS_UNTIMED).increment(1);
            return;
        }
        // The callers of one group commit arrive here in any order.
        let later = |other: &Pending| other.stamp.origin == stamp.origin && other.stamp.clock > stamp.clock;
        let at = pending.iter().rposition(|other| !later(other)).map_or(0, |last| last + 1);
        pending.insert(at, Pending { stamp, since: Instant::now() });
    }

    /// Removes the revocations that are everywhere now. `held` says up to which clock all members have
    /// applied an origin; `None` = there is no other member to wait for.
    pub fn settle(&self, held: impl Fn(&Origin) -> Option<Clock>) {
        let mut pending = self.lock();
        let mut known: Option<(Origin, Option<Clock>)> = None;
        while let Some(Pending { stamp, since }) = pending.front().copied() {
            let through = match known {
                Some((origin, through)) if origin == stamp.origin => through,
                _ => held(&stamp.origin),
            };
            known = Some((stamp.origin, through));
            match through {
                Some(through) if through < stamp.clock => break,
                Some(_) => {
                    metrics::histogram!(names::REVOCATION).record(since.elapsed().as_secs_f64());
                }
                None => {}
            }
            pending.pop_front();
        }
    }

    /// Sets the gauges.
    pub fn record_gauges(&self) {
        let pending = self.lock();
        let oldest = pending.front().map(|pending| pending.since.elapsed()).unwrap_or_default();
        metrics::gauge!(names::REVOCATIONS_PENDING).set(pending.len() as f64);
        metrics::gauge!(names::REVOCATION_OLDEST).set(oldest.as_secs_f64());
    }

    #[cfg(test)]
    fn clocks(&self) -> Vec<u64> {
        self.lock().iter().map(|pending| pending.stamp.clock.0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use brock_core::base::id::Incarnation;

    fn stamp(life: u32, clock: u64) -> Stamp {
        Stamp { origin: Origin::new(&"a".parse().unwrap(), Incarnation(life)), clock: Clock(clock) }
    }

    #[test]
    fn revocations_settle_in_the_order_of_their_clocks_life_by_life() {
        let revocations = Revocations::default();
        for clock in [3, 7, 5] {
            revocations.add(stamp(1, clock));
        }
        revocations.add(stamp(2, 1));
        revocations.add(stamp(2, 4));
        assert_eq!(revocations.clocks(), [3, 5, 7, 1, 4]);
        revocations.settle(|_| Some(Clock(2)));
        assert_eq!(revocations.clocks(), [3, 5, 7, 1, 4]);
        revocations.settle(|_| Some(Clock(5)));
        assert_eq!(revocations.clocks(), [7, 1, 4]);
        let held = |origin: &Origin| Some(Clock(if *origin == stamp(1, 0).origin { 9 } else { 3 }));
        revocations.settle(held);
        assert_eq!(revocations.clocks(), [4]);
        revocations.settle(|_| None);
        assert_eq!(revocations.clocks(), [0; 0], "there is no member to wait for");
    }

    #[test]
    fn the_oldest_are_kept_when_there_are_too_many() {
        let revocations = Revocations::default();
        for clock in 1..=limits::REVOCATIONS_PENDING as u64 + 3 {
            revocations.add(stamp(1, clock));
        }
        assert_eq!(revocations.clocks().len(), limits::REVOCATIONS_PENDING);
        assert_eq!(revocations.clocks()[0], 1);
    }
}
