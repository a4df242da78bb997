//! File descriptors: how many this process may have, and what they are for. Files and connections share them, and
//! the store must never lack one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use brock_core::base::limits;

/// The shares of a process in its limit of open files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptors {
    /// The limit.
    pub limit: u64,
    /// Files that the storage engine keeps open.
    pub database_files: usize,
    /// Connections to `http.address`.
    pub http_connections: usize,
    /// Connections to `node.address` whose handshake is not finished.
    pub handshakes: usize,
    /// Connections to `node.address` whose other end is identified.
    pub connections: usize,
}

/// The limit is too low for a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a node needs at least {needed} file descriptors, and the limit of open files of this process is {0}: raise it \
     (LimitNOFILE= in a systemd unit, `--ulimit nofile=` of a container, `ulimit -n` in a shell; \
     docs/guides/capacity.md)",
    needed = limits::DESCRIPTORS_MIN
)]
pub struct TooFew(u64);

impl Descriptors {
    /// Raises the limit of this process as far as it may and can be of use, and shares it out.
    pub fn claim() -> Result<Self, TooFew> {
        raise();
        Self::of(limit())
    }

    /// The shares in a limit. What is left after the store, the probes and the node's own connections and files
    /// is for callers.
    pub fn of(limit: u64) -> Result<Self, TooFew> {
        if limit < limits::DESCRIPTORS_MIN {
            return Err(TooFew(limit));
        }
        let all = usize::try_from(limit).unwrap_or(usize::MAX);
        let own = (all / 8).clamp(limits::DESCRIPTORS_OWN_MIN, limits::DESCRIPTORS_OWN);
        let database_files = (all / 4).min(limits::DATABASE_FILES_OPEN);
        let http_connections = (all / 16).min(limits::HTTP_CONNECTIONS_MAX);
        let handshakes = (all / 8).min(limits::HANDSHAKES_MAX);
        let left = all.saturating_sub(own + database_files + http_connections + handshakes);
        let connections = left.min(limits::CONNECTIONS_MAX);
        Ok(Self { limit, database_files, http_connections, handshakes, connections })
    }

    /// Whether every share is as large as it may be.
    pub fn are_enough(&self) -> bool {
        self.connections == limits::CONNECTIONS_MAX
    }
}

/// How many descriptors this process may have; `u64::MAX` = no limit.
fn limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// How many it may have after it has raised its limit.
pub fn hard_limit() -> u64 {
    getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX)
}

/// Raises the limit as far as this process may, but no further than a node can use.
pub fn raise() {
    let (now, may) = (limit(), hard_limit().min(limits::DESCRIPTORS_USEFUL));
    if now >= may {
        return;
    }
    let raised = Rlimit { current: Some(may), maximum: getrlimit(Resource::Nofile).maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, limit = now, "cannot raise the limit of open files");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_and_the_probes_have_their_share_before_callers() {
        assert_eq!(Descriptors::of(255), Err(TooFew(255)));
        let enough = limits::DESCRIPTORS_ENOUGH;
        assert_eq!(enough, 5184, "docs/guides/capacity.md has the number");
        for limit in [limits::DESCRIPTORS_MIN, 1024, 4096, enough - 1, enough, 16_384, u64::MAX] {
            let of = Descriptors::of(limit).unwrap();
            let shares = of.database_files + of.http_connections + of.handshakes + of.connections;
            assert!(shares + limits::DESCRIPTORS_OWN_MIN <= usize::try_from(limit).unwrap(), "{of:?}");
            assert!(of.database_files >= 64 && of.http_connections >= 16 && of.handshakes >= 32, "{of:?}");
            assert!(of.connections >= 48, "{of:?}");
            assert_eq!(of.are_enough(), limit >= enough, "{of:?}");
        }
        assert_eq!(Descriptors::of(1024).unwrap().connections, 448);
    }
}
