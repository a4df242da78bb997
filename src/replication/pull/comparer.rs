//! Compares this node's records with a peer's, again and again, beside the rounds with it.

use tokio::time::{Instant, sleep, timeout};

use super::puller::Puller;
use crate::{
    membership::peer::{Peer, PeerKey, RemoteError},
    replication::{
        comparison::{Comparison, Look},
        confirmation::{Confirmation, Step},
        remote,
        repair::{self, Repaired},
    },
    runtime::alarms::Source,
    store::{Confirmed, Fill},
};
use brock_core::base::{
    id::{KeyHash, NodeId},
    limits, metrics as names,
};

/// Compares while the peer is up: every [`limits::COMPARE_INTERVAL`]; soon after a resync, whose donor may have
/// left out records, and when the peer's heads show a difference; and again at once while something was repaired.
/// Never ends.
pub(super) async fn run(puller: &Puller) {
    let key = PeerKey::from(&puller.address);
    let mut filled = puller.resyncs.filled();
    let (mut comparison, mut confirmation) = (Comparison::default(), Confirmation::default());
    let mut due = Instant::now() + limits::COMPARE_INTERVAL;
    // When what the heads show counts again.
    let mut rested = Instant::now();
    let mut alarmed: Option<Instant> = None;
    let mut proofs_after = None;
    loop {
        sleep(limits::DIVERGENCE_CONFIRM).await;
        tokio::select! {
            () = tokio::time::sleep_until(due) => {}
            _ = filled.changed() => {}
            () = puller.differs.notified() => tokio::time::sleep_until(due.min(rested)).await,
        }
        due = Instant::now() + limits::COMPARE_INTERVAL;
        let Some(peer) = puller.roster.peer_that_is_up(&key) else {
            comparison = Comparison::default();
            continue;
        };
        let Some(node_id) = puller.roster.node_id_at(&key) else { continue };
        let is_next_soon =
            confirm(puller, (&mut confirmation, &mut comparison), (&node_id, &peer)).await.unwrap_or_else(
                |error| {
                    tracing::debug!(address = %key, %error, "the peer cannot confirm what this node was filled with");
                    false
                },
            );
        if is_next_soon {
            due = Instant::now();
        }
        let proofs = fetch_proofs(puller, &peer, &mut proofs_after);
        match timeout(limits::REPAIR_TIMEOUT, proofs).await.unwrap_or(Err(RemoteError::Late)) {
            Ok(0) => {}
            Ok(_) => due = Instant::now(),
            Err(error) => {
                tracing::debug!(address = %key, %error, "cannot fetch what proves this node's records");
            }
        }
        let guards = (&puller.resyncs, &puller.breaker, (&key, &node_id));
        let look = comparison.look((&puller.store, &puller.verifier), &peer, Some(guards));
        let settled = match timeout(limits::REPAIR_TIMEOUT, look).await.unwrap_or(Err(RemoteError::Late)) {
            Ok(Look::Equal) => Repaired::default(),
            Ok(Look::Suspicious) => {
                due = Instant::now();
                continue;
            }
            Ok(Look::Settled(settled)) => settled,
            Err(error) => {
                remote::count_refused(&key, Err(&error));
                tracing::debug!(address = %key, %error, "cannot compare the records with a peer's");
                continue;
            }
        };
        remote::count_refused(&key, Ok(settled.unproven));
        rested = due;
        if settled.repaired > 0 {
            due = Instant::now();
        }
        if settled.differing > 0 {
            metrics::counter!(names::DIVERGENCES).increment(1);
            metrics::counter!(names::REPAIRED).increment(settled.repaired);
        }
        let left = settled.differing.saturating_sub(settled.repaired);
        // What only the peer can repair is found again and again: one alarm is enough. What a peer lets this
        // node repair again and again is one alarm in a while.
        let is_new = puller.roster.set_unrepaired(&key, left) && left > 0;
        let is_due = alarmed.is_none_or(|at| at.elapsed() >= limits::DIVERGENCE_NEWS);
        if is_due && (is_new || settled.repaired > 0) {
            alarmed = Some(Instant::now());
            raise_alarm(puller, &key, settled);
        }
    }
}

/// Fetches what proves the next of the records that lack it here. Returns for how many the peer had it.
async fn fetch_proofs(
    puller: &Puller,
    peer: &Peer,
    after: &mut Option<KeyHash>,
) -> Result<usize, RemoteError> {
    let fetched = repair::fetch_proofs((&puller.store, &puller.verifier), peer, after).await;
    remote::count_refused(&peer.key, fetched.as_ref().map(|(_, unproven)| *unproven));
    let (proven, _) = fetched?;
    if proven > 0 {
        tracing::info!(records = proven, from = %peer.key, "records that had lost what proves them are proven again");
    }
    Ok(proven)
}

/// Lets the peer confirm that the donors of this node's fills have left nothing out. Returns whether to go on soon.
async fn confirm(
    puller: &Puller,
    (confirmation, comparison): (&mut Confirmation, &mut Comparison),
    (node_id, peer): (&NodeId, &Peer),
) -> Result<bool, RemoteError> {
    match confirmation.step(&puller.store, (node_id, peer)).await? {
        Step::Idle => Ok(false),
        Step::UnderWay => Ok(true),
        Step::Suspects(buckets) => {
            comparison.suspect(buckets);
            Ok(true)
        }
        Step::Confirms(confirmed) => {
            // No vector is adopted meanwhile.
            let _log = puller.resyncs.applying().await;
            let whole = confirmed.iter().filter(|confirmed| confirmed.left.is_empty());
            for Confirmed { fill: Fill { donor, .. }, .. } in whole {
                tracing::info!(%donor, by = %node_id, "another member confirms that the donor has left nothing out");
            }
            puller.store.confirm_fills(confirmed).await?;
            Ok(false)
        }
    }
}

fn raise_alarm(puller: &Puller, key: &PeerKey, settled: Repaired) {
    let left_alone = match settled.ambiguous {
        0 => String::new(),
        n => format!(", and {n} were left alone because this node may have deleted and forgotten them"),
    };
    let text = format!(
        "the peer at {key} has applied the same operations and held other records: {} key hashes differed, {} were \
         repaired here by joining{left_alone}. Check the disks of both; if this node was filled from another node, that \
         one has left them out",
        settled.differing, settled.repaired,
    );
    puller.alarms.raise_of(Source::Peer(key.to_string()), "repair", text);
}
