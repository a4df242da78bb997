//! Logs, metrics and traces.
//!
//! - `logs`: what the log says, how often, and how it is chosen.
//! - `metrics`: what a node measures of itself and of the cluster.
//! - `page`: the metrics page: every metric, and no key.
//! - `traces`: traces that are sent to a collector.

mod logs;
mod metrics;
mod page;
mod traces;
