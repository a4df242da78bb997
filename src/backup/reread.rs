//! The node reads again what it has uploaded: whether every manifest and every object of its newest
//! backup is what it made. That needs no private key, only hashes and its own signature.

use std::{collections::BTreeMap, sync::atomic::Ordering, time::Duration};

use futures::FutureExt;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{
    catalogue::{self, CatalogueError, Known},
    hashing::Hashing,
    job::{BackupError, Backups},
    last::Last,
    manifest::{self, Kind, Part},
};
use brock_core::base::{duration::milliseconds, limits, metrics as names};
use brock_net::task::{TaskStatus, bounded};

/// When each object was last read again, in milliseconds; of a manifest: with all that it needs.
pub(super) type Read = BTreeMap<String, u64>;

/// What came of reading.
#[derive(Debug)]
enum Unsound {
    /// What is there is not what was made.
    Damaged(String),
    /// It is not there.
    Missing(String),
    /// It could not be told.
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
    /// Reads every new backup again soon after it was made, and the newest one with all that it
    /// follows on once a day, until stopped. What is found to be damaged is told, and the next backup
    /// is a full one.
    pub async fn run_checks(self, stop: CancellationToken, task: TaskStatus) {
        let mut ticks = interval(limits::BACKUP_REREAD_CHECK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            task.set_state("waiting");
            if stop.run_until_cancelled(ticks.tick()).await.is_none() {
                return;
            }
            task.set_state("reading backups again");
            match stop.run_until_cancelled(self.check().boxed()).await {
                None => return,
                Some(Ok(())) => task.set_error(&self.report().verify_error),
                Some(Err(error)) => task.set_error(&error.to_string()),
            }
        }
    }

    /// Reads again what was not read lately of the newest backup and of all that it follows on. An
    /// error says that it could not be told; damage is in the report.
    pub async fn check(&self) -> Result<(), BackupError> {
        let mut read = self.read.lock().await;
        let place = self.plan.target.place();
        let Some(last) = Last::load(&self.store).await?.filter(|last| last.place == place) else {
            return Ok(());
        };
        if self.distrusted.load(Ordering::Relaxed) {
            return Ok(());
        }
        let outcome = self.check_chain(&last, &mut read).await;
        // Retention may have removed it meanwhile, and the next one has taken its place.
        let has_passed = Last::load(&self.store).await?.is_none_or(|now| now.full != last.full);
        match outcome {
            Err(Unsound::Missing(_)) if has_passed => Ok(()),
            Ok(false) => Ok(()),
            Ok(true) => {
                let now_ms = self.store.now_ms();
                metrics::gauge!(names::BACKUP_LAST_VERIFIED).set(now_ms as f64 / 1000.0);
                let mut report = self.reported();
                report.last_verified_unix_ms = now_ms;
                report.verify_error.clear();
                Ok(())
            }
            Err(Unsound::Damaged(problem) | Unsound::Missing(problem)) => {
                metrics::counter!(names::BACKUP_VERIFY_FAILURES).increment(1);
                self.store.alarm(format!(
                    "a backup is damaged where it is kept: {problem}. The next one is a full one"
                ));
                self.reported().verify_error = bounded(&problem);
                self.distrusted.store(true, Ordering::Relaxed);
                Ok(())
            }
            Err(Unsound::Unknown(error)) => Err(error),
        }
    }

    /// From the newest backwards, until one comes that was read again not long ago, and everything
    /// before it too. Returns whether there was anything to read.
    async fn check_chain(&self, last: &Last, read: &mut Read) -> Result<bool, Unsound> {
        let interval_ms = milliseconds(limits::BACKUP_REREAD_INTERVAL);
        let oldest_ms = self.store.now_ms().saturating_sub(interval_ms);
        read.retain(|_, at| *at > oldest_ms);
        let signer = manifest::public_key(&self.signer);
        let target = &self.plan.target;
        let mut key = last.key.clone();
        let mut known: Option<Known> = None;
        let mut fresh = Vec::new();
        while !read.contains_key(&key) {
            let next = match &known {
                None => catalogue::read_manifest(target, &key, Some(&signer)).await?,
                Some(known) => catalogue::before(target, &known.manifest, Some(&signer)).await?,
            };
            if known.is_none() && next.sha256 != last.sha256 {
                return Err(Unsound::Damaged(format!("{key} was replaced after it was made")));
            }
            let mut pace = Pace::begin();
            for part in &next.manifest.parts {
                if !read.contains_key(&part.key) {
                    self.check_part(part, &mut pace).await?;
                    read.insert(part.key.clone(), self.store.now_ms());
                }
            }
            fresh.push(next.manifest.key.clone());
            match (&next.manifest.kind, &next.manifest.previous) {
                (Kind::Incremental, Some(previous)) => key.clone_from(&previous.key),
                _ => break,
            }
            known = Some(next);
        }
        let (now_ms, has_read) = (self.store.now_ms(), !fresh.is_empty());
        read.extend(fresh.into_iter().map(|key| (key, now_ms)));
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

/// Keeps to [`limits::BACKUP_REREAD_BYTES_PER_SECOND`].
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
