//! One call per operation, one at a time per client.

use std::{error::Error, time::Instant};

use tonic::{Status, transport::Channel};

use super::{
    drive::BROKEN_CONNECTION_PAUSE,
    pace::Pace,
    tally::{Outcome, SharedTally},
    work::Work,
};
use brock_client::calls;

pub(super) async fn run(channel: Channel, work: &mut Work, pace: &mut Pace, tally: &SharedTally) {
    let mut client = calls::key_values(channel);
    while let Some(start) = pace.next().await {
        tally.with(|tally| tally.pending += 1);
        let answer: Result<bool, Status> = if work.next_reads() {
            let (index, request) = work.get();
            client.get(request).await.map(|answer| work.is_known(index, answer.get_ref()))
        } else {
            client.put(work.put()).await.map(|answer| answer.get_ref().stamp.is_some())
        };
        let now = Instant::now();
        match answer {
            Ok(right) => tally.with(|tally| {
                tally.answered(start, now);
                tally.settle(Outcome::of_answer(right), now);
            }),
            Err(status) => {
                tally.with(|tally| tally.fail(&status, 1));
                if status.source().is_some() {
                    tokio::time::sleep(BROKEN_CONNECTION_PAUSE).await;
                }
            }
        }
    }
}
