//! The gRPC services of a node.

use tonic::service::Routes;
use tonic_health::server::HealthReporter;

use super::{
    application::{Application, Shared},
    error::StartError,
    frame::Frame,
};
use crate::{
    api::grpc::{
        admin::Admin,
        kv::KeyValue,
        recognition::Recognition,
        replication::{PeerCalls, Replication},
    },
    app::{backups::RequestedBackups, ledgers::Ledgers, tail::Tails},
    audit::log::AuditLog,
    config::validate::Config,
    replication::donor::admission::Donor,
};
use brock_core::{
    base::limits,
    proto::{
        self, admin_service_server::AdminServiceServer, key_value_service_server::KeyValueServiceServer,
        recognition_service_server::RecognitionServiceServer,
        replication_service_server::ReplicationServiceServer,
    },
};

/// All services, and the handle that sets their health.
pub(super) fn routes(
    config: &Config,
    shared: &Shared,
    application: &Application,
    frame: &Frame,
    audit_log: &AuditLog,
) -> Result<(Routes, HealthReporter), StartError> {
    let (store, members, tasks) = (&shared.store, shared.roster.members(), &frame.tasks);
    let wall_clock = &shared.wall_clock;
    let Application { records, operations, traces, backups, reporter, cluster, settings } = application;
    let (health, health_service) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let admin = AdminServiceServer::new(Admin {
        records: records.clone(),
        operations: operations.clone(),
        ledgers: Ledgers::new(store.clone(), shared.orders.clone()),
        traces: traces.clone(),
        tails: Tails::new(store.clone(), tasks.clone()),
        reporter: reporter.clone(),
        cluster: cluster.clone(),
        settings: settings.clone(),
        backups: RequestedBackups::new(backups.clone(), tasks.clone()),
        audit_log: audit_log.clone(),
        tasks: tasks.clone(),
    });
    let kv = KeyValueServiceServer::new(KeyValue { records: records.clone(), tasks: tasks.clone() });
    let replication = ReplicationServiceServer::new(Replication {
        store: store.clone(),
        donor: Donor::new(store.clone(), members.clone(), wall_clock.clone(), shared.verifier.clone()),
        operations: operations.clone(),
        traces: traces.clone(),
        reporter: reporter.clone(),
        wall_clock: wall_clock.clone(),
        audit_log: audit_log.clone(),
        tasks: tasks.clone(),
        calls: PeerCalls::default(),
    });
    let recognition = RecognitionServiceServer::new(Recognition {
        node_id: config.node_id.clone(),
        instance: frame.instance,
        memory: Some((store.clone(), members.clone())),
    });
    let routes = Routes::new(health_service)
        .add_service(reflection)
        .add_service(kv.max_decoding_message_size(limits::MESSAGE_MAX_BYTES))
        .add_service(recognition)
        .add_service(replication.max_decoding_message_size(limits::MESSAGE_MAX_BYTES))
        .add_service(admin);
    Ok((routes, health))
}
