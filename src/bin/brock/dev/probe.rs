//! Asks a node whether it is ready.

use std::{net::SocketAddr, time::Duration};

use brock_net::http_client::HttpClient;
use tokio::runtime::Runtime;

const TIMEOUT: Duration = Duration::from_millis(500);
const ANSWER_MAX_BYTES: usize = 4096;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    Ready,
    /// The node's reasons.
    NotReady(String),
    /// Why there is no answer.
    NoAnswer(String),
}

/// Asks nodes, one after another.
pub(super) struct Probe {
    client: HttpClient,
    runtime: Runtime,
}

impl Probe {
    pub(super) fn new() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { client: HttpClient::plain(TIMEOUT, ANSWER_MAX_BYTES), runtime })
    }

    pub(super) fn readyz(&self, address: SocketAddr) -> Readiness {
        match self.runtime.block_on(self.client.get(&address.to_string(), "/readyz")) {
            Ok((status, _)) if status == 200 => Readiness::Ready,
            Ok((_, body)) => Readiness::NotReady(body.trim().to_owned()),
            Err(error) => Readiness::NoAnswer(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpListener,
        thread,
    };

    use super::*;

    fn answering(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 256];
            let _ = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        });
        address
    }

    #[test]
    fn an_answer_is_told_from_a_refusal_and_from_none() {
        let probe = Probe::new().unwrap();
        let ready = answering("HTTP/1.1 200 OK\r\nx: y\r\n\r\nok\n");
        assert_eq!(probe.readyz(ready), Readiness::Ready);
        let starting = answering("HTTP/1.1 503 Service Unavailable\r\n\r\nnot ready: why\n");
        assert_eq!(probe.readyz(starting), Readiness::NotReady("not ready: why".to_owned()));
        assert!(matches!(probe.readyz(answering("SSH-2.0\r\n")), Readiness::NoAnswer(_)));
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(matches!(probe.readyz(closed), Readiness::NoAnswer(_)));
    }
}
