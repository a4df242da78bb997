//! `HOST:PORT` of a peer.

use std::{fmt, net::IpAddr, str::FromStr};

use rustls_pki_types::ServerName;

/// Why a text is not the address of a peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// No host, as in `:20004`.
    #[error("{0:?} names no host: a peer's address is HOST:PORT, such as node1.example.com:20004")]
    NoHost(String),
    /// No port.
    #[error("{0:?} names no port: a peer's address is HOST:PORT, such as node1.example.com:20004")]
    NoPort(String),
    /// A port that is not 1 to 65535.
    #[error("{0:?} has no valid port: it must be a number from 1 to 65535")]
    Port(String),
    /// A URL.
    #[error("{0:?} is a URL: a peer's address is HOST:PORT alone, such as node1.example.com:20004")]
    Url(String),
    /// An IPv6 address with a zone, which is of one machine only.
    #[error(
        "{0:?} has an IPv6 zone (%…): a zone is of one machine only, so use an address without it, such as \
         [2001:db8::1]:20004, or a host name"
    )]
    Zone(String),
    /// An IPv6 address without brackets.
    #[error("{0:?} is ambiguous: write an IPv6 address in brackets, such as [2001:db8::1]:20004")]
    Brackets(String),
    /// A host that is neither a DNS name nor an IP address.
    #[error("{0:?} names neither a host name nor an IP address before its port")]
    Host(String),
}

/// Where a peer listens. The host is resolved at each dial, and the peer's certificate must name it, unless
/// DNS gave the address for another name.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Address {
    host: Host,
    port: u16,
    uri: http::Uri,
    /// The name that DNS resolved to this IP address.
    found_as: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Host {
    Name(String),
    Ip(IpAddr),
}

impl Address {
    /// An IP address that DNS gave for `name`. The certificate must name `name`, because the operator
    /// configured it; the answer of a DNS server proves nothing.
    pub fn found(ip: IpAddr, port: u16, name: &str) -> Option<Self> {
        let host = Host::Ip(ip);
        let uri = format!("http://{}", Bracketed(&host, port)).parse().ok()?;
        (port != 0).then(|| Self { host, port, uri, found_as: Some(name.to_owned()) })
    }

    /// The name to resolve before dialling; `None` for an IP address.
    pub(crate) fn name(&self) -> Option<&str> {
        match &self.host {
            Host::Name(name) => Some(name),
            Host::Ip(_) => None,
        }
    }

    /// The host without brackets, as a resolver takes it.
    pub fn host(&self) -> String {
        match &self.host {
            Host::Name(name) => name.clone(),
            Host::Ip(ip) => ip.to_string(),
        }
    }

    /// The port, never 0.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The name that the peer's certificate must state.
    pub(crate) fn server_name(&self) -> Option<ServerName<'static>> {
        match (&self.found_as, &self.host) {
            // A certificate states a name without the trailing dot.
            (Some(name), _) => ServerName::try_from(name.trim_end_matches('.').to_owned()).ok(),
            (None, Host::Name(name)) => ServerName::try_from(name.trim_end_matches('.').to_owned()).ok(),
            (None, Host::Ip(ip)) => Some(ServerName::from(*ip)),
        }
    }

    /// As `node.join` names it: of an address that DNS gave, the name that was resolved, with the port.
    pub(crate) fn as_joined(&self) -> String {
        self.found_as.as_ref().map_or_else(|| self.to_string(), |name| format!("{name}:{}", self.port))
    }

    /// `http://HOST:PORT`, for gRPC's `:authority`. Not `https`: the connector does TLS itself.
    pub(crate) fn uri(&self) -> &http::Uri {
        &self.uri
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let host_error = || AddressError::Host(text.to_owned());
        if text.contains("://") {
            return Err(AddressError::Url(text.to_owned()));
        }
        if text.contains('%') {
            return Err(AddressError::Zone(text.to_owned()));
        }
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']').ok_or_else(host_error)?;
                let port = rest.strip_prefix(':').ok_or_else(|| AddressError::NoPort(text.to_owned()))?;
                let ip: std::net::Ipv6Addr = host.parse().map_err(|_| host_error())?;
                (Host::Ip(ip.into()), port)
            }
            None => {
                let (host, port) =
                    text.rsplit_once(':').ok_or_else(|| AddressError::NoPort(text.to_owned()))?;
                if host.is_empty() {
                    return Err(AddressError::NoHost(text.to_owned()));
                }
                if host.contains(':') {
                    return Err(AddressError::Brackets(text.to_owned()));
                }
                match host.parse::<IpAddr>() {
                    Ok(ip) => (Host::Ip(ip), port),
                    Err(_) => (Host::Name(host.to_owned()), port),
                }
            }
        };
        let digits_only = port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|port| digits_only && *port != 0);
        let port = port.ok_or_else(|| AddressError::Port(text.to_owned()))?;
        if let Host::Name(name) = &host {
            check_host_name(name).map_err(|()| host_error())?;
        }
        let uri = format!("http://{}", Bracketed(&host, port)).parse().map_err(|_| host_error())?;
        Ok(Self { host, port, uri, found_as: None })
    }
}

/// Accepts a name that a certificate can state and that is not a misspelt IPv4 address.
pub(crate) fn check_host_name(name: &str) -> Result<(), ()> {
    let last_label = name.trim_end_matches('.').rsplit('.').next().unwrap_or(name);
    let looks_like_ipv4 = last_label.bytes().all(|byte| byte.is_ascii_digit());
    match ServerName::try_from(name) {
        Ok(ServerName::DnsName(_)) if !looks_like_ipv4 => Ok(()),
        _ => Err(()),
    }
}

struct Bracketed<'a>(&'a Host, u16);

impl fmt::Display for Bracketed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Host::Name(name) => write!(f, "{name}:{}", self.1),
            Host::Ip(IpAddr::V4(ip)) => write!(f, "{ip}:{}", self.1),
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.1),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Bracketed(&self.host, self.port), f)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_round_trips() {
        for (text, host) in [
            ("localhost:20004", "localhost"),
            ("eu1-1.example.com:1", "eu1-1.example.com"),
            ("node_1:65535", "node_1"),
            ("1.2.3.4:20004", "1.2.3.4"),
            ("[::1]:20004", "::1"),
            ("[2001:db8::1]:20004", "2001:db8::1"),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!((address.to_string().as_str(), address.host().as_str()), (text, host));
            assert_eq!(address.uri().to_string(), format!("http://{text}/"));
            assert!(address.server_name().is_some());
        }
    }

    #[test]
    fn what_is_wrong_with_an_address_is_said() {
        let error = |text: &str| text.parse::<Address>().unwrap_err();
        let owned = |text: &str| text.to_owned();
        assert_eq!(error(":20004"), AddressError::NoHost(owned(":20004")));
        assert_eq!(error("host"), AddressError::NoPort(owned("host")));
        assert_eq!(error("[::1]"), AddressError::NoPort(owned("[::1]")));
        assert_eq!(error("::1:20004"), AddressError::Brackets(owned("::1:20004")));
        assert_eq!(error("http://host:1"), AddressError::Url(owned("http://host:1")));
        assert_eq!(error("[fe80::1%eth0]:1"), AddressError::Zone(owned("[fe80::1%eth0]:1")));
        for text in ["host:", "host:0", "host:65536", "host:x", "host:+1"] {
            assert_eq!(error(text), AddressError::Port(owned(text)));
        }
        for text in ["a b:1", "1.2.3:1", "1.2.3.400:1", "[x]:1", "[::1:1", "a/b:1", "u@h:1", "-:1"] {
            let error = error(text);
            assert!(matches!(error, AddressError::Host(_) | AddressError::Brackets(_)), "{text}: {error}");
        }
    }
}
