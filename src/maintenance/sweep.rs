//! Removing what has expired: slowly, and only while the clocks agree.
//!
//! A record reads as absent the moment it expires; removing it from disk can wait, and must wait
//! while the wall clock is in doubt, because a clock that jumped years ahead would destroy data.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::{
    membership::peers::{PeerReport, Peers},
    store::Store,
};
use brock_core::{base::limits, domain::record::UnixSeconds};
use brock_net::task::TaskStatus;

/// Sweeps until stopped.
pub async fn run(store: Store, peers: Peers, stop: CancellationToken, task: TaskStatus) {
    let mut ticks = tokio::time::interval(limits::SWEEP_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let trust = ClockTrust::begin(store.now());
    let mut held = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let now = store.now();
        if let Some(doubt) = trust.doubt(now, &peers.reports()) {
            if !held {
                store.alarm(format!("expired records are left alone: {doubt}"));
            }
            held = true;
            task.set_state("held: the clocks disagree");
            task.set_error(&doubt);
            continue;
        }
        held = false;
        task.set_state("sweeping");
        match sweep(&store, now, &stop).await {
            Ok(()) => task.set_error(""),
            Err(error) => task.set_error(&error.to_string()),
        }
        task.set_state("waiting");
    }
}

async fn sweep(
    store: &Store,
    now: UnixSeconds,
    stop: &CancellationToken,
) -> Result<(), crate::store::StoreError> {
    while !stop.is_cancelled() && store.sweep(now).await? == limits::SWEEP_BATCH {}
    Ok(())
}

/// Whether the wall clock is to be trusted.
pub struct ClockTrust {
    began: Instant,
    wall_clock_then: UnixSeconds,
}

impl ClockTrust {
    /// At the start, with the time of the wall clock.
    pub fn begin(now: UnixSeconds) -> Self {
        Self { began: Instant::now(), wall_clock_then: now }
    }

    /// Why not, if not.
    pub fn doubt(&self, now: UnixSeconds, peers: &[PeerReport]) -> Option<String> {
        doubt(self.wall_clock_then, self.began.elapsed(), now, peers)
    }
}

/// Why the wall clock is not to be trusted, if it is not: it has moved differently from the
/// monotonic clock since the start, or a peer that is up has quite another time.
fn doubt(began: UnixSeconds, elapsed: Duration, now: UnixSeconds, peers: &[PeerReport]) -> Option<String> {
    let expected = began.saturating_add_unsigned(elapsed.as_secs());
    if now.abs_diff(expected) > limits::CLOCK_SKEW_MAX_SECONDS {
        return Some(format!(
            "this node's wall clock has jumped by {} s since it was started; set it right and restart the node",
            now.saturating_sub(expected)
        ));
    }
    let off = peers
        .iter()
        .filter(|peer| peer.up && peer.clock_skew_seconds.unsigned_abs() > limits::CLOCK_SKEW_MAX_SECONDS)
        .max_by_key(|peer| peer.clock_skew_seconds.unsigned_abs())?;
    Some(format!(
        "the wall clock of the peer at {} is {} s from this node's; synchronise the clocks",
        off.address, off.clock_skew_seconds
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_jumps_or_disagrees_is_doubted() {
        let peers = Peers::default();
        peers.add("a:1", 0);
        let node = ("me".parse().unwrap(), "other".parse().unwrap());
        peers.admit("a:1", &node.0, (&node.1, brock_core::base::id::Incarnation(1)), 0).unwrap();
        let minute = Duration::from_secs(60);
        assert_eq!(doubt(1000, minute, 1060, &peers.reports()), None);
        assert!(doubt(1000, minute, 1060 + 315_360_000, &peers.reports()).unwrap().contains("jumped"));
        assert!(doubt(1000, minute, 500, &peers.reports()).unwrap().contains("jumped"));
        peers.heard("a:1", &brock_core::base::vector::Vector::default(), true, -301, 0);
        assert!(doubt(1000, minute, 1060, &peers.reports()).unwrap().contains("a:1"));
        peers.failed("a:1", "gone", 0);
        assert_eq!(doubt(1000, minute, 1060, &peers.reports()), None, "a peer that is down says nothing");
    }
}
