//! Making backups: a full one when the last is too old, and what was done since every few seconds.
//!
//! Contract: the parts are durable in the store before the manifest is, and the manifest is what makes
//! a backup; whatever breaks off before leaves nothing that anybody takes for one.

use std::{
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
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::{
    sync::{Mutex as AsyncMutex, OwnedMutexGuard},
    task::spawn_blocking,
    time::{Instant, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::{
    catalogue::{Cache, CatalogueError, MANIFEST_SUFFIX},
    frames,
    last::Last,
    manifest::{self, FORMAT_VERSION, Kind, Manifest, Part, Previous, hex_sha256},
    objects::{Metadata, ObjectError, Source, Target},
    parts::PartError,
    reread::Read,
    retention::Retention,
};
use crate::{
    runtime::{
        retry::{Retry, RetryPolicy},
        spans,
    },
    store::{Dumped, Store, StoreError},
};
use brock_core::base::{duration::milliseconds, limits, metrics as names};
use brock_net::task::{TaskStatus, bounded};

/// How backups are made.
#[derive(Clone)]
pub struct Plan {
    /// Where they go.
    pub target: Target,
    /// Whom they are encrypted to; nobody if empty.
    pub recipients: Vec<x25519::Recipient>,
    /// How often a full one is made.
    pub interval: Duration,
    /// How often what was done since is shipped; zero = only full ones.
    pub sync_interval: Duration,
    /// Which ones are kept.
    pub retention: Retention,
    /// Where parts are written before they are sent; it is emptied.
    pub staging: PathBuf,
    /// Keeps the directory of a node in RAM alive in which `staging` lies.
    pub ram: Option<Arc<tempfile::TempDir>>,
}

/// Who wants a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    /// The clock: whatever is due.
    Clock,
    /// An operator, of this kind if one is named.
    Operator(Option<Kind>),
}

/// Why a backup was not made.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The store that holds the records could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The parts could not be written.
    #[error(transparent)]
    Part(#[from] PartError),
    /// The store that keeps the backups did not take it.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// What is there could not be read.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// A file could not be written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The manifest could not be written.
    #[error("a manifest could not be encoded: {0}")]
    Encode(#[from] serde_json::Error),
    /// It took too long.
    #[error("it was not done within {} s", limits::BACKUP_RUN_TIMEOUT.as_secs())]
    Late,
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

impl BackupError {
    /// Whether the same may succeed later without anybody changing anything about it.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Store(error) => error.is_retryable(),
            Self::Object(error) | Self::Catalogue(CatalogueError::Object(error)) => error.is_retryable(),
            Self::Late | Self::Stopping => true,
            Self::Part(PartError::NoSpace { .. }) => true,
            Self::Part(_) | Self::Catalogue(_) | Self::Io { .. } | Self::Encode(_) => false,
        }
    }
}

/// How backups are, as an operator sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BackupReport {
    /// The last good one; empty = none yet.
    pub last_key: String,
    /// When it was made, in milliseconds; 0 = never.
    pub last_success_unix_ms: u64,
    /// What is wrong since the last attempt; empty = nothing.
    pub last_error: String,
    /// Attempts that failed since the start.
    pub failures: u64,
    /// When a backup and all that it follows on was last read again and found to be what was made, in
    /// milliseconds; 0 = not since the start.
    pub last_verified_unix_ms: u64,
    /// Why what was read again is not what was made; empty = it is, as far as is known.
    pub verify_error: String,
}

/// Makes backups. Cheap to clone.
#[derive(Clone)]
pub struct Backups {
    pub(super) store: Store,
    pub(super) plan: Arc<Plan>,
    pub(super) signer: Arc<Ed25519KeyPair>,
    pub(super) cache: Cache,
    /// What was read again of it.
    pub(super) read: Arc<AsyncMutex<Read>>,
    /// Set when what lies there is not what was made: nothing may follow on it.
    pub(super) distrusted: Arc<AtomicBool>,
    /// Held by the one run at a time.
    turn: Arc<AsyncMutex<()>>,
    report: Arc<Mutex<BackupReport>>,
}

/// One run's right to run. Whoever writes parts holds it too, so that the next run begins after it even
/// if nobody waits for this one any more.
type Turn = Arc<OwnedMutexGuard<()>>;

impl Backups {
    /// Of this store, by this plan, signed with this key. Reads what is known of the last one.
    pub async fn open(store: Store, plan: Plan, signer: Arc<Ed25519KeyPair>) -> Result<Self, StoreError> {
        let mut report = BackupReport::default();
        if let Some(last) = Last::load(&store).await?
            && last.place == plan.target.place()
        {
            metrics::gauge!(names::BACKUP_LAST_SUCCESS).set(last.at_ms as f64 / 1000.0);
            if !plan.sync_interval.is_zero() {
                store.keep_for_backup(Some(last.since()?.applied));
            }
            (report.last_key, report.last_success_unix_ms) = (last.key, last.at_ms);
        }
        Ok(Self {
            cache: Cache::new(plan.target.clone(), store.node_id().clone()),
            store,
            plan: Arc::new(plan),
            signer,
            read: Arc::default(),
            distrusted: Arc::default(),
            turn: Arc::default(),
            report: Arc::new(Mutex::new(report)),
        })
    }

    /// How they are.
    pub fn report(&self) -> BackupReport {
        self.reported().clone()
    }

    pub(super) fn reported(&self) -> MutexGuard<'_, BackupReport> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where they go.
    pub fn target(&self) -> &Target {
        &self.plan.target
    }

    /// What is there of this node, oldest first, and the manifests that are not to be believed, with
    /// the reason.
    pub async fn list(&self) -> Result<(Vec<Manifest>, Vec<(String, String)>), BackupError> {
        Ok(self.cache.all().boxed().await?)
    }

    /// Makes them until stopped, once the node `is_ready`: what a node that lost its disk has before it
    /// has caught up must not become the newest backup. A store that fails delays nothing else, and is
    /// tried again.
    pub async fn run(self, is_ready: impl Fn() -> bool, stop: CancellationToken, task: TaskStatus) {
        task.set_state("waiting for the first catch-up");
        let mut ticks = interval(limits::FIRST_CATCH_UP_POLL);
        while !is_ready() {
            if stop.run_until_cancelled(ticks.tick()).await.is_none() {
                return;
            }
        }
        let every = match self.plan.sync_interval {
            Duration::ZERO => self.plan.interval.min(limits::BACKUP_CHECK_INTERVAL),
            every => every,
        };
        // Each attempt at a full one reads everything, so a store that is gone is not asked at that pace.
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
            let Some(outcome) = stop.run_until_cancelled(self.make_for(Wish::Clock)).await else { return };
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

    /// Makes one now, a full one if that is asked for; otherwise what is due, which may be nothing.
    /// One at a time; a second one waits for the first.
    pub async fn make(&self, kind: Option<Kind>) -> Result<Option<Manifest>, BackupError> {
        self.make_for(Wish::Operator(kind)).await
    }

    async fn make_for(&self, wish: Wish) -> Result<Option<Manifest>, BackupError> {
        let turn = Arc::new(Arc::clone(&self.turn).lock_owned().await);
        let began = Instant::now();
        let made = match timeout(limits::BACKUP_RUN_TIMEOUT, self.attempt(wish, &turn).boxed()).await {
            Ok(made) => made,
            Err(_) => Err(BackupError::Late),
        };
        self.tell(&made, began.elapsed());
        // What expires is nothing that the next backup waits for.
        drop(turn);
        if let Ok(Some(Manifest { kind: Kind::Full, .. })) = &made {
            self.expire().boxed().await;
        }
        made
    }

    fn tell(&self, made: &Result<Option<Manifest>, BackupError>, took: Duration) {
        let mut report = self.reported();
        match made {
            Ok(Some(manifest)) => {
                metrics::histogram!(names::BACKUP_DURATION).record(took.as_secs_f64());
                let bytes: u64 = manifest.parts.iter().map(|part| part.bytes).sum();
                metrics::counter!(names::BACKUP_BYTES).increment(bytes);
                metrics::gauge!(names::BACKUP_LAST_SUCCESS).set(manifest.created_at_unix_ms as f64 / 1000.0);
                if !report.last_error.is_empty() {
                    tracing::info!("backups are made again");
                }
                report.last_key.clone_from(&manifest.key);
                report.last_success_unix_ms = manifest.created_at_unix_ms;
                report.last_error.clear();
            }
            Ok(None) => report.last_error.clear(),
            Err(error) => {
                metrics::counter!(names::BACKUP_FAILURES).increment(1);
                if report.last_error.is_empty() {
                    tracing::error!(%error, "a backup was not made; trying again");
                }
                report.last_error = bounded(&error.to_string());
                report.failures += 1;
            }
        }
    }

    async fn attempt(&self, wish: Wish, turn: &Turn) -> Result<Option<Manifest>, BackupError> {
        let by_clock = wish == Wish::Clock;
        if by_clock && self.store.applied().is_empty() {
            // Nothing, made by a node that lost everything, would be the newest backup. Whether the place
            // can be reached is told all the same.
            self.plan.target.prepare().await?;
            return Ok(None);
        }
        let last = Last::load(&self.store).await?.filter(|last| last.place == self.plan.target.place());
        // Backups follow on each other in time, whatever the wall clock does.
        let now_ms = self.store.now_ms().max(last.as_ref().map_or(0, |last| last.at_ms + 1));
        let interval_ms = milliseconds(self.plan.interval);
        let base = last.filter(|last| {
            let is_young = now_ms.saturating_sub(last.full_at_ms) < interval_ms;
            let is_sound = !self.distrusted.load(Ordering::Relaxed);
            // Who is to read the new ones may not be able to read the old ones.
            let is_readable = last.recipients == self.recipients();
            wish != Wish::Operator(Some(Kind::Full))
                && is_readable
                && is_young
                && is_sound
                && last.follows < limits::BACKUP_CHAIN_MAX
        });
        if let Some(base) = base {
            let since = base.since()?;
            if since.applied.covers(&self.store.applied()) && since.unlogged == self.store.unlogged().await? {
                return Ok(None);
            }
            if by_clock && self.plan.sync_interval.is_zero() {
                return Ok(None);
            }
            let gap_ms = milliseconds(limits::BACKUP_FULL_GAP);
            let rests = by_clock && now_ms.saturating_sub(base.full_at_ms) < gap_ms;
            match self.plan.target.head(&base.key).await {
                Ok(_) => match self.one(now_ms, Some(&base), turn).await {
                    // Everything again, but not at every step of a resync.
                    Err(BackupError::Store(StoreError::BelowFloor { .. } | StoreError::NotInLog))
                        if rests =>
                    {
                        return Ok(None);
                    }
                    Err(BackupError::Store(StoreError::BelowFloor { .. } | StoreError::NotInLog)) => {}
                    other => return other.map(Some),
                },
                Err(error) if error.is_not_found() => {
                    tracing::warn!(
                        key = base.key,
                        "the last backup is not there any more: everything is backed up again"
                    );
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.prepare().await?;
        let made = self.one(now_ms, None, turn).await?;
        self.distrusted.store(false, Ordering::Relaxed);
        Ok(Some(made))
    }

    /// Sees that the place is there before everything is read for it, and frees what attempts have left
    /// there that were killed.
    async fn prepare(&self) -> Result<(), BackupError> {
        self.plan.target.prepare().await?;
        if let Err(error) = self.plan.target.abort_unfinished(limits::BACKUP_RUN_TIMEOUT).await {
            tracing::warn!(%error, "what unfinished uploads have left in the store was not freed");
        }
        Ok(())
    }

    async fn one(&self, at_ms: u64, base: Option<&Last>, turn: &Turn) -> Result<Manifest, BackupError> {
        let span = spans::backup();
        let made = self.upload(at_ms, base, turn).instrument(span.clone()).await;
        spans::end(&span, made.is_ok());
        made
    }

    async fn upload(&self, at_ms: u64, base: Option<&Last>, turn: &Turn) -> Result<Manifest, BackupError> {
        let since = base.map(Last::since).transpose()?;
        let (store, plan, held) = (self.store.clone(), Arc::clone(&self.plan), Arc::clone(turn));
        let cancelled = CancellationToken::new();
        let _ends_with_this = cancelled.clone().drop_guard();
        let written = spawn_blocking(move || {
            let _held = held;
            let recipients = plan.recipients.clone();
            frames::write_parts(&store, &plan.staging, recipients, since.as_ref(), &cancelled)
        });
        let (dumped, staged) = written.await.map_err(|_| BackupError::Stopping)??;
        let stem = stem(self.store.node_id().as_str(), at_ms, base.is_some());
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
        Last::of(names, at_ms, base, &dumped, self.recipients()).keep(&self.store).await?;
        if !self.plan.sync_interval.is_zero() {
            self.store.keep_for_backup(Some(dumped.applied()));
        }
        self.cache.add(manifest.clone());
        tracing::info!(key = manifest.key, parts = manifest.parts.len(), "made a backup");
        let (staging, held) = (self.plan.staging.clone(), Arc::clone(turn));
        // What is left over is removed before the next backup.
        let _ = spawn_blocking(move || {
            let _held = held;
            frames::remove(&staging)
        })
        .await;
        Ok(manifest)
    }

    /// Whom backups are encrypted to, in order.
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
        base: Option<&Last>,
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
            previous: base.map(|last| Previous { key: last.key.clone(), sha256: last.sha256.clone() }),
            full: base.map(|last| last.full.clone()),
            public_key: manifest::public_key(&self.signer),
        }
    }

    /// Removes what need not be kept any more. The backup that was just made stands, whatever becomes
    /// of this.
    async fn expire(&self) {
        let now_ms = self.store.now_ms();
        let expired =
            timeout(limits::OBJECT_SCAN_TIMEOUT, self.cache.expire(&self.plan.retention, now_ms)).await;
        let Ok(expired) = expired else {
            tracing::warn!("removing expired backups took too long; going on after the next full one");
            return;
        };
        match expired {
            Ok(removed) if removed.is_empty() => {}
            Ok(removed) => tracing::info!(backups = removed.len(), "removed backups that had expired"),
            Err(error) => {
                tracing::warn!(%error, "backups that have expired were not removed; trying again later");
                self.reported().last_error = bounded(&format!("old backups were not removed: {error}"));
            }
        }
    }
}

/// `node/2026/11/22/2026-11-22T07:40:00.123Z-full-1f3a`: the end is random, so that no attempt ever
/// writes over what another one has left, whatever the clock says.
fn stem(node_id: &str, at_ms: u64, incremental: bool) -> String {
    let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at_ms) * 1_000_000)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (year, month, day) = (moment.year(), u8::from(moment.month()), moment.day());
    let (hour, minute, second) = moment.time().as_hms();
    let millisecond = moment.millisecond();
    let kind = if incremental { "incremental" } else { "full" };
    let attempt: u16 = rand::random();
    // Fixed width, so that keys sort by time.
    format!(
        "{node_id}/{year:04}/{month:02}/{day:02}/\
         {year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z-{kind}-{attempt:04x}"
    )
}

/// Reads a time as people write it: RFC 3339.
pub fn parse_time_ms(text: &str) -> Option<u64> {
    let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    u64::try_from(moment.unix_timestamp_nanos() / 1_000_000).ok()
}
