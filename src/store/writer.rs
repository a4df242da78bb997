//! The writer: one thread that drains a queue, assigns clocks, writes one batch, answers all
//! callers.
//!
//! Order within one group, which is the whole of the durability contract:
//!
//! 1. build the batch: record states, log entries, clocks, indexes;
//! 2. write it with `sync`: it is on disk, or the group failed and nothing of it is visible;
//! 3. raise the visible vector: only now may peers be served what it holds;
//! 4. answer the callers.
//!
//! A clock therefore becomes visible only in order, and nothing is acknowledged or served before
//! its fsync. A failed write poisons the store; a full disk refuses writes until there is room,
//! and the node then goes on under a new incarnation, because a batch whose write failed may
//! still turn up after a crash.

use std::{sync::Arc, thread, time::Instant};

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::{
    boot,
    commit::Commit,
    database::WriteFailure,
    error::StoreError,
    handle::{Health, Shared},
    maintain::{Adoption, Cut, Joined, Page},
    request::{CreateOutcome, NewOperation, NewRecord, OperationOutcome},
    visible::Visible,
};
use crate::runtime::{
    planted::{self, Bug},
    retry::{Retry, RetryPolicy},
    spans,
};
use brock_core::{
    base::{
        id::{KeyHash, Origin},
        limits, metrics as names,
        vector::{Clock, Stamp, Vector},
    },
    domain::{
        digest::Bucket,
        operation::EntryError,
        record::{RecordState, UnixSeconds},
        segment::{Segment, SegmentEntry},
    },
    proto,
};

/// Something to write, and whom to answer.
pub(super) struct Command {
    pub change: Change,
    /// Gives the command's share of the queue back when it is done with.
    pub _room: Option<OwnedSemaphorePermit>,
}

/// Where the answer goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

pub(super) enum Change {
    Create(Vec<NewRecord>, Reply<Vec<CreateOutcome>>),
    Operate(NewOperation, Reply<OperationOutcome>),
    Apply(Segment, Reply<Clock>),
    Sweep(UnixSeconds, Reply<usize>),
    Join(Page, Reply<Joined>),
    ImportLog(Segment, Reply<()>),
    Adopt(Box<Adoption>, Vec<(Origin, Cut)>, Reply<()>),
    Compact(Origin, Cut, Reply<()>),
    Fold(Origin, Reply<bool>),
    Collect(Vec<KeyHash>, Vector, Reply<usize>),
    Removed(Vec<(KeyHash, Vec<u8>)>, Reply<usize>),
    Remember(Vec<proto::MemberState>, Vec<proto::MemberState>, Reply<()>),
    Note(&'static [u8], Vec<u8>, Reply<()>),
    Mend(u8, Bucket, Reply<()>),
    RetryQuarantined(Stamp, Reply<Option<Result<(), EntryError>>>),
    DropQuarantined(Stamp, Reply<bool>),
    NewIncarnation(&'static str, Reply<Origin>),
    Stop,
}

/// An answer that waits for the group's fsync: told whether it failed.
struct Answer(Tell);

type Tell = Box<dyn FnOnce(Option<&StoreError>)>;

impl Answer {
    fn new<T: 'static>(to: Reply<T>, outcome: Result<T, StoreError>) -> Self {
        // A caller that has gone away does not mind.
        Self(Box::new(move |failure| drop(to.send(failure.map_or(outcome, |error| Err(error.clone()))))))
    }
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    retry: RetryPolicy,
    origin: Origin,
    clock: Clock,
    /// As on disk: what the readers see, and this thread's own copy of it.
    visible: Visible,
    disk_checked: Option<Instant>,
    /// A write failed for want of space: what it held may turn up after a crash, so its clocks
    /// are spent.
    must_mint: bool,
    /// Since when writes fail for want of space although there is room.
    unexplained_since: Option<Instant>,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, retry: RetryPolicy, origin: Origin, visible: Visible) -> Self {
        let clock = visible.clock(&origin);
        Self {
            shared,
            retry,
            origin,
            clock,
            visible,
            disk_checked: None,
            must_mint: false,
            unexplained_since: None,
        }
    }

    /// Runs until told to stop, or until nobody can send commands any more.
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

    fn handle(&mut self, group: Vec<Command>) -> bool {
        let mut changes = Vec::with_capacity(group.len());
        let mut go_on = true;
        for command in &group {
            if matches!(command.change, Change::Stop) {
                go_on = false;
            }
        }
        // Room in the queue is given back only after the group is written.
        let mut room = Vec::with_capacity(group.len());
        for Command { change, _room } in group {
            room.push(_room);
            match change {
                Change::Stop => {}
                Change::NewIncarnation(reason, to) => {
                    // In its place: what came before belongs to the old incarnation.
                    self.commit(std::mem::take(&mut changes));
                    let _ = to.send(self.new_incarnation(reason));
                }
                change => changes.push(change),
            }
        }
        self.commit(changes);
        go_on
    }

    fn commit(&mut self, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        if let Err(refusal) = self.may_write() {
            for change in changes {
                refuse(change, &refusal);
            }
            return;
        }
        let span = spans::commit(changes.len());
        let _within = span.enter();
        let shared = Arc::clone(&self.shared);
        let mut commit = Commit::new(&shared.database, &self.visible, shared.wall_clock.now_ms());
        if let Err(error) = commit.load(key_hashes(&changes)) {
            for change in changes {
                refuse(change, &error);
            }
            return;
        }
        let mut clock = self.clock;
        let answers: Vec<Answer> =
            changes.into_iter().filter_map(|change| self.build(&mut commit, &mut clock, change)).collect();
        let batch = commit.finish();
        let Commit { raised, counters, tally, .. } = commit;
        let result = match batch {
            None => Ok(()),
            Some(_) if planted::is(Bug::AckBeforeSync) && clock.0 % 5 == 3 => Ok(()),
            Some(batch) => {
                // Before the entries are gone: whoever finds them gone must find the floor raised.
                let mut gone = raised.floors.clone();
                gone.join(&raised.folds);
                shared.raise_floors(&gone);
                self.write(&batch)
            }
        };
        spans::end(&span, result.is_ok());
        match result {
            Ok(()) => {
                self.clock = clock;
                self.visible.raise(&raised, counters);
                shared.publish(&raised, counters);
                tally.record();
                answers.into_iter().for_each(|answer| answer.0(None));
            }
            Err(failure) => {
                shared.restore_floors(&self.visible.floors);
                answers.into_iter().for_each(|answer| answer.0(Some(&failure)));
            }
        }
    }

    fn build(&self, commit: &mut Commit<'_>, clock: &mut Clock, change: Change) -> Option<Answer> {
        let now = self.shared.wall_clock.now();
        Some(match change {
            Change::Create(records, to) => {
                let outcomes =
                    records.into_iter().map(|record| commit.create(self.origin, clock, record)).collect();
                Answer::new(to, Ok(outcomes))
            }
            Change::Operate(operation, to) => {
                Answer::new(to, Ok(commit.operate(self.origin, clock, operation)))
            }
            Change::Apply(segment, to) => {
                let outcome = match self.check_own(segment.origin, segment.covered_through, *clock) {
                    Ok(()) => commit.apply(segment, now),
                    Err(error) => Err(error),
                };
                Answer::new(to, outcome)
            }
            Change::Sweep(at, to) => {
                let before = at.saturating_sub(self.shared.expiry_margin_seconds);
                Answer::new(to, commit.sweep(before, limits::SWEEP_BATCH))
            }
            Change::Join(page, to) => Answer::new(to, commit.join_page(page)),
            Change::ImportLog(segment, to) => {
                let outcome = match self.check_own(segment.origin, segment.covered_through, *clock) {
                    Ok(()) => commit.import_log(segment, now),
                    Err(error) => Err(error),
                };
                Answer::new(to, outcome)
            }
            Change::Adopt(adoption, cuts, to) => {
                let theirs = adoption.vector.get(&self.origin).max(adoption.folds.get(&self.origin));
                let outcome = self.check_own(self.origin, theirs, *clock);
                Answer::new(to, outcome.map(|()| commit.adopt(&adoption, &cuts)))
            }
            Change::Compact(origin, cut, to) => {
                commit.compact(origin, cut);
                Answer::new(to, Ok(()))
            }
            Change::Fold(origin, to) => Answer::new(to, Ok(commit.fold(self.origin, origin))),
            Change::Collect(key_hashes, stable, to) => {
                Answer::new(to, Ok(commit.collect(&key_hashes, &stable)))
            }
            Change::Removed(marks, to) => Answer::new(to, commit.removed(&marks)),
            Change::Remember(members, forget, to) => {
                commit.remember(&members, &forget);
                Answer::new(to, Ok(()))
            }
            Change::Mend(bucket, delta, to) => {
                commit.mend(bucket, delta);
                Answer::new(to, Ok(()))
            }
            Change::Note(name, value, to) => {
                commit.note(name, &value);
                Answer::new(to, Ok(()))
            }
            Change::RetryQuarantined(stamp, to) => Answer::new(to, commit.retry_quarantined(stamp)),
            Change::DropQuarantined(stamp, to) => Answer::new(to, commit.drop_quarantined(stamp)),
            Change::NewIncarnation(..) | Change::Stop => return None,
        })
    }

    /// Nobody can know more of this node's own operations than it does itself.
    fn check_own(&self, origin: Origin, theirs: Clock, ours: Clock) -> Result<(), StoreError> {
        if origin == self.origin && theirs > ours {
            return Err(StoreError::RolledBack { origin, theirs, ours });
        }
        Ok(())
    }

    fn write(&mut self, batch: &rocksdb::WriteBatch) -> Result<(), StoreError> {
        let mut retry = Retry::new(self.retry);
        let started = Instant::now();
        loop {
            match self.shared.database.write(batch) {
                Ok(()) => {
                    metrics::histogram!(names::COMMIT_DURATION).record(started.elapsed().as_secs_f64());
                    return Ok(());
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
                    return Err(self.refuse_for_space(0));
                }
                Err(WriteFailure::Fatal(reason)) => {
                    return Err(
                        self.stop(format!("a write failed, so what is on disk is not known: {reason}"))
                    );
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

    fn refuse_for_space(&self, free: u64) -> StoreError {
        let error = StoreError::DiskFull { free };
        let refused = Health::WritesRefused(error.to_string());
        if !matches!(&*self.shared.health.borrow(), Health::WritesRefused(_)) {
            tracing::error!(free_bytes = free, "the disk is full: writes are refused until there is room");
            metrics::gauge!(names::WRITES_REFUSED).set(1.0);
        }
        self.shared.health.send_replace(refused);
        error
    }

    /// Whether the store is in a state to write: not stopped, and with room on its disk.
    fn may_write(&mut self) -> Result<(), StoreError> {
        let refused = match &*self.shared.health.borrow() {
            Health::Stopped(reason) => return Err(StoreError::Stopped(reason.clone())),
            Health::WritesRefused(_) => true,
            Health::Well => false,
        };
        let due = self.disk_checked.is_none_or(|at| at.elapsed() >= limits::DISK_CHECK_INTERVAL);
        if !due && !refused && !self.must_mint {
            return Ok(());
        }
        self.disk_checked = Some(Instant::now());
        if let Some(free) = self.shared.disk().map(|disk| disk.free_bytes)
            && free < limits::DISK_RESERVE_BYTES
        {
            self.unexplained_since = None;
            return Err(self.refuse_for_space(free));
        }
        if self.must_mint {
            self.resume()?;
        }
        if refused {
            tracing::info!("there is room on the disk again: writes are accepted");
            metrics::gauge!(names::WRITES_REFUSED).set(0.0);
            self.shared.health.send_replace(Health::Well);
        }
        Ok(())
    }

    /// The first write after one that failed for want of space. RocksDB tries by itself to recover
    /// from that, every few seconds, but not from every such failure: not where it could not make
    /// a file. The process must then be restarted.
    fn resume(&mut self) -> Result<(), StoreError> {
        match self.new_incarnation("failed_write") {
            Ok(_) => {
                self.must_mint = false;
                self.unexplained_since = None;
                Ok(())
            }
            Err(StoreError::DiskFull { .. }) => {
                let since = *self.unexplained_since.get_or_insert_with(Instant::now);
                if since.elapsed() < limits::NO_SPACE_PATIENCE {
                    return Err(self.refuse_for_space(0));
                }
                Err(self.stop(
                    "the disk has room, but the database goes on refusing writes for want of space"
                        .to_owned(),
                ))
            }
            Err(error) => Err(error),
        }
    }

    fn new_incarnation(&mut self, reason: &'static str) -> Result<Origin, StoreError> {
        let Shared { database, node_id, incarnations, .. } = &*self.shared;
        let minted = boot::mint(database, node_id, incarnations, &self.visible.applied(), reason);
        self.origin = minted.map_err(|error| match error {
            StoreError::Stopped(reason) => self.stop(reason),
            other => other,
        })?;
        self.clock = Clock::default();
        self.shared.set_origin(self.origin, reason);
        Ok(self.origin)
    }
}

/// Everything that is waiting, up to the bounds of one group.
fn drain(first: Command, commands: &mut mpsc::Receiver<Command>) -> Vec<Command> {
    let (mut operations, mut bytes) = weight(&first.change);
    let mut group = vec![first];
    while operations < limits::GROUP_COMMIT_OPERATIONS && bytes < limits::GROUP_COMMIT_BYTES {
        let Ok(command) = commands.try_recv() else { break };
        let (more_operations, more_bytes) = weight(&command.change);
        operations += more_operations;
        bytes += more_bytes;
        group.push(command);
    }
    group
}

/// Operations and bytes of payload in a change.
pub(super) fn weight(change: &Change) -> (usize, usize) {
    match change {
        Change::Create(records, _) => {
            (records.len(), records.iter().map(|record| record.payload.len()).sum())
        }
        Change::Apply(segment, _) | Change::ImportLog(segment, _) => {
            let bytes = segment.entries.iter().map(|entry| match entry {
                SegmentEntry::Applicable(_, payload) => payload.as_ref().map_or(0, bytes::Bytes::len),
                SegmentEntry::Quarantined(entry, _) => entry.operation.len(),
            });
            (segment.entries.len(), bytes.sum())
        }
        Change::Join(page, _) => {
            let payload = |state: &RecordState| {
                state
                    .creation
                    .as_ref()
                    .and_then(|creation| creation.payload.as_ref())
                    .map_or(0, bytes::Bytes::len)
            };
            (page.states.len(), page.states.iter().map(|(_, state)| payload(state)).sum())
        }
        Change::Collect(key_hashes, ..) => (key_hashes.len(), 0),
        Change::Removed(marks, _) => (marks.len(), 0),
        Change::Sweep(..) => (limits::SWEEP_BATCH, 0),
        Change::Operate(..)
        | Change::Adopt(..)
        | Change::Compact(..)
        | Change::Fold(..)
        | Change::Remember(..)
        | Change::Note(..)
        | Change::Mend(..)
        | Change::RetryQuarantined(..)
        | Change::DropQuarantined(..)
        | Change::NewIncarnation(..)
        | Change::Stop => (1, 0),
    }
}

/// What a group reads at once before it begins. Changes that find their key hashes out themselves
/// load them themselves.
fn key_hashes(changes: &[Change]) -> Vec<KeyHash> {
    let mut key_hashes = Vec::new();
    for change in changes {
        match change {
            Change::Create(records, _) => key_hashes.extend(records.iter().map(|record| record.key_hash)),
            Change::Operate(operation, _) => key_hashes.push(operation.key_hash),
            Change::Apply(segment, _) => {
                key_hashes.extend(segment.entries.iter().filter_map(|entry| match entry {
                    SegmentEntry::Applicable(entry, _) => Some(entry.key_hash),
                    SegmentEntry::Quarantined(..) => None,
                }));
            }
            Change::Join(page, _) => key_hashes.extend(page.states.iter().map(|(key_hash, _)| *key_hash)),
            Change::Collect(collected, ..) => key_hashes.extend(collected),
            _ => {}
        }
    }
    key_hashes
}

fn refuse(change: Change, error: &StoreError) {
    fn tell<T>(to: Reply<T>, error: &StoreError) {
        drop(to.send(Err(error.clone())));
    }
    match change {
        Change::Create(_, to) => tell(to, error),
        Change::Operate(_, to) => tell(to, error),
        Change::Sweep(_, to) | Change::Collect(.., to) | Change::Removed(_, to) => tell(to, error),
        Change::Join(_, to) => tell(to, error),
        Change::Fold(_, to) | Change::DropQuarantined(_, to) => tell(to, error),
        Change::RetryQuarantined(_, to) => tell(to, error),
        Change::NewIncarnation(_, to) => tell(to, error),
        Change::Apply(_, to) => tell(to, error),
        Change::ImportLog(_, to)
        | Change::Adopt(.., to)
        | Change::Compact(.., to)
        | Change::Remember(.., to)
        | Change::Note(.., to)
        | Change::Mend(.., to) => tell(to, error),
        Change::Stop => {}
    }
}
