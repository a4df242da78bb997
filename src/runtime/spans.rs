//! The spans of traces: one function for each, so that all their fields are in one place. No field may be a
//! key, a key hash, a payload or the name of a client.
//!
//! Spans appear only in exported traces, not in the log. A span that no subscriber wants costs one atomic
//! load.

use std::fmt::Display;

use http::HeaderMap;
use opentelemetry::{
    Context,
    propagation::{Extractor, TextMapPropagator as _},
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::{Span, field::Empty, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// The target of all spans.
pub const TARGET: &str = "brock::spans";

/// A call to this node, until its answer begins. It joins the caller's trace if the request names one.
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
        // Fails only for a span that was entered, which this one was not.
        let _ = span.set_parent(parent);
    }
    span
}

/// Records the result of a call.
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

/// A batch from a peer, from its arrival until readers see it.
pub fn batch(peer: &str, entries: u64) -> Span {
    info_span!(target: TARGET, "batch", otel.name = "apply batch", peer, entries, otel.status_code = Empty)
}

/// A group commit.
pub fn commit(commands: usize) -> Span {
    info_span!(target: TARGET, "commit", otel.name = "group commit", commands, otel.status_code = Empty)
}

/// The making of a backup.
pub fn backup() -> Span {
    info_span!(target: TARGET, "backup", otel.name = "backup", otel.status_code = Empty)
}

/// A resync: this node fetches all records of a peer.
pub fn resync(donor: impl Display) -> Span {
    info_span!(target: TARGET, "resync", otel.name = "resync", donor = %donor, otel.status_code = Empty)
}

/// Records whether the operation succeeded.
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
