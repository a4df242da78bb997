//! Who may call what: one table for every call, deny by default, and the layer that applies it.

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use http::{HeaderValue, Request, Response};
use metrics::Histogram;
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};
use tracing::{Instrument as _, Span};

use super::audit::{self, Recorded};
use crate::{audit::log::AuditLog, runtime::spans};
use brock_core::base::metrics as names;
use brock_net::tls::{accept::ConnectionInfo, roles::Role};

use Role::{Admin, Client, Node};

/// Every call that exists, and the roles that may make it. What is not listed is denied.
pub const TABLE: &[(&str, &[Role])] = &[
    ("/brock.v1.KeyValueService/Put", &[Client, Admin]),
    ("/brock.v1.KeyValueService/Get", &[Client, Admin]),
    ("/brock.v1.KeyValueService/BatchPut", &[Client, Admin]),
    ("/brock.v1.KeyValueService/BatchGet", &[Client, Admin]),
    ("/brock.v1.KeyValueService/Session", &[Client, Admin]),
    ("/brock.v1.RecognitionService/Recognise", &[Node]),
    ("/brock.v1.ReplicationService/Ping", &[Node]),
    ("/brock.v1.ReplicationService/Peek", &[Node]),
    ("/brock.v1.ReplicationService/Replicate", &[Node]),
    ("/brock.v1.ReplicationService/Snapshot", &[Node]),
    ("/brock.v1.ReplicationService/Summary", &[Node]),
    ("/brock.v1.ReplicationService/ListBucket", &[Node]),
    ("/brock.v1.ReplicationService/FetchStates", &[Node]),
    ("/brock.v1.ReplicationService/Trace", &[Node]),
    ("/brock.v1.ReplicationService/Retire", &[Node]),
    ("/brock.v1.ReplicationService/Report", &[Node]),
    ("/brock.v1.AdminService/Status", &[Admin]),
    ("/brock.v1.AdminService/Cluster", &[Admin]),
    ("/brock.v1.AdminService/ShowConfiguration", &[Admin]),
    ("/brock.v1.AdminService/ShowRecord", &[Admin]),
    ("/brock.v1.AdminService/Invalidate", &[Admin]),
    ("/brock.v1.AdminService/Unpublish", &[Admin]),
    ("/brock.v1.AdminService/Delete", &[Admin]),
    ("/brock.v1.AdminService/TraceRecord", &[Admin]),
    ("/brock.v1.AdminService/Members", &[Admin]),
    ("/brock.v1.AdminService/RetireMember", &[Admin]),
    ("/brock.v1.AdminService/Compact", &[Admin]),
    ("/brock.v1.AdminService/Verify", &[Admin]),
    ("/brock.v1.AdminService/Repair", &[Admin]),
    ("/brock.v1.AdminService/ListConflicts", &[Admin]),
    ("/brock.v1.AdminService/ListQuarantine", &[Admin]),
    ("/brock.v1.AdminService/ShowQuarantined", &[Admin]),
    ("/brock.v1.AdminService/RetryQuarantined", &[Admin]),
    ("/brock.v1.AdminService/DropQuarantined", &[Admin]),
    ("/brock.v1.AdminService/BackupNow", &[Admin]),
    ("/brock.v1.AdminService/ListBackups", &[Admin]),
    ("/brock.v1.AdminService/ClearAlarms", &[Admin]),
    ("/brock.v1.AdminService/TailLog", &[Admin]),
    ("/brock.v1.AdminService/AuditHead", &[Admin]),
    ("/grpc.health.v1.Health/Check", &[Node, Client, Admin]),
    ("/grpc.health.v1.Health/Watch", &[Node, Client, Admin]),
    ("/grpc.health.v1.Health/List", &[Node, Client, Admin]),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", &[Client, Admin]),
];

/// Whether a role may make a call.
pub fn is_allowed(path: &str, role: Role) -> bool {
    TABLE.iter().any(|(listed, roles)| *listed == path && roles.contains(&role))
}

type Answer<E> = Pin<Box<dyn Future<Output = Result<Response<Body>, E>> + Send>>;

struct Rule {
    method: &'static str,
    roles: &'static [Role],
    // Made once: looking a metric up at every call costs more than recording it.
    succeeded: Histogram,
    /// In the audit log; an operator's call.
    recorded: Option<Recorded>,
}

/// Applies [`TABLE`] to every call, records it if it is an operator's or denied, and measures it.
#[derive(Clone)]
pub struct Authorise {
    rules: Arc<HashMap<&'static str, Rule>>,
    trail: AuditLog,
}

impl Authorise {
    /// What is to be recorded goes to `trail`.
    pub fn new(trail: AuditLog) -> Self {
        let recorded = audit::recorded();
        let rule = |(path, roles): &(&'static str, &'static [Role])| {
            let method = path.rsplit('/').next().unwrap_or(path);
            let succeeded = metrics::histogram!(names::RPC_DURATION, "method" => method, "code" => "Ok");
            (*path, Rule { method, roles, succeeded, recorded: recorded.get(*path).copied() })
        };
        Self { rules: Arc::new(TABLE.iter().map(rule).collect()), trail }
    }
}

impl<S> Layer<S> for Authorise {
    type Service = Authorised<S>;

    fn layer(&self, inner: S) -> Authorised<S> {
        Authorised { inner, rules: Arc::clone(&self.rules), trail: self.trail.clone() }
    }
}

/// A service behind [`Authorise`].
#[derive(Clone)]
pub struct Authorised<S> {
    inner: S,
    rules: Arc<HashMap<&'static str, Rule>>,
    trail: AuditLog,
}

impl<S> Service<Request<Body>> for Authorised<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Answer<S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let rule = self.rules.get(request.uri().path());
        let info = request.extensions().get::<ConnectionInfo>();
        let identity = info.map(|info| &info.identity);
        let allowed = match (rule, identity) {
            (Some(rule), Some(identity)) if rule.roles.contains(&identity.role) => {
                Some((rule.method, rule.succeeded.clone(), rule.recorded))
            }
            _ => None,
        };
        let Some((method, succeeded, recorded)) = allowed else {
            let method = rule.map_or("unknown", |rule| rule.method);
            let role = identity.map_or_else(|| "none".to_owned(), |identity| identity.role.to_string());
            tracing::debug!(method, role, "a call was denied");
            let denial = denial(rule.is_some(), method, &role);
            audit::denied(&self.trail, info, method, denial.code());
            metrics::counter!(names::RPC_DENIED, "method" => method, "role" => role).increment(1);
            return Box::pin(std::future::ready(Ok(denial.into_http())));
        };
        let (trail, info) = (self.trail.clone(), info.cloned());
        let role = info.as_ref().map_or(Client, |info| info.identity.role);
        let span = spans::call(method, role, request.headers());
        match recorded {
            Some(recorded) => {
                // The one that was asked whether it is ready is the one that is called.
                let next = self.inner.clone();
                let inner = std::mem::replace(&mut self.inner, next);
                let call = audit::call(trail, recorded, method, info, inner, request);
                Box::pin(measured(call, span, method, succeeded, |_| ()))
            }
            None => {
                // A handler may know more about a caller than the table does.
                let refused = move |code| {
                    if code == Code::PermissionDenied {
                        audit::denied(&trail, info.as_ref(), method, code);
                    }
                };
                let call = span.in_scope(|| self.inner.call(request));
                Box::pin(measured(call, span, method, succeeded, refused))
            }
        }
    }
}

/// Measures a call; `refused` hears the code of one that is answered with an error.
async fn measured<E>(
    call: impl Future<Output = Result<Response<Body>, E>>,
    span: Span,
    method: &'static str,
    succeeded: Histogram,
    refused: impl FnOnce(Code),
) -> Result<Response<Body>, E> {
    let started = Instant::now();
    let mut response = call.instrument(span.clone()).await?;
    match response.headers().get(Status::GRPC_STATUS).map(HeaderValue::as_bytes) {
        None | Some(b"0") => {
            succeeded.record(started.elapsed().as_secs_f64());
            spans::called(&span, Code::Ok, false);
        }
        Some(code) => {
            let mut code = Code::from_bytes(code);
            if code == Code::OutOfRange {
                // The transport's word for a message over its limit; ours, and gRPC's own, is this.
                code = Code::ResourceExhausted;
                response.headers_mut().insert(Status::GRPC_STATUS, HeaderValue::from(code as i32));
            }
            refused(code);
            let histogram =
                metrics::histogram!(names::RPC_DURATION, "method" => method, "code" => format!("{code:?}"));
            histogram.record(started.elapsed().as_secs_f64());
            spans::called(&span, code, is_fault(code));
        }
    }
    Ok(response)
}

/// Whether it is the node's fault; NOT_FOUND, ALREADY_EXISTS and the like are answers.
fn is_fault(code: Code) -> bool {
    use Code::{Aborted, DataLoss, DeadlineExceeded, Internal, ResourceExhausted, Unavailable, Unknown};
    matches!(
        code,
        Aborted | DataLoss | DeadlineExceeded | Internal | ResourceExhausted | Unavailable | Unknown
    )
}

fn denial(exists: bool, method: &str, role: &str) -> Status {
    if !exists {
        return Status::unimplemented("this node has no such call");
    }
    let wanted = TABLE
        .iter()
        .find(|(path, _)| path.ends_with(&format!("/{method}")))
        .map_or(&[][..], |(_, roles)| roles);
    let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
    Status::permission_denied(format!(
        "{method} is not for the role {role}: use a certificate with the role {}",
        wanted.join(" or ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written out a second time, by role, so that a change to the table is a decision.
    #[test]
    fn every_call_and_role_is_decided() {
        let kv = ["Put", "Get", "BatchPut", "BatchGet", "Session"]
            .map(|m| format!("/brock.v1.KeyValueService/{m}"));
        let replication = [
            "Ping",
            "Peek",
            "Replicate",
            "Snapshot",
            "Summary",
            "ListBucket",
            "FetchStates",
            "Trace",
            "Retire",
            "Report",
        ];
        let replication = replication.map(|m| format!("/brock.v1.ReplicationService/{m}"));
        let admin = [
            "Status",
            "Cluster",
            "ShowConfiguration",
            "ShowRecord",
            "Invalidate",
            "Unpublish",
            "Delete",
            "TraceRecord",
            "Members",
            "RetireMember",
            "Compact",
            "Verify",
            "Repair",
            "ListConflicts",
            "ListQuarantine",
            "ShowQuarantined",
            "RetryQuarantined",
            "DropQuarantined",
            "BackupNow",
            "ListBackups",
            "ClearAlarms",
            "TailLog",
            "AuditHead",
        ];
        let admin = admin.map(|m| format!("/brock.v1.AdminService/{m}"));
        let health = ["Check", "Watch", "List"].map(|m| format!("/grpc.health.v1.Health/{m}"));
        let reflection = ["/grpc.reflection.v1.ServerReflection/ServerReflectionInfo".to_owned()];
        let mut decided = 0;
        let mut check = |paths: &[String], node: bool, client: bool, admin: bool| {
            for path in paths {
                for (role, allowed) in [(Node, node), (Client, client), (Admin, admin)] {
                    assert_eq!(is_allowed(path, role), allowed, "{path} {role}");
                }
                decided += 1;
            }
        };
        check(&kv, false, true, true);
        check(&replication, true, false, false);
        check(&admin, false, false, true);
        check(&health, true, true, true);
        check(&["/brock.v1.RecognitionService/Recognise".to_owned()], true, false, false);
        check(&reflection, false, true, true);
        assert_eq!(decided, TABLE.len());
        for role in [Node, Client, Admin] {
            assert!(!is_allowed("/brock.v1.AdminService/Wipe", role));
            assert!(!is_allowed("", role));
        }
    }

    /// Every call of every service in the descriptors is in the table: none is forgotten.
    #[test]
    fn every_call_of_the_protocol_is_listed() {
        use prost::Message;
        let set = prost_types::FileDescriptorSet::decode(brock_core::proto::DESCRIPTORS).unwrap();
        let mut calls = 0;
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    assert!(TABLE.iter().any(|(listed, _)| *listed == path), "{path}");
                    calls += 1;
                }
            }
        }
        assert_eq!(calls, 39);
    }
}
