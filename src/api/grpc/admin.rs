//! The admin service.

use std::{pin::Pin, sync::Arc};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use tonic::{Request, Response, Status};

use super::convert;
use crate::{
    app::{
        backups::{ListedBackups, RequestedBackups},
        cluster::Cluster,
        error::RequestError,
        ledgers::{Ledgers, Page},
        operations::Operations,
        records::{self, Records},
        status::{Reporter, alarm_to_proto},
        tail::Tails,
        trace::Traces,
    },
    audit::log::AuditLog,
    replication::breaker,
    transfer::closings::Closing,
};
use brock_core::{
    base::id::IdError,
    domain::codec,
    proto::{self, admin_service_server::AdminService},
};
use brock_net::{task::Tasks, tls::accept::ConnectionInfo};

/// The handlers.
#[derive(Clone)]
pub struct Admin {
    /// Shows records.
    pub records: Arc<Records>,
    /// Changes records and the cluster.
    pub operations: Arc<Operations>,
    /// Lists conflicts and the quarantine.
    pub ledgers: Ledgers,
    /// Traces records.
    pub traces: Traces,
    /// Follows the log.
    pub tails: Tails,
    /// Reports the status of this node.
    pub reporter: Arc<Reporter>,
    /// Reports the status of all nodes.
    pub cluster: Cluster,
    /// The settings of this node.
    pub settings: Arc<[proto::show_configuration_response::Setting]>,
    /// Makes and lists backups.
    pub backups: RequestedBackups,
    /// The audit log.
    pub audit_log: AuditLog,
    /// The node's background work.
    pub tasks: Tasks,
}

impl Admin {
    /// For the answers: an operator lists several nodes, and the first that answers acts.
    fn node_id(&self) -> String {
        self.operations.node_id().to_string()
    }
}

#[tonic::async_trait]
impl AdminService for Admin {
    type TailLogStream = Pin<Box<dyn Stream<Item = Result<proto::LogEntry, Status>> + Send>>;

    async fn tail_log(
        &self,
        request: Request<proto::TailLogRequest>,
    ) -> Result<Response<Self::TailLogStream>, Status> {
        let draining = ConnectionInfo::draining(&request, &self.tasks);
        let proto::TailLogRequest { last, follow } = request.into_inner();
        let entries = self.tails.begin(last, follow, draining)?;
        let entries = entries.map(|entry| entry.map(convert::log_entry).map_err(Status::from));
        Ok(Response::new(Box::pin(entries)))
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
        let proto::ClusterRequest { history, fresh } = request.into_inner();
        Ok(Response::new(self.cluster.view(history, fresh).await?))
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
        let proto::ShowRecordRequest { key_hash, local } = request.into_inner();
        let record = self.records.show(convert::get(&key_hash, local)?).await?;
        let (record, stamp) = convert::record_to_proto(record);
        Ok(Response::new(proto::ShowRecordResponse { record: Some(record), stamp: Some(stamp) }))
    }

    async fn invalidate(
        &self,
        request: Request<proto::InvalidateRequest>,
    ) -> Result<Response<proto::OperationResponse>, Status> {
        let proto::InvalidateRequest { key_hash, reason, ahead, acks, order } = request.into_inner();
        let operation = convert::operation(&key_hash, ahead, acks)?;
        let order = convert::order(order)?;
        let in_effect = self.operations.invalidate(operation, reason, order).await?;
        Ok(Response::new(convert::operation_response(in_effect)))
    }

    async fn unpublish(
        &self,
        request: Request<proto::UnpublishRequest>,
    ) -> Result<Response<proto::OperationResponse>, Status> {
        let proto::UnpublishRequest { key_hash, ahead, acks, order } = request.into_inner();
        let operation = convert::operation(&key_hash, ahead, acks)?;
        let in_effect = self.operations.unpublish(operation, convert::order(order)?).await?;
        Ok(Response::new(convert::operation_response(in_effect)))
    }

    async fn delete(
        &self,
        request: Request<proto::DeleteRequest>,
    ) -> Result<Response<proto::OperationResponse>, Status> {
        let proto::DeleteRequest { key_hash, ahead, acks, order } = request.into_inner();
        let operation = convert::operation(&key_hash, ahead, acks)?;
        let in_effect = self.operations.delete(operation, convert::order(order)?).await?;
        Ok(Response::new(convert::operation_response(in_effect)))
    }

    async fn trace_record(
        &self,
        request: Request<proto::TraceRecordRequest>,
    ) -> Result<Response<proto::TraceRecordResponse>, Status> {
        let key_hash = records::key_hash(&request.into_inner().key_hash)?;
        Ok(Response::new(self.traces.everywhere(key_hash).await?))
    }

    async fn members(
        &self,
        _: Request<proto::MembersRequest>,
    ) -> Result<Response<proto::MembersResponse>, Status> {
        let members = convert::members_response(self.operations.members());
        Ok(Response::new(proto::MembersResponse { node_id: self.node_id(), ..members }))
    }

    async fn retire_member(
        &self,
        request: Request<proto::RetireMemberRequest>,
    ) -> Result<Response<proto::RetireMemberResponse>, Status> {
        let proto::RetireMemberRequest { member, order } = request.into_inner();
        let outcomes = self.operations.retire(&member, convert::order(order)?).await?;
        Ok(Response::new(convert::retire_response(outcomes)))
    }

    async fn resume_origin(
        &self,
        request: Request<proto::ResumeOriginRequest>,
    ) -> Result<Response<proto::ResumeOriginResponse>, Status> {
        let node_id = request.into_inner().node_id;
        let node_id = node_id.parse().map_err(|error: IdError| RequestError::field("node_id", error))?;
        let resumed = self.operations.resume_origin(&node_id).await?;
        let resumed = resumed.iter().map(breaker::paused_to_proto).collect();
        Ok(Response::new(proto::ResumeOriginResponse { node_id: self.node_id(), resumed }))
    }

    async fn list_origins(
        &self,
        request: Request<proto::ListOriginsRequest>,
    ) -> Result<Response<proto::ListOriginsResponse>, Status> {
        let proto::ListOriginsRequest { after, limit } = request.into_inner();
        let after = if after.is_empty() { None } else { Some(convert::origin("after", &after)?) };
        let (known, has_more) = self.operations.origins(after, limit).await?;
        let last = known.last().filter(|_| has_more).map(|known| known.origin);
        Ok(Response::new(proto::ListOriginsResponse {
            node_id: self.node_id(),
            next: last.map(|origin| Bytes::copy_from_slice(origin.as_bytes())).unwrap_or_default(),
            origins: known.into_iter().map(convert::known_origin).collect(),
        }))
    }

    async fn vouch_origin(
        &self,
        request: Request<proto::VouchOriginRequest>,
    ) -> Result<Response<proto::VouchOriginResponse>, Status> {
        let proto::VouchOriginRequest { origin, order } = request.into_inner();
        let order = convert::order(order)?.ok_or_else(|| RequestError::field("order", "is missing"))?;
        let outcomes = self.operations.vouch(convert::origin("origin", &origin)?, order).await?;
        let outcomes = outcomes.into_iter().map(|outcome| proto::vouch_origin_response::Outcome {
            node: outcome.node,
            error: outcome.error.map(|error| error.to_string()).unwrap_or_default(),
        });
        Ok(Response::new(proto::VouchOriginResponse { outcomes: outcomes.collect() }))
    }

    async fn close_origin(
        &self,
        request: Request<proto::CloseOriginRequest>,
    ) -> Result<Response<proto::CloseOriginResponse>, Status> {
        let closing = Closing::from_proto(request.into_inner().closing.unwrap_or_default());
        self.operations.close(closing.map_err(|problem| RequestError::field("closing", problem))?).await?;
        Ok(Response::new(proto::CloseOriginResponse { node_id: self.node_id() }))
    }

    async fn acknowledge_fork(
        &self,
        request: Request<proto::AcknowledgeForkRequest>,
    ) -> Result<Response<proto::AcknowledgeForkResponse>, Status> {
        let origin = convert::origin("origin", &request.into_inner().origin)?;
        let frozen = self.operations.acknowledge_fork(origin).await?;
        Ok(Response::new(proto::AcknowledgeForkResponse { node_id: self.node_id(), frozen }))
    }

    async fn migrate_trust(
        &self,
        request: Request<proto::MigrateTrustRequest>,
    ) -> Result<Response<proto::MigrateTrustResponse>, Status> {
        let migrated = self.operations.migrate(convert::migration_step(request.into_inner())?).await?;
        Ok(Response::new(convert::migrated(self.node_id(), migrated)))
    }

    async fn compact(
        &self,
        _: Request<proto::CompactRequest>,
    ) -> Result<Response<proto::CompactResponse>, Status> {
        let compacted = convert::compact_response(self.operations.compact().await?);
        Ok(Response::new(proto::CompactResponse { node_id: self.node_id(), ..compacted }))
    }

    async fn verify(
        &self,
        _: Request<proto::VerifyRequest>,
    ) -> Result<Response<proto::VerifyResponse>, Status> {
        Ok(Response::new(convert::verify_response(self.operations.verify().await?)))
    }

    async fn repair(
        &self,
        _: Request<proto::RepairRequest>,
    ) -> Result<Response<proto::RepairResponse>, Status> {
        let repaired = convert::repair_response(self.operations.repair().await?);
        Ok(Response::new(proto::RepairResponse { node_id: self.node_id(), ..repaired }))
    }

    async fn list_conflicts(
        &self,
        request: Request<proto::ListConflictsRequest>,
    ) -> Result<Response<proto::ListConflictsResponse>, Status> {
        let proto::ListConflictsRequest { after, limit } = request.into_inner();
        let Page { items, next } = self.ledgers.conflicts(convert::after(&after)?, limit).await?;
        Ok(Response::new(proto::ListConflictsResponse {
            conflicts: items.iter().map(convert::conflict).collect(),
            next: next.as_ref().map(convert::key_hash_bytes).unwrap_or_default(),
            node_id: self.node_id(),
        }))
    }

    async fn acknowledge_conflicts(
        &self,
        request: Request<proto::AcknowledgeConflictsRequest>,
    ) -> Result<Response<proto::AcknowledgeConflictsResponse>, Status> {
        let key_hashes = convert::key_hashes(&request.into_inner().key_hashes)?;
        let acknowledged = self.ledgers.acknowledge(key_hashes).await?;
        let acknowledged = u32::try_from(acknowledged).unwrap_or(u32::MAX);
        Ok(Response::new(proto::AcknowledgeConflictsResponse { node_id: self.node_id(), acknowledged }))
    }

    async fn list_quarantine(
        &self,
        request: Request<proto::ListQuarantineRequest>,
    ) -> Result<Response<proto::ListQuarantineResponse>, Status> {
        let proto::ListQuarantineRequest { after, limit } = request.into_inner();
        let after = after.as_ref().map(convert::stamp).transpose()?;
        let Page { items, next } = self.ledgers.quarantine(after, limit).await?;
        Ok(Response::new(proto::ListQuarantineResponse {
            entries: items.into_iter().map(|entry| convert::quarantined(entry).0).collect(),
            next: next.map(codec::stamp_to_proto),
            node_id: self.node_id(),
        }))
    }

    async fn show_quarantined(
        &self,
        request: Request<proto::QuarantinedRequest>,
    ) -> Result<Response<proto::ShowQuarantinedResponse>, Status> {
        let stamp = convert::required_stamp(request.into_inner())?;
        let (entry, operation) = convert::quarantined(self.ledgers.quarantined(stamp).await?);
        Ok(Response::new(proto::ShowQuarantinedResponse {
            entry: Some(entry),
            operation,
            node_id: self.node_id(),
        }))
    }

    async fn retry_quarantined(
        &self,
        request: Request<proto::QuarantinedRequest>,
    ) -> Result<Response<proto::RetryQuarantinedResponse>, Status> {
        self.ledgers.retry(convert::required_stamp(request.into_inner())?).await?;
        Ok(Response::new(proto::RetryQuarantinedResponse { node_id: self.node_id() }))
    }

    async fn drop_quarantined(
        &self,
        request: Request<proto::QuarantinedRequest>,
    ) -> Result<Response<proto::DropQuarantinedResponse>, Status> {
        self.ledgers.discard(convert::required_stamp(request.into_inner())?).await?;
        Ok(Response::new(proto::DropQuarantinedResponse { node_id: self.node_id() }))
    }

    async fn backup_now(
        &self,
        request: Request<proto::BackupNowRequest>,
    ) -> Result<Response<proto::BackupNowResponse>, Status> {
        let made = self.backups.make(request.into_inner().full).await?;
        let backup = made.map(convert::backup);
        Ok(Response::new(proto::BackupNowResponse { backup, node_id: self.node_id() }))
    }

    async fn list_backups(
        &self,
        _: Request<proto::ListBackupsRequest>,
    ) -> Result<Response<proto::ListBackupsResponse>, Status> {
        let ListedBackups { manifests, doubtful, omitted } = self.backups.list().await?;
        Ok(Response::new(proto::ListBackupsResponse {
            backups: manifests.into_iter().map(convert::backup).collect(),
            doubtful: doubtful.into_iter().collect(),
            omitted: omitted as u64,
            node_id: self.node_id(),
        }))
    }

    async fn clear_alarms(
        &self,
        _: Request<proto::ClearAlarmsRequest>,
    ) -> Result<Response<proto::ClearAlarmsResponse>, Status> {
        Ok(Response::new(proto::ClearAlarmsResponse {
            node_id: self.node_id(),
            alarms: self.operations.clear_alarms().into_iter().map(alarm_to_proto).collect(),
        }))
    }

    async fn audit_head(
        &self,
        _: Request<proto::AuditHeadRequest>,
    ) -> Result<Response<proto::AuditHeadResponse>, Status> {
        let (path, head) = self.audit_log.report().ok_or(RequestError::NoAuditLog)?;
        Ok(Response::new(proto::AuditHeadResponse {
            path: path.display().to_string(),
            sequence: head.sequence,
            hash: head.hash.to_string(),
            node_id: self.node_id(),
        }))
    }
}
