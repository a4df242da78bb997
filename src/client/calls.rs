//! The calls of [`Client`] and [`Connection`], one line each. The messages are those of
//! `proto/brock/v1`, which explain what each call does and which errors it has.

use tonic::{Streaming, transport::Channel};

use brock_core::{
    base::limits,
    proto::{
        self, admin_service_client::AdminServiceClient, key_value_service_client::KeyValueServiceClient,
    },
};

use crate::{Answered, CallError, Client, Connection};

/// The generated key-value client, with the message sizes that nodes use.
pub fn key_values(channel: Channel) -> KeyValueServiceClient<Channel> {
    KeyValueServiceClient::new(channel)
        .max_decoding_message_size(limits::MESSAGE_MAX_BYTES)
        .max_encoding_message_size(limits::MESSAGE_MAX_BYTES)
}

/// The generated admin client, with the message size that nodes use.
pub fn admin(channel: Channel) -> AdminServiceClient<Channel> {
    AdminServiceClient::new(channel).max_decoding_message_size(limits::MESSAGE_MAX_BYTES)
}

macro_rules! calls {
    ($service:ident: $($call:ident($request:ident) -> $answer:ty: $doc:literal;)*) => {
        impl Client {
            $(
                #[doc = $doc]
                pub async fn $call(&self, request: proto::$request) -> Answered<$answer> {
                    self.first_answer(|channel| {
                        let request = request.clone();
                        async move { Ok($service(channel).$call(request).await?.into_inner()) }
                    })
                    .await
                }
            )*
        }

        impl Connection {
            $(
                #[doc = $doc]
                pub async fn $call(&self, request: proto::$request) -> Result<$answer, CallError> {
                    let answer = async |channel| Ok($service(channel).$call(request).await?.into_inner());
                    self.call(answer).await
                }
            )*
        }
    };
}

calls! { key_values:
    put(PutRequest) -> proto::PutResponse: "Creates a record. It is durable on the node when this returns. When an earlier node has not answered, \
         ALREADY_EXISTS may be about this very record: see [`Answered::perhaps_done`].";
    get(GetRequest) -> proto::GetResponse: "Reads a valid record.";
    batch_put(BatchPutRequest) -> proto::BatchPutResponse: "Creates records; each item has its own outcome.";
    batch_get(BatchGetRequest) -> proto::BatchGetResponse: "Reads records; each item has its own outcome.";
}

calls! { admin:
    status(StatusRequest) -> proto::StatusResponse: "The status of the node.";
    cluster(ClusterRequest) -> proto::ClusterResponse: "The status of all nodes, and a verdict.";
    show_configuration(ShowConfigurationRequest) -> proto::ShowConfigurationResponse:
        "The settings of the node, without secrets.";
    show_record(ShowRecordRequest) -> proto::ShowRecordResponse: "Reads a record, even an invalidated one.";
    invalidate(InvalidateRequest) -> proto::OperationResponse: "Revokes a record.";
    unpublish(UnpublishRequest) -> proto::OperationResponse: "Makes a record private.";
    delete(DeleteRequest) -> proto::OperationResponse: "Deletes a record and its payload.";
    trace_record(TraceRecordRequest) -> proto::TraceRecordResponse: "What each node knows of a record.";
    members(MembersRequest) -> proto::MembersResponse: "The members of the cluster, as the node sees them.";
    retire_member(RetireMemberRequest) -> proto::RetireMemberResponse:
        "Retires a member on the node and on its peers.";
    resume_origin(ResumeOriginRequest) -> proto::ResumeOriginResponse:
        "Lets the paused logs of a node go on at the node.";
    list_origins(ListOriginsRequest) -> proto::ListOriginsResponse: "A page of the origins that the node knows.";
    close_origin(CloseOriginRequest) -> proto::CloseOriginResponse: "Closes the logs of a node.";
    vouch_origin(VouchOriginRequest) -> proto::VouchOriginResponse:
        "Keeps a birth as one that an operator vouches for, at the node and its peers.";
    acknowledge_fork(AcknowledgeForkRequest) -> proto::AcknowledgeForkResponse:
        "Notes at the node that what has frozen an origin is dealt with.";
    migrate_trust(MigrateTrustRequest) -> proto::MigrateTrustResponse:
        "Logs again what of some records is not proven.";
    compact(CompactRequest) -> proto::CompactResponse: "Compacts the log of the node.";
    verify(VerifyRequest) -> proto::VerifyResponse: "Compares the node with its peers.";
    repair(RepairRequest) -> proto::RepairResponse: "Merges differing records of the peers into the node.";
    list_conflicts(ListConflictsRequest) -> proto::ListConflictsResponse: "A page of the conflicts.";
    acknowledge_conflicts(AcknowledgeConflictsRequest) -> proto::AcknowledgeConflictsResponse:
        "Notes at the node that conflicts are dealt with.";
    list_quarantine(ListQuarantineRequest) -> proto::ListQuarantineResponse: "A page of the quarantine.";
    show_quarantined(QuarantinedRequest) -> proto::ShowQuarantinedResponse: "One entry of the quarantine.";
    retry_quarantined(QuarantinedRequest) -> proto::RetryQuarantinedResponse:
        "Tries to apply a quarantined operation.";
    drop_quarantined(QuarantinedRequest) -> proto::DropQuarantinedResponse:
        "Removes an operation from the quarantine.";
    backup_now(BackupNowRequest) -> proto::BackupNowResponse: "Makes a backup.";
    list_backups(ListBackupsRequest) -> proto::ListBackupsResponse: "The backups of the node, oldest first.";
    clear_alarms(ClearAlarmsRequest) -> proto::ClearAlarmsResponse: "Clears the alarms, and returns them.";
    tail_log(TailLogRequest) -> Streaming<proto::LogEntry>: "The newest entries of the log, as a stream.";
    audit_head(AuditHeadRequest) -> proto::AuditHeadResponse: "The last line of the audit log.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_can_be_made_in_spawned_tasks() {
        fn is_spawnable<T: Send>(_: impl Fn(Client) -> T) {}
        is_spawnable(|client| async move { client.get(proto::GetRequest::default()).await });
        is_spawnable(|client| async move { client.status(proto::StatusRequest::default()).await });
    }
}
