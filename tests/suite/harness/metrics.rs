//! Reading a node's metrics.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A node's metrics as they were at one moment.
pub struct Page(String);

impl Page {
    /// `None`: nobody answers there yet.
    pub async fn of(http_port: u16) -> Option<Self> {
        let mut stream = TcpStream::connect(("127.0.0.1", http_port)).await.ok()?;
        let request = "GET /metrics HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        Some(Self(answer))
    }

    /// The value of a series, written as on the page: `name` or `name{label="value"}`.
    pub fn value(&self, series: &str) -> Option<f64> {
        let line = self.0.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
        Some(line.parse().unwrap())
    }
}
