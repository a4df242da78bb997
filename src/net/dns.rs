//! DNS look-ups: the addresses of a name, and the services that SRV records list.

use std::net::{IpAddr, SocketAddr};

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts},
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::rr::RData,
};
use tokio::{task::spawn_blocking, time::timeout};

use crate::panics::contain;
use brock_core::base::limits;

/// Why a look-up failed. A name that does not exist is not a failure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The machine's own configuration cannot be used.
    #[error(
        "cannot use this machine's DNS configuration (/etc/resolv.conf): {0}. Repair it, or name a server with \
         node.dns-server"
    )]
    Configuration(String),
    /// A server answered with an error, or not at all.
    #[error("cannot resolve {name}{}: {reason}", by(.server.as_ref()))]
    Failed {
        /// The name.
        name: String,
        /// The configured server; `None` for the machine's.
        server: Option<SocketAddr>,
        /// The reason.
        reason: String,
    },
}

/// Asks the machine's DNS servers, or a configured one. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Resolver {
    server: Option<SocketAddr>,
}

impl Resolver {
    /// `None`: uses the machine's configuration.
    pub fn new(server: Option<SocketAddr>) -> Self {
        Self { server }
    }

    /// Whether it asks a configured server instead of the machine's.
    pub(crate) fn is_own(&self) -> bool {
        self.server.is_some()
    }

    /// All addresses of a name, IPv4 first; empty if it has none.
    pub async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, ResolveError> {
        let resolver = self.resolver().await?;
        match timeout(limits::DNS_TIMEOUT, contain(resolver.lookup_ip(name))).await {
            Ok(Ok(Ok(answer))) => Ok(answer.iter().collect()),
            Ok(Ok(Err(error))) => self.none(name, error),
            Ok(Err(panicked)) => Err(self.failed(name, panicked.to_string())),
            Err(_) => Err(self.late(name)),
        }
    }

    /// The target and port of each SRV record of a name; empty if it has none.
    pub(crate) async fn services(&self, name: &str) -> Result<Vec<(String, u16)>, ResolveError> {
        let resolver = self.resolver().await?;
        let answer = match timeout(limits::DNS_TIMEOUT, contain(resolver.srv_lookup(name))).await {
            Ok(Ok(Ok(answer))) => answer,
            Ok(Ok(Err(error))) => return self.none(name, error),
            Ok(Err(panicked)) => return Err(self.failed(name, panicked.to_string())),
            Err(_) => return Err(self.late(name)),
        };
        let service = |data: &RData| match data {
            // The target "." means that the service is not available.
            RData::SRV(srv) if !srv.target.is_root() => Some((srv.target.to_ascii(), srv.port)),
            _ => None,
        };
        Ok(answer.answers().iter().filter_map(|record| service(&record.data)).collect())
    }

    /// A new resolver for each look-up, without a cache: the records change, and so may /etc/resolv.conf.
    async fn resolver(&self) -> Result<TokioResolver, ResolveError> {
        let configuration = |error: &dyn std::fmt::Display| ResolveError::Configuration(error.to_string());
        let mut builder = match self.server {
            Some(server) => {
                let connection = |mut connection: ConnectionConfig| {
                    connection.port = server.port();
                    connection
                };
                let connections =
                    vec![connection(ConnectionConfig::udp()), connection(ConnectionConfig::tcp())];
                let servers = vec![NameServerConfig::new(server.ip(), true, connections)];
                let config = ResolverConfig::from_name_servers(servers);
                TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            }
            // Reads files, so it may block.
            None => spawn_blocking(TokioResolver::builder_tokio)
                .await
                .map_err(|error| configuration(&error))?
                .map_err(|error| configuration(&error))?,
        };
        let options: &mut ResolverOpts = builder.options_mut();
        options.cache_size = 0;
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.timeout = limits::DNS_TRY_TIMEOUT;
        options.try_tcp_on_error = true;
        builder.build().map_err(|error| configuration(&error))
    }

    fn none<T>(&self, name: &str, error: NetError) -> Result<Vec<T>, ResolveError> {
        if error.is_nx_domain() || error.is_no_records_found() {
            return Ok(Vec::new());
        }
        Err(self.failed(name, error.to_string()))
    }

    fn late(&self, name: &str) -> ResolveError {
        self.failed(name, format!("no answer within {} s", limits::DNS_TIMEOUT.as_secs()))
    }

    fn failed(&self, name: &str, reason: String) -> ResolveError {
        ResolveError::Failed { name: name.to_owned(), server: self.server, reason }
    }
}

fn by(server: Option<&SocketAddr>) -> String {
    server.map(|server| format!(" by {server}")).unwrap_or_default()
}
