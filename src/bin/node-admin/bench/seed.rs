//! The records that a reading bench reads.

use std::time::Duration;

use super::work::{Payloads, keys_in, random_keys};
use crate::{failure::Failure, output, progress::Progress};
use brock_client::{Client, calls, error::reason_of};
use brock_core::{
    base::limits,
    proto::{self, batch_put_response::item::Outcome},
};
use brock_net::address::Address;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use rand::{SeedableRng, rngs::SmallRng};
use tokio::time::timeout;
use tonic::{Code, Status, transport::Channel};

/// Batches under way at once: enough to keep the writer busy.
const BATCHES_IN_FLIGHT: usize = 4;

/// Puts `count` records and returns their keys, end to end.
pub(super) async fn put_records(
    client: &Client,
    address: &Address,
    payloads: &Payloads,
    count: u32,
) -> Result<Bytes, Failure> {
    let keys = random_keys(count as usize, &mut SmallRng::from_os_rng());
    if count == 0 {
        return Ok(keys);
    }
    output::message(&format!("putting {count} records to read"));
    let channel = client.connect(address).await?;
    let progress = Progress::counted("putting records", u64::from(count));
    put_all(channel, &keys, payloads, client.timeout(), &progress).await?;
    Ok(keys)
}

pub(super) async fn put_all(
    channel: Channel,
    keys: &Bytes,
    payloads: &Payloads,
    time: Duration,
    progress: &Progress,
) -> Result<(), Failure> {
    let per_batch = payloads.per_batch(limits::BATCH_ITEMS_MAX / 2, limits::MESSAGE_MAX_BYTES / 4);
    let all: Vec<Bytes> = keys_in(keys).collect();
    stream::iter(all.chunks(per_batch).map(|chunk| chunk.to_vec()))
        .map(|chunk| {
            let items: Vec<_> = chunk.into_iter().map(|key| payloads.put(key)).collect();
            let (channel, count) = (channel.clone(), items.len() as u64);
            async move { put_batch(channel, items, time).await.inspect(|()| progress.add(count)) }
        })
        .buffer_unordered(BATCHES_IN_FLIGHT)
        .try_collect::<()>()
        .await
}

async fn put_batch(channel: Channel, items: Vec<proto::PutRequest>, time: Duration) -> Result<(), Failure> {
    let count = items.len();
    let mut client = calls::key_values(channel);
    let answer = match timeout(time, client.batch_put(proto::BatchPutRequest { items })).await {
        Ok(Ok(answer)) => answer.into_inner(),
        Ok(Err(status)) => return Err(failed(&status)),
        Err(_) => return Err(failed(&Status::deadline_exceeded("no answer within the time-out"))),
    };
    if answer.items.len() != count {
        return Err(failed(&Status::internal("the answer has another number of items than the request")));
    }
    for item in answer.items {
        match item.outcome {
            Some(Outcome::Ok(_)) => {}
            Some(Outcome::Error(error)) => {
                return Err(failed(&Status::new(Code::from_i32(error.code), error.message)));
            }
            None => return Err(failed(&Status::internal("an item has no outcome"))),
        }
    }
    Ok(())
}

fn failed(status: &Status) -> Failure {
    let text = format!("could not put the records: {}", reason_of(status));
    Failure::answered(&Status::new(status.code(), text))
}
