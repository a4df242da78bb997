//! Reading a node's metrics.

use super::http::get;

/// A node's metrics as they were at one moment.
pub struct Page(String);

impl Page {
    /// `None` = nothing answers there yet.
    pub async fn of(http_port: u16) -> Option<Self> {
        get(http_port, "/metrics").await.map(Self)
    }

    /// The value of a series, written as on the page: `name` or `name{label="value"}`.
    pub fn value(&self, series: &str) -> Option<f64> {
        let line = self.0.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
        Some(line.parse().unwrap())
    }
}
