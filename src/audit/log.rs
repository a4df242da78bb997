//! The handle through which all callers write the audit log, and the thread that writes.
//!
//! The thread takes all waiting lines, writes them with one fsync and answers. While it cannot write, every
//! caller gets an error, and the operation that must be recorded first is not carried out.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval, timeout},
};

use super::{
    dedup::{Dedup, Seen},
    entry::{Draft, Head, Kind, Origin, What},
    writer::Writer,
};
use crate::{
    runtime::alarms::Alarms,
    store::{Health, Store},
};
use brock_core::base::{limits, metrics as names, time::WallClock};
use brock_net::task::{TaskName, TaskStatus, Tasks, bounded};

const NOTE: &[u8] = b"audit_head";

/// Why a line is not in the log. For callers, so without paths of the node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the audit log of this node cannot be written, and this node carries out no operation that it cannot log: {reason}"
)]
pub struct NotWritten {
    reason: String,
    /// Whether the line may still be written later.
    pub perhaps_later: bool,
}

impl NotWritten {
    fn new(reason: &str) -> Self {
        Self { reason: reason.to_owned(), perhaps_later: false }
    }
}

/// Where the log is, its maximum size, and what it uses.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its directory.
    pub directory: PathBuf,
    /// The size above which the oldest files are deleted.
    pub max_bytes: u64,
    /// Where the time comes from.
    pub wall_clock: WallClock,
    /// Takes the log's alarms.
    pub alarms: Alarms,
}

struct Request {
    draft: Draft,
    answer: Option<oneshot::Sender<Result<(), NotWritten>>>,
}

struct Shared {
    store: Store,
    wall_clock: WallClock,
    alarms: Alarms,
    directory: PathBuf,
    head: Mutex<Head>,
    /// Why the log cannot be written; `None` = it can.
    failure: Mutex<Option<String>>,
    dedup: Mutex<Dedup>,
    /// Lines that no caller waited for, and that did not fit into the queue or could not be written.
    lost: AtomicU64,
    calls: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The audit log of a node, or none. Cheap to clone. When the last clone is dropped, the log ends in order.
#[derive(Clone)]
pub struct AuditLog(Option<Arc<Inner>>);

struct Inner {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Request>,
}

impl AuditLog {
    /// No log.
    pub fn none() -> Self {
        Self(None)
    }

    /// Opens the log, and starts its thread and its task. A log that cannot be written does not stop the
    /// node: it serves clients, and refuses operators until the log works.
    pub async fn open(options: Options, store: &Store, tasks: &Tasks) -> Self {
        let noted = match store.note(NOTE).await {
            Ok(noted) => noted.and_then(|noted| Head::parse(std::str::from_utf8(&noted).ok()?)),
            Err(error) => {
                tracing::warn!(%error, "the noted head of the audit log could not be read from the store");
                None
            }
        };
        let shared = Arc::new(Shared {
            store: store.clone(),
            wall_clock: options.wall_clock,
            alarms: options.alarms,
            directory: options.directory.clone(),
            head: Mutex::new(noted.clone().unwrap_or_else(Head::beginning)),
            failure: Mutex::default(),
            dedup: Mutex::default(),
            lost: AtomicU64::new(0),
            calls: AtomicU64::new(0),
        });
        let (commands, queue) = mpsc::channel(limits::AUDIT_QUEUE);
        let worker = Worker {
            writer: Writer::new(options.directory, options.max_bytes, noted),
            shared: Arc::clone(&shared),
            failing_since: None,
            refused: 0,
        };
        let (ended, end) = oneshot::channel();
        let spawned = thread::Builder::new().name("brock-audit".to_owned()).spawn(move || {
            worker.run(queue);
            let _ = ended.send(());
        });
        let log = Self(Some(Arc::new(Inner { shared: Arc::clone(&shared), commands: commands.clone() })));
        if let Err(error) = spawned {
            shared.fail(&format!("cannot start its thread: {error}"));
            return log;
        }
        let mut what = What::new();
        what.insert("version".to_owned(), env!("CARGO_PKG_VERSION").into());
        what.insert("incarnation_began".to_owned(), shared.store.incarnation_reason().into());
        // If this fails, there is an alarm.
        let _ = log.write(Draft::note(Kind::Start, what)).await;
        let (weak, stop) = (commands.downgrade(), tasks.stopping().clone());
        tasks.spawn(TaskName::Audit, |status| async move {
            let mut kept = None;
            let mut ticks = interval(limits::AUDIT_HEAD_INTERVAL);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut counted = Instant::now();
            while stop.run_until_cancelled(ticks.tick()).await.is_some() {
                if counted.elapsed() >= limits::AUDIT_REPEAT_INTERVAL {
                    counted = Instant::now();
                    write_repeats(&shared, &weak);
                }
                retry(&shared, &weak).await;
                shared.keep_head(&mut kept, &status).await;
            }
            // Calls in progress still write; the log ends after the last of them.
            status.set_state("ending");
            let _ = end.await;
            shared.keep_head(&mut kept, &status).await;
        });
        log
    }

    /// Whether there is a log.
    pub fn is_kept(&self) -> bool {
        self.0.is_some()
    }

    /// Its directory, and the head at the last durable line.
    pub fn report(&self) -> Option<(PathBuf, Head)> {
        let shared = &self.0.as_ref()?.shared;
        let head = lock(&shared.head).clone();
        Some((shared.directory.clone(), head))
    }

    /// A number that joins the lines of one call.
    pub fn next_call(&self) -> Option<u64> {
        let shared = &self.0.as_ref()?.shared;
        Some(shared.calls.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Writes a line. Contract: after `Ok` it is durable; after an error the caller must not carry out the
    /// operation.
    pub async fn write(&self, draft: Draft) -> Result<(), NotWritten> {
        self.write_late(|| Some(draft)).await
    }

    /// Like [`AuditLog::write`], but takes the line only when there is room for it: a caller that is
    /// cancelled before still has it, and can pass it to [`AuditLog::leave`].
    pub async fn write_late(&self, draft: impl FnOnce() -> Option<Draft>) -> Result<(), NotWritten> {
        let Some(Inner { commands, .. }) = self.0.as_deref() else { return Ok(()) };
        let written = async {
            let (answer, done) = oneshot::channel();
            let ended = || NotWritten::new("the log has ended with the node");
            let room = commands.reserve().await.map_err(|_| ended())?;
            let Some(draft) = draft() else { return Ok(()) };
            room.send(Request { draft, answer: Some(answer) });
            done.await.unwrap_or_else(|_| Err(ended()))
        };
        timeout(limits::AUDIT_WRITE_TIMEOUT, written).await.unwrap_or_else(|_| {
            let seconds = limits::AUDIT_WRITE_TIMEOUT.as_secs();
            let reason = format!("the disk did not write a line within {seconds} s");
            Err(NotWritten { reason, perhaps_later: true })
        })
    }

    /// Writes a line without waiting. If there is no room, it is counted as lost.
    pub fn leave(&self, draft: Draft) {
        let Some(Inner { commands, shared }) = self.0.as_deref() else { return };
        if commands.try_send(Request { draft, answer: None }).is_err() {
            shared.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Writes a line about a call that changes nothing. While the log works, repetitions within a minute are
    /// only counted.
    pub async fn read(&self, draft: Draft) -> Result<(), NotWritten> {
        let Some(Inner { shared, .. }) = self.0.as_deref() else { return Ok(()) };
        let can_write = lock(&shared.failure).is_none();
        if can_write && lock(&shared.dedup).count_repeat(&draft, shared.wall_clock.now_ms()) {
            return Ok(());
        }
        self.write(draft.clone()).await?;
        lock(&shared.dedup).remember(&draft);
        Ok(())
    }

    /// Writes a line about a denied call, or counts it. Never waits: many denied calls must not delay other
    /// calls.
    pub fn denied(&self, draft: Draft) {
        let Some(Inner { shared, .. }) = self.0.as_deref() else { return };
        let now_ms = shared.wall_clock.now_ms();
        let seen = lock(&shared.dedup).observe(&draft, now_ms);
        match seen {
            Seen::First => self.leave(draft),
            Seen::Repeated => {}
            Seen::TooMany => lock(&shared.dedup).count_other(now_ms),
        }
    }
}

/// Writes the counts of repeated events as lines.
fn write_repeats(shared: &Shared, commands: &mpsc::WeakSender<Request>) {
    let Some(commands) = commands.upgrade() else { return };
    for draft in lock(&shared.dedup).drain() {
        if commands.try_send(Request { draft, answer: None }).is_err() {
            shared.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// After a failure, tries to write again.
async fn retry(shared: &Shared, commands: &mpsc::WeakSender<Request>) {
    let lost = shared.lost.load(Ordering::Relaxed);
    if lock(&shared.failure).is_none() && lost == 0 {
        return;
    }
    let Some(commands) = commands.upgrade() else { return };
    // The worker replaces this draft by a line about the failure.
    let draft = Draft::note(Kind::Gap, What::new());
    let (answer, done) = oneshot::channel();
    if commands.try_send(Request { draft, answer: Some(answer) }).is_ok() {
        let _ = timeout(limits::AUDIT_WRITE_TIMEOUT, done).await;
    }
}

impl Shared {
    fn fail(&self, reason: &str) {
        metrics::counter!(names::AUDIT_FAILURES).increment(1);
        let reason = bounded(reason);
        if lock(&self.failure).replace(reason.clone()).is_none() {
            self.alarms.raise(format!(
                "the audit log in {} cannot be written, so this node refuses operators until it can: {reason}",
                self.directory.display()
            ));
        }
    }

    /// Keeps the head in the store too: at the next start, missing lines up to it are noticed.
    async fn keep_head(&self, kept: &mut Option<Head>, status: &TaskStatus) {
        let failure = lock(&self.failure).clone();
        status.set_state(if failure.is_none() { "waiting" } else { "cannot write" });
        match &failure {
            Some(failure) => status.set_error(failure),
            None => status.clear_error(),
        }
        let head = lock(&self.head).clone();
        if head.sequence == 0 || kept.as_ref() == Some(&head) {
            return;
        }
        match self.store.keep_note(NOTE, head.to_string().into_bytes()).await {
            Ok(()) => *kept = Some(head),
            Err(error) => status.set_error(&format!("the head was not noted in the store: {error}")),
        }
    }
}

/// Owns the files. Runs on its own thread.
struct Worker {
    writer: Writer,
    shared: Arc<Shared>,
    failing_since: Option<Instant>,
    /// Lines refused since then, whose callers got an error.
    refused: u64,
}

impl Worker {
    fn run(mut self, mut queue: mpsc::Receiver<Request>) {
        while let Some(first) = queue.blocking_recv() {
            let mut group = vec![first];
            while group.len() < limits::AUDIT_GROUP {
                let Ok(next) = queue.try_recv() else { break };
                group.push(next);
            }
            self.commit(group);
        }
        let mut last = lock(&self.shared.dedup).drain();
        last.push(Draft::note(Kind::Stop, What::new()));
        self.commit(last.into_iter().map(|draft| Request { draft, answer: None }).collect());
    }

    fn commit(&mut self, group: Vec<Request>) {
        // The drafts of retries only trigger a write.
        let (tries, group): (Vec<_>, Vec<_>) =
            group.into_iter().partition(|command| command.draft.kind == Kind::Gap);
        let waited_for = group.iter().filter(|command| command.answer.is_some()).count() as u64;
        let unwaited = (group.len() as u64).saturating_sub(waited_for);
        let (drafts, mut answers): (Vec<Draft>, Vec<_>) =
            group.into_iter().map(|command| (command.draft, command.answer)).unzip();
        answers.extend(tries.into_iter().map(|command| command.answer));
        let lost = self.shared.lost.load(Ordering::Relaxed);
        let gap = self.gap(lost);
        let lines: Vec<Draft> = gap.iter().chain(&drafts).cloned().collect();
        let origin = self.shared.store.origin();
        let origin = Origin {
            node: self.shared.store.node_id().to_string(),
            incarnation: format!("{:08x}", origin.incarnation().0),
            at_unix_ms: self.shared.wall_clock.now_ms(),
        };
        let written = match lines.is_empty() {
            true => Ok(()),
            false => self.writer.append(&origin, &lines),
        };
        self.writer.alarms.drain(..).for_each(|alarm| self.shared.alarms.raise(alarm));
        let answer = match written {
            Ok(()) => {
                self.shared.lost.fetch_sub(lost, Ordering::Relaxed);
                if gap.is_some() {
                    self.recovered();
                }
                lock(&self.shared.head).clone_from(self.writer.head());
                drafts.iter().for_each(count);
                Ok(())
            }
            Err(error) => {
                self.failing_since.get_or_insert_with(Instant::now);
                self.refused += waited_for;
                self.shared.lost.fetch_add(unwaited, Ordering::Relaxed);
                self.shared.fail(&error.to_string());
                // With the storage, the directory of the log is usually gone as well.
                Err(match &*self.shared.store.health().borrow() {
                    Health::Lost(reason) | Health::ReadOnly(reason) => NotWritten::new(reason),
                    _ => NotWritten::new("its disk is full or does not work; the node's log has the details"),
                })
            }
        };
        for waiting in answers.into_iter().flatten() {
            let _ = waiting.send(answer.clone());
        }
    }

    /// A line about the lines that are missing before it.
    fn gap(&self, lost: u64) -> Option<Draft> {
        if self.failing_since.is_none() && lost == 0 {
            return None;
        }
        let mut what = What::new();
        if let Some(since) = self.failing_since {
            what.insert("not_writable_seconds".to_owned(), since.elapsed().as_secs().into());
            what.insert("refused".to_owned(), self.refused.into());
        }
        what.insert("lost".to_owned(), lost.into());
        Some(Draft::note(Kind::Gap, what))
    }

    fn recovered(&mut self) {
        self.refused = 0;
        if self.failing_since.take().is_some() {
            *lock(&self.shared.failure) = None;
            tracing::info!("the audit log can be written again");
        }
    }
}

fn count(draft: &Draft) {
    let outcome = match (draft.kind, draft.outcome.as_deref()) {
        (Kind::Denied, _) => "denied",
        (_, Some("Ok")) => "ok",
        (_, Some(_)) => "error",
        (_, None) => "none",
    };
    metrics::counter!(names::AUDIT_ENTRIES, "outcome" => outcome).increment(1);
}
