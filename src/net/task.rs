//! Background work with a name, a state, a last error and an owner.

use std::{
    fmt::{self, Display},
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use brock_core::base::limits;

macro_rules! task_names {
    ($($name:ident = $text:literal,)*) => {
        /// The name of a piece of background work, unique on a node. Statuses carry it as text.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum TaskName {
            $(#[doc = concat!("`", $text, "`")] $name,)*
            /// Resolves one name of `node.join`.
            Discovery(String),
            /// Pulls from the peer at one address.
            Puller(String),
        }

        impl TaskName {
            /// Reads the text of a status; `None` = this version does not know the task.
            pub fn parse(text: &str) -> Option<Self> {
                match text {
                    $($text => Some(Self::$name),)*
                    _ => text
                        .strip_prefix("discovery ")
                        .map(|name| Self::Discovery(name.to_owned()))
                        .or_else(|| text.strip_prefix("puller ").map(|address| Self::Puller(address.to_owned()))),
                }
            }
        }

        impl fmt::Display for TaskName {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$name => f.write_str($text),)*
                    Self::Discovery(name) => write!(f, "discovery {name}"),
                    Self::Puller(address) => write!(f, "puller {address}"),
                }
            }
        }
    };
}

task_names! {
    Accept = "accept",
    Audit = "audit",
    BackupChecks = "backup-checks",
    Backups = "backups",
    Certificates = "certificates",
    Checkpoint = "upkeep",
    Compactor = "compactor",
    Disk = "disk",
    Fills = "fills",
    FirstCatchUp = "first catch-up",
    Grpc = "grpc",
    Http = "http",
    MetricsUpkeep = "metrics upkeep",
    Pings = "pings",
    Pullers = "pullers",
    Revocations = "revocations",
    Sampler = "sampler",
    Scrubber = "scrubber",
    Sweeper = "sweeper",
}

/// What an operator sees of a piece of background work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskReport {
    /// Which one.
    pub name: TaskName,
    /// What it is doing, in a word or two.
    pub state: String,
    /// Its last error; `None` = none since the last success.
    pub last_error: Option<String>,
}

/// A task's own handle on its report.
#[derive(Debug, Clone)]
pub struct TaskStatus(Arc<Mutex<TaskReport>>);

impl TaskStatus {
    /// Sets what the task is doing.
    pub fn set_state(&self, state: &str) {
        let mut report = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if report.state != state {
            state.clone_into(&mut report.state);
        }
    }

    /// Notes an error, cut to a bounded length.
    pub fn set_error(&self, error: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).last_error = Some(bounded(error));
    }

    /// Notes a success: the last error is over.
    pub fn clear_error(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).last_error = None;
    }

    /// Notes a success or an error.
    pub fn set_outcome<T, E: Display>(&self, outcome: &Result<T, E>) {
        match outcome {
            Ok(_) => self.clear_error(),
            Err(error) => self.set_error(&error.to_string()),
        }
    }
}

/// Cuts an error text to the length that a status keeps.
pub fn bounded(text: &str) -> String {
    let mut end = text.len().min(limits::ERROR_TEXT_MAX_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// The owner of a node's background work.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    reports: Arc<Mutex<Vec<TaskStatus>>>,
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    /// Starts a named task. It should end soon after [`Tasks::stopping`] is cancelled.
    pub fn spawn<F: Future<Output = ()> + Send + 'static>(
        &self,
        name: TaskName,
        work: impl FnOnce(TaskStatus) -> F,
    ) {
        let report = TaskReport { name, state: "starting".to_owned(), last_error: None };
        let status = TaskStatus(Arc::new(Mutex::new(report)));
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).push(status.clone());
        let work = work(status.clone());
        self.tracker.spawn(async move {
            work.await;
            status.set_state("ended");
        });
    }

    /// Starts a named task that may end long before the node does. Its report is removed when it ends.
    pub fn spawn_passing<F: Future<Output = ()> + Send + 'static>(
        &self,
        name: TaskName,
        work: impl FnOnce(TaskStatus) -> F,
    ) {
        let reports = Arc::clone(&self.reports);
        self.spawn(name, |status| {
            let work = work(status.clone());
            async move {
                work.await;
                let mut reports = reports.lock().unwrap_or_else(PoisonError::into_inner);
                reports.retain(|other| !Arc::ptr_eq(&other.0, &status.0));
            }
        });
    }

    /// Starts short-lived work (a connection, a call) without a report of its own.
    pub fn spawn_short<F: Future<Output = ()> + Send + 'static>(&self, work: F) {
        self.tracker.spawn(work);
    }

    /// Cancelled when the node shuts down.
    pub fn stopping(&self) -> &CancellationToken {
        &self.stop
    }

    /// The reports of all named tasks, in the order of their start.
    pub fn reports(&self) -> Vec<TaskReport> {
        let reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        reports.iter().map(|status| status.0.lock().unwrap_or_else(PoisonError::into_inner).clone()).collect()
    }

    /// Stops all tasks and waits for them. Returns false if some had not ended at the deadline.
    pub async fn stop(&self, deadline: Duration) -> bool {
        self.stop.cancel();
        self.tracker.close();
        tokio::time::timeout(deadline, self.tracker.wait()).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tasks_report_and_stop_together() {
        let tasks = Tasks::default();
        let stop = tasks.stopping().clone();
        let (started, ready) = tokio::sync::oneshot::channel();
        tasks.spawn(TaskName::Sweeper, |status| async move {
            status.set_state("sweeping");
            status.set_error("disk on fire");
            started.send(()).unwrap();
            stop.cancelled().await;
        });
        ready.await.unwrap();
        let [report] = tasks.reports().try_into().unwrap();
        assert_eq!((report.name, report.state.as_str()), (TaskName::Sweeper, "sweeping"));
        assert_eq!(report.last_error.as_deref(), Some("disk on fire"));
        assert!(tasks.stop(Duration::from_secs(5)).await);
        assert_eq!(tasks.reports()[0].state, "ended");
    }

    #[tokio::test]
    async fn a_passing_task_takes_its_line_with_it() {
        let tasks = Tasks::default();
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        tasks.spawn(TaskName::Grpc, |_| async {});
        tasks.spawn_passing(TaskName::Puller("node-2:1".to_owned()), |_| async move { ended.await.unwrap() });
        assert_eq!(tasks.reports().len(), 2);
        end.send(()).unwrap();
        assert!(tasks.stop(Duration::from_secs(5)).await);
        let left: Vec<_> = tasks.reports().into_iter().map(|report| report.name).collect();
        assert_eq!(left, [TaskName::Grpc]);
    }

    #[test]
    fn the_text_of_a_name_reads_back() {
        for text in ["first catch-up", "backup-checks", "discovery dns+brock:1", "puller node-2:1"] {
            assert_eq!(TaskName::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(TaskName::parse("puller"), None);
        assert_eq!(TaskName::parse("of a later version"), None);
    }

    #[tokio::test]
    async fn a_task_that_does_not_end_is_reported_by_stop() {
        let tasks = Tasks::default();
        tasks.spawn_short(std::future::pending());
        assert!(!tasks.stop(Duration::from_millis(1)).await);
    }

    #[test]
    fn an_error_text_is_cut_at_a_character() {
        assert_eq!(bounded(&"é".repeat(1000)).len(), limits::ERROR_TEXT_MAX_BYTES);
        assert_eq!(bounded("short"), "short");
    }
}
