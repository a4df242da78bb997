//! The handle that everybody writes the audit log through, and the thread that does it.
//!
//! One thread takes what waits, writes it with one fsync and answers. When it cannot, everybody who
//! waits is told, and so is everybody after them until it can again: what must be recorded first is
//! then not done.

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
    dedup::{Repeats, Seen},
    entry::{Draft, Head, Kind, Origin, What},
    writer::Book,
};
use crate::store::Store;
use brock_core::base::{limits, metrics as names};
use brock_net::task::{TaskName, TaskStatus, Tasks, bounded};

const NOTE: &[u8] = b"audit_head";

/// Why something is not in the log. For the caller, so without the node's paths.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the audit log of this node cannot be written, and nothing is done here that it does not hold: {reason}"
)]
pub struct NotWritten {
    reason: String,
    /// Whether it may be written all the same, later.
    pub perhaps_later: bool,
}

impl NotWritten {
    fn new(reason: &str) -> Self {
        Self { reason: reason.to_owned(), perhaps_later: false }
    }
}

/// Where the log is, and how much of it.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its directory.
    pub directory: PathBuf,
    /// The most bytes that are kept.
    pub max_bytes: u64,
}

struct Command {
    draft: Draft,
    answer: Option<oneshot::Sender<Result<(), NotWritten>>>,
}

struct Shared {
    store: Store,
    directory: PathBuf,
    head: Mutex<Head>,
    /// Why the log cannot be written; empty = it can.
    failure: Mutex<String>,
    repeats: Mutex<Repeats>,
    /// Lines that found no room in the queue or could not be written, and that nobody waited for.
    lost: AtomicU64,
    calls: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The audit log of a node, or of one that keeps none. Cheap to clone. When the last one is dropped,
/// the log ends in order.
#[derive(Clone)]
pub struct Trail(Option<Arc<Inner>>);

struct Inner {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
}

impl Trail {
    /// Keeps nothing.
    pub fn none() -> Self {
        Self(None)
    }

    /// Opens the log, and starts what keeps it. A log that cannot be written does not stop a node: it
    /// serves its clients, and refuses its operators until it can.
    pub async fn open(options: Options, store: &Store, tasks: &Tasks) -> Self {
        let noted = match store.note(NOTE).await {
            Ok(noted) => noted.and_then(|noted| Head::parse(std::str::from_utf8(&noted).ok()?)),
            Err(error) => {
                tracing::warn!(%error, "the head of the audit log that the store has noted could not be read");
                None
            }
        };
        let shared = Arc::new(Shared {
            store: store.clone(),
            directory: options.directory.clone(),
            head: Mutex::new(noted.clone().unwrap_or_else(Head::beginning)),
            failure: Mutex::default(),
            repeats: Mutex::default(),
            lost: AtomicU64::new(0),
            calls: AtomicU64::new(0),
        });
        let (commands, queue) = mpsc::channel(limits::AUDIT_QUEUE);
        let writer = Writer {
            book: Book::new(options.directory, options.max_bytes, noted),
            shared: Arc::clone(&shared),
            failing_since: None,
            refused: 0,
        };
        let (ended, end) = oneshot::channel();
        let spawned = thread::Builder::new().name("brock-audit".to_owned()).spawn(move || {
            writer.run(queue);
            let _ = ended.send(());
        });
        let trail = Self(Some(Arc::new(Inner { shared: Arc::clone(&shared), commands: commands.clone() })));
        if let Err(error) = spawned {
            shared.fail(&format!("cannot start its thread: {error}"));
            return trail;
        }
        let mut what = What::new();
        what.insert("version".to_owned(), env!("CARGO_PKG_VERSION").into());
        what.insert("incarnation_began".to_owned(), shared.store.incarnation_reason().into());
        // Whether it could be written shows in the alarms.
        let _ = trail.write(Draft::note(Kind::Start, what)).await;
        let (weak, stop) = (commands.downgrade(), tasks.stopping().clone());
        tasks.spawn(TaskName::Audit, |status| async move {
            let mut kept = None;
            let mut ticks = interval(limits::AUDIT_HEAD_INTERVAL);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut told = Instant::now();
            while stop.run_until_cancelled(ticks.tick()).await.is_some() {
                if told.elapsed() >= limits::AUDIT_REPEAT_INTERVAL {
                    told = Instant::now();
                    tell_repeats(&shared, &weak);
                }
                retry(&shared, &weak).await;
                shared.keep_head(&mut kept, &status).await;
            }
            // Calls under way still write; the log ends after the last of them.
            status.set_state("ending");
            let _ = end.await;
            shared.keep_head(&mut kept, &status).await;
        });
        trail
    }

    /// Whether there is a log.
    pub fn is_kept(&self) -> bool {
        self.0.is_some()
    }

    /// Where it lies, and the last line that is durable.
    pub fn report(&self) -> Option<(PathBuf, Head)> {
        let shared = &self.0.as_ref()?.shared;
        let head = lock(&shared.head).clone();
        Some((shared.directory.clone(), head))
    }

    /// A number for a call, which joins its lines.
    pub fn next_call(&self) -> Option<u64> {
        let shared = &self.0.as_ref()?.shared;
        Some(shared.calls.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Writes a line. It is durable when this returns Ok; otherwise what it tells must not happen.
    pub async fn write(&self, draft: Draft) -> Result<(), NotWritten> {
        self.write_late(|| Some(draft)).await
    }

    /// The same for a line that is asked for once there is room for it: whoever is given up while waiting
    /// for that still has it, and can leave it.
    pub async fn write_late(&self, draft: impl FnOnce() -> Option<Draft>) -> Result<(), NotWritten> {
        let Some(Inner { commands, .. }) = self.0.as_deref() else { return Ok(()) };
        let written = async {
            let (answer, done) = oneshot::channel();
            let ended = || NotWritten::new("it has ended with the node");
            let room = commands.reserve().await.map_err(|_| ended())?;
            let Some(draft) = draft() else { return Ok(()) };
            room.send(Command { draft, answer: Some(answer) });
            done.await.unwrap_or_else(|_| Err(ended()))
        };
        timeout(limits::AUDIT_WRITE_TIMEOUT, written).await.unwrap_or_else(|_| {
            let seconds = limits::AUDIT_WRITE_TIMEOUT.as_secs();
            let reason = format!("the disk has not taken a line within {seconds} s");
            Err(NotWritten { reason, perhaps_later: true })
        })
    }

    /// Writes a line without waiting. If there is no room it is only counted.
    pub fn leave(&self, draft: Draft) {
        let Some(Inner { commands, shared }) = self.0.as_deref() else { return };
        if commands.try_send(Command { draft, answer: None }).is_err() {
            shared.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The same for a call that changed nothing. The same again within a minute is counted, as long as
    /// the log can be written.
    pub async fn read(&self, draft: Draft) -> Result<(), NotWritten> {
        let Some(Inner { shared, .. }) = self.0.as_deref() else { return Ok(()) };
        let can_write = lock(&shared.failure).is_empty();
        if can_write && lock(&shared.repeats).again(&draft, shared.store.now_ms()) {
            return Ok(());
        }
        self.write(draft.clone()).await?;
        lock(&shared.repeats).remember(&draft);
        Ok(())
    }

    /// A call was denied. Never waits: whoever makes many of them must not hold up others.
    pub fn denied(&self, draft: Draft) {
        let Some(Inner { shared, .. }) = self.0.as_deref() else { return };
        let now_ms = shared.store.now_ms();
        let seen = lock(&shared.repeats).note(&draft, now_ms);
        match seen {
            Seen::First => self.leave(draft),
            Seen::Again => {}
            Seen::TooMany => lock(&shared.repeats).note_other(now_ms),
        }
    }
}

/// What was counted becomes lines.
fn tell_repeats(shared: &Shared, commands: &mpsc::WeakSender<Command>) {
    let Some(commands) = commands.upgrade() else { return };
    for draft in lock(&shared.repeats).take() {
        if commands.try_send(Command { draft, answer: None }).is_err() {
            shared.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// While the log cannot be written it is tried again, so that it is known when it can.
async fn retry(shared: &Shared, commands: &mpsc::WeakSender<Command>) {
    let lost = shared.lost.load(Ordering::Relaxed);
    if lock(&shared.failure).is_empty() && lost == 0 {
        return;
    }
    let Some(commands) = commands.upgrade() else { return };
    // The writer says by itself what there is to be said.
    let draft = Draft::note(Kind::Gap, What::new());
    let (answer, done) = oneshot::channel();
    if commands.try_send(Command { draft, answer: Some(answer) }).is_ok() {
        let _ = timeout(limits::AUDIT_WRITE_TIMEOUT, done).await;
    }
}

impl Shared {
    fn fail(&self, reason: &str) {
        metrics::counter!(names::AUDIT_FAILURES).increment(1);
        let reason = bounded(reason);
        let was_well = {
            let mut failure = lock(&self.failure);
            let was_well = failure.is_empty();
            failure.clone_from(&reason);
            was_well
        };
        if was_well {
            self.store.alarm(format!(
                "the audit log in {} cannot be written, so operators are refused until it can: {reason}",
                self.directory.display()
            ));
        }
    }

    /// What is in the files beyond this is believed; what is missing up to here is noticed.
    async fn keep_head(&self, kept: &mut Option<Head>, status: &TaskStatus) {
        let failure = lock(&self.failure).clone();
        status.set_state(if failure.is_empty() { "waiting" } else { "cannot write" });
        status.set_error(&failure);
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

/// Owns the files. Runs on a thread of its own.
struct Writer {
    book: Book,
    shared: Arc<Shared>,
    failing_since: Option<Instant>,
    /// Lines that somebody waited for in vain since then.
    refused: u64,
}

impl Writer {
    fn run(mut self, mut queue: mpsc::Receiver<Command>) {
        while let Some(first) = queue.blocking_recv() {
            let mut group = vec![first];
            while group.len() < limits::AUDIT_GROUP {
                let Ok(next) = queue.try_recv() else { break };
                group.push(next);
            }
            self.commit(group);
        }
        let mut last = lock(&self.shared.repeats).take();
        last.push(Draft::note(Kind::Stop, What::new()));
        self.commit(last.into_iter().map(|draft| Command { draft, answer: None }).collect());
    }

    fn commit(&mut self, group: Vec<Command>) {
        // What a retry sends is a line only if there is something to tell.
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
            at_unix_ms: self.shared.store.now_ms(),
        };
        let written = match lines.is_empty() {
            true => Ok(()),
            false => self.book.append(&origin, &lines),
        };
        self.book.alarms.drain(..).for_each(|alarm| self.shared.store.alarm(alarm));
        let answer = match written {
            Ok(()) => {
                self.shared.lost.fetch_sub(lost, Ordering::Relaxed);
                if gap.is_some() {
                    self.recovered();
                }
                lock(&self.shared.head).clone_from(self.book.head());
                drafts.iter().for_each(count);
                Ok(())
            }
            Err(error) => {
                self.failing_since.get_or_insert_with(Instant::now);
                self.refused += waited_for;
                self.shared.lost.fetch_add(unwaited, Ordering::Relaxed);
                self.shared.fail(&error.to_string());
                Err(NotWritten::new("its disk is full or does not work; the node's log says more"))
            }
        };
        for waiting in answers.into_iter().flatten() {
            let _ = waiting.send(answer.clone());
        }
    }

    /// What the log does not hold, for its next line.
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
            lock(&self.shared.failure).clear();
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
