//! The admin service.

use std::sync::Arc;

use tokio::sync::oneshot;
use tonic::{Request, Response, Status};

use super::{ledgers, lifecycle::Lifecycle, problem::Problem, records::Records, trace::Traces};
use crate::{
    backup::{
        job::{BackupError, Backups},
        manifest::{Kind, Manifest},
    },
    domain::{codec, operation::Operation},
    ground::{limits, task::Tasks},
    proto::{self, admin_service_server::AdminService},
    replication::{
        peers::{PeerReport, Peers},
        resync::{ResyncReport, Resyncs},
    },
    store::Health,
};

/// The handlers.
#[derive(Clone)]
pub struct Admin {
    /// What they show.
    pub records: Arc<Records>,
    /// What they do.
    pub lifecycle: Arc<Lifecycle>,
    /// Where a record has come.
    pub traces: Traces,
    /// A resync under way.
    pub resyncs: Resyncs,
    /// Its backups, if it makes any.
    pub backups: Option<Backups>,
    /// The key that signs them, hex.
    pub backup_public_key: String,
    /// What is known of the peers.
    pub peers: Peers,
    /// The node's background work.
    pub tasks: Tasks,
    /// Whether the node is ready.
    pub readiness: Arc<dyn Fn() -> bool + Send + Sync>,
}

#[tonic::async_trait]
impl AdminService for Admin {
    async fn status(
        &self,
        _: Request<proto::StatusRequest>,
    ) -> Result<Response<proto::StatusResponse>, Status> {
        let store = &self.records.store;
        let applied = store.applied();
        let peer = |report: PeerReport| proto::Peer {
            address: report.address,
            node_id: report.node_id.map(|node_id| node_id.to_string()).unwrap_or_default(),
            up: report.up,
            since_unix: report.since,
            last_error: report.last_error,
            lag_entries: report.heads.map(|heads| heads.entries_above(&applied)),
            rounds: report.rounds,
            entries_received: report.entries_received,
            last_success_unix: report.last_success,
            clock_skew_seconds: report.clock_skew_seconds,
        };
        let resync = |report: ResyncReport| proto::Resync {
            node: report.node_id.to_string(),
            reason: report.reason,
            records_joined: report.records,
            log_entries_copied: report.log_entries,
            records_expected: report.expected,
            since_unix: report.since,
        };
        let totals = store.totals();
        let task = |report: crate::ground::task::TaskReport| proto::Task {
            name: report.name,
            state: report.state,
            last_error: report.last_error,
        };
        let writes_refused = match &*store.health().borrow() {
            Health::Well => String::new(),
            Health::WritesRefused(reason) | Health::Stopped(reason) => reason.clone(),
        };
        Ok(Response::new(proto::StatusResponse {
            node_id: store.node_id().to_string(),
            incarnation: store.origin().incarnation().0,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            records: totals.records,
            clocks: codec::vector_to_proto(&store.vector()).clocks,
            peers: self.peers.reports().into_iter().map(peer).collect(),
            quarantined: totals.quarantined,
            conflicts: totals.conflicts,
            writes_refused,
            tasks: self.tasks.reports().into_iter().map(task).collect(),
            alarms: store.alarms(),
            ready: (self.readiness)(),
            tombstones: totals.tombstones,
            log_entries: totals.log_entries,
            log_bytes: totals.log_bytes,
            removals_pending: totals.removals,
            resync: self.resyncs.report().map(resync),
            incarnation_reason: store.incarnation_reason().to_owned(),
            backup_public_key: self.backup_public_key.clone(),
            backup: self.backups.as_ref().map(backup_status),
        }))
    }

    async fn show_record(
        &self,
        request: Request<proto::ShowRecordRequest>,
    ) -> Result<Response<proto::ShowRecordResponse>, Status> {
        let request = request.into_inner();
        Ok(Response::new(self.records.show(&request.key_hash, request.local).await?))
    }

    async fn invalidate(
        &self,
        request: Request<proto::InvalidateRequest>,
    ) -> Result<Response<proto::OperationResponse>, Status> {
        let proto::InvalidateRequest { key_hash, reason, ahead, acks } = request.into_inner();
        let operation = Operation::Invalidate { at: self.records.store.now(), reason: checked(reason)? };
        Ok(Response::new(self.lifecycle.operate(&key_hash, operation, ahead, acks).await?))
    }

    async fn unpublish(
        &self,
        request: Request<proto::UnpublishRequest>,
    ) -> Result<Response<proto::OperationResponse>, Status> {
        let proto::UnpublishRequest { key_hash, ahead, acks } = request.into_inner();
        Ok(Response::new(self.lifecycle.operate(&key_hash, Operation::Unpublish, ahead, acks).await?))
    }

    async fn delete(
        &self,
        request: Request<proto::DeleteRequest>,
    ) -> Result<Response<proto::OperationResponse>, Status> {
        let proto::DeleteRequest { key_hash, ahead, acks } = request.into_inner();
        Ok(Response::new(self.lifecycle.operate(&key_hash, Operation::Delete, ahead, acks).await?))
    }

    async fn trace_record(
        &self,
        request: Request<proto::TraceRecordRequest>,
    ) -> Result<Response<proto::TraceRecordResponse>, Status> {
        let Lifecycle { store, members, peers, .. } = &*self.lifecycle;
        let views = members.views(store.now());
        Ok(Response::new(self.traces.everywhere(&request.into_inner().key_hash, peers, &views).await?))
    }

    async fn members(
        &self,
        _: Request<proto::MembersRequest>,
    ) -> Result<Response<proto::MembersResponse>, Status> {
        Ok(Response::new(self.lifecycle.members()))
    }

    async fn retire_member(
        &self,
        request: Request<proto::RetireMemberRequest>,
    ) -> Result<Response<proto::RetireMemberResponse>, Status> {
        let member = request.into_inner().member;
        if member == self.records.store.node_id().as_str() {
            let problem = "is the node that was asked: ask another one to retire it".to_owned();
            return Err(Problem::Field { field: "member", problem }.into());
        }
        Ok(Response::new(self.lifecycle.retire(&member).await?))
    }

    async fn compact(
        &self,
        _: Request<proto::CompactRequest>,
    ) -> Result<Response<proto::CompactResponse>, Status> {
        Ok(Response::new(self.lifecycle.compact().await?))
    }

    async fn verify(
        &self,
        _: Request<proto::VerifyRequest>,
    ) -> Result<Response<proto::VerifyResponse>, Status> {
        Ok(Response::new(self.lifecycle.verify().await?))
    }

    async fn repair(
        &self,
        _: Request<proto::RepairRequest>,
    ) -> Result<Response<proto::RepairResponse>, Status> {
        Ok(Response::new(self.lifecycle.repair().await?))
    }

    async fn list_conflicts(
        &self,
        request: Request<proto::ListConflictsRequest>,
    ) -> Result<Response<proto::ListConflictsResponse>, Status> {
        Ok(Response::new(ledgers::conflicts(&self.records.store, request.into_inner()).await?))
    }

    async fn list_quarantine(
        &self,
        request: Request<proto::ListQuarantineRequest>,
    ) -> Result<Response<proto::ListQuarantineResponse>, Status> {
        Ok(Response::new(ledgers::quarantine(&self.records.store, request.into_inner()).await?))
    }

    async fn show_quarantined(
        &self,
        request: Request<proto::QuarantinedRequest>,
    ) -> Result<Response<proto::ShowQuarantinedResponse>, Status> {
        Ok(Response::new(ledgers::show_quarantined(&self.records.store, request.into_inner()).await?))
    }

    async fn retry_quarantined(
        &self,
        request: Request<proto::QuarantinedRequest>,
    ) -> Result<Response<proto::RetryQuarantinedResponse>, Status> {
        ledgers::retry_quarantined(&self.records.store, request.into_inner()).await?;
        Ok(Response::new(proto::RetryQuarantinedResponse {}))
    }

    async fn drop_quarantined(
        &self,
        request: Request<proto::QuarantinedRequest>,
    ) -> Result<Response<proto::DropQuarantinedResponse>, Status> {
        ledgers::drop_quarantined(&self.records.store, request.into_inner()).await?;
        Ok(Response::new(proto::DropQuarantinedResponse {}))
    }

    async fn backup_now(
        &self,
        request: Request<proto::BackupNowRequest>,
    ) -> Result<Response<proto::BackupNowResponse>, Status> {
        let backups = self.backups.clone().ok_or(Problem::NoBackups)?;
        let kind = request.into_inner().full.then_some(Kind::Full);
        // It goes on when nobody waits for it any more.
        let (answer, made) = oneshot::channel();
        let stop = self.tasks.stopping().clone();
        self.tasks.spawn_short(async move {
            if let Some(made) = stop.run_until_cancelled(backups.make(kind)).await {
                let _ = answer.send(made);
            }
        });
        let made = made.await.unwrap_or(Err(BackupError::Stopping)).map_err(Problem::from)?;
        Ok(Response::new(proto::BackupNowResponse { backup: made.map(backup) }))
    }

    async fn list_backups(
        &self,
        _: Request<proto::ListBackupsRequest>,
    ) -> Result<Response<proto::ListBackupsResponse>, Status> {
        let backups = self.backups.as_ref().ok_or(Problem::NoBackups)?;
        let (mut manifests, doubtful) = backups.list().await.map_err(Problem::from)?;
        let omitted = manifests.len().saturating_sub(limits::BACKUPS_LISTED);
        Ok(Response::new(proto::ListBackupsResponse {
            backups: manifests.drain(omitted..).map(backup).collect(),
            doubtful: doubtful.into_iter().take(limits::BACKUPS_LISTED).collect(),
            omitted: omitted as u64,
        }))
    }
}

fn backup_status(backups: &Backups) -> proto::BackupStatus {
    let report = backups.report();
    proto::BackupStatus {
        place: backups.target().place(),
        last_key: report.last_key,
        last_success_unix_ms: i64::try_from(report.last_success_unix_ms).unwrap_or(i64::MAX),
        last_error: report.last_error,
        failures: report.failures,
        last_verified_unix_ms: i64::try_from(report.last_verified_unix_ms).unwrap_or(i64::MAX),
        verify_error: report.verify_error,
    }
}

fn backup(manifest: Manifest) -> proto::Backup {
    proto::Backup {
        full: manifest.kind == Kind::Full,
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

fn checked(reason: String) -> Result<String, Problem> {
    let problem = match reason.len() {
        0 => "is empty: say why, whoever uses the key is told".to_owned(),
        1..=limits::REASON_MAX_BYTES => return Ok(reason),
        bytes => format!("is {bytes} bytes; at most {}", limits::REASON_MAX_BYTES),
    };
    Err(Problem::Field { field: "reason", problem })
}
