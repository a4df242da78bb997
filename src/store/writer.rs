//! The writer: one thread that drains a queue, assigns clocks, writes one batch, and answers all
//! callers.
//!
//! Order within one group, which is the whole of the durability contract:
//!
//! 1. build the batch: record states, log entries, clocks, indexes;
//! 2. write it with `sync`: it is on disk, or the group failed and nothing of it is visible;
//! 3. publish: raise the visible vector, up to which peers may be served;
//! 4. answer the callers.
//!
//! A clock therefore becomes visible only in order, and nothing is acknowledged or served before
//! its fsync. A failed write poisons the store. A full disk refuses writes until there is room; the
//! node then continues under a new incarnation, because a batch whose write failed may still turn
//! up after a crash.

use std::{sync::Arc, thread, time::Instant};

use rocksdb::WriteBatch;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::{
    change::{Queued, Reply, Weight},
    commit::{Commit, Finished},
    database::WriteFailure,
    error::StoreError,
    handle::{Health, Shared},
    place::Place,
    published::Published,
    signing::Signer,
};
use crate::runtime::{
    planted::{self, Bug},
    retry::{Retry, RetryPolicy},
    spans,
};
use brock_core::{
    base::{
        id::Origin,
        limits, metrics as names,
        vector::{Clock, Stamp},
    },
    domain::birth::Previous,
};

/// An order to the writer.
pub(super) struct Command {
    pub order: Order,
    /// Gives the command's share of the queue back when it is dropped.
    pub _room: Option<OwnedSemaphorePermit>,
}

pub(super) enum Order {
    Change(Box<dyn Queued>),
    /// Continue under a new incarnation, for this reason.
    NewIncarnation(&'static str, Reply<Origin>),
    /// Find out whether the disk can be written.
    CheckDisk(Reply<()>),
    /// Finish what is queued, then end.
    Stop,
}

impl Order {
    pub(super) fn weight(&self) -> Weight {
        match self {
            Self::Change(change) => change.weight(),
            Self::NewIncarnation(..) | Self::CheckDisk(_) | Self::Stop => Weight { operations: 1, bytes: 0 },
        }
    }
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    retry: RetryPolicy,
    /// This node's origin and its last clock.
    own: Stamp,
    /// Signs its operations; `None` = this node does not sign.
    signer: Option<Arc<Signer>>,
    /// As on disk: this thread's own copy of what the readers see.
    published: Published,
    disk_checked: Option<Instant>,
    /// A write failed for want of space: what it held may turn up after a crash, so its clocks
    /// are spent.
    must_mint: bool,
    unexplained: Unexplained,
}

/// Writes that fail for want of space although the file system counts enough as free.
#[derive(Debug, Default)]
struct Unexplained {
    /// When room was last looked for.
    probed: Option<Instant>,
    /// When it was last found to be lacking, or since when it is not.
    since: Option<Instant>,
}

impl Unexplained {
    /// Another one has failed. Returns whether there has been room for so long that the database will not recover.
    fn is_hopeless(&mut self, now: Instant, lacks_room: impl FnOnce() -> bool) -> bool {
        let waited = |since: Instant| now.saturating_duration_since(since);
        // Every write that arrives comes here.
        if self.probed.is_none_or(|at| waited(at) >= limits::DISK_CHECK_INTERVAL) {
            self.probed = Some(now);
            if lacks_room() {
                self.since = Some(now);
            }
        }
        waited(*self.since.get_or_insert(now)) >= limits::NO_SPACE_PATIENCE
    }
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        retry: RetryPolicy,
        (origin, signer): (Origin, Option<Arc<Signer>>),
        published: Published,
    ) -> Self {
        let own = Stamp { origin, clock: published.clock(&origin) };
        Self {
            shared,
            retry,
            own,
            signer,
            published,
            disk_checked: None,
            must_mint: false,
            unexplained: Unexplained::default(),
        }
    }

    /// Runs until it is told to stop, or until every handle is gone.
    pub(super) fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        metrics::gauge!(names::WRITES_REFUSED).set(0.0);
        while let Some(first) = commands.blocking_recv() {
            let group = drain(first, &mut commands);
            metrics::gauge!(names::WRITE_QUEUE).set(commands.len() as f64);
            if !self.handle(group) {
                break;
            }
        }
    }

    /// Returns whether the writer continues.
    fn handle(&mut self, group: Vec<Command>) -> bool {
        let mut changes = Vec::with_capacity(group.len());
        let mut continues = true;
        // Room in the queue is given back only after the group is written.
        let mut room = Vec::with_capacity(group.len());
        for Command { order, _room } in group {
            room.push(_room);
            match order {
                Order::Change(change) => changes.push(change),
                Order::NewIncarnation(reason, to) => {
                    // In its place: earlier changes belong to the old incarnation.
                    self.commit(std::mem::take(&mut changes));
                    // A caller that has gone away needs no answer.
                    drop(to.send(self.new_incarnation(reason)));
                }
                Order::CheckDisk(to) => {
                    self.disk_checked = None;
                    drop(to.send(self.may_write()));
                }
                Order::Stop => continues = false,
            }
        }
        self.commit(changes);
        if !continues {
            // The stop must not report a clean end in a directory that is gone.
            drop(self.check_place());
        }
        continues
    }

    /// Builds, writes and publishes a group, then answers its callers.
    fn commit(&mut self, mut changes: Vec<Box<dyn Queued>>) {
        if changes.is_empty() {
            return;
        }
        let failure = self.may_write().and_then(|()| self.write_group(&mut changes)).err();
        changes.into_iter().for_each(|change| change.answer(failure.as_ref()));
    }

    fn write_group(&mut self, changes: &mut [Box<dyn Queued>]) -> Result<(), StoreError> {
        let span = spans::commit(changes.len());
        let _within = span.enter();
        let finished = self.build(changes)?;
        let written = match &finished.writes {
            None => Ok(()),
            Some(_) if planted::is(Bug::AckBeforeSync) && finished.own.clock.0 % 5 == 3 => Ok(()),
            Some(writes) => {
                // Before the entries are gone: a reader that does not find them must find the floor
                // raised.
                let mut gone = finished.raised.floors.clone();
                gone.join(&finished.raised.folds);
                self.shared.raise_floors(&gone);
                self.write(writes)
            }
        };
        spans::end(&span, written.is_ok());
        match &written {
            Ok(()) => {
                self.own = finished.own;
                self.published.raise(&finished.raised, finished.totals);
                self.shared.publish(&finished.raised, finished.totals);
                finished.tally.record();
            }
            Err(_) => self.shared.restore_floors(&self.published.floors),
        }
        written
    }

    fn build(&self, changes: &mut [Box<dyn Queued>]) -> Result<Finished, StoreError> {
        let Shared { database, wall_clock, mint, .. } = &*self.shared;
        let mut commit = Commit::new(
            database,
            &self.published,
            (self.own, self.signer.as_deref(), mint.cluster()),
            wall_clock.now_ms(),
        );
        commit.marks = self.shared.needed.marks.load_full();
        let mut needed = Vec::new();
        changes.iter().for_each(|change| change.key_hashes(&mut needed));
        commit.load(&needed)?;
        changes.iter_mut().for_each(|change| change.build(&mut commit));
        Ok(commit.finish())
    }

    fn write(&mut self, writes: &WriteBatch) -> Result<(), StoreError> {
        let mut retry = Retry::new(self.retry);
        let started = Instant::now();
        loop {
            match self.shared.database.write(writes) {
                Ok(()) => {
                    metrics::histogram!(names::COMMIT_DURATION).record(started.elapsed().as_secs_f64());
                    // What was written to a directory that is gone must not be acknowledged.
                    return self.check_place();
                }
                Err(WriteFailure::Passing(reason)) => match retry.next_delay() {
                    Some(delay) => {
                        metrics::counter!(names::WRITE_RETRIES).increment(1);
                        thread::sleep(delay);
                    }
                    None => return Err(self.stop(format!("a write was refused for too long: {reason}"))),
                },
                Err(WriteFailure::NoSpace) => {
                    self.must_mint = true;
                    let shortage = self.shared.disk().and_then(|disk| disk.shortage());
                    return Err(self.refuse_for_space(shortage.unwrap_or(StoreError::NoSpace)));
                }
                Err(WriteFailure::Fatal(reason)) => {
                    return Err(self.stop(format!("a write failed, so what is on disk is unknown: {reason}")));
                }
            }
        }
    }

    fn stop(&self, reason: String) -> StoreError {
        tracing::error!(reason, "the store has stopped: no write is accepted any more");
        metrics::gauge!(names::WRITES_REFUSED).set(1.0);
        self.shared.health.send_replace(Health::Stopped(reason.clone()));
        StoreError::Stopped(reason)
    }

    /// Stops the store for good if its directory is not in its place: even if it returns, it lacks what was
    /// written meanwhile.
    fn check_place(&self) -> Result<(), StoreError> {
        if let Health::Lost(reason) = &*self.shared.health.borrow() {
            return Err(StoreError::Stopped(reason.clone()));
        }
        let Some(lost) = self.shared.place.as_ref().and_then(Place::lost) else { return Ok(()) };
        self.shared.alarms.raise(format!("the store has stopped: {lost}"));
        metrics::gauge!(names::WRITES_REFUSED).set(1.0);
        self.shared.health.send_replace(Health::Lost(lost.clone()));
        Err(StoreError::Stopped(lost))
    }

    fn refuse_read_only(&self) -> StoreError {
        let error = StoreError::ReadOnly;
        if !matches!(&*self.shared.health.borrow(), Health::ReadOnly(_)) {
            self.shared.alarms.raise(error.to_string());
            metrics::gauge!(names::WRITES_REFUSED).set(1.0);
            self.shared.health.send_replace(Health::ReadOnly(error.to_string()));
        }
        error
    }

    fn refuse_for_space(&self, error: StoreError) -> StoreError {
        let refused = Health::WritesRefused(error.to_string());
        if !matches!(&*self.shared.health.borrow(), Health::WritesRefused(_)) {
            tracing::error!(reason = %error, "writes are refused until there is room on the disk");
            metrics::gauge!(names::WRITES_REFUSED).set(1.0);
        }
        self.shared.health.send_replace(refused);
        error
    }

    /// Whether the store may write: it has not stopped, and its disk has room and is in its place.
    fn may_write(&mut self) -> Result<(), StoreError> {
        let refused = match &*self.shared.health.borrow() {
            Health::Stopped(reason) | Health::Lost(reason) => {
                return Err(StoreError::Stopped(reason.clone()));
            }
            Health::WritesRefused(_) | Health::ReadOnly(_) => true,
            Health::Well => false,
        };
        let due = self.disk_checked.is_none_or(|at| at.elapsed() >= limits::DISK_CHECK_INTERVAL);
        if !due && !refused && !self.must_mint {
            return Ok(());
        }
        self.disk_checked = Some(Instant::now());
        self.check_place()?;
        if self.shared.place.as_ref().is_some_and(Place::is_read_only) {
            return Err(self.refuse_read_only());
        }
        let shortage = self.shared.disk().and_then(|disk| disk.shortage());
        match shortage {
            // The files that there are may do for long.
            Some(StoreError::NoInodes { .. }) if !self.must_mint => {}
            Some(shortage) => {
                self.unexplained = Unexplained::default();
                return Err(self.refuse_for_space(shortage));
            }
            None => {}
        }
        if self.must_mint {
            self.resume()?;
        }
        if refused {
            tracing::info!("the disk can be written again: writes are accepted");
            metrics::gauge!(names::WRITES_REFUSED).set(0.0);
            self.shared.health.send_replace(Health::Well);
        }
        Ok(())
    }

    /// The first write after one that failed for want of space. RocksDB tries to recover from that by
    /// itself every few seconds, but not where it could not create a file, or met a quota: the process must
    /// then be restarted, which is of no use before there is room.
    fn resume(&mut self) -> Result<(), StoreError> {
        match self.new_incarnation("failed_write") {
            Ok(_) => {
                self.must_mint = false;
                self.unexplained = Unexplained::default();
                Ok(())
            }
            Err(StoreError::NoSpace) => {
                let place = self.shared.place.as_ref();
                if !self.unexplained.is_hopeless(Instant::now(), || place.is_some_and(Place::lacks_room)) {
                    return Err(self.refuse_for_space(StoreError::NoSpace));
                }
                Err(self.stop(
                    "the disk has room, but the database still refuses writes for want of space".to_owned(),
                ))
            }
            Err(error) => Err(error),
        }
    }

    fn new_incarnation(&mut self, reason: &'static str) -> Result<Origin, StoreError> {
        let Shared { database, mint, wall_clock, .. } = &*self.shared;
        let last = self.published.tips.get(&self.own.origin);
        // One that wrote nothing hands down where the one before it ended.
        let own = self.own;
        let handed_down = || self.published.births.get(&own.origin).and_then(|birth| birth.previous);
        let previous = last.map(|tip| Previous { last: own, chain: tip.chain() }).or_else(handed_down);
        let minted = mint.mint(database, &self.published.applied(), previous, wall_clock.now(), reason);
        let (origin, signer) = minted.map_err(|error| match error {
            StoreError::Stopped(reason) => self.stop(reason),
            other => other,
        })?;
        if let Some(signer) = &signer {
            self.published.births.insert(origin, signer.birth());
            self.shared.add_birth(origin, signer.birth());
        }
        self.signer = signer.map(Arc::new);
        self.own = Stamp { origin, clock: Clock::default() };
        self.shared.set_origin((origin, self.signer.clone()), reason);
        Ok(origin)
    }
}

/// Everything that is waiting, up to the bounds of one group.
fn drain(first: Command, commands: &mut mpsc::Receiver<Command>) -> Vec<Command> {
    let Weight { mut operations, mut bytes } = first.order.weight();
    let mut group = vec![first];
    while operations < limits::GROUP_COMMIT_OPERATIONS && bytes < limits::GROUP_COMMIT_BYTES {
        let Ok(command) = commands.try_recv() else { break };
        let more = command.order.weight();
        operations += more.operations;
        bytes += more.bytes;
        group.push(command);
    }
    group
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_store_gives_up_only_after_there_has_been_room_for_long() {
        let begin = Instant::now();
        let mut unexplained = Unexplained::default();
        let mut hopeless =
            |seconds, lacks| unexplained.is_hopeless(begin + Duration::from_secs(seconds), || lacks);
        let patience = limits::NO_SPACE_PATIENCE.as_secs();
        // A quota for an hour.
        assert!((0..3600).all(|second| !hopeless(second, true)));
        assert!((0..patience - 1).all(|second| !hopeless(3600 + second, false)));
        assert!(hopeless(3600 + patience - 1, false), "the last lack was at 3599");
    }

    #[test]
    fn room_is_not_looked_for_at_every_write() {
        let now = Instant::now();
        let (mut unexplained, mut probes) = (Unexplained::default(), 0);
        for _ in 0..100 {
            unexplained.is_hopeless(now, || {
                probes += 1;
                true
            });
        }
        assert_eq!(probes, 1);
    }
}
