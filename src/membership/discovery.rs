//! Asks DNS for the peers at an interval, so that a cluster grows and shrinks without a change of its
//! nodes' configuration.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::roster::{ListingChange, Roster};
use brock_core::base::{limits, metrics as names, time::WallClock};
use brock_net::{address::Address, dns::Resolver, join::Listed, task::TaskStatus};

/// Resolves one name of `node.join`.
pub struct Discovery {
    /// The name.
    pub listed: Listed,
    /// Resolves it.
    pub resolver: Resolver,
    /// Between two questions.
    pub interval: Duration,
    /// Takes the answers.
    pub roster: Roster,
    /// Tells when the answers came.
    pub wall_clock: WallClock,
    /// Ends it.
    pub stop: CancellationToken,
}

/// What was last logged of a name.
#[derive(Default)]
struct Logged {
    is_failing: bool,
    has_left_out: bool,
}

impl Discovery {
    /// Asks until stopped.
    pub async fn run(self, task: TaskStatus) {
        let name = self.listed.to_string();
        let mut logged = Logged::default();
        metrics::counter!(names::DISCOVERY_FAILURES, "name" => name.clone()).absolute(0);
        loop {
            task.set_state("asking DNS");
            let Some(answer) = self.stop.run_until_cancelled(self.listed.resolve(&self.resolver)).await
            else {
                return;
            };
            match answer {
                Ok(addresses) => self.take(&name, &addresses, &task, &mut logged),
                Err(error) => {
                    let error = error.to_string();
                    metrics::counter!(names::DISCOVERY_FAILURES, "name" => name.clone()).increment(1);
                    self.roster.not_found(&name, &error, self.wall_clock.now());
                    if !std::mem::replace(&mut logged.is_failing, true) {
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

    fn take(&self, name: &str, addresses: &[Address], task: &TaskStatus, logged: &mut Logged) {
        let listed = addresses.len();
        let ListingChange { added, dropped, left_out } =
            self.roster.found(name, addresses, self.wall_clock.now());
        metrics::gauge!(names::DISCOVERED, "name" => name.to_owned()).set(listed as f64);
        task.set_state(&format!("DNS lists {listed}"));
        match left_out {
            0 => task.clear_error(),
            left_out => task.set_error(&format!(
                "{left_out} of those that DNS lists are left out: at most {} are peers",
                limits::PEERS_MAX
            )),
        }
        if std::mem::take(&mut logged.is_failing) {
            tracing::info!(name, "DNS answers again");
        }
        if added + dropped > 0 {
            tracing::info!(name, added, dropped, listed, "DNS lists other peers");
        }
        if left_out > 0 && !logged.has_left_out {
            tracing::warn!(
                name,
                ignored = left_out,
                "DNS lists more peers than a node may have; the others pass on what they know"
            );
        }
        logged.has_left_out = left_out > 0;
    }
}
