//! Making a bucket's digest match its records again.

use super::Change;
use crate::store::{commit::Commit, error::StoreError, handle::Store, view::View};
use brock_core::domain::digest::{Bucket, SetDigest};

impl Store {
    /// Compares a bucket's digest with the bucket's records. Where something other than this store
    /// has changed them (bit rot, an operator), makes the digest true again, so that the peers see
    /// the difference. Returns whether that was so.
    pub async fn scrub(&self, bucket: u8) -> Result<bool, StoreError> {
        let difference = self
            .blocking(move |shared| {
                let snapshot = shared.database.snapshot();
                let (written, found) = (snapshot.bucket(bucket)?, digest_of(&snapshot, bucket)?);
                Ok((written != found).then(|| found.minus(written)))
            })
            .await?;
        let Some(difference) = difference else { return Ok(false) };
        // Later writes change both sides alike, so the difference still holds.
        self.change(RepairDigest { bucket, difference }).await?;
        Ok(true)
    }
}

/// The digest that the records of a bucket make.
fn digest_of(view: &View<'_>, bucket: u8) -> Result<Bucket, StoreError> {
    let mut digest = Bucket::default();
    let (below, last) = SetDigest::bounds(bucket);
    for record in view.records(below.as_ref(), Some(&last)) {
        let (key_hash, state, _) = record?;
        digest.replace(&key_hash, None, Some(&state));
    }
    Ok(digest)
}

struct RepairDigest {
    bucket: u8,
    difference: Bucket,
}

impl Change for RepairDigest {
    type Outcome = ();

    /// Contract: the digest changes and no record does; and the next backup is a full one, because
    /// the log does not show what changed the records.
    fn build(self, commit: &mut Commit<'_>) -> Result<(), StoreError> {
        commit.bucket_repairs.push((self.bucket, self.difference));
        commit.is_unlogged = true;
        Ok(())
    }
}
