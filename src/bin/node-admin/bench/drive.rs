//! Threads and clients: connect all, start together, stop together.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    batch,
    pace::Pace,
    session, single,
    tally::{SharedTally, Tally},
    work::{Payloads, Work},
};
use crate::{cli::Load, failure::Failure};
use brock_client::Client;
use brock_net::address::Address;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::{sync::Barrier, task::JoinSet, time::timeout_at};
use tonic::transport::Channel;

/// How long a client pauses after its connection broke; otherwise it would only count refusals.
pub(super) const BROKEN_CONNECTION_PAUSE: Duration = Duration::from_millis(100);
/// Connections that one thread opens at a time.
const DIALS_IN_FLIGHT: usize = 16;

/// How operations are sent.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    Single,
    Batch { items: usize },
    Session { depth: usize },
}

/// What to measure.
pub(super) struct Plan {
    pub(super) load: Load,
    pub(super) shape: Shape,
    /// The share of calls that read.
    pub(super) reads: f64,
    pub(super) payloads: Payloads,
    /// Keys of the records to read, end to end.
    pub(super) known: Bytes,
}

impl Plan {
    fn threads(&self) -> usize {
        let processors = || thread::available_parallelism().map_or(1, usize::from);
        let threads = self.load.threads.map_or_else(processors, |threads| threads as usize);
        threads.clamp(1, self.load.clients as usize)
    }

    /// The timing of one client of all.
    fn pace(&self, client: usize, start: Instant) -> Pace {
        let end = start + self.load.duration;
        let Some(rate) = self.load.rate else { return Pace::closed(end) };
        let operations_per_call = match self.shape {
            Shape::Batch { items } => items,
            Shape::Single | Shape::Session { .. } => 1,
        };
        // The clients take turns, so that together they are evenly spaced.
        let between_calls = Duration::from_secs_f64(operations_per_call as f64 / rate);
        let first = start + between_calls.mul_f64(client as f64);
        Pace::open(first, between_calls.mul_f64(f64::from(self.load.clients)), end)
    }
}

/// Measures one node.
pub(super) fn measure(client: &Client, address: &Address, plan: &Plan) -> Result<Tally, Failure> {
    let threads = plan.threads();
    let gate = Gate { everyone: Barrier::new(threads), failed: AtomicBool::new(false) };
    let outcomes: Vec<Result<Tally, Failure>> = thread::scope(|scope| {
        let gate = &gate;
        let running: Vec<_> = (0..threads)
            .map(|index| scope.spawn(move || run_thread(client, address, plan, index, threads, gate)))
            .collect();
        let panicked = |_| Err(Failure::Error("a thread of the bench panicked".to_owned()));
        running.into_iter().map(|thread| thread.join().unwrap_or_else(panicked)).collect()
    });
    let mut total = Tally::new(Instant::now())?;
    for outcome in outcomes {
        total.add(&outcome?)?;
    }
    Ok(total)
}

/// Where the threads wait for each other before the start.
struct Gate {
    everyone: Barrier,
    failed: AtomicBool,
}

fn run_thread(
    client: &Client,
    address: &Address,
    plan: &Plan,
    index: usize,
    threads: usize,
    gate: &Gate,
) -> Result<Tally, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Error(format!("could not start a thread: {error}")))?;
    runtime.block_on(async {
        let clients: Vec<usize> = (index..plan.load.clients as usize).step_by(threads).collect();
        let connected = connect(client, address, clients.len()).await;
        gate.failed.fetch_or(connected.is_err(), Ordering::SeqCst);
        gate.everyone.wait().await;
        let channels = connected?;
        if gate.failed.load(Ordering::SeqCst) {
            // Another thread reports the reason.
            return Tally::new(Instant::now());
        }
        run_clients(plan, clients.into_iter().zip(channels), client.timeout()).await
    })
}

async fn connect(client: &Client, address: &Address, count: usize) -> Result<Vec<Channel>, Failure> {
    stream::iter(0..count)
        .map(|_| client.connect(address))
        .buffer_unordered(DIALS_IN_FLIGHT)
        .try_collect()
        .await
        .map_err(Failure::from)
}

/// Runs the clients of one thread to the end.
pub(super) async fn run_clients(
    plan: &Plan,
    clients: impl Iterator<Item = (usize, Channel)>,
    timeout: Duration,
) -> Result<Tally, Failure> {
    let start = Instant::now();
    let end = start + plan.load.duration;
    let tally = Arc::new(SharedTally::new(Tally::new(end)?));
    let (payloads, known) = (plan.payloads.copy(), Bytes::copy_from_slice(&plan.known));
    let mut running = JoinSet::new();
    for (client, channel) in clients {
        let work = Work::new(payloads.share(), known.clone(), plan.reads);
        let (pace, tally) = (plan.pace(client, start), tally.clone());
        running.spawn(run_client(plan.shape, channel, work, pace, tally, end + timeout));
    }
    while let Some(ended) = running.join_next().await {
        ended.map_err(|_| Failure::Error("a client of the bench panicked".to_owned()))?;
    }
    match Arc::try_unwrap(tally) {
        Ok(tally) => Ok(tally.into_inner()),
        Err(_) => Err(Failure::Error("a client of the bench is still running".to_owned())),
    }
}

async fn run_client(
    shape: Shape,
    channel: Channel,
    mut work: Work,
    mut pace: Pace,
    tally: Arc<SharedTally>,
    give_up: Instant,
) {
    let run = async {
        match shape {
            Shape::Single => single::run(channel, &mut work, &mut pace, &tally).await,
            Shape::Batch { items } => batch::run(channel, items, &mut work, &mut pace, &tally).await,
            Shape::Session { depth } => session::run(channel, depth, &mut work, &mut pace, &tally).await,
        }
    };
    // Requests that are still pending then count as never answered.
    let _ = timeout_at(give_up.into(), run).await;
    let per_call = match shape {
        Shape::Batch { items } => items as u64,
        Shape::Single | Shape::Session { .. } => 1,
    };
    tally.with(|tally| tally.unsent += pace.unsent() * per_call);
}
