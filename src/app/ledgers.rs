//! The ledgers: payloads that lost against another, and entries that could not be applied.

use bytes::Bytes;

use super::error::Problem;
use crate::store::{Conflict, Store};
use brock_core::{
    base::{id::KeyHash, limits, vector::Stamp},
    domain::{codec, record::Creation},
    proto::{self, list_conflicts_response},
};

fn page_size(limit: u32) -> usize {
    match usize::try_from(limit) {
        Ok(limit @ 1..=limits::LEDGER_PAGE_ITEMS) => limit,
        _ => limits::LEDGER_PAGE_ITEMS,
    }
}

fn field(field: &'static str, problem: impl ToString) -> Problem {
    Problem::Field { field, problem: problem.to_string() }
}

fn stamp(stamp: &proto::Stamp) -> Result<Stamp, Problem> {
    codec::stamp_from_proto(stamp).map_err(|error| field("stamp", error))
}

/// Records that were created with different payloads, in order of their key hashes.
pub async fn conflicts(
    store: &Store,
    request: proto::ListConflictsRequest,
) -> Result<proto::ListConflictsResponse, Problem> {
    let after = match request.after.as_ref() {
        [] => None,
        bytes => Some(KeyHash::try_from(bytes).map_err(|error| field("after", error))?),
    };
    let (conflicts, more) = store.conflict_page(after, page_size(request.limit)).await?;
    let create = |creation: &Creation| list_conflicts_response::Create {
        created_at_unix: creation.created_at,
        payload_digest: Bytes::copy_from_slice(&creation.digest),
        stamp: Some(codec::stamp_to_proto(creation.stamp)),
    };
    let hash = |key_hash: &KeyHash| Bytes::copy_from_slice(&key_hash.0);
    let next = conflicts.last().filter(|_| more).map(|last| hash(&last.key_hash)).unwrap_or_default();
    let conflict = |conflict: &Conflict| list_conflicts_response::Conflict {
        key_hash: hash(&conflict.key_hash),
        winner: Some(create(&conflict.winner)),
        losers: conflict.losers.iter().map(create).collect(),
    };
    Ok(proto::ListConflictsResponse { conflicts: conflicts.iter().map(conflict).collect(), next })
}

fn encode(stamp: Stamp, kept: &proto::QuarantinedEntry) -> proto::Quarantined {
    let entry = kept.entry.as_ref();
    let size = |bytes: Option<usize>| bytes.unwrap_or_default() as u64;
    proto::Quarantined {
        stamp: Some(codec::stamp_to_proto(stamp)),
        key_hash: entry.map(|entry| entry.key_hash.clone()).unwrap_or_default(),
        reason: kept.reason.clone(),
        at_unix: kept.at_unix,
        operation_bytes: size(entry.map(|entry| entry.operation.len())),
        payload_bytes: size(entry.and_then(|entry| entry.payload.as_ref()).map(Bytes::len)),
    }
}

/// Quarantined entries, in order of origin and clock.
pub async fn quarantine(
    store: &Store,
    request: proto::ListQuarantineRequest,
) -> Result<proto::ListQuarantineResponse, Problem> {
    let after = request.after.as_ref().map(stamp).transpose()?;
    let (entries, more) = store.quarantine_page(after, page_size(request.limit)).await?;
    let next = entries.last().filter(|_| more).map(|(stamp, _)| codec::stamp_to_proto(*stamp));
    let entries = entries.iter().map(|(stamp, kept)| encode(*stamp, kept)).collect();
    Ok(proto::ListQuarantineResponse { entries, next })
}

fn wanted(request: proto::QuarantinedRequest) -> Result<Stamp, Problem> {
    stamp(&request.stamp.ok_or_else(|| field("stamp", "is missing"))?)
}

/// One quarantined entry.
pub async fn show_quarantined(
    store: &Store,
    request: proto::QuarantinedRequest,
) -> Result<proto::ShowQuarantinedResponse, Problem> {
    let stamp = wanted(request)?;
    let kept = store.quarantined_entry(stamp).await?.ok_or(Problem::NotQuarantined)?;
    let operation = kept.entry.as_ref().map(|entry| entry.operation.clone()).unwrap_or_default();
    Ok(proto::ShowQuarantinedResponse { entry: Some(encode(stamp, &kept)), operation })
}

/// Applies a quarantined entry, if that is possible by now.
pub async fn retry_quarantined(store: &Store, request: proto::QuarantinedRequest) -> Result<(), Problem> {
    match store.retry_quarantined(wanted(request)?).await? {
        None => Err(Problem::NotQuarantined),
        Some(outcome) => outcome.map_err(Problem::StillQuarantined),
    }
}

/// Gives a quarantined entry up.
pub async fn drop_quarantined(store: &Store, request: proto::QuarantinedRequest) -> Result<(), Problem> {
    if store.drop_quarantined(wanted(request)?).await? { Ok(()) } else { Err(Problem::NotQuarantined) }
}
