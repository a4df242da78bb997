//! `bench revoke`: how long after its acknowledgement every other node refuses a revoked record.

use std::time::{Duration, Instant};

use super::{
    drive::BROKEN_CONNECTION_PAUSE,
    first_node,
    pace::Pace,
    report, seed,
    tally::{self, Outcome, Tally},
    watch::{self, Awaited, Looking, Reader, ReaderFigures},
    work::{Payloads, keys_in, random_keys},
};
use crate::{
    cli::{Format, Revoke},
    failure::Failure,
    order,
    output::{self, section},
    progress::Progress,
};
use brock_client::{Client, calls};
use brock_core::{base::id::KeyHash, domain::order::Subject, proto};
use bytes::Bytes;
use hdrhistogram::Histogram;
use rand::{SeedableRng, rngs::SmallRng};
use serde::Serialize;
use tokio::time::timeout;
use tonic::{Status, transport::Channel};

/// Puts records, waits until all readers hold them, then revokes one after the other.
pub(super) async fn run(client: &Client, options: &Revoke, format: Format) -> Result<(), Failure> {
    let readers = watch::reader_addresses(&options.readers)?;
    let writer = first_node(client).await?;
    let reading = watch::connect(client, &readers).await?;
    let channel = client.connect(&writer).await?;
    let payloads = Payloads::random(options.size);
    let keys = random_keys(options.count as usize, &mut SmallRng::from_os_rng());
    output::message(&format!("putting {} records to revoke", options.count));
    let progress = Progress::counted("putting records", u64::from(options.count));
    seed::put_all(channel.clone(), &keys, &payloads, client.timeout(), &progress).await?;
    drop(progress);
    until_held(options, &payloads, &keys, reading.clone(), client.timeout()).await?;
    let revoke = async |key_hash| invalidate(client, channel.clone(), key_hash).await;
    let duration = Duration::from_secs_f64(f64::from(options.count) / options.rate);
    let progress = Progress::timed("revoking and watching", duration);
    let (revoked, seen) = measure(options, &payloads, &keys, revoke, reading, client.timeout()).await?;
    drop(progress);
    let figures = Figures::new(&revoked, &seen)?;
    output::data(format, &figures, Figures::text)?;
    report::explain(&revoked);
    watch::explain(&seen);
    report::verdict(&revoked)?;
    match seen.iter().find(|reader| reader.unseen > 0 || reader.wrong > 0) {
        Some(reader) => Err(Failure::Error(format!(
            "{} did not come to refuse {} revoked records, and {} came with another payload",
            reader.address, reader.unseen, reader.wrong
        ))),
        None => Ok(()),
    }
}

async fn invalidate(client: &Client, channel: Channel, key_hash: Bytes) -> Result<(), Status> {
    let reason = "bench revoke".to_owned();
    let order = match KeyHash::try_from(key_hash.as_ref()) {
        Ok(key) => order::signed(client, Subject::Invalidate(&key, &reason)),
        Err(_) => Ok(None),
    };
    let order = order.map_err(|failure| Status::internal(failure.to_string()))?;
    let request = proto::InvalidateRequest { key_hash, reason, order, ..Default::default() };
    let answer = timeout(client.timeout(), calls::admin(channel).invalidate(request)).await;
    answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer within the time-out"))).map(drop)
}

/// Waits until every reader holds every record: a reader cannot refuse a record that it lacks.
pub(super) async fn until_held(
    options: &Revoke,
    payloads: &Payloads,
    keys: &Bytes,
    reading: Vec<(String, Channel)>,
    call_timeout: Duration,
) -> Result<(), Failure> {
    let (poll, patience) = (options.poll, options.patience);
    let looking = Looking { awaited: Awaited::Held, poll, patience, call_timeout };
    let (feeds, watching) = watch::start(payloads, looking, reading)?;
    let now = Instant::now();
    for key_hash in keys_in(keys) {
        feeds.send(&key_hash, now).await;
    }
    drop(feeds);
    let seen = watching.finish().await?;
    watch::explain(&seen);
    match seen.iter().find(|reader| reader.unseen > 0 || reader.wrong > 0) {
        Some(reader) => Err(Failure::Error(format!(
            "nothing was revoked: {} did not come to hold {} records, and {} came with another payload",
            reader.address, reader.unseen, reader.wrong
        ))),
        None => Ok(()),
    }
}

/// Revokes one record after the other at a fixed rate and watches the readers.
pub(super) async fn measure(
    options: &Revoke,
    payloads: &Payloads,
    keys: &Bytes,
    revoke: impl AsyncFn(Bytes) -> Result<(), Status>,
    reading: Vec<(String, Channel)>,
    call_timeout: Duration,
) -> Result<(Tally, Vec<Reader>), Failure> {
    let (poll, patience) = (options.poll, options.patience);
    let looking = Looking { awaited: Awaited::Refused, poll, patience, call_timeout };
    let (feeds, watching) = watch::start(payloads, looking, reading)?;
    let start = Instant::now();
    let interval = Duration::from_secs_f64(1.0 / options.rate);
    // Long enough for all of them at that rate, even if the node is slow at times.
    let end = start + interval.mul_f64(f64::from(options.count)) + patience;
    let mut pace = Pace::open(start, interval, end);
    let mut tally = Tally::new(end)?;
    for key_hash in keys_in(keys) {
        let Some(due) = pace.next().await else {
            tally.unsent += 1;
            continue;
        };
        tally.pending += 1;
        let answer = revoke(key_hash.clone()).await;
        let at = Instant::now();
        match answer {
            Ok(()) => {
                tally.answered(due, at);
                tally.settle(Outcome::Right, at);
                feeds.send(&key_hash, at).await;
            }
            Err(status) => {
                tally.fail(&status, 1);
                tokio::time::sleep(BROKEN_CONNECTION_PAUSE).await;
            }
        }
    }
    // The readers end when no more feeds exist.
    drop(feeds);
    Ok((tally, watching.finish().await?))
}

/// What `bench revoke` prints.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    revoked: u64,
    revoke_p50_ms: f64,
    revoke_p99_ms: f64,
    errors: u64,
    readers: Vec<ReaderFigures>,
    /// The latencies of all readers together.
    together: Quantiles,
    /// From each acknowledgement until the last reader refused the record.
    everywhere: Quantiles,
}

#[derive(Debug, Serialize)]
struct Quantiles {
    records: u64,
    p50_ms: f64,
    p90_ms: f64,
    p99_ms: f64,
    max_ms: f64,
}

impl Figures {
    pub(super) fn new(revoked: &Tally, seen: &[Reader]) -> Result<Self, Failure> {
        let (mut together, mut everywhere) = (tally::histogram()?, tally::histogram()?);
        for reader in seen {
            let added = together.add(&reader.latencies).and_then(|()| everywhere.add(&reader.last));
            added.map_err(|error| Failure::Error(format!("could not add histograms: {error}")))?;
        }
        Ok(Self {
            revoked: revoked.operations,
            revoke_p50_ms: report::milliseconds(&revoked.latencies, 0.5),
            revoke_p99_ms: report::milliseconds(&revoked.latencies, 0.99),
            errors: revoked.errors() + revoked.unsent,
            readers: seen.iter().map(ReaderFigures::new).collect(),
            together: Quantiles::of(&together),
            everywhere: Quantiles::of(&everywhere),
        })
    }

    pub(super) fn text(&self) -> String {
        let mut text = output::fields(&[
            ("revoked", self.revoked.to_string()),
            ("revoke_p50_ms", format!("{:.3}", self.revoke_p50_ms)),
            ("revoke_p99_ms", format!("{:.3}", self.revoke_p99_ms)),
            ("errors", self.errors.to_string()),
        ]);
        section(&mut text, "refused after", &watch::table(&self.readers));
        let rows = [("all readers together", &self.together), ("by the last reader", &self.everywhere)];
        let rows = rows.into_iter().map(|(name, quantiles)| quantiles.row(name));
        let heading = ["REFUSED", "RECORDS", "P50 MS", "P90 MS", "P99 MS", "MAX MS"];
        section(&mut text, "over all readers", &output::headed(&heading, rows));
        text
    }
}

impl Quantiles {
    fn of(latencies: &Histogram<u64>) -> Self {
        let at = |quantile| report::milliseconds(latencies, quantile);
        Self { records: latencies.len(), p50_ms: at(0.5), p90_ms: at(0.9), p99_ms: at(0.99), max_ms: at(1.0) }
    }

    fn row(&self, name: &str) -> Vec<String> {
        let mut row = vec![name.to_owned(), self.records.to_string()];
        let quantiles = [self.p50_ms, self.p90_ms, self.p99_ms, self.max_ms];
        row.extend(quantiles.map(|number| format!("{number:.3}")));
        row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_this_json() {
        let quantiles = |records| Quantiles { records, p50_ms: 1.0, p90_ms: 2.0, p99_ms: 3.0, max_ms: 4.5 };
        let figures = Figures {
            revoked: 200,
            revoke_p50_ms: 0.5,
            revoke_p99_ms: 0.75,
            errors: 0,
            readers: Vec::new(),
            together: quantiles(400),
            everywhere: quantiles(200),
        };
        let expected = r#"{
  "revoked": 200,
  "revoke_p50_ms": 0.5,
  "revoke_p99_ms": 0.75,
  "errors": 0,
  "readers": [],
  "together": {
    "records": 400,
    "p50_ms": 1.0,
    "p90_ms": 2.0,
    "p99_ms": 3.0,
    "max_ms": 4.5
  },
  "everywhere": {
    "records": 200,
    "p50_ms": 1.0,
    "p90_ms": 2.0,
    "p99_ms": 3.0,
    "max_ms": 4.5
  }
}
"#;
        assert_eq!(output::json(&figures).unwrap(), expected);
        let text = figures.text();
        assert!(text.ends_with("  by the last reader    200      1.000   2.000   3.000   4.500\n"), "{text}");
    }
}
