//! The layer in front of all services: it denies what `calls` does not allow, records operators' calls and
//! denials in the audit log, and measures.

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

use super::{
    audit,
    calls::{Call, Recorded, TABLE},
};
use crate::{audit::log::AuditLog, runtime::spans};
use brock_core::base::metrics as names;
use brock_net::tls::{accept::ConnectionInfo, roles::Role};

type Answer<E> = Pin<Box<dyn Future<Output = Result<Response<Body>, E>> + Send>>;

struct Rule {
    method: &'static str,
    roles: &'static [Role],
    // Made once: looking a metric up at every call costs more than recording it.
    succeeded: Histogram,
    recorded: Recorded,
}

/// Applies [`TABLE`] to every call.
#[derive(Clone)]
pub struct Authorise {
    rules: Arc<HashMap<&'static str, Rule>>,
    audit_log: AuditLog,
}

impl Authorise {
    /// Records in `audit_log`.
    pub fn new(audit_log: AuditLog) -> Self {
        let rule = |call: &Call| {
            let method = call.method();
            let succeeded = metrics::histogram!(names::RPC_DURATION, "method" => method, "code" => "Ok");
            (call.path, Rule { method, roles: call.roles, succeeded, recorded: call.recorded })
        };
        Self { rules: Arc::new(TABLE.iter().map(rule).collect()), audit_log }
    }
}

impl<S> Layer<S> for Authorise {
    type Service = Authorised<S>;

    fn layer(&self, inner: S) -> Authorised<S> {
        Authorised { inner, rules: Arc::clone(&self.rules), audit_log: self.audit_log.clone() }
    }
}

/// A service behind [`Authorise`].
#[derive(Clone)]
pub struct Authorised<S> {
    inner: S,
    rules: Arc<HashMap<&'static str, Rule>>,
    audit_log: AuditLog,
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
            audit::denied(&self.audit_log, info, method, denial.code());
            metrics::counter!(names::RPC_DENIED, "method" => method, "role" => role).increment(1);
            return Box::pin(std::future::ready(Ok(denial.into_http())));
        };
        let (audit_log, info) = (self.audit_log.clone(), info.cloned());
        let role = info.as_ref().map_or(Role::Client, |info| info.identity.role);
        let span = spans::call(method, role, request.headers());
        if matches!(recorded, Recorded::No) {
            // A handler may know more about a caller than the table does.
            let refused = move |code| {
                if code == Code::PermissionDenied {
                    audit::denied(&audit_log, info.as_ref(), method, code);
                }
            };
            let call = span.in_scope(|| self.inner.call(request));
            return Box::pin(measured(call, span, method, succeeded, refused));
        }
        // The service that `poll_ready` found ready is the one that is called.
        let next = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, next);
        let call = audit::call(audit_log, recorded, method, info, inner, request);
        Box::pin(measured(call, span, method, succeeded, |_| ()))
    }
}

/// Measures a call; `refused` gets the code of an answer that is an error.
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
                // The transport's code for a message over its limit; gRPC's own is this one.
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

/// Whether the node is at fault; NOT_FOUND, ALREADY_EXISTS and the like are answers.
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
    let wanted = TABLE.iter().find(|call| call.method() == method).map_or(&[][..], |call| call.roles);
    let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
    Status::permission_denied(format!(
        "{method} is not for the role {role}: use a certificate with the role {}",
        wanted.join(" or ")
    ))
}
