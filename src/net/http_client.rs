//! GETs a page of a node's HTTP server, plainly or over TLS.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::tls::handshake::provider;

/// A client of the HTTP servers of nodes.
#[derive(Clone)]
pub struct HttpClient {
    /// `None`: plain HTTP.
    tls: Option<TlsConnector>,
    /// For a whole request.
    timeout: Duration,
    /// The largest body that is read.
    max_bytes: usize,
}

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The server cannot be reached, or the connection broke.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The server does not speak HTTP.
    #[error("the answer is not HTTP")]
    NotHttp(#[source] hyper::Error),
    /// The body is larger than the client reads.
    #[error("the answer is too large")]
    TooLarge,
    /// The time is over.
    #[error("it took too long")]
    Timeout,
}

/// A file does not hold the certificate of a CA.
#[derive(Debug, thiserror::Error)]
#[error("{} is not a CA's certificate in PEM: {reason}", path.display())]
pub struct NoCa {
    path: PathBuf,
    reason: String,
}

impl HttpClient {
    /// A client that sends plain HTTP.
    pub fn plain(timeout: Duration, max_bytes: usize) -> Self {
        Self { tls: None, timeout, max_bytes }
    }

    /// A client that uses TLS and trusts the CAs in the file `ca`.
    pub fn over_tls(ca: &Path, timeout: Duration, max_bytes: usize) -> Result<Self, NoCa> {
        let no_ca = |reason: String| NoCa { path: ca.to_owned(), reason };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(ca).map_err(|error| no_ca(error.to_string()))? {
            let certificate = certificate.map_err(|error| no_ca(error.to_string()))?;
            roots.add(certificate).map_err(|error| no_ca(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(no_ca("it holds no certificate".to_owned()));
        }
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| no_ca(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls: Some(TlsConnector::from(Arc::new(config))), timeout, max_bytes })
    }

    /// The status and the body of `path` at `address`, which is `HOST:PORT`.
    pub async fn get(&self, address: &str, path: &str) -> Result<(StatusCode, String), HttpError> {
        let answer = async { self.get_from_any(lookup_host(address).await?, address, path).await };
        timeout(self.timeout, answer).await.map_err(|_| HttpError::Timeout)?
    }

    /// The answer of the first of the sockets that gives one.
    async fn get_from_any(
        &self,
        sockets: impl IntoIterator<Item = SocketAddr>,
        address: &str,
        path: &str,
    ) -> Result<(StatusCode, String), HttpError> {
        let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for socket in sockets {
            match self.get_from(socket, address, path).await {
                Err(HttpError::Io(error)) => failure = error,
                answer => return answer,
            }
        }
        Err(failure.into())
    }

    async fn get_from(
        &self,
        socket: SocketAddr,
        address: &str,
        path: &str,
    ) -> Result<(StatusCode, String), HttpError> {
        let stream = TcpStream::connect(socket).await?;
        let Some(tls) = &self.tls else { return self.request(stream, address, path).await };
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        self.request(tls.connect(name, stream).await?, address, path).await
    }

    async fn request(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        address: &str,
        path: &str,
    ) -> Result<(StatusCode, String), HttpError> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
        let request = Request::get(path)
            .header(header::HOST, address)
            .header(header::CONNECTION, "close")
            .body(Empty::<Bytes>::new())
            .map_err(io::Error::other)?;
        let answer = async {
            let answer = sender.send_request(request).await.map_err(failed)?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), self.max_bytes).collect().await;
            let body = body.map_err(|error| match error.downcast::<hyper::Error>() {
                Ok(error) => failed(*error),
                Err(error) if error.is::<LengthLimitError>() => HttpError::TooLarge,
                Err(error) => HttpError::Io(io::Error::other(error)),
            })?;
            Ok((status, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
        };
        let mut answer = std::pin::pin!(answer);
        // The connection carries the answer. When it ends first, what it read is still there.
        tokio::select! {
            answer = answer.as_mut() => answer,
            _ = connection => answer.await,
        }
    }
}

fn failed(error: hyper::Error) -> HttpError {
    if error.is_parse() { HttpError::NotHttp(error) } else { HttpError::Io(io::Error::other(error)) }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    /// What a client gets from a server that sends this answer.
    async fn answered(answer: &'static str) -> Result<(StatusCode, String), HttpError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let read = stream.read(&mut [0; 1024]).await.unwrap();
            assert!(read > 0);
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            stream
        };
        let client = HttpClient::plain(Duration::from_secs(5), 16);
        let (answer, _stream) = tokio::join!(client.get(&address, "/readyz"), server);
        answer
    }

    #[tokio::test]
    async fn a_page_a_refusal_and_something_else_are_told_apart() {
        let page = answered("HTTP/1.1 200 OK\r\nx: y\r\n\r\nok\n").await.unwrap();
        assert_eq!(page, (StatusCode::OK, "ok\n".to_owned()));
        let refused = answered("HTTP/1.1 503 Service Unavailable\r\n\r\nnot ready\n").await.unwrap();
        assert_eq!(refused, (StatusCode::SERVICE_UNAVAILABLE, "not ready\n".to_owned()));
        assert!(matches!(answered("SSH-2.0-x\r\n").await, Err(HttpError::NotHttp(_))));
        assert!(matches!(
            answered("HTTP/1.1 200 OK\r\n\r\nmore than sixteen bytes").await,
            Err(HttpError::TooLarge)
        ));
    }

    #[tokio::test]
    async fn of_several_addresses_the_first_that_answers_counts() {
        let [dead, alive] = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        let sockets = [&dead, &alive].map(|listener| listener.local_addr().unwrap());
        let serve = std::thread::spawn(move || {
            // It accepts and hangs up; the other one answers.
            drop(dead.accept().unwrap());
            let (mut stream, _) = alive.accept().unwrap();
            let read = io::Read::read(&mut stream, &mut [0; 1024]).unwrap();
            io::Write::write_all(&mut stream, b"HTTP/1.1 200 OK\r\n\r\nok\n").unwrap();
            read
        });
        let client = HttpClient::plain(Duration::from_secs(5), 16);
        let answer = client.get_from_any(sockets, "node:1", "/readyz").await.unwrap();
        assert_eq!(answer, (StatusCode::OK, "ok\n".to_owned()));
        assert!(serve.join().unwrap() > 0);
        let none = client.get_from_any([], "node:1", "/readyz").await.unwrap_err();
        assert_eq!(none.to_string(), "the name has no address");
    }

    #[tokio::test]
    async fn a_server_that_is_silent_or_absent_is_an_error() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = silent.local_addr().unwrap().to_string();
        let client = HttpClient::plain(Duration::from_millis(50), 16);
        assert!(matches!(client.get(&address, "/").await, Err(HttpError::Timeout)));
        drop(silent);
        assert!(matches!(client.get(&address, "/").await, Err(HttpError::Io(_) | HttpError::Timeout)));
    }
}
