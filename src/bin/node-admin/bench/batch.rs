//! BatchPut and BatchGet: many operations per call, one call at a time per client.

use std::{error::Error, time::Instant};

use super::{
    drive::BROKEN_CONNECTION_PAUSE,
    pace::Pace,
    tally::{Outcome, SharedTally},
    work::Work,
};
use brock_client::calls;
use brock_core::{
    base::limits,
    proto::{
        self, batch_get_response::item::Outcome as GetOutcome,
        batch_put_response::item::Outcome as PutOutcome, key_value_service_client::KeyValueServiceClient,
    },
};
use tonic::{Code, Status, transport::Channel};

pub(super) async fn run(
    channel: Channel,
    items: usize,
    work: &mut Work,
    pace: &mut Pace,
    tally: &SharedTally,
) {
    let mut client = calls::key_values(channel);
    let mut outcomes = Vec::with_capacity(limits::BATCH_ITEMS_MAX);
    while let Some(start) = pace.next().await {
        tally.with(|tally| tally.pending += items as u64);
        outcomes.clear();
        let answer = if work.next_reads() {
            get(&mut client, items, work, &mut outcomes).await
        } else {
            put(&mut client, items, work, &mut outcomes).await
        };
        let now = Instant::now();
        match answer {
            Ok(()) => tally.with(|tally| {
                tally.answered(start, now);
                // With fewer or more outcomes than items, none of them can be matched.
                let alike = outcomes.len() == items;
                for index in 0..items {
                    let outcome = outcomes.get(index).copied().filter(|_| alike);
                    tally.settle(outcome.unwrap_or(Outcome::Wrong), now);
                }
            }),
            Err(status) => {
                tally.with(|tally| tally.fail(&status, items as u64));
                if status.source().is_some() {
                    tokio::time::sleep(BROKEN_CONNECTION_PAUSE).await;
                }
            }
        }
    }
}

async fn put(
    client: &mut KeyValueServiceClient<Channel>,
    items: usize,
    work: &mut Work,
    outcomes: &mut Vec<Outcome>,
) -> Result<(), Status> {
    let items = (0..items).map(|_| work.put()).collect();
    let answer = client.batch_put(proto::BatchPutRequest { items }).await?.into_inner();
    outcomes.extend(answer.items.iter().map(|item| match &item.outcome {
        Some(PutOutcome::Ok(response)) => Outcome::of_answer(response.stamp.is_some()),
        Some(PutOutcome::Error(error)) => Outcome::Failed(Code::from_i32(error.code)),
        None => Outcome::Wrong,
    }));
    Ok(())
}

async fn get(
    client: &mut KeyValueServiceClient<Channel>,
    items: usize,
    work: &mut Work,
    outcomes: &mut Vec<Outcome>,
) -> Result<(), Status> {
    let (indexes, items): (Vec<_>, Vec<_>) = (0..items).map(|_| work.get()).unzip();
    let answer = client.batch_get(proto::BatchGetRequest { items }).await?.into_inner();
    outcomes.extend(answer.items.iter().enumerate().map(|(place, item)| match &item.outcome {
        Some(GetOutcome::Ok(response)) => {
            Outcome::of_answer(indexes.get(place).is_some_and(|index| work.is_known(*index, response)))
        }
        Some(GetOutcome::Error(error)) => Outcome::Failed(Code::from_i32(error.code)),
        None => Outcome::Wrong,
    }));
    Ok(())
}
