//! The gRPC side: one server after the other on the same stream of connections. Each ends when
//! certificates were exchanged, so that those who connected before come again.

use tokio::{sync::watch, time::sleep};
use tonic::service::Routes;

use super::assembly::GrpcServer;
use brock_core::base::limits;
use brock_net::{
    task::Tasks,
    tls::{
        accept::Incoming,
        credentials::{Outdated, Reloads},
    },
};

/// Serves until the node stops. What this returns says why, if it ends before.
///
/// Contract: whoever is connected when certificates are exchanged is told to connect again (an HTTP/2
/// GOAWAY), while calls under way are answered; sessions, log tails and replication end in order. What is
/// left of clients and operators after [`limits::DRAIN_TIMEOUT`] is cut; a node may finish (a resync takes
/// hours). Whoever is connecting meanwhile is taken up by the next server, or must connect again if its
/// handshake was judged by what was exchanged.
pub(super) fn spawn(
    tasks: &Tasks,
    server: GrpcServer,
    routes: Routes,
    mut incoming: Incoming,
    mut reloads: Reloads,
) -> watch::Receiver<Option<String>> {
    let (failed, watcher) = watch::channel(None);
    let owner = tasks.clone();
    tasks.spawn("grpc", |status| async move {
        status.set_state("serving");
        loop {
            let draining = owner.stopping().child_token();
            let (lent, mut returned) = incoming.lend(draining.clone());
            let router = server.clone().add_routes(routes.clone());
            let (told, failed, status) = (draining.clone(), failed.clone(), status.clone());
            owner.spawn_short(async move {
                let outcome = router.serve_with_incoming_shutdown(lent, told.clone().cancelled_owned()).await;
                if let Err(error) = &outcome {
                    status.set_error(&error.to_string());
                }
                if !told.is_cancelled() {
                    let reason =
                        outcome.err().map_or_else(|| "it ended".to_owned(), |error| error.to_string());
                    failed.send_replace(Some(format!("gRPC is not served any more: {reason}")));
                }
            });
            // The server gives the stream back when the node stops, too.
            let outdated = tokio::select! {
                _ = &mut returned => return,
                outdated = reloads.next() => outdated,
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
            "those who are connected under the certificates of before were told to connect again"
        );
    }
    sleep(limits::DRAIN_TIMEOUT).await;
    let cut = outdated.close_clients();
    if cut > 0 {
        tracing::warn!(
            connections = cut,
            "ended connections from before the certificates were exchanged: calls went on for longer than {} s",
            limits::DRAIN_TIMEOUT.as_secs()
        );
    }
}
