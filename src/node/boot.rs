//! Starts a node.

use std::sync::Arc;

use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::{
    application::{Application, Shared},
    background,
    error::StartError,
    frame::Frame,
    grpc_server, health,
    prepare::Prepared,
    reload,
    running::Node,
    services, storage,
};
use crate::{api::http::server, config::validate::Config, store::Store, telemetry::logs::Telemetry};
use brock_net::tls::accept;

impl Node {
    /// Starts a node: certificates and listeners, storage, services, then background work. The node serves
    /// when this returns, though it may not have caught up with its peers yet. The HTTP server answers from
    /// before the storage opens, which may take long. On failure nothing is left running.
    pub async fn start(config: Config, telemetry: Option<Arc<Telemetry>>) -> Result<Self, StartError> {
        Self::start_unless(config, telemetry, &CancellationToken::new()).await
    }

    /// The same, but stops waiting for the certificates directory and for peers when `stop` is cancelled.
    pub async fn start_unless(
        config: Config,
        telemetry: Option<Arc<Telemetry>>,
        stop: &CancellationToken,
    ) -> Result<Self, StartError> {
        let preparing = stop.run_until_cancelled(Prepared::new(&config)).await;
        let mut prepared = preparing.ok_or(StartError::Interrupted)??;
        let frame = Frame::new();
        frame.readiness.show();
        if let Some(listener) = prepared.http_listener.take() {
            let pages = frame.pages(&prepared, telemetry.clone());
            server::spawn(&frame.http_tasks, listener, prepared.descriptors.http_connections, pages);
        }
        if let Some(telemetry) = &telemetry {
            telemetry.set_node(&config.node_id);
            telemetry.spawn_folding(&frame.tasks);
        }
        let store = match storage::open(&config, &prepared, &frame, stop).await {
            Ok(store) => store,
            Err(error) => {
                frame.stop().await;
                return Err(error);
            }
        };
        frame.readiness.set_store_open();
        let in_cluster = storage::check_cluster(&config, &prepared, &store).await;
        let started = match in_cluster {
            Ok(()) => serve(&config, prepared, &frame, &store).await,
            Err(error) => Err(error),
        };
        match started {
            Ok(node) => Ok(node),
            Err(error) => {
                frame.stop().await;
                // The process may exit right after this: RocksDB's threads must have ended before.
                let _ = spawn_blocking(move || store.close()).await;
                Err(error)
            }
        }
    }
}

/// Builds the services on an open store, serves them, and starts the background work. On failure the
/// caller stops the frame and closes the store.
async fn serve(
    config: &Config,
    prepared: Prepared,
    frame: &Frame,
    store: &Store,
) -> Result<Node, StartError> {
    let (tasks, room) = (&frame.tasks, prepared.room());
    let shared = Shared::new(config, &prepared, frame, store).await?;
    frame.show_sync_status(store.clone(), shared.roster.clone());
    let (resyncs, wall_clock) = (shared.resyncs.clone(), shared.wall_clock.clone());
    frame.readiness.show_filling(move || Some(resyncs.report()?.text(wall_clock.now())));
    let Prepared {
        descriptors,
        identity,
        listed,
        resolver,
        listener,
        address,
        http_address,
        backup_target,
        ..
    } = prepared;
    let application = Application::new(config, &shared, frame, &identity, descriptors, backup_target).await?;
    frame.open_console(application.console());
    let audit_log = storage::open_audit_log(config, store, frame).await;
    let (routes, health) = services::routes(config, &shared, &application, frame, &audit_log)?;
    let incoming = accept::accept(listener, &identity, room, tasks);
    let grpc = grpc_server::builder(audit_log);
    let server_failed = grpc_server::spawn(tasks, grpc, routes, incoming, identity.reloads());
    background::spawn(config, &shared, &application, &frame.readiness, tasks);
    background::spawn_discovery(config, listed, &resolver, &shared, tasks);
    let reloads = reload::spawn(tasks, &identity, (store, &frame.alarms), &shared.verifier);
    health::spawn_first_catch_up(tasks, store, &shared.roster, &frame.readiness, &health);
    health::spawn_fill_watch(tasks, (&shared.fills, shared.roster.members()), &frame.readiness, &health);
    health::spawn_disk_watch(tasks, store, &frame.readiness, &health);
    tracing::info!(
        node_id = %config.node_id, origin = %store.origin(), %address,
        http_address = http_address.map(tracing::field::display), peers = shared.fixed_peers,
        records = store.records(), "the node is up"
    );
    Ok(Node {
        store: store.clone(),
        alarms: frame.alarms.clone(),
        tasks: tasks.clone(),
        http_tasks: frame.http_tasks.clone(),
        readiness: Arc::clone(&frame.readiness),
        roster: shared.roster,
        reloads,
        health,
        address,
        http_address,
        shutdown_timeout: config.shutdown_timeout,
        server_failed,
    })
}
