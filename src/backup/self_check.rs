//! The node verifies its own backups: whether every manifest and every object of the newest one is what it
//! uploaded. That needs hashes and the node's own signature, but no private key of a recipient.

use std::{sync::atomic::Ordering, time::Duration};

use futures::FutureExt;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{
    base::Base,
    catalogue::{self, CatalogueError, Known},
    error::BackupError,
    hashing::Hashing,
    job::{Backups, Verified},
    manifest::{self, Kind, Part},
};
use brock_core::base::{duration::milliseconds, limits, metrics as names};
use brock_net::task::{TaskStatus, bounded};

/// Why a backup was not verified.
#[derive(Debug)]
enum Unsound {
    /// An object is not what the node uploaded.
    Damaged(String),
    /// An object does not exist.
    Missing(String),
    /// The check itself failed.
    Unknown(BackupError),
}

impl From<CatalogueError> for Unsound {
    fn from(error: CatalogueError) -> Self {
        match error {
            CatalogueError::Object(error) if error.is_not_found() => Self::Missing(error.to_string()),
            CatalogueError::Object(error) => Self::Unknown(error.into()),
            damaged => Self::Damaged(damaged.to_string()),
        }
    }
}

impl Backups {
    /// Verifies every new backup soon after it was made, and the newest one with its whole chain once a
    /// day, until stopped. Damage is reported, and the next backup is a full one.
    pub async fn run_checks(self, stop: CancellationToken, task: TaskStatus) {
        let mut ticks = interval(limits::BACKUP_REREAD_CHECK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            task.set_state("waiting");
            if stop.run_until_cancelled(ticks.tick()).await.is_none() {
                return;
            }
            task.set_state("verifying backups");
            match stop.run_until_cancelled(self.check().boxed()).await {
                None => return,
                Some(Ok(())) => match self.report().verify_error {
                    Some(error) => task.set_error(&error),
                    None => task.clear_error(),
                },
                Some(Err(error)) => task.set_error(&error.to_string()),
            }
        }
    }

    /// Verifies what was not verified lately of the newest backup and its chain. An error means that the
    /// check failed; damage is in the report.
    pub async fn check(&self) -> Result<(), BackupError> {
        let mut verified = self.verified.lock().await;
        let place = self.plan.target.place();
        let Some(last) = Base::load(&self.store).await?.filter(|base| base.place == place) else {
            return Ok(());
        };
        if self.needs_full.load(Ordering::Relaxed) {
            return Ok(());
        }
        let outcome = self.check_chain(&last, &mut verified).await;
        // During the check a new full backup may have replaced the chain, and retention deleted it.
        let is_replaced = Base::load(&self.store).await?.is_none_or(|now| now.full != last.full);
        match outcome {
            Err(Unsound::Missing(_)) if is_replaced => Ok(()),
            Ok(false) => Ok(()),
            Ok(true) => {
                let now_ms = self.plan.wall_clock.now_ms();
                metrics::gauge!(names::BACKUP_LAST_VERIFIED).set(now_ms as f64 / 1000.0);
                let mut report = self.report_mut();
                report.last_verified_unix_ms = Some(now_ms);
                report.verify_error = None;
                Ok(())
            }
            Err(Unsound::Damaged(problem) | Unsound::Missing(problem)) => {
                metrics::counter!(names::BACKUP_VERIFY_FAILURES).increment(1);
                self.plan.alarms.raise(format!(
                    "a stored backup is damaged: {problem}. The next backup will be a full one"
                ));
                self.report_mut().verify_error = Some(bounded(&problem));
                self.needs_full.store(true, Ordering::Relaxed);
                Ok(())
            }
            Err(Unsound::Unknown(error)) => Err(error),
        }
    }

    /// Verifies backups from the newest one backwards, until one that was verified lately with its whole
    /// chain. Returns whether there was anything to verify.
    async fn check_chain(&self, last: &Base, verified: &mut Verified) -> Result<bool, Unsound> {
        let interval_ms = milliseconds(limits::BACKUP_REREAD_INTERVAL);
        let oldest_ms = self.plan.wall_clock.now_ms().saturating_sub(interval_ms);
        verified.retain(|_, at| *at > oldest_ms);
        let signer = manifest::public_key(&self.signer);
        let target = &self.plan.target;
        let mut key = last.key.clone();
        let mut known: Option<Known> = None;
        let mut fresh = Vec::new();
        while !verified.contains_key(&key) {
            let next = match &known {
                None => catalogue::read_manifest(target, &key, Some(&signer)).await?,
                Some(known) => catalogue::previous(target, &known.manifest, Some(&signer)).await?,
            };
            if known.is_none() && next.sha256 != last.sha256 {
                return Err(Unsound::Damaged(format!("{key} was replaced after it was made")));
            }
            let mut pace = Pace::begin();
            for part in &next.manifest.parts {
                if !verified.contains_key(&part.key) {
                    self.check_part(part, &mut pace).await?;
                    verified.insert(part.key.clone(), self.plan.wall_clock.now_ms());
                }
            }
            fresh.push(next.manifest.key.clone());
            match (&next.manifest.kind, &next.manifest.previous) {
                (Kind::Incremental, Some(previous)) => key.clone_from(&previous.key),
                _ => break,
            }
            known = Some(next);
        }
        let (now_ms, has_read) = (self.plan.wall_clock.now_ms(), !fresh.is_empty());
        verified.extend(fresh.into_iter().map(|key| (key, now_ms)));
        Ok(has_read)
    }

    async fn check_part(&self, part: &Part, pace: &mut Pace) -> Result<(), Unsound> {
        let object = |error| Unsound::from(CatalogueError::Object(error));
        let mut download = self.plan.target.get(&part.key, 0).await.map_err(object)?;
        let mut hash = Hashing::only();
        while let Some(chunk) = download.next().await.map_err(object)? {
            hash.update(&chunk);
            if hash.bytes() > part.bytes {
                break;
            }
            pace.after(chunk.len()).await;
        }
        if hash.bytes() == part.bytes && hash.finish() == part.sha256 {
            return Ok(());
        }
        Err(Unsound::Damaged(format!("{} is not what its manifest says", part.key)))
    }
}

/// Limits reading to [`limits::BACKUP_REREAD_BYTES_PER_SECOND`].
struct Pace {
    began: Instant,
    bytes: u64,
}

impl Pace {
    fn begin() -> Self {
        Self { began: Instant::now(), bytes: 0 }
    }

    async fn after(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        let due = self.bytes as f64 / limits::BACKUP_REREAD_BYTES_PER_SECOND as f64;
        sleep_until(self.began + Duration::from_secs_f64(due)).await;
    }
}
