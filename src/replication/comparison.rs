//! Finds what this node and a peer have both applied and do not both hold, while writes continue.
//!
//! What lies above one of the two vectors is under way, and says nothing. What lies at or below both is claimed
//! as applied by both: if one of them does not hold it, that is a true difference (a resync from a donor that
//! left out records, bit rot, a dropped quarantine entry). So is an operation above both that no log is bringing to
//! either, and a page has brought to one of them: its origin is frozen, or its log has stood still at the same clock at
//! both nodes, as both have ended it. Each node joins what it lacks. A join loses nothing and gives both nodes the same
//! state.

use std::{
    collections::{BTreeSet, VecDeque},
    ops::RangeInclusive,
};

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
        vector::{Clock, Stamp, Vector},
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
    /// What this node and the peer had applied at the last [`limits::COMPARE_LOOKS`] looks.
    applied: VecDeque<(Vector, Vector)>,
}

impl Default for Comparison {
    fn default() -> Self {
        Self { differed: [0; BUCKETS], suspects: BTreeSet::new(), next: 0, applied: VecDeque::new() }
    }
}

/// What both nodes have applied.
struct Common<'a> {
    both: Vector,
    frozen: BTreeSet<Origin>,
    /// What each had applied at enough looks in a row.
    looks: Option<&'a VecDeque<(Vector, Vector)>>,
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
    /// Contract: a state of the peer is joined only if all that it adds here is at or below both vectors, or of frozen
    /// origins, or of logs that have stood at one clock, above 0, at both nodes at all those looks; or if both have
    /// stood at one vector. Nothing is joined while a resync may remove records.
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
        let both = applied.meet(&their_applied);
        self.applied.truncate(limits::COMPARE_LOOKS as usize - 1);
        self.applied.push_front((applied, their_applied));
        if differing.is_empty() {
            return Ok(Look::Equal);
        }
        let in_turn = (0..BUCKETS).map(|offset| (self.next + offset) % BUCKETS);
        let ripe: Vec<usize> =
            in_turn.filter(|bucket| self.differed[*bucket] >= limits::COMPARE_LOOKS).collect();
        if ripe.is_empty() {
            return Ok(Look::Suspicious);
        }
        let looks = Some(&self.applied).filter(|looks| looks.len() >= limits::COMPARE_LOOKS as usize);
        let frozen = store.forks().iter().map(|fork| fork.origin()).collect();
        let common = Common { both, frozen, looks, has_collected: !comparable };
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

impl Common<'_> {
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
        let Fetched { looked_at, states: theirs, bundles, held: _held, unproven } =
            repair::fetch((store, verifier), remote, asked).await?;
        settled.unproven += unproven;
        let asked = &asked[..looked_at];
        let mine = store.get_many(asked.to_vec()).await?;
        let collected = repair::forgotten(store);
        let now = match self.looks {
            // An operation may have come in between.
            Some(_) => Some((store.applied(), TheirSummary::of(remote).await?.applied)),
            None => None,
        };
        let applied: Vec<_> = now.iter().chain(self.looks.into_iter().flatten()).collect();
        let is_quiet = stands_still(&applied, |vector| vector);
        let under_way = UnderWay { common: self, applied, is_quiet };
        let mut states = Vec::new();
        for (key_hash, mine) in asked.iter().zip(mine) {
            let theirs = theirs.get(key_hash).cloned();
            let is_collected = mine.is_none()
                && theirs.as_ref().and_then(|state| state.deletion).is_some_and(|stamp| collected.has(stamp));
            let theirs = theirs.unwrap_or_default();
            let left = theirs.clone().without_forgotten(&collected, mine.as_ref());
            settled.ambiguous += u64::from(left != theirs);
            let mine = mine.unwrap_or_default();
            let lacks_here = !is_collected && under_way.lacks(&mine, &left);
            let lacks_there = !self.has_collected && under_way.lacks(&theirs, &mine);
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
            settled.repaired += store.join(Page { states, bundles, complete: None }).await?.changed as u64;
        }
        Ok(looked_at)
    }
}

/// What may still be on its way by a log.
struct UnderWay<'a> {
    common: &'a Common<'a>,
    /// What each had applied at enough looks in a row, and after the records were read; empty after too few looks.
    applied: Vec<&'a (Vector, Vector)>,
    /// Whether both have stood at one vector all the time: no log is bringing anything.
    is_quiet: bool,
}

impl UnderWay<'_> {
    /// Whether a node with `state` lacks something of `other` that no log brings.
    fn lacks(&self, state: &RecordState, other: &RecordState) -> bool {
        let joined = state.clone().join(other.clone());
        if joined == *state {
            return false;
        }
        let known: Vec<Stamp> = state.stamps().collect();
        let mut added: Vec<Stamp> = joined.stamps().filter(|stamp| !known.contains(stamp)).collect();
        if added.is_empty() {
            // A forked origin has signed two operations with one of these stamps.
            added = joined.stamps().collect();
        }
        let is_over = |origin: &Origin| {
            // A log that is at neither node has not begun there, as while both are being filled.
            let has_begun = self.common.both.get(origin) > Clock::default();
            self.common.frozen.contains(origin)
                || (has_begun && stands_still(&self.applied, |vector| vector.get(origin)))
        };
        self.is_quiet || added.into_iter().all(|stamp| self.common.both.has(stamp) || is_over(&stamp.origin))
    }
}

/// Whether that part of the vectors was the same at both nodes at all looks; not so if there was none.
fn stands_still<'a, T: PartialEq>(looks: &[&'a (Vector, Vector)], part: impl Fn(&'a Vector) -> T) -> bool {
    let mut parts = looks.iter().flat_map(|(mine, theirs)| [part(mine), part(theirs)]);
    let first = parts.next();
    first.is_some() && parts.all(|other| Some(&other) == first.as_ref())
}
