//! Noticing that the storage was rolled back: a peer has operations of this node that it lacks.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::PoisonError,
    time::{Duration, Instant},
};

use super::{error::StoreError, handle::Store};
use crate::runtime::alarms::Source;
use brock_core::base::{
    id::Origin,
    limits,
    vector::{Clock, Vector},
};

/// The claims of peers to know more of this node's own operations than it does, and which of them were believed.
///
/// Nothing in such a claim is proved. A true one must be believed at once, because every further write would use a
/// clock twice; a false one costs an incarnation, which all nodes list until it is folded.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// When each peer last made this node mint.
    believed: BTreeMap<String, Instant>,
    /// Peers of which an alarm says that they are not believed.
    reported: BTreeMap<String, Instant>,
    /// Peers of which an alarm says that they know more of earlier incarnations.
    earlier: BTreeSet<String>,
    last: Option<Instant>,
    /// How often in a row, without twice [`limits::ROLLBACK_MINT_INTERVAL_MAX`] of quiet between.
    in_a_row: u32,
}

impl Claims {
    /// Whether a claim of this peer is believed now: its first one within
    /// [`limits::ROLLBACK_CLAIMANT_INTERVAL`], unless other peers have just been believed too often.
    fn believes(&mut self, claimant: &str, now: Instant) -> bool {
        let quiet = self.last.map_or(Duration::MAX, |last| now.saturating_duration_since(last));
        if quiet >= limits::ROLLBACK_MINT_INTERVAL_MAX * 2 {
            self.in_a_row = 0;
        }
        let doublings = self.in_a_row.saturating_sub(1).min(16);
        let delay = limits::ROLLBACK_MINT_INTERVAL.saturating_mul(1 << doublings);
        let is_early = self.in_a_row > 0 && quiet < delay.min(limits::ROLLBACK_MINT_INTERVAL_MAX);
        if is_early || !is_first(&mut self.believed, claimant, now) {
            return false;
        }
        self.last = Some(now);
        self.in_a_row = self.in_a_row.saturating_add(1);
        true
    }

    fn is_news_of_earlier(&mut self, peer: &str) -> bool {
        self.earlier.len() < limits::ROLLBACK_CLAIMANTS && self.earlier.insert(peer.to_owned())
    }
}

/// Whether the peer is not noted, or not within [`limits::ROLLBACK_CLAIMANT_INTERVAL`]; notes it then. While there are
/// too many peers, no further one is the first.
fn is_first(noted: &mut BTreeMap<String, Instant>, peer: &str, now: Instant) -> bool {
    noted.retain(|_, at| now.saturating_duration_since(*at) < limits::ROLLBACK_CLAIMANT_INTERVAL);
    if noted.contains_key(peer) || noted.len() >= limits::ROLLBACK_CLAIMANTS {
        return false;
    }
    noted.insert(peer.to_owned(), now);
    true
}

impl Store {
    /// `peer` has operations of this node's present origin up to `theirs`. If that is more than this node has, and
    /// the claim is believed, the storage was rolled back: the node continues under a new incarnation at once, so
    /// that no clock is used twice, and replicates what it lost from the peer. A peer is believed once an hour, and
    /// all of them together ever more rarely, so that a lie costs a few incarnations and the peer its own link.
    pub async fn rolled_back(&self, theirs: Clock, peer: &str) -> Result<(), StoreError> {
        let origin = self.origin();
        let ours = self.clock(&origin);
        if theirs <= ours {
            return Ok(());
        }
        let (is_believed, is_news) = {
            let (mut claims, now) = (self.claims(), Instant::now());
            let is_believed = claims.believes(peer, now);
            (is_believed, !is_believed && is_first(&mut claims.reported, peer, now))
        };
        if is_news {
            self.shared.alarms.raise(format!(
                "{peer} claims again to have operations of {origin} up to {theirs}, where this storage ends at {ours}. \
                 That is not believed so soon after the last such claim. If this machine was set back in time again, \
                 restart this node; otherwise that peer is faulty or was taken over: revoke its certificate"
            ));
        }
        if !is_believed {
            return Err(StoreError::RolledBack { origin, theirs, ours });
        }
        let fresh = self.go_on("rolled_back").await?;
        let text = format!(
            "{peer} has operations of {origin} up to {theirs}, but this storage ends at {ours}: it was rolled back \
             or has lost data. This node continues as {fresh}; it gets what is missing from the peers"
        );
        // A peer that lies causes it again and again.
        self.shared.alarms.raise_of(Source::Here, "rolled back", text);
        Ok(())
    }

    fn claims(&self) -> std::sync::MutexGuard<'_, Claims> {
        self.shared.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `peer` has applied this. If it has more of this node's own operations than this node, the
    /// storage was rolled back. If they are of the present incarnation, the node continues under a new
    /// one at once; operations of earlier ones are only reported, and come back from the peers.
    pub async fn check_rollback(&self, theirs: &Vector, peer: &str) -> Result<(), StoreError> {
        let own = self.origin();
        let missing = {
            let published = self.shared.published();
            let is_earlier = |origin: &Origin| {
                origin.is_of(self.node_id()) && *origin != own && !published.forks.contains_key(origin)
            };
            let earlier = theirs.iter().filter(|(origin, _)| is_earlier(origin));
            earlier
                .map(|(origin, clock)| clock.0.saturating_sub(published.clock(&origin).0))
                .fold(0, u64::saturating_add)
        };
        if missing > 0 && self.claims().is_news_of_earlier(peer) {
            let text = format!(
                "{peer} has {missing} operations that this node made in earlier lives and that its storage lacks: it was \
                 rolled back to an old copy, or has lost data. They come back from the peers by themselves"
            );
            // All peers have them.
            self.shared.alarms.raise_of(Source::Here, "earlier lives", text);
        }
        self.rolled_back(theirs.get(&own), peer).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_claim_is_believed_at_once_and_a_peer_that_repeats_it_is_not() {
        let (mut claims, began) = (Claims::default(), Instant::now());
        let at = |seconds| began + Duration::from_secs(seconds);
        assert!(claims.believes("b", at(0)));
        assert!(!claims.believes("b", at(3599)), "however long it repeats it");
        assert!(claims.believes("b", at(3601)));
        assert!(!claims.believes("c", at(3602)), "another peer, but right after");
        assert!(claims.believes("c", at(3622)));
    }

    #[test]
    fn many_peers_together_are_believed_ever_more_rarely() {
        let (mut claims, began) = (Claims::default(), Instant::now());
        let day = 0..86_400_u64;
        let minted = |claims: &mut Claims, second: u64| {
            claims.believes(&format!("peer {second}"), began + Duration::from_secs(second))
        };
        let times = day.filter(|second| minted(&mut claims, *second)).count();
        assert!((10..40).contains(&times), "{times}");
        let quiet = began + Duration::from_secs(86_400) + limits::ROLLBACK_MINT_INTERVAL_MAX * 2;
        assert!(claims.believes("later", quiet), "two quiet hours end it");
    }
}
