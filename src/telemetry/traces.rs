//! Exports spans to a collector, if one is configured: by OTLP over gRPC, in batches, from a thread of its
//! own. The node never waits for the collector.

use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use opentelemetry::{KeyValue, trace::TracerProvider as _};
use opentelemetry_otlp::{ExporterBuildError, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    trace::{
        BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider, SpanData, SpanExporter,
    },
};
use tokio::{runtime::Handle, time::timeout};

use brock_core::base::{id::NodeId, limits, metrics as names};

/// Where to export traces, and how many of them.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceOptions {
    /// `http://HOST:PORT` of a collector.
    pub endpoint: String,
    /// The fraction of traces that is exported, 0 to 1.
    pub sample_ratio: f64,
}

/// Exports until it is dropped or shut down.
pub(crate) struct Export {
    provider: SdkTracerProvider,
}

impl fmt::Debug for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Export").finish_non_exhaustive()
    }
}

impl Export {
    /// Must be called on the runtime. Does not connect yet.
    pub(crate) fn begin(trace: &TraceOptions, node_id: &NodeId) -> Result<Self, ExporterBuildError> {
        let inner = opentelemetry_otlp::SpanExporter::builder()
            .with_tonic()
            .with_endpoint(&trace.endpoint)
            .with_timeout(limits::TRACE_EXPORT_TIMEOUT)
            .build()?;
        let exporter = Watched { inner, runtime: Handle::current(), has_failed: AtomicBool::new(false) };
        let bounds = BatchConfigBuilder::default()
            .with_max_queue_size(limits::TRACE_QUEUE_SPANS)
            .with_max_export_batch_size(limits::TRACE_BATCH_SPANS)
            .with_scheduled_delay(limits::TRACE_INTERVAL)
            .build();
        let resource = Resource::builder_empty()
            .with_service_name("brock")
            .with_attributes([
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                KeyValue::new("service.instance.id", node_id.to_string()),
            ])
            .build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(BatchSpanProcessor::builder(exporter).with_batch_config(bounds).build())
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(trace.sample_ratio))))
            .with_resource(resource)
            .build();
        Ok(Self { provider })
    }

    pub(crate) fn tracer(&self) -> SdkTracer {
        self.provider.tracer("brock")
    }

    /// Exports the spans that are left, for a bounded time. Blocks.
    pub(crate) fn shut_down(&self) {
        if let Err(error) = self.provider.shutdown_with_timeout(limits::TRACE_FLUSH_TIMEOUT) {
            tracing::debug!(%error, "the last spans were not exported");
        }
    }
}

/// Counts exported spans, and logs once when exporting fails and once when it works again.
#[derive(Debug)]
struct Watched {
    inner: opentelemetry_otlp::SpanExporter,
    /// The exporting thread is not one of the runtime's.
    runtime: Handle,
    has_failed: AtomicBool,
}

impl SpanExporter for Watched {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        let sending = {
            let _context = self.runtime.enter();
            timeout(limits::TRACE_EXPORT_TIMEOUT, self.inner.export(batch))
        };
        let late = OTelSdkError::Timeout(limits::TRACE_EXPORT_TIMEOUT);
        let outcome = sending.await.unwrap_or(Err(late));
        let label = if outcome.is_ok() { "sent" } else { "failed" };
        metrics::counter!(names::TRACE_SPANS, "outcome" => label).increment(spans);
        let failed_before = self.has_failed.swap(outcome.is_err(), Ordering::Relaxed);
        match &outcome {
            Err(error) if !failed_before => {
                tracing::warn!(
                    %error,
                    "cannot export spans to the collector at trace.otlp-endpoint; dropping them until it accepts them again"
                );
            }
            Ok(()) if failed_before => tracing::info!("the collector accepts spans again"),
            _ => {}
        }
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}
