//! From the flags to a client, and how long calls may take.

use std::{path::Path, time::Duration};

use crate::{cli::Global, failure::Failure};
use brock_client::{Client, error};
use brock_net::{address::Address, tls::credentials::ClientIdentity};

/// How long a short call to one node may take, connecting included, without --timeout.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// The same for calls during which a node asks all its peers.
pub(crate) const CLUSTER_TIMEOUT: Duration = Duration::from_secs(15);
/// The same for calls that process all records of a node.
pub(crate) const LONG_CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// The same for a backup.
pub(crate) const BACKUP_TIMEOUT: Duration = Duration::from_secs(3600);

const NO_CERTS_DIR: &str = "--certs-dir DIR (or NODE_ADMIN_CERTS_DIR, or a context) is missing; to keep it:\n  \
     node-admin context set NAME --node-addresses HOST:20004 --certs-dir DIR";

/// Runs a command that makes a few calls: one thread is enough.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Error(format!("could not start: {error}")))?
        .block_on(work)
}

/// The certificates directory.
pub(crate) fn certs_dir(global: &Global) -> Result<&Path, Failure> {
    let certs_dir = global.certs_dir.as_deref().filter(|dir| !dir.as_os_str().is_empty());
    certs_dir.ok_or_else(|| Failure::Usage(NO_CERTS_DIR.to_owned()))
}

/// Loads the certificates.
pub(crate) fn credentials(global: &Global) -> Result<ClientIdentity, Failure> {
    ClientIdentity::load(certs_dir(global)?).map_err(|error| Failure::Error(error::chain_of(&error)))
}

/// A refusal, with its most frequent cause: nodes may require the URI that the recipes of other tools leave out.
pub(crate) fn explained(global: &Global, failure: Failure) -> Failure {
    let is_nameless = || credentials(global).is_ok_and(|identity| identity.peer().trust_domain.is_none());
    match failure {
        Failure::Denied(_) if is_nameless() => failure.with_remark(
            "The certificate in --certs-dir has no SPIFFE URI: nodes with node.require-uri-roles refuse it, and it signs no \
             orders. `brock cert admin` makes an operator's with one",
        ),
        other => other,
    }
}

/// Checks the flags and loads the certificates. Does not touch the network.
pub(crate) fn client(global: &Global, timeout: Duration) -> Result<Client, Failure> {
    certs_dir(global)?;
    let addresses = parse_addresses(&global.node_addresses)?;
    if addresses.is_empty() {
        return Err(Failure::Usage(
            "--node-addresses HOST:PORT[,…] (or NODE_ADMIN_NODE_ADDRESSES, or a context) is missing; to keep it:\n  \
             node-admin context set NAME --node-addresses HOST:20004 --certs-dir DIR"
                .to_owned(),
        ));
    }
    Ok(Client::new(&credentials(global)?, addresses, timeout))
}

/// Parses addresses. The error names the first text that is not an address.
pub(crate) fn parse_addresses(texts: &[String]) -> Result<Vec<Address>, Failure> {
    let given = texts.iter().map(|text| text.trim()).filter(|text| !text.is_empty());
    let parse = |text: &str| {
        text.parse().map_err(|error| Failure::Usage(format!("{text:?} is not HOST:PORT: {error}")))
    };
    given.map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Exit;

    #[test]
    fn addresses_are_checked_before_anything_is_dialled() {
        let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(parse_addresses(&texts(&["a:1", " b:2", ""])).unwrap().len(), 2);
        let failure = parse_addresses(&texts(&["a:1", "nonsense"])).err().unwrap();
        assert_eq!(failure.exit(), Exit::Usage);
        assert!(failure.to_string().contains("nonsense"));
    }
}
