//! Peers that DNS lists: asked for again and again, so that a cluster grows and shrinks without
//! anybody telling its nodes.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::directory::{Change, Directory};
use crate::store::Store;
use brock_core::base::{limits, metrics as names};
use brock_net::{dns::Resolver, join::Listed, task::TaskStatus};

/// What asking for one name needs.
pub struct Discovery {
    /// The name.
    pub listed: Listed,
    /// Whom to ask.
    pub resolver: Resolver,
    /// How often.
    pub interval: Duration,
    /// Where the answers go.
    pub directory: Directory,
    /// Its clock.
    pub store: Store,
    /// Ends it.
    pub stop: CancellationToken,
}

impl Discovery {
    /// Asks until stopped.
    pub async fn run(self, task: TaskStatus) {
        let name = self.listed.to_string();
        let mut warned = false;
        let mut overfull = false;
        metrics::counter!(names::DISCOVERY_FAILURES, "name" => name.clone()).absolute(0);
        loop {
            task.set_state("asking DNS");
            let Some(answer) = self.stop.run_until_cancelled(self.listed.resolve(&self.resolver)).await
            else {
                return;
            };
            match answer {
                Ok(addresses) => {
                    let change = self.directory.found(&name, &addresses, self.store.now());
                    metrics::gauge!(names::DISCOVERED, "name" => name.clone()).set(addresses.len() as f64);
                    task.set_state(&format!("DNS lists {}", addresses.len()));
                    task.set_error(&ignored(change));
                    if std::mem::take(&mut warned) {
                        tracing::info!(name, "DNS answers again");
                    }
                    let Change { added, dropped, ignored } = change;
                    if added + dropped > 0 {
                        tracing::info!(
                            name,
                            added,
                            dropped,
                            listed = addresses.len(),
                            "DNS lists other peers"
                        );
                    }
                    if ignored > 0 && !overfull {
                        tracing::warn!(
                            name,
                            ignored,
                            "DNS lists more peers than a node may have; the others pass on what they know"
                        );
                    }
                    overfull = ignored > 0;
                }
                Err(error) => {
                    let error = error.to_string();
                    metrics::counter!(names::DISCOVERY_FAILURES, "name" => name.clone()).increment(1);
                    self.directory.not_found(&name, &error, self.store.now());
                    if !std::mem::replace(&mut warned, true) {
                        tracing::warn!(
                            name,
                            error,
                            "cannot find out who the peers are; those that are known stay; trying again"
                        );
                    }
                    task.set_state("waiting to ask again");
                    task.set_error(&error);
                }
            }
            if self.stop.run_until_cancelled(tokio::time::sleep(self.interval)).await.is_none() {
                return;
            }
        }
    }
}

fn ignored(change: Change) -> String {
    match change.ignored {
        0 => String::new(),
        ignored => {
            format!("{ignored} of those that DNS lists are left out: at most {} are peers", limits::PEERS_MAX)
        }
    }
}
