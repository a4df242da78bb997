//! `bench visible`: how long after its acknowledgement the other nodes hold a record.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use brock::{
    ground::limits,
    proto::{self, batch_get_response::item::Outcome as GetOutcome},
};
use bytes::Bytes;
use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::{
    sync::mpsc::{self, error::TryRecvError},
    task::JoinSet,
    time::timeout,
};
use tonic::{Code, Status, transport::Channel};

use super::{
    drive::BROKEN_CONNECTION_PAUSE,
    first_node,
    pace::Pace,
    report,
    tally::{self, Outcome, SharedTally, Tally},
    work::{Payloads, Work},
};
use crate::{
    cli::{Format, Visible},
    client::{self, Access},
    failure::Failure,
    output,
};

/// Acknowledged records that may wait for a reader; further ones slow the writers down.
const WAITING_MAX: usize = 1_000_000;

/// A record that its writer was told is durable.
#[derive(Debug, Clone)]
pub(super) struct Acknowledged {
    key_hash: Bytes,
    at: Instant,
}

/// Writes at a fixed rate and watches the readers.
pub(super) async fn run(access: &Access, options: &Visible, format: Format) -> Result<(), Failure> {
    let readers = client::parse_addresses(&options.readers)?;
    if readers.is_empty() {
        return Err(Failure::Usage("--readers HOST:PORT[,…] is missing".to_owned()));
    }
    let writer = &access.addresses[first_node(access).await?];
    let mut reading = Vec::new();
    for address in &readers {
        reading.push((address.to_string(), access.connect(address).await?));
    }
    let mut writing = Vec::new();
    for _ in 0..options.clients {
        writing.push(access.connect(writer).await?);
    }
    let (written, seen) = measure(options, writing, reading, access.timeout).await?;
    let figures = Figures::new(&written, &seen, options.duration);
    output::data(format, &figures, Figures::text)?;
    report::explain(&written);
    for reader in &seen {
        if let Some(error) = &reader.error {
            output::message(&format!("{}: the last error: {error}", reader.address));
        }
    }
    report::verdict(&written)?;
    match seen.iter().find(|reader| reader.unseen > 0 || reader.wrong > 0) {
        Some(reader) => Err(Failure::Error(format!(
            "{} did not come to hold {} records, and {} came with another payload",
            reader.address, reader.unseen, reader.wrong
        ))),
        None => Ok(()),
    }
}

/// Runs writers and readers until everything was seen or patience ran out.
pub(super) async fn measure(
    options: &Visible,
    writing: Vec<Channel>,
    reading: Vec<(String, Channel)>,
    call_timeout: Duration,
) -> Result<(Tally, Vec<Reader>), Failure> {
    let payloads = Payloads::random(options.size);
    let mut readers = JoinSet::new();
    let mut feeds = Vec::new();
    for (address, channel) in reading {
        let (feed, acknowledged) = mpsc::channel(WAITING_MAX);
        feeds.push(feed);
        let reader = Reader::new(address, payloads.share(), call_timeout)?;
        readers.spawn(reader.follow(channel, acknowledged, options.poll, options.patience));
    }
    let start = Instant::now();
    let end = start + options.duration;
    let tally = Arc::new(SharedTally::new(Tally::new(end)?));
    let between = Duration::from_secs_f64(1.0 / options.rate);
    let interval = between.mul_f64(writing.len() as f64);
    let mut writers = JoinSet::new();
    for (index, channel) in writing.into_iter().enumerate() {
        let pace = Pace::open(start + between.mul_f64(index as f64), interval, end);
        let work = Work::new(payloads.share(), Bytes::new(), 0.0);
        writers.spawn(write(channel, work, pace, tally.clone(), feeds.clone(), call_timeout));
    }
    drop(feeds);
    let panicked = |_| Failure::Error("a client of the bench panicked".to_owned());
    while let Some(ended) = writers.join_next().await {
        ended.map_err(panicked)?;
    }
    let mut seen = Vec::new();
    while let Some(ended) = readers.join_next().await {
        seen.push(ended.map_err(panicked)?);
    }
    seen.sort_by(|a, b| a.address.cmp(&b.address));
    match Arc::try_unwrap(tally) {
        Ok(tally) => Ok((tally.into_inner(), seen)),
        Err(_) => Err(Failure::Error("a client of the bench is still running".to_owned())),
    }
}

async fn write(
    channel: Channel,
    mut work: Work,
    mut pace: Pace,
    tally: Arc<SharedTally>,
    feeds: Vec<mpsc::Sender<Acknowledged>>,
    call_timeout: Duration,
) {
    let mut client = client::key_values(channel);
    while let Some(start) = pace.next().await {
        tally.with(|tally| tally.pending += 1);
        let request = work.put();
        let key_hash = request.key_hash.clone();
        let answer = timeout(call_timeout, client.put(request)).await;
        let answer =
            answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer within the time-out")));
        let at = Instant::now();
        if let Err(status) = answer {
            tally.with(|tally| tally.fail(&status, 1));
            tokio::time::sleep(BROKEN_CONNECTION_PAUSE).await;
            continue;
        }
        tally.with(|tally| {
            tally.answered(start, at);
            tally.settle(Outcome::Right, at);
        });
        for feed in &feeds {
            // A reader that ended early has said why.
            let _ = feed.send(Acknowledged { key_hash: key_hash.clone(), at }).await;
        }
    }
    tally.with(|tally| tally.unsent += pace.unsent());
}

/// What one reading node came to hold.
pub(super) struct Reader {
    pub(super) address: String,
    payloads: Payloads,
    call_timeout: Duration,
    pub(super) latencies: Histogram<u64>,
    pub(super) wrong: u64,
    pub(super) unseen: u64,
    errors: u64,
    error: Option<String>,
}

impl Reader {
    fn new(address: String, payloads: Payloads, call_timeout: Duration) -> Result<Self, Failure> {
        let latencies = tally::histogram()?;
        Ok(Self { address, payloads, call_timeout, latencies, wrong: 0, unseen: 0, errors: 0, error: None })
    }

    /// Asks for everything that is outstanding, again and again. A moment counts as seen when the
    /// answer is here, so the figures are never too good.
    async fn follow(
        mut self,
        channel: Channel,
        mut acknowledged: mpsc::Receiver<Acknowledged>,
        poll: Duration,
        patience: Duration,
    ) -> Self {
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

    /// One question about every outstanding record, in batches; what is held is settled.
    async fn ask(&mut self, channel: &Channel, outstanding: &mut VecDeque<Acknowledged>, per_batch: usize) {
        let mut left = outstanding.len();
        while left > 0 {
            let batch: Vec<_> = outstanding.drain(..left.min(per_batch)).collect();
            left -= batch.len();
            let get =
                |record: &Acknowledged| proto::GetRequest { key_hash: record.key_hash.clone(), local: true };
            let request = proto::BatchGetRequest { items: batch.iter().map(get).collect() };
            let answer =
                timeout(self.call_timeout, client::key_values(channel.clone()).batch_get(request)).await;
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

    /// Whether the record is there.
    fn settle(&mut self, record: &Acknowledged, outcome: Option<GetOutcome>, now: Instant) -> bool {
        match outcome {
            Some(GetOutcome::Ok(answer)) => {
                if self.payloads.are_in(&record.key_hash, &answer) {
                    tally::record(&mut self.latencies, now - record.at);
                } else {
                    self.wrong += 1;
                }
                return true;
            }
            Some(GetOutcome::Error(error)) => match Code::from_i32(error.code) {
                // Not there yet, or the answer was full.
                Code::NotFound | Code::ResourceExhausted => {}
                code => self.note(&Status::new(code, error.message)),
            },
            None => self.note(&Status::internal("an item has no outcome")),
        }
        false
    }

    fn note(&mut self, status: &Status) {
        self.errors += 1;
        self.error = Some(client::reason_of(status));
    }
}

/// What `bench visible` prints.
#[derive(Debug, Serialize)]
struct Figures {
    writes_per_second: f64,
    write_p50_ms: f64,
    write_p99_ms: f64,
    errors: u64,
    readers: Vec<ReaderFigures>,
}

/// From a record's acknowledgement until the reader held it.
#[derive(Debug, Serialize)]
struct ReaderFigures {
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

impl Figures {
    fn new(written: &Tally, seen: &[Reader], duration: Duration) -> Self {
        let readers = seen.iter().map(|reader| {
            let at = |quantile| report::milliseconds(&reader.latencies, quantile);
            ReaderFigures {
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
        });
        Self {
            writes_per_second: report::rounded(written.operations as f64 / duration.as_secs_f64(), 10.0),
            write_p50_ms: report::milliseconds(&written.latencies, 0.5),
            write_p99_ms: report::milliseconds(&written.latencies, 0.99),
            errors: written.errors(),
            readers: readers.collect(),
        }
    }

    fn text(&self) -> String {
        let mut text = output::fields(&[
            ("writes_per_second", format!("{:.1}", self.writes_per_second)),
            ("write_p50_ms", format!("{:.3}", self.write_p50_ms)),
            ("write_p99_ms", format!("{:.3}", self.write_p99_ms)),
            ("errors", self.errors.to_string()),
        ]);
        let heading =
            ["READER", "RECORDS", "P50 MS", "P90 MS", "P99 MS", "P999 MS", "MAX MS", "UNSEEN", "ERRORS"];
        let mut rows = vec![heading.map(str::to_owned).to_vec()];
        for reader in &self.readers {
            let mut row = vec![reader.address.clone(), reader.records.to_string()];
            let quantiles = [reader.p50_ms, reader.p90_ms, reader.p99_ms, reader.p999_ms, reader.max_ms];
            row.extend(quantiles.map(|number| format!("{number:.3}")));
            row.extend([reader.unseen, reader.errors].map(|count| count.to_string()));
            rows.push(row);
        }
        text.push_str(&format!("\nvisible after:\n{}", output::table(&rows)));
        text
    }
}
