//! Watching nodes: when each of them shows what another one acknowledged.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use super::{drive::BROKEN_CONNECTION_PAUSE, report, tally, work::Payloads};
use crate::{access, failure::Failure, output};
use brock_client::{Client, calls, error::reason_of};
use brock_core::{
    base::limits,
    proto::{self, batch_get_response::item::Outcome as GetOutcome},
};
use brock_net::address::Address;
use bytes::Bytes;
use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::{
    sync::mpsc::{self, error::TryRecvError},
    task::JoinSet,
    time::timeout,
};
use tonic::{Code, Status, transport::Channel};

/// Acknowledged operations that may be queued for a reader; further ones slow the writers down.
const WAITING_MAX: usize = 1_000_000;

/// What a reader must show for each record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Awaited {
    /// The record.
    Held,
    /// A refusal, because the record is revoked.
    Refused,
}

/// How the readers are asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Looking {
    pub(super) awaited: Awaited,
    /// How often.
    pub(super) poll: Duration,
    /// How long after the last acknowledgement.
    pub(super) patience: Duration,
    pub(super) call_timeout: Duration,
}

/// A record whose operation was acknowledged.
#[derive(Debug, Clone)]
struct Acknowledged {
    key_hash: Bytes,
    at: Instant,
    /// How many readers have not shown it.
    left: Arc<AtomicUsize>,
}

/// The queues from the writers to the readers. The readers end when the last copy is dropped.
#[derive(Clone)]
pub(super) struct Feeds(Vec<mpsc::Sender<Acknowledged>>);

impl Feeds {
    pub(super) async fn send(&self, key_hash: &Bytes, at: Instant) {
        let left = Arc::new(AtomicUsize::new(self.0.len()));
        for feed in &self.0 {
            // A reader that ended early has reported why.
            let _ = feed.send(Acknowledged { key_hash: key_hash.clone(), at, left: left.clone() }).await;
        }
    }
}

/// The running readers.
pub(super) struct Watching(JoinSet<Reader>);

impl Watching {
    /// What they saw, by address.
    pub(super) async fn finish(mut self) -> Result<Vec<Reader>, Failure> {
        let mut seen = Vec::new();
        while let Some(ended) = self.0.join_next().await {
            seen.push(ended.map_err(|_| Failure::Error("a client of the bench panicked".to_owned()))?);
        }
        seen.sort_by(|a, b| a.address.cmp(&b.address));
        Ok(seen)
    }
}

/// Reads `--readers`.
pub(super) fn reader_addresses(texts: &[String]) -> Result<Vec<Address>, Failure> {
    let readers = access::parse_addresses(texts)?;
    match readers.is_empty() {
        true => Err(Failure::Usage("--readers HOST:PORT[,…] is missing".to_owned())),
        false => Ok(readers),
    }
}

/// A connection to every reader.
pub(super) async fn connect(client: &Client, readers: &[Address]) -> Result<Vec<(String, Channel)>, Failure> {
    let mut reading = Vec::new();
    for address in readers {
        reading.push((address.to_string(), client.connect(address).await?));
    }
    Ok(reading)
}

/// Starts the readers.
pub(super) fn start(
    payloads: &Payloads,
    looking: Looking,
    reading: Vec<(String, Channel)>,
) -> Result<(Feeds, Watching), Failure> {
    let mut readers = JoinSet::new();
    let mut feeds = Vec::new();
    for (address, channel) in reading {
        let (feed, acknowledged) = mpsc::channel(WAITING_MAX);
        feeds.push(feed);
        let reader = Reader::new(address, payloads.share(), looking)?;
        readers.spawn(reader.follow(channel, acknowledged));
    }
    Ok((Feeds(feeds), Watching(readers)))
}

/// Reports the errors of the readers on standard error.
pub(super) fn explain(seen: &[Reader]) {
    for reader in seen {
        if let Some(error) = &reader.error {
            output::message(&format!("{}: the last error: {error}", reader.address));
        }
    }
}

/// One reader, and what it has shown.
pub(super) struct Reader {
    pub(super) address: String,
    payloads: Payloads,
    looking: Looking,
    /// From the acknowledgement until this node showed the record.
    pub(super) latencies: Histogram<u64>,
    /// The same, for the records that this node was the last to show.
    pub(super) last: Histogram<u64>,
    pub(super) wrong: u64,
    pub(super) unseen: u64,
    pub(super) errors: u64,
    error: Option<String>,
}

impl Reader {
    fn new(address: String, payloads: Payloads, looking: Looking) -> Result<Self, Failure> {
        Ok(Self {
            address,
            payloads,
            looking,
            latencies: tally::histogram()?,
            last: tally::histogram()?,
            wrong: 0,
            unseen: 0,
            errors: 0,
            error: None,
        })
    }

    /// Asks for all outstanding records repeatedly. A record counts as seen when the answer has arrived, so
    /// the figures are never too good.
    async fn follow(mut self, channel: Channel, mut acknowledged: mpsc::Receiver<Acknowledged>) -> Self {
        let Looking { poll, patience, .. } = self.looking;
        let per_batch = self.payloads.per_batch(limits::BATCH_ITEMS_MAX, limits::BATCH_GET_ANSWER_BYTES);
        let mut outstanding = VecDeque::new();
        let mut give_up = None;
        loop {
            loop {
                match acknowledged.try_recv() {
                    Ok(record) => outstanding.push_back(record),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => {
                        give_up.get_or_insert_with(|| Instant::now() + patience);
                        break;
                    }
                }
            }
            if outstanding.is_empty() {
                match acknowledged.recv().await {
                    Some(record) => outstanding.push_back(record),
                    None => break,
                }
            }
            if give_up.is_some_and(|give_up| Instant::now() > give_up) {
                break;
            }
            let next_poll = Instant::now() + poll;
            self.ask(&channel, &mut outstanding, per_batch).await;
            tokio::time::sleep_until(next_poll.into()).await;
        }
        self.unseen = outstanding.len() as u64;
        self
    }

    /// Asks once for all outstanding records, in batches, and settles the answers.
    async fn ask(&mut self, channel: &Channel, outstanding: &mut VecDeque<Acknowledged>, per_batch: usize) {
        let mut left = outstanding.len();
        while left > 0 {
            let batch: Vec<_> = outstanding.drain(..left.min(per_batch)).collect();
            left -= batch.len();
            let get =
                |record: &Acknowledged| proto::GetRequest { key_hash: record.key_hash.clone(), local: true };
            let request = proto::BatchGetRequest { items: batch.iter().map(get).collect() };
            let answer =
                timeout(self.looking.call_timeout, calls::key_values(channel.clone()).batch_get(request))
                    .await;
            let answer = answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")));
            let now = Instant::now();
            let items = match answer {
                Ok(answer) => answer.into_inner().items,
                Err(status) => {
                    self.note(&status);
                    outstanding.extend(batch);
                    tokio::time::sleep(BROKEN_CONNECTION_PAUSE).await;
                    return;
                }
            };
            let mut outcomes = items.into_iter().map(|item| item.outcome);
            for record in batch {
                if !self.settle(&record, outcomes.next().flatten(), now) {
                    outstanding.push_back(record);
                }
            }
        }
    }

    /// Returns whether the record is settled.
    fn settle(&mut self, record: &Acknowledged, outcome: Option<GetOutcome>, now: Instant) -> bool {
        match (outcome, self.looking.awaited) {
            (Some(GetOutcome::Ok(answer)), awaited) => {
                let right = self.payloads.are_in(&record.key_hash, &answer);
                match (right, awaited) {
                    (false, _) => self.wrong += 1,
                    (true, Awaited::Held) => self.seen(record, now),
                    // Not refused yet.
                    (true, Awaited::Refused) => return false,
                }
                return true;
            }
            (Some(GetOutcome::Error(error)), awaited) => match (Code::from_i32(error.code), awaited) {
                (Code::FailedPrecondition, Awaited::Refused) => {
                    self.seen(record, now);
                    return true;
                }
                // Not there yet, or the answer was full.
                (Code::NotFound, Awaited::Held) | (Code::ResourceExhausted, _) => {}
                (code, _) => self.note(&Status::new(code, error.message)),
            },
            (None, _) => self.note(&Status::internal("an item has no outcome")),
        }
        false
    }

    fn seen(&mut self, record: &Acknowledged, now: Instant) {
        let latency = now.saturating_duration_since(record.at);
        tally::record(&mut self.latencies, latency);
        if record.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            tally::record(&mut self.last, latency);
        }
    }

    fn note(&mut self, status: &Status) {
        self.errors += 1;
        self.error = Some(reason_of(status));
    }
}

/// From a record's acknowledgement until a reader showed it.
#[derive(Debug, Serialize)]
pub(super) struct ReaderFigures {
    address: String,
    records: u64,
    p50_ms: f64,
    p90_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
    max_ms: f64,
    unseen: u64,
    errors: u64,
}

impl ReaderFigures {
    pub(super) fn new(reader: &Reader) -> Self {
        let at = |quantile| report::milliseconds(&reader.latencies, quantile);
        Self {
            address: reader.address.clone(),
            records: reader.latencies.len(),
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: at(1.0),
            unseen: reader.unseen,
            errors: reader.errors + reader.wrong,
        }
    }
}

/// A row for every reader, with a heading.
pub(super) fn table(readers: &[ReaderFigures]) -> Vec<Vec<String>> {
    let rows = readers.iter().map(|reader| {
        let mut row = vec![reader.address.clone(), reader.records.to_string()];
        let quantiles = [reader.p50_ms, reader.p90_ms, reader.p99_ms, reader.p999_ms, reader.max_ms];
        row.extend(quantiles.map(|number| format!("{number:.3}")));
        row.extend([reader.unseen, reader.errors].map(|count| count.to_string()));
        row
    });
    let heading =
        ["READER", "RECORDS", "P50 MS", "P90 MS", "P99 MS", "P999 MS", "MAX MS", "UNSEEN", "ERRORS"];
    output::headed(&heading, rows)
}
