//! Following a node's log. The entries wait on the disk, so a slow reader costs the writer nothing and
//! this node one page of entries.

use std::{sync::Arc, time::Duration};

use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::error::RequestError;
use crate::store::{Store, StoreError, Tailed};
use brock_core::base::limits;
use brock_net::task::Tasks;

/// The entries for one reader, and the reason if the stream ends early.
pub type Tail = ReceiverStream<Result<Tailed, RequestError>>;

/// All readers that follow the log. Cheap to clone.
#[derive(Clone)]
pub struct Tails {
    store: Store,
    tasks: Tasks,
    readers: Arc<Semaphore>,
    patience: Duration,
}

impl Tails {
    /// Readers of this store's log.
    pub fn new(store: Store, tasks: Tasks) -> Self {
        let readers = Arc::new(Semaphore::new(limits::TAILS_MAX));
        Self { store, tasks, readers, patience: limits::TAIL_PATIENCE }
    }

    /// The `last` newest entries, and with `follow` also new ones until `draining` is cancelled.
    pub fn begin(&self, last: u32, follow: bool, draining: CancellationToken) -> Result<Tail, RequestError> {
        if last > limits::TAIL_LAST_MAX {
            let problem = format!("is {last}; at most {}", limits::TAIL_LAST_MAX);
            return Err(RequestError::field("last", problem));
        }
        let Ok(reader) = Arc::clone(&self.readers).try_acquire_owned() else {
            return Err(RequestError::TooManyTails);
        };
        let (sender, entries) = mpsc::channel(limits::TAIL_PAGE + 1);
        let out = Out { sender, patience: self.patience };
        // Without `follow` the stream ends soon by itself, also on a connection that drains.
        let stop = if follow { draining } else { self.tasks.stopping().clone() };
        let store = self.store.clone();
        self.tasks.spawn_short(async move {
            // Room for the reason of an early end, which a reader that does not read must find.
            let Ok(room) = out.sender.clone().reserve_owned().await else { return };
            let ended = stop.run_until_cancelled(tail(&store, last as usize, follow, &out)).await;
            match ended {
                None => drop(room.send(Err(RequestError::TailStopped))),
                Some(Err(Ended::Early(error))) => drop(room.send(Err(error))),
                Some(Ok(()) | Err(Ended::HungUp)) => {}
            }
            drop(reader);
        });
        Ok(ReceiverStream::new(entries))
    }
}

/// Why a stream ended early.
enum Ended {
    /// The reader hung up.
    HungUp,
    Early(RequestError),
}

impl From<StoreError> for Ended {
    fn from(error: StoreError) -> Self {
        Self::Early(match error {
            StoreError::BelowFloor { origin, floor } => RequestError::TailOvertaken { origin, floor },
            other => other.into(),
        })
    }
}

/// The channel to one reader.
struct Out {
    sender: mpsc::Sender<Result<Tailed, RequestError>>,
    patience: Duration,
}

async fn tail(store: &Store, last: usize, follow: bool, out: &Out) -> Result<(), Ended> {
    let mut commits = store.commits();
    let (newest, mut read) = store.tail(last).await?;
    send(out, newest).await?;
    if !follow {
        return Ok(());
    }
    loop {
        commits.mark_unchanged();
        let (page, covered) = store.tail_above(read.clone(), limits::TAIL_PAGE).await?;
        let is_new = covered != read;
        read = covered;
        send(out, page).await?;
        if !is_new {
            tokio::select! {
                // The store is closed: the node ends.
                changed = commits.changed() => if changed.is_err() { return Ok(()) },
                () = out.sender.closed() => return Err(Ended::HungUp),
            }
        }
    }
}

async fn send(out: &Out, entries: Vec<Tailed>) -> Result<(), Ended> {
    for entry in entries {
        match out.sender.send_timeout(Ok(entry), out.patience).await {
            Ok(()) => {}
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => {
                return Err(Ended::Early(RequestError::TailNotRead));
            }
            Err(mpsc::error::SendTimeoutError::Closed(_)) => return Err(Ended::HungUp),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::StreamExt;

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
        let Ended::Early(error) = StoreError::BelowFloor { origin, floor }.into() else {
            panic!("it did not hang up");
        };
        assert_eq!(error, RequestError::TailOvertaken { origin, floor });
        let text = error.message();
        assert!(text.contains("41") && text.contains("node-1"), "{text}");
    }

    #[tokio::test]
    async fn a_reader_that_does_not_read_is_told_why_its_stream_ends_and_holds_nothing_up() {
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
        let entries = tails.begin(limits::TAIL_LAST_MAX, true, CancellationToken::new()).unwrap();
        assert_eq!(tails.readers.available_permits(), limits::TAILS_MAX - 1);
        // It ends although the reader does not read.
        drop(tails.readers.acquire_many(limits::TAILS_MAX as u32).await.unwrap());
        let rest: Vec<_> = entries.collect().await;
        let (last, read) = rest.split_last().unwrap();
        assert!(read.len() < 2 * limits::TAIL_PAGE && read.iter().all(Result::is_ok), "{}", read.len());
        let error = last.as_ref().unwrap_err();
        assert_eq!(*error, RequestError::TailNotRead);
        assert!(error.message().contains("begin again"), "{error}");
        tokio::task::spawn_blocking(move || store.close()).await.unwrap().unwrap();
    }
}
