//! Comparing record sets with another node's, and joining what differs.
//!
//! Two nodes that have applied the same must hold the same records. When they do not (bit rot, a
//! dropped quarantine entry, an operator's mistake), each joins the other's differing states: joining
//! never loses anything, and gives both the same.

use std::{cmp::Ordering, collections::BTreeMap};

use bytes::Bytes;

use super::remote::Remote;
use crate::{
    membership::peer::RemoteError,
    runtime::planted::{self, Bug},
    store::{BucketItem, Page, Store, item_from_proto},
};
use brock_core::{
    base::{id::KeyHash, limits, vector::Vector},
    domain::{
        codec::{self, CodecError},
        digest::{BUCKETS, SetDigest},
        record::RecordState,
    },
    proto,
};

/// Where two nodes differ.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Differences {
    /// Key hashes, at most [`limits::REPAIR_KEYS_MAX`].
    pub key_hashes: Vec<KeyHash>,
    /// How many there are in all.
    pub total: u64,
}

/// What a repair did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Key hashes whose state was another one there.
    pub differing: u64,
    /// Of them, those whose state here changed.
    pub repaired: u64,
    /// Of them, those that were left alone: this node may have deleted them and forgotten.
    pub ambiguous: u64,
}

/// What the other has applied, folded origins included.
pub fn applied(theirs: &proto::SummaryResponse) -> Result<Vector, CodecError> {
    let mut applied = codec::vector_from_proto(&theirs.vector.clone().unwrap_or_default())?;
    applied.join(&codec::folds_from_proto(theirs.folds.clone().unwrap_or_default())?);
    Ok(applied)
}

/// Finds the key hashes whose states differ, bucket by bucket.
pub async fn differences(store: &Store, remote: &impl Remote) -> Result<Differences, RemoteError> {
    let theirs = remote.summary(true).await?;
    let mine = store.summary();
    let comparable = mine.collected.is_empty() && !theirs.digest.as_ref().is_some_and(|d| d.has_collected);
    let mut found = Differences::default();
    for bucket in differing_buckets(&mine.digest, &theirs, comparable)? {
        let (mut mine, mut theirs) = (BTreeMap::new(), BTreeMap::new());
        let mut after = None;
        loop {
            let (items, more) = store.bucket(bucket, after).await?;
            after = items.last().map(|item| item.key_hash);
            mine.extend(items.into_iter().map(|item| (item.key_hash, item)));
            if !more {
                break;
            }
        }
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
                theirs.insert(item.key_hash, item);
            }
            let Some(last) = last.filter(|_| page.more) else { break };
            after = Bytes::copy_from_slice(&last.key_hash.0);
            if theirs.len() > mine.len() + limits::REPAIR_KEYS_MAX {
                // More than one repair deals with: the next comparison finds the rest.
                mine.retain(|key_hash, _| *key_hash <= last.key_hash);
                break;
            }
        }
        note_differences(&mine, &theirs, comparable, &mut found);
    }
    Ok(found)
}

fn differing_buckets(
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

fn note_differences(
    mine: &BTreeMap<KeyHash, BucketItem>,
    theirs: &BTreeMap<KeyHash, BucketItem>,
    comparable: bool,
    found: &mut Differences,
) {
    let all: std::collections::BTreeSet<&KeyHash> = mine.keys().chain(theirs.keys()).collect();
    for key_hash in all {
        let (here, there) = (mine.get(key_hash), theirs.get(key_hash));
        let is_same = match (here, there) {
            (Some(here), Some(there)) => here == there,
            // A tombstone that the other has collected.
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

/// Joins the other's differing states. What only this node has, the other joins when it looks.
///
/// Contract: nothing that this node has deleted and forgotten comes back: a create that it lacks, and
/// that was made before it last collected tombstones, is left alone.
pub async fn repair(store: &Store, remote: &impl Remote) -> Result<Repaired, RemoteError> {
    let differences = differences(store, remote).await?;
    let mut outcome = Repaired { differing: differences.total, ..Repaired::default() };
    let mut collected = store.collected();
    if planted::is(Bug::TakeForgotten) {
        collected = Vector::default();
    }
    let mut rest = differences.key_hashes.as_slice();
    while !rest.is_empty() {
        let asked = &rest[..rest.len().min(limits::FETCH_STATES_MAX)];
        let key_hashes = asked.iter().map(|key_hash| Bytes::copy_from_slice(&key_hash.0)).collect();
        let answer = remote.fetch_states(proto::FetchStatesRequest { key_hashes }).await?;
        let looked_at = usize::try_from(answer.looked_at).unwrap_or(0);
        if looked_at == 0 || looked_at > asked.len() {
            return Err(CodecError::Malformed("states").into());
        }
        let here = store.get_many(asked.to_vec()).await?;
        let here: BTreeMap<&KeyHash, Option<RecordState>> = asked.iter().zip(here).collect();
        let mut states = Vec::new();
        for keyed in answer.states {
            let key_hash =
                KeyHash::try_from(keyed.key_hash.as_ref()).map_err(|_| CodecError::Malformed("key hash"))?;
            let Some(mine) = here.get(&key_hash) else { continue };
            let theirs = codec::foreign_state(keyed.state.unwrap_or_default())?;
            let left = theirs.clone().without_forgotten(&collected, mine.as_ref());
            outcome.ambiguous += u64::from(left != theirs);
            let is_collected = mine.is_none() && theirs.deletion.is_some_and(|stamp| collected.has(stamp));
            if left != RecordState::default() && !is_collected {
                states.push((key_hash, left));
            }
        }
        let joined = store.join(Page { states, complete: None }).await?;
        outcome.repaired += joined.changed as u64;
        rest = &rest[looked_at..];
    }
    Ok(outcome)
}
