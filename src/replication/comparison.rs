//! Finds what this node and a peer have both applied and do not both hold, while writes continue.
//!
//! What lies above one of the two vectors is under way, and says nothing. What lies at or below both is claimed
//! as applied by both: if one of them does not hold it, that is a true difference (a resync from a donor that
//! left out records, bit rot, a dropped quarantine entry). So is what a frozen origin wrote: no log carries it. Each
//! node joins what it lacks. A join loses nothing and gives both nodes the same state.

use std::{collections::BTreeSet, ops::RangeInclusive};

use super::{
    breaker::{Breaker, Bringer},
    remote::Remote,
    repair::{self, Differences, Fetched, Repaired, TheirSummary},
    resync::Resyncs,
};
use crate::{
    membership::peer::RemoteError,
    store::{Page, Store},
    transfer::proof::Verifier,
};
use brock_core::{
    base::{
        id::{KeyHash, Origin},
        limits,
        vector::{Stamp, Vector},
    },
    domain::{digest::BUCKETS, record::RecordState},
};

/// What one look has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// The digests are the same.
    Equal,
    /// Some differ, perhaps only by what is under way: look again soon.
    Suspicious,
    /// Buckets that differed all the time were compared record by record.
    Settled(Repaired),
}

/// The comparison with one peer, over several looks.
#[derive(Debug)]
pub struct Comparison {
    /// How often in a row each bucket has differed.
    differed: [u32; BUCKETS],
    /// Those that differ although their digests are equal.
    suspects: BTreeSet<u8>,
    /// The bucket after the last one that was compared record by record.
    next: usize,
    /// The vector at which both stood at the last looks, and how many these are; none if they differed.
    quiet: (Option<Vector>, u32),
}

impl Default for Comparison {
    fn default() -> Self {
        Self { differed: [0; BUCKETS], suspects: BTreeSet::new(), next: 0, quiet: (None, 0) }
    }
}

/// What both nodes have applied, and whether nothing else is under way.
struct Common {
    both: Vector,
    frozen: BTreeSet<Origin>,
    quiet_at: Option<Vector>,
    /// Whether one of them may have deleted and forgotten records.
    has_collected: bool,
}

impl Comparison {
    /// These buckets differ, whatever their digests say: their records are compared in any case.
    pub fn suspect(&mut self, buckets: RangeInclusive<u8>) {
        self.suspects.extend(buckets);
    }

    /// Compares the digests of all buckets; the records of a bucket once its digests have differed in
    /// [`limits::COMPARE_LOOKS`] looks in a row, a few buckets at a time, and all of them once one shows a
    /// true difference.
    ///
    /// Contract: a state of the peer is joined only if all that it adds here is at or below both vectors, or if
    /// both have stood at one vector the whole time. Nothing is joined while a resync runs.
    pub async fn look(
        &mut self,
        (store, verifier): (&Store, &Verifier),
        remote: &impl Remote,
        guards: Option<(&Resyncs, &Breaker, Bringer<'_>)>,
    ) -> Result<Look, RemoteError> {
        let theirs = remote.summary(true).await?;
        // IMPORTANT: before the records here are read, so that these reflect all of it.
        let mine = store.summary();
        let their_applied = repair::applied(&theirs)?;
        let applied = mine.applied();
        let comparable =
            mine.collected.is_empty() && !theirs.digest.as_ref().is_some_and(|digest| digest.has_collected);
        let mut differing = repair::differing_buckets(&mine.digest, &theirs, comparable)?;
        differing.extend(&self.suspects);
        for (bucket, count) in self.differed.iter_mut().enumerate() {
            let differs = differing.iter().any(|differing| usize::from(*differing) == bucket);
            *count = if differs { count.saturating_add(1) } else { 0 };
        }
        let (at, looks) = std::mem::take(&mut self.quiet);
        let quiet = Some(&their_applied).filter(|theirs| **theirs == applied);
        let looks = if quiet.is_some() && quiet == at.as_ref() { looks.saturating_add(1) } else { 1 };
        self.quiet = (quiet.cloned(), looks);
        if differing.is_empty() {
            return Ok(Look::Equal);
        }
        let in_turn = (0..BUCKETS).map(|offset| (self.next + offset) % BUCKETS);
        let ripe: Vec<usize> =
            in_turn.filter(|bucket| self.differed[*bucket] >= limits::COMPARE_LOOKS).collect();
        if ripe.is_empty() {
            return Ok(Look::Suspicious);
        }
        let common = Common {
            both: applied.meet(&their_applied),
            frozen: store.forks().iter().map(|fork| fork.origin()).collect(),
            quiet_at: self.quiet.0.clone().filter(|_| looks >= limits::COMPARE_LOOKS),
            has_collected: !comparable,
        };
        let mut settled = Repaired::default();
        for (done, bucket) in ripe.into_iter().enumerate() {
            if done >= limits::COMPARE_BUCKETS && settled.repaired == 0 {
                break;
            }
            (self.differed[bucket], self.next) = (0, (bucket + 1) % BUCKETS);
            let Ok(bucket) = u8::try_from(bucket) else { continue };
            self.suspects.remove(&bucket);
            let mut found = Differences::default();
            repair::compare_bucket(store, remote, bucket, comparable, &mut found).await?;
            let mut rest = found.key_hashes.as_slice();
            while !rest.is_empty() {
                let asked = &rest[..rest.len().min(limits::FETCH_STATES_MAX)];
                let looked_at = common.settle((store, verifier), remote, guards, asked, &mut settled).await?;
                rest = &rest[looked_at..];
            }
        }
        Ok(Look::Settled(settled))
    }
}

impl Common {
    /// Joins what the peer has of these key hashes and this node lacks. Returns how many of them the peer has
    /// looked at.
    async fn settle(
        &self,
        (store, verifier): (&Store, &Verifier),
        remote: &impl Remote,
        guards: Option<(&Resyncs, &Breaker, Bringer<'_>)>,
        asked: &[KeyHash],
        settled: &mut Repaired,
    ) -> Result<usize, RemoteError> {
        let Fetched { looked_at, states: theirs, unproven } =
            repair::fetch((store, verifier), remote, asked).await?;
        settled.unproven += unproven;
        let asked = &asked[..looked_at];
        let mine = store.get_many(asked.to_vec()).await?;
        let collected = repair::forgotten(store);
        let is_quiet = match &self.quiet_at {
            // An operation may have come in between.
            Some(at) => store.applied() == *at && TheirSummary::of(remote).await?.applied == *at,
            None => false,
        };
        let mut states = Vec::new();
        for (key_hash, mine) in asked.iter().zip(mine) {
            let theirs = theirs.get(key_hash).cloned();
            let is_collected = mine.is_none()
                && theirs.as_ref().and_then(|state| state.deletion).is_some_and(|stamp| collected.has(stamp));
            let theirs = theirs.unwrap_or_default();
            let left = theirs.clone().without_forgotten(&collected, mine.as_ref());
            settled.ambiguous += u64::from(left != theirs);
            let mine = mine.unwrap_or_default();
            let lacks_here = !is_collected && self.lacks(&mine, &left, is_quiet);
            let lacks_there = !self.has_collected && self.lacks(&theirs, &mine, is_quiet);
            settled.differing += u64::from(lacks_here || lacks_there);
            if lacks_here {
                states.push((*key_hash, left));
            }
        }
        if !states.is_empty() {
            let _no_resync = match guards {
                Some((resyncs, breaker, peer)) => {
                    breaker.leave_admitted(peer, &mut states).await?;
                    Some(resyncs.others().await)
                }
                None => None,
            };
            settled.repaired += store.join(Page { states, complete: None }).await?.changed as u64;
        }
        Ok(looked_at)
    }

    /// Whether a node with `state` lacks something of `other` that both nodes have applied.
    fn lacks(&self, state: &RecordState, other: &RecordState, is_quiet: bool) -> bool {
        let joined = state.clone().join(other.clone());
        if is_quiet {
            return joined != *state;
        }
        let known: Vec<Stamp> = state.stamps().collect();
        let mut added = joined.stamps().filter(|stamp| !known.contains(stamp)).peekable();
        // Nothing of a frozen origin is under way in a log.
        let is_settled = |stamp: Stamp| self.both.has(stamp) || self.frozen.contains(&stamp.origin);
        added.peek().is_some() && added.all(is_settled)
    }
}
