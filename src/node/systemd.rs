//! Notifies systemd, if it started the process and asks for notifications (`sd_notify`).

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::{
    task::spawn_blocking,
    time::{Instant, timeout},
};

use brock_core::base::limits;

/// The supervisor of this process. Without `NOTIFY_SOCKET` there is none, and nothing is sent.
#[derive(Debug)]
pub struct Supervisor {
    is_there: bool,
    /// The watchdog's interval: without a ping in this time, systemd restarts the process.
    watchdog: Option<Duration>,
    pinged_at: Instant,
    status: String,
}

impl Supervisor {
    /// The supervisor that the environment names.
    pub fn from_env() -> Self {
        let is_there = std::env::var_os("NOTIFY_SOCKET").is_some();
        let watchdog = sd_notify::watchdog_enabled().filter(|interval| is_there && !interval.is_zero());
        Self { is_there, watchdog, pinged_at: Instant::now(), status: String::new() }
    }

    /// How often to send the status: several times in the watchdog's interval.
    pub fn interval(&self) -> Duration {
        let often = self.watchdog.map_or(limits::SUPERVISOR_INTERVAL, |watchdog| watchdog / 4);
        often.clamp(limits::SUPERVISOR_INTERVAL_MIN, limits::SUPERVISOR_INTERVAL)
    }

    /// The node is starting; asks for more time.
    pub async fn starting(&mut self) {
        let more_micros = u32::try_from(limits::SUPERVISOR_PATIENCE.as_micros()).unwrap_or(u32::MAX);
        self.notify("starting", &[NotifyState::ExtendTimeoutUsec(more_micros)]).await;
    }

    /// The node serves; also after a reload.
    pub async fn serving(&mut self, status: &str) {
        self.notify(status, &[NotifyState::Ready]).await;
    }

    /// Sends the node's status, if it changed.
    pub async fn status(&mut self, status: &str) {
        if self.status != status {
            self.notify(status, &[]).await;
        }
    }

    /// Whether it is time to ping the watchdog.
    pub fn watchdog_due(&self) -> bool {
        self.watchdog.is_some_and(|watchdog| self.pinged_at.elapsed() >= watchdog / 4)
    }

    /// The node is healthy.
    pub async fn ping_watchdog(&mut self) {
        self.pinged_at = Instant::now();
        let status = self.status.clone();
        self.notify(&status, &[NotifyState::Watchdog]).await;
    }

    /// The node reloads its certificates.
    pub async fn reloading(&mut self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.notify("reloading", &[NotifyState::Reloading, now]).await,
            Err(error) => tracing::warn!(%error, "cannot notify systemd of the reload"),
        }
    }

    /// The node is shutting down.
    pub async fn stopping(&mut self) {
        self.notify("shutting down", &[NotifyState::Stopping]).await;
    }

    async fn notify(&mut self, status: &str, states: &[NotifyState<'static>]) {
        if !self.is_there {
            return;
        }
        status.clone_into(&mut self.status);
        let (status, states) = (status.to_owned(), states.to_vec());
        // The send blocks while systemd does not read.
        let sent = spawn_blocking(move || {
            let all: Vec<_> = states.into_iter().chain([NotifyState::Status(&status)]).collect();
            sd_notify::notify(&all)
        });
        if let Ok(Ok(Err(error))) = timeout(limits::SUPERVISOR_INTERVAL, sent).await {
            tracing::warn!(%error, "cannot notify systemd ($NOTIFY_SOCKET)");
        }
    }
}
