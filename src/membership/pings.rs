//! How far away each peer is, and whether it answers at all: pinged all the time, for whoever looks at the
//! cluster, and for pullers that wait for one to return.

use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::{directory::Directory, peer::Peer, peers::Peers};
use brock_core::{base::limits, proto};
use brock_net::task::TaskStatus;

/// Measures until `stop`.
pub async fn run(directory: Directory, peers: Peers, stop: CancellationToken, status: TaskStatus) {
    let mut ticks = interval(limits::PING_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        status.set_state("pinging");
        let asked = directory.peers();
        let measured = join_all(asked.iter().map(round_trip));
        let Some(round_trips) = stop.run_until_cancelled(measured).await else { break };
        for (peer, round_trip) in asked.iter().zip(round_trips) {
            peers.pinged(&peer.address, round_trip);
        }
        status.set_state("waiting");
    }
}

/// The second ping counts: the first one may have had to connect.
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
