//! The gRPC server: one tonic server after another on the same stream of connections. A rotation of
//! certificates ends each server, so that its clients connect again.

use tokio::{sync::watch, time::sleep};
use tonic::{service::Routes, transport::Server};

use crate::{api::grpc::authorise::Authorise, audit::log::AuditLog};
use brock_core::base::limits;
use brock_net::{
    task::{TaskName, Tasks},
    tls::{
        accept::Incoming,
        credentials::{Outdated, Reloads},
    },
};

/// A server that authorises every call.
pub(super) type GrpcServer = Server<tower::layer::util::Stack<Authorise, tower::layer::util::Identity>>;

/// What all gRPC servers of a node have in common.
pub(super) fn builder(audit_log: AuditLog) -> GrpcServer {
    Server::builder()
        .http2_keepalive_interval(Some(limits::KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(limits::KEEPALIVE_TIMEOUT))
        .initial_stream_window_size(limits::STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(limits::STREAMS_PER_CONNECTION)
        .layer(Authorise::new(audit_log))
}

/// Serves until the node stops. The returned channel gets the reason if serving ends before.
///
/// Contract: when certificates are rotated, every open connection gets an HTTP/2 GOAWAY, so that its client
/// connects again. Calls in progress are answered; sessions, log tails and replication streams end in order.
/// After [`limits::DRAIN_TIMEOUT`] the node closes the connections that clients and operators still have; a
/// node may finish (a resync takes hours). The next server takes up new connections; a connection whose
/// handshake used the old certificates must connect again.
pub(super) fn spawn(
    tasks: &Tasks,
    server: GrpcServer,
    routes: Routes,
    mut incoming: Incoming,
    mut exchanges: Reloads,
) -> watch::Receiver<Option<String>> {
    let (failed, watcher) = watch::channel(None);
    let owner = tasks.clone();
    tasks.spawn(TaskName::Grpc, |status| async move {
        status.set_state("serving");
        loop {
            let draining = owner.stopping().child_token();
            let (lent, mut returned) = incoming.lend(draining.clone());
            let router = server.clone().add_routes(routes.clone());
            let (drains, failed, status) = (draining.clone(), failed.clone(), status.clone());
            owner.spawn_short(async move {
                let outcome =
                    router.serve_with_incoming_shutdown(lent, drains.clone().cancelled_owned()).await;
                if let Err(error) = &outcome {
                    status.set_error(&error.to_string());
                }
                if !drains.is_cancelled() {
                    let reason =
                        outcome.err().map_or_else(|| "it ended".to_owned(), |error| error.to_string());
                    failed.send_replace(Some(format!("the gRPC server has stopped: {reason}")));
                }
            });
            // The server returns the stream when the node stops, too.
            let outdated = tokio::select! {
                _ = &mut returned => return,
                outdated = exchanges.next() => outdated,
            };
            draining.cancel();
            let Ok(again) = returned.await else { return };
            incoming = again;
            let stop = owner.stopping().clone();
            owner.spawn_short(async move {
                let _ = stop.run_until_cancelled(drain(outdated)).await;
            });
        }
    });
    watcher
}

async fn drain(outdated: Outdated) {
    let connections = outdated.count();
    if connections > 0 {
        tracing::info!(
            connections,
            "certificates were rotated: asked the clients of open connections to connect again"
        );
    }
    sleep(limits::DRAIN_TIMEOUT).await;
    let cut = outdated.close_clients();
    if cut > 0 {
        tracing::warn!(
            connections = cut,
            "closed connections from before the certificate rotation: their calls took longer than {} s",
            limits::DRAIN_TIMEOUT.as_secs()
        );
    }
}
