//! `HOST:PORT` of this node: an address to listen on.

use std::{
    fmt, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use tokio::net::{TcpListener, TcpStream};

/// `HOST:PORT`, or `:PORT` for all interfaces. With port 0 the system chooses the port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenAddress {
    host: String,
    port: u16,
}

/// Why a text is not an address to listen on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListenAddressError {
    /// There is no `:PORT`.
    #[error("it has no port; write HOST:PORT, or :PORT for all interfaces, such as :20004")]
    NoPort,
    /// What follows the last colon is not a port.
    #[error("'{0}' is not a port; write a number from 0 to 65535, such as :20004")]
    Port(String),
    /// The host is neither a name nor an address.
    #[error("'{0}' is not a host; write a name, an IPv4 address, or an IPv6 address in brackets")]
    Host(String),
}

impl ListenAddress {
    /// Binds a listener. Without a host, it accepts IPv6 and IPv4, or IPv4 alone where there is no IPv6.
    pub async fn bind(&self) -> io::Result<TcpListener> {
        if !self.host.is_empty() {
            return TcpListener::bind((self.host.trim_matches(['[', ']']), self.port)).await;
        }
        match TcpListener::bind((Ipv6Addr::UNSPECIFIED, self.port)).await {
            // Trying IPv4 alone would hide that another process has the port.
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                TcpListener::bind((Ipv4Addr::UNSPECIFIED, self.port)).await
            }
            bound => bound,
        }
    }

    /// The `HOST:PORT` at which a client on the same machine reaches a server that listens here.
    pub fn from_this_machine(&self) -> String {
        let host = match self.host.as_str() {
            "" | "0.0.0.0" => "127.0.0.1",
            "[::]" => "[::1]",
            host => host,
        };
        format!("{host}:{}", self.port)
    }

    /// The port; 0: the system chooses it.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for ListenAddress {
    type Err = ListenAddressError;

    fn from_str(text: &str) -> Result<Self, ListenAddressError> {
        let (host, port) = text.rsplit_once(':').ok_or(ListenAddressError::NoPort)?;
        if !host.is_empty() && !is_host(host) {
            return Err(ListenAddressError::Host(host.to_owned()));
        }
        let port = parse_port(port).ok_or_else(|| ListenAddressError::Port(port.to_owned()))?;
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Accepts the next connection. An error concerns the listener: the next call would fail at once too, and the
/// caller pauses.
pub async fn accept(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    loop {
        match listener.accept().await {
            Ok((socket, remote)) => {
                // IMPORTANT: without it, each small answer waits for the acknowledgement of the previous one. It
                // fails for a connection that is gone already.
                let _ = socket.set_nodelay(true);
                return Ok((socket, remote));
            }
            Err(error) if concerns_one_connection(&error) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Whether an error of `accept` concerns only the connection that it was about to return.
fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// A port in plain digits: no sign, no spaces.
pub fn parse_port(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Whether a text is a DNS name, an IPv4 address, or an IPv6 address in brackets.
pub fn is_host(text: &str) -> bool {
    if let Some(inner) = text.strip_prefix('[') {
        return inner.strip_suffix(']').is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
    }
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    let labels_are_valid = name.len() <= 253 && name.split('.').all(is_label);
    // Only digits and dots: an IPv4 address is meant, and 10.0.0.256 is not one.
    let is_numeric = name.chars().all(|c| c.is_ascii_digit() || c == '.');
    labels_are_valid && (!is_numeric || text.parse::<Ipv4Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_with_and_without_a_host_are_read() {
        for text in [":20004", "0.0.0.0:1", "[::1]:20004", "localhost:0", "node-1.example.com.:20004"] {
            assert_eq!(text.parse::<ListenAddress>().unwrap().to_string(), text);
        }
        for text in
            ["", "20004", "host", "host:", "host:x", ":65536", ":+1", "::1:20004", "a b:1", "10.0.0.256:1"]
        {
            assert!(text.parse::<ListenAddress>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_listens_on_all_interfaces_is_reached_on_loopback() {
        for (listens, reached) in [
            (":1", "127.0.0.1:1"),
            ("0.0.0.0:1", "127.0.0.1:1"),
            ("[::]:1", "[::1]:1"),
            ("10.0.0.1:1", "10.0.0.1:1"),
        ] {
            assert_eq!(listens.parse::<ListenAddress>().unwrap().from_this_machine(), reached);
        }
    }

    #[tokio::test]
    async fn an_address_without_a_host_listens_for_ipv4_too() {
        let listener = ":0".parse::<ListenAddress>().unwrap().bind().await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        let taken = format!(":{port}").parse::<ListenAddress>().unwrap();
        assert_eq!(taken.bind().await.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
