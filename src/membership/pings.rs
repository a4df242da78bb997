//! Pings every peer at an interval: for the round trip that operators see, and for pullers that wait for a
//! peer to return.

use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::{peer::Peer, roster::Roster};
use brock_core::{base::limits, proto};
use brock_net::task::TaskStatus;

/// Pings until `stop` is cancelled.
pub async fn run(roster: Roster, stop: CancellationToken, status: TaskStatus) {
    let mut ticks = interval(limits::PING_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        status.set_state("pinging");
        let peers = roster.peers();
        let measured = join_all(peers.iter().map(round_trip));
        let Some(round_trips) = stop.run_until_cancelled(measured).await else { break };
        for (peer, round_trip) in peers.iter().zip(round_trips) {
            roster.pinged(&peer.key, round_trip);
        }
        status.set_state("waiting");
    }
}

/// Measures the second of two pings: the first one may have to connect.
async fn round_trip(peer: &Peer) -> Option<Duration> {
    ping(peer).await?;
    let asked_at = Instant::now();
    ping(peer).await?;
    Some(asked_at.elapsed())
}

async fn ping(peer: &Peer) -> Option<()> {
    let mut client = peer.client.clone();
    let answer = timeout(limits::PING_TIMEOUT, client.ping(proto::PingRequest {})).await;
    answer.ok()?.ok().map(drop)
}
