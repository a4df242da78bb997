//! Opens what a node keeps on disk: the store, the members in it, and the audit log.

use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use tokio::{task::spawn_blocking, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{certificate::NodeCertificate, error::StartError, first_start, frame::Frame, prepare::Prepared};
use crate::{
    audit::log::{self, AuditLog},
    config::validate::{Config, FirstStart},
    membership::{members::Members, peer::PeerKey},
    store::{self, OpenError, Store},
};
use brock_core::base::{
    id::{Incarnations, Origin},
    limits,
    trust::TrustMode,
    vector::Clock,
};
use brock_net::{address::Address, tls::statement};

/// Opens the store. If it is empty and `node.first-start` is `auto`, asks the peers first.
pub(super) async fn open(
    config: &Config,
    prepared: &Prepared,
    frame: &Frame,
    stop: &CancellationToken,
) -> Result<Store, StartError> {
    if config.path.is_none() {
        tracing::warn!("node.path is ram:, so ALL DATA IS IN RAM ONLY and is lost when this process ends");
    }
    let options = store::Options {
        node_id: config.node_id.clone(),
        path: config.path.clone(),
        first_start: config.first_start == FirstStart::Yes,
        cache_bytes: config.cache_size_bytes,
        memtables_bytes: limits::MEMTABLES_BYTES,
        files_open: prepared.descriptors.database_files,
        expiry_margin: config.expiry_margin,
        conflict_delay: config.conflict_backoff.delay,
        conflict_min: config.conflict_backoff.min,
        conflict_max: config.conflict_backoff.max,
        wall_clock: frame.wall_clock.clone(),
        alarms: frame.alarms.clone(),
        incarnations: Incarnations::random(),
        identity: Some(Arc::new(NodeCertificate::new(prepared.identity.clone()))),
    };
    match (open_store(options.clone()).await, config.first_start) {
        (Err(StartError::Store(OpenError::Empty(_))), FirstStart::Auto) => {
            first_start::check(config, prepared, frame.instance, stop).await?;
            open_store(store::Options { first_start: true, ..options }).await
        }
        (outcome, _) => outcome,
    }
}

async fn open_store(options: store::Options) -> Result<Store, StartError> {
    let mut opening = spawn_blocking(move || Store::open(&options));
    let opened = match timeout(limits::STORE_OPEN_NEWS, &mut opening).await {
        Ok(opened) => opened,
        Err(_) => {
            tracing::warn!(
                seconds = limits::STORE_OPEN_NEWS.as_secs(),
                "still opening the storage: it replays a long log, or its disk does not answer. A second signal stops \
                 the process"
            );
            opening.await
        }
    };
    Ok(opened.map_err(|_| StartError::Interrupted)??)
}

/// Compares the trust domain of the node's certificate with those of the births in the storage. Signatures are for one
/// cluster: with a certificate of another one, this node could verify nothing of the others, nor they of it, and each
/// would take the other for a forger.
pub(super) async fn check_cluster(
    config: &Config,
    prepared: &Prepared,
    store: &Store,
) -> Result<(), StartError> {
    let Some(found) = prepared.identity.peer().trust_domain else { return Ok(()) };
    let (mut after, mut foreign, mut own, mut is_known) = (None, None, None, false);
    loop {
        let (births, next) = store.births(after).await.map_err(|error| damaged(config, error))?;
        for birth in births {
            let leaf = birth.certificates.first().map(|der| CertificateDer::from(der.as_ref()));
            let Some(domain) = leaf.and_then(|leaf| statement::trust_domain(&leaf)) else { continue };
            let Ok(origin) = Origin::try_from(birth.origin.as_ref()) else { continue };
            match (domain == found, origin.is_of(&config.node_id)) {
                (true, false) => is_known = true,
                // Its records may all have been logged again here.
                (true, true) => is_known |= store.clock(&origin) > Clock::default(),
                (false, false) => foreign = Some(domain),
                (false, true) if store.clock(&origin) > Clock::default() => own = Some((origin, domain)),
                (false, true) => {}
            }
        }
        after = next;
        if after.is_none() {
            break;
        }
    }
    if let Some(expected) = foreign.filter(|_| !is_known) {
        let error = StartError::OtherDomain {
            certs_dir: config.certs_dir.clone(),
            path: config.path.clone().unwrap_or_default(),
            node_id: config.node_id.clone(),
            found,
            expected,
        };
        if config.trust == TrustMode::Distributed {
            return Err(error);
        }
        tracing::error!("{error}");
        return Ok(());
    }
    if let Some((origin, domain)) = own {
        tracing::warn!(
            %origin, domain, own = found,
            "this node has logged with a certificate of another trust domain, which no node of this one's believes: \
             docs/guides/troubleshooting.md, A certificate of another trust domain"
        );
    }
    Ok(())
}

/// The members that the store remembers, and the peers in `node.join`.
pub(super) async fn load_members(
    config: &Config,
    store: &Store,
    fixed: &[Address],
    discovers: bool,
) -> Result<Members, StartError> {
    let remembered = store.members().await.map_err(|error| damaged(config, error))?;
    let fixed: Vec<PeerKey> = fixed.iter().map(PeerKey::from).collect();
    Members::new(config.node_id.clone(), (&fixed, discovers), remembered, config.member_retention)
        .map_err(|error| damaged(config, error))
}

/// The store is open, and something in it cannot be read.
pub(super) fn damaged(config: &Config, error: impl ToString) -> StartError {
    let path = config.path.clone().unwrap_or_default();
    StartError::Store(OpenError::Database { path, reason: error.to_string() })
}

/// Opens the audit log, if there is a directory for it.
pub(super) async fn open_audit_log(config: &Config, store: &Store, frame: &Frame) -> AuditLog {
    let directory = config.audit.path.clone().or_else(|| Some(config.path.as_ref()?.join("audit")));
    let Some(directory) = directory else {
        tracing::warn!(
            "node.path is ram:, and audit.path is empty: there is NO AUDIT LOG of what operators do on this node"
        );
        return AuditLog::none();
    };
    let options = log::Options {
        directory,
        max_bytes: config.audit.max_bytes,
        wall_clock: frame.wall_clock.clone(),
        alarms: frame.alarms.clone(),
    };
    AuditLog::open(options, store, &frame.tasks).await
}
