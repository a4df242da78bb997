//! Every call that exists: which roles may make it, and what the audit log records of it.

use super::shown::{
    Show, acknowledgement, backup, compaction, frozen, migration, nothing, operation, repair, request,
    resumed, retirement, vouched,
};
use brock_net::tls::roles::Role;

use Recorded::{Change, No, Read, Stream};
use Role::{Admin, Client, Node};

/// A call of a gRPC service.
#[derive(Debug)]
pub struct Call {
    /// `/package.Service/Method`
    pub path: &'static str,
    /// The roles that may make it.
    pub roles: &'static [Role],
    pub(super) recorded: Recorded,
}

impl Call {
    /// The name of the method alone.
    pub fn method(&self) -> &'static str {
        self.path.rsplit('/').next().unwrap_or(self.path)
    }
}

/// How the audit log records a call. The functions show the request, and the answer to a change.
#[derive(Debug, Clone, Copy)]
pub(super) enum Recorded {
    /// Not at all: it is no operator's call.
    No,
    /// It changes nothing: one line with the outcome, before the answer goes out.
    Read(Show),
    /// One line before the call is carried out, and one after it.
    Change(Show, Show),
    /// The same; the call ends with its stream of answers.
    Stream(Show),
}

/// What is not listed is denied.
pub const TABLE: &[Call] = &[
    call("/brock.v1.KeyValueService/Put", &[Client, Admin], No),
    call("/brock.v1.KeyValueService/Get", &[Client, Admin], No),
    call("/brock.v1.KeyValueService/BatchPut", &[Client, Admin], No),
    call("/brock.v1.KeyValueService/BatchGet", &[Client, Admin], No),
    call("/brock.v1.KeyValueService/Session", &[Client, Admin], No),
    call("/brock.v1.RecognitionService/Recognise", &[Node], No),
    call("/brock.v1.ReplicationService/Ping", &[Node], No),
    call("/brock.v1.ReplicationService/Peek", &[Node], No),
    call("/brock.v1.ReplicationService/Replicate", &[Node], No),
    call("/brock.v1.ReplicationService/Snapshot", &[Node], No),
    call("/brock.v1.ReplicationService/Summary", &[Node], No),
    call("/brock.v1.ReplicationService/ListBucket", &[Node], No),
    call("/brock.v1.ReplicationService/HashRecords", &[Node], No),
    call("/brock.v1.ReplicationService/FetchStates", &[Node], No),
    call("/brock.v1.ReplicationService/Trace", &[Node], No),
    call("/brock.v1.ReplicationService/Retire", &[Node], No),
    call("/brock.v1.ReplicationService/Report", &[Node], No),
    call("/brock.v1.ReplicationService/OfferBirths", &[Node], No),
    admin("/brock.v1.AdminService/Status", Read(request!(StatusRequest { history: flag }))),
    admin("/brock.v1.AdminService/Cluster", Read(request!(ClusterRequest { history: flag, fresh: flag }))),
    admin("/brock.v1.AdminService/ShowConfiguration", Read(request!(ShowConfigurationRequest {}))),
    admin(
        "/brock.v1.AdminService/ShowRecord",
        Read(request!(ShowRecordRequest { key_hash: key as "key", local: flag })),
    ),
    admin(
        "/brock.v1.AdminService/Invalidate",
        Change(
            request!(InvalidateRequest { key_hash: key as "key", reason: reason, ahead: flag, acks: acks as "wait", order: order }),
            operation,
        ),
    ),
    admin(
        "/brock.v1.AdminService/Unpublish",
        Change(
            request!(UnpublishRequest { key_hash: key as "key", ahead: flag, acks: acks as "wait", order: order }),
            operation,
        ),
    ),
    admin(
        "/brock.v1.AdminService/Delete",
        Change(
            request!(DeleteRequest { key_hash: key as "key", ahead: flag, acks: acks as "wait", order: order }),
            operation,
        ),
    ),
    admin(
        "/brock.v1.AdminService/TraceRecord",
        Read(request!(TraceRecordRequest { key_hash: key as "key" })),
    ),
    admin("/brock.v1.AdminService/Members", Read(request!(MembersRequest {}))),
    admin(
        "/brock.v1.AdminService/RetireMember",
        Change(request!(RetireMemberRequest { member: text, order: order }), retirement),
    ),
    admin(
        "/brock.v1.AdminService/ResumeOrigin",
        Change(request!(ResumeOriginRequest { node_id: text }), resumed),
    ),
    admin(
        "/brock.v1.AdminService/ListOrigins",
        Read(request!(ListOriginsRequest { after: origin, limit: limit })),
    ),
    admin(
        "/brock.v1.AdminService/VouchOrigin",
        Change(request!(VouchOriginRequest { origin: origin, order: order }), vouched),
    ),
    admin(
        "/brock.v1.AdminService/CloseOrigin",
        Change(request!(CloseOriginRequest { closing: closing }), nothing),
    ),
    admin(
        "/brock.v1.AdminService/AcknowledgeFork",
        Change(request!(AcknowledgeForkRequest { origin: origin }), frozen),
    ),
    admin(
        "/brock.v1.AdminService/MigrateTrust",
        Change(
            request!(MigrateTrustRequest { after: optional_key as "after_key", orders: destructions }),
            migration,
        ),
    ),
    admin("/brock.v1.AdminService/Compact", Change(request!(CompactRequest {}), compaction)),
    admin("/brock.v1.AdminService/Verify", Read(request!(VerifyRequest {}))),
    admin("/brock.v1.AdminService/Repair", Change(request!(RepairRequest {}), repair)),
    admin(
        "/brock.v1.AdminService/ListConflicts",
        Read(request!(ListConflictsRequest { after: optional_key as "after_key", limit: limit })),
    ),
    admin(
        "/brock.v1.AdminService/AcknowledgeConflicts",
        Change(request!(AcknowledgeConflictsRequest { key_hashes: keys as "keys" }), acknowledgement),
    ),
    admin(
        "/brock.v1.AdminService/ListQuarantine",
        Read(request!(ListQuarantineRequest { after: stamp, limit: limit })),
    ),
    admin("/brock.v1.AdminService/ShowQuarantined", Read(request!(QuarantinedRequest { stamp: stamp }))),
    admin(
        "/brock.v1.AdminService/RetryQuarantined",
        Change(request!(QuarantinedRequest { stamp: stamp }), nothing),
    ),
    admin(
        "/brock.v1.AdminService/DropQuarantined",
        Change(request!(QuarantinedRequest { stamp: stamp }), nothing),
    ),
    admin("/brock.v1.AdminService/BackupNow", Change(request!(BackupNowRequest { full: flag }), backup)),
    admin("/brock.v1.AdminService/ListBackups", Read(request!(ListBackupsRequest {}))),
    admin("/brock.v1.AdminService/ClearAlarms", Change(request!(ClearAlarmsRequest {}), nothing)),
    admin("/brock.v1.AdminService/TailLog", Stream(request!(TailLogRequest { last: count, follow: flag }))),
    admin("/brock.v1.AdminService/AuditHead", Read(request!(AuditHeadRequest {}))),
    call("/grpc.health.v1.Health/Check", &[Node, Client, Admin], No),
    call("/grpc.health.v1.Health/Watch", &[Node, Client, Admin], No),
    call("/grpc.health.v1.Health/List", &[Node, Client, Admin], No),
    call("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", &[Client, Admin], No),
];

/// Whether a role may make a call.
pub fn is_allowed(path: &str, role: Role) -> bool {
    TABLE.iter().any(|call| call.path == path && call.roles.contains(&role))
}

const fn call(path: &'static str, roles: &'static [Role], recorded: Recorded) -> Call {
    Call { path, roles, recorded }
}

/// A call of an operator: only they may make it, and the audit log records it.
const fn admin(path: &'static str, recorded: Recorded) -> Call {
    Call { path, roles: &[Admin], recorded }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use prost_types::FileDescriptorSet;

    use super::*;

    /// Every call of this node's protocol, with its service and whether it is a stream.
    fn described() -> Vec<(String, String, bool)> {
        let set = FileDescriptorSet::decode(brock_core::proto::DESCRIPTORS).unwrap();
        let mut found = Vec::new();
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    let streams = method.server_streaming() || method.client_streaming();
                    found.push((path, service.name().to_owned(), streams));
                }
            }
        }
        assert!(!found.is_empty());
        found
    }

    /// A service is for certain roles, and so are its calls: one that differs must be decided here too.
    #[test]
    fn every_call_of_the_protocol_is_listed_once_for_the_roles_of_its_service() {
        let described = described();
        for (path, service, _) in &described {
            let roles: &[Role] = match service.as_str() {
                "KeyValueService" => &[Client, Admin],
                "ReplicationService" | "RecognitionService" => &[Node],
                "AdminService" => &[Admin],
                other => panic!("for which roles is {other}?"),
            };
            let listed: Vec<_> = TABLE.iter().filter(|call| call.path == path).collect();
            let [call] = listed[..] else { panic!("{path} is listed {} times", listed.len()) };
            assert_eq!(call.roles, roles, "{path}");
            for role in [Node, Client, Admin] {
                assert_eq!(is_allowed(path, role), roles.contains(&role), "{path} {role}");
            }
        }
        // The others are those of gRPC itself.
        let others: Vec<_> =
            TABLE.iter().filter(|call| described.iter().all(|(path, ..)| path != call.path)).collect();
        for call in &others {
            let roles: &[Role] = match call.path.rsplit_once('/').unwrap().0 {
                "/grpc.health.v1.Health" => &[Node, Client, Admin],
                "/grpc.reflection.v1.ServerReflection" => &[Client, Admin],
                other => panic!("{other} is no service of this node"),
            };
            assert_eq!(call.roles, roles, "{}", call.path);
        }
        assert_eq!(others.len(), 4);
        for role in [Node, Client, Admin] {
            assert!(!is_allowed("/brock.v1.AdminService/Wipe", role));
            assert!(!is_allowed("", role));
        }
    }

    #[test]
    fn every_call_of_the_admin_service_is_recorded_and_no_other() {
        for (path, service, streams) in described() {
            let Some(call) = TABLE.iter().find(|call| call.path == path) else {
                panic!("{path} is not in TABLE")
            };
            let recorded = call.recorded;
            assert_eq!(!matches!(recorded, No), service == "AdminService", "{path}");
            assert_eq!(matches!(recorded, Stream(_)), streams && service == "AdminService", "{path}");
        }
        let recorded = |method: &str| {
            let path = format!("/brock.v1.AdminService/{method}");
            TABLE.iter().find(|call| call.path == path).unwrap().recorded
        };
        assert!(matches!(recorded("Status"), Read(_)));
        assert!(matches!(recorded("Delete"), Change(..)));
    }
}
