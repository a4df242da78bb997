//! The spans that tracing shows: one function for each, so that what they carry is seen in one place.
//! Never a key, a key hash, a payload or the name of a client.
//!
//! Nobody sees them unless traces are exported: the log leaves them out, and a span that no subscriber
//! wants costs one atomic load.

use std::fmt::Display;

use http::HeaderMap;
use opentelemetry::{
    Context,
    propagation::{Extractor, TextMapPropagator as _},
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::{Span, field::Empty, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// What they all have as their target.
pub const TARGET: &str = "brock::spans";

/// A call to this node, until its answer begins. It belongs to the caller's trace if that says so.
pub fn call(method: &'static str, role: impl Display, headers: &HeaderMap) -> Span {
    let span = info_span!(
        target: TARGET,
        "call",
        otel.name = method,
        otel.kind = "server",
        rpc.system = "grpc",
        rpc.method = method,
        role = %role,
        rpc.code = Empty,
        otel.status_code = Empty,
    );
    if !span.is_disabled() && headers.contains_key("traceparent") {
        let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers(headers));
        // Refused only once the span has begun, which it has not.
        let _ = span.set_parent(parent);
    }
    span
}

/// How the call ended.
pub fn called(span: &Span, code: impl std::fmt::Debug, is_fault: bool) {
    if !span.is_disabled() {
        span.record("rpc.code", format!("{code:?}"));
        end(span, !is_fault);
    }
}

/// A replication round with a peer.
pub fn round(peer: &str) -> Span {
    info_span!(target: TARGET, "round", otel.name = "replication round", peer, otel.status_code = Empty)
}

/// A batch from a peer, from its arrival until it is visible.
pub fn batch(peer: &str, entries: u64) -> Span {
    info_span!(target: TARGET, "batch", otel.name = "apply batch", peer, entries, otel.status_code = Empty)
}

/// A group commit.
pub fn commit(commands: usize) -> Span {
    info_span!(target: TARGET, "commit", otel.name = "group commit", commands, otel.status_code = Empty)
}

/// A backup that is made.
pub fn backup() -> Span {
    info_span!(target: TARGET, "backup", otel.name = "backup", otel.status_code = Empty)
}

/// This node is filled from a peer's records.
pub fn resync(donor: impl Display) -> Span {
    info_span!(target: TARGET, "resync", otel.name = "resync", donor = %donor, otel.status_code = Empty)
}

/// How it ended.
pub fn end(span: &Span, is_ok: bool) {
    span.record("otel.status_code", if is_ok { "OK" } else { "ERROR" });
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}
