//! `bench visible`: how long after its acknowledgement the other nodes hold a record.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde::Serialize;
use tokio::{task::JoinSet, time::timeout};
use tonic::{Status, transport::Channel};

use super::{
    drive::BROKEN_CONNECTION_PAUSE,
    first_node,
    pace::Pace,
    report,
    tally::{Outcome, SharedTally, Tally},
    watch::{self, Awaited, Feeds, Looking, Reader, ReaderFigures},
    work::{Payloads, Work},
};
use crate::{
    cli::{Format, Visible},
    failure::Failure,
    output::{self, section},
    progress::Progress,
};
use brock_client::{Client, calls};

/// Writes at a fixed rate and watches the readers.
pub(super) async fn run(client: &Client, options: &Visible, format: Format) -> Result<(), Failure> {
    let readers = watch::reader_addresses(&options.readers)?;
    let writer = first_node(client).await?;
    let reading = watch::connect(client, &readers).await?;
    let mut writing = Vec::new();
    for _ in 0..options.clients {
        writing.push(client.connect(&writer).await?);
    }
    let progress = Progress::timed("writing and watching", options.duration);
    let (written, seen) = measure(options, writing, reading, client.timeout()).await?;
    drop(progress);
    let figures = Figures::new(&written, &seen, options.duration);
    output::data(format, &figures, Figures::text)?;
    report::explain(&written);
    watch::explain(&seen);
    report::verdict(&written)?;
    match seen.iter().find(|reader| reader.unseen > 0 || reader.wrong > 0) {
        Some(reader) => Err(Failure::Error(format!(
            "{} did not come to hold {} records, and {} came with another payload",
            reader.address, reader.unseen, reader.wrong
        ))),
        None => Ok(()),
    }
}

/// Runs writers and readers until everything was seen or the time is up.
pub(super) async fn measure(
    options: &Visible,
    writing: Vec<Channel>,
    reading: Vec<(String, Channel)>,
    call_timeout: Duration,
) -> Result<(Tally, Vec<Reader>), Failure> {
    let payloads = Payloads::random(options.size);
    let (poll, patience) = (options.poll, options.patience);
    let looking = Looking { awaited: Awaited::Held, poll, patience, call_timeout };
    let (feeds, watching) = watch::start(&payloads, looking, reading)?;
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
    // The readers end when no more feeds exist.
    drop(feeds);
    let panicked = |_| Failure::Error("a client of the bench panicked".to_owned());
    while let Some(ended) = writers.join_next().await {
        ended.map_err(panicked)?;
    }
    let seen = watching.finish().await?;
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
    feeds: Feeds,
    call_timeout: Duration,
) {
    let mut client = calls::key_values(channel);
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
        feeds.send(&key_hash, at).await;
    }
    tally.with(|tally| tally.unsent += pace.unsent());
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

impl Figures {
    fn new(written: &Tally, seen: &[Reader], duration: Duration) -> Self {
        Self {
            writes_per_second: report::rounded(written.operations as f64 / duration.as_secs_f64(), 10.0),
            write_p50_ms: report::milliseconds(&written.latencies, 0.5),
            write_p99_ms: report::milliseconds(&written.latencies, 0.99),
            errors: written.errors(),
            readers: seen.iter().map(ReaderFigures::new).collect(),
        }
    }

    fn text(&self) -> String {
        let mut text = output::fields(&[
            ("writes_per_second", format!("{:.1}", self.writes_per_second)),
            ("write_p50_ms", format!("{:.3}", self.write_p50_ms)),
            ("write_p99_ms", format!("{:.3}", self.write_p99_ms)),
            ("errors", self.errors.to_string()),
        ]);
        section(&mut text, "visible after", &watch::table(&self.readers));
        text
    }
}
