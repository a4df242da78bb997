//! The handle of the store: open, submit, watch, close. Changes are in `change`, reads in `read`.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    thread,
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::{
    sync::{Mutex as AsyncMutex, Semaphore, mpsc, oneshot, watch},
    task::spawn_blocking,
};

use super::{
    change::{Reply, Weight},
    database::Database,
    error::{OpenError, StoreError},
    heads::Heads,
    marks::Needed,
    open::{self, Mint},
    place::Place,
    published::{Published, Raised, Totals},
    receipts::Bundles,
    rollback::Claims,
    signing::{Identity, Signer},
    superblock::{self, Superblock},
    writer::{Command, Order, Writer},
};
use crate::runtime::{alarms::Alarms, retry::RetryPolicy};
use brock_core::{
    base::{
        id::{Incarnations, NodeId, Origin},
        limits,
        time::WallClock,
        vector::{Clock, Vector},
    },
    domain::birth::Birth,
};

/// What a store is opened with.
#[derive(Debug, Clone)]
pub struct Options {
    /// The node whose store it is.
    pub node_id: NodeId,
    /// The storage directory; `None` = in RAM only.
    pub path: Option<PathBuf>,
    /// Whether empty storage is expected.
    pub first_start: bool,
    /// The size of RocksDB's block cache.
    pub cache_bytes: usize,
    /// The size of RocksDB's memtables: what is written but not yet in files.
    pub memtables_bytes: usize,
    /// Files that RocksDB keeps open.
    pub files_open: usize,
    /// How long an expired record stays on disk.
    pub expiry_margin: Duration,
    /// The delay before a refused write is tried again, if more than `conflict_min`.
    pub conflict_delay: Duration,
    /// The shortest delay before a refused write is tried again.
    pub conflict_min: Duration,
    /// For how long a refused write is tried again.
    pub conflict_max: Duration,
    /// Where the time comes from.
    pub wall_clock: WallClock,
    /// Takes the store's alarms.
    pub alarms: Alarms,
    /// Where incarnations come from.
    pub incarnations: Incarnations,
    /// Signs the births of incarnations; `None`: operations are not signed.
    pub identity: Option<Arc<dyn Identity>>,
}

impl Options {
    /// A store in RAM with the defaults.
    pub fn ram(node_id: NodeId) -> Self {
        let wall_clock = WallClock::system();
        Self {
            node_id,
            path: None,
            first_start: true,
            cache_bytes: 64 * 1024 * 1024,
            memtables_bytes: limits::MEMTABLES_BYTES,
            files_open: limits::DATABASE_FILES_OPEN,
            expiry_margin: Duration::from_secs(3600),
            conflict_delay: Duration::ZERO,
            conflict_min: Duration::from_millis(100),
            conflict_max: Duration::from_secs(300),
            alarms: Alarms::new(wall_clock.clone()),
            wall_clock,
            incarnations: Incarnations::random(),
            identity: None,
        }
    }
}

/// Whether the store takes writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It does.
    Well,
    /// It does not for now, for this reason; it resumes by itself.
    WritesRefused(String),
    /// The same, because the file system is mounted read-only.
    ReadOnly(String),
    /// A write failed: the process must be restarted.
    Stopped(String),
    /// The directory was removed, moved or replaced: no write is accepted any more. What was acknowledged
    /// may be on no disk; peers can still replicate it from here.
    Lost(String),
}

/// What the handle, the readers and the writer share.
pub(super) struct Shared {
    pub database: Database,
    pub node_id: NodeId,
    pub health: watch::Sender<Health>,
    pub expiry_margin_seconds: i64,
    pub wall_clock: WallClock,
    pub mint: Mint,
    pub(super) directory: Option<PathBuf>,
    /// `None` = in RAM.
    pub(super) place: Option<Place>,
    origin: ArcSwap<Origin>,
    /// Signs for the present incarnation; `None` = this node does not sign.
    signer: ArcSwapOption<Signer>,
    /// The newest bundles of its log.
    pub(super) bundles: Mutex<Bundles>,
    pub(super) heads: Mutex<Heads>,
    /// Why the present incarnation began.
    reason: ArcSwap<&'static str>,
    /// What is durable and may be served. Only the writer raises it, after its fsync.
    published: RwLock<Published>,
    /// Counts commits, so that followers wake up.
    commits: watch::Sender<u64>,
    pub(super) alarms: Alarms,
    /// See [`Store::keep_for_backup`].
    pub(super) kept_for_backup: Mutex<Option<Vector>>,
    /// Of peers, to know more of this node's operations than it does.
    pub(super) claims: Mutex<Claims>,
    /// Held while the log of a frozen origin is removed.
    pub(super) removing: AsyncMutex<()>,
    pub(super) needed: Needed,
    _ram: Option<tempfile::TempDir>,
}

impl Shared {
    pub(super) fn published(&self) -> RwLockReadGuard<'_, Published> {
        self.published.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn published_mut(&self) -> RwLockWriteGuard<'_, Published> {
        self.published.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The log has no entries of the origin at or below this clock.
    pub(super) fn floor(&self, origin: &Origin) -> Clock {
        self.published().floor(origin)
    }

    pub(super) fn raise_floors(&self, floors: &Vector) {
        if !floors.is_empty() {
            self.published_mut().floors.join(floors);
        }
    }

    /// After a write that failed: the entries are still there.
    pub(super) fn restore_floors(&self, floors: &Vector) {
        self.published_mut().floors.clone_from(floors);
    }

    pub(super) fn publish(&self, raised: &Raised, totals: Totals) {
        self.add_own_bundles(&raised.own_bundles);
        self.published_mut().raise(raised, totals);
        self.commits.send_modify(|commits| *commits += 1);
    }

    /// Whether an origin signs its operations.
    pub(super) fn signs(&self, origin: &Origin) -> bool {
        self.published().births.contains_key(origin)
    }

    pub(super) fn add_birth(&self, origin: Origin, birth: Birth) {
        self.published_mut().births.insert(origin, birth);
    }

    pub(super) fn origin(&self) -> Origin {
        **self.origin.load()
    }

    pub(super) fn signer(&self) -> Option<Arc<Signer>> {
        self.signer.load_full()
    }

    pub(super) fn set_origin(&self, (origin, signer): (Origin, Option<Arc<Signer>>), reason: &'static str) {
        self.reason.store(Arc::new(reason));
        self.origin.store(Arc::new(origin));
        self.signer.store(signer);
    }
}

/// A node's records and replication log. Cheap to clone; closed with [`Store::close`].
#[derive(Clone)]
pub struct Store {
    pub(super) shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
    room: Arc<Semaphore>,
    writer: Arc<Mutex<Option<thread::JoinHandle<()>>>>,
}

const ROOM_UNIT_BYTES: usize = 1024;

impl Store {
    /// Opens or creates the storage and starts the writer. Blocks.
    pub fn open(options: &Options) -> Result<Self, OpenError> {
        let opened = open::open(options)?;
        let damaged = |error: StoreError| OpenError::Database {
            path: options.path.clone().unwrap_or_default(),
            reason: error.to_string(),
        };
        let mint = Mint::new(options);
        let published = opened.database.view().published().map_err(damaged)?;
        let signer = opened.signer.map(Arc::new);
        let (commits, health) = (watch::Sender::new(0), watch::Sender::new(Health::Well));
        let shared = Arc::new(Shared {
            database: opened.database,
            node_id: options.node_id.clone(),
            health,
            expiry_margin_seconds: i64::try_from(options.expiry_margin.as_secs()).unwrap_or(i64::MAX),
            wall_clock: options.wall_clock.clone(),
            mint,
            directory: options.path.clone(),
            place: opened.place,
            origin: ArcSwap::from_pointee(opened.origin),
            signer: ArcSwapOption::new(signer.clone()),
            bundles: Mutex::default(),
            heads: Mutex::default(),
            published: RwLock::new(published.clone()),
            reason: ArcSwap::from_pointee(opened.reason),
            commits,
            alarms: options.alarms.clone(),
            kept_for_backup: Mutex::default(),
            claims: Mutex::default(),
            removing: AsyncMutex::default(),
            needed: Needed::default(),
            _ram: opened._ram,
        });
        let (commands, queue) = mpsc::channel(limits::WRITE_QUEUE_COMMANDS);
        let retry = retry_policy(options.conflict_delay, options.conflict_min, options.conflict_max);
        let writer = Writer::new(Arc::clone(&shared), retry, (opened.origin, signer), published);
        let thread = thread::Builder::new().name("brock-writer".to_owned()).spawn(move || writer.run(queue));
        let thread = thread.map_err(|source| OpenError::Io {
            action: "cannot start the writer thread of",
            path: options.path.clone().unwrap_or_default(),
            source,
        })?;
        let store = Self {
            shared,
            commands,
            room: Arc::new(Semaphore::new(limits::WRITE_QUEUE_BYTES / ROOM_UNIT_BYTES)),
            writer: Arc::new(Mutex::new(Some(thread))),
        };
        opened.alarms.into_iter().for_each(|alarm| options.alarms.raise(alarm));
        Ok(store)
    }

    /// Gives an order to the writer and waits for its answer.
    pub(super) async fn ask<T>(&self, order: impl FnOnce(Reply<T>) -> Order) -> Result<T, StoreError> {
        let (to, answer) = oneshot::channel();
        self.send(order(to)).await?;
        answer.await.unwrap_or_else(|_| Err(closed()))
    }

    async fn send(&self, order: Order) -> Result<(), StoreError> {
        let Weight { bytes, .. } = order.weight();
        let units = (bytes / ROOM_UNIT_BYTES + 1).min(limits::WRITE_QUEUE_BYTES / ROOM_UNIT_BYTES);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        if let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(units)
            && let Ok(slot) = self.commands.try_reserve()
        {
            slot.send(Command { order, _room: Some(room) });
            return Ok(());
        }
        let admit = async {
            let room = Arc::clone(&self.room).acquire_many_owned(units).await.map_err(|_| closed())?;
            let slot = self.commands.reserve().await.map_err(|_| closed())?;
            slot.send(Command { order, _room: Some(room) });
            Ok(())
        };
        tokio::time::timeout(limits::WRITE_ADMISSION_TIMEOUT, admit)
            .await
            .unwrap_or(Err(StoreError::QueueFull))
    }

    /// Runs a read that may need the disk. RocksDB blocks, so such reads leave the async runtime here,
    /// and nowhere else.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Shared) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = Arc::clone(&self.shared);
        match spawn_blocking(move || read(&shared)).await {
            Ok(result) => result,
            Err(_) => Err(StoreError::Read("the runtime is shutting down".to_owned())),
        }
    }

    /// Goes on as a new incarnation, for a `reason` of [`INCARNATION_REASONS`](brock_core::base::metrics). Durable when
    /// it returns.
    pub async fn go_on(&self, reason: &'static str) -> Result<Origin, StoreError> {
        self.ask(|to| Order::NewIncarnation(reason, to)).await
    }

    /// This node's origin: its id and its present incarnation.
    pub fn origin(&self) -> Origin {
        self.shared.origin()
    }

    /// The node whose store it is.
    pub fn node_id(&self) -> &NodeId {
        &self.shared.node_id
    }

    /// Why the present incarnation began.
    pub fn incarnation_reason(&self) -> &'static str {
        **self.shared.reason.load()
    }

    /// What is applied here, durable and visible. Folded origins are not listed.
    pub fn vector(&self) -> Vector {
        self.shared.published().vector.clone()
    }

    /// What is applied here, folded origins included.
    pub fn applied(&self) -> Vector {
        self.shared.published().applied()
    }

    /// The origins that are folded away, with their last clocks.
    pub fn folds(&self) -> Vector {
        self.shared.published().folds.clone()
    }

    /// How far the log is compacted.
    pub fn floors(&self) -> Vector {
        self.shared.published().floors.clone()
    }

    /// Tombstones of what was created up to here may have been collected; empty = none ever was.
    pub fn collected(&self) -> Vector {
        self.shared.published().collected.clone()
    }

    /// The highest clock of one origin that is durable and visible, folded or not.
    pub fn clock(&self, origin: &Origin) -> Clock {
        self.shared.published().clock(origin)
    }

    /// What is visible here above `other`.
    pub fn above(&self, other: &Vector) -> Vector {
        self.shared.published().vector.above(other)
    }

    /// What an origin has stated of itself, with the key of its bundles; `None`: as far as is known here, it does not
    /// sign.
    pub fn born(&self, origin: &Origin) -> Option<Birth> {
        self.shared.published().births.get(origin).copied()
    }

    /// How many origins are known here, folded ones included, that have no birth.
    pub fn unborn(&self) -> usize {
        let published = self.shared.published();
        let known = published.vector.iter().chain(published.folds.iter());
        known.filter(|(origin, _)| !published.births.contains_key(origin)).count()
    }

    /// This node's certificate, as it signs births and verifies them.
    pub fn identity(&self) -> Option<Arc<dyn Identity>> {
        self.shared.mint.identity()
    }

    /// The part of a peer's claim about what it has applied that is kept: of the origins that are known here
    /// everything, and of others so many that `held`, what is kept of it already, does not outgrow what is known
    /// here by more than [`limits::UNKNOWN_ORIGINS_KEPT`]. To leave an origin out is to know less of the peer, which
    /// is always safe: it is sent what it has, and waited for. A frozen origin is left out.
    pub fn relevant(&self, claim: Vector, held: usize) -> Vector {
        let claim = self.without_frozen(claim);
        let published = self.shared.published();
        let (vector, folds) = (&published.vector, &published.folds);
        let room = (vector.len() + folds.len() + limits::UNKNOWN_ORIGINS_KEPT).saturating_sub(held);
        if claim.len() <= room {
            return claim;
        }
        let is_known = |origin: &Origin| vector.lists(origin) || folds.lists(origin);
        let (known, unknown): (Vec<_>, Vec<_>) = claim.iter().partition(|(origin, _)| is_known(origin));
        let left = room.saturating_sub(known.len());
        known.into_iter().chain(unknown.into_iter().take(left)).collect()
    }

    /// Changes with every commit that raises the vector.
    pub fn commits(&self) -> watch::Receiver<u64> {
        self.shared.commits.subscribe()
    }

    /// Whether the store takes writes.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.shared.health.subscribe()
    }

    /// Totals.
    pub fn totals(&self) -> Totals {
        self.shared.published().totals
    }

    /// Records that are not deleted.
    pub fn records(&self) -> u64 {
        self.totals().records
    }

    /// Entries in quarantine.
    pub fn quarantined(&self) -> u64 {
        self.totals().quarantined
    }

    /// Payloads that lost against another one of the same key hash.
    pub fn conflicts(&self) -> u64 {
        self.totals().conflicts
    }

    /// Checks now whether the disk can be written: it has room, and the directory is in its place. An error
    /// is the reason for which writes are refused.
    pub async fn check_disk(&self) -> Result<(), StoreError> {
        self.ask(Order::CheckDisk).await
    }

    /// Brings the superblock up to date while running. Blocks.
    pub fn checkpoint(&self) -> Result<(), OpenError> {
        self.write_superblock(false)
    }

    fn write_superblock(&self, clean: bool) -> Result<(), OpenError> {
        let Some(directory) = &self.shared.directory else { return Ok(()) };
        // It must not be written to another directory, which would then pass for this node's.
        if let Some(lost) = self.shared.place.as_ref().and_then(Place::lost) {
            return Err(OpenError::Lost(lost));
        }
        let superblock = Superblock {
            node_id: self.shared.node_id.clone(),
            incarnation: self.origin().incarnation(),
            clean,
            heads: self.vector(),
        };
        superblock::write(directory, &superblock)
    }

    /// Finishes what is queued, flushes, and marks the storage as cleanly closed. Blocks. Later
    /// writes answer that the store has stopped.
    pub fn close(&self) -> Result<(), OpenError> {
        let Some(writer) = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return Ok(());
        };
        self.room.close();
        // The queue is bounded and the writer drains it, so this waits for a moment at most. A writer
        // that has ended already takes nothing more.
        let _ = self.commands.blocking_send(Command { order: Order::Stop, _room: None });
        let _ = writer.join();
        match &*self.shared.health.borrow() {
            Health::Lost(reason) => return Err(OpenError::Lost(reason.clone())),
            Health::Stopped(reason) => {
                // What is on disk is unknown: the next start must treat this as an unclean stop.
                let path = self.shared.directory.clone().unwrap_or_default();
                return Err(OpenError::Database { path, reason: format!("the store had stopped: {reason}") });
            }
            Health::Well | Health::WritesRefused(_) | Health::ReadOnly(_) => {}
        }
        if self.shared.directory.is_none() {
            // There is nothing to keep, and RocksDB cannot sync a log that is not a file.
            return Ok(());
        }
        self.shared.database.flush().map_err(|reason| OpenError::Database {
            path: self.shared.directory.clone().unwrap_or_default(),
            reason,
        })?;
        self.write_superblock(true)
    }
}

fn closed() -> StoreError {
    StoreError::Stopped("it was closed".to_owned())
}

/// The policy of the settings `node.conflict-backoff.*`.
fn retry_policy(delay: Duration, min: Duration, max: Duration) -> RetryPolicy {
    RetryPolicy {
        first_delay: delay.max(min),
        max_delay: max.min(Duration::from_secs(10)).max(min),
        max_elapsed: Some(max),
    }
}
