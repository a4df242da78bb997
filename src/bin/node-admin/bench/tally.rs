//! The outcomes of the operations.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use tonic::{Code, Status};

use crate::failure::Failure;

/// Latencies are kept in nanoseconds, from a microsecond to two minutes, to three digits.
const SHORTEST_NANOSECONDS: u64 = 1_000;
const LONGEST_NANOSECONDS: u64 = 120_000_000_000;

/// The outcome of one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Right,
    /// An answer to another request.
    Wrong,
    Failed(Code),
}

impl Outcome {
    pub(super) fn of_answer(right: bool) -> Self {
        if right { Self::Right } else { Self::Wrong }
    }
}

/// An empty set of latencies.
pub(super) fn histogram() -> Result<Histogram<u64>, Failure> {
    Histogram::new_with_bounds(SHORTEST_NANOSECONDS, LONGEST_NANOSECONDS, 3)
        .map_err(|error| Failure::Error(format!("could not make a histogram: {error}")))
}

/// Adds a latency.
pub(super) fn record(latencies: &mut Histogram<u64>, latency: Duration) {
    latencies.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
}

/// What one thread's clients saw.
pub(super) struct Tally {
    /// Answers after this moment count as latencies but not as throughput.
    end: Instant,
    pub(super) latencies: Histogram<u64>,
    /// Right answers before the end.
    pub(super) operations: u64,
    /// Failed operations by code.
    pub(super) failed: [u64; 17],
    /// Answers to other requests.
    pub(super) wrong: u64,
    /// Operations that were sent and not answered yet; at the end: never answered.
    pub(super) pending: u64,
    /// Operations that were due and never started, because the node did not keep up.
    pub(super) unsent: u64,
    /// The first failure, explained.
    pub(super) example: Option<String>,
}

impl Tally {
    pub(super) fn new(end: Instant) -> Result<Self, Failure> {
        Ok(Self {
            end,
            latencies: histogram()?,
            operations: 0,
            failed: [0; 17],
            wrong: 0,
            pending: 0,
            unsent: 0,
            example: None,
        })
    }

    pub(super) fn add(&mut self, other: &Self) -> Result<(), Failure> {
        self.latencies
            .add(&other.latencies)
            .map_err(|error| Failure::Error(format!("could not add histograms: {error}")))?;
        self.operations += other.operations;
        for (sum, count) in self.failed.iter_mut().zip(other.failed) {
            *sum += count;
        }
        self.wrong += other.wrong;
        self.pending += other.pending;
        self.unsent += other.unsent;
        if self.example.is_none() {
            self.example.clone_from(&other.example);
        }
        Ok(())
    }

    /// A call was answered: its latency, once, whatever it carried.
    pub(super) fn answered(&mut self, start: Instant, now: Instant) {
        record(&mut self.latencies, now.saturating_duration_since(start));
    }

    /// One operation is settled.
    pub(super) fn settle(&mut self, outcome: Outcome, now: Instant) {
        self.pending = self.pending.saturating_sub(1);
        match outcome {
            Outcome::Right if now <= self.end => self.operations += 1,
            Outcome::Right => {}
            Outcome::Wrong => self.wrong += 1,
            Outcome::Failed(code) => {
                if let Some(count) = self.failed.get_mut(code as usize) {
                    *count += 1;
                }
            }
        }
    }

    /// A call with this many operations failed as a whole.
    pub(super) fn fail(&mut self, status: &Status, operations: u64) {
        self.explain(status);
        for _ in 0..operations {
            self.settle(Outcome::Failed(status.code()), self.end);
        }
    }

    /// Keeps the explanation of the first failure.
    pub(super) fn explain(&mut self, status: &Status) {
        if self.example.is_none() {
            self.example = Some(brock_client::error::reason_of(status));
        }
    }

    /// All operations without a right answer.
    pub(super) fn errors(&self) -> u64 {
        self.failed.iter().sum::<u64>() + self.wrong + self.pending
    }
}

/// A tally that the clients of one thread share. The lock is never contended: they take turns on that thread.
pub(super) struct SharedTally(Mutex<Tally>);

impl SharedTally {
    pub(super) fn new(tally: Tally) -> Self {
        Self(Mutex::new(tally))
    }

    pub(super) fn into_inner(self) -> Tally {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn with<T>(&self, change: impl FnOnce(&mut Tally) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
