//! Asking a node whether it is ready.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

const TIMEOUT: Duration = Duration::from_millis(500);
/// The most of an answer that is looked at.
const ANSWER_MAX_BYTES: u64 = 4096;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Probe {
    Ready,
    /// What the node says.
    NotReady(String),
    /// Why there is no answer.
    NoAnswer(String),
}

pub(super) fn readyz(address: SocketAddr) -> Probe {
    match get(address, "/readyz") {
        Ok((200, _)) => Probe::Ready,
        Ok((_, body)) => Probe::NotReady(body.trim().to_owned()),
        Err(error) => Probe::NoAnswer(error.to_string()),
    }
}

fn get(address: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    // At once: `write!` sends each piece by itself, and the other end may have answered the first and left.
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.take(ANSWER_MAX_BYTES).read_to_string(&mut answer)?;
    let not_http = || io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP");
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(not_http)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(not_http)?;
    Ok((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

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
        let ready = answering("HTTP/1.1 200 OK\r\nx: y\r\n\r\nok\n");
        assert_eq!(readyz(ready), Probe::Ready);
        let starting = answering("HTTP/1.1 503 Service Unavailable\r\n\r\nnot ready: why\n");
        assert_eq!(readyz(starting), Probe::NotReady("not ready: why".to_owned()));
        assert!(matches!(readyz(answering("SSH-2.0\r\n")), Probe::NoAnswer(_)));
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(matches!(readyz(closed), Probe::NoAnswer(_)));
    }
}
