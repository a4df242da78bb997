//! The admin service.

use std::sync::Arc;

use tokio::sync::oneshot;
use tonic::{Request, Response, Status};

use crate::{
    app::{
        cluster::Cluster,
        error::Problem,
        ledgers,
        operations::Lifecycle,
        records::Records,
        status::{self, Reporter},
        tail::{TailStream, Tails},
        trace::Traces,
    },
    audit::log::Trail,
    backup::{
        job::{BackupError, Backups},
        manifest::{Kind, Manifest},
    },
};
use brock_core::{
    base::limits,
    domain::operation::Operation,
    proto::{self, admin_service_server::AdminService},
};
use brock_net::{task::Tasks, tls::accept::ConnectionInfo};

/// The handlers.
#[derive(Clone)]
pub struct Admin {
    /// What they show.
    pub records: Arc<Records>,
    /// What they do.
    pub lifecycle: Arc<Lifecycle>,
    /// Where a record has come.
    pub traces: Traces,
    /// Who follows the log.
    pub tails: Tails,
    /// How it is.
    pub reporter: Arc<Reporter>,
    /// How all are.
    pub cluster: Cluster,
    /// What it was told.
    pub settings: Arc<[proto::show_configuration_response::Setting]>,
    /// Its backups, if it makes any.
    pub backups: Option<Backups>,
    /// Where what operators do is recorded.
    pub trail: Trail,
    /// The node's background work.
    pub tasks: Tasks,
}

#[tonic::async_trait]
impl AdminService for Admin {
    type TailLogStream = TailStream;

    async fn tail_log(
        &self,
        request: Request<proto::TailLogRequest>,
    ) -> Result<Response<TailStream>, Status> {
        let draining = ConnectionInfo::draining(&request, &self.tasks);
        Ok(Response::new(self.tails.begin(request.into_inner(), draining)?))
    }

    async fn status(
        &self,
        request: Request<proto::StatusRequest>,
    ) -> Result<Response<proto::StatusResponse>, Status> {
        let status = self.reporter.status(request.into_inner().history).await?;
        Ok(Response::new(status))
    }

    async fn cluster(
        &self,
        request: Request<proto::ClusterRequest>,
    ) -> Result<Response<proto::ClusterResponse>, Status> {
        Ok(Response::new(self.cluster.view(request.into_inner().history).await?))
    }

    async fn show_configuration(
        &self,
        _: Request<proto::ShowConfigurationRequest>,
    ) -> Result<Response<proto::ShowConfigurationResponse>, Status> {
        Ok(Response::new(proto::ShowConfigurationResponse { settings: self.settings.to_vec() }))
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
        let Lifecycle { store, roster, .. } = &*self.lifecycle;
        let contacts = roster.contacts(store.now());
        Ok(Response::new(self.traces.everywhere(&request.into_inner().key_hash, contacts).await?))
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

    async fn clear_alarms(
        &self,
        _: Request<proto::ClearAlarmsRequest>,
    ) -> Result<Response<proto::ClearAlarmsResponse>, Status> {
        let store = &self.records.store;
        Ok(Response::new(proto::ClearAlarmsResponse {
            node_id: store.node_id().to_string(),
            alarms: store.alarms().clear().into_iter().map(status::alarm).collect(),
        }))
    }

    async fn audit_head(
        &self,
        _: Request<proto::AuditHeadRequest>,
    ) -> Result<Response<proto::AuditHeadResponse>, Status> {
        let (path, head) = self.trail.report().ok_or(Problem::NoAuditLog)?;
        Ok(Response::new(proto::AuditHeadResponse {
            path: path.display().to_string(),
            sequence: head.sequence,
            hash: head.hash.to_string(),
        }))
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
