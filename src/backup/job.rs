//! Making backups: a full one when the last full one is too old, and incremental ones in between.
//!
//! Contract: the parts are durable in the object store before the manifest is, and only a manifest makes a
//! backup. An interrupted run leaves parts that no reader takes for a backup.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use age::x25519;
use aws_lc_rs::signature::Ed25519KeyPair;
use data_encoding::HEXLOWER;
use futures::FutureExt;
use tokio::{
    sync::{Mutex as AsyncMutex, OwnedMutexGuard},
    task::spawn_blocking,
    time::{Instant, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::{
    base::Base,
    catalogue::Cache,
    error::BackupError,
    frames,
    keys::{MANIFEST_SUFFIX, new_stem},
    manifest::{self, FORMAT_VERSION, Kind, Manifest, Part, Previous, hex_sha256},
    objects::{Metadata, Source, Target},
    retention::Retention,
};
use crate::{
    runtime::{
        alarms::Alarms,
        retry::{Retry, RetryPolicy},
        spans,
    },
    store::{Dumped, Store, StoreError},
};
use brock_core::base::{duration::milliseconds, limits, metrics as names, time::WallClock};
use brock_net::task::{TaskStatus, bounded};

/// How backups are made.
#[derive(Clone)]
pub struct Plan {
    /// Where they are stored.
    pub target: Target,
    /// Their age recipients; without any, backups are not encrypted.
    pub recipients: Vec<x25519::Recipient>,
    /// How often a full backup is made.
    pub interval: Duration,
    /// How often an incremental backup is made; `None` = never.
    pub sync_interval: Option<Duration>,
    /// Which backups are kept.
    pub retention: Retention,
    /// Where parts are written before the upload. Each run empties it.
    pub staging: PathBuf,
    /// Of a node in RAM: keeps the temporary directory that contains `staging`.
    pub ram: Option<Arc<tempfile::TempDir>>,
    /// Where the time comes from.
    pub wall_clock: WallClock,
    /// Takes the alarms of the checks.
    pub alarms: Alarms,
}

/// The reason for a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trigger {
    /// The schedule: make what is due.
    Schedule,
    /// An operator's command; of this kind if one is given.
    Operator(Option<Kind>),
}

/// The state of a node's backups, for operators.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BackupReport {
    /// The last backup that was made.
    pub last: Option<LastBackup>,
    /// The error of the last run; `None` after a success.
    pub last_error: Option<String>,
    /// Runs that failed since the start.
    pub failures: u64,
    /// When the newest backup was last verified, with all that it is based on, in milliseconds; `None` =
    /// not since the start.
    pub last_verified_unix_ms: Option<u64>,
    /// Why the stored backups are damaged; `None` = no damage is known.
    pub verify_error: Option<String>,
}

/// A backup that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastBackup {
    /// Its manifest.
    pub key: String,
    /// When it was made, in milliseconds.
    pub at_unix_ms: u64,
}

/// Makes backups. Cheap to clone.
#[derive(Clone)]
pub struct Backups {
    pub(super) store: Store,
    pub(super) plan: Arc<Plan>,
    pub(super) signer: Arc<Ed25519KeyPair>,
    pub(super) verified: Arc<AsyncMutex<Verified>>,
    /// Set when the stored backups are damaged: the next one must be full.
    pub(super) needs_full: Arc<AtomicBool>,
    cache: Cache,
    running: Arc<AsyncMutex<()>>,
    report: Arc<Mutex<BackupReport>>,
}

/// When each object was last verified, in milliseconds; a manifest: with all that it is based on.
pub(super) type Verified = BTreeMap<String, u64>;

/// Permits one run at a time. Blocking work holds it too: after a timeout the next run begins only when
/// the work of the previous one has ended.
type RunPermit = Arc<OwnedMutexGuard<()>>;

impl Backups {
    /// Backups of this store, signed with this key. Reads what the store knows of the last one.
    pub async fn open(store: Store, plan: Plan, signer: Arc<Ed25519KeyPair>) -> Result<Self, StoreError> {
        metrics::gauge!(names::BACKUP_INTERVAL).set(plan.interval.as_secs_f64());
        let mut report = BackupReport::default();
        if let Some(base) = Base::load(&store).await?
            && base.place == plan.target.place()
        {
            metrics::gauge!(names::BACKUP_LAST_SUCCESS).set(base.at_ms as f64 / 1000.0);
            if plan.sync_interval.is_some() {
                store.keep_for_backup(Some(base.since()?.applied));
            }
            report.last = Some(LastBackup { key: base.key, at_unix_ms: base.at_ms });
        }
        Ok(Self {
            cache: Cache::new(plan.target.clone(), store.node_id().clone()),
            store,
            plan: Arc::new(plan),
            signer,
            verified: Arc::default(),
            needs_full: Arc::default(),
            running: Arc::default(),
            report: Arc::new(Mutex::new(report)),
        })
    }

    /// The state of this node's backups.
    pub fn report(&self) -> BackupReport {
        self.report_mut().clone()
    }

    pub(super) fn report_mut(&self) -> MutexGuard<'_, BackupReport> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often full backups are made.
    pub fn interval(&self) -> Duration {
        self.plan.interval
    }

    /// Where backups are stored.
    pub fn target(&self) -> &Target {
        &self.plan.target
    }

    /// This node's backups, oldest first, and the keys of invalid manifests, each with the reason.
    pub async fn list(&self) -> Result<(Vec<Manifest>, Vec<(String, String)>), BackupError> {
        Ok(self.cache.all().boxed().await?)
    }

    /// Makes backups on schedule until stopped, once the node `is_ready`: a node that has lost its disk
    /// must not back up its state before it has caught up. Retries after errors; nothing else waits.
    pub async fn run(self, is_ready: impl Fn() -> bool, stop: CancellationToken, task: TaskStatus) {
        task.set_state("waiting for the first catch-up");
        let mut ticks = interval(limits::FIRST_CATCH_UP_POLL);
        while !is_ready() {
            if stop.run_until_cancelled(ticks.tick()).await.is_none() {
                return;
            }
        }
        let every = self.plan.sync_interval.unwrap_or(self.plan.interval.min(limits::BACKUP_CHECK_INTERVAL));
        // Each attempt at a full backup reads everything, so retries wait longer and longer.
        let mut retry = Retry::new(RetryPolicy {
            first_delay: every,
            max_delay: limits::BACKUP_RETRY_MAX.max(every),
            max_elapsed: None,
        });
        let mut delay = Duration::ZERO;
        loop {
            task.set_state("waiting");
            if stop.run_until_cancelled(sleep(delay)).await.is_none() {
                return;
            }
            task.set_state("backing up");
            let Some(outcome) = stop.run_until_cancelled(self.make_for(Trigger::Schedule)).await else {
                return;
            };
            delay = match outcome {
                Ok(_) => {
                    task.clear_error();
                    retry.reset();
                    every
                }
                Err(error) => {
                    task.set_error(&error.to_string());
                    retry.next_delay().unwrap_or(every)
                }
            };
        }
    }

    /// Makes a backup now: of the given kind, or what is due, which may be none. One run at a time; a
    /// second one waits for the first.
    pub async fn make(&self, kind: Option<Kind>) -> Result<Option<Manifest>, BackupError> {
        self.make_for(Trigger::Operator(kind)).await
    }

    async fn make_for(&self, trigger: Trigger) -> Result<Option<Manifest>, BackupError> {
        let permit = Arc::new(Arc::clone(&self.running).lock_owned().await);
        let began = Instant::now();
        let made = match timeout(limits::BACKUP_RUN_TIMEOUT, self.attempt(trigger, &permit).boxed()).await {
            Ok(made) => made,
            Err(_) => Err(BackupError::Late),
        };
        self.record(&made, began.elapsed());
        // The next backup need not wait for the removal of expired ones.
        drop(permit);
        if let Ok(Some(Manifest { kind: Kind::Full, .. })) = &made {
            self.expire().boxed().await;
        }
        made
    }

    fn record(&self, made: &Result<Option<Manifest>, BackupError>, took: Duration) {
        let mut report = self.report_mut();
        match made {
            Ok(Some(manifest)) => {
                metrics::histogram!(names::BACKUP_DURATION).record(took.as_secs_f64());
                let bytes: u64 = manifest.parts.iter().map(|part| part.bytes).sum();
                metrics::counter!(names::BACKUP_BYTES).increment(bytes);
                metrics::gauge!(names::BACKUP_LAST_SUCCESS).set(manifest.created_at_unix_ms as f64 / 1000.0);
                if report.last_error.take().is_some() {
                    tracing::info!("backups work again");
                }
                let (key, at_unix_ms) = (manifest.key.clone(), manifest.created_at_unix_ms);
                report.last = Some(LastBackup { key, at_unix_ms });
            }
            Ok(None) => report.last_error = None,
            Err(error) => {
                metrics::counter!(names::BACKUP_FAILURES).increment(1);
                if report.last_error.is_none() {
                    tracing::error!(%error, "a backup failed; retrying");
                }
                report.last_error = Some(bounded(&error.to_string()));
                report.failures += 1;
            }
        }
    }

    async fn attempt(&self, trigger: Trigger, permit: &RunPermit) -> Result<Option<Manifest>, BackupError> {
        let scheduled = trigger == Trigger::Schedule;
        if scheduled && self.store.applied().is_empty() {
            // A node that has lost everything must not make an empty backup the newest one. Whether the
            // object store works is checked all the same.
            self.plan.target.prepare().await?;
            return Ok(None);
        }
        let last = Base::load(&self.store).await?.filter(|base| base.place == self.plan.target.place());
        // The times of backups increase, whatever the wall clock does.
        let now_ms = self.plan.wall_clock.now_ms().max(last.as_ref().map_or(0, |base| base.at_ms + 1));
        let base = last
            .filter(|base| trigger != Trigger::Operator(Some(Kind::Full)) && self.can_extend(base, now_ms));
        if let Some(base) = base {
            let since = base.since()?;
            if since.applied.covers(&self.store.applied()) && since.unlogged == self.store.unlogged().await? {
                return Ok(None);
            }
            if scheduled && self.plan.sync_interval.is_none() {
                return Ok(None);
            }
            let gap_ms = milliseconds(limits::BACKUP_FULL_GAP);
            let full_is_recent = scheduled && now_ms.saturating_sub(base.full_at_ms) < gap_ms;
            match self.plan.target.head(&base.key).await {
                Ok(_) => match self.traced(now_ms, Some(&base), permit).await {
                    // A full backup is due, but not at every step of a resync.
                    Err(BackupError::Store(StoreError::BelowFloor { .. } | StoreError::NotInLog))
                        if full_is_recent =>
                    {
                        return Ok(None);
                    }
                    Err(BackupError::Store(StoreError::BelowFloor { .. } | StoreError::NotInLog)) => {}
                    other => return other.map(Some),
                },
                Err(error) if error.is_not_found() => {
                    tracing::warn!(key = base.key, "the last backup is missing: making a full one");
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.prepare().await?;
        let made = self.traced(now_ms, None, permit).await?;
        self.needs_full.store(false, Ordering::Relaxed);
        Ok(Some(made))
    }

    /// Whether the next backup may be based on this one.
    fn can_extend(&self, base: &Base, now_ms: u64) -> bool {
        let is_recent = now_ms.saturating_sub(base.full_at_ms) < milliseconds(self.plan.interval);
        // A new recipient may be unable to decrypt the older backups.
        base.recipients == self.recipients()
            && is_recent
            && !self.needs_full.load(Ordering::Relaxed)
            && base.follows < limits::BACKUP_CHAIN_MAX
    }

    /// Checks the target before everything is read for it, and frees the uploads of killed runs.
    async fn prepare(&self) -> Result<(), BackupError> {
        self.plan.target.prepare().await?;
        if let Err(error) = self.plan.target.abort_unfinished(limits::BACKUP_RUN_TIMEOUT).await {
            tracing::warn!(%error, "the space of unfinished uploads was not freed");
        }
        Ok(())
    }

    async fn traced(
        &self,
        at_ms: u64,
        base: Option<&Base>,
        permit: &RunPermit,
    ) -> Result<Manifest, BackupError> {
        let span = spans::backup();
        let made = self.upload(at_ms, base, permit).instrument(span.clone()).await;
        spans::end(&span, made.is_ok());
        made
    }

    async fn upload(
        &self,
        at_ms: u64,
        base: Option<&Base>,
        permit: &RunPermit,
    ) -> Result<Manifest, BackupError> {
        let since = base.map(Base::since).transpose()?;
        let (store, plan, held) = (self.store.clone(), Arc::clone(&self.plan), Arc::clone(permit));
        let cancelled = CancellationToken::new();
        let _ends_with_this = cancelled.clone().drop_guard();
        let written = spawn_blocking(move || {
            let _held = held;
            let recipients = plan.recipients.clone();
            frames::write_parts(&store, &plan.staging, recipients, since.as_ref(), &cancelled)
        });
        let (dumped, staged) = written.await.map_err(|_| BackupError::Stopping)??;
        let stem = new_stem(self.store.node_id().as_str(), at_ms, base.is_some());
        let expires = at_ms.saturating_add(self.plan.retention.longest_ms());
        let metadata: Metadata = [("brock-expires-unix-ms".to_owned(), expires.to_string())].into();
        let suffix = if self.plan.recipients.is_empty() { "part" } else { "age" };
        let mut parts = Vec::new();
        for (number, staged) in (1..).zip(staged) {
            let key = format!("{stem}.{number:05}.{suffix}");
            self.plan.target.put(&key, &Source::File(staged.path), &metadata).await?;
            parts.push(Part { key, bytes: staged.bytes, sha256: staged.sha256 });
        }
        let manifest = self.describe(format!("{stem}{MANIFEST_SUFFIX}"), at_ms, &dumped, parts, base);
        let bytes = manifest.sign(&self.signer)?;
        let sha256 = hex_sha256(&bytes);
        self.plan.target.put(&manifest.key, &Source::Bytes(bytes.into()), &metadata).await?;
        let names = (self.plan.target.place(), manifest.key.clone(), sha256);
        Base::new(names, at_ms, base, &dumped, self.recipients()).save(&self.store).await?;
        if self.plan.sync_interval.is_some() {
            self.store.keep_for_backup(Some(dumped.applied()));
        }
        self.cache.add(manifest.clone());
        tracing::info!(key = manifest.key, parts = manifest.parts.len(), "made a backup");
        let (staging, held) = (self.plan.staging.clone(), Arc::clone(permit));
        // The next run removes what this cannot.
        let _ = spawn_blocking(move || {
            let _held = held;
            frames::remove(&staging)
        })
        .await;
        Ok(manifest)
    }

    /// The recipients, sorted.
    fn recipients(&self) -> Vec<String> {
        let mut names: Vec<String> = self.plan.recipients.iter().map(ToString::to_string).collect();
        names.sort();
        names
    }

    fn describe(
        &self,
        key: String,
        at_ms: u64,
        dumped: &Dumped,
        parts: Vec<Part>,
        base: Option<&Base>,
    ) -> Manifest {
        let (records, tombstones) = dumped.digest.roots();
        Manifest {
            format_version: FORMAT_VERSION,
            key,
            node_id: self.store.node_id().to_string(),
            incarnation: self.store.origin().incarnation().0,
            kind: if base.is_some() { Kind::Incremental } else { Kind::Full },
            created_at_unix_ms: at_ms,
            vector: manifest::clocks_to(&dumped.vector),
            folds: manifest::clocks_to(&dumped.folds),
            records_digest: HEXLOWER.encode(&records),
            tombstones_digest: HEXLOWER.encode(&tombstones),
            has_collected: !dumped.collected.is_empty(),
            records: dumped.totals.records,
            tombstones: dumped.totals.tombstones,
            parts,
            recipients: self.recipients(),
            previous: base.map(|base| Previous { key: base.key.clone(), sha256: base.sha256.clone() }),
            full: base.map(|base| base.full.clone()),
            public_key: manifest::public_key(&self.signer),
        }
    }

    /// Deletes expired backups. An error does not affect the backup that was just made.
    async fn expire(&self) {
        let now_ms = self.plan.wall_clock.now_ms();
        let expired =
            timeout(limits::OBJECT_SCAN_TIMEOUT, self.cache.expire(&self.plan.retention, now_ms)).await;
        let Ok(expired) = expired else {
            tracing::warn!("deleting expired backups took too long; continuing after the next full backup");
            return;
        };
        match expired {
            Ok(removed) if removed.is_empty() => {}
            Ok(removed) => tracing::info!(backups = removed.len(), "deleted expired backups"),
            Err(error) => {
                tracing::warn!(%error, "expired backups were not deleted; retrying later");
                let error = bounded(&format!("expired backups were not deleted: {error}"));
                self.report_mut().last_error = Some(error);
            }
        }
    }
}
