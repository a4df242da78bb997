//! The entries of `node.join`: addresses of peers, or names under which DNS lists peers.

use std::{collections::BTreeMap, fmt, net::IpAddr, str::FromStr};

use crate::{
    address::{Address, AddressError, check_host_name},
    dns::{ResolveError, Resolver},
};
use brock_core::base::limits;

const ADDRESSES: &str = "dns+";
const SERVICES: &str = "dnssrv+";

/// Why a text is not an entry of `node.join`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// The address of a peer is malformed.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// `dns+` before an IP address.
    #[error(
        "{0:?} has dns+ before an IP address: leave dns+ away; it belongs before a name whose addresses are the peers"
    )]
    NotAName(String),
    /// `dnssrv+` with a port.
    #[error(
        "{0:?} has a port: SRV records say the ports themselves; write a name such as dnssrv+_brock._tcp.example.com"
    )]
    PortOfServices(String),
    /// `dnssrv+` before a name that is not one of SRV records.
    #[error(
        "{0:?} is not the name of SRV records: write a name such as dnssrv+_brock._tcp.example.com, with an underscore \
         before service and protocol"
    )]
    Services(String),
    /// An unknown prefix before the `+`.
    #[error("{0:?} begins with a prefix that is not known: use dns+NAME:PORT or dnssrv+_SERVICE._tcp.NAME")]
    Scheme(String),
}

/// One entry of `node.join`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Join {
    /// One peer.
    Peer(Address),
    /// The peers that DNS lists.
    Listed(Listed),
}

/// A name under which DNS lists peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listed {
    /// Each A and AAAA record is a peer that listens on this port.
    Addresses {
        /// The name to look up. The certificates of all its peers must state it.
        name: String,
        /// The port of all its peers.
        port: u16,
    },
    /// Each SRV record is a peer: its target, which the peer's certificate must state, and its port.
    Services(String),
}

impl Listed {
    /// The peers that DNS lists now, each once; at most [`limits::DISCOVERED_MAX`]. A name that does not
    /// exist lists none.
    pub async fn resolve(&self, resolver: &Resolver) -> Result<Vec<Address>, ResolveError> {
        let mut found = BTreeMap::new();
        match self {
            Self::Addresses { name, port } => {
                for ip in resolver.addresses(name).await? {
                    found.extend(
                        Address::found(ip, *port, name).map(|address| (address.to_string(), address)),
                    );
                }
            }
            Self::Services(name) => {
                for (target, port) in resolver.services(name).await? {
                    // A target that is not a host name cannot be dialled.
                    let address = format!("{}:{port}", target.trim_end_matches('.')).parse::<Address>();
                    found.extend(address.ok().map(|address| (address.to_string(), address)));
                }
            }
        }
        Ok(found.into_values().take(limits::DISCOVERED_MAX).collect())
    }
}

impl FromStr for Join {
    type Err = JoinError;

    fn from_str(text: &str) -> Result<Self, JoinError> {
        let owned = || text.to_owned();
        if let Some(name) = text.strip_prefix(SERVICES) {
            if name.contains(':') {
                return Err(JoinError::PortOfServices(owned()));
            }
            let labels: Vec<&str> = name.split('.').collect();
            let is_service = |label: &&str| label.len() > 1 && label.starts_with('_');
            let is_whole = labels.len() > 2 && labels[..2].iter().all(is_service);
            if !is_whole || check_host_name(name).is_err() {
                return Err(JoinError::Services(owned()));
            }
            return Ok(Self::Listed(Listed::Services(name.to_owned())));
        }
        if let Some(rest) = text.strip_prefix(ADDRESSES) {
            let address: Address = rest.parse()?;
            let Some(name) = address.name() else { return Err(JoinError::NotAName(owned())) };
            return Ok(Self::Listed(Listed::Addresses { name: name.to_owned(), port: address.port() }));
        }
        if text.contains('+') {
            return Err(JoinError::Scheme(owned()));
        }
        Ok(Self::Peer(text.parse()?))
    }
}

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addresses { name, port } => write!(f, "{ADDRESSES}{name}:{port}"),
            Self::Services(name) => write!(f, "{SERVICES}{name}"),
        }
    }
}

impl fmt::Display for Join {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer(address) => address.fmt(f),
            Self::Listed(listed) => listed.fmt(f),
        }
    }
}

/// Whether the entry is the unspecified address ("all interfaces"), at which no peer can be reached.
pub fn is_unspecified(join: &Join) -> bool {
    let Join::Peer(address) = join else { return false };
    address.host().parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_joined_round_trips() {
        for text in [
            "node-2:20004",
            "[fd00::2]:20004",
            "dns+brock.example.com:20004",
            "dns+brock:1",
            "dnssrv+_grpc._tcp.brock.default.svc.cluster.local",
            "dnssrv+_brock._tcp.example.com.",
        ] {
            assert_eq!(text.parse::<Join>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_wrong_with_it_is_said() {
        for (text, part) in [
            ("dns+brock", "names no port"),
            ("dns+:1", "names no host"),
            ("dns+10.0.0.1:1", "leave dns+ away"),
            ("dns+[::1]:1", "leave dns+ away"),
            ("dns+a b:1", "names neither"),
            ("dnssrv+_brock._tcp.example.com:20004", "SRV records say the ports themselves"),
            ("dnssrv+example.com", "_brock._tcp"),
            ("dnssrv+_brock.example.com", "_brock._tcp"),
            ("dnssrv+_brock._tcp", "_brock._tcp"),
            ("dnssrv+", "_brock._tcp"),
            ("srv+_brock._tcp.example.com", "is not known"),
            ("node-2", "names no port"),
        ] {
            let error = text.parse::<Join>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
