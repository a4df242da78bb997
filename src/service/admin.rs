//! The admin service.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::records::Records;
use crate::{
    domain::codec,
    ground::task::Tasks,
    proto::{self, admin_service_server::AdminService},
    replication::peers::{PeerReport, Peers},
    store::Health,
};

/// The handlers.
#[derive(Clone)]
pub struct Admin {
    /// What they show.
    pub records: Arc<Records>,
    /// What is known of the peers.
    pub peers: Peers,
    /// The node's background work.
    pub tasks: Tasks,
    /// Whether the node is ready.
    pub readiness: Arc<dyn Fn() -> bool + Send + Sync>,
}

#[tonic::async_trait]
impl AdminService for Admin {
    async fn status(
        &self,
        _: Request<proto::StatusRequest>,
    ) -> Result<Response<proto::StatusResponse>, Status> {
        let store = &self.records.store;
        let applied = store.vector();
        let peer = |report: PeerReport| proto::Peer {
            address: report.address,
            node_id: report.node_id.map(|node_id| node_id.to_string()).unwrap_or_default(),
            up: report.up,
            since_unix: report.since,
            last_error: report.last_error,
            lag_entries: report.heads.map(|heads| heads.entries_above(&applied)),
            rounds: report.rounds,
            entries_received: report.entries_received,
            last_success_unix: report.last_success,
        };
        let task = |report: crate::ground::task::TaskReport| proto::Task {
            name: report.name,
            state: report.state,
            last_error: report.last_error,
        };
        let writes_refused = match &*store.health().borrow() {
            Health::Well => String::new(),
            Health::WritesRefused(reason) | Health::Stopped(reason) => reason.clone(),
        };
        Ok(Response::new(proto::StatusResponse {
            node_id: store.node_id().to_string(),
            incarnation: store.origin().incarnation().0,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            records: store.records(),
            clocks: codec::vector_to_proto(&applied).clocks,
            peers: self.peers.reports().into_iter().map(peer).collect(),
            quarantined: store.quarantined(),
            conflicts: store.conflicts(),
            writes_refused,
            tasks: self.tasks.reports().into_iter().map(task).collect(),
            alarms: store.alarms(),
            ready: (self.readiness)(),
        }))
    }

    async fn show_record(
        &self,
        request: Request<proto::ShowRecordRequest>,
    ) -> Result<Response<proto::ShowRecordResponse>, Status> {
        let request = request.into_inner();
        Ok(Response::new(self.records.show(&request.key_hash, request.local).await?))
    }
}
