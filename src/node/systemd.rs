//! What systemd is told, if it started the process and asks to be told (`sd_notify`).

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::{
    task::spawn_blocking,
    time::{Instant, timeout},
};

use brock_core::base::limits;

/// Whoever supervises this process. Without `NOTIFY_SOCKET` nobody does, and nothing is told.
#[derive(Debug)]
pub struct Supervisor {
    is_there: bool,
    /// How often it wants to hear that the process is well.
    watchdog: Option<Duration>,
    fed_at: Instant,
    status: String,
}

impl Supervisor {
    /// As the environment says.
    pub fn from_env() -> Self {
        let is_there = std::env::var_os("NOTIFY_SOCKET").is_some();
        let watchdog = sd_notify::watchdog_enabled().filter(|interval| is_there && !interval.is_zero());
        Self { is_there, watchdog, fed_at: Instant::now(), status: String::new() }
    }

    /// How often to say how things are: several times before the watchdog loses its patience.
    pub fn interval(&self) -> Duration {
        let often = self.watchdog.map_or(limits::SUPERVISOR_INTERVAL, |watchdog| watchdog / 4);
        often.clamp(limits::SUPERVISOR_INTERVAL_MIN, limits::SUPERVISOR_INTERVAL)
    }

    /// The node is starting, which may take longer than a start normally does.
    pub async fn starting(&mut self) {
        let patience = u32::try_from(limits::SUPERVISOR_PATIENCE.as_micros()).unwrap_or(u32::MAX);
        self.tell("starting", &[NotifyState::ExtendTimeoutUsec(patience)]).await;
    }

    /// The node serves; also after a reload.
    pub async fn serving(&mut self, status: &str) {
        self.tell(status, &[NotifyState::Ready]).await;
    }

    /// How the node is; told if it changed.
    pub async fn status(&mut self, status: &str) {
        if self.status != status {
            self.tell(status, &[]).await;
        }
    }

    /// Whether the watchdog is to be fed about now.
    pub fn is_hungry(&self) -> bool {
        self.watchdog.is_some_and(|watchdog| self.fed_at.elapsed() >= watchdog / 4)
    }

    /// The node is well.
    pub async fn feed(&mut self) {
        self.fed_at = Instant::now();
        let status = self.status.clone();
        self.tell(&status, &[NotifyState::Watchdog]).await;
    }

    /// SIGHUP was heard.
    pub async fn reloading(&mut self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell("reloading", &[NotifyState::Reloading, now]).await,
            Err(error) => tracing::warn!(%error, "cannot tell the supervisor that the node reloads"),
        }
    }

    /// The node is shutting down.
    pub async fn stopping(&mut self) {
        self.tell("shutting down", &[NotifyState::Stopping]).await;
    }

    async fn tell(&mut self, status: &str, states: &[NotifyState<'static>]) {
        if !self.is_there {
            return;
        }
        status.clone_into(&mut self.status);
        let (status, states) = (status.to_owned(), states.to_vec());
        // A supervisor that does not read keeps the sender waiting.
        let told = spawn_blocking(move || {
            let all: Vec<_> = states.into_iter().chain([NotifyState::Status(&status)]).collect();
            sd_notify::notify(&all)
        });
        if let Ok(Ok(Err(error))) = timeout(limits::SUPERVISOR_INTERVAL, told).await {
            tracing::warn!(%error, "cannot tell the supervisor ($NOTIFY_SOCKET) how the node is");
        }
    }
}
