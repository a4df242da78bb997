//! Backups on an operator's request.

use tokio::sync::oneshot;

use super::error::RequestError;
use crate::backup::{
    error::BackupError,
    job::Backups,
    manifest::{Kind, Manifest},
};
use brock_core::base::limits;
use brock_net::task::Tasks;

/// The backups of a node.
#[derive(Debug, Clone, Default)]
pub struct ListedBackups {
    /// The newest [`limits::BACKUPS_LISTED`], oldest first.
    pub manifests: Vec<Manifest>,
    /// Keys of manifests that cannot be trusted, and why; as many at most.
    pub doubtful: Vec<(String, String)>,
    /// How many older ones are left out.
    pub omitted: usize,
}

/// Makes and lists backups when an operator asks. Cheap to clone.
#[derive(Clone)]
pub struct RequestedBackups {
    backups: Option<Backups>,
    tasks: Tasks,
}

impl RequestedBackups {
    /// `None`: this node makes no backups.
    pub fn new(backups: Option<Backups>, tasks: Tasks) -> Self {
        Self { backups, tasks }
    }

    /// Makes a backup now, a full one if `full`, otherwise what is due. `None` = nothing was done since the
    /// last one. The backup is completed even if the caller hangs up.
    pub async fn make(&self, full: bool) -> Result<Option<Manifest>, RequestError> {
        let backups = self.backups.clone().ok_or(RequestError::NoBackups)?;
        let kind = full.then_some(Kind::Full);
        let (answer, made) = oneshot::channel();
        let stop = self.tasks.stopping().clone();
        self.tasks.spawn_short(async move {
            if let Some(made) = stop.run_until_cancelled(backups.make(kind)).await {
                let _ = answer.send(made);
            }
        });
        Ok(made.await.unwrap_or(Err(BackupError::Stopping))?)
    }

    /// The backups of this node.
    pub async fn list(&self) -> Result<ListedBackups, RequestError> {
        let backups = self.backups.as_ref().ok_or(RequestError::NoBackups)?;
        let (mut manifests, mut doubtful) = backups.list().await?;
        let omitted = manifests.len().saturating_sub(limits::BACKUPS_LISTED);
        manifests.drain(..omitted);
        doubtful.truncate(limits::BACKUPS_LISTED);
        Ok(ListedBackups { manifests, doubtful, omitted })
    }
}
