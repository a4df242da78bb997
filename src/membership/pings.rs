//! Pings every peer at an interval: for the round trip that operators see, for pullers that wait for a peer to
//! return, and to see which process answers.

use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::{duplicates::Place, peer::Peer, roster::Roster};
use crate::runtime::alarms::Alarms;
use brock_core::{
    base::{
        id::{Incarnation, Origin},
        limits,
    },
    proto,
};
use brock_net::task::TaskStatus;

/// Pings until `stop` is cancelled. Raises an alarm when several processes run under one node id.
pub async fn run(roster: Roster, alarms: Alarms, stop: CancellationToken, status: TaskStatus) {
    let mut ticks = interval(limits::PING_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        status.set_state("pinging");
        let peers = roster.peers();
        let measured = join_all(peers.iter().map(|peer| round_trip(&roster, peer)));
        let Some(round_trips) = stop.run_until_cancelled(measured).await else { break };
        for (peer, round_trip) in peers.iter().zip(round_trips) {
            roster.pinged(&peer.key, round_trip);
        }
        roster.members().duplicates().raise_alarms(&alarms);
        status.set_state("waiting");
    }
}

/// Measures the second of two pings: the first one may have to connect.
async fn round_trip(roster: &Roster, peer: &Peer) -> Option<Duration> {
    ping(peer).await?;
    let asked_at = Instant::now();
    let answer = ping(peer).await?;
    let took = asked_at.elapsed();
    if let Ok(node_id) = answer.node_id.parse() {
        let origin = Origin::new(&node_id, Incarnation(answer.incarnation));
        roster.members().duplicates().saw(&origin, asked_at.into_std(), Place::At(peer.key.clone()));
    }
    Some(took)
}

async fn ping(peer: &Peer) -> Option<proto::PingResponse> {
    let mut client = peer.client.clone();
    let answer = timeout(limits::PING_TIMEOUT, client.ping(proto::PingRequest {})).await;
    Some(answer.ok()?.ok()?.into_inner())
}
