//! The log for peers.

use std::collections::HashSet;

use bytes::Bytes;
use prost::Message;

use crate::{
    runtime::planted::{self, Bug},
    store::{
        cuts::Cuts,
        error::StoreError,
        handle::{Shared, Store},
        view::{Logged, View},
    },
};
use brock_core::{
    base::{
        id::{KeyHash, Origin},
        limits,
        vector::{Clock, Stamp},
    },
    domain::{
        codec::{LogKey, QUARANTINED_STATE},
        operation::Operation,
        order::OrderProof,
        record::RecordState,
    },
    proto,
};

/// A stretch of one origin's log, ready to be sent.
#[derive(Debug, Clone, PartialEq)]
pub struct LogBatch {
    /// The batch.
    pub batch: proto::Batch,
    /// Its size, estimated.
    pub bytes: usize,
}

impl Store {
    /// What this node has of `origin` above `after`, at most `limit` entries and about
    /// [`limits::BATCH_MAX_BYTES`]; `None` if there is nothing, an error if it is compacted away.
    /// Only what is durable and visible.
    pub async fn changes_since(
        &self,
        origin: Origin,
        after: Clock,
        limit: usize,
    ) -> Result<Option<LogBatch>, StoreError> {
        let through = self.clock(&origin);
        if through <= after {
            return Ok(None);
        }
        self.blocking(move |shared| changes(shared, (origin, after, through), limit, true).map(Some)).await
    }

    /// What the log still holds of `origin` above `after` and up to `through`, without payloads,
    /// wherever its floor is; `None` if that is nothing.
    pub async fn retained_log(
        &self,
        origin: Origin,
        after: Clock,
        through: Clock,
    ) -> Result<Option<LogBatch>, StoreError> {
        let through = through.min(self.clock(&origin));
        self.blocking(move |shared| {
            let mut seen = None;
            loop {
                let floor = shared.floor(&origin);
                if seen.replace(floor) == Some(floor) {
                    // It lies within a bundle, which is not whole any more.
                    return Ok(None);
                }
                let after = after.max(floor);
                if through <= after {
                    return Ok(None);
                }
                match changes(shared, (origin, after, through), limits::BATCH_ENTRIES_MAX, false) {
                    // Compacted while it was read: the rest begins higher.
                    Err(StoreError::BelowFloor { .. }) => {}
                    other => return other.map(Some),
                }
            }
        })
        .await
    }
}

fn changes(
    shared: &Shared,
    (origin, after, through): (Origin, Clock, Clock),
    limit: usize,
    with_payloads: bool,
) -> Result<LogBatch, StoreError> {
    let limit = limit.clamp(1, limits::BATCH_ENTRIES_MAX);
    let check_floor = |after: Clock| match shared.floor(&origin) {
        floor if floor > after && !planted::is(Bug::IgnoreFloor) => {
            Err(StoreError::BelowFloor { origin, floor })
        }
        _ => Ok(()),
    };
    // At and below it there are bundles without entries.
    check_floor(after)?;
    let mut scanned = Vec::new();
    let mut bytes = 0;
    // The log itself is small; payloads are looked up below, a bounded number at a time.
    let view = shared.database.view();
    let mut cuts = Cuts::new(&view, shared.signs(&origin), (origin, after))?;
    let after = cuts.after();
    let mut exhausted = true;
    for entry in view.log(origin, after, through) {
        let entry = entry?;
        let is_cut = cuts.is_before(entry.key.stamp.clock)?;
        let is_full = scanned.len() + cuts.whole() > limit || bytes >= limits::BATCH_MAX_BYTES;
        if is_cut && is_full && !scanned.is_empty() {
            exhausted = false;
            break;
        }
        bytes += LogKey::BYTES + entry.operation.len();
        scanned.push((entry, is_cut));
    }
    // IMPORTANT: looked at after the scan. The floor rises before the entries go, so entries that
    // the scan did not find because they had gone show here.
    check_floor(after)?;
    let total = scanned.len();
    // Entries of an earlier incarnation may have come back from peers: when they were committed is
    // unknown here.
    let committed_here = with_payloads && origin == shared.origin();
    let aged = |mut changes: LogBatch| {
        if committed_here {
            let now = shared.wall_clock.now_ms();
            let entries = scanned.iter().take(changes.batch.entries.len());
            changes.batch.ages_ms =
                entries.map(|(entry, _)| now.saturating_sub(entry.applied_unix_ms)).collect();
        }
        changes
    };
    let mut batch = proto::Batch {
        origin: Bytes::copy_from_slice(origin.as_bytes()),
        after: after.0,
        covered_through: after.0,
        entries: Vec::with_capacity(total),
        ..proto::Batch::default()
    };
    let (mut bytes, mut chains) = (0, Chains::default());
    for chunk in scanned.chunks(limits::PAYLOADS_READ_TOGETHER) {
        let key_hashes: Vec<KeyHash> = chunk.iter().map(|(scanned, _)| scanned.key.key_hash).collect();
        let states = match with_payloads {
            true => view.states(&key_hashes).collect::<Result<_, _>>()?,
            false => vec![None; chunk.len()],
        };
        for ((scanned, is_cut), state) in chunk.iter().zip(states) {
            let entry = entry(&view, scanned, || Ok(state))?;
            let chain = chains.next(&view, &entry.operation)?;
            let entry_bytes = 8 + entry.encoded_len() + chain.as_ref().map_or(0, Message::encoded_len);
            // A quarantined entry may be larger than that, up to `ENTRY_MAX_BYTES`, and is sent alone.
            let is_full = bytes + entry_bytes > limits::BATCH_MAX_BYTES
                || (chain.is_some() && batch.certificates.len() >= limits::BATCH_CHAINS_MAX);
            if *is_cut && bytes > 0 && is_full {
                cuts.sign(&mut batch);
                return Ok(aged(LogBatch { batch, bytes }));
            }
            bytes += entry_bytes;
            batch.covered_through = entry.clock;
            batch.entries.push(entry);
            batch.certificates.extend(chain);
        }
    }
    if exhausted {
        // Nothing more up to what is visible: the gap at the end, if any, is covered too.
        batch.covered_through = through.0;
    }
    cuts.sign(&mut batch);
    Ok(aged(LogBatch { batch, bytes }))
}

/// The chains of the operators whose orders are in a batch, each with the first of them.
#[derive(Default)]
pub(super) struct Chains(HashSet<[u8; 32]>);

impl Chains {
    /// The chain that an operation needs, unless the batch has it or this node lacks it.
    pub(super) fn next(
        &mut self,
        view: &View<'_>,
        operation: &[u8],
    ) -> Result<Option<proto::Chain>, StoreError> {
        match OrderProof::certificate_in(operation) {
            Some(id) if self.0.insert(id) => Ok(view.chain(&id)?.map(|chain| chain.to_proto())),
            _ => Ok(None),
        }
    }
}

/// A log entry as it is sent. `state` reads the state of its key hash, for the payload of a create.
pub(super) fn entry(
    view: &View<'_>,
    logged: &Logged,
    state: impl FnOnce() -> Result<Option<RecordState>, StoreError>,
) -> Result<proto::Entry, StoreError> {
    let LogKey { stamp: Stamp { clock, .. }, key_hash, state: resulting } = logged.key;
    if resulting == QUARANTINED_STATE
        && let Some(kept) = view.quarantined(logged.key.stamp)?.and_then(|kept| kept.entry)
    {
        return Ok(kept);
    }
    let payload = match Operation::decode(&logged.operation) {
        Ok(Operation::Create { digest, .. }) => state()?
            .and_then(|state| state.creation)
            .filter(|creation| creation.digest == digest)
            .and_then(|creation| creation.payload),
        _ => None,
    };
    Ok(proto::Entry {
        clock: clock.0,
        key_hash: Bytes::copy_from_slice(&key_hash.0),
        operation: logged.operation.clone(),
        payload,
    })
}
