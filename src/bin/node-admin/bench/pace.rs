//! When the next operation is due, and when it is over.

use std::time::{Duration, Instant};

/// The timer fires up to a millisecond late, and a little more when the processor is busy. That
/// is this program's own lateness, not the node's.
const TIMER_SLACK: Duration = Duration::from_millis(2);

/// What a client does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Start an operation, and count its latency from this moment.
    Go(Instant),
    /// Nothing is due before this moment.
    Wait(Instant),
    /// The time is up.
    Over,
}

/// One client's timing: as fast as answers come, or at fixed times.
#[derive(Debug)]
pub(super) struct Pace {
    end: Instant,
    schedule: Option<Schedule>,
}

#[derive(Debug)]
struct Schedule {
    next: Instant,
    interval: Duration,
    /// The client was idle when `next` came.
    waited: bool,
}

impl Pace {
    /// The next operation starts when the last one is answered.
    pub(super) fn closed(end: Instant) -> Self {
        Self { end, schedule: None }
    }

    /// Operations are due at `first` and every `interval`, whatever the answers do.
    pub(super) fn open(first: Instant, interval: Duration, end: Instant) -> Self {
        Self { end, schedule: Some(Schedule { next: first, interval, waited: false }) }
    }

    pub(super) fn turn(&mut self, now: Instant) -> Turn {
        if now >= self.end {
            return Turn::Over;
        }
        let Some(schedule) = &mut self.schedule else { return Turn::Go(now) };
        if schedule.next >= self.end {
            return Turn::Over;
        }
        if schedule.next > now {
            schedule.waited = true;
            return Turn::Wait(schedule.next);
        }
        // Behind schedule, latency counts from when the operation was due, as a user would have waited. A
        // client that waits for the previous answer never measures that.
        let own_lateness = schedule.waited && now - schedule.next < TIMER_SLACK;
        let start = if own_lateness { now } else { schedule.next };
        schedule.next += schedule.interval;
        schedule.waited = false;
        Turn::Go(start)
    }

    /// Sleeps until the next operation is due. `None`: the time is up.
    pub(super) async fn next(&mut self) -> Option<Instant> {
        loop {
            match self.turn(Instant::now()) {
                Turn::Go(start) => return Some(start),
                Turn::Wait(until) => tokio::time::sleep_until(until.into()).await,
                Turn::Over => return None,
            }
        }
    }

    pub(super) fn is_over(&self) -> bool {
        Instant::now() >= self.end || self.schedule.as_ref().is_some_and(|schedule| schedule.next >= self.end)
    }

    /// Operations that were due before the end and never started. The last moments are excluded, because
    /// the timer may have fired after the end.
    pub(super) fn unsent(&self) -> u64 {
        let Some(schedule) = &self.schedule else { return 0 };
        let left = self.end.saturating_duration_since(schedule.next + TIMER_SLACK).as_nanos();
        u64::try_from(left.div_ceil(schedule.interval.as_nanos().max(1))).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn without_a_rate_the_next_one_starts_at_once() {
        let now = Instant::now();
        let mut pace = Pace::closed(now + 10 * MS);
        assert_eq!(pace.turn(now), Turn::Go(now));
        assert_eq!(pace.turn(now + MS), Turn::Go(now + MS));
        assert_eq!(pace.turn(now + 10 * MS), Turn::Over);
        assert_eq!(pace.unsent(), 0);
    }

    #[test]
    fn with_a_rate_latency_counts_from_when_it_was_due() {
        let start = Instant::now();
        let mut pace = Pace::open(start, 10 * MS, start + 100 * MS);
        assert_eq!(pace.turn(start), Turn::Go(start));
        // Idle: the timer's own lateness does not count.
        assert_eq!(pace.turn(start + MS), Turn::Wait(start + 10 * MS));
        assert_eq!(pace.turn(start + 11 * MS), Turn::Go(start + 11 * MS));
        // The answer took until 45: what was due at 20, 30 and 40 is late by that much.
        assert_eq!(pace.turn(start + 45 * MS), Turn::Go(start + 20 * MS));
        assert_eq!(pace.turn(start + 45 * MS), Turn::Go(start + 30 * MS));
        assert_eq!(pace.turn(start + 45 * MS), Turn::Go(start + 40 * MS));
        assert_eq!(pace.turn(start + 45 * MS), Turn::Wait(start + 50 * MS));
        assert_eq!(pace.turn(start + 100 * MS), Turn::Over);
        assert_eq!(pace.unsent(), 5);
    }
}
