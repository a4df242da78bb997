//! Compares the records of two nodes, and joins those that differ: when an operator asks for it.
//! [`comparison`](super::comparison) is what nodes do by themselves.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashSet},
};

use bytes::Bytes;

use super::{
    breaker::{Breaker, Bringer},
    remote::Remote,
};
use crate::{
    membership::peer::RemoteError,
    runtime::planted::{self, Bug},
    store::{BucketItem, Comparison, HeldBundles, Page, Store, Summary, item_from_proto},
    transfer::{
        bundles::{BelievedStates, Bundles, named},
        proof::{Believed, Verifier},
        work,
    },
};
use brock_core::{
    base::{
        id::{KeyHash, Origin},
        limits,
        vector::Vector,
    },
    domain::{
        codec::{self, CodecError},
        digest::{BUCKETS, SetDigest},
        leaves::{BundleId, Leaves},
        order::Chain,
        record::RecordState,
    },
    proto,
};

/// The key hashes whose states differ between two nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Differences {
    /// The first of them, at most [`limits::REPAIR_KEYS_MAX`].
    pub key_hashes: Vec<KeyHash>,
    /// How many there are in all.
    pub total: u64,
}

/// The outcome of a repair.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Key hashes whose states differed.
    pub differing: u64,
    /// Those of them whose state changed here.
    pub repaired: u64,
    /// Records that lacked what proves them, and that the peer has sent it of.
    pub proven: u64,
    /// Those of them that were left alone, because this node may have deleted and forgotten them.
    pub ambiguous: u64,
    /// States of the peer's of which something was left out, because nothing proves it.
    pub unproven: u64,
}

/// What another node says that it has applied and holds.
#[derive(Debug, Clone)]
pub struct TheirSummary {
    /// Its node id.
    pub node_id: String,
    /// Its records that are not deleted.
    pub records: u64,
    /// Its tombstones.
    pub tombstones: u64,
    /// What it has applied, folded origins included.
    pub applied: Vector,
    digest: proto::Digest,
}

impl TheirSummary {
    /// Asks the other node.
    pub async fn of(remote: &impl Remote) -> Result<Self, RemoteError> {
        let answer = remote.summary(false).await?;
        let applied = applied(&answer)?;
        let proto::SummaryResponse { node_id, records, tombstones, digest, .. } = answer;
        Ok(Self { node_id, records, tombstones, applied, digest: digest.unwrap_or_default() })
    }

    /// Compares its records with this node's, if both have applied the same.
    pub fn compare(&self, mine: &Summary) -> Comparison {
        mine.compare(&self.applied, &self.digest)
    }
}

/// What a node has applied, folded origins included.
pub(super) fn applied(theirs: &proto::SummaryResponse) -> Result<Vector, CodecError> {
    let mut applied = codec::vector_from_proto(&theirs.vector.clone().unwrap_or_default())?;
    applied.join(&codec::folds_from_proto(theirs.folds.clone().unwrap_or_default())?);
    Ok(applied)
}

/// What this node has deleted and forgotten.
pub(super) fn forgotten(store: &Store) -> Vector {
    if planted::is(Bug::TakeForgotten) { Vector::default() } else { store.collected() }
}

/// Finds the key hashes whose states differ, bucket by bucket.
pub async fn differences(store: &Store, remote: &impl Remote) -> Result<Differences, RemoteError> {
    let theirs = remote.summary(true).await?;
    let mine = store.summary();
    let comparable = mine.collected.is_empty() && !theirs.digest.as_ref().is_some_and(|d| d.has_collected);
    let mut found = Differences::default();
    for bucket in differing_buckets(&mine.digest, &theirs, comparable)? {
        compare_bucket(store, remote, bucket, comparable, &mut found).await?;
    }
    Ok(found)
}

/// Adds the key hashes of one bucket whose states differ.
pub(super) async fn compare_bucket(
    store: &Store,
    remote: &impl Remote,
    bucket: u8,
    comparable: bool,
    found: &mut Differences,
) -> Result<(), RemoteError> {
    let mut here = bucket_here(store, bucket).await?;
    let there = bucket_there(remote, bucket, &mut here).await?;
    note_differences(&here, &there, comparable, found);
    Ok(())
}

type Items = BTreeMap<KeyHash, BucketItem>;

async fn bucket_here(store: &Store, bucket: u8) -> Result<Items, RemoteError> {
    let mut here = Items::new();
    let mut after = None;
    loop {
        let (items, more) = store.bucket(bucket, after).await?;
        after = items.last().map(|item| item.key_hash);
        here.extend(items.into_iter().map(|item| (item.key_hash, item)));
        if !more {
            return Ok(here);
        }
    }
}

/// The other node's items. If they are more than one repair handles, both sides end at the same key hash,
/// and the next comparison finds the rest.
async fn bucket_there(remote: &impl Remote, bucket: u8, here: &mut Items) -> Result<Items, RemoteError> {
    let mut there = Items::new();
    let mut after = Bytes::new();
    loop {
        let request = proto::ListBucketRequest { bucket: bucket.into(), after: after.clone() };
        let page = remote.list_bucket(request).await?;
        let mut last: Option<BucketItem> = None;
        for item in &page.items {
            let item = item_from_proto(item).ok_or(CodecError::Malformed("bucket item"))?;
            let is_out_of_order = last
                .is_some_and(|last| item.key_hash.cmp(&last.key_hash) != Ordering::Greater)
                || item.key_hash.0[..] <= after[..];
            if is_out_of_order || SetDigest::bucket_of(&item.key_hash) != bucket {
                return Err(CodecError::Malformed("bucket").into());
            }
            last = Some(item);
            there.insert(item.key_hash, item);
        }
        let Some(last) = last.filter(|_| page.more) else { return Ok(there) };
        after = Bytes::copy_from_slice(&last.key_hash.0);
        if there.len() > here.len() + limits::REPAIR_KEYS_MAX {
            here.retain(|key_hash, _| *key_hash <= last.key_hash);
            return Ok(there);
        }
    }
}

pub(super) fn differing_buckets(
    mine: &SetDigest,
    theirs: &proto::SummaryResponse,
    comparable: bool,
) -> Result<Vec<u8>, CodecError> {
    let (records, tombstones) = (mine.record_buckets(), mine.tombstone_buckets());
    if theirs.record_buckets.len() != records.len() || theirs.tombstone_buckets.len() != tombstones.len() {
        return Err(CodecError::Malformed("bucket digests"));
    }
    let differs = |bucket: &usize| {
        let range = bucket * 32..(bucket + 1) * 32;
        records[range.clone()] != theirs.record_buckets[range.clone()]
            || (comparable && tombstones[range.clone()] != theirs.tombstone_buckets[range])
    };
    Ok((0..BUCKETS).filter(differs).filter_map(|bucket| u8::try_from(bucket).ok()).collect())
}

fn note_differences(mine: &Items, theirs: &Items, comparable: bool, found: &mut Differences) {
    let all: std::collections::BTreeSet<&KeyHash> = mine.keys().chain(theirs.keys()).collect();
    for key_hash in all {
        let (here, there) = (mine.get(key_hash), theirs.get(key_hash));
        let is_same = match (here, there) {
            (Some(here), Some(there)) => here == there,
            // A tombstone that the other node has collected.
            (Some(one), None) | (None, Some(one)) => one.deleted && !comparable,
            (None, None) => true,
        };
        if !is_same {
            found.total += 1;
            if found.key_hashes.len() < limits::REPAIR_KEYS_MAX {
                found.key_hashes.push(*key_hash);
            }
        }
    }
}

/// A peer's states, as far as they are believed.
pub(super) struct Fetched {
    /// How many of the key hashes that it was asked for it has looked at.
    pub looked_at: usize,
    /// Of these.
    pub states: BTreeMap<KeyHash, RecordState>,
    /// What is to be kept with them.
    pub bundles: Vec<(Origin, Leaves)>,
    /// While they are not joined yet.
    pub held: HeldBundles,
    /// Of how many states something was left out, because nothing proves it.
    pub unproven: u64,
}

/// The peer's states of the first of these key hashes.
pub(super) async fn fetch(
    (store, verifier): (&Store, &Verifier),
    remote: &impl Remote,
    asked: &[KeyHash],
) -> Result<Fetched, RemoteError> {
    let key_hashes = asked.iter().map(|key_hash| Bytes::copy_from_slice(&key_hash.0)).collect();
    let answer = remote.fetch_states(proto::FetchStatesRequest { key_hashes }).await?;
    let looked_at = usize::try_from(answer.looked_at).unwrap_or(0);
    if looked_at == 0 || looked_at > asked.len() {
        return Err(CodecError::Malformed("states").into());
    }
    verifier.learn(answer.births, &Vector::default()).await?;
    let held = store.hold_bundles().await;
    let (believed, bundles) =
        believed((store, verifier), answer.states, answer.bundles, answer.chains).await?;
    let unproven = believed.iter().filter(|(_, believed)| !believed.unproven.is_empty()).count() as u64;
    let is_asked = |key_hash: &KeyHash| asked[..looked_at].contains(key_hash);
    let states = believed.into_iter().filter(|(key_hash, _)| is_asked(key_hash));
    let states = states.map(|(key_hash, believed)| (key_hash, believed.joinable())).collect();
    Ok(Fetched { looked_at, states, bundles, held, unproven })
}

/// The states as far as they are believed.
async fn believed(
    (store, verifier): (&Store, &Verifier),
    states: Vec<proto::KeyedState>,
    bundles: Vec<proto::Leaves>,
    chains: Vec<proto::Chain>,
) -> Result<BelievedStates, RemoteError> {
    let verifier = verifier.clone();
    let received = Chain::read(chains, limits::STATES_CHAINS_READ);
    let read = |keyed: proto::KeyedState| {
        let key_hash =
            KeyHash::try_from(keyed.key_hash.as_ref()).map_err(|_| CodecError::Malformed("key hash"))?;
        Ok::<_, CodecError>((key_hash, codec::foreign_state(keyed.state.unwrap_or_default())?))
    };
    let believing = work(move || {
        let states: Vec<_> = states.into_iter().map(read).collect::<Result<_, _>>()?;
        if planted::is(Bug::SkipVerifyRepair) {
            let named = named(&bundles, states.iter().map(|(_, state)| state));
            let believe = |(key_hash, state)| (key_hash, Believed { state, ..Believed::default() });
            return Ok((states.into_iter().map(believe).collect(), named));
        }
        Ok::<_, CodecError>(verifier.believe_all(states, (&bundles, &received), &mut Bundles::default()))
    });
    let (mut believed, bundles) = believing.await??;
    let chains = believed.iter_mut().flat_map(|(_, believed)| std::mem::take(&mut believed.chains));
    store.keep_chains(chains.collect()).await?;
    Ok((believed, bundles))
}

/// Fetches from the other node what proves the next of the records above `after` that lack it here; the next call goes
/// on from there, whatever comes of this one. Returns for how many the other node had it, and how many of its states
/// are not proven.
///
/// Contract: of what the peer sends, only bundles that the records here name are kept.
pub(super) async fn fetch_proofs(
    (store, verifier): (&Store, &Verifier),
    remote: &impl Remote,
    after: &mut Option<KeyHash>,
) -> Result<(usize, u64), RemoteError> {
    let asked = store.lacking_proofs(*after);
    *after = asked.last().copied();
    if asked.is_empty() {
        return Ok((0, 0));
    }
    let Fetched { looked_at, mut bundles, held: _held, unproven, .. } =
        fetch((store, verifier), remote, &asked).await?;
    let asked = asked[..looked_at].to_vec();
    *after = asked.last().copied();
    let here = store.get_many(asked.clone()).await?;
    let evidence = here.iter().flatten().flat_map(|state| &state.evidence);
    let named: HashSet<BundleId> = evidence.map(|(stamp, one)| one.bundle_id(stamp.origin)).collect();
    bundles.retain(|(origin, leaves)| named.contains(&leaves.id(*origin)));
    // Not the states: the digests show what of them differs.
    store.join(Page { states: Vec::new(), bundles, complete: None }).await?;
    Ok((store.recheck_proofs(asked).await?, unproven))
}

/// Joins the other node's differing states. The states that only this node has are joined by the other one,
/// in its own repair.
///
/// Contract: no record that this node has deleted and forgotten comes back. A create that this node lacks,
/// and that was made before it last collected tombstones, is left alone.
/// What would destroy more than the breaker admits of the peer is left alone; `None`: the peer is trusted.
pub async fn repair(
    (store, verifier): (&Store, &Verifier),
    remote: &impl Remote,
    breaker: Option<(&Breaker, Bringer<'_>)>,
) -> Result<Repaired, RemoteError> {
    let differences = differences(store, remote).await?;
    let mut outcome = Repaired { differing: differences.total, ..Repaired::default() };
    let (mut before, mut after) = (None, None);
    loop {
        match fetch_proofs((store, verifier), remote, &mut after).await {
            Ok((proven, unproven)) => {
                outcome.proven += proven as u64;
                outcome.unproven += unproven;
            }
            // The records are repaired all the same.
            Err(error) => tracing::warn!(%error, "a peer's answer proves none of this node's records"),
        }
        // It begins with the first again.
        if after <= before {
            break;
        }
        before = after;
    }
    let collected = forgotten(store);
    let mut rest = differences.key_hashes.as_slice();
    while !rest.is_empty() {
        let asked = &rest[..rest.len().min(limits::FETCH_STATES_MAX)];
        let Fetched { looked_at, states: mut theirs, bundles, held: _held, unproven } =
            fetch((store, verifier), remote, asked).await?;
        outcome.unproven += unproven;
        let asked = &asked[..looked_at];
        let here = store.get_many(asked.to_vec()).await?;
        let mut states = Vec::new();
        for (key_hash, mine) in asked.iter().zip(here) {
            let Some(theirs) = theirs.remove(key_hash) else { continue };
            let left = theirs.clone().without_forgotten(&collected, mine.as_ref());
            outcome.ambiguous += u64::from(left != theirs);
            let is_collected = mine.is_none() && theirs.deletion.is_some_and(|stamp| collected.has(stamp));
            if left != RecordState::default() && !is_collected {
                states.push((*key_hash, left));
            }
        }
        if let Some((breaker, peer)) = breaker {
            breaker.leave_admitted(peer, &mut states).await?;
        }
        let joined = store.join(Page { states, bundles, complete: None }).await?;
        outcome.repaired += joined.changed as u64;
        rest = &rest[looked_at..];
    }
    Ok(outcome)
}
