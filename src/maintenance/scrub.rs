//! Compares all records with their digests, slowly and without end. A record that the disk has lost or
//! changed then shows as a difference to the peers, and is repaired from them. After each pass but the first, bundles
//! go that no record names any more.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    runtime::alarms::{Alarms, Source},
    store::{Scrubbed, Store, StoreError},
};
use brock_core::base::{limits, metrics as names};
use brock_net::task::TaskStatus;

/// Scrubs until stopped: one pass soon after the start, then one a day.
pub async fn run(store: Store, alarms: Alarms, stop: CancellationToken, task: TaskStatus) {
    let mut is_first_pass = true;
    loop {
        for bucket in 0..=u8::MAX {
            task.set_state("comparing records with their digests");
            let began = Instant::now();
            task.set_outcome(&scrub(&store, &alarms, bucket).await);
            task.set_state("waiting");
            // A fifth of the time at most, so that it does not slow other work.
            let pause = began.elapsed().saturating_mul(4).max(Duration::from_millis(1));
            let pause = if is_first_pass { pause } else { pause.max(limits::SCRUB_INTERVAL) };
            if stop.run_until_cancelled(sleep(pause)).await.is_none() {
                return;
            }
        }
        // Not while everything else has begun too.
        if !std::mem::take(&mut is_first_pass) {
            task.set_state("looking for bundles that no record names");
            let Some(dropped) = stop.run_until_cancelled(store.drop_bundles()).await else { return };
            metrics::counter!(names::BUNDLES_DROPPED).increment(*dropped.as_ref().unwrap_or(&0));
            task.set_outcome(&dropped);
        }
    }
}

/// Scrubs all buckets now.
pub async fn all(store: &Store, alarms: &Alarms) -> Result<(), StoreError> {
    for bucket in 0..=u8::MAX {
        scrub(store, alarms, bucket).await?;
    }
    Ok(())
}

async fn scrub(store: &Store, alarms: &Alarms, bucket: u8) -> Result<(), StoreError> {
    let Scrubbed { is_changed, unproven } = store.scrub(bucket).await?;
    if is_changed {
        metrics::counter!(names::SCRUB_MENDED).increment(1);
        // Of one kind, whatever the bucket: a lost file touches all of them.
        let text = format!(
            "the records in bucket {bucket:02x} are not those that were written: check the disk. The node fetches the \
             lost ones from its peers by itself; `node-admin repair` does so now"
        );
        alarms.raise_of(Source::Here, "records changed on disk", text);
    }
    if unproven > 0 {
        metrics::counter!(names::SCRUB_UNPROVEN).increment(unproven as u64);
        let text = format!(
            "{unproven} records in bucket {bucket:02x} have lost what proves them to other nodes: check the disk. The \
             node fetches it from its peers by itself; `node-admin repair` does so now"
        );
        alarms.raise_of(Source::Here, "proofs lost", text);
    }
    Ok(())
}
