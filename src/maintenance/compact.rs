//! The compactor: removes log entries that every member has applied.
//!
//! The mode decides when. The members alone decide what: only stable entries go. The same run folds
//! finished incarnations away, removes the payloads of deleted records from the files, and, where that is
//! configured, collects tombstones.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Mutex as AsyncMutex,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use super::{collect::Collector, sweep};
use crate::{
    membership::{members::Members, roster::Roster},
    runtime::planted::{self, Bug},
    store::{Store, StoreError},
};
use brock_core::base::{limits, time::WallClock, vector::Vector};
use brock_net::task::TaskStatus;

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
    /// What makes the compactor run.
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
    bytes_before: u64,
    bytes_now: u64,
    elapsed: Duration,
    is_compactable: bool,
}

impl Policy {
    fn is_due(&self, growth: Growth) -> bool {
        let grown = growth.bytes_now.saturating_sub(growth.bytes_before);
        let by_factor = grown >= limits::COMPACT_GROWTH_MIN_BYTES
            && grown as f64 >= self.factor * growth.bytes_before as f64;
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

/// What one run removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Log entries.
    pub entries_removed: u64,
    /// The bytes of those entries.
    pub bytes_removed: u64,
    /// Payloads of deleted records that are no longer in any file.
    pub payloads_removed: u64,
    /// Tombstones.
    pub tombstones_collected: u64,
    /// Finished incarnations that vectors no longer list.
    pub origins_folded: u64,
}

/// What makes a run start, and how it treats what is kept for the next backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trigger {
    Policy,
    Operator,
}

#[derive(Debug, Clone)]
struct LastRun {
    bytes: u64,
    at: Instant,
    /// When all files of the records were last rewritten.
    rewritten_at: Option<Instant>,
}

/// Keeps the log short. Cheap to clone.
#[derive(Clone)]
pub struct Compactor {
    store: Store,
    members: Members,
    policy: Policy,
    wall_clock: WallClock,
    last_run: Arc<Mutex<LastRun>>,
    /// Whether the wall clock was in doubt at the last check.
    in_doubt: Arc<AtomicBool>,
    /// Held by the one run at a time.
    collector: Arc<AsyncMutex<Collector>>,
}

impl Compactor {
    /// For this store, with these members.
    pub fn new(store: Store, members: Members, policy: Policy, wall_clock: WallClock) -> Self {
        let last_run = LastRun { bytes: store.totals().log_bytes, at: Instant::now(), rewritten_at: None };
        let collector =
            Collector::new(store.clone(), members.clone(), policy.tombstone_grace, wall_clock.clone());
        Self {
            store,
            members,
            policy,
            wall_clock,
            last_run: Arc::new(Mutex::new(last_run)),
            in_doubt: Arc::default(),
            collector: Arc::new(AsyncMutex::new(collector)),
        }
    }

    /// What every member has applied.
    pub fn stable(&self) -> Vector {
        let applied = self.store.applied();
        if planted::is(Bug::CompactUnstable) {
            return applied;
        }
        self.members.stable(&applied, self.wall_clock.now())
    }

    /// Runs when the policy says so, until stopped. Tombstones stay while the wall clock is in doubt.
    pub async fn run(self, roster: Roster, stop: CancellationToken, task: TaskStatus) {
        let mut ticks = tokio::time::interval(limits::COMPACT_CHECK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let trust = sweep::ClockTrust::begin(self.wall_clock.now());
        loop {
            task.set_state("waiting");
            if stop.run_until_cancelled(ticks.tick()).await.is_none() {
                return;
            }
            let trusted = trust.doubt(self.wall_clock.now(), &roster.reports()).is_none();
            self.in_doubt.store(!trusted, Ordering::Relaxed);
            if let Err(error) = self.mark(trusted).await {
                task.set_error(&error.to_string());
            }
            if !self.is_due() {
                continue;
            }
            task.set_state("compacting");
            let run = self.compact_for(Trigger::Policy, trusted);
            match stop.run_until_cancelled(run).await {
                None => return,
                Some(Ok(outcome)) => {
                    task.clear_error();
                    log(outcome);
                }
                Some(Err(error)) => task.set_error(&error.to_string()),
            }
        }
    }

    /// Compacts now. A second call waits for the first.
    pub async fn compact(&self, clock_is_trusted: bool) -> Result<Outcome, StoreError> {
        self.compact_for(Trigger::Operator, clock_is_trusted).await
    }

    /// Notes what is applied now, so that it is known later how old a tombstone is at least. Does nothing
    /// during a run.
    pub async fn mark(&self, clock_is_trusted: bool) -> Result<(), StoreError> {
        if !clock_is_trusted {
            return Ok(());
        }
        match self.collector.try_lock() {
            Ok(mut collector) => collector.mark().await,
            Err(_) => Ok(()),
        }
    }

    fn last_run(&self) -> LastRun {
        self.last_run.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn is_due(&self) -> bool {
        let last_run = self.last_run();
        let is_compactable = self.policy.mode == Mode::Modified
            && !self.stable().above(&self.store.floors()).above(&self.store.folds()).is_empty();
        self.policy.is_due(Growth {
            bytes_before: last_run.bytes,
            bytes_now: self.store.totals().log_bytes,
            elapsed: last_run.at.elapsed(),
            is_compactable,
        })
    }

    async fn compact_for(&self, trigger: Trigger, clock_is_trusted: bool) -> Result<Outcome, StoreError> {
        let mut collector = self.collector.lock().await;
        let stable = match trigger {
            Trigger::Operator => self.stable(),
            Trigger::Policy => self.store.without_kept_for_backup(self.stable()),
        };
        self.store.remove_frozen_logs().await?;
        let removed = self.store.compact(&stable).await?;
        let mut outcome =
            Outcome { entries_removed: removed.entries, bytes_removed: removed.bytes, ..Outcome::default() };
        outcome.origins_folded = self.fold(&stable).await?;
        if clock_is_trusted && !self.in_doubt.load(Ordering::Relaxed) {
            outcome.tombstones_collected = collector.collect(&stable).await?;
        }
        let mut last_run = self.last_run();
        outcome.payloads_removed = self.remove_payloads(trigger, &mut last_run).await?;
        if removed.bytes >= limits::COMPACT_REWRITE_BYTES {
            self.store.rewrite_log().await?;
        }
        (last_run.bytes, last_run.at) = (self.store.totals().log_bytes, Instant::now());
        *self.last_run.lock().unwrap_or_else(PoisonError::into_inner) = last_run;
        Ok(outcome)
    }

    /// Removes the payloads of deleted records from the files. While they are many, that rewrites all files,
    /// and waits for [`limits::REWRITE_INTERVAL`] unless an operator asks.
    async fn remove_payloads(&self, trigger: Trigger, last_run: &mut LastRun) -> Result<u64, StoreError> {
        let pending = self.store.totals().removals;
        let rewrites_all = pending > limits::REMOVALS_ONE_BY_ONE as u64;
        let rests = last_run.rewritten_at.is_some_and(|at| at.elapsed() < limits::REWRITE_INTERVAL);
        if pending == 0 || (trigger == Trigger::Policy && rests && rewrites_all) {
            return Ok(0);
        }
        let removed = self.store.remove_payloads().await? as u64;
        if rewrites_all {
            last_run.rewritten_at = Some(Instant::now());
        }
        Ok(removed)
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
}

fn log(outcome: Outcome) {
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

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const MIB: u64 = 1024 * 1024;

    #[test]
    fn the_mode_decides_when() {
        let growth = |bytes_before, bytes_now, elapsed| Growth {
            bytes_before,
            bytes_now,
            elapsed,
            is_compactable: false,
        };
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
