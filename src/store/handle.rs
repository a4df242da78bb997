//! The surface of the store: open, write, watch, close. Reads are in `reader`.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::{
    boot,
    database::{Database, Totals},
    error::{OpenError, StoreError},
    request::{CreateOutcome, NewOperation, NewRecord, OperationOutcome},
    superblock::{self, Superblock},
    visible::{Raised, Visible},
    writer::{self, Change, Command, Reply, Writer},
};
use crate::runtime::{alarms::Alarms, retry::RetryPolicy};
use brock_core::{
    base::{
        id::{Incarnations, NodeId, Origin},
        limits,
        time::WallClock,
        vector::{Clock, Vector},
    },
    domain::{record::UnixSeconds, segment::Segment},
};

/// What a store needs to know.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whose store it is.
    pub node_id: NodeId,
    /// Where the data lies; `None` = in RAM only.
    pub path: Option<PathBuf>,
    /// Whether empty storage is expected.
    pub first_start: bool,
    /// The size of RocksDB's block cache.
    pub cache_bytes: usize,
    /// The size of what is written but not yet in tables.
    pub memtables_bytes: usize,
    /// How long an expired record stays on disk.
    pub expiry_margin: Duration,
    /// The delay before a write is tried again, if more than `conflict_min`.
    pub conflict_delay: Duration,
    /// The shortest delay before a write is tried again.
    pub conflict_min: Duration,
    /// For how long a write is tried again.
    pub conflict_max: Duration,
    /// Where the time comes from.
    pub wall_clock: WallClock,
    /// Where incarnations come from.
    pub incarnations: Incarnations,
}

impl Options {
    /// A store in RAM with the defaults.
    pub fn ram(node_id: NodeId) -> Self {
        Self {
            node_id,
            path: None,
            first_start: true,
            cache_bytes: 64 * 1024 * 1024,
            memtables_bytes: limits::MEMTABLES_BYTES,
            expiry_margin: Duration::from_secs(3600),
            conflict_delay: Duration::ZERO,
            conflict_min: Duration::from_millis(100),
            conflict_max: Duration::from_secs(300),
            wall_clock: WallClock::system(),
            incarnations: Incarnations::random(),
        }
    }
}

/// Whether the store takes writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It does.
    Well,
    /// It does not for now, and why; it will again by itself.
    WritesRefused(String),
    /// A write failed: the process must be restarted.
    Stopped(String),
}

/// What the store uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StorageUse {
    /// Bytes in files.
    pub sst_bytes: u64,
    /// Bytes in memory that are not yet in files.
    pub memtable_bytes: u64,
    /// Bytes of cached blocks.
    pub block_cache_bytes: u64,
    /// The file system where it lies; `None` if that cannot be told, or it is in RAM.
    pub disk: Option<DiskSpace>,
}

/// How much room a file system has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskSpace {
    /// Bytes that this process may still use.
    pub free_bytes: u64,
    /// Its size.
    pub total_bytes: u64,
}

/// What the handle, the readers and the writer share.
pub(super) struct Shared {
    pub database: Database,
    pub node_id: NodeId,
    pub health: watch::Sender<Health>,
    pub expiry_margin_seconds: i64,
    pub wall_clock: WallClock,
    pub incarnations: Incarnations,
    pub(super) directory: Option<PathBuf>,
    origin: ArcSwap<Origin>,
    /// Why the present incarnation began.
    reason: ArcSwap<&'static str>,
    /// Whether the operator was told that peers have more of this node's earlier operations.
    has_noted_rollback: AtomicBool,
    /// What is durable and may be served. Raised by the writer alone, after its fsync.
    visible: RwLock<Visible>,
    /// Counts commits, so that followers wake.
    commits: watch::Sender<u64>,
    alarms: Alarms,
    /// See [`Store::keep_for_backup`].
    pub(super) kept_for_backup: Mutex<Option<Vector>>,
    _ram: Option<tempfile::TempDir>,
}

impl Shared {
    pub(super) fn visible(&self) -> RwLockReadGuard<'_, Visible> {
        self.visible.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn visible_mut(&self) -> RwLockWriteGuard<'_, Visible> {
        self.visible.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// At or below this clock nothing of the origin is left in the log.
    pub(super) fn floor(&self, origin: &Origin) -> Clock {
        self.visible().floor(origin)
    }

    pub(super) fn raise_floors(&self, floors: &Vector) {
        if !floors.is_empty() {
            self.visible_mut().floors.join(floors);
        }
    }

    /// After a write that failed: the entries are still there.
    pub(super) fn restore_floors(&self, floors: &Vector) {
        self.visible_mut().floors.clone_from(floors);
    }

    pub(super) fn publish(&self, raised: &Raised, counters: Totals) {
        self.visible_mut().raise(raised, counters);
        self.commits.send_modify(|commits| *commits += 1);
    }

    pub(super) fn origin(&self) -> Origin {
        **self.origin.load()
    }

    pub(super) fn set_origin(&self, origin: Origin, reason: &'static str) {
        self.reason.store(Arc::new(reason));
        self.origin.store(Arc::new(origin));
    }

    /// The room where the data lies; `None` if that cannot be told.
    pub(super) fn disk(&self) -> Option<DiskSpace> {
        let stat = rustix::fs::statvfs(self.directory.as_ref()?).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Some(DiskSpace { free_bytes: bytes(stat.f_bavail), total_bytes: bytes(stat.f_blocks) })
    }
}

/// A node's records and replication log. Cheap to clone; closed with [`Store::close`].
#[derive(Clone)]
pub struct Store {
    pub(super) shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
    room: Arc<Semaphore>,
    writer: Arc<Mutex<Option<thread::JoinHandle<()>>>>,
    last_rollback: Arc<Mutex<Option<Instant>>>,
}

const ROOM_UNIT_BYTES: usize = 1024;

impl Store {
    /// Opens or creates the storage and starts the writer. Blocks.
    pub fn open(options: &Options) -> Result<Self, OpenError> {
        let booted = boot::open(options)?;
        let damaged = |error: StoreError| OpenError::Database {
            path: options.path.clone().unwrap_or_default(),
            reason: error.to_string(),
        };
        let visible = Visible::load(&booted.database).map_err(damaged)?;
        let (commits, health) = (watch::Sender::new(0), watch::Sender::new(Health::Well));
        let shared = Arc::new(Shared {
            database: booted.database,
            node_id: options.node_id.clone(),
            health,
            expiry_margin_seconds: i64::try_from(options.expiry_margin.as_secs()).unwrap_or(i64::MAX),
            wall_clock: options.wall_clock.clone(),
            incarnations: options.incarnations.clone(),
            directory: options.path.clone(),
            origin: ArcSwap::from_pointee(booted.origin),
            visible: RwLock::new(visible.clone()),
            reason: ArcSwap::from_pointee(booted.reason),
            has_noted_rollback: AtomicBool::new(false),
            commits,
            alarms: Alarms::default(),
            kept_for_backup: Mutex::default(),
            _ram: booted._ram,
        });
        let (commands, queue) = mpsc::channel(limits::WRITE_QUEUE_COMMANDS);
        let retry = retry_policy(options.conflict_delay, options.conflict_min, options.conflict_max);
        let writer = Writer::new(Arc::clone(&shared), retry, booted.origin, visible);
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
            last_rollback: Arc::default(),
        };
        booted.alarms.into_iter().for_each(|alarm| store.alarm(alarm));
        Ok(store)
    }

    /// Creates records. Durable when it returns; each record has its own outcome, in order.
    pub async fn create(&self, records: Vec<NewRecord>) -> Result<Vec<CreateOutcome>, StoreError> {
        self.change(|to| Change::Create(records, to)).await
    }

    /// Invalidates, unpublishes or deletes a record. Durable when it returns.
    pub async fn operate(&self, operation: NewOperation) -> Result<OperationOutcome, StoreError> {
        self.change(|to| Change::Operate(operation, to)).await
    }

    /// Merges a segment of a peer's log. Durable when it returns. Idempotent. Returns up to where the
    /// origin had been applied before: what lies above is new here.
    pub async fn apply(&self, segment: Segment) -> Result<Clock, StoreError> {
        self.change(|to| Change::Apply(segment, to)).await
    }

    /// Removes some of the records that were expired, plus the margin, at `now`. Returns how many
    /// index entries were dealt with: 0 = nothing left to do.
    pub async fn sweep(&self, now: UnixSeconds) -> Result<usize, StoreError> {
        self.change(|to| Change::Sweep(now, to)).await
    }

    /// A peer knows operations of this node's own origin up to `theirs`, more than this node has:
    /// the storage was rolled back. Goes on under a new incarnation at once, so that no clock is
    /// used twice; what was lost comes back from the peer as any other origin's. At most one per
    /// [`limits::ROLLBACK_MINT_INTERVAL`], so that a lying peer cannot mint without end.
    pub async fn rolled_back(&self, theirs: Clock) -> Result<(), StoreError> {
        let origin = self.origin();
        let ours = self.clock(&origin);
        if theirs <= ours {
            return Ok(());
        }
        {
            let mut last = self.last_rollback.lock().unwrap_or_else(PoisonError::into_inner);
            if last.is_some_and(|at| at.elapsed() < limits::ROLLBACK_MINT_INTERVAL) {
                return Err(StoreError::RolledBack { origin, theirs, ours });
            }
            *last = Some(Instant::now());
        }
        let fresh = self.change(|to| Change::NewIncarnation("rolled_back", to)).await?;
        self.alarm(format!(
            "a peer has operations of {origin} up to {theirs}, but this storage ends at {ours}: it was rolled back \
             or has lost data. This node goes on as {fresh}; what is missing comes back from the peers"
        ));
        Ok(())
    }

    /// Checks what a peer has applied against this node's own operations. If the peer has more of them, the
    /// storage was rolled back. Operations of the current incarnation: the node mints another one at once.
    /// Operations of earlier ones: the node raises an alarm, and they come back from the peers.
    pub async fn check_rollback(&self, theirs: &Vector) -> Result<(), StoreError> {
        let own = self.origin();
        let missing = {
            let visible = self.shared.visible();
            let earlier = theirs.iter().filter(|(origin, _)| origin.is_of(self.node_id()) && *origin != own);
            earlier
                .map(|(origin, clock)| clock.0.saturating_sub(visible.clock(&origin).0))
                .fold(0, u64::saturating_add)
        };
        if missing > 0 && !self.shared.has_noted_rollback.swap(true, Ordering::Relaxed) {
            self.alarm(format!(
                "peers have {missing} operations that this node made in earlier lives and that its storage lacks: it was \
                 rolled back to an old copy, or has lost data. They come back from the peers by themselves"
            ));
        }
        self.rolled_back(theirs.get(&own)).await
    }

    async fn send(&self, change: Change) -> Result<(), StoreError> {
        let (_, bytes) = writer::weight(&change);
        let units = (bytes / ROOM_UNIT_BYTES + 1).min(limits::WRITE_QUEUE_BYTES / ROOM_UNIT_BYTES);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        let closed = || StoreError::Stopped("it was closed".to_owned());
        if let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(units)
            && let Ok(slot) = self.commands.try_reserve()
        {
            slot.send(Command { change, _room: Some(room) });
            return Ok(());
        }
        let admit = async {
            let room = Arc::clone(&self.room).acquire_many_owned(units).await.map_err(|_| closed())?;
            let slot = self.commands.reserve().await.map_err(|_| closed())?;
            slot.send(Command { change, _room: Some(room) });
            Ok(())
        };
        tokio::time::timeout(limits::WRITE_ADMISSION_TIMEOUT, admit)
            .await
            .unwrap_or(Err(StoreError::QueueFull))
    }

    /// Sends a change to the writer and waits for its answer.
    pub(super) async fn change<T>(&self, change: impl FnOnce(Reply<T>) -> Change) -> Result<T, StoreError> {
        let (to, answer) = oneshot::channel();
        self.send(change(to)).await?;
        answer.await.unwrap_or_else(|_| Err(StoreError::Stopped("it was closed".to_owned())))
    }

    /// This node's origin: its id and its present incarnation.
    pub fn origin(&self) -> Origin {
        self.shared.origin()
    }

    /// Whose store it is.
    pub fn node_id(&self) -> &NodeId {
        &self.shared.node_id
    }

    /// Why the present incarnation began.
    pub fn incarnation_reason(&self) -> &'static str {
        **self.shared.reason.load()
    }

    /// What is applied here, durable and visible. Folded origins are not listed.
    pub fn vector(&self) -> Vector {
        self.shared.visible().vector.clone()
    }

    /// What is applied here, folded origins included.
    pub fn applied(&self) -> Vector {
        self.shared.visible().applied()
    }

    /// The origins that are folded away, with their last clocks.
    pub fn folds(&self) -> Vector {
        self.shared.visible().folds.clone()
    }

    /// How far the log is compacted.
    pub fn floors(&self) -> Vector {
        self.shared.visible().floors.clone()
    }

    /// Tombstones of what was created up to here may have been collected; empty = none ever was.
    pub fn collected(&self) -> Vector {
        self.shared.visible().collected.clone()
    }

    /// The highest clock of one origin that is durable and visible, folded or not.
    pub fn clock(&self, origin: &Origin) -> Clock {
        self.shared.visible().clock(origin)
    }

    /// What is visible here above `other`.
    pub fn above(&self, other: &Vector) -> Vector {
        self.shared.visible().vector.above(other)
    }

    /// Changes with every commit that raises the vector.
    pub fn commits(&self) -> watch::Receiver<u64> {
        self.shared.commits.subscribe()
    }

    /// Whether the store takes writes.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.shared.health.subscribe()
    }

    /// The time, as this store sees it.
    pub fn now(&self) -> UnixSeconds {
        self.shared.wall_clock.now()
    }

    /// Totals.
    pub fn totals(&self) -> Totals {
        self.shared.visible().counters
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

    /// The same in milliseconds.
    pub fn now_ms(&self) -> u64 {
        self.shared.wall_clock.now_ms()
    }

    /// Tells the operator something, in the log and in the status.
    pub fn alarm(&self, alarm: String) {
        self.shared.alarms.raise(self.now(), alarm);
    }

    /// What the operator was told since the start and has not cleared.
    pub fn alarms(&self) -> &Alarms {
        &self.shared.alarms
    }

    /// Brings the superblock up to date while running. Blocks.
    pub fn checkpoint(&self) -> Result<(), OpenError> {
        self.write_superblock(false)
    }

    fn write_superblock(&self, clean: bool) -> Result<(), OpenError> {
        let Some(directory) = &self.shared.directory else { return Ok(()) };
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
        // The queue is bounded and the writer drains it, so this waits for a moment at most.
        let _ = self.commands.blocking_send(Command { change: Change::Stop, _room: None });
        let _ = writer.join();
        if let Health::Stopped(reason) = &*self.shared.health.borrow() {
            // What is on disk is not known: the next start must treat this as an unclean stop.
            let path = self.shared.directory.clone().unwrap_or_default();
            return Err(OpenError::Database { path, reason: format!("the store had stopped: {reason}") });
        }
        if self.shared.directory.is_none() {
            // In RAM there is nothing to keep, and RocksDB cannot sync a log that is no file.
            return Ok(());
        }
        self.shared.database.flush().map_err(|reason| OpenError::Database {
            path: self.shared.directory.clone().unwrap_or_default(),
            reason,
        })?;
        self.write_superblock(true)
    }
}

/// The policy that `node.conflict-backoff.*` means.
fn retry_policy(delay: Duration, min: Duration, max: Duration) -> RetryPolicy {
    RetryPolicy {
        first_delay: delay.max(min),
        max_delay: max.min(Duration::from_secs(10)).max(min),
        max_elapsed: Some(max),
    }
}
