//! The sweeper: removes expired records, slowly, and only while the wall clocks agree.
//!
//! A record reads as absent the moment it expires. Its removal from the disk can wait, and must wait while
//! the wall clock is in doubt: a clock that jumped years ahead would destroy data.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::{
    membership::{roster::Roster, status::PeerReport},
    runtime::alarms::Alarms,
    store::{Store, StoreError},
};
use brock_core::{
    base::{limits, time::WallClock},
    domain::record::UnixSeconds,
};
use brock_net::task::TaskStatus;

/// Sweeps until stopped.
pub async fn run(
    store: Store,
    roster: Roster,
    (wall_clock, alarms): (WallClock, Alarms),
    stop: CancellationToken,
    task: TaskStatus,
) {
    let mut ticks = tokio::time::interval(limits::SWEEP_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let trust = ClockTrust::begin(wall_clock.now());
    let mut held = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let now = wall_clock.now();
        if let Some(doubt) = trust.doubt(now, &roster.reports()) {
            if !held {
                alarms.raise(format!("expired records are left alone: {doubt}"));
            }
            held = true;
            task.set_state("held: the clocks disagree");
            task.set_error(&doubt);
            continue;
        }
        held = false;
        task.set_state("sweeping");
        task.set_outcome(&sweep(&store, now, &stop).await);
        task.set_state("waiting");
    }
}

async fn sweep(store: &Store, now: UnixSeconds, stop: &CancellationToken) -> Result<(), StoreError> {
    while !stop.is_cancelled() && store.sweep(now).await? == limits::SWEEP_BATCH {}
    Ok(())
}

/// Decides whether the wall clock can be trusted.
pub struct ClockTrust {
    began: Instant,
    began_unix: UnixSeconds,
}

impl ClockTrust {
    /// Begins to watch the wall clock, which says `now`.
    pub fn begin(now: UnixSeconds) -> Self {
        Self { began: Instant::now(), began_unix: now }
    }

    /// Why the wall clock, which says `now`, cannot be trusted; `None` = it can.
    pub fn doubt(&self, now: UnixSeconds, peers: &[PeerReport]) -> Option<String> {
        doubt(self.began_unix, self.began.elapsed(), now, peers)
    }
}

/// The wall clock is in doubt if it has moved differently from the monotonic clock since the start, or if a
/// peer that is up has quite another time.
fn doubt(began: UnixSeconds, elapsed: Duration, now: UnixSeconds, peers: &[PeerReport]) -> Option<String> {
    let expected = began.saturating_add_unsigned(elapsed.as_secs());
    if now.abs_diff(expected) > limits::CLOCK_SKEW_MAX_SECONDS {
        return Some(format!(
            "this node's wall clock has jumped by {} s since it was started; set it right and restart the node",
            now.saturating_sub(expected)
        ));
    }
    let skews = peers.iter().filter(|peer| peer.up).filter_map(|peer| Some((peer, peer.clock_skew_seconds?)));
    let (peer, skew_seconds) = skews
        .filter(|(_, skew_seconds)| skew_seconds.unsigned_abs() > limits::CLOCK_SKEW_MAX_SECONDS)
        .max_by_key(|(_, skew_seconds)| skew_seconds.unsigned_abs())?;
    Some(format!(
        "the wall clock of the peer at {} is {skew_seconds} s from this node's; synchronise the clocks",
        peer.key
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_jumps_or_disagrees_is_doubted() {
        let mut peer = PeerReport::new("a:1".into(), 0);
        peer.up = true;
        let minute = Duration::from_secs(60);
        assert_eq!(doubt(1000, minute, 1060, &[peer.clone()]), None);
        assert!(doubt(1000, minute, 1060 + 315_360_000, &[peer.clone()]).unwrap().contains("jumped"));
        assert!(doubt(1000, minute, 500, &[peer.clone()]).unwrap().contains("jumped"));
        peer.clock_skew_seconds = Some(-301);
        assert!(doubt(1000, minute, 1060, &[peer.clone()]).unwrap().contains("a:1"));
        peer.up = false;
        assert_eq!(doubt(1000, minute, 1060, &[peer]), None, "a peer that is down says nothing");
    }
}
