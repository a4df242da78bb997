//! The trace of one record: what every node knows of it.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use tokio::sync::Semaphore;

use super::error::RequestError;
use crate::{
    membership::roster::Roster,
    store::{LoggedOperation, Store, Traced},
};
use brock_core::{
    base::{id::KeyHash, limits, time::WallClock, vector::Stamp},
    domain::{
        codec,
        operation::Operation,
        record::{RecordState, UnixSeconds, Visibility},
    },
    proto::{
        self,
        operation::Kind,
        record_trace::{Payload, State},
    },
};

/// Traces records. Cheap to clone.
#[derive(Clone)]
pub struct Traces {
    store: Store,
    roster: Roster,
    wall_clock: WallClock,
    permits: Arc<Semaphore>,
}

impl Traces {
    /// In this store, and at the peers.
    pub fn new(store: Store, roster: Roster, wall_clock: WallClock) -> Self {
        Self { store, roster, wall_clock, permits: Arc::new(Semaphore::new(limits::TRACES_MAX)) }
    }

    /// What this node knows.
    pub async fn here(&self, key_hash: KeyHash) -> Result<proto::RecordTrace, RequestError> {
        let Ok(_permit) = self.permits.try_acquire() else { return Err(RequestError::TooManyTraces) };
        self.read(key_hash).await
    }

    /// The same for a caller whose traces are bounded elsewhere: they take no place of operators.
    pub async fn read(&self, key_hash: KeyHash) -> Result<proto::RecordTrace, RequestError> {
        let traced = self.store.trace(key_hash).await?;
        Ok(encode(traced, self.wall_clock.now()))
    }

    /// What every node knows, this one first.
    pub async fn everywhere(&self, key_hash: KeyHash) -> Result<proto::TraceRecordResponse, RequestError> {
        let here = self.here(key_hash).await?;
        let contacts = self.roster.contacts(self.wall_clock.now());
        let node = |node, error, trace| proto::trace_record_response::Node { node, error, trace };
        let mut nodes = vec![node(self.store.node_id().to_string(), String::new(), Some(here))];
        let request = proto::TraceRequest { key_hash: Bytes::copy_from_slice(&key_hash.0) };
        let asked = contacts.peers.into_iter().map(|contact| {
            let request = request.clone();
            async move {
                let call = contact.peer.call(|mut client| async move { client.trace(request).await });
                (contact.name, call.await)
            }
        });
        for (name, answer) in join_all(asked).await {
            nodes.push(match answer {
                Ok(answer) => node(name, String::new(), answer.trace),
                Err(error) => node(name, error.to_string(), None),
            });
        }
        let unreachable = contacts.unreachable.into_iter();
        nodes.extend(unreachable.map(|(id, reason)| node(id.to_string(), reason.to_string(), None)));
        Ok(proto::TraceRecordResponse { nodes })
    }
}

fn encode(traced: Traced, now: UnixSeconds) -> proto::RecordTrace {
    let Traced { state, operations, removal_pending, applied } = traced;
    let known = state.unwrap_or_default();
    let mut encoded: Vec<proto::record_trace::Operation> = operations.iter().map(encode_operation).collect();
    // The record's state names the operations in effect even after their log entries are compacted away.
    let in_effect = [
        known.creation.as_ref().map(|creation| (Kind::Create, creation.stamp, creation.created_at, "")),
        known.invalidation.as_ref().map(|invalidation| {
            (Kind::Invalidate, invalidation.stamp, invalidation.at, invalidation.reason.as_str())
        }),
        known.unpublication.map(|stamp| (Kind::Unpublish, stamp, ordered_at(&known, stamp), "")),
        known.deletion.map(|stamp| (Kind::Delete, stamp, ordered_at(&known, stamp), "")),
    ];
    for (kind, stamp, at_unix, reason) in in_effect.into_iter().flatten() {
        if operations.iter().all(|operation| operation.stamp != stamp) {
            encoded.push(proto::record_trace::Operation {
                kind: kind.into(),
                stamp: Some(codec::stamp_to_proto(stamp)),
                at_unix,
                applied_unix_ms: 0,
                quarantined: false,
                reason: reason.to_owned(),
            });
        }
    }
    let place_in_log = |operation: &proto::record_trace::Operation| {
        operation.stamp.as_ref().map(|stamp| (stamp.origin.clone(), stamp.clock))
    };
    encoded.sort_by_key(place_in_log);
    proto::RecordTrace {
        state: state_of(&known, now).into(),
        payload: payload_of(&known, removal_pending).into(),
        expires_at_unix: known.expires_at.unwrap_or_default(),
        public: known.creation.is_some() && !known.unpublished,
        operations: encoded,
        conflicts: u32::try_from(known.losers.len()).unwrap_or(u32::MAX),
        applied: Some(codec::vector_to_proto(&applied)),
    }
}

/// When an operator signed an operation, by the evidence of the record; 0 = not known.
fn ordered_at(state: &RecordState, stamp: Stamp) -> UnixSeconds {
    let its = state.evidence.iter().filter(|(of, _)| *of == stamp);
    let mut orders = its.filter_map(|(_, one)| Operation::decode_with(one.operation()).ok()?.1);
    orders.next().map(|order| order.at()).unwrap_or_default()
}

fn encode_operation(logged: &LoggedOperation) -> proto::record_trace::Operation {
    let LoggedOperation { stamp, applied_unix_ms, operation, ordered_at } = logged;
    let ordered_at = ordered_at.unwrap_or_default();
    let stamp: Stamp = *stamp;
    let (kind, at_unix, reason) = match operation {
        None => (Kind::Unspecified, 0, String::new()),
        Some(Operation::Create { created_at, .. }) => (Kind::Create, *created_at, String::new()),
        Some(Operation::Invalidate { at, reason }) => (Kind::Invalidate, *at, reason.clone()),
        Some(Operation::Unpublish) => (Kind::Unpublish, ordered_at, String::new()),
        Some(Operation::Delete) => (Kind::Delete, ordered_at, String::new()),
    };
    proto::record_trace::Operation {
        kind: kind.into(),
        stamp: Some(codec::stamp_to_proto(stamp)),
        at_unix,
        applied_unix_ms: i64::try_from(*applied_unix_ms).unwrap_or(i64::MAX),
        quarantined: operation.is_none(),
        reason,
    }
}

fn state_of(state: &RecordState, now: UnixSeconds) -> State {
    if *state == RecordState::default() {
        return State::Absent;
    }
    match state.visibility(now) {
        Visibility::Valid => State::Created,
        Visibility::Invalidated => State::Invalidated,
        Visibility::Gone if state.deletion.is_some() => State::Deleted,
        Visibility::Gone => State::Expired,
        Visibility::Incomplete if state.creation.is_some() => State::Incomplete,
        Visibility::Incomplete => State::Ahead,
    }
}

fn payload_of(state: &RecordState, removal_pending: bool) -> Payload {
    match (state.has_payload(), removal_pending) {
        (true, _) => Payload::Present,
        (false, true) => Payload::RemovalPending,
        (false, false) if state.deletion.is_some() || state.expires_at.is_some() => Payload::Removed,
        (false, false) => Payload::None,
    }
}
