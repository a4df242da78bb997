//! Chooses the ports of a development cluster, and checks that they are free before a node starts.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::Context as _;

/// The distance of a node's HTTP port from its gRPC port.
const HTTP_OFFSET: u16 = 1000;

/// The addresses on which one node listens.
#[derive(Debug, Clone, Copy)]
pub(super) struct NodePorts {
    pub(super) node: SocketAddr,
    pub(super) http: SocketAddr,
}

/// The addresses of `nodes` nodes from `base_port` upwards, or free ports if that is 0. The ports are free
/// now; if another process takes one before its node starts, that node fails and says why.
pub(super) fn choose(base_port: u16, nodes: u16) -> anyhow::Result<Vec<NodePorts>> {
    let port = |index: u16, offset: u16| match base_port {
        0 => Some(0),
        base => base.checked_add(index)?.checked_add(offset),
    };
    // Keeps all listeners until the last port is found, so that no port is chosen twice.
    let mut held = Vec::new();
    let mut reserve = |port: Option<u16>| -> anyhow::Result<SocketAddr> {
        let port = port.with_context(|| {
            format!(
                "there are no ports above 65535; pass a --base-port of at most {}",
                65_535 - HTTP_OFFSET - nodes
            )
        })?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).with_context(|| {
            format!("port {port} on 127.0.0.1 is not free; stop what uses it, or pass another --base-port (0 picks free ones)")
        })?;
        let address = listener.local_addr()?;
        held.push(listener);
        Ok(address)
    };
    (0..nodes)
        .map(|index| {
            Ok(NodePorts { node: reserve(port(index, 0))?, http: reserve(port(index, HTTP_OFFSET))? })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn free_ports_are_all_different() {
        let ports = choose(0, 16).unwrap();
        let all: HashSet<SocketAddr> = ports.iter().flat_map(|ports| [ports.node, ports.http]).collect();
        assert_eq!(all.len(), 32);
    }

    #[test]
    fn a_port_that_is_taken_or_does_not_exist_is_named() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        assert!(choose(port, 1).unwrap_err().to_string().contains(&format!("port {port} ")));
        assert!(choose(65_000, 1).unwrap_err().to_string().contains("at most 64534"));
    }
}
