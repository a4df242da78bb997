//! Sets up and runs the backups that the configuration asks for.

use std::sync::Arc;

use aws_lc_rs::signature::Ed25519KeyPair;

use tokio::task::spawn_blocking;

use super::{application::Shared, error::StartError};
use crate::{
    api::http::readiness::Readiness,
    backup::{
        job::{Backups, Plan},
        objects::Target,
        signer::SignerError,
    },
    config::validate::Config,
};
use brock_net::task::{TaskName, Tasks};

/// The location of backups, if they are enabled. Finds wrong settings and missing credentials before the
/// store opens.
pub(super) async fn target(config: &Config) -> Result<Option<Target>, StartError> {
    let Some(backup) = &config.backup else { return Ok(None) };
    let (location, settings) = (backup.location.clone(), backup.settings.clone());
    // It may read a credentials file, whose file system may not answer.
    let opening = spawn_blocking(move || Target::open(&location, &settings));
    let target = opening.await.map_err(|_| StartError::Interrupted)??;
    target.check_credentials().await?;
    Ok(Some(target))
}

/// Fails if backups are enabled but cannot be made: the operator must not rely on backups that do not exist.
pub(super) async fn open(
    config: &Config,
    target: Option<Target>,
    shared: &Shared,
    signer: Arc<Ed25519KeyPair>,
) -> Result<Option<Backups>, StartError> {
    let (Some(backup), Some(target)) = (&config.backup, target) else { return Ok(None) };
    if backup.recipients.is_empty() {
        tracing::warn!(
            "backups are NOT ENCRYPTED: set node.backup.recipient (`brock backup keygen` makes one)"
        );
    }
    let temporary = |source| StartError::Staging { path: std::env::temp_dir(), source };
    let (staging, ram) = match &config.path {
        Some(path) => (path.join("backup-staging"), None),
        None => {
            let home = tempfile::Builder::new().prefix("brock-backup-").tempdir().map_err(temporary)?;
            (home.path().join("parts"), Some(Arc::new(home)))
        }
    };
    let plan = Plan {
        target,
        recipients: backup.recipients.clone(),
        interval: backup.interval,
        sync_interval: (!backup.sync_interval.is_zero()).then_some(backup.sync_interval),
        retention: backup.retention,
        staging,
        ram,
        wall_clock: shared.wall_clock.clone(),
        alarms: shared.alarms.clone(),
    };
    Ok(Some(Backups::open(shared.store.clone(), plan, signer).await.map_err(SignerError::from)?))
}

/// Starts the tasks that make backups and verify them.
pub(super) fn spawn(tasks: &Tasks, backups: Backups, readiness: &Arc<Readiness>) {
    let (checks, stop) = (backups.clone(), tasks.stopping().clone());
    tasks.spawn(TaskName::BackupChecks, |status| checks.run_checks(stop, status));
    let (stop, readiness) = (tasks.stopping().clone(), Arc::clone(readiness));
    tasks.spawn(TaskName::Backups, |status| backups.run(move || readiness.is_ready(), stop, status));
}
