//! Between the messages of the clients' and operators' calls and the types of `app`.

use std::time::Duration;

use bytes::Bytes;

use crate::{
    app::{
        acks::WaitFor,
        error::RequestError,
        migration::{Migrated, MigrationStep},
        operations::{
            CompactReport, Convergence, InEffect, MemberReport, MembersReport, OperationRequest,
            RepairOutcome, Verification, VerifiedNode,
        },
        origins::{KnownBirth, KnownOrigin},
        records::{self, Created, Get, Put, Record},
        retirement::RetireOutcome,
    },
    backup::manifest::{Kind as BackupKind, Manifest},
    membership::receipt::{Acks, Holder, Receipt},
    store::{Conflict, Tailed},
};
use brock_core::{
    base::{
        duration::milliseconds,
        id::{KeyHash, Origin},
        limits,
        vector::Stamp,
    },
    domain::{
        codec, operation::Operation, order::SignedOrder, payload::Payload, quarantined::Quarantined,
        record::Creation,
    },
    proto::{self, acks::From as AcksFrom, list_conflicts_response, operation::Kind},
};

/// Everything in a put comes from outside.
pub(super) fn put(request: proto::PutRequest) -> Result<Put, RequestError> {
    let proto::PutRequest { key_hash, record, acks, import } = request;
    let key_hash = records::key_hash(&key_hash)?;
    let proto::Record {
        created_at_unix,
        public,
        satellite_address,
        macaroon_head,
        expires_at_unix,
        encrypted_secret_key,
        encrypted_access_grant,
        invalidation_reason,
        invalidated_at_unix,
        state,
        public_project_id,
    } = record.ok_or_else(|| RequestError::field("record", "is missing"))?;
    let wrong = |field, problem| Err(RequestError::field(field, problem));
    if state != i32::from(proto::record::State::Created) {
        return wrong("record.state", "must be CREATED: records are only created by a Put");
    }
    if !invalidation_reason.is_empty() {
        return wrong("record.invalidation_reason", "must be empty: a Put cannot invalidate");
    }
    if invalidated_at_unix != 0 {
        return wrong("record.invalidated_at_unix", "must be 0: a Put cannot invalidate");
    }
    if created_at_unix < 0 {
        return wrong("record.created_at_unix", "must not be negative; 0 means now");
    }
    if expires_at_unix < 0 {
        return wrong("record.expires_at_unix", "must not be negative; 0 means never");
    }
    if encrypted_access_grant.is_empty() {
        return wrong("record.encrypted_access_grant", "is empty");
    }
    let payload = Payload {
        satellite_address,
        macaroon_head,
        encrypted_secret_key,
        encrypted_access_grant,
        public_project_id,
    };
    Ok(Put {
        key_hash,
        created_at: (created_at_unix != 0).then_some(created_at_unix),
        expires_at: (expires_at_unix != 0).then_some(expires_at_unix),
        public,
        payload,
        wait: wait(acks),
        import,
    })
}

pub(super) fn put_response(created: Created) -> proto::PutResponse {
    let Created { stamp, receipt } = created;
    proto::PutResponse { stamp: Some(codec::stamp_to_proto(stamp)), receipt: receipt.map(receipt_to_proto) }
}

pub(super) fn get(key_hash: &[u8], local: bool) -> Result<Get, RequestError> {
    Ok(Get { key_hash: records::key_hash(key_hash)?, local })
}

pub(super) fn get_response(record: Record) -> proto::GetResponse {
    let (record, stamp) = record_to_proto(record);
    proto::GetResponse { record: Some(record), stamp: Some(stamp) }
}

pub(super) fn record_to_proto(record: Record) -> (proto::Record, proto::Stamp) {
    let Record { created_at, expires_at, public, payload, invalidation, stamp } = record;
    let (state, reason, invalidated_at) = match invalidation {
        None => (proto::record::State::Created, String::new(), 0),
        Some(invalidation) => (proto::record::State::Invalidated, invalidation.reason, invalidation.at),
    };
    let record = proto::Record {
        created_at_unix: created_at,
        public,
        satellite_address: payload.satellite_address,
        macaroon_head: payload.macaroon_head,
        expires_at_unix: expires_at.unwrap_or_default(),
        encrypted_secret_key: payload.encrypted_secret_key,
        encrypted_access_grant: payload.encrypted_access_grant,
        invalidation_reason: reason,
        invalidated_at_unix: invalidated_at,
        state: state.into(),
        public_project_id: payload.public_project_id,
    };
    (record, codec::stamp_to_proto(stamp))
}

fn wait(acks: Option<proto::Acks>) -> Option<WaitFor> {
    let proto::Acks { from, timeout_ms } = acks?;
    let acks = match from {
        Some(AcksFrom::All(true)) => Acks::All,
        Some(AcksFrom::Nodes(nodes)) => Acks::Nodes(usize::try_from(nodes).unwrap_or(usize::MAX)),
        Some(AcksFrom::All(false)) | None => Acks::Nodes(0),
    };
    let timeout = (timeout_ms != 0).then(|| Duration::from_millis(timeout_ms.into()));
    Some(WaitFor { acks, timeout })
}

fn receipt_to_proto(receipt: Receipt) -> proto::Receipt {
    let Receipt { holders, missing } = receipt;
    let holder = |Holder { name, after, .. }| proto::receipt::Holder {
        node: name,
        after_ms: milliseconds(after),
        ..Default::default()
    };
    proto::Receipt { holders: holders.into_iter().map(holder).collect(), missing, proof: None }
}

pub(super) fn operation(
    key_hash: &[u8],
    ahead: bool,
    acks: Option<proto::Acks>,
) -> Result<OperationRequest, RequestError> {
    Ok(OperationRequest { key_hash: records::key_hash(key_hash)?, ahead, wait: wait(acks) })
}

pub(super) fn operation_response(in_effect: InEffect) -> proto::OperationResponse {
    let InEffect { stamp, already, receipt } = in_effect;
    let stamp = Some(codec::stamp_to_proto(stamp));
    proto::OperationResponse { stamp, already, receipt: receipt.map(|receipt| receipt.to_proto()) }
}

pub(super) fn members_response(report: MembersReport) -> proto::MembersResponse {
    let member = |MemberReport { view, lag_entries, holding_back }| proto::Member {
        node_id: view.node_id.map(|node_id| node_id.to_string()).unwrap_or_default(),
        address: view.address.map(|address| address.to_string()).unwrap_or_default(),
        retired: view.retired,
        last_seen_unix: view.last_seen.unwrap_or_default(),
        lag_entries,
        holding_back,
        connected: view.connected,
    };
    proto::MembersResponse {
        members: report.members.into_iter().map(member).collect(),
        stable: codec::vector_to_proto(&report.stable).clocks,
        ..proto::MembersResponse::default()
    }
}

/// An operator's order, as it is claimed.
pub(super) fn order(order: Option<proto::Order>) -> Result<Option<SignedOrder>, RequestError> {
    let invalid = |problem| RequestError::field("order", problem);
    order.map(|order| SignedOrder::from_proto(order).map_err(invalid)).transpose()
}

pub(super) fn origin(field: &'static str, bytes: &[u8]) -> Result<Origin, RequestError> {
    Origin::try_from(bytes).map_err(|error| RequestError::field(field, error))
}

pub(super) fn known_origin(known: KnownOrigin) -> proto::list_origins_response::Known {
    let KnownOrigin { origin, clock, is_folded, closed, birth } = known;
    let shown = proto::list_origins_response::Known {
        origin: Bytes::copy_from_slice(origin.as_bytes()),
        clock: clock.0,
        folded: is_folded,
        closed: closed.map(|clock| clock.0),
        ..Default::default()
    };
    let Some(KnownBirth { signed, statement, certificate_ends, problem, certificate_problem }) = birth else {
        return shown;
    };
    proto::list_origins_response::Known {
        signs: true,
        born_at_unix: signed.birth.born_at,
        certificate_ends_unix: certificate_ends.unwrap_or_default(),
        problem: problem.unwrap_or_default(),
        certificate_problem: certificate_problem.unwrap_or_default(),
        vouched_at_unix_ms: signed.vouched_at_unix_ms.unwrap_or_default(),
        statement: Bytes::copy_from_slice(&statement),
        ..shown
    }
}

pub(super) fn migration_step(request: proto::MigrateTrustRequest) -> Result<MigrationStep, RequestError> {
    let proto::MigrateTrustRequest { after: from, orders } = request;
    if orders.len() > limits::MIGRATION_ORDERS_MAX {
        let problem =
            format!("{} of them, more than the {} allowed", orders.len(), limits::MIGRATION_ORDERS_MAX);
        return Err(RequestError::field("orders", problem));
    }
    let ordered = |destruction: proto::UnprovenDestruction| {
        let operation = Operation::decode(&destruction.operation).ok().filter(Operation::destroys);
        let operation =
            operation.ok_or_else(|| RequestError::field("orders.operation", "must be one that destroys"))?;
        let order =
            order(destruction.order)?.ok_or_else(|| RequestError::field("orders.order", "is missing"))?;
        Ok::<_, RequestError>((records::key_hash(&destruction.key_hash)?, operation, order))
    };
    Ok(MigrationStep {
        after: after(&from)?,
        orders: orders.into_iter().map(ordered).collect::<Result<_, _>>()?,
    })
}

pub(super) fn migrated(node_id: String, migrated: Migrated) -> proto::MigrateTrustResponse {
    let Migrated { records, operations, waiting, next, unproven } = migrated;
    let destruction = |(key_hash, operation): (KeyHash, Operation)| proto::UnprovenDestruction {
        key_hash: key_hash_bytes(&key_hash),
        operation: operation.encode(),
        order: None,
    };
    proto::MigrateTrustResponse {
        node_id,
        records,
        operations,
        waiting: waiting.into_iter().map(destruction).collect(),
        next: next.as_ref().map(key_hash_bytes).unwrap_or_default(),
        unproven_records: unproven,
    }
}

pub(super) fn retire_response(outcomes: Vec<RetireOutcome>) -> proto::RetireMemberResponse {
    let outcome = |RetireOutcome { node, error }| proto::retire_member_response::Outcome {
        node,
        error: error.map(|error| error.to_string()).unwrap_or_default(),
    };
    proto::RetireMemberResponse { outcomes: outcomes.into_iter().map(outcome).collect() }
}

pub(super) fn compact_response(report: CompactReport) -> proto::CompactResponse {
    let CompactReport { removed, left } = report;
    proto::CompactResponse {
        entries_removed: removed.entries_removed,
        bytes_removed: removed.bytes_removed,
        entries_kept: left.log_entries,
        bytes_kept: left.log_bytes,
        payloads_removed: removed.payloads_removed,
        tombstones_collected: removed.tombstones_collected,
        origins_folded: removed.origins_folded,
        ..proto::CompactResponse::default()
    }
}

pub(super) fn verify_response(verification: Verification) -> proto::VerifyResponse {
    use proto::verify_response::{Node, Verdict};
    let Verification { convergence, nodes } = verification;
    let verdict = match convergence {
        Convergence::Converged => Verdict::Converged,
        Convergence::NotYet => Verdict::NotYet,
        Convergence::Diverged => Verdict::Diverged,
    };
    let node = |verified: VerifiedNode| Node {
        node: verified.node,
        error: verified.error.unwrap_or_default(),
        lag_entries: verified.lag_entries,
        records: verified.records,
        tombstones: verified.tombstones,
        equal: verified.equal,
        differing: verified.differing.iter().map(key_hash_bytes).collect(),
        differing_total: verified.differing_total,
    };
    proto::VerifyResponse { verdict: verdict.into(), nodes: nodes.into_iter().map(node).collect() }
}

pub(super) fn repair_response(outcomes: Vec<RepairOutcome>) -> proto::RepairResponse {
    use proto::repair_response::Peer;
    let peer = |RepairOutcome { node, repaired }| match repaired {
        Ok(repaired) => Peer {
            node,
            error: String::new(),
            differing: repaired.differing,
            repaired: repaired.repaired,
            ambiguous: repaired.ambiguous,
            proven: repaired.proven,
        },
        Err(error) => Peer { node, error: error.to_string(), ..Peer::default() },
    };
    proto::RepairResponse { peers: outcomes.into_iter().map(peer).collect(), ..Default::default() }
}

/// The keys that a request names.
pub(super) fn key_hashes(texts: &[Bytes]) -> Result<Vec<KeyHash>, RequestError> {
    if texts.len() > limits::LEDGER_PAGE_ITEMS {
        let problem = format!("{} of them, more than the {} allowed", texts.len(), limits::LEDGER_PAGE_ITEMS);
        return Err(RequestError::field("key_hashes", problem));
    }
    texts.iter().map(|bytes| records::key_hash(bytes)).collect()
}

/// Where a page continues; empty = from the first.
pub(super) fn after(bytes: &[u8]) -> Result<Option<KeyHash>, RequestError> {
    match bytes {
        [] => Ok(None),
        bytes => KeyHash::try_from(bytes).map(Some).map_err(|error| RequestError::field("after", error)),
    }
}

pub(super) fn stamp(stamp: &proto::Stamp) -> Result<Stamp, RequestError> {
    codec::stamp_from_proto(stamp).map_err(|error| RequestError::field("stamp", error))
}

pub(super) fn required_stamp(request: proto::QuarantinedRequest) -> Result<Stamp, RequestError> {
    stamp(&request.stamp.ok_or_else(|| RequestError::field("stamp", "is missing"))?)
}

pub(super) fn conflict(conflict: &Conflict) -> list_conflicts_response::Conflict {
    let create = |creation: &Creation| list_conflicts_response::Create {
        created_at_unix: creation.created_at,
        payload_digest: Bytes::copy_from_slice(&creation.digest),
        stamp: Some(codec::stamp_to_proto(creation.stamp)),
    };
    list_conflicts_response::Conflict {
        key_hash: key_hash_bytes(&conflict.key_hash),
        winner: Some(create(&conflict.winner)),
        losers: conflict.losers.iter().map(create).collect(),
        acknowledged: conflict.acknowledged,
    }
}

/// The entry, and its operation as it was received.
pub(super) fn quarantined(entry: Quarantined) -> (proto::Quarantined, Bytes) {
    let Quarantined { stamp, key_hash, reason, at, operation, payload_bytes } = entry;
    let entry = proto::Quarantined {
        stamp: Some(codec::stamp_to_proto(stamp)),
        key_hash,
        reason,
        at_unix: at,
        operation_bytes: operation.len() as u64,
        payload_bytes: payload_bytes as u64,
    };
    (entry, operation)
}

pub(super) fn log_entry(entry: Tailed) -> proto::LogEntry {
    let kind = match entry.operation {
        Some(Operation::Create { .. }) => Kind::Create,
        Some(Operation::Invalidate { .. }) => Kind::Invalidate,
        Some(Operation::Unpublish) => Kind::Unpublish,
        Some(Operation::Delete) => Kind::Delete,
        None => Kind::Unspecified,
    };
    proto::LogEntry {
        stamp: Some(codec::stamp_to_proto(entry.stamp)),
        kind: kind.into(),
        key_hash: key_hash_bytes(&entry.key_hash),
        applied_unix_ms: i64::try_from(entry.applied_unix_ms).unwrap_or(i64::MAX),
        log_bytes: entry.log_bytes,
        quarantined: entry.is_quarantined,
    }
}

pub(super) fn backup(manifest: Manifest) -> proto::Backup {
    proto::Backup {
        full: manifest.kind == BackupKind::Full,
        created_unix_ms: i64::try_from(manifest.created_at_unix_ms).unwrap_or(i64::MAX),
        bytes: manifest.parts.iter().map(|part| part.bytes).sum(),
        records: manifest.records,
        tombstones: manifest.tombstones,
        recipients: manifest.recipients,
        previous: manifest.previous.map(|previous| previous.key).unwrap_or_default(),
        public_key: manifest.public_key,
        parts: manifest.parts.into_iter().map(|part| part.key).collect(),
        key: manifest.key,
    }
}

pub(super) fn key_hash_bytes(key_hash: &KeyHash) -> Bytes {
    Bytes::copy_from_slice(&key_hash.0)
}
