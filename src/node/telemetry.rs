//! Logs and metrics of the process.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io::{self, IsTerminal as _},
    sync::Arc,
    time::Duration,
};

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::{EnvFilter, filter::ParseError};

use super::{
    config::{LogConfig, LogFormat},
    process, seed,
};
use crate::ground::{
    id::NodeId,
    metrics::{self as definitions, Kind},
    task::Tasks,
};

/// How often histograms are folded, so that they do not grow between two scrapes.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Why logs or metrics cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is not one.
    #[error("log.level is not a log filter; write one such as info,brock::replication=debug")]
    Filter(#[from] ParseError),
    /// Something else logs already.
    #[error("logging is already set up in this process; set it up once")]
    Logging(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Something else measures already.
    #[error("metrics cannot be set up; set them up once per process")]
    Metrics(#[from] BuildError),
}

/// The process's metrics. There is one per process; several nodes in one process share it.
#[derive(Clone)]
pub struct Telemetry {
    handle: PrometheusHandle,
}

impl std::fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Telemetry").finish_non_exhaustive()
    }
}

impl Telemetry {
    /// Sets up everything a node's process needs: logs on stderr, metrics, and a panic that is
    /// logged and ends the process.
    pub fn install(log: &LogConfig) -> Result<Self, TelemetryError> {
        install_logs(log)?;
        abort_on_panic();
        Self::install_metrics()
    }

    /// Sets up metrics alone.
    pub fn install_metrics() -> Result<Self, TelemetryError> {
        let mut builder = PrometheusBuilder::new();
        for metric in definitions::ALL {
            if let Kind::Histogram(buckets) = metric.kind {
                builder = builder.set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), buckets)?;
            }
        }
        let handle = builder.install_recorder()?;
        definitions::describe_all();
        Ok(Self { handle })
    }

    /// Says whose metrics these are.
    pub fn set_node(&self, node_id: &NodeId) {
        let (version, node_id) = (env!("CARGO_PKG_VERSION"), node_id.to_string());
        metrics::gauge!(definitions::BUILD_INFO, "version" => version, "node_id" => node_id).set(1.0);
    }

    /// All metrics in Prometheus' text format, the figures of the process as they are now.
    pub fn render(&self) -> String {
        let mut page = self.handle.render();
        if let Some(figures) = process::read() {
            figures.write(&mut page);
        }
        seed::write(&mut page);
        page
    }

    /// Starts the task that keeps histograms small.
    pub fn spawn_upkeep(self: &Arc<Self>, tasks: &Tasks) {
        let (telemetry, stopping) = (Arc::clone(self), tasks.stopping().clone());
        tasks.spawn("metrics upkeep", |status| async move {
            status.set_state("waiting");
            let mut ticks = tokio::time::interval(UPKEEP_INTERVAL);
            while stopping.run_until_cancelled(ticks.tick()).await.is_some() {
                telemetry.handle.run_upkeep();
            }
        });
    }
}

fn install_logs(log: &LogConfig) -> Result<(), TelemetryError> {
    let on_terminal = io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_new(&log.level)?)
        .with_writer(io::stderr)
        .with_ansi(on_terminal);
    let as_json = match log.format {
        LogFormat::Auto => !on_terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let installed = if as_json { builder.json().flatten_event(true).try_init() } else { builder.try_init() };
    installed.map_err(TelemetryError::Logging)
}

/// A panic is a bug, and what it leaves half done is unknown: the process ends, and what was
/// acknowledged is on disk.
fn abort_on_panic() {
    std::panic::set_hook(Box::new(|info| {
        let payload = info.payload_as_str().unwrap_or("no message");
        let location = info.location().map(ToString::to_string).unwrap_or_default();
        let backtrace = Backtrace::capture();
        let backtrace = match backtrace.status() {
            BacktraceStatus::Captured => backtrace.to_string(),
            _ => "set RUST_BACKTRACE=1 to see it".to_owned(),
        };
        tracing::error!(location, backtrace, "panic, aborting: {payload}");
        std::process::abort();
    }));
}
