//! Certificates that are exchanged while the node runs.
//!
//! The directory is read every few seconds rather than watched: that sees whatever was done to it, by
//! hand, by a mounted secret, on any file system.

use std::collections::HashMap;

use tokio::{
    sync::{mpsc, oneshot},
    task::spawn_blocking,
    time::{Instant, MissedTickBehavior, interval},
};

use brock_core::base::{id::NodeId, limits, metrics as names, time::unix_now};
use brock_net::{
    task::{TaskStatus, Tasks},
    tls::{
        TlsError,
        authority::Authority,
        credentials::{Expiry, Identity, Refreshed},
    },
};

/// Takes over what is exchanged, ends the connections of whoever is not trusted any more, and says
/// what will expire.
///
/// Whoever sends something is answered when the directory has been looked at for it.
pub(super) fn spawn(
    tasks: &Tasks,
    identity: &Identity,
    node_id: &NodeId,
) -> mpsc::Sender<oneshot::Sender<()>> {
    let (asks, mut asked) = mpsc::channel::<oneshot::Sender<()>>(1);
    let stop = tasks.stopping().clone();
    let mut watch = Watch {
        identity: identity.clone(),
        node_id: node_id.clone(),
        judged: Instant::now(),
        problem: String::new(),
        warned: HashMap::new(),
        shown: Vec::new(),
        shown_cas: Vec::new(),
    };
    tasks.spawn("certificates", |status| async move {
        let mut ticks = interval(limits::CERTIFICATES_CHECK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let answer = tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => None,
                Some(answer) = asked.recv() => Some(answer),
            };
            status.set_state("looking at the certificates");
            watch.look(&status).await;
            status.set_state("waiting");
            if let Some(answer) = answer {
                // Nobody waiting any more is fine.
                let _ = answer.send(());
            }
        }
    });
    asks
}

struct Watch {
    identity: Identity,
    node_id: NodeId,
    /// When everybody who is connected was last judged.
    judged: Instant,
    /// What is wrong with the directory; empty = nothing.
    problem: String,
    /// When it was last said that a file will expire, or that it has.
    warned: HashMap<(String, bool), Instant>,
    /// The files that have a gauge.
    shown: Vec<String>,
    /// The CAs that have one.
    shown_cas: Vec<String>,
}

impl Watch {
    async fn look(&mut self, status: &TaskStatus) {
        let (identity, node_id) = (self.identity.clone(), self.node_id.clone());
        let is_due = self.judged.elapsed() >= limits::CONNECTIONS_CHECK_INTERVAL;
        let looked = spawn_blocking(move || {
            let refreshed = identity.refresh(&node_id);
            let judges = is_due || matches!(refreshed, Ok(Refreshed::Reloaded));
            (refreshed, judges.then(|| identity.cut_off()))
        });
        let Ok((refreshed, cut)) = looked.await else { return };
        if let Some(cut) = cut {
            self.judged = Instant::now();
            metrics::counter!(names::CONNECTIONS_CUT).increment(cut as u64);
            if cut > 0 {
                tracing::warn!(
                    connections = cut,
                    "ended connections whose certificates are not trusted any more"
                );
            }
        }
        self.tell(refreshed, status);
        self.show_revoked();
        self.warn();
    }

    fn tell(&mut self, refreshed: Result<Refreshed, TlsError>, status: &TaskStatus) {
        match refreshed {
            Ok(Refreshed::Unchanged) => {}
            Ok(Refreshed::Reloaded) => {
                metrics::counter!(names::CERTIFICATE_RELOADS, "outcome" => "ok").increment(1);
                tracing::info!(identity = %self.identity.peer(), "the certificates were exchanged and are used now");
            }
            Err(error) => {
                let problem = error.to_string();
                if problem != self.problem {
                    metrics::counter!(names::CERTIFICATE_RELOADS, "outcome" => "error").increment(1);
                    tracing::error!(
                        problem,
                        "the exchanged certificates are not used; those from before are"
                    );
                    status.set_error(&problem);
                    self.problem = problem;
                }
                return;
            }
        }
        if !self.problem.is_empty() {
            self.problem.clear();
            status.clear_error();
        }
    }

    fn show_revoked(&mut self) {
        let authorities = self.identity.authorities();
        for gone in self.shown_cas.iter().filter(|ca| authorities.iter().all(|kept| kept.key != **ca)) {
            metrics::gauge!(names::CERTIFICATES_REVOKED, "ca" => gone.clone()).set(f64::NAN);
        }
        self.shown_cas = authorities.iter().map(|authority| authority.key.clone()).collect();
        for Authority { key, revoked, .. } in authorities {
            metrics::gauge!(names::CERTIFICATES_REVOKED, "ca" => key).set(revoked as f64);
        }
    }

    fn warn(&mut self) {
        let expiries = self.identity.expiries();
        for gone in self.shown.iter().filter(|file| expiries.iter().all(|kept| kept.file != **file)) {
            metrics::gauge!(names::CERTIFICATE_EXPIRY, "file" => gone.clone()).set(f64::NAN);
        }
        self.shown = expiries.iter().map(|expiry| expiry.file.clone()).collect();
        for Expiry { file, not_after_unix_seconds, lifetime_seconds } in expiries {
            metrics::gauge!(names::CERTIFICATE_EXPIRY, "file" => file.clone())
                .set(not_after_unix_seconds as f64);
            let left = not_after_unix_seconds.saturating_sub(unix_now());
            // Whoever has short ones made exchanges them often, and in time.
            let is_late = left < limits::CERTIFICATE_WARN_SECONDS.min(lifetime_seconds / 4);
            let is_over = left < 0;
            let told = (file.clone(), is_over);
            let said =
                self.warned.get(&told).is_some_and(|at| at.elapsed() < limits::CERTIFICATE_WARN_INTERVAL);
            if !is_late || said {
                continue;
            }
            match is_over {
                true => tracing::error!(
                    file,
                    hours_ago = left.unsigned_abs() / 3600,
                    "a certificate has expired and nobody accepts it any more: put a new one in its place"
                ),
                false => tracing::warn!(
                    file,
                    hours = left / 3600,
                    "a certificate will expire: put a new one in its place"
                ),
            }
            self.warned.insert(told, Instant::now());
        }
    }
}
