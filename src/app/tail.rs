//! Following a node's log: the entries themselves wait on the disk, so whoever reads slowly costs
//! the writer nothing and this node a page of them.

use std::{pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::Stream;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::error::Problem;
use crate::store::{Store, StoreError, Tailed};
use brock_core::{
    base::limits,
    domain::{codec, operation::Operation},
    proto::{self, operation::Kind},
};
use brock_net::task::Tasks;

/// What is sent to a reader.
pub type TailStream = Pin<Box<dyn Stream<Item = Result<proto::LogEntry, Status>> + Send>>;

/// Everybody who follows the log. Cheap to clone.
#[derive(Clone)]
pub struct Tails {
    store: Store,
    tasks: Tasks,
    readers: Arc<Semaphore>,
    patience: Duration,
}

impl Tails {
    /// Of this store's log.
    pub fn new(store: Store, tasks: Tasks) -> Self {
        let readers = Arc::new(Semaphore::new(limits::TAILS_MAX));
        Self { store, tasks, readers, patience: limits::TAIL_PATIENCE }
    }

    /// The newest entries, and if it is wanted those that come until `draining` is cancelled.
    pub fn begin(
        &self,
        request: proto::TailLogRequest,
        draining: CancellationToken,
    ) -> Result<TailStream, Problem> {
        let proto::TailLogRequest { last, follow } = request;
        if last > limits::TAIL_LAST_MAX {
            let problem = format!("is {last}; at most {}", limits::TAIL_LAST_MAX);
            return Err(Problem::Field { field: "last", problem });
        }
        let Ok(reader) = Arc::clone(&self.readers).try_acquire_owned() else {
            return Err(Problem::TooManyTails);
        };
        let (sender, entries) = mpsc::channel(limits::TAIL_PAGE + 1);
        let out = Out { sender, patience: self.patience };
        // What is there already comes soon enough for a connection that drains.
        let stop = if follow { draining } else { self.tasks.stopping().clone() };
        let store = self.store.clone();
        self.tasks.spawn_short(async move {
            // The place for the reason of an early end: a reader that does not read must find it.
            let Ok(last_word) = out.sender.clone().reserve_owned().await else { return };
            let ended = stop.run_until_cancelled(tail(&store, last as usize, follow, &out)).await;
            match ended {
                None => drop(last_word.send(Err(Problem::TailStopped.into()))),
                Some(Err(Ended::Problem(problem))) => drop(last_word.send(Err(problem.into()))),
                Some(Ok(()) | Err(Ended::HungUp)) => {}
            }
            drop(reader);
        });
        Ok(Box::pin(ReceiverStream::new(entries)))
    }
}

/// Why a stream ended early.
enum Ended {
    /// Nobody listens any more.
    HungUp,
    Problem(Problem),
}

impl From<StoreError> for Ended {
    fn from(error: StoreError) -> Self {
        Self::Problem(match error {
            StoreError::BelowFloor { origin, floor } => Problem::TailOvertaken { origin, floor },
            other => other.into(),
        })
    }
}

/// The way to one reader.
struct Out {
    sender: mpsc::Sender<Result<proto::LogEntry, Status>>,
    patience: Duration,
}

async fn tail(store: &Store, last: usize, follow: bool, out: &Out) -> Result<(), Ended> {
    let mut commits = store.commits();
    let (newest, mut read) = store.tail(last).await?;
    send(out, &newest).await?;
    if !follow {
        return Ok(());
    }
    loop {
        commits.mark_unchanged();
        let (page, covered) = store.tail_above(read.clone(), limits::TAIL_PAGE).await?;
        let is_new = covered != read;
        read = covered;
        send(out, &page).await?;
        if !is_new {
            tokio::select! {
                // The store is closed: the node ends.
                changed = commits.changed() => if changed.is_err() { return Ok(()) },
                () = out.sender.closed() => return Err(Ended::HungUp),
            }
        }
    }
}

async fn send(out: &Out, entries: &[Tailed]) -> Result<(), Ended> {
    for entry in entries {
        match out.sender.send_timeout(Ok(encode(entry)), out.patience).await {
            Ok(()) => {}
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => {
                return Err(Ended::Problem(Problem::TailNotRead));
            }
            Err(mpsc::error::SendTimeoutError::Closed(_)) => return Err(Ended::HungUp),
        }
    }
    Ok(())
}

fn encode(entry: &Tailed) -> proto::LogEntry {
    let kind = match entry.operation {
        Some(Operation::Create { .. }) => Kind::Create,
        Some(Operation::Invalidate { .. }) => Kind::Invalidate,
        Some(Operation::Unpublish) => Kind::Unpublish,
        Some(Operation::Delete) => Kind::Delete,
        None => Kind::Unspecified,
    };
    proto::LogEntry {
        stamp: Some(codec::stamp_to_proto(entry.stamp)),
        kind: kind.into(),
        key_hash: Bytes::copy_from_slice(&entry.key_hash.0),
        applied_unix_ms: i64::try_from(entry.applied_unix_ms).unwrap_or(i64::MAX),
        log_bytes: entry.log_bytes,
        quarantined: entry.is_quarantined,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::StreamExt;
    use tonic::Code;

    use super::*;
    use crate::store::{NewRecord, Options};
    use brock_core::base::{
        id::{Incarnation, KeyHash, Origin, sha256},
        vector::Clock,
    };

    #[test]
    fn a_reader_that_compaction_has_overtaken_is_told_where_it_goes_on() {
        let origin = Origin::new(&"node-1".parse().unwrap(), Incarnation(7));
        let floor = Clock(41);
        let Ended::Problem(problem) = StoreError::BelowFloor { origin, floor }.into() else {
            panic!("it did not hang up");
        };
        let status = Status::from(problem);
        assert_eq!(status.code(), Code::Aborted);
        assert!(status.message().contains("41") && status.message().contains("node-1"), "{status}");
    }

    #[tokio::test]
    async fn a_reader_that_does_not_read_is_cut_off_with_a_word_and_nobody_waits_for_it() {
        let store = Store::open(&Options::ram("node-1".parse().unwrap())).unwrap();
        let record = |i: u64| NewRecord {
            key_hash: KeyHash(sha256(&i.to_be_bytes())),
            created_at: 1,
            expires_at: None,
            public: false,
            payload: Bytes::from_static(b"p"),
        };
        store.create((0..2 * limits::TAIL_PAGE as u64).map(record).collect()).await.unwrap();
        let tails =
            Tails { patience: Duration::from_millis(1), ..Tails::new(store.clone(), Tasks::default()) };
        let request = proto::TailLogRequest { last: limits::TAIL_LAST_MAX, follow: true };
        let entries = tails.begin(request, CancellationToken::new()).unwrap();
        assert_eq!(tails.readers.available_permits(), limits::TAILS_MAX - 1);
        // Nobody reads, and it ends all the same.
        drop(tails.readers.acquire_many(limits::TAILS_MAX as u32).await.unwrap());
        let rest: Vec<_> = entries.collect().await;
        let (last, read) = rest.split_last().unwrap();
        assert!(read.len() < 2 * limits::TAIL_PAGE && read.iter().all(Result::is_ok), "{}", read.len());
        let status = last.as_ref().unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert!(status.message().contains("begin anew"), "{status}");
        tokio::task::spawn_blocking(move || store.close()).await.unwrap().unwrap();
    }
}
