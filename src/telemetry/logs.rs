//! Sets up logs, metrics and traces of the process.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io::{self, IsTerminal as _},
    sync::Arc,
};

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_opentelemetry::OpenTelemetryLayer;
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::{FilterExt as _, FilterFn, LevelFilter, ParseError},
    fmt,
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use super::{
    badgerauth, process,
    traces::{Export, TraceOptions},
};
use crate::runtime::spans;
use brock_core::base::{id::NodeId, limits, metrics as definitions, metrics::Kind};
use brock_net::{
    panics,
    task::{TaskName, Tasks},
};

/// What to log, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogOptions {
    /// A filter in the syntax of tracing's `EnvFilter`.
    pub filter: String,
    /// The format of log lines.
    pub format: LogFormat,
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// Text.
    Text,
    /// JSON, one object a line.
    Json,
}

/// Why logs, metrics or traces cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The log filter is not valid.
    #[error("log.level is not a log filter; write one such as info,brock::replication=debug")]
    Filter(#[from] ParseError),
    /// This process logs already.
    #[error("logging is already set up in this process; set it up once")]
    Logging(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The exporter of traces does not start.
    #[error("cannot export traces to trace.otlp-endpoint: {0}")]
    Trace(String),
    /// This process has a metrics recorder already.
    #[error("metrics are already set up in this process; set them up once")]
    Metrics(#[from] BuildError),
}

/// The process's metrics. There is one per process; several nodes in one process share it.
#[derive(Clone)]
pub struct Telemetry {
    handle: PrometheusHandle,
    export: Option<Arc<Export>>,
}

impl std::fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Telemetry").finish_non_exhaustive()
    }
}

impl Telemetry {
    /// Sets up all that a node's process needs: logs on stderr, metrics, traces if asked for, and a hook
    /// that logs a panic and aborts. With traces it must be called on the runtime.
    pub fn install(
        node_id: &NodeId,
        log: &LogOptions,
        trace: Option<&TraceOptions>,
    ) -> Result<Self, TelemetryError> {
        let export = trace.map(|trace| Export::begin(trace, node_id)).transpose();
        let export = export.map_err(|error| TelemetryError::Trace(error.to_string()))?.map(Arc::new);
        install_logs(log, export.as_deref())?;
        abort_on_panic();
        if let Some(TraceOptions { endpoint, sample_ratio }) = trace {
            tracing::info!(endpoint, sample_ratio, "exporting traces to a collector, unencrypted");
        }
        Ok(Self { export, ..Self::install_metrics()? })
    }

    /// Exports the last spans, for a bounded time. Blocks.
    pub fn shut_down(&self) {
        if let Some(export) = &self.export {
            export.shut_down();
        }
    }

    /// Sets up only metrics.
    pub fn install_metrics() -> Result<Self, TelemetryError> {
        let mut builder = PrometheusBuilder::new();
        for metric in definitions::ALL {
            if let Kind::Histogram(buckets) = metric.kind {
                builder = builder.set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), buckets)?;
            }
        }
        let handle = builder.install_recorder()?;
        definitions::describe_all();
        Ok(Self { handle, export: None })
    }

    /// Records the node id and the version.
    pub fn set_node(&self, node_id: &NodeId) {
        let (version, node_id) = (env!("CARGO_PKG_VERSION"), node_id.to_string());
        metrics::gauge!(definitions::BUILD_INFO, "version" => version, "node_id" => node_id).set(1.0);
    }

    /// All metrics in Prometheus' text format. Blocks: it reads the metrics of the process.
    pub fn render(&self) -> String {
        let mut page = self.handle.render();
        process::write(&mut page);
        badgerauth::write(&mut page);
        page
    }

    /// Starts the task that keeps histograms small.
    pub fn spawn_folding(self: &Arc<Self>, tasks: &Tasks) {
        let (telemetry, stopping) = (Arc::clone(self), tasks.stopping().clone());
        tasks.spawn(TaskName::MetricsUpkeep, |status| async move {
            status.set_state("waiting");
            let mut ticks = tokio::time::interval(limits::HISTOGRAMS_FOLD_INTERVAL);
            while stopping.run_until_cancelled(ticks.tick()).await.is_some() {
                telemetry.handle.run_upkeep();
            }
        });
    }
}

fn install_logs(log: &LogOptions, export: Option<&Export>) -> Result<(), TelemetryError> {
    let on_terminal = io::stderr().is_terminal();
    let as_json = match log.format {
        LogFormat::Auto => !on_terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let lines = fmt::layer().with_writer(io::stderr).with_ansi(on_terminal);
    let lines: Box<dyn Layer<Registry> + Send + Sync> =
        if as_json { lines.json().flatten_event(true).boxed() } else { lines.boxed() };
    // Only traces use spans; without traces spans cost nothing. The hint says that this filter restricts
    // no level: without it, tracing could rule no level out early.
    let is_no_span = FilterFn::new(|metadata| metadata.target() != spans::TARGET);
    let is_no_span = is_no_span.with_max_level_hint(LevelFilter::TRACE);
    let lines = lines.with_filter(EnvFilter::try_new(with_modules(&log.filter))?.and(is_no_span));
    let subscriber = tracing_subscriber::registry().with(lines);
    // IMPORTANT: not as an optional layer. An absent layer has no filter, so tracing would evaluate every
    // line and span of every library each time: a Get would take half as much CPU again.
    let installed = match export {
        None => subscriber.try_init(),
        Some(export) => {
            // Only spans: a log line may name a client.
            let is_span = FilterFn::new(|metadata| metadata.is_span() && metadata.target() == spans::TARGET);
            let traces = OpenTelemetryLayer::new(export.tracer())
                .with_location(false)
                .with_threads(false)
                .with_target(false)
                .with_filter(is_span.with_max_level_hint(LevelFilter::INFO));
            subscriber.with(traces).try_init()
        }
    };
    installed.map_err(|error| TelemetryError::Logging(error.into()))
}

/// The parts of the node that a filter may name, and the modules of each part.
const PARTS: [(&str, &[&str]); 3] = [
    (
        "brock::replication",
        &["brock::replication", "brock::membership", "brock::maintenance", "brock::transfer"],
    ),
    ("brock::service", &["brock::app", "brock::api::grpc"]),
    ("brock::node", &["brock::node", "brock::config", "brock::telemetry", "brock::api::http"]),
];

/// Replaces each part in a filter, such as `brock::service=debug`, by its modules.
fn with_modules(filter: &str) -> String {
    let directives = filter.split(',').map(|directive| {
        let (target, level) = directive.split_once('=').unwrap_or((directive, ""));
        let part = PARTS.iter().find(|(part, _)| target.trim() == *part).filter(|_| !level.is_empty());
        let modules = part.map(|(_, modules)| modules.iter().map(|module| format!("{module}={level}")));
        modules.map_or_else(|| directive.to_owned(), |modules| modules.collect::<Vec<_>>().join(","))
    });
    directives.collect::<Vec<_>>().join(",")
}

/// A panic aborts the process, unless it is contained (`brock_net::panics`).
fn abort_on_panic() {
    std::panic::set_hook(Box::new(|info| {
        let payload = info.payload_as_str().unwrap_or("no message");
        let location = info.location().map(ToString::to_string).unwrap_or_default();
        if panics::is_contained(&location) {
            // At debug, because a stranger may be able to repeat it: an alarm names each place once. Without the
            // message, which may quote bytes from outside.
            return tracing::debug!(location, "a library panicked");
        }
        let backtrace = Backtrace::capture();
        let backtrace = match backtrace.status() {
            BacktraceStatus::Captured => backtrace.to_string(),
            _ => "set RUST_BACKTRACE=1 to record it".to_owned(),
        };
        tracing::error!(location, backtrace, "panic, aborting: {payload}");
        std::process::abort();
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_in_a_filter_stands_for_its_modules() {
        assert_eq!(with_modules("info"), "info");
        assert_eq!(with_modules("info,brock::store=debug"), "info,brock::store=debug");
        assert_eq!(with_modules("warn,brock::service=trace"), "warn,brock::app=trace,brock::api::grpc=trace");
    }
}
