//! One Session stream per client, with a fixed number of requests in flight.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
    time::Instant,
};

use super::{
    drive::BROKEN_CONNECTION_PAUSE,
    pace::{Pace, Turn},
    tally::{Outcome, SharedTally},
    work::{Expected, Work},
};
use brock_client::calls;
use brock_core::proto::{self, session_request::Request, session_response::Response};
use futures::Stream;
use tokio::time::{sleep_until, timeout_at};
use tonic::{Code, Status, Streaming, transport::Channel};

pub(super) async fn run(
    channel: Channel,
    depth: usize,
    work: &mut Work,
    pace: &mut Pace,
    tally: &SharedTally,
) {
    let mut client = calls::key_values(channel);
    while !pace.is_over() {
        let outbox = Outbox::default();
        let ended = match client.session(outbox.requests()).await {
            Ok(answers) => Flights::new(depth, outbox, work, tally).fly(answers.into_inner(), pace).await,
            Err(status) => Err(status),
        };
        if let Err(status) = ended {
            // The requests in flight are settled already; this counts the stream itself.
            tally.with(|tally| {
                tally.pending += 1;
                tally.fail(&status, 1);
            });
            tokio::time::sleep(BROKEN_CONNECTION_PAUSE).await;
        }
    }
}

/// One request that waits for its answer.
#[derive(Clone, Copy)]
struct Flight {
    id: u64,
    start: Instant,
    expected: Expected,
}

/// The requests in flight on one stream.
struct Flights<'a> {
    outbox: Outbox,
    work: &'a mut Work,
    tally: &'a SharedTally,
    slots: Vec<Option<Flight>>,
    free: Vec<usize>,
    /// Requests sent so far on this stream.
    sent: u64,
}

impl<'a> Flights<'a> {
    fn new(depth: usize, outbox: Outbox, work: &'a mut Work, tally: &'a SharedTally) -> Self {
        Self { outbox, work, tally, slots: vec![None; depth], free: (0..depth).collect(), sent: 0 }
    }

    /// Keeps requests in flight until the time is up and the last answer has arrived.
    async fn fly(
        mut self,
        mut answers: Streaming<proto::SessionResponse>,
        pace: &mut Pace,
    ) -> Result<(), Status> {
        loop {
            let turn = self.launch(pace);
            let idle = self.free.len() == self.slots.len();
            let answer = match turn {
                Some(Turn::Over) if idle => {
                    self.outbox.close();
                    return Ok(());
                }
                Some(Turn::Wait(until)) if idle => {
                    sleep_until(until.into()).await;
                    continue;
                }
                Some(Turn::Wait(until)) => match timeout_at(until.into(), answers.message()).await {
                    Ok(answer) => answer,
                    Err(_) => continue,
                },
                _ => answers.message().await,
            };
            match answer {
                Ok(Some(answer)) => self.land(&answer),
                Ok(None) => return Err(self.lose(Status::unavailable("the node ended the session"))),
                Err(status) => return Err(self.lose(status)),
            }
        }
    }

    /// Sends what is due. Returns what stopped it if there was room for more.
    fn launch(&mut self, pace: &mut Pace) -> Option<Turn> {
        while let Some(slot) = self.free.last().copied() {
            match pace.turn(Instant::now()) {
                Turn::Go(start) => {
                    self.free.pop();
                    let (expected, request) = self.next_request();
                    // The slot is part of the id, so that an answer finds its request at once.
                    let id = self.sent * self.slots.len() as u64 + slot as u64;
                    self.sent += 1;
                    self.slots[slot] = Some(Flight { id, start, expected });
                    self.tally.with(|tally| tally.pending += 1);
                    self.outbox.push(proto::SessionRequest { id, request: Some(request) });
                }
                stop => return Some(stop),
            }
        }
        None
    }

    fn next_request(&mut self) -> (Expected, Request) {
        if self.work.next_reads() {
            let (index, request) = self.work.get();
            (Expected::Known(index), Request::Get(request))
        } else {
            (Expected::Written, Request::Put(self.work.put()))
        }
    }

    /// Settles the request that this answer belongs to.
    fn land(&mut self, answer: &proto::SessionResponse) {
        let now = Instant::now();
        let slot = usize::try_from(answer.id % self.slots.len() as u64).unwrap_or_default();
        let Some(flight) = self.slots[slot].filter(|flight| flight.id == answer.id) else {
            // No request has this id. The request that it may be meant for stays unanswered.
            self.tally.with(|tally| tally.wrong += 1);
            return;
        };
        self.slots[slot] = None;
        self.free.push(slot);
        let outcome = match (flight.expected, &answer.response) {
            (_, Some(Response::Error(error))) => Outcome::Failed(Code::from_i32(error.code)),
            (Expected::Written, Some(Response::Put(response))) => {
                Outcome::of_answer(response.stamp.is_some())
            }
            (Expected::Known(index), Some(Response::Get(response))) => {
                Outcome::of_answer(self.work.is_known(index, response))
            }
            _ => Outcome::Wrong,
        };
        self.tally.with(|tally| {
            tally.answered(flight.start, now);
            tally.settle(outcome, now);
        });
    }

    /// The stream broke: so did everything in flight.
    fn lose(&mut self, status: Status) -> Status {
        let lost = self.slots.len() - self.free.len();
        self.tally.with(|tally| tally.fail(&status, lost as u64));
        status
    }
}

/// Requests on their way into the stream. A queue and a waker cost less per message than a
/// channel with its semaphore, and the depth bounds it.
#[derive(Clone, Default)]
struct Outbox(Arc<Mutex<OutboxState>>);

#[derive(Default)]
struct OutboxState {
    queue: VecDeque<proto::SessionRequest>,
    reader: Option<Waker>,
    closed: bool,
}

impl Outbox {
    fn change(&self, change: impl FnOnce(&mut OutboxState)) {
        let reader = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            change(&mut state);
            state.reader.take()
        };
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    fn push(&self, request: proto::SessionRequest) {
        self.change(|state| state.queue.push_back(request));
    }

    fn close(&self) {
        self.change(|state| state.closed = true);
    }

    fn requests(&self) -> Requests {
        Requests(self.clone())
    }
}

/// The reading end of an [`Outbox`].
struct Requests(Outbox);

impl Stream for Requests {
    type Item = proto::SessionRequest;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.queue.pop_front() {
            Some(request) => Poll::Ready(Some(request)),
            None if state.closed => Poll::Ready(None),
            None => {
                state.reader = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
