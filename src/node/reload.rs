//! Rotates certificates while the node runs.
//!
//! The task reads the certificates directory every few seconds rather than watching it: reading finds every
//! change, made by hand or by a mounted secret, on any file system.

use std::{collections::HashMap, path::Path};

use tokio::{
    sync::{mpsc, oneshot},
    task::{JoinHandle, spawn_blocking},
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use super::revoked::Revoked;
use crate::{runtime::alarms::Alarms, store::Store, transfer::proof::Verifier};
use brock_core::base::{limits, metrics as names, time::unix_now};
use brock_net::{
    task::{TaskName, TaskStatus, Tasks},
    tls::{
        TlsError,
        credentials::{Expiry, Identity, Refreshed},
        level::Negotiated,
        revocation::Authority,
    },
};

/// Starts the task that reloads rotated certificates, closes connections whose certificates are no longer
/// trusted, and logs certificates that will expire.
///
/// A message to the returned channel makes it check the directory now; it answers when it is done.
pub(super) fn spawn(
    tasks: &Tasks,
    identity: &Identity,
    (store, alarms): (&Store, &Alarms),
    verifier: &Verifier,
) -> mpsc::Sender<oneshot::Sender<()>> {
    let (requests, mut requested) = mpsc::channel::<oneshot::Sender<()>>(1);
    let stop = tasks.stopping().clone();
    let mut watch = Watch {
        identity: identity.clone(),
        store: store.clone(),
        verifier: verifier.clone(),
        revoked: Revoked::new(store.clone(), alarms.clone()),
        verified: Instant::now(),
        problem: None,
        warned: HashMap::new(),
        files: Vec::new(),
        authorities: Vec::new(),
        wire: Vec::new(),
        reading: None,
        is_first: true,
    };
    tasks.spawn(TaskName::Certificates, |status| async move {
        let mut ticks = interval(limits::CERTIFICATES_CHECK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let answer = tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => None,
                Some(answer) = requested.recv() => Some(answer),
            };
            status.set_state("checking the certificates");
            if stop.run_until_cancelled(watch.check(&status)).await.is_none() {
                return;
            }
            status.set_state("waiting");
            if let Some(answer) = answer {
                // The requester may have stopped waiting.
                let _ = answer.send(());
            }
        }
    });
    requests
}

struct Watch {
    identity: Identity,
    /// Its birth is signed again with each new certificate.
    store: Store,
    /// Which births it believes changes with the certificates.
    verifier: Verifier,
    /// What the lists revoked before.
    revoked: Revoked,
    /// When all open connections were last verified against the trust store.
    verified: Instant,
    /// What is wrong with the directory, as last logged.
    problem: Option<Problem>,
    /// When it was last logged that a file will expire, or that it has expired.
    warned: HashMap<(String, bool), Instant>,
    /// The files that have a gauge.
    files: Vec<String>,
    /// The keys of the CAs that have a gauge.
    authorities: Vec<String>,
    /// What connections were encrypted with, each of which has a gauge.
    wire: Vec<(&'static str, Negotiated)>,
    /// The reading of the directory that is under way, and its begin. There is never a second one: each would
    /// hold a thread for as long as the directory does not answer.
    reading: Option<(Instant, JoinHandle<Result<Refreshed, TlsError>>)>,
    /// Nothing was checked yet.
    is_first: bool,
}

/// What is wrong with the certificates directory, or that of revocation lists.
#[derive(Debug, PartialEq, Eq)]
enum Problem {
    /// It cannot be read for now.
    NoAnswer,
    /// Its certificates were rejected, for this reason.
    Rejected(String),
}

impl Watch {
    async fn check(&mut self, status: &TaskStatus) {
        let refreshed = self.refresh().await;
        let is_due = self.verified.elapsed() >= limits::CONNECTIONS_CHECK_INTERVAL;
        let is_first = std::mem::take(&mut self.is_first);
        let is_reloaded = matches!(refreshed, Ok(Refreshed::Reloaded));
        if is_due || is_reloaded {
            self.close_untrusted().await;
        }
        self.report(refreshed, status);
        if is_reloaded {
            self.renew_birth().await;
        }
        if is_due || is_reloaded || is_first {
            self.count_unbelieved(status).await;
            self.compare_revoked(status).await;
        }
        self.record_revoked();
        self.record_expiries();
        self.record_wire();
    }

    /// Reloads the directory if it has changed. While it does not answer, each call waits for the same reading.
    async fn refresh(&mut self) -> Result<Refreshed, TlsError> {
        let (since, reading) = self.reading.get_or_insert_with(|| {
            let (identity, node_id) = (self.identity.clone(), self.store.node_id().clone());
            (Instant::now(), spawn_blocking(move || identity.refresh(&node_id)))
        });
        let patience = limits::CERTIFICATES_READ_TIMEOUT.saturating_sub(since.elapsed());
        let Ok(read) = timeout(patience, reading).await else {
            let (dir, crl_dir) =
                (self.identity.dir().to_owned(), self.identity.crl_dir().map(Path::to_owned));
            return Err(TlsError::NoAnswer { dir, crl_dir, seconds: since.elapsed().as_secs() });
        };
        self.reading = None;
        // Without a result the runtime is shutting down.
        read.unwrap_or(Ok(Refreshed::Unchanged))
    }

    /// A node that trusts the new certificate only can then verify what this node has signed since its start.
    async fn renew_birth(&self) {
        match self.store.renew_birth().await {
            Ok(true) => tracing::info!("signed this node's birth with the new certificate"),
            Ok(false) if self.lacks_birth() => tracing::info!(
                "the certificate names this node now, and what it logs is not signed yet: it signs from its next start on"
            ),
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "cannot sign this node's birth with the new certificate"),
        }
    }

    fn lacks_birth(&self) -> bool {
        let names_node = self.store.identity().is_some_and(|identity| identity.cluster().is_some());
        names_node && self.store.born(&self.store.origin()).is_none()
    }

    async fn count_unbelieved(&self, status: &TaskStatus) {
        if let Err(error) = self.verifier.count_unbelieved().await {
            status.set_error(&error.to_string());
        }
    }

    async fn compare_revoked(&mut self, status: &TaskStatus) {
        if let Err(error) = self.revoked.compare(&self.identity.authorities()).await {
            status.set_error(&error.to_string());
        }
    }

    async fn close_untrusted(&mut self) {
        self.verified = Instant::now();
        let identity = self.identity.clone();
        let Ok(closed) = spawn_blocking(move || identity.close_untrusted()).await else { return };
        metrics::counter!(names::CONNECTIONS_CUT).increment(closed as u64);
        if closed > 0 {
            tracing::warn!(
                connections = closed,
                "closed connections whose certificates are no longer trusted"
            );
        }
    }

    /// Logs and counts a reload or a new problem.
    fn report(&mut self, refreshed: Result<Refreshed, TlsError>, status: &TaskStatus) {
        match refreshed {
            Ok(refreshed) => {
                let is_new = matches!(refreshed, Refreshed::Reloaded);
                if is_new {
                    metrics::counter!(names::CERTIFICATE_RELOADS, "outcome" => "ok").increment(1);
                    tracing::info!(identity = %self.identity.peer(), "reloaded the rotated certificates");
                }
                if let Some(problem) = self.problem.take() {
                    status.clear_error();
                    match problem {
                        Problem::NoAnswer => tracing::info!("the certificates can be read again"),
                        // Otherwise the line about the reload says it.
                        Problem::Rejected(_) if !is_new => {
                            tracing::info!(
                                "the certificates directory is in order again: it holds the certificates in use"
                            );
                        }
                        Problem::Rejected(_) => {}
                    }
                }
            }
            Err(error @ TlsError::NoAnswer { .. }) => {
                let is_new = self.problem.as_ref() != Some(&Problem::NoAnswer);
                self.problem = Some(Problem::NoAnswer);
                let text = error.to_string();
                // It says for how long.
                status.set_error(&text);
                if is_new {
                    metrics::counter!(names::CERTIFICATE_RELOADS, "outcome" => "error").increment(1);
                    tracing::error!("{text}");
                }
            }
            Err(error) => {
                let problem = Problem::Rejected(error.to_string());
                if self.problem.as_ref() != Some(&problem) {
                    if error.lacks_descriptors() {
                        tracing::error!(problem = %error, "cannot look whether the certificates were rotated");
                    } else {
                        metrics::counter!(names::CERTIFICATE_RELOADS, "outcome" => "error").increment(1);
                        tracing::error!(
                            problem = %error,
                            "rejected the rotated certificates; the node keeps the previous ones"
                        );
                    }
                    status.set_error(&error.to_string());
                    self.problem = Some(problem);
                }
            }
        }
    }

    fn record_revoked(&mut self) {
        let authorities = self.identity.authorities();
        for gone in self.authorities.iter().filter(|key| authorities.iter().all(|kept| kept.key != **key)) {
            metrics::gauge!(names::CERTIFICATES_REVOKED, "ca" => gone.clone()).set(f64::NAN);
        }
        self.authorities = authorities.iter().map(|authority| authority.key.clone()).collect();
        for Authority { key, revoked, .. } in authorities {
            metrics::gauge!(names::CERTIFICATES_REVOKED, "ca" => key).set(revoked as f64);
        }
    }

    fn record_wire(&mut self) {
        let mut negotiated = self.identity.negotiated();
        // A combination that has no connection any more stays, at 0.
        for seen in std::mem::take(&mut self.wire) {
            negotiated.entry(seen).or_insert(0);
        }
        for ((end, wire), connections) in &negotiated {
            let (group, suite) = (wire.group.clone(), wire.suite.clone());
            let signature = wire.signature.as_str();
            metrics::gauge!(names::WIRE, "end" => *end, "group" => group, "suite" => suite, "signature" => signature)
                .set(*connections as f64);
        }
        self.wire = negotiated.into_keys().collect();
    }

    fn record_expiries(&mut self) {
        let expiries = self.identity.expiries();
        for gone in self.files.iter().filter(|file| expiries.iter().all(|kept| kept.file != **file)) {
            for gauge in [names::CERTIFICATE_EXPIRY, names::CERTIFICATE_LIFETIME] {
                metrics::gauge!(gauge, "file" => gone.clone()).set(f64::NAN);
            }
        }
        self.files = expiries.iter().map(|expiry| expiry.file.clone()).collect();
        for expiry in expiries {
            metrics::gauge!(names::CERTIFICATE_EXPIRY, "file" => expiry.file.clone())
                .set(expiry.not_after_unix_seconds as f64);
            metrics::gauge!(names::CERTIFICATE_LIFETIME, "file" => expiry.file.clone())
                .set(expiry.lifetime_seconds as f64);
            self.warn(expiry);
        }
    }

    /// Logs, once a day, that a certificate will expire or has expired.
    fn warn(&mut self, Expiry { file, not_after_unix_seconds, lifetime_seconds }: Expiry) {
        let left = not_after_unix_seconds.saturating_sub(unix_now());
        // Short-lived certificates are rotated often, and shortly before they expire.
        let is_late = left < limits::CERTIFICATE_WARN_SECONDS.min(lifetime_seconds / 4);
        let is_over = left < 0;
        let warning = (file.clone(), is_over);
        let last = self.warned.get(&warning);
        if !is_late || last.is_some_and(|at| at.elapsed() < limits::CERTIFICATE_WARN_INTERVAL) {
            return;
        }
        match is_over {
            true => tracing::error!(
                file,
                hours_ago = left.unsigned_abs() / 3600,
                "a certificate has expired, and peers and clients reject it: replace it"
            ),
            false => tracing::warn!(file, hours = left / 3600, "a certificate will expire: replace it"),
        }
        self.warned.insert(warning, Instant::now());
    }
}
