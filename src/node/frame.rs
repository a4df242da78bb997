//! What a node has from its first moment to its last.

use std::sync::{Arc, OnceLock};

use super::prepare::Prepared;
use crate::{
    api::http::{
        console::{self, Console},
        readiness::Readiness,
        server::Pages,
    },
    membership::{compare::SyncStatus, roster::Roster},
    runtime::alarms::Alarms,
    store::Store,
    telemetry::logs::Telemetry,
};
use brock_core::base::{id::Instance, limits, time::WallClock};
use brock_net::{panics, task::Tasks};

/// What a node has before its storage opens.
pub(super) struct Frame {
    pub(super) tasks: Tasks,
    /// The HTTP server. It stops after the drain, so that it can answer that the node is draining.
    pub(super) http_tasks: Tasks,
    pub(super) instance: Instance,
    pub(super) wall_clock: WallClock,
    pub(super) alarms: Alarms,
    pub(super) readiness: Arc<Readiness>,
    /// Set once there are a store and peers to compare.
    sync_status: Arc<OnceLock<Box<dyn Fn() -> SyncStatus + Send + Sync>>>,
    /// Set once there are services.
    console: console::Slot,
}

impl Frame {
    pub(super) fn new() -> Self {
        let wall_clock = WallClock::system();
        let alarms = Alarms::new(wall_clock.clone());
        panics::report_to({
            let alarms = alarms.clone();
            move |text| alarms.raise(text)
        });
        Self {
            tasks: Tasks::default(),
            http_tasks: Tasks::default(),
            instance: Instance::random(),
            alarms,
            wall_clock,
            readiness: Arc::default(),
            sync_status: Arc::default(),
            console: Arc::default(),
        }
    }

    /// The pages of the HTTP server. They show more as the node starts.
    pub(super) fn pages(&self, prepared: &Prepared, telemetry: Option<Arc<Telemetry>>) -> Pages {
        let known = Arc::clone(&self.sync_status);
        // Not visible: a node whose store is not open is not ready, whatever this says.
        let unknown = SyncStatus { peers: 0, lag_entries: None, gap: None };
        let sync_status = Arc::new(move || known.get().map_or(unknown, |sync_status| sync_status()));
        Pages {
            readiness: Arc::clone(&self.readiness),
            sync_status,
            telemetry,
            console: Arc::clone(&self.console),
            gate: Arc::clone(&prepared.console_gate),
            tls: prepared.web_tls.clone(),
        }
    }

    /// From now on `/healthz` compares this store with these peers.
    pub(super) fn show_sync_status(&self, store: Store, roster: Roster) {
        let _ = self.sync_status.set(Box::new(move || roster.sync_status(&store.applied())));
    }

    /// From now on the console shows the cluster.
    pub(super) fn open_console(&self, console: Console) {
        let _ = self.console.set(console);
    }

    /// Stops everything, if the start fails.
    pub(super) async fn stop(&self) {
        self.tasks.stop(limits::HTTP_STOP_TIMEOUT).await;
        self.http_tasks.stop(limits::HTTP_STOP_TIMEOUT).await;
    }
}
