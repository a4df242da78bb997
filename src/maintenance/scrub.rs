//! Reading all records again and again, slowly, and comparing them with their digests: what the disk
//! has lost or changed behind the store's back then shows as a difference to the peers, and is
//! repaired from them.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::store::{Store, StoreError};
use brock_core::base::{limits, metrics as names};
use brock_net::task::TaskStatus;

/// Scrubs until stopped: once soon after the start, then bucket by bucket through the day.
pub async fn run(store: Store, stop: CancellationToken, task: TaskStatus) {
    let mut is_first_pass = true;
    loop {
        for bucket in 0..=u8::MAX {
            task.set_state("comparing records with their digests");
            let began = Instant::now();
            match scrub(&store, bucket).await {
                Ok(_) => task.set_error(""),
                Err(error) => task.set_error(&error.to_string()),
            }
            task.set_state("waiting");
            // A fifth of the time at most, so that it disturbs nobody.
            let pause = began.elapsed().saturating_mul(4).max(Duration::from_millis(1));
            let pause = if is_first_pass { pause } else { pause.max(limits::SCRUB_INTERVAL) };
            if stop.run_until_cancelled(sleep(pause)).await.is_none() {
                return;
            }
        }
        is_first_pass = false;
    }
}

/// Scrubs everything at once. Returns how many buckets were not as they had been written.
pub async fn all(store: &Store) -> Result<u64, StoreError> {
    let mut mended = 0;
    for bucket in 0..=u8::MAX {
        mended += u64::from(scrub(store, bucket).await?);
    }
    Ok(mended)
}

async fn scrub(store: &Store, bucket: u8) -> Result<bool, StoreError> {
    let mended = store.scrub(bucket).await?;
    if mended {
        metrics::counter!(names::SCRUB_MENDED).increment(1);
        store.alarm(format!(
            "the records in bucket {bucket:02x} are not those that were written: check the disk. What the peers have of \
             them comes back by itself; `node-admin repair` fetches it now"
        ));
    }
    Ok(mended)
}
