//! The compactor: when the log is compacted, what goes, and what goes with it.
//!
//! The mode decides when. What may go is decided by the members alone: log entries that every one
//! of them has applied. In the same run, finished incarnations fold away, payloads of deleted
//! records leave the files, and, where that is asked for, tombstones are collected.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use prost::Message;
use tokio::{
    sync::Mutex as AsyncMutex,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use super::sweep;
use crate::{
    membership::{members::Members, roster::Roster},
    runtime::planted::{self, Bug},
    store::{Store, StoreError},
};
use brock_core::{
    base::{limits, vector::Vector},
    domain::{codec, record::UnixSeconds},
    proto,
};
use brock_net::task::TaskStatus;

/// Under which name the marks are kept.
const MARKS: &[u8] = b"marks";

/// What makes the compactor run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Only an operator does.
    Never,
    /// Every change that made something compactable.
    Modified,
    /// Time.
    Timer,
    /// Growth in proportion to what was left the last time.
    Factor,
    /// Growth in bytes.
    Size,
    /// Factor or timer, whichever comes first.
    FactorOrTimer,
    /// Size or timer, whichever comes first.
    SizeOrTimer,
}

/// When to compact.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Policy {
    /// What makes it run.
    pub mode: Mode,
    /// Growth of the log, as a share of what the last run left.
    pub factor: f64,
    /// Growth of the log.
    pub size_bytes: u64,
    /// Between two runs.
    pub timer: Duration,
    /// How long a tombstone is kept at least; `None` = for ever.
    pub tombstone_grace: Option<Duration>,
}

/// How the log has changed since the last run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Growth {
    bytes_then: u64,
    bytes_now: u64,
    elapsed: Duration,
    is_compactable: bool,
}

impl Policy {
    fn is_due(&self, growth: Growth) -> bool {
        let grown = growth.bytes_now.saturating_sub(growth.bytes_then);
        let by_factor = grown >= limits::COMPACT_GROWTH_MIN_BYTES
            && grown as f64 >= self.factor * growth.bytes_then as f64;
        let by_size = grown >= self.size_bytes;
        let by_timer = growth.elapsed >= self.timer;
        match self.mode {
            Mode::Never => false,
            Mode::Modified => growth.is_compactable,
            Mode::Timer => by_timer,
            Mode::Factor => by_factor,
            Mode::Size => by_size,
            Mode::FactorOrTimer => by_factor || by_timer,
            Mode::SizeOrTimer => by_size || by_timer,
        }
    }
}

/// What one run did, and what it left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Log entries that went.
    pub entries_removed: u64,
    /// And their bytes.
    pub bytes_removed: u64,
    /// Payloads of deleted records that are in no file any more.
    pub payloads_removed: u64,
    /// Tombstones that went.
    pub tombstones_collected: u64,
    /// Finished incarnations that vectors do not list any more.
    pub origins_folded: u64,
}

#[derive(Debug, Clone)]
struct LastRun {
    bytes: u64,
    at: Instant,
    /// When all files of the records were last rewritten.
    rewritten_at: Option<Instant>,
}

/// A collection that waits for its moment.
#[derive(Debug, Clone)]
struct Armed {
    /// What every member had acknowledged.
    stable: Vector,
    /// What the members had applied by then: nothing that was concurrent with a delete below
    /// `stable` lies above it.
    known: Vector,
    /// Who they were. When others are members by now, it begins anew.
    members: Vec<String>,
}

#[derive(Debug, Default)]
struct Collection {
    /// What was applied here when, oldest first; `None` = not read from the store yet.
    marks: Option<Vec<(UnixSeconds, Vector)>>,
    armed: Option<Armed>,
}

/// Keeps the log short. Cheap to clone.
#[derive(Clone)]
pub struct Compactor {
    store: Store,
    members: Members,
    policy: Policy,
    last_run: Arc<Mutex<LastRun>>,
    /// Whether the wall clock was in doubt when it was last looked at.
    in_doubt: Arc<AtomicBool>,
    /// Held by the one run at a time.
    collection: Arc<AsyncMutex<Collection>>,
}

impl Compactor {
    /// For this store, with these members.
    pub fn new(store: Store, members: Members, policy: Policy) -> Self {
        let last_run = LastRun { bytes: store.totals().log_bytes, at: Instant::now(), rewritten_at: None };
        let last_run = Arc::new(Mutex::new(last_run));
        Self { store, members, policy, last_run, in_doubt: Arc::default(), collection: Arc::default() }
    }

    /// What every member has applied.
    pub fn stable(&self) -> Vector {
        let applied = self.store.applied();
        if planted::is(Bug::CompactUnstable) {
            return applied;
        }
        self.members.stable(&applied, self.store.now())
    }

    fn last_run(&self) -> LastRun {
        self.last_run.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn is_due(&self) -> bool {
        let last_run = self.last_run();
        let is_compactable = self.policy.mode == Mode::Modified
            && !self.stable().above(&self.store.floors()).above(&self.store.folds()).is_empty();
        self.policy.is_due(Growth {
            bytes_then: last_run.bytes,
            bytes_now: self.store.totals().log_bytes,
            elapsed: last_run.at.elapsed(),
            is_compactable,
        })
    }

    /// Runs when it is due, until stopped. Tombstones are left alone while the clocks are in doubt.
    pub async fn run(self, roster: Roster, stop: CancellationToken, task: TaskStatus) {
        let mut ticks = tokio::time::interval(limits::COMPACT_CHECK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let trust = sweep::ClockTrust::begin(self.store.now());
        loop {
            task.set_state("waiting");
            if stop.run_until_cancelled(ticks.tick()).await.is_none() {
                return;
            }
            let trusted = trust.doubt(self.store.now(), &roster.reports()).is_none();
            self.in_doubt.store(!trusted, Ordering::Relaxed);
            if let Err(error) = self.mark(trusted).await {
                task.set_error(&error.to_string());
            }
            if !self.is_due() {
                continue;
            }
            task.set_state("compacting");
            let outcome = tokio::select! {
                () = stop.cancelled() => return,
                outcome = self.compact_with(trusted, false) => outcome,
            };
            match outcome {
                Ok(outcome) => {
                    task.set_error("");
                    if outcome != Outcome::default() {
                        tracing::info!(
                            entries = outcome.entries_removed,
                            bytes = outcome.bytes_removed,
                            payloads = outcome.payloads_removed,
                            tombstones = outcome.tombstones_collected,
                            origins = outcome.origins_folded,
                            "compacted the log"
                        );
                    }
                }
                Err(error) => task.set_error(&error.to_string()),
            }
        }
    }

    /// Compacts now. One run at a time; a second one waits for the first.
    pub async fn compact(&self, clock_is_trusted: bool) -> Result<Outcome, StoreError> {
        self.compact_with(clock_is_trusted, true).await
    }

    async fn compact_with(&self, clock_is_trusted: bool, is_asked_for: bool) -> Result<Outcome, StoreError> {
        let mut collection = self.collection.lock().await;
        let stable = match is_asked_for {
            true => self.stable(),
            false => self.store.without_kept_for_backup(self.stable()),
        };
        let removed = self.store.compact(&stable).await?;
        let mut outcome =
            Outcome { entries_removed: removed.entries, bytes_removed: removed.bytes, ..Outcome::default() };
        outcome.origins_folded = self.fold(&stable).await?;
        let clock_is_trusted = clock_is_trusted && !self.in_doubt.load(Ordering::Relaxed);
        // A quarantined create is applied and in no record: whoever learns from here what is forgotten
        // would take it for deleted.
        let is_whole = self.store.quarantined() == 0;
        if self.policy.tombstone_grace.is_some() && clock_is_trusted && is_whole {
            outcome.tombstones_collected = self.collect(&mut collection, &stable).await?;
        }
        let mut last_run = self.last_run();
        let pending = self.store.totals().removals;
        let rests = last_run.rewritten_at.is_some_and(|at| at.elapsed() < limits::REWRITE_INTERVAL);
        let rewrites_all = pending > limits::REMOVALS_ONE_BY_ONE as u64;
        if pending > 0 && (is_asked_for || !rests || !rewrites_all) {
            outcome.payloads_removed = self.store.remove_payloads().await? as u64;
            if rewrites_all {
                last_run.rewritten_at = Some(Instant::now());
            }
        }
        if removed.bytes >= limits::COMPACT_REWRITE_BYTES {
            self.store.rewrite_log().await?;
        }
        (last_run.bytes, last_run.at) = (self.store.totals().log_bytes, Instant::now());
        *self.last_run.lock().unwrap_or_else(PoisonError::into_inner) = last_run;
        Ok(outcome)
    }

    async fn fold(&self, stable: &Vector) -> Result<u64, StoreError> {
        let (vector, own) = (self.store.vector(), self.store.origin());
        let mut folded = 0;
        for (origin, clock) in vector.iter() {
            let is_whole = stable.get(&origin) == clock && self.store.floors().get(&origin) == clock;
            if is_whole && self.members.is_finished(&origin, &own) {
                folded += u64::from(self.store.fold(origin).await?);
            }
        }
        Ok(folded)
    }

    /// Remembers what is applied now, so that it is known later how old a tombstone is at least.
    pub async fn mark(&self, clock_is_trusted: bool) -> Result<(), StoreError> {
        let Some(grace) = self.policy.tombstone_grace.filter(|_| clock_is_trusted) else { return Ok(()) };
        let Ok(mut collection) = self.collection.try_lock() else { return Ok(()) };
        let marks = self.marks(&mut collection).await?;
        let now = self.store.now();
        let grace_seconds = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
        // A clock that was set back would otherwise end the marking for as long.
        marks.retain(|(at, _)| *at <= now);
        let apart = grace_seconds / i64::from(limits::MARKS_PER_GRACE);
        if marks.last().is_some_and(|(at, _)| now.saturating_sub(*at) < apart.max(1)) {
            return Ok(());
        }
        marks.push((now, self.store.applied()));
        // Of those that are old enough, only the newest matters.
        let old = marks.iter().filter(|(at, _)| now.saturating_sub(*at) >= grace_seconds).count();
        marks.drain(..old.saturating_sub(1));
        let mark = |(at, applied): &(UnixSeconds, Vector)| proto::marks::Mark {
            at_unix: *at,
            applied: Some(codec::vector_to_proto(applied)),
        };
        let value = proto::Marks { marks: marks.iter().map(mark).collect() }.encode_to_vec();
        self.store.keep_note(MARKS, value).await
    }

    async fn marks<'a>(
        &self,
        collection: &'a mut Collection,
    ) -> Result<&'a mut Vec<(UnixSeconds, Vector)>, StoreError> {
        if collection.marks.is_none() {
            let malformed = codec::CodecError::Malformed("marks");
            let value = self.store.note(MARKS).await?.unwrap_or_default();
            let kept = proto::Marks::decode(value.as_slice()).map_err(|_| malformed)?;
            let mut marks = Vec::new();
            for mark in kept.marks {
                marks.push((mark.at_unix, codec::vector_from_proto(&mark.applied.unwrap_or_default())?));
            }
            collection.marks = Some(marks);
        }
        Ok(collection.marks.get_or_insert_default())
    }

    /// Forgets tombstones, in two steps.
    ///
    /// Contract: a tombstone goes only when every member has acknowledged its delete, and when
    /// everything that those members had applied by then is applied here: whatever else was done to
    /// that key hash anywhere has then met the delete on this node, and nothing can bring the record
    /// back.
    async fn collect(&self, collection: &mut Collection, stable: &Vector) -> Result<u64, StoreError> {
        if self.store.totals().tombstones == 0 {
            return Ok(0);
        }
        let grace = self.policy.tombstone_grace.unwrap_or_default();
        let grace_seconds = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
        let now = self.store.now();
        let marks = self.marks(collection).await?;
        let old = marks.iter().rev().find(|(at, _)| now.saturating_sub(*at) >= grace_seconds);
        let old_enough = match old {
            Some((_, applied)) => applied.clone(),
            None if grace.is_zero() => self.store.applied(),
            None => return Ok(0),
        };
        if planted::is(Bug::CollectEarly) {
            return self.collect_below(&old_enough).await;
        }
        let members = self.members.watched_names(now);
        let armed = match collection.armed.take() {
            Some(armed) if armed.members == members => armed,
            _ => Armed { stable: stable.clone(), known: self.members.known(now), members },
        };
        if !self.store.applied().covers(&armed.known) && !planted::is(Bug::CollectWithoutWaiting) {
            collection.armed = Some(armed);
            return Ok(0);
        }
        self.collect_below(&armed.stable.meet(&old_enough)).await
    }

    async fn collect_below(&self, cut: &Vector) -> Result<u64, StoreError> {
        let (mut after, mut collected) = (None, 0);
        loop {
            let (found, next) = self.store.tombstones(after, cut.clone(), limits::COLLECT_BATCH).await?;
            if !found.is_empty() {
                collected += self.store.collect(found, cut.clone()).await? as u64;
            }
            match next {
                Some(next) => after = Some(next),
                None => return Ok(collected),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const MIB: u64 = 1024 * 1024;

    #[test]
    fn the_mode_decides_when() {
        let growth =
            |bytes_then, bytes_now, elapsed| Growth { bytes_then, bytes_now, elapsed, is_compactable: false };
        let idle = growth(10 * MIB, 10 * MIB, Duration::ZERO);
        let grown_by_half = growth(10 * MIB, 15 * MIB, Duration::ZERO);
        let grown_by_100_mib = growth(1000 * MIB, 1100 * MIB, Duration::ZERO);
        let an_hour_later = growth(10 * MIB, 10 * MIB, HOUR);
        let compactable = Growth { is_compactable: true, ..idle };
        let tiny = growth(0, limits::COMPACT_GROWTH_MIN_BYTES - 1, Duration::ZERO);
        let cases = [
            (Mode::Never, [false, false, false, false, false]),
            (Mode::Modified, [false, false, false, false, true]),
            (Mode::Timer, [false, false, false, true, false]),
            (Mode::Factor, [false, true, false, false, false]),
            (Mode::Size, [false, false, true, false, false]),
            (Mode::FactorOrTimer, [false, true, false, true, false]),
            (Mode::SizeOrTimer, [false, false, true, true, false]),
        ];
        for (mode, expected) in cases {
            let policy =
                Policy { mode, factor: 0.4, size_bytes: 100 * MIB, timer: HOUR, tombstone_grace: None };
            let due = [idle, grown_by_half, grown_by_100_mib, an_hour_later, compactable]
                .map(|growth| policy.is_due(growth));
            assert_eq!(due, expected, "{mode:?}");
            assert!(!policy.is_due(tiny), "{mode:?}: a few operations are no growth");
        }
    }
}
